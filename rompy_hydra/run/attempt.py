"""One attempt of a run in the hands of its keeper: start, watch, judge, record.  Stdlib only.

Attempt.run:  spawn → claim the record → watch (limits, `abort_on`, memory) → end the tree → judge → write the record
"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.outputs import hash_outputs, list_outputs
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import RESERVE_NAME, claim_record, replace_record, utc
from rompy_hydra.run.processes import JOB_VARIABLE, Ending, MemoryWatch, Tree, human_bytes, out_of_memory_kills
from rompy_hydra.run.spawn import Child, Launch, StartError, find_executable, spawn, spawn_fast, spawn_fast_can
from rompy_hydra.run.success import LogScanner, last_line, quote, signal_name, unmet_rule

if TYPE_CHECKING:
    from rompy_hydra.run.keeper import Keeper

_LEFTOVER_PATIENCE_S = 0.25  # `tee` behind a process substitution ends a moment after its shell
_LEFTOVER_GRACE_S = 1.0
_HASH_AT_ONCE_BYTES = 8 * 1024 * 1024  # more than that, and the outcome is recorded before the hashing starts
_RECORD_PATIENCE_S = (1.0, 60.0)  # how long the last write is tried again: with a driver to tell, without
_SMALL_CHANGE_S = 0.02


class Verdict:
    """Why we end a job that has not ended by itself."""

    __slots__ = ("state", "reason", "grace_s")

    def __init__(self, state: RunState, reason: str, grace_s: float | None = None) -> None:
        self.state = state
        self.reason = reason
        self.grace_s = grace_s


class Refusal(Exception):  # noqa: N818 - an answer, not a fault: the driver makes an error of it
    """The job cannot be started; `kind` tells the driver which error that is."""

    def __init__(self, kind: str, message: str, number: int | None = None) -> None:
        self.kind = kind
        self.message = message
        self.number = number
        super().__init__(message)


class Attempt:
    """One job from its first to its last word."""

    def __init__(
        self,
        keeper: Keeper,
        message: dict[str, Any],
        *,
        target: Callable[[], object] | None = None,
        after_spawn: Callable[[Child], None] = lambda _: None,
    ) -> None:
        self._keeper = keeper
        self._job: dict[str, Any] = message["job"]
        self._record: dict[str, Any] = message["record"]
        self._token: str = message["token"]
        self._target = target
        self._after_spawn = after_spawn
        self._logs: dict[str, str] = {
            name: self._job[name] for name in ("stdout", "stderr") if self._job[name] is not None
        }
        self._notes: list[str] = []
        self._tree: Tree | None = None
        self._signal_number: int | None = None
        self._was_claimed = False
        self._has_started = False
        self._tell_start: bool = message["tell_start"]
        self._failure: dict[str, Any] | None = None  # what the child said about a start that went wrong
        self._result = ""  # what the child said about a callable that failed
        self._said = bytearray()

    def run(self) -> None:
        """Start, watch, judge, record."""
        try:
            self._end(self._start())
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:
            self._confess(error)
            raise

    def _confess(self, error: Exception) -> None:
        """A bug of ours must leave neither an unwatched tree nor a record that says `running` for ever."""
        if self._tree is not None:
            self._tree.end(grace_s=0, turn=self._keeper.turn)
        self._keeper.tainted = True
        outcome = {
            "state": RunState.LOST.value,
            "reason": f"its keeper failed, which is a bug of rompy-hydra: {type(error).__name__}: {error}",
            "ended_at": utc(),
        }
        written = self._write_last({**self._record, **outcome})
        self._keeper.tell("ended", outcome=outcome, record_error=written, leaving=True)

    # ---- start

    def _start(self) -> tuple[Child, Tree]:
        job = self._job
        child = self._spawn()
        self._after_spawn(child)
        tree = self._tree = Tree(child.pid)
        self._oom_kills = out_of_memory_kills()[0]
        self._started = time.time()
        self._record = {
            **self._record,
            "state": RunState.RUNNING.value,
            "reason": "",
            "started_at": utc(self._started),
            "job_token": self._token,
            "watcher": {"role": "keeper", **self._keeper.identity.to_dict()},
            "process": ProcessIdentity.of(child.pid).to_dict(),
            "logs": self._logs,
        }
        try:
            self._claim()
        except Refusal:
            child.let_go()
            tree.end(grace_s=0, turn=self._keeper.turn)
            raise
        self._clock = time.monotonic()
        self._memory = MemoryWatch(job["memory_bytes"])
        self._aborts = AbortWatch(job["abort_on"], self._logs)
        if child.status_fd is None:
            self._announce()
        else:
            status_fd = child.status_fd
            self._keeper.listen(status_fd, lambda: self._read_status(status_fd))
            child.open_gate()
        return child, tree

    def _spawn(self) -> Child:
        job = self._job
        stdio = self._open_stdio()
        launch = Launch(
            argv=job["argv"],
            executable=job["executable"],
            target=self._target,
            environment={**job["environment"], JOB_VARIABLE: self._token},
            directory=job["directory"],
            stdio=stdio,
            affinity=job["cpu_affinity"],
            private_fds=self._keeper.private_fds,
        )
        try:
            if not job["record_start"] and spawn_fast_can(launch):
                return spawn_fast(launch)
            return spawn(launch)
        except StartError as error:
            raise _start_failure(error.stage, error.number, job) from error
        except OSError as error:
            raise Refusal("spawn", f"no process could be made: {error.strerror}", error.errno) from error
        finally:
            for fd in set(stdio) - {self._keeper.null_fd, *(self._keeper.terminal or ())}:
                os.close(fd)

    def _claim(self) -> None:
        """Nothing runs before its record says so: whoever finds the record as `lost` may start the run again."""
        if not self._job["record_start"]:
            return
        try:
            refused = claim_record(self._job["run_dir"], self._record)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise Refusal("record", f"its record cannot be written: {why}", getattr(error, "errno", None)) from error
        if refused is not None:
            raise Refusal("claim", refused)
        self._was_claimed = True

    def _open_stdio(self) -> tuple[int, int, int]:
        null = self._keeper.null_fd
        inherited = self._keeper.terminal or (null, null)
        try:
            out = _open_log(self._logs["stdout"]) if "stdout" in self._logs else inherited[0]
            if "stderr" not in self._logs:
                return null, out, inherited[1]
            same = self._logs["stderr"] == self._logs.get("stdout")
            return null, out, os.dup(out) if same else _open_log(self._logs["stderr"])
        except OSError as error:
            raise Refusal(
                "log", f"its log {error.filename} cannot be written: {error.strerror}", error.errno
            ) from error

    def _refuse(self, refusal: Refusal) -> None:
        if self._was_claimed:
            self._write_last(
                {**self._record, "state": RunState.FAILED.value, "reason": refusal.message, "ended_at": utc()}
            )
        self._keeper.tell(
            "refused",
            kind=refusal.kind,
            message=refusal.message,
            errno=refusal.number,
            was_recorded=self._was_claimed or refusal.kind == "claim",
        )

    def _read_status(self, fd: int) -> None:
        """News from the child: it could not start; it started; what a callable made of it."""
        is_at_end = False
        try:
            while part := os.read(fd, 65536):
                self._said += part
            is_at_end = True
        except BlockingIOError:
            pass
        *lines, rest = bytes(self._said).split(b"\n")
        self._said = bytearray(rest)
        for facts in map(json.loads, lines):
            if "stage" in facts:
                self._failure = facts
            elif "began" in facts:
                self._announce()
            else:
                self._result = facts["result"]
        if is_at_end:
            self._keeper.ignore(fd)
            if self._failure is None:
                self._announce()

    def _announce(self) -> None:
        if not self._has_started:
            self._has_started = True
            self._memory.due = time.monotonic() + 0.002
        if self._tell_start:
            self._tell_start = False
            self._keeper.tell("started", process=self._record["process"], watcher=self._record["watcher"])

    # ---- watch

    def _end(self, started: tuple[Child, Tree]) -> None:
        child, tree = started
        verdict = self._watch(tree)
        if verdict is not None:
            grace_s = self._job["grace_s"] if verdict.grace_s is None else verdict.grace_s
            if not self._has_started:
                grace_s = 0  # before its exec it would take a TERM for one of ours and lose it
            ending = tree.end(grace_s=grace_s, turn=self._keeper.turn)
            verdict.reason += _how_it_ended(ending)
        else:
            ending = self._end_leftovers(tree)
        if child.status_fd is not None:
            self._read_status(child.status_fd)
            self._keeper.ignore(child.status_fd)
            child.let_go()
        if ending.left:
            self._keeper.tainted = True  # the next job must not be blamed for them
            pids = ", ".join(map(str, ending.left))
            self._notes.append(f"could not be ended (stuck in the kernel or another user's): process {pids}")
        if self._failure is not None:
            raise _start_failure(self._failure["stage"], self._failure["errno"], self._job)
        self._announce()
        outcome = self._measure(tree)
        if verdict is None:
            verdict = self._judge(outcome)
        outcome["state"] = verdict.state.value
        outcome["reason"] = verdict.reason
        self._finish(outcome)

    def _watch(self, tree: Tree) -> Verdict | None:
        """Until the main process ends by itself (None) or there is a reason to end it."""
        limit_s = self._job["timeout_s"]
        deadline = math.inf if limit_s is None else self._clock + limit_s
        aborts = self._aborts
        while True:
            tree.reap()
            if tree.main_status is not None:
                return None
            now = time.monotonic()
            if (asked := self._keeper.ending_asked()) is not None:
                return Verdict(RunState.CANCELLED, *asked)
            if now >= deadline:
                return Verdict(RunState.TIMED_OUT, f"it ran longer than its time limit of {limit_s:g} s")
            if now >= self._memory.due and (verdict := self._weigh()) is not None:
                return verdict
            if now >= aborts.due and (hit := aborts.look()) is not None:
                return Verdict(RunState.FAILED, f"abort_on: {hit}")
            self._keeper.turn(min(deadline, self._memory.due, aborts.due) - time.monotonic())

    def _weigh(self) -> Verdict | None:
        if not self._has_started:
            self._memory.due = time.monotonic() + _SMALL_CHANGE_S  # before its exec it is a copy of ourselves
            return None
        used = self._memory.sample()
        limit = self._job["memory_bytes"]
        if limit is None or used <= limit:
            return None
        return Verdict(
            RunState.OUT_OF_MEMORY,
            f"it used {human_bytes(used)} of memory, more than the {human_bytes(limit)} it was given",
        )

    def _end_leftovers(self, tree: Tree) -> Ending:
        """The main process is gone: so goes what it left in the background."""
        deadline = time.monotonic() + _LEFTOVER_PATIENCE_S
        while not tree.is_empty and (left_s := deadline - time.monotonic()) > 0:
            self._keeper.turn(left_s)
            tree.reap()
        if tree.is_empty:
            return Ending(0, 0, [])
        grace_s = min(self._job["grace_s"], _LEFTOVER_GRACE_S)
        ending = tree.end(grace_s=grace_s, turn=self._keeper.turn)
        self._notes.append(
            f"{_count(ending.asked, 'process')} still ran in the background after the main process had ended"
            f" and {'was' if ending.asked == 1 else 'were'} ended{_how_it_ended(ending)}"
        )
        return ending

    # ---- judge

    def _measure(self, tree: Tree) -> dict[str, Any]:
        status = tree.main_status
        exit_code = number = None
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            exit_code, number = (code, None) if code >= 0 else (None, -code)
        self._signal_number = number
        ended_clock = tree.ended_clock or time.monotonic()
        peak, method = self._peak_memory(tree.max_rss_bytes)
        return {
            "state": "",
            "exit_code": exit_code,
            "signal": signal_name(number) if number is not None else None,
            "reason": "",
            "started_at": self._record["started_at"],
            "ended_at": utc(tree.ended_at),
            "wall_seconds": round(ended_clock - self._clock, 6),
            "cpu_seconds": round(tree.cpu_seconds, 6),
            "peak_memory_bytes": peak,
            "memory_measured_by": method,
            "logs": self._logs,
        }

    def _peak_memory(self, largest: int) -> tuple[int | None, str | None]:
        """The larger of two lower bounds: the sampled peak of the tree, and the largest single process (getrusage).

        The second also counts what a process was before its exec, a copy of this keeper: up to that size it says
        nothing, unless there is nothing else.
        """
        sampled = self._memory.peak_bytes
        if largest > max(sampled, _own_peak_bytes() if self._target is None else 0):
            return largest, "the largest process of the tree (getrusage)"
        if sampled:
            return sampled, self._memory.method
        return (largest, "at most: too short to be sampled (getrusage)") if largest else (None, None)

    def _judge(self, outcome: dict[str, Any]) -> Verdict:
        """What the run's own end means."""
        rules = self._job["success"]
        try:
            if (hit := self._aborts.look_at_all()) is not None:
                return Verdict(RunState.FAILED, f"abort_on: {hit}")
            reason = self._result or unmet_rule(
                rules,
                run_dir=self._job["run_dir"],
                logs=self._logs,
                exit_code=outcome["exit_code"],
                signal_number=self._signal_number,
            )
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            return Verdict(RunState.FAILED, f"its result could not be checked:{where} {error.strerror}")
        if reason:
            return self._with_memory_evidence(outcome, reason)
        if rules["check"]:
            return self._check(outcome)
        return Verdict(RunState.SUCCEEDED, _why_it_succeeded(rules, outcome))

    def _with_memory_evidence(self, outcome: dict[str, Any], reason: str) -> Verdict:
        """A SIGKILL that we did not send may be the kernel's out-of-memory killer."""
        if self._signal_number != signal.SIGKILL and outcome["exit_code"] != 128 + signal.SIGKILL:
            return Verdict(RunState.FAILED, reason)
        kills, is_own_group = out_of_memory_kills()
        if kills <= self._oom_kills:
            return Verdict(RunState.FAILED, reason)
        if is_own_group:
            return Verdict(RunState.OUT_OF_MEMORY, f"the kernel's out-of-memory killer struck: {reason}")
        return Verdict(
            RunState.FAILED,
            f"{reason} (the kernel's out-of-memory killer struck on this machine meanwhile: perhaps this run)",
        )

    def _check(self, outcome: dict[str, Any]) -> Verdict:
        """Run the model's own check as a small job in the same hands."""
        rules, job = self._job["success"], self._job
        log = os.path.join(job["run_dir"], "logs", "check.log")
        if job["record_start"]:
            being = {"state": RunState.RUNNING.value, "reason": "its result is being checked", "ended_at": None}
            self._write_interim({**self._record, **outcome, **being})
        try:
            child = self._spawn_check(rules["check"], log)
        except (Refusal, OSError) as error:
            return Verdict(RunState.FAILED, f"success.check could not be started: {error}")
        tree = Tree(child.pid)
        verdict = self._watch_check(tree, rules["check_timeout_s"])
        if verdict is not None:
            verdict.reason += _how_it_ended(tree.end(grace_s=job["grace_s"], turn=self._keeper.turn))
        elif not tree.is_empty:
            tree.end(grace_s=min(job["grace_s"], _LEFTOVER_GRACE_S), turn=self._keeper.turn)
        failure = b""
        if child.status_fd is not None and tree.is_empty:
            failure = os.read(child.status_fd, 65536)
        child.let_go()
        if verdict is not None:
            return verdict
        if failure:
            why = os.strerror(json.loads(failure)["errno"])
            return Verdict(RunState.FAILED, f"success.check could not be started: {why}")
        assert tree.main_status is not None
        code = os.waitstatus_to_exitcode(tree.main_status)
        if code == 0:
            return Verdict(RunState.SUCCEEDED, _why_it_succeeded(rules, outcome))
        how = f"exit code {code}" if code > 0 else signal_name(-code)
        line = last_line(log)
        return Verdict(RunState.FAILED, f"success.check ended with {how}" + (f": {quote(line)}" if line else ""))

    def _spawn_check(self, argv: list[str], log: str) -> Child:
        job = self._job
        environment = {**job["environment"], JOB_VARIABLE: self._token}
        executable = _resolve(argv, job["run_dir"], environment.get("PATH"))
        log_fd = _open_log(log)
        try:
            child = spawn(
                Launch(
                    argv=argv,
                    executable=executable,
                    environment=environment,
                    directory=job["run_dir"],
                    stdio=(self._keeper.null_fd, log_fd, log_fd),
                    affinity=job["cpu_affinity"],
                )
            )
        finally:
            os.close(log_fd)
        child.open_gate()
        return child

    def _watch_check(self, tree: Tree, timeout_s: float) -> Verdict | None:
        deadline = time.monotonic() + timeout_s
        while True:
            tree.reap()
            if tree.main_status is not None:
                return None
            if (asked := self._keeper.ending_asked()) is not None:
                reason, grace_s = asked
                return Verdict(RunState.CANCELLED, f"{reason} (while its result was being checked)", grace_s)
            if time.monotonic() >= deadline:
                return Verdict(RunState.FAILED, f"success.check ran longer than {timeout_s:g} s")
            self._keeper.turn(deadline - time.monotonic())

    # ---- record

    def _finish(self, outcome: dict[str, Any]) -> None:
        job = self._job
        outputs = list_outputs(
            job["run_dir"],
            generated=job["generated"],
            own=self._logs.values(),
            sha256_max_bytes=job["sha256_max_bytes"],
        )
        if outputs.bytes_to_hash > _HASH_AT_ONCE_BYTES:
            self._write_interim(self._final_record(outcome, outputs.to_record()))
        if outputs.unhashed:
            hash_outputs(outputs, job["run_dir"], stop=lambda: self._keeper.stop_signal is not None)
        error = self._write_last(self._final_record(outcome, outputs.to_record()))
        self._keeper.tell(
            "ended",
            outcome={**outcome, "notes": self._notes},
            record_error=error,
            leaving=self._keeper.must_leave,
        )

    def _final_record(self, outcome: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        record = {**self._record, **outcome, "notes": self._notes, **outputs}
        if "attempts" in record:  # earlier tries of this run are there: this one joins them
            record["attempts"] = [*record["attempts"], {**outcome, "notes": self._notes}]
        return record

    def _write_interim(self, record: dict[str, Any]) -> None:
        try:
            replace_record(self._job["run_dir"], record, durable=False)
        except OSError:
            pass  # the last write is the one that counts, and it has a reserve and patience

    def _write_last(self, record: dict[str, Any]) -> str | None:
        """Write the end, hard to put off by a full disk; returns why it could not be written."""
        careful = self._job["record_start"]
        deadline: float | None = None
        pause_s = 0.05
        while True:
            try:
                replace_record(self._job["run_dir"], record, durable=careful, aside=RESERVE_NAME if careful else None)
                return None
            except OSError as error:
                now = time.monotonic()
                deadline = deadline or now + _RECORD_PATIENCE_S[self._keeper.driver_gone]
                if error.errno == errno.ENOSPC and record.get("outputs"):
                    note = "not listed: the disk was full when the run ended"
                    record = {**record, "outputs": [], "outputs_note": note}
                    continue
                if now > deadline or error.errno in (errno.ENOENT, errno.ENOTDIR):
                    return f"{os.path.join(self._job['run_dir'], 'run.json')}: {error.strerror or error}"
            self._keeper.turn(pause_s)
            pause_s = min(pause_s * 2, 5.0)


def _why_it_succeeded(rules: dict[str, Any], outcome: dict[str, Any]) -> str:
    asked = [rule for rule in ("files", "nonempty", "log_has", "log_lacks", "check") if rules[rule]]
    held = f", and its rules held ({', '.join(asked)})" if asked else ""
    return f"it ended with exit code {outcome['exit_code']}{held}"


class AbortWatch:
    """`abort_on`: patterns searched in the logs while they grow."""

    def __init__(self, patterns: list[str], logs: dict[str, str]) -> None:
        self._scanners = [LogScanner(path, patterns) for path in dict.fromkeys(logs.values())] if patterns else []
        self._interval_s = 0.01
        self.due = time.monotonic() + self._interval_s if self._scanners else math.inf

    def look(self) -> str | None:
        """What was found in the lines that were added; bounded, so that a flood of output cannot hold up the rest."""
        for scanner in self._scanners:
            for hit in scanner.scan(ended=False):
                return str(hit)
        if all(scanner.is_at_end for scanner in self._scanners):
            self._interval_s = min(self._interval_s * 1.5, 0.25)
            self.due = time.monotonic() + self._interval_s
        else:
            self.due = time.monotonic()
        return None

    def look_at_all(self) -> str | None:
        """The same over whole logs of a run that has ended."""
        for scanner in self._scanners:
            while True:
                for hit in scanner.scan():
                    return str(hit)
                if scanner.is_at_end:
                    break
        return None


def _resolve(argv: list[str], directory: str, path: str | None) -> str:
    try:
        return find_executable(argv[0] if argv else "", directory=directory, path=path)
    except OSError as error:
        raise Refusal("exec", f"{argv[0] if argv else 'the command'}: {error.strerror}", error.errno) from error


def _start_failure(stage: str, number: int, job: dict[str, Any]) -> Refusal:
    why = os.strerror(number)
    if stage == "directory":
        return Refusal(stage, f"its directory {job['directory']} cannot be entered: {why}", number)
    if stage == "affinity":
        cpus = ",".join(map(str, job["cpu_affinity"]))
        return Refusal(stage, f"it cannot be bound to processors {cpus}: {why}", number)
    if stage == "exec":
        if number == errno.ENOENT:
            why = "the interpreter that its first line (#!) names does not exist"
        elif number == errno.ENOEXEC:
            why = "it is no program for this machine, or a script without a first line that names its interpreter (#!)"
        return Refusal(stage, f"{job['argv'][0]} cannot be executed: {why}", number)
    return Refusal(stage, f"its process could not be prepared: {why}", number)


def _how_it_ended(ending: Ending) -> str:
    if ending.left:
        return f"; {_count(len(ending.left), 'process')} could not be ended"
    if ending.killed:
        return f"; {_count(ending.killed, 'process')} had to be killed"
    return ""


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _open_log(path: str) -> int:
    # Append: the file stays whole even if the run opens it a second time.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o666)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from error


def _own_peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

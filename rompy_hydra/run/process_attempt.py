"""An attempt of a run as a tree of processes on this machine.  Stdlib only.

ProcessAttempt:  spawn → claim the record → open the gate → … → end the tree to the last process
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rompy_hydra.record.liveness import ProcessIdentity, read_proc
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import utc
from rompy_hydra.run.attempt import AbortWatch, Attempt, Refusal, Verdict, open_log
from rompy_hydra.run.processes import JOB_VARIABLE, Ending, MemoryWatch, Tree, human_bytes, out_of_memory_kills
from rompy_hydra.run.spawn import Child, Launch, StartError, find_executable, spawn, spawn_fast, spawn_fast_can
from rompy_hydra.run.success import signal_name

if TYPE_CHECKING:
    from rompy_hydra.run.keeper import Keeper

_LEFTOVER_PATIENCE_S = 0.25  # `tee` behind a process substitution ends a moment after its shell
_LEFTOVER_GRACE_S = 1.0
_SMALL_CHANGE_S = 0.02


class ProcessAttempt(Attempt):
    """A command, or a callable, as a tree of processes below the keeper."""

    _child: Child
    _tree: Tree
    _memory: MemoryWatch

    def __init__(
        self,
        keeper: Keeper,
        message: dict[str, Any],
        *,
        target: Callable[[], object] | None = None,
        after_spawn: Callable[[Child], None] = lambda _: None,
    ) -> None:
        super().__init__(keeper, message)
        self._target = target
        self._after_spawn = after_spawn
        self._has_tree = False
        self._failure: dict[str, Any] | None = None  # what the child said about a start that went wrong
        self._said = bytearray()

    def _abandon(self) -> None:
        if self._has_tree:
            self._tree.end(grace_s=0, turn=self._keeper.turn)

    # ---- start

    def _start(self) -> None:
        job = self._job
        child = self._child = self._spawn()
        self._after_spawn(child)
        tree = self._tree = Tree(child.pid)
        self._has_tree = True
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
        self._memory = MemoryWatch(job["memory_bytes"], shares_pages=self._target is not None)
        self._aborts = AbortWatch(job["abort_on"], self._logs)
        if child.status_fd is None:
            self._announce()
        else:
            status_fd = child.status_fd
            self._keeper.listen(status_fd, lambda: self._read_status(status_fd))
            child.open_gate()

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

    def _open_stdio(self) -> tuple[int, int, int]:
        null = self._keeper.null_fd
        inherited = self._keeper.terminal or (null, null)
        try:
            out = open_log(self._logs["stdout"]) if "stdout" in self._logs else inherited[0]
            if "stderr" not in self._logs:
                return null, out, inherited[1]
            same = self._logs["stderr"] == self._logs.get("stdout")
            return null, out, os.dup(out) if same else open_log(self._logs["stderr"])
        except OSError as error:
            raise Refusal(
                "log", f"its log {error.filename} cannot be written: {error.strerror}", error.errno
            ) from error

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
            self._memory.due = time.monotonic() + 0.002
        super()._announce()

    # ---- watch

    def _has_ended(self) -> bool:
        self._tree.reap()
        return self._tree.main_status is not None

    @property
    def _due(self) -> float:
        return self._memory.due

    def _bring_to_an_end(self, verdict: Verdict | None) -> None:
        child, tree = self._child, self._tree
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

    def _measure(self) -> dict[str, Any]:
        tree = self._tree
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

        The second also counts what a process was before its exec, a copy of this keeper: up to that size (for a
        callable: at all) it says nothing, unless there is nothing else.
        """
        sampled = self._memory.peak_bytes
        if self._target is None and largest > max(sampled, _own_peak_bytes()):
            return largest, "the largest process of the tree (getrusage)"
        if sampled:
            return sampled, self._memory.method
        return (largest, "at most: too short to be sampled (getrusage)") if largest else (None, None)

    def _explain(self, outcome: dict[str, Any], reason: str) -> Verdict:
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

    def _run_check(self, argv: list[str], log: str, timeout_s: float) -> Verdict | int:
        grace_s = self._job["grace_s"]
        try:
            child = self._spawn_check(argv, log)
        except (Refusal, OSError) as error:
            return Verdict(RunState.FAILED, f"success.check could not be started: {error}")
        tree = Tree(child.pid)
        verdict = self._watch_check(tree, timeout_s)
        if verdict is not None:
            verdict.reason += _how_it_ended(tree.end(grace_s=grace_s, turn=self._keeper.turn))
        elif not tree.is_empty:
            tree.end(grace_s=min(grace_s, _LEFTOVER_GRACE_S), turn=self._keeper.turn)
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
        return os.waitstatus_to_exitcode(tree.main_status)

    def _spawn_check(self, argv: list[str], log: str) -> Child:
        job = self._job
        environment = {**job["environment"], JOB_VARIABLE: self._token}
        executable = _resolve(argv, job["run_dir"], environment.get("PATH"))
        log_fd = open_log(log)
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
            if (verdict := self._check_verdict(deadline, timeout_s)) is not None:
                return verdict
            self._keeper.turn(deadline - time.monotonic())


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


def _own_peak_bytes() -> int:
    # Not our ru_maxrss: that survives an exec, and so counts the driver that started us, notebook and all.
    for line in read_proc("/proc/self/status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0

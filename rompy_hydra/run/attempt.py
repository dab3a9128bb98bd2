"""One attempt of a run in the hands of its keeper: start, watch, judge, record.  Stdlib only.

    Attempt.run:  start → watch (limits, `abort_on`, memory) → end what is left → judge → write the record

What runs is a tree of processes (`process_attempt`) or a container (`docker_keeper`); what is done with it, and what
its end means, is the same.
"""

from __future__ import annotations

import errno
import math
import os
import time
from typing import TYPE_CHECKING, Any

from rompy_hydra.record.outputs import hash_outputs, list_outputs, remove_outputs
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import RESERVE_NAME, claim_record, replace_record, utc
from rompy_hydra.run.success import LogScanner, last_line, quote, signal_name, unmet_rule

if TYPE_CHECKING:
    from rompy_hydra.run.keeper import Keeper

_HASH_AT_ONCE_BYTES = 8 * 1024 * 1024  # more than that, and the outcome is recorded before the hashing starts
_RECORD_PATIENCE_S = (1.0, 60.0)  # how long the last write is tried again: with a driver to tell, without


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
    """One job from its first to its last word; children say what a job is."""

    def __init__(self, keeper: Keeper, message: dict[str, Any]) -> None:
        self._keeper = keeper
        self._job: dict[str, Any] = message["job"]
        self._record: dict[str, Any] = message["record"]
        self._token: str = message["token"]
        self._logs: dict[str, str] = {
            name: self._job[name] for name in ("stdout", "stderr") if self._job[name] is not None
        }
        self._check_log: str = self._job.get("check_log") or os.path.join(self._job["run_dir"], "logs", "check.log")
        self._notes: list[str] = []
        self._signal_number: int | None = None
        self._was_claimed = False
        self._has_started = False
        self._tell_start: bool = message["tell_start"]
        self._result = ""  # what a callable said of its own failure
        self._clock = time.monotonic()
        self._aborts = AbortWatch([], {})

    def run(self) -> None:
        """Start, watch, judge, record."""
        try:
            self._start()
            self._end()
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:
            self._confess(error)
            raise

    def _confess(self, error: Exception) -> None:
        """A bug of ours must leave neither an unwatched tree nor a record that says `running` for ever."""
        self._abandon()
        self._keeper.tainted = True
        outcome = {
            "state": RunState.LOST.value,
            "reason": f"its keeper failed, which is a bug of rompy-hydra: {type(error).__name__}: {error}",
            "ended_at": utc(),
        }
        written = self._write_last({**self._record, **outcome})
        self._keeper.tell("ended", outcome=outcome, record_error=written, leaving=True)

    # ---- what each kind of job says

    def _start(self) -> None:
        """Start it and claim the record; `Refusal` where that cannot be."""
        raise NotImplementedError

    def _has_ended(self) -> bool:
        """Whether it has ended by itself."""
        raise NotImplementedError

    @property
    def _due(self) -> float:
        """When to weigh it, or to look whether it has ended, next."""
        raise NotImplementedError

    def _weigh(self) -> Verdict | None:
        """Measure what it uses; a verdict if that is too much."""
        raise NotImplementedError

    def _bring_to_an_end(self, verdict: Verdict | None) -> None:
        """End it for the verdict's reason, or what it left behind; the reason may get a word more."""
        raise NotImplementedError

    def _abandon(self) -> None:
        """End everything at once: there is nobody left to watch it."""
        raise NotImplementedError

    def _measure(self) -> dict[str, Any]:
        """The outcome without state and reason."""
        raise NotImplementedError

    def _explain(self, outcome: dict[str, Any], reason: str) -> Verdict:
        """What kind of failure it is that a rule was not met for `reason`."""
        raise NotImplementedError

    def _run_check(self, argv: list[str], log: str, timeout_s: float) -> Verdict | int:
        """Run the model's own check: its exit code (a signal is negative), or why it has none."""
        raise NotImplementedError

    # ---- start

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
            was_recorded=self._was_claimed or refusal.kind in ("claim", "take_up"),
        )

    def _announce(self) -> None:
        if not self._has_started:
            self._has_started = True
        if self._tell_start:
            self._tell_start = False
            self._keeper.tell("started", process=self._record["process"], watcher=self._record["watcher"])

    # ---- watch

    def _end(self) -> None:
        verdict = self._watch()
        self._bring_to_an_end(verdict)
        self._announce()
        outcome = self._measure()
        if verdict is None:
            verdict = self._judge(outcome)
        outcome["state"] = verdict.state.value
        outcome["reason"] = verdict.reason
        self._finish(outcome)

    def _watch(self) -> Verdict | None:
        """Until the main process ends by itself (None) or there is a reason to end it."""
        limit_s = self._job["timeout_s"]
        deadline = math.inf if limit_s is None else self._clock + limit_s
        aborts = self._aborts
        while True:
            if self._has_ended():
                return None
            now = time.monotonic()
            if (asked := self._keeper.ending_asked()) is not None:
                return Verdict(RunState.CANCELLED, *asked)
            if now >= deadline:
                return Verdict(RunState.TIMED_OUT, f"it ran longer than its time limit of {limit_s:g} s")
            if now >= self._due and (verdict := self._weigh()) is not None:
                return verdict
            if now >= aborts.due and (hit := aborts.look()) is not None:
                return Verdict(RunState.FAILED, f"abort_on: {hit}")
            self._keeper.turn(min(deadline, self._due, aborts.due) - time.monotonic())

    # ---- judge

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
            return self._explain(outcome, reason)
        if rules["check"]:
            return self._check(outcome)
        return Verdict(RunState.SUCCEEDED, _why_it_succeeded(rules, outcome))

    def _check(self, outcome: dict[str, Any]) -> Verdict:
        """Run the model's own check as a small job in the same hands."""
        rules = self._job["success"]
        log = self._check_log
        if self._job["record_start"]:
            being = {"state": RunState.RUNNING.value, "reason": "its result is being checked", "ended_at": None}
            self._write_interim({**self._record, **outcome, **being})
        code = self._run_check(rules["check"], log, rules["check_timeout_s"])
        remove_if_empty(log)
        if isinstance(code, Verdict):
            return code
        if code == 0:
            return Verdict(RunState.SUCCEEDED, _why_it_succeeded(rules, outcome))
        how = f"exit code {code}" if code > 0 else signal_name(-code)
        line = last_line(log)
        return Verdict(RunState.FAILED, f"success.check ended with {how}" + (f": {quote(line)}" if line else ""))

    def _check_verdict(self, deadline: float, timeout_s: float) -> Verdict | None:
        """Why a check that runs is to be ended."""
        if (asked := self._keeper.ending_asked()) is not None:
            reason, grace_s = asked
            return Verdict(RunState.CANCELLED, f"{reason} (while its result was being checked)", grace_s)
        if time.monotonic() >= deadline:
            return Verdict(RunState.FAILED, f"success.check ran longer than {timeout_s:g} s")
        return None

    # ---- record

    def _finish(self, outcome: dict[str, Any]) -> None:
        job = self._job
        ours = [*self._logs.values(), self._check_log]
        if job["clean_failed"] and outcome["state"] != RunState.SUCCEEDED.value:
            gone = remove_outputs(job["run_dir"], generated=job["generated"], own=ours)
            self._notes.append(f"its outputs were removed ({gone['files']} files, {gone['bytes']} bytes): on_failure")
        outputs = list_outputs(
            job["run_dir"],
            generated=job["generated"],
            own=ours,
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


def open_log(path: str) -> int:
    """A fresh log file, its directory made where it is missing; the OSError names the path."""
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


def remove_if_empty(path: str) -> None:
    """A log that nothing was written to is no news."""
    try:
        if os.stat(path).st_size == 0:
            os.unlink(path)
    except OSError:
        pass  # only an empty file that nobody needs

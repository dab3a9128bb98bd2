"""What became of the points that a driver had started when it died, found out without it.

The journal says who was to run an attempt and under which token; the rest is told by the run's record (if it carries
this token), by the keeper's life, and by the logs, which a keeper opens before it starts anything:

| record with this token | keeper | its log | verdict |
|---|---|---|---|
| ended | | | *ended*: the record holds the outcome |
| running | alive | | *running*: wait for it |
| none, or queued | alive | | *running*: wait for it, then look again |
| queued or running | dead | | as `run.observe` says: it never began, it is *lost*, or goes on (a container) |
| none | dead | there | *lost*: it began, and whoever watched it is gone; what is left of it is ended |
| none | dead | none | *never began*: it may be started as if nothing had been |

A keeper on another machine cannot be asked; whoever takes such a sweep over says that it is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rompy_hydra.errors import RecordError
from rompy_hydra.record import store
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.run.observe import observe
from rompy_hydra.run.processes import end_marked
from rompy_hydra.sweep.state import Started
from rompy_hydra.workspace.layout import RunLayout

NEVER_BEGAN = "it was not started before its driver ended"
_ASK_EVERY_S = 1.0


class Fate(Enum):
    """What became of an attempt."""

    ENDED = "ended"
    RUNNING = "running"
    NEVER_BEGAN = "never began"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an attempt, and its outcome where it is over."""

    fate: Fate
    outcome: Outcome | None = None
    keeper: ProcessIdentity | None = None


def find_out(layout: RunLayout, started: Started, *, may_write: bool = True) -> Verdict:
    """What became of an attempt.

    With `may_write` a lost one is settled for good: its record says so, and what is left of its processes is ended.
    """
    record = _record(layout, started)
    if record is not None and _is_final(record):
        return _of_record(record)
    if "batch" in started.watcher:  # a scheduler has it, or may have got it: whoever asks that one finds out
        return Verdict(Fate.RUNNING)
    keeper = _keeper(started, record)
    if keeper is not None and keeper.is_alive():
        return Verdict(Fate.RUNNING, keeper=keeper)
    record = _record(layout, started)  # once more: it may have written its last word and ended in between
    if record is not None:
        if not _is_final(record):
            with contextlib.suppress(RecordError):
                record = observe(layout.run_dir)
        if _is_final(record):
            return _of_record(record)
        if record.get("unverified") and may_write:
            return _lost(started, "its keeper is on another machine, and was said to be gone")
        return Verdict(Fate.RUNNING, keeper=keeper)
    if keeper is not None and keeper.is_alive() is None and not may_write:
        return Verdict(Fate.RUNNING, keeper=keeper)
    logs = (layout.log(stream, started.attempt) for stream in ("stdout", "stderr"))
    if not any(log.exists() for log in logs):
        return Verdict(Fate.NEVER_BEGAN)
    if not may_write:
        return Verdict(Fate.LOST, Outcome(state=RunState.LOST, reason="its keeper is gone and left no record"))
    return _lost(started, "its keeper is gone and left no record")


def _record(layout: RunLayout, started: Started) -> dict[str, Any] | None:
    """The record, if it is that of this attempt."""
    try:
        record = store.load_record(layout.run_dir)
    except (OSError, ValueError):
        return None
    return record if record.get("job_token") == started.token else None


def _is_final(record: dict[str, Any]) -> bool:
    return RunState(record["state"]).is_final


def _of_record(record: dict[str, Any]) -> Verdict:
    outcome = Outcome.from_dict(record)
    if outcome.state is not RunState.LOST:
        return Verdict(Fate.ENDED, outcome)
    if record.get("started_at") is None:
        return Verdict(Fate.NEVER_BEGAN)
    return Verdict(Fate.LOST, outcome)


def _keeper(started: Started, record: dict[str, Any] | None) -> ProcessIdentity | None:
    """Who watches it: as the record says if it got so far, else as the journal says."""
    who = (record or {}).get("watcher") or {}
    try:
        return ProcessIdentity.from_dict(who if who.get("role") == "keeper" else started.watcher)
    except (KeyError, TypeError, ValueError):
        return None


def _lost(started: Started, why: str) -> Verdict:
    left = end_marked(started.token, None)
    still = f"; still running: process {', '.join(map(str, left))}" if left else ""
    return Verdict(Fate.LOST, Outcome(state=RunState.LOST, reason=f"{why}{still}", started_at=started.since))


class OrphanHandle:
    """A point that an earlier driver started and whose keeper still lives: a handle for the scheduler.

    It is over when the keeper has gone; `wait` then says what became of it (`lost` with `NEVER_BEGAN` as its reason for
    one that was never started).
    """

    def __init__(self, layout: RunLayout, started: Started, keeper: ProcessIdentity | None) -> None:
        self._layout = layout
        self._started = started
        self._keeper = keeper
        self._outcome: Outcome | None = None
        self._due = 0.0
        self._pidfd = -1
        if keeper is not None:
            with contextlib.suppress(OSError, AttributeError):  # gone this moment, or an old kernel: it is polled
                self._pidfd = os.pidfd_open(keeper.pid)

    @property
    def is_over(self) -> bool:
        """Whether its end is known."""
        return self._outcome is not None

    def fileno(self) -> int:
        """Readable when the keeper has ended."""
        return self._pidfd

    def take_news(self, timeout_s: float | None = 0) -> None:  # noqa: ARG002  # it never waits
        """Look whether it has ended."""
        if self._outcome is not None or time.monotonic() < self._due:
            return
        if self._keeper is not None and self._keeper.is_alive():
            return
        verdict = find_out(self._layout, self._started)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if verdict.fate is Fate.RUNNING:
            self._due = time.monotonic() + _ASK_EVERY_S  # a container that outlives its keeper: its engine is asked
        else:
            self._outcome = verdict.outcome or Outcome(state=RunState.LOST, reason=NEVER_BEGAN)

    def wait(self, timeout_s: float | None = None) -> Outcome | None:  # noqa: ARG002  # as above
        """The outcome; None while it runs."""
        return self._outcome

    def cancel(self, reason: str) -> None:  # noqa: ARG002  # a keeper writes its own: that it got a signal
        """Have its keeper end it."""
        if self._keeper is not None and self._keeper.is_alive():
            with contextlib.suppress(OSError):
                os.kill(self._keeper.pid, signal.SIGTERM)

"""How a sweep goes, for a person: one line that changes on a terminal, plain lines from time to time elsewhere.

Text is made here and written by whoever has the terminal.  Plain ANSI: a line that is written over needs no library.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from rompy_hydra.record.outcome import Outcome
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.scheduler import Task
from rompy_hydra.sweep.state import SweepState
from rompy_hydra.units.durations import format_duration

_CLEAR = "\r\x1b[K"
_REDRAW_S = 0.2
_FIRST_LINE_S = 2.0
_LONGEST_BETWEEN_LINES_S = 60.0
_RATE_WINDOW_S = 60.0
_MOST_FAILURES_TOLD = 50

FAILURES = ("failed", "timed_out", "out_of_memory", "lost", "cancelled")


class Progress:
    """Tells started, ended and the rest; `sweep.scheduler.Watcher`."""

    def __init__(
        self,
        state: SweepState,
        layout: SweepLayout,
        write: Callable[[str], None],
        *,
        terminal_width: Callable[[], int] | None = None,
        about: Callable[[Task], tuple[str, Path | None]] = lambda _: ("", None),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`terminal_width`: the columns of the terminal, None where there is none.

        `about`: what varies at a point, and the log where its failure is to be looked up.
        """
        self._state = state
        self._layout = layout
        self._write = write
        self._terminal_width = terminal_width
        self._about = about
        self._clock = clock
        self._rate = Rate(clock)
        self._running = 0
        self._told = 0
        self._is_drawn = False
        self._between_s = _FIRST_LINE_S
        self._due = clock() + (0 if terminal_width else _FIRST_LINE_S)

    def detach(self, write: Callable[[str], None]) -> None:
        """There is no terminal any more: plain lines, to somewhere else."""
        self._write = write
        self._terminal_width = None
        self._is_drawn = False

    def started(self, task: Task) -> None:  # noqa: ARG002  # nobody wants a line for each start
        """One more runs."""
        self._running += 1

    def ended(self, task: Task, outcome: Outcome, *, again_in_s: float | None) -> None:
        """An attempt has ended; a failure is told with its log."""
        self._running = max(0, self._running - 1)
        self._rate.count()
        if outcome.succeeded:
            return
        self._told += 1
        if self._told > _MOST_FAILURES_TOLD:
            if self._told == _MOST_FAILURES_TOLD + 1:
                self.said(f"more failures are not told one by one: rompy-hydra status {self._layout.sweep_dir}")
            return
        swept, log = self._about(task)
        which = f"{task.name} ({swept})" if swept else task.name
        again = f"; tried again in {format_duration(again_in_s)}" if again_in_s is not None else ""
        where = f"\n    {log}" if log is not None else ""
        self.said(f"{outcome.state.value}: point {which}: {outcome.reason}{again}{where}")

    def said(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        self._write(f"{text}\n")

    def tick(self) -> None:
        """Draw the line again, or write another one, if it is time."""
        now = self._clock()
        if now < self._due:
            return
        if self._terminal_width is not None:
            self._due = now + _REDRAW_S
            text = f"{bar(self._state)} {self.line()}"
            self._write(f"{_CLEAR}{text[: max(20, self._terminal_width() - 1)]}")
            self._is_drawn = True
        else:
            self._write(f"{self.line()}\n")
            self._between_s = min(self._between_s * 2, _LONGEST_BETWEEN_LINES_S)
            self._due = now + self._between_s

    def close(self) -> None:
        """Leave no half line behind."""
        self._erase()

    def line(self) -> str:
        """Where it stands, on one line."""
        return progress_line(self._state, self._rate.per_second())

    def _erase(self) -> None:
        if self._is_drawn:
            self._write(_CLEAR)
            self._is_drawn = False


class Rate:
    """How many ended a second, lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._count = 0
        self._marks: deque[tuple[float, int]] = deque([(self._began, 0)])

    def count(self) -> None:
        """One more."""
        self._count += 1

    def per_second(self) -> float | None:
        """None as long as nothing has ended."""
        now = self._clock()
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, self._count))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_WINDOW_S:
            self._marks.popleft()
        since, before = self._marks[0]
        if self._count == before or now <= since:
            return None
        return (self._count - before) / (now - since)


def progress_line(state: SweepState, per_second: float | None) -> str:
    """`412 of 1000 done, 2 failed, 2 running, 586 waiting, 812/s, 0.7 s left`."""
    counts = state.counts()
    left = sum(counts.get(name, 0) for name in ("queued", "waiting", "running"))
    failed = sum(counts.get(name, 0) for name in FAILURES)
    parts = [f"{state.total - left} of {state.total} done"]
    if failed:
        parts.append(f"{failed} failed")
    if invalid := counts.get("invalid", 0):
        parts.append(f"{invalid} left out")
    parts += [f"{n} {name}" for name in ("running",) if (n := counts.get(name, 0))]
    if waiting := counts.get("queued", 0) + counts.get("waiting", 0):
        parts.append(f"{waiting} waiting")
    if per_second is not None and left:
        speed = f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"
        if per_second < 0.5:
            speed = f"{per_second * 60:.1f}/min" if per_second * 60 >= 0.5 else f"{per_second * 3600:.1f}/h"
        parts += [speed, f"about {format_duration(_rounded(left / per_second))} left"]
    return ", ".join(parts)


def bar(state: SweepState, width: int = 20) -> str:
    """`[#########...........]`: how much is done."""
    counts = state.counts()
    left = sum(counts.get(name, 0) for name in ("queued", "waiting", "running"))
    done = width * (state.total - left) // max(1, state.total)
    return f"[{'#' * done}{'.' * (width - done)}]"


def _rounded(seconds: float) -> float:
    return float(round(seconds)) if seconds >= 10 else round(seconds, 1)

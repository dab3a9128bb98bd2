"""What a person sees while a sweep runs."""

from __future__ import annotations

from pathlib import Path

from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.progress import Progress, bar, progress_line
from rompy_hydra.sweep.scheduler import Task
from rompy_hydra.sweep.state import SweepState
from rompy_hydra.sweep.table import aligned, swept_text

GOOD = Outcome(state=RunState.SUCCEEDED)
BAD = Outcome(state=RunState.FAILED, reason="exit 3")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(total: int = 10, *, width: int | None = 80) -> tuple[Progress, SweepState, Clock, list[str]]:
    state, clock, written = SweepState(total), Clock(), list[str]()
    shown = Progress(
        state,
        SweepLayout(Path("/sw")),
        written.append,
        terminal_width=(lambda: width) if width else None,
        about=lambda task: (f"n={task.number}", Path(f"/sw/{task.number}/stderr.log")),
        clock=clock,
    )
    return shown, state, clock, written


def end(shown: Progress, state: SweepState, number: int, outcome: Outcome) -> None:
    state.set_state(number, outcome.state.value)
    shown.ended(Task(number=number, name=str(number)), outcome, again_in_s=None)


def test_the_line_tells_done_failed_running_waiting_speed_and_time_left() -> None:
    state = SweepState(1000)
    for number in range(412):
        state.set_state(number, "failed" if number < 2 else "succeeded")
    state.set_state(412, "running")
    state.set_state(413, "invalid")
    line = progress_line(state, 812.4)
    assert line == "413 of 1000 done, 2 failed, 1 left out, 1 running, 586 waiting, 812/s, about 700 ms left"


def test_slow_sweeps_are_told_by_the_minute_or_hour() -> None:
    assert "6.0/min, about 1 min 40 s left" in progress_line(SweepState(10), 0.1)
    assert "1.0/h, about 10 h 00 min left" in progress_line(SweepState(10), 1 / 3600)


def test_on_a_terminal_one_line_is_written_over() -> None:
    shown, state, clock, written = progress()
    shown.tick()
    clock.now += 1
    end(shown, state, 0, GOOD)
    shown.tick()
    assert all(text.startswith("\r\x1b[K[") and "\n" not in text for text in written)
    shown.close()
    assert written[-1] == "\r\x1b[K"


def test_the_line_is_never_wider_than_the_terminal() -> None:
    shown, _, _, written = progress(width=30)
    shown.tick()
    assert len(written[-1].removeprefix("\r\x1b[K")) < 30


def test_a_failure_is_told_when_it_happens_with_what_varies_and_its_log() -> None:
    shown, state, _, written = progress()
    end(shown, state, 3, BAD)
    assert written[-1] == "failed: point 3 (n=3): exit 3\n    /sw/3/stderr.log\n"


def test_thousands_of_failures_are_not_told_one_by_one() -> None:
    shown, state, _, written = progress(1000)
    for number in range(1000):
        end(shown, state, number, BAD)
    assert len([text for text in written if text.startswith("failed")]) == 50
    assert "more failures are not told one by one: rompy-hydra status /sw" in written[-1]


def test_elsewhere_plain_lines_come_ever_less_often() -> None:
    shown, _, clock, written = progress(width=None)
    for _ in range(6000):
        clock.now += 0.1
        shown.tick()
    assert all(text.endswith("\n") and "\x1b" not in text for text in written)
    assert 10 < len(written) < 20


def test_a_progress_that_lost_its_terminal_writes_plain_lines_elsewhere() -> None:
    shown, _, clock, written = progress()
    shown.tick()
    kept: list[str] = []
    shown.detach(kept.append)
    clock.now += 100
    shown.tick()
    assert len(written) == 1
    assert kept[0].endswith("waiting\n")


def test_the_bar_fills() -> None:
    state = SweepState(4)
    assert bar(state, 8) == "[........]"
    state.set_state(0, "failed")
    assert bar(state, 8) == "[##......]"


def test_keys_are_shown_by_their_last_names_where_that_is_enough() -> None:
    assert (
        swept_text({"resources.threads": 4, "backend": "local", "vars.on": True}) == "threads=4 backend=local on=true"
    )
    assert swept_text({"a.x": 1, "b.x": None}) == "a.x=1 b.x=null"
    assert len(swept_text({"a": "x" * 500})) < 50


def test_columns_stand_under_each_other() -> None:
    assert aligned([["a", "bb"], ["ccc", ""]]) == "a    bb\nccc"

"""The scheduler over points that run elsewhere: they take nothing of this machine, are gathered, and can be left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.sweep.scheduler import Announce, Handle, Task
from tests.sweep.test_scheduler import GOOD, Bench, FakeHandle


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rompy_hydra.sweep.scheduler._TICK_S", 0.001)
    monkeypatch.setattr("rompy_hydra.sweep.scheduler._CANCEL_CHECK_S", 0.001)


class RemoteHandle(FakeHandle):
    """Nothing ends that was not submitted."""

    is_submitted = False

    def take_news(self, timeout_s: float | None = 0) -> None:
        if self.is_submitted:
            super().take_news()


class FakeQueue:
    """Gathers what is handed over; `pause` submits all of it, or as much as there is room for."""

    def __init__(self, room: int | None = None) -> None:
        self.gathered: dict[int, Announce] = {}
        self.batches: list[list[int]] = []
        self.room = room

    def pause(self) -> None:
        batch = list(self.gathered)[: self.room]
        for number in batch:
            self.gathered.pop(number)(token=f"t{number}", by={"batch": f"b{len(self.batches)}", "task": 0})
        if batch:
            self.batches.append(batch)
        self.room = None if self.room is None else 0

    def look(self) -> bool:
        return False

    def withdraw(self) -> set[int]:
        numbers = set(self.gathered)
        self.gathered.clear()
        return numbers

    @property
    def held(self) -> int:
        return len(self.gathered)


class RemoteBench(Bench):
    """All points but those of `here` run elsewhere."""

    def __init__(
        self, tmp_path: Path, total: int, *, here: frozenset[int] = frozenset(), room: int | None = None, **how: Any
    ):
        self.here = here
        self.queue = FakeQueue(room)
        super().__init__(tmp_path, total, gathering=self.queue, **how)
        local = self.starter.hand_over

        def hand_over(task: Task, cpus: tuple[int, ...] | None, announce: Announce) -> Handle:
            if task.is_packed:
                return local(task, cpus, announce)
            handle = self.starter.handles[task.number] = RemoteHandle(GOOD, self.starter.looks)

            def submitted(**by: Any) -> None:
                announce(**by)
                handle.is_submitted = True

            self.queue.gathered[task.number] = submitted
            return handle

        self.starter.hand_over = hand_over  # type: ignore[method-assign]

    def when_submitted(self, do: Callable[[], None]) -> None:
        """Do it again and again, once everything has gone."""
        self.watcher.on_tick = lambda: do() if self.queue.batches and not self.queue.held else None

    def tasks(self, needs: list[Any]) -> Iterator[Task]:
        for task in super().tasks(needs):
            task.is_packed = task.number in self.here
            yield task


def test_points_that_run_elsewhere_are_submitted_together_whatever_this_machine_has(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 50, cpus=1, looks=5)
    assert bench.run() == {"succeeded": 50}
    assert bench.queue.batches == [list(range(50))]
    starts = [event for event in bench.events() if event["e"] == "start"]
    assert {event["by"]["batch"] for event in starts} == {"b0"}


def test_a_mixed_sweep_runs_both_kinds_under_one_scheduler(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 12, here=frozenset(range(6, 12)), cpus=2, looks=3)
    assert bench.run() == {"succeeded": 12}
    assert bench.queue.batches == [list(range(6))]
    assert [number for number, _, _ in bench.starter.started] == list(range(6, 12))
    assert bench.starter.most_at_once <= 2 + 6


def test_what_was_submitted_can_be_left_and_what_was_not_stays_queued(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 5, room=3, looks=10**9)
    bench.scheduler.run(until=lambda: bench.scheduler.is_held)
    assert bench.scheduler.remote == 5
    assert bench.queue.held == 2
    bench.scheduler.leave("interrupted from the keyboard")
    bench.scheduler.run()
    assert bench.state.counts() == {"queued": 2, "waiting": 3}
    assert bench.scheduler.exit_code == 130
    assert bench.scheduler.is_left


def test_all_that_is_submitted_needs_nobody(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 5, looks=10**9)
    bench.scheduler.run(until=lambda: bench.scheduler.is_all_submitted)
    assert not bench.scheduler.is_over
    assert not bench.scheduler.is_held
    assert bench.events()[-1]["why"] == "left"


def test_a_first_interruption_leaves_the_queue_where_nobody_can_be_asked(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 4, looks=10**9)
    bench.when_submitted(bench.scheduler.interrupt)
    bench.scheduler.run()
    assert bench.state.counts() == {"waiting": 4}
    assert not any(handle.cancelled for handle in bench.starter.handles.values())
    assert any("stay in the queue" in line for line in bench.watcher.lines)


def test_whoever_is_asked_may_cancel(tmp_path: Path) -> None:
    asked: list[int] = []

    def answer(remote: int) -> bool:
        asked.append(remote)
        return True

    bench = RemoteBench(tmp_path, 4, looks=10**9, ask=answer)
    bench.when_submitted(lambda: bench.scheduler.end_remote("so be it") if asked else bench.scheduler.interrupt())
    bench.scheduler.run()
    assert asked == [4]
    assert bench.state.counts() == {"cancelled": 4}
    assert bench.scheduler.exit_code == 130


def test_a_second_interruption_cancels_what_is_in_the_queue(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 3, looks=10**9, ask=lambda _: True)
    bench.when_submitted(bench.scheduler.interrupt)
    bench.scheduler.run()
    assert bench.state.counts() == {"cancelled": 3}


def test_a_termination_leaves_the_queue(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 3, looks=10**9)
    bench.when_submitted(lambda: bench.scheduler.terminate(signal.Signals.SIGTERM.name))
    bench.scheduler.run()
    assert bench.state.counts() == {"waiting": 3}
    assert bench.scheduler.exit_code == 143


def test_when_enough_have_failed_what_was_not_submitted_stays_here(tmp_path: Path) -> None:
    bench = RemoteBench(tmp_path, 6, here=frozenset({5}), room=2, looks=10**9, max_failures=1)

    def fail() -> None:
        for number, handle in bench.starter.handles.items():
            if number not in bench.queue.gathered and handle.looks > 10:
                from tests.sweep.test_scheduler import BAD

                handle.outcome, handle.looks = BAD, 1

    bench.watcher.on_tick = fail
    bench.scheduler.run()
    counts = bench.state.counts()
    assert counts["failed"] >= 1
    assert counts["queued"] == 3

"""The scheduler over fakes: order, policy, retries, interruption, refusals, the journal before the hand-over."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import ConfigError, ExecutionError, RompyHydraError, SiteError
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.sweep.journal import Journal
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lease import LeaseLostError
from rompy_hydra.sweep.packing import Budget, Need
from rompy_hydra.sweep.resume import NEVER_BEGAN
from rompy_hydra.sweep.scheduler import After, Announce, Handle, Scheduler, Task
from rompy_hydra.sweep.state import SweepState

GOOD = Outcome(state=RunState.SUCCEEDED, exit_code=0, wall_seconds=1.0)
BAD = Outcome(state=RunState.FAILED, exit_code=3, reason="exit 3")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rompy_hydra.sweep.scheduler._TICK_S", 0.001)
    monkeypatch.setattr("rompy_hydra.sweep.scheduler._CANCEL_CHECK_S", 0.001)


class FakeHandle:
    """Ends after some looks, or when it is cancelled."""

    def __init__(self, outcome: Outcome | RompyHydraError, looks: int) -> None:
        self.outcome: Outcome | RompyHydraError = outcome
        self.looks = looks
        self.cancelled = 0

    @property
    def is_over(self) -> bool:
        return self.looks <= 0

    def fileno(self) -> int:
        return -1

    def take_news(self, timeout_s: float | None = 0) -> None:
        self.looks -= 1

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        if isinstance(self.outcome, RompyHydraError):
            raise self.outcome
        return self.outcome

    def cancel(self, reason: str) -> None:
        self.cancelled += 1
        self.outcome = Outcome(state=RunState.CANCELLED, reason=reason)
        self.looks = 1


class FakeStarter:
    """Hands out handles; `outcomes` maps a point to what becomes of its attempts, one after the other."""

    def __init__(self, journal_file: Path, outcomes: dict[int, list[Any]] | None = None, looks: int = 2) -> None:
        self.outcomes = outcomes or {}
        self.looks = looks
        self.journal_file = journal_file
        self.started: list[tuple[int, int, tuple[int, ...] | None]] = []
        self.handles: dict[int, FakeHandle] = {}
        self.ready: list[int] = []
        self.retries: dict[int, float] = {}
        self.refuse_ready: dict[int, RompyHydraError] = {}
        self.on_start: Callable[[Task], None] = lambda _: None
        self.most_at_once = 0

    def make_ready(self, task: Task) -> None:
        if task.number in self.refuse_ready:
            raise self.refuse_ready[task.number]
        self.ready.append(task.number)

    def hand_over(self, task: Task, cpus: tuple[int, ...] | None, announce: Announce) -> Handle:
        announce(token=f"t{task.number}", by={"pid": 1})
        last = json.loads(self.journal_file.read_text().splitlines()[-1])
        assert (last["e"], last["n"], last["token"]) == ("start", task.number, f"t{task.number}")
        outcome = self.outcomes.get(task.number, [GOOD])
        handle = FakeHandle(outcome[min(task.attempt, len(outcome)) - 1], self.looks)
        self.handles[task.number] = handle
        self.started.append((task.number, task.attempt, cpus))
        self.most_at_once = max(self.most_at_once, sum(not h.is_over for h in self.handles.values()))
        self.on_start(task)
        return handle

    def saw_end(self, outcome: Outcome) -> None:
        pass

    def pause_before_retry(self, task: Task, outcome: Outcome) -> float | None:
        return self.retries.get(task.number) if task.attempt < 3 else None

    def after(self, task: Task) -> After | None:
        return None


class FakeWatcher:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ends: list[tuple[int, str]] = []
        self.on_tick: Callable[[], None] = lambda: None

    def started(self, task: Task) -> None:
        pass

    def ended(self, task: Task, outcome: Outcome, *, again_in_s: float | None) -> None:
        self.ends.append((task.number, outcome.state.value))

    def said(self, text: str) -> None:
        self.lines.append(text)

    def tick(self) -> None:
        self.on_tick()


class Bench:
    """A scheduler with everything around it."""

    def __init__(
        self, tmp_path: Path, total: int = 6, *, cpus: int = 2, needs: list[Need] | None = None, **how: Any
    ) -> None:
        layout = SweepLayout(tmp_path)
        self.state = SweepState(total)
        self.journal = Journal(layout, self.state)
        self.starter = FakeStarter(layout.events, how.pop("outcomes", None), how.pop("looks", 2))
        self.watcher = FakeWatcher()
        self.layout = layout
        wanted = needs or [Need()] * total
        self.scheduler = Scheduler(
            self.tasks(wanted),
            self.starter,
            self.journal,
            budget=Budget(cpus=cpus, cpu_cores=tuple((n,) for n in range(cpus))),
            watcher=self.watcher,
            **how,
        )

    def tasks(self, needs: list[Need]) -> Iterator[Task]:
        for number, need in enumerate(needs):
            yield Task(number=number, name=str(number), need=need)

    def run(self) -> dict[str, int]:
        self.scheduler.run()
        return self.state.counts()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.layout.events.read_text().splitlines()]


def test_all_points_run_in_order_and_never_too_many_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 20, cpus=3, looks=10)
    assert bench.run() == {"succeeded": 20}
    assert [number for number, _, _ in bench.starter.started] == list(range(20))
    assert bench.starter.most_at_once == 3
    assert bench.scheduler.exit_code == 0
    assert bench.events()[-1] == {**bench.events()[-1], "e": "stop", "why": "done"}


def test_points_are_made_ready_while_others_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 10, cpus=1, looks=50)
    bench.starter.on_start = lambda task: None
    bench.run()
    assert bench.starter.ready[:3] == [0, 1, 2]


def test_bound_points_get_processors_of_their_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 6, cpus=2, needs=[Need(1, bound=True)] * 6)
    bench.run()
    assert {cpus for _, _, cpus in bench.starter.started} == {(0,), (1,)}


def test_failures_do_not_stop_the_others_by_default(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 6, outcomes={1: [BAD], 3: [BAD]})
    assert bench.run() == {"succeeded": 4, "failed": 2}
    assert bench.scheduler.exit_code == 1


@pytest.mark.parametrize(("allowed", "failed"), [(1, 1), (2, 2)])
def test_after_so_many_failures_nothing_more_is_started(tmp_path: Path, allowed: int, failed: int) -> None:
    bench = Bench(tmp_path, 10, cpus=1, outcomes={n: [BAD] for n in range(10)}, max_failures=allowed)
    assert bench.run() == {"queued": 10 - failed, "failed": failed}
    assert bench.scheduler.exit_code == 1
    assert any("nothing more is started" in line for line in bench.watcher.lines)


def test_what_runs_when_the_sweep_stops_is_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 6, cpus=3, outcomes={0: [BAD]}, max_failures=1)
    bench.starter.on_start = lambda task: setattr(bench.starter.handles[task.number], "looks", 10 + 3 * task.number)
    assert bench.run() == {"queued": 3, "succeeded": 2, "failed": 1}


def test_a_failed_point_is_tried_again_as_its_rules_say(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3, outcomes={1: [BAD, BAD, GOOD]})
    bench.starter.retries = {1: 0.01}
    assert bench.run() == {"succeeded": 3}
    assert [(n, a) for n, a, _ in bench.starter.started if n == 1] == [(1, 1), (1, 2), (1, 3)]
    assert [e.get("again") for e in bench.events() if e["e"] == "end" and e["n"] == 1] == [True, True, None]
    assert bench.state.attempts_of(1) == 3


# ---- interruption


def test_the_first_interruption_lets_running_points_finish(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 8, cpus=2, looks=3)
    bench.starter.on_start = lambda task: bench.scheduler.interrupt() if task.number == 3 else None
    counts = bench.run()
    assert counts == {"queued": 4, "succeeded": 4}
    assert bench.scheduler.exit_code == 130
    assert any("waiting for 2 running" in line for line in bench.watcher.lines)
    assert all(handle.cancelled == 0 for handle in bench.starter.handles.values())


def test_the_second_interruption_ends_them_and_the_third_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 8, cpus=2, looks=10**9)
    ticks = iter(range(100))

    def tick() -> None:
        if next(ticks) in (2, 4, 6):
            bench.scheduler.interrupt()

    bench.watcher.on_tick = tick
    assert bench.run() == {"queued": 6, "cancelled": 2}
    assert bench.scheduler.exit_code == 130
    assert any("ending 2 running" in line for line in bench.watcher.lines)


def test_sigterm_ends_everything(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 8, cpus=2, looks=10**9)
    bench.starter.on_start = lambda task: bench.scheduler.terminate("SIGTERM") if task.number == 1 else None
    assert bench.run() == {"queued": 6, "cancelled": 2}
    assert bench.scheduler.exit_code == 143


def test_points_can_be_cancelled_one_by_one_running_or_waiting(tmp_path: Path) -> None:
    asked = iter([set(), {0, 3}])
    bench = Bench(tmp_path, 5, cpus=1, looks=10, cancel_requests=lambda: next(asked, set()))
    bench.starter.on_start = lambda task: setattr(bench.starter.handles[task.number], "looks", 8)
    bench.scheduler._due["cancel"] = 0
    counts = bench.run()
    assert counts["succeeded"] + counts.get("cancelled", 0) == 5


def test_a_cancelled_sweep_starts_nothing_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5, cpus=1, looks=10**9, cancel_requests=lambda: None)
    counts = bench.run()
    assert counts.get("cancelled", 0) <= 1
    assert counts["queued"] >= 4
    assert bench.scheduler.exit_code == 1


# ---- what cannot be started


def full_disk() -> SiteError:
    error = SiteError("no room")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


def test_a_point_that_is_refused_fails_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 4, outcomes={1: [ConfigError("no such directory")]})
    assert bench.run() == {"succeeded": 3, "failed": 1}
    assert [e["reason"] for e in bench.events() if e["e"] == "end" and e["n"] == 1] == ["no such directory"]


@pytest.mark.parametrize("when", ["ready", "started"])
def test_a_full_disk_stops_the_sweep_and_leaves_the_point_to_resume(tmp_path: Path, when: str) -> None:
    bench = Bench(tmp_path, 6, cpus=1, outcomes={2: [full_disk()]} if when == "started" else {})
    if when == "ready":
        bench.starter.refuse_ready[2] = full_disk()
    assert bench.run() == {"queued": 4, "succeeded": 2}
    assert bench.scheduler.exit_code == 4
    assert any("no room" in line for line in bench.watcher.lines)


def test_a_point_that_never_fits_is_told_and_not_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3, cpus=2, needs=[Need(1), Need(3), Need(1)])
    assert bench.run() == {"succeeded": 2, "failed": 1}
    (end,) = (e for e in bench.events() if e["e"] == "end" and e["n"] == 1)
    assert "there is never room" in end["reason"]


def test_a_site_that_keeps_refusing_stops_the_sweep(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 20, cpus=1, outcomes={n: [SiteError("no processes left")] for n in range(20)})
    counts = bench.run()
    assert counts["failed"] < 6
    assert bench.scheduler.exit_code == 4


def test_a_site_that_refuses_once_costs_no_point(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3, cpus=1)
    refusals = iter([ExecutionError("no process to be had")] * 2)
    hand_over = bench.starter.hand_over

    def refuse_twice(task: Task, cpus: tuple[int, ...] | None, announce: Announce) -> Handle:
        if task.number == 1 and (error := next(refusals, None)):
            announce(token="t1")
            raise error
        return hand_over(task, cpus, announce)

    bench.starter.hand_over = refuse_twice  # type: ignore[method-assign]
    assert bench.run() == {"succeeded": 3}
    assert [e["e"] for e in bench.events() if e.get("n") == 1] == ["start", "back", "start", "back", "start", "end"]


class LostLease:
    """A lease that somebody takes over after some beats."""

    def __init__(self, beats: int) -> None:
        self.beats = beats

    def beat(self) -> None:
        self.beats -= 1
        if self.beats < 0:
            raise LeaseLostError("taken over")


def test_a_driver_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 9, cpus=1, looks=10**9, lease=LostLease(5))
    before: list[int] = []
    bench.watcher.said = lambda text: before.append(bench.layout.events.stat().st_size)  # type: ignore[method-assign]
    bench.run()
    assert bench.layout.events.stat().st_size == before[0]
    assert bench.scheduler.exit_code == 4
    assert all(handle.cancelled == 0 for handle in bench.starter.handles.values())


def test_a_stream_that_breaks_stops_the_sweep_with_its_exit_code(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 6, cpus=1)

    def broken(needs: list[Need]) -> Iterator[Task]:
        yield Task(number=0, name="0")
        raise ConfigError("an input is gone")

    bench.scheduler._tasks = broken([])
    assert bench.run() == {"queued": 5, "succeeded": 1}
    assert bench.scheduler.exit_code == 2


# ---- adopted points


def test_an_adopted_point_takes_its_part_of_the_budget(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 4, cpus=2)
    bench.scheduler._tasks = iter([Task(number=n, name=str(n), need=Need(2)) for n in (1, 2, 3)])
    orphan = FakeHandle(GOOD, 5)
    bench.journal.write("start", n=0, a=1, token="old")
    bench.scheduler.adopt(Task(number=0, name="0", need=Need(1)), orphan)
    order: list[tuple[int, bool]] = []
    bench.starter.on_start = lambda task: order.append((task.number, orphan.is_over))
    assert bench.run() == {"succeeded": 4}
    assert order[0] == (1, True)


@pytest.mark.parametrize(("reason", "attempt"), [(NEVER_BEGAN, 1), ("its keeper is gone", 2)])
def test_an_adopted_point_that_is_lost_is_started_again(tmp_path: Path, reason: str, attempt: int) -> None:
    bench = Bench(tmp_path, 1)
    bench.scheduler._tasks = iter(())
    bench.journal.write("start", n=0, a=1, token="old")
    bench.scheduler.adopt(Task(number=0, name="0"), FakeHandle(Outcome(state=RunState.LOST, reason=reason), 3))
    assert bench.run() == {"succeeded": 1}
    assert bench.starter.started == [(0, attempt, None)]
    kinds = [e["e"] for e in bench.events() if e.get("n") == 0]
    assert kinds == ["start", "back" if attempt == 1 else "end", "start", "end"]

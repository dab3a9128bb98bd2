"""Driving a sweep from where it stands to its end: a new one, or one that an earlier driver left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.point import InvalidPoint, Point
from rompy_hydra.plan.retry import RetrySpec
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.states import RunState
from rompy_hydra.steps.lookups import Lookups
from rompy_hydra.sweep.cancel import read_cancel_request
from rompy_hydra.sweep.cost import planned_cost
from rompy_hydra.sweep.invalid import InvalidPoints
from rompy_hydra.sweep.journal import Journal
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lease import Lease
from rompy_hydra.sweep.lines import short
from rompy_hydra.sweep.packing import Need
from rompy_hydra.sweep.resume import NEVER_BEGAN, Fate, OrphanHandle, Verdict, find_out
from rompy_hydra.sweep.scheduler import Scheduler, Task, Watcher, end_fields
from rompy_hydra.sweep.settings import SweepSettings
from rompy_hydra.sweep.state import Started, SweepState, read_state, write_digest
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.sweeping.lanes import Lane, Lanes, open_lane
from rompy_hydra.sweeping.planning import REMOTE
from rompy_hydra.sweeping.starting import PointStarter, ReadyPoint
from rompy_hydra.workspace.layout import RunLayout

if TYPE_CHECKING:
    from rompy_hydra.sweeping.own_queue import OwnQueue
    from rompy_hydra.sweeping.slurm_lane import SlurmLane


def driver_event() -> dict[str, Any]:
    """Who we are, for the journal."""
    return ProcessIdentity.of().to_dict()


Compose = Callable[[Iterable[Mapping[str, Any]]], Iterator[Point]]
"""Composes points as lines of `plan.jsonl` describe them; raises what is wrong with one."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """All that it takes to drive a sweep from where it stands to its end."""

    layout: SweepLayout
    lease: Lease
    settings: SweepSettings
    lookups: Lookups
    sweep_id: str
    fan_out: bool
    total: int
    backends: Mapping[str, int] = field(default_factory=dict)
    needs_driver: bool = False
    queue: OwnQueue | None = None
    ask: Callable[[int], bool] = lambda _: False
    open_lane: Callable[[str, int], Lane] = open_lane

    @property
    def is_mixed(self) -> bool:
        """Whether some points run on this machine and others elsewhere."""
        return len({backend in REMOTE for backend in self.backends}) > 1

    @property
    def is_remote(self) -> bool:
        """Whether no point needs this machine."""
        return bool(self.backends) and self.backends.keys() <= REMOTE and self.queue is None

    def start(
        self, points: Callable[[], Iterator[Point | InvalidPoint]], make_watcher: Callable[[SweepState], Watcher]
    ) -> tuple[Scheduler, Lanes]:
        """The scheduler of a new sweep; nothing is started yet."""
        state = read_state(self.layout, self.total)

        def tasks(starter: PointStarter) -> Iterator[Task]:
            valid = (p for p in self._remote_first(points) if isinstance(p, Point) and state.is_open(p.number))
            return self._with_warm_up(starter, map(starter.task, valid))

        return self._scheduler(state, make_watcher, tasks)

    def _remote_first(self, points: Callable[[], Iterator[Point | InvalidPoint]]) -> Iterator[Point | InvalidPoint]:
        """What runs elsewhere first: the queue takes its time, and needs nothing of this machine."""
        if not self.is_mixed:
            return points()
        return itertools.chain(filter(_is_remote, points()), itertools.filterfalse(_is_remote, points()))

    def resume(
        self,
        state: SweepState,
        compose: Compose,
        make_watcher: Callable[[SweepState], Watcher],
        *,
        again: Collection[str] = (RunState.LOST, RunState.CANCELLED),
    ) -> tuple[Scheduler, Lanes]:
        """The scheduler of a sweep that an earlier driver left: it takes in what still runs and starts what is left.

        `again` are the states whose points are started once more, beside those that never ended.
        """
        self._check_budget(set(state.numbers(RunState.QUEUED, RunState.WAITING, *again)) - state.started.keys())
        numbers = set(state.started)
        lines = {line["n"]: line for line in plan_lines(self.layout, numbers)}
        verdicts = {n: find_out(self._run_layout(lines[n]), state.started[n]) for n in sorted(numbers)}

        def tasks(starter: PointStarter) -> Iterator[Task]:
            wanted = set(state.numbers(RunState.QUEUED, RunState.WAITING, *again)) - state.started.keys()
            return self._with_warm_up(starter, self._left(compose, wanted, starter, state))

        def point_again(number: int) -> Point:
            return next(compose(plan_lines(self.layout, {number})))

        before = dict(state.started)
        scheduler, lanes = self._scheduler(
            state, make_watcher, tasks, point_again=point_again, verdicts=verdicts, lines=lines
        )
        for number, verdict in verdicts.items():
            if verdict.fate is Fate.RUNNING:
                self._adopt(scheduler, lanes, lines[number], before[number], verdict)
        for number in sorted(state.unposted):
            line = next(plan_lines(self.layout, {number}))
            scheduler.postprocess(Task(number=number, name=line["name"]))
        return scheduler, lanes

    def _left(self, compose: Compose, wanted: set[int], starter: PointStarter, state: SweepState) -> Iterator[Task]:
        """What runs elsewhere first: the queue takes its time, and needs nothing of this machine."""
        lines = list(plan_lines(self.layout, wanted)) if self.is_mixed else []
        if not lines:
            yield from _tasks_again(compose, plan_lines(self.layout, wanted), starter, state)
            return
        for is_remote in (True, False):
            part = {line["n"] for line in lines if (line.get("backend") in REMOTE) is is_remote}
            yield from _tasks_again(compose, plan_lines(self.layout, part), starter, state)

    def _adopt(
        self, scheduler: Scheduler, lanes: Lanes, line: Mapping[str, Any], started: Started, verdict: Verdict
    ) -> None:
        """Take in a point that an earlier driver started, and that has not ended as far as is known."""
        need = Need(line.get("cpus", 1), line.get("memory"))
        task = Task(number=line["n"], name=line["name"], need=need, attempt=started.attempt, cost=planned_cost(line))
        layout = self._run_layout(line)
        if (batch := started.watcher.get("batch")) is None:
            scheduler.adopt(task, OrphanHandle(layout, started, verdict.keeper))
            return
        task.is_packed = False
        job_id = scheduler.state.jobs.get(batch)
        handle = lanes.slurm.adopt(line["n"], str(layout.run_dir), started, None if job_id is None else int(job_id))
        scheduler.adopt(task, handle)

    def _check_budget(self, numbers: set[int]) -> None:
        """Here may be less than where the sweep was planned: what could never start is told before anything does."""
        budget = self.settings.budget()
        wrong = InvalidPoints()
        for line in plan_lines(self.layout, numbers):
            if line.get("backend") in REMOTE:
                continue
            if (finding := budget.why_never(Need(line.get("cpus", 1), line.get("memory")))) is not None:
                error = ConfigError("a point can never start", [finding])
                wrong.add(InvalidPoint(number=line["n"], name=line["name"], overrides=(), error=error))
        if wrong:
            raise wrong.error(self.total)

    def _with_warm_up(self, starter: PointStarter, tasks: Iterator[Task]) -> Iterator[Task]:
        first = next(tasks, None) if self.settings.timing else None
        if first is not None:
            ready: ReadyPoint = first.content
            if first.is_packed:  # what runs on a node of a cluster is warmed up by nothing that is done here
                yield starter.warm_up(ready.point)
            yield first
        yield from tasks

    def _run_layout(self, line: Mapping[str, Any]) -> RunLayout:
        return RunLayout(directory_of(self.layout, line, fan_out=self.fan_out), flat=True)

    def _scheduler(
        self,
        state: SweepState,
        make_watcher: Callable[[SweepState], Watcher],
        tasks: Callable[[PointStarter], Iterator[Task]],
        *,
        point_again: Callable[[int], Point] | None = None,
        verdicts: Mapping[int, Verdict] | None = None,
        lines: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> tuple[Scheduler, Lanes]:
        budget = self.settings.budget()
        journal = Journal(self.layout, state)
        watcher = make_watcher(state)
        lanes = Lanes(min(budget.at_once, self.total), self.open_lane, lambda: self._slurm_lane(journal, watcher))
        starter = PointStarter(
            self.layout,
            self.lookups,
            lanes,
            sweep_id=self.sweep_id,
            fan_out=self.fan_out,
            is_resumed=point_again is not None,
            point_again=point_again,
        )
        journal.write("driver", **driver_event())
        for number, verdict in (verdicts or {}).items():
            _settle(journal, number, verdict, (lines or {})[number])
        scheduler = Scheduler(
            tasks(starter),
            starter,
            journal,
            budget=budget,
            watcher=watcher,
            lease=self.lease,
            max_failures=self.settings.max_failures,
            cancel_requests=lambda: read_cancel_request(self.layout),
            digest=lambda: write_digest(self.layout, state),
            gathering=lanes,
            ask=self.ask,
        )
        return scheduler, lanes

    def _slurm_lane(self, journal: Journal, watcher: Watcher) -> SlurmLane:
        from rompy_hydra.sweeping.slurm_lane import Diary, SlurmLane

        def told_back(number: int, attempt: int, why: str) -> None:
            journal.write("back", n=number, a=attempt, why=short(why))

        diary = Diary(
            job=lambda batch, job_id: journal.write("job", batch=batch, id=job_id),
            sync=journal.sync,
            began=lambda number: journal.state.set_state(number, RunState.RUNNING),
            told_back=told_back,
            said=watcher.said,
        )
        return SlurmLane(self.layout, self.settings, diary, slurm=self.queue)


def _is_remote(point: Point | InvalidPoint) -> bool:
    return isinstance(point, Point) and point.plan.spec.backend.type in REMOTE


def _tasks_again(
    compose: Compose, lines: Iterator[dict[str, Any]], starter: PointStarter, state: SweepState
) -> Iterator[Task]:
    """The points that are left; each must be the one that was submitted."""
    first, second = itertools.tee(lines)
    for point, line in zip(compose(first), second, strict=True):
        task = starter.task(point, state.attempts_of(point.number) + 1)
        ready: ReadyPoint = task.content
        if ready.prepared.science_id != line["science"]:
            raise ConfigError(
                f"point {point.name} is another simulation now than when the sweep was submitted",
                [
                    Finding(
                        key="science_id",
                        value=ready.prepared.science_id,
                        rule=f"it was {line['science']}: an input, the model's program or a variable that the "
                        "configuration reads has changed",
                        mend="put it back, or type: rompy-hydra resume --update",
                    )
                ],
            )
        yield task


def _settle(journal: Journal, number: int, verdict: Verdict, line: Mapping[str, Any]) -> None:
    """Write down what became of an attempt whose driver died."""
    started = journal.state.started[number]
    outcome = verdict.outcome
    if verdict.fate is Fate.NEVER_BEGAN:
        journal.write("back", n=number, a=started.attempt, why=NEVER_BEGAN)
    elif outcome is not None:
        fields = {**end_fields(number, started.attempt, outcome), **planned_cost(line)}
        if started.retry is not None:
            rules = RetrySpec.model_validate(started.retry)
            if started.attempt < rules.attempts and rules.wants(outcome.state.value, outcome.exit_code):
                fields["again"] = True
        if outcome.succeeded and started.has_after:
            fields["post"] = True
        journal.write_end(**fields)

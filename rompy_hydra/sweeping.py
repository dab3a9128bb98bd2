"""The path of a sweep on one screen.

    points → plan.jsonl (all are checked before the first starts) → tasks → scheduler → journal, records

A point takes the way of a single run (`workflow`): prepared, its workspace filled, its job handed to an executor, its
record kept.  What is different: what all points share is looked up once, a point's directory is flat, and the journal
says who runs before the record does.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rompy_hydra.errors import ConfigError, Finding, RompyHydraError, SiteError
from rompy_hydra.plan.identity import marked, point_id
from rompy_hydra.plan.point import InvalidPoint, Point
from rompy_hydra.plan.retry import RetrySpec
from rompy_hydra.record import store
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.redaction import redact, redact_override
from rompy_hydra.run.base import Job
from rompy_hydra.run.local import LocalExecutor
from rompy_hydra.run.placement import says_cpus
from rompy_hydra.sweep.cancel import read_cancel_request
from rompy_hydra.sweep.invalid import InvalidPoints
from rompy_hydra.sweep.journal import Journal
from rompy_hydra.sweep.layout import SweepLayout, check_point_directory, point_directory
from rompy_hydra.sweep.lease import Lease
from rompy_hydra.sweep.lines import dump_line, short
from rompy_hydra.sweep.packing import Budget, Need
from rompy_hydra.sweep.resume import NEVER_BEGAN, Fate, OrphanHandle, Verdict, find_out
from rompy_hydra.sweep.scheduler import After, Announce, Handle, Scheduler, Task, Watcher, end_fields
from rompy_hydra.sweep.settings import SweepSettings
from rompy_hydra.sweep.state import SweepState, write_digest
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.workflow import Lookups, Prepared, fill_workspace, first_record, make_job, prepare
from rompy_hydra.workspace.layout import RunLayout

Points = Iterator[Point | InvalidPoint]

_LONG_ENOUGH_S = 0.5
"""Runs that take longer than that get a record from their first moment on; it costs some milliseconds."""


class Lane(Protocol):
    """One kind of backend under the scheduler: where its points go."""

    is_packed: bool
    """Whether its points take their part of this machine."""

    def hand_over(self, job: Job, record: dict[str, Any], announce: Announce) -> Handle:
        """Announce the attempt with its token and who will watch it, then start it."""
        ...

    def close(self) -> None:
        """Let go; what runs goes on."""
        ...


class LocalLane:
    """This machine, by keepers."""

    is_packed = True

    def __init__(self, at_once: int) -> None:
        self._executor = LocalExecutor()
        self._at_once = at_once

    def warm(self) -> None:
        """Have the keepers ready that will be needed."""
        self._executor.warm(min(self._at_once, 64))

    def hand_over(self, job: Job, record: dict[str, Any], announce: Announce) -> Handle:
        """The keeper is taken first, so that the journal can name it before it gets anything."""
        token = secrets.token_hex(8)
        if job.target is not None or job.stdout is None or job.stderr is None:
            # It gets a keeper of its own, which nobody knows yet: the record, made before it, is what tells.
            announce(token=token)
            return self._executor.submit(job, record, token=token)
        keeper = self._executor.take()
        try:
            announce(token=token, by={"pid": keeper.pid, "start_time": keeper.identity.start_time})
        except SiteError:
            self._executor.give_back(keeper)
            raise
        return self._executor.submit(job, record, token=token, keeper=keeper)

    def close(self) -> None:
        """Idle keepers end; busy ones when their run is recorded."""
        self._executor.close()


@dataclass(slots=True)
class ReadyPoint:
    """A point whose directory is there."""

    point: Point
    prepared: Prepared
    layout: RunLayout
    generated: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPoint:
    """What `plan.jsonl` keeps of a point."""

    number: int
    name: str
    subdir: str | None
    overrides: tuple[str, ...]
    swept: Mapping[str, Any]
    repeat: int
    science_id: str
    point_id: str
    need: Need
    time_limit_s: float | None
    backend: str
    inodes: int
    bytes: int
    argv: tuple[str, ...] = ()

    def line(self) -> dict[str, Any]:
        """The line."""
        fields: dict[str, Any] = {"n": self.number, "name": self.name}
        if self.subdir is not None:
            fields["dir"] = self.subdir
        fields |= {"overrides": list(self.overrides), "swept": dict(self.swept)}
        if self.repeat:
            fields["repeat"] = self.repeat
        fields |= {"science": self.science_id, "point": self.point_id, "cpus": self.need.cpus}
        if self.need.memory_bytes is not None:
            fields["memory"] = self.need.memory_bytes
        if self.time_limit_s is not None:
            fields["limit"] = self.time_limit_s
        if self.backend != "local":
            fields["backend"] = self.backend
        return fields


def need_of(prepared: Prepared) -> Need:
    """What a point takes of the machine."""
    resources = prepared.resources
    return Need(resources.cpus, resources.memory, bound=says_cpus(prepared.spec.resources, resources))


def plan_point(point: Point, lookups: Lookups) -> tuple[PlannedPoint, Prepared]:
    """Everything that can be known of a point before it is started; raises what is wrong with it."""
    prepared = prepare(point.plan, lookups=lookups)
    limits = [x for x in (prepared.spec.backend.timeout, prepared.resources.time_limit) if x is not None]
    inputs = prepared.inputs
    copied = sum(file.bytes for file in inputs if file.mode == "copy")
    folders = {parent for file in (*prepared.files,) for parent in file.path.parents} - {Path()}
    planned = PlannedPoint(
        number=point.number,
        name=point.name,
        subdir=point.subdir,
        overrides=point.overrides,
        swept=point.swept,
        repeat=point.repeat,
        science_id=prepared.science_id,
        point_id=_point_id(point, prepared),
        need=need_of(prepared),
        time_limit_s=min(limits) if limits else None,
        backend=prepared.spec.backend.type,
        inodes=4 + len(prepared.files) + len(inputs) + len(folders),
        bytes=sum(file.size for file in prepared.files) + copied,
        argv=prepared.program.argv,
    )
    return planned, prepared


def _point_id(point: Point, prepared: Prepared) -> str:
    """Science, the execution keys that this sweep varies, and the repeat."""
    execution: dict[str, Any] = {}
    if point.swept:
        spec = prepared.spec
        roots = tuple(point.swept)
        named = ("model", "backend", "resources", "site", "postprocess")
        # A group like `env` may set anything: then every execution key counts.
        sets_all = any(root in point.plan.choices and root not in named for root in roots)
        execution = {
            key: value
            for key, value in marked(spec, "execution")
            if sets_all or any(key == root or key.startswith(f"{root}.") for root in roots)
        }
        if sets_all or any(root.split(".")[0] == "backend" for root in roots):
            execution["backend.type"] = spec.backend.type
    return point_id(prepared.science_id, execution, point.repeat)


class PointStarter:
    """Starts the points of one sweep: `sweep.scheduler.Starter` over the path of a run."""

    def __init__(
        self,
        layout: SweepLayout,
        lookups: Lookups,
        lanes: Callable[[str], Lane],
        *,
        sweep_id: str,
        fan_out: bool,
        is_resumed: bool = False,
        point_again: Callable[[int], Point] | None = None,
    ) -> None:
        """`point_again` composes a point of which only the number is known; `is_resumed`: directories may be there."""
        self._layout = layout
        self._lookups = lookups
        self._lanes = lanes
        self._sweep_id = sweep_id
        self._fan_out = fan_out
        self._is_resumed = is_resumed
        self._point_again = point_again
        self._made: set[str] = set()
        self._usual_wall_s = _LONG_ENOUGH_S * 2
        self._processing = _Processing()

    def task(self, point: Point, attempt: int = 1) -> Task:
        """The point as the scheduler sees it."""
        content = self._prepared(point)
        lane = self._lanes(content.prepared.spec.backend.type)
        return Task(
            number=point.number,
            name=point.name,
            need=need_of(content.prepared),
            attempt=attempt,
            is_packed=lane.is_packed,
            content=content,
        )

    def _prepared(self, point: Point) -> ReadyPoint:
        directory = point_directory(point.number, point.name, point.subdir, fan_out=self._fan_out)
        layout = RunLayout(self._layout.point(directory), flat=True)
        plan = point.plan.placed(layout.run_dir.parent, layout.run_dir.name)
        return ReadyPoint(point, prepare(plan, lookups=self._lookups), layout)

    def _content(self, task: Task) -> ReadyPoint:
        if task.content is None:
            assert self._point_again is not None
            task.content = self._prepared(self._point_again(task.number))
        content: ReadyPoint = task.content
        return content

    def make_ready(self, task: Task) -> None:
        """Its directory with the generated workspace."""
        ready = self._content(task)
        self._make_directory(ready.layout.run_dir)
        ready.generated = fill_workspace(ready.layout, ready.prepared)

    def _make_directory(self, directory: Path) -> None:
        parent = os.path.dirname(directory)  # noqa: PTH120 - thousands of times a second
        try:
            if parent not in self._made:
                os.makedirs(parent, exist_ok=True)  # noqa: PTH103
                self._made.add(parent)
            os.mkdir(directory)  # noqa: PTH102
        except FileExistsError as error:
            if not self._is_resumed:
                raise SiteError(f"the point's directory {directory} is there already, and is not ours") from error
        except OSError as error:
            raise SiteError(f"the point's directory {directory} cannot be made: {error.strerror}") from error

    def hand_over(self, task: Task, cpus: tuple[int, ...] | None, announce: Announce) -> Handle:
        """Announce it and hand it to the lane of its backend."""
        ready = self._content(task)
        prepared = ready.prepared
        lane = self._lanes(prepared.spec.backend.type)
        job = make_job(
            prepared,
            ready.layout,
            ready.generated,
            attempt=task.attempt,
            cpus=cpus,
            record_start=self._usual_wall_s > _LONG_ENOUGH_S,
        )
        if job.target is not None or job.stdout is None:
            job = replace(job, record_start=True)  # its keeper is nobody's before it has it: the record tells
        more: dict[str, Any] = {}
        if (retry := prepared.spec.retry).attempts > 1:
            more["retry"] = retry.model_dump(mode="json", include={"attempts", "on_states", "on_exit_codes"})
        if prepared.spec.postprocess.processor != "noop":
            more["post"] = True
        return lane.hand_over(job, self._record(task, ready), partial(announce, **more) if more else announce)

    def _record(self, task: Task, ready: ReadyPoint) -> dict[str, Any]:
        point = ready.point
        record = first_record(ready.layout, ready.prepared)
        record["point_id"] = _point_id(point, ready.prepared)
        record["sweep"] = {
            "id": self._sweep_id,
            "directory": str(self._layout.sweep_dir),
            "number": point.number,
            "name": point.name,
            "swept": dict(point.swept),
            "repeat": point.repeat,
        }
        if task.attempt > 1:
            try:
                record["attempts"] = store.load_record(ready.layout.run_dir).get("attempts", [])
            except (OSError, ValueError):
                record["attempts"] = []  # an attempt that left no record: its keeper was killed
        return record

    def saw_end(self, outcome: Outcome) -> None:
        """Learn how long runs take."""
        if outcome.wall_seconds is not None:
            self._usual_wall_s += (outcome.wall_seconds - self._usual_wall_s) * 0.3

    def pause_before_retry(self, task: Task, outcome: Outcome) -> float | None:
        """As the point's `retry` says."""
        rules = self._content(task).prepared.spec.retry
        if task.attempt >= rules.attempts or not rules.wants(outcome.state.value, outcome.exit_code):
            return None
        return float(min(rules.max_wait, rules.wait * 2 ** (task.attempt - 1)))

    def after(self, task: Task) -> After | None:
        """Its postprocessor, if it has one that does something."""
        ready = self._content(task)
        if ready.prepared.spec.postprocess.processor == "noop":
            return None
        return self._processing.add(ready.layout.run_dir)


class _Processing:
    """Postprocessors in processes of their own, two at a time: they may use any library, and take their time."""

    def __init__(self, at_once: int = 2) -> None:
        self._at_once = at_once
        self.running: set[_Process] = set()

    def add(self, run_dir: Path) -> After:
        return _Process(self, run_dir)

    def has_room(self) -> bool:
        return len(self.running) < self._at_once


class _Process:
    """One of them."""

    def __init__(self, all_of_them: _Processing, run_dir: Path) -> None:
        self._all = all_of_them
        self._run_dir = run_dir
        self._process: subprocess.Popen[bytes] | None = None

    def poll(self) -> bool | None:
        """Start it when it is its turn; whether it succeeded."""
        if self._process is None:
            if self._all.has_room():
                code = "import sys; from rompy_hydra.workflow import postprocess_again as p; sys.exit(p(sys.argv[1]))"
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code, str(self._run_dir)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._all.running.add(self)
            return None
        if self._process.poll() is None:
            return None
        self._all.running.discard(self)
        return self._process.returncode == 0

    def cancel(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._all.running.discard(self)


class Lanes:
    """The lanes of a sweep, made when a point needs one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._made: dict[str, Lane] = {}

    def __call__(self, backend: str) -> Lane:
        """The lane of a type of backend."""
        if backend not in self._made:
            self._made[backend] = LocalLane(self._at_once)
        return self._made[backend]

    def warm(self) -> None:
        """Have ready what is slow to start."""
        for lane in self._made.values():
            if isinstance(lane, LocalLane):
                lane.warm()

    def close(self) -> None:
        """Let go of all; what runs goes on."""
        for lane in self._made.values():
            lane.close()


def driver_event() -> dict[str, Any]:
    """Who we are, for the journal."""
    return ProcessIdentity.of().to_dict()


def check(points: Points, lookups: Lookups, budget: Budget) -> Iterator[PlannedPoint | InvalidPoint]:
    """Every point as far as it can be known; what is wrong with one does not hide the others."""
    directories: set[int] = set()
    for point in points:
        if isinstance(point, InvalidPoint):
            yield point
            continue
        try:
            planned, _ = plan_point(point, lookups)
            _check_fits(planned, budget)
            _check_directory(planned, directories)
        except RompyHydraError as error:
            wrong = error if isinstance(error, ConfigError) else ConfigError(str(error))
            wrong.__cause__ = error
            yield InvalidPoint(
                number=point.number,
                name=point.name,
                overrides=point.overrides,
                error=wrong,
                swept=point.swept,
                repeat=point.repeat,
            )
        else:
            yield planned


def _check_fits(planned: PlannedPoint, budget: Budget) -> None:
    if (finding := budget.why_never(planned.need)) is not None:
        raise ConfigError("a point can never start", [finding])


def _check_directory(planned: PlannedPoint, directories: set[int]) -> None:
    place = planned.subdir if planned.subdir is not None else planned.name
    why = check_point_directory(place, planned.number)
    if why is None and hash(place) in directories:
        why = f"point {planned.number}: another point lies in '{place}' already"
    if why is not None:
        mend = "let hydra.sweep.subdir tell the points apart, as by ${hydra:job.num}"
        raise ConfigError("a point has no directory of its own", [Finding("hydra.sweep.subdir", why, mend=mend)])
    directories.add(hash(place))


# ---- a new sweep -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What planning found."""

    total: int
    invalid: int
    core_seconds: float | None
    """cpus times time limit of all points; None where a point has no limit."""


def write_plan(
    layout: SweepLayout,
    checked: Iterator[PlannedPoint | InvalidPoint],
    *,
    skip_invalid: bool,
    tick: Callable[[int], None],
) -> tuple[Submitted, InvalidPoints]:
    """`plan.jsonl`, and the events that say which points are left out.

    Raises `ConfigError` with every finding of every point, unless the invalid ones are to be skipped.
    """
    invalid = InvalidPoints()
    total = 0
    core_seconds: float | None = 0.0
    with layout.plan.open("wb") as plan:
        for point in checked:
            total += 1
            tick(total)
            if isinstance(point, InvalidPoint):
                invalid.add(point)
                line = {"n": point.number, "name": point.name, "overrides": list(point.overrides)}
                line |= {"swept": dict(point.swept), "invalid": short(str(point.error).splitlines()[-1])}
            else:
                line = point.line()
                limit = point.time_limit_s
                core_seconds = None if core_seconds is None or limit is None else core_seconds + limit * point.need.cpus
            plan.write(_plan_line(layout, line))
        plan.flush()
        os.fsync(plan.fileno())
    if invalid and (not skip_invalid or len(invalid) == total):
        raise invalid.error(total)
    return Submitted(total=total, invalid=len(invalid), core_seconds=core_seconds), invalid


def _plan_line(layout: SweepLayout, fields: dict[str, Any]) -> bytes:
    """A line; what is too long for one goes into a file of its own."""
    shown = [redact_override(o) for o in fields["overrides"]]
    if shown != fields["overrides"]:
        fields |= {"overrides": shown, "redacted": True}
    fields["swept"] = redact(fields["swept"])
    try:
        return dump_line(fields)
    except ValueError:
        aside = layout.snapshot / "points" / f"{fields['n']}.json"
        aside.parent.mkdir(exist_ok=True, parents=True)
        long = {name: fields.pop(name) for name in ("overrides", "swept")}
        aside.write_bytes(json.dumps(long).encode())
        return dump_line({**fields, "aside": True})


# ---- driving it ------------------------------------------------------------------------------------------------------


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

    def start(
        self, points: Iterator[Point | InvalidPoint], make_watcher: Callable[[SweepState], Watcher]
    ) -> tuple[Scheduler, Lanes]:
        """The scheduler of a new sweep; nothing is started yet."""
        state = SweepState(self.total)
        return self._scheduler(state, make_watcher, lambda starter: _new_tasks(points, starter))

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
        numbers = set(state.started)
        lines = {line["n"]: line for line in plan_lines(self.layout, numbers)}
        verdicts = {n: find_out(self._run_layout(lines[n]), state.started[n]) for n in sorted(numbers)}

        def tasks(starter: PointStarter) -> Iterator[Task]:
            wanted = set(state.numbers(RunState.QUEUED, RunState.WAITING, *again))
            return _tasks_again(compose, plan_lines(self.layout, wanted), starter, state)

        def point_again(number: int) -> Point:
            return next(compose(plan_lines(self.layout, {number})))

        before = dict(state.started)
        scheduler, lanes = self._scheduler(state, make_watcher, tasks, point_again=point_again, verdicts=verdicts)
        for number, verdict in verdicts.items():
            if verdict.fate is Fate.RUNNING:
                need = Need(lines[number].get("cpus", 1), lines[number].get("memory"))
                task = Task(number=number, name=lines[number]["name"], need=need, attempt=before[number].attempt)
                scheduler.adopt(task, OrphanHandle(self._run_layout(lines[number]), before[number], verdict.keeper))
        for number in sorted(state.unposted):
            line = next(plan_lines(self.layout, {number}))
            scheduler.postprocess(Task(number=number, name=line["name"]))
        return scheduler, lanes

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
    ) -> tuple[Scheduler, Lanes]:
        budget = self.settings.budget()
        lanes = Lanes(min(budget.at_once, self.total))
        starter = PointStarter(
            self.layout,
            self.lookups,
            lanes,
            sweep_id=self.sweep_id,
            fan_out=self.fan_out,
            is_resumed=point_again is not None,
            point_again=point_again,
        )
        journal = Journal(self.layout, state)
        journal.write("driver", **driver_event())
        for number, verdict in (verdicts or {}).items():
            _settle(journal, number, verdict)
        scheduler = Scheduler(
            tasks(starter),
            starter,
            journal,
            budget=budget,
            watcher=make_watcher(state),
            lease=self.lease,
            max_failures=self.settings.max_failures,
            cancel_requests=lambda: read_cancel_request(self.layout),
            digest=lambda: write_digest(self.layout, state),
        )
        return scheduler, lanes


def _new_tasks(points: Iterator[Point | InvalidPoint], starter: PointStarter) -> Iterator[Task]:
    return (starter.task(point) for point in points if isinstance(point, Point))


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


def _settle(journal: Journal, number: int, verdict: Verdict) -> None:
    """Write down what became of an attempt whose driver died."""
    started = journal.state.started[number]
    outcome = verdict.outcome
    if verdict.fate is Fate.NEVER_BEGAN:
        journal.write("back", n=number, a=started.attempt, why=NEVER_BEGAN)
    elif outcome is not None:
        fields = end_fields(number, started.attempt, outcome)
        if started.retry is not None:
            rules = RetrySpec.model_validate(started.retry)
            if started.attempt < rules.attempts and rules.wants(outcome.state.value, outcome.exit_code):
                fields["again"] = True
        if outcome.succeeded and started.has_after:
            fields["post"] = True
        journal.write_end(**fields)

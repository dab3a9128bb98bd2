"""Starting points: a point takes the way of a single run.

What is different: what all points share is looked up once, a point's directory is flat, and the journal says who runs
before the record does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rompy_hydra.errors import SiteError
from rompy_hydra.plan.point import Point
from rompy_hydra.record import store
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.redaction import redact
from rompy_hydra.run.plugin import executor_of
from rompy_hydra.steps.claim import first_record
from rompy_hydra.steps.jobs import fill_workspace, make_job
from rompy_hydra.steps.lookups import Lookups
from rompy_hydra.steps.prepare import Prepared, prepare
from rompy_hydra.sweep.layout import SweepLayout, point_directory
from rompy_hydra.sweep.scheduler import NOT_COUNTED, After, Announce, Handle, Task
from rompy_hydra.sweeping.lanes import Lane
from rompy_hydra.sweeping.planning import need_of, point_identity
from rompy_hydra.sweeping.processing import Processing
from rompy_hydra.workspace.layout import RunLayout

_LONG_ENOUGH_S = 0.5
"""Runs that take longer than that get a record from their first moment on; it costs some milliseconds."""


@dataclass(slots=True)
class ReadyPoint:
    """A point whose directory is there."""

    point: Point
    prepared: Prepared
    layout: RunLayout
    generated: Mapping[str, tuple[int, int]] = field(default_factory=dict)


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
        self._processing = Processing()

    def task(self, point: Point, attempt: int = 1) -> Task:
        """The point as the scheduler sees it."""
        content = self._prepared(point)
        lane = self._lanes(executor_of(content.prepared.spec.backend))
        return Task(
            number=point.number,
            name=point.name,
            need=need_of(content.prepared),
            attempt=attempt,
            is_packed=lane.is_packed,
            content=content,
        )

    def warm_up(self, point: Point) -> Task:
        """The point once more, before all others and not measured: files are in the cache then, code is compiled."""
        layout = RunLayout(self._layout.warm_up, flat=True)
        shutil.rmtree(layout.run_dir, ignore_errors=True)  # of an earlier driver of this sweep
        prepared = prepare(point.plan.placed(layout.run_dir.parent, layout.run_dir.name), lookups=self._lookups)
        content = ReadyPoint(point, prepared, layout)
        return Task(number=NOT_COUNTED, name="warm-up", need=need_of(prepared), content=content)

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
        self._make_directory(ready.layout.run_dir, ready.prepared.science_id)
        ready.generated = fill_workspace(ready.layout, ready.prepared)

    def _make_directory(self, directory: Path, science: str) -> None:
        parent = os.path.dirname(directory)  # noqa: PTH120 - thousands of times a second
        try:
            if parent not in self._made:
                os.makedirs(parent, exist_ok=True)  # noqa: PTH103
                self._made.add(parent)
            os.mkdir(directory)  # noqa: PTH102
        except FileExistsError as error:
            if not self._is_resumed:
                raise SiteError(f"the point's directory {directory} is there already, and is not ours") from error
            if _holds_another_simulation(directory, science):
                _put_aside(directory)
                self._make_directory(directory, science)
        except OSError as error:
            raise SiteError(f"the point's directory {directory} cannot be made: {error.strerror}") from error

    def hand_over(self, task: Task, cpus: tuple[int, ...] | None, announce: Announce) -> Handle:
        """Announce it and hand it to the lane of its backend."""
        ready = self._content(task)
        prepared = ready.prepared
        lane = self._lanes(executor_of(prepared.spec.backend))
        task.cost = _cost(prepared, task.attempt)
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
        announce = partial(announce, **more) if more else announce
        return lane.hand_over(job, self._record(task, ready), announce, prepared=prepared, attempt=task.attempt)

    def _record(self, task: Task, ready: ReadyPoint) -> dict[str, Any]:
        point = ready.point
        record = first_record(ready.layout, ready.prepared)
        record["point_id"] = point_identity(point, ready.prepared)
        record["sweep"] = {
            "id": self._sweep_id,
            "directory": str(self._layout.sweep_dir),
            "number": point.number,
            "name": point.name,
            "swept": redact(dict(point.swept)),
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
        if task.number == NOT_COUNTED:
            shutil.rmtree(self._layout.warm_up, ignore_errors=True)
            return None
        ready = self._content(task)
        if ready.prepared.spec.postprocess.processor == "noop":
            return None
        return self._processing.add(ready.layout.run_dir)


def _cost(prepared: Prepared, attempt: int) -> dict[str, float]:
    """What the end of an attempt tells of it, beside its outcome."""
    cpus = prepared.resources.cpus
    cost: dict[str, float] = {"cores": cpus} if cpus != 1 else {}
    limits = [x for x in (prepared.spec.backend.timeout, prepared.resources.time_limit) if x is not None]
    if limits:
        cost["asked"] = round(cpus * min(limits) * prepared.spec.retry.factor("time_limit", attempt), 1)
    return cost


def _holds_another_simulation(directory: Path, science: str) -> bool:
    try:
        return bool(store.load_record(directory).get("science_id") != science)
    except (OSError, ValueError):
        return False


def _put_aside(directory: Path) -> None:
    """Results are never deleted by us: the directory of an earlier simulation stays under another name."""
    number = 1
    while (place := directory.with_name(f"{directory.name}.before-{number}")).exists():
        number += 1
    try:
        directory.rename(place)
    except OSError as error:
        raise SiteError(f"{directory} cannot be put aside as {place}: {error.strerror}") from error

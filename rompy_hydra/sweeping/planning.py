"""From points to `plan.jsonl`: everything that can be known of a point, and wrong with it, before the first starts.

Point  →  steps.prepare  →  PlannedPoint  →  a line of plan.jsonl
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, RompyHydraError, SiteError
from rompy_hydra.plan.identity import marked, parts_with, point_id
from rompy_hydra.plan.point import InvalidPoint, Point
from rompy_hydra.plan.spec import RunSpec, SiteSpec
from rompy_hydra.record.store import utc
from rompy_hydra.redaction import REDACTED, redact, redact_override
from rompy_hydra.run.placement import says_cpus
from rompy_hydra.steps.lookups import Lookups
from rompy_hydra.steps.prepare import Prepared, prepare
from rompy_hydra.sweep.cost import Bound
from rompy_hydra.sweep.invalid import InvalidPoints, why_invalid
from rompy_hydra.sweep.layout import SweepLayout, check_point_directory
from rompy_hydra.sweep.lines import LineFile, dump_line, short
from rompy_hydra.sweep.packing import Budget, Need
from rompy_hydra.sweep.table import ASIDE

Points = Iterator[Point | InvalidPoint]

REMOTE = frozenset({"slurm"})
"""Backends whose points run elsewhere, and outlive us."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written into `plan.jsonl`: how many points, and for which backends."""

    total: int
    backends: Mapping[str, int]
    needs_driver: bool = False
    site: SiteSpec | None = None


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
    settings: Any = None
    core_seconds: float | None = None  # the most that all of its attempts may take
    site: SiteSpec | None = None
    needs_driver: bool = False  # more has to be done for it after its submission

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


def plan_point(point: Point, lookups: Lookups, *, make: bool = True) -> tuple[PlannedPoint, Prepared]:
    """Everything that can be known of a point before it is started; raises what is wrong with it."""
    prepared = prepare(point.plan, lookups=lookups, make=make)
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
        point_id=point_identity(point, prepared),
        need=need_of(prepared),
        time_limit_s=min(limits) if limits else None,
        backend=prepared.spec.backend.type,
        inodes=4 + len(prepared.files) + len(inputs) + len(folders),
        bytes=sum(file.size for file in prepared.files) + copied,
        argv=prepared.program.argv,
        settings=prepared.settings,
        core_seconds=_most_core_seconds(prepared, min(limits)) if limits else None,
        site=prepared.spec.site,
        needs_driver=_needs_driver(prepared.spec),
    )
    return planned, prepared


def _needs_driver(spec: RunSpec) -> bool:
    """Whether somebody here must see to it later: with more time or memory again, or to its outputs.

    What only is to be tried again, the job itself does.
    """
    retry = spec.retry
    by_itself = {"failed", "timed_out"}
    again = retry.attempts > 1 and (bool(retry.scale) or not by_itself >= set(retry.on_states))
    return again or spec.postprocess.processor != "noop"


def _most_core_seconds(prepared: Prepared, limit_s: float) -> float:
    """CPUs × time limit, of every attempt that may be made."""
    rules = prepared.spec.retry
    factors = sum(rules.factor("time_limit", attempt) for attempt in range(1, rules.attempts + 1))
    return prepared.resources.cpus * limit_s * factors


def point_identity(point: Point, prepared: Prepared) -> str:
    """Science, the execution keys that this sweep varies, and the repeat."""
    spec, roots = prepared.spec, tuple(point.swept)
    # A group like `env` may set anything: then every execution key counts.
    sets_all = any(root in point.plan.choices and root not in _GROUPS_OF_ONE_PART for root in roots)
    parts = {root.partition(".")[0] for root in roots}
    execution: dict[str, Any] = {}
    if sets_all or parts & parts_with(RunSpec, "execution"):
        execution = {
            key: value
            for key, value in marked(spec, "execution")
            if sets_all or any(key == root or key.startswith(f"{root}.") for root in roots)
        }
    if sets_all or "backend" in parts:
        execution["backend.type"] = spec.backend.type
    return point_id(prepared.science_id, execution, point.repeat)


_GROUPS_OF_ONE_PART = frozenset({"model", "backend", "resources", "site", "postprocess"})


def check(
    points: Points, lookups: Lookups, budget: Budget | None, *, make: bool = True
) -> Iterator[PlannedPoint | InvalidPoint]:
    """Every point as far as it can be known; what is wrong with one does not hide the others.

    Without a `budget` it is a single run, which shares the machine with nobody.  `make=False`: no image is pulled or
    built.
    """
    directories: set[int] = set()
    for point in points:
        if isinstance(point, InvalidPoint):
            yield point
            continue
        try:
            planned, _ = plan_point(point, lookups, make=make)
            if budget is not None and planned.backend not in REMOTE:
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


def write_plan(
    layout: SweepLayout,
    checked: Iterator[PlannedPoint | InvalidPoint],
    *,
    skip_invalid: bool,
    tick: Callable[[int], None],
    max_core_hours: float | None = None,
) -> Written:
    """`plan.jsonl`, and the first events: which points are left out.

    Raises `ConfigError` with every finding of every point, unless the invalid ones are to be skipped; and for a sweep
    that may cost more than it is allowed to.
    """
    invalid = InvalidPoints()
    bound = Bound()
    backends: Counter[str] = Counter()
    needs_driver = False
    site: SiteSpec | None = None
    total = 0
    events = LineFile(layout.events)
    try:
        with layout.plan.open("wb") as plan:
            for point in checked:
                total += 1
                tick(total)
                if isinstance(point, InvalidPoint):
                    invalid.add(point)
                    line = {"n": point.number, "name": point.name, "overrides": list(point.overrides)}
                    line |= {"swept": dict(point.swept), "invalid": short(why_invalid(point))}
                    events.append(dump_line({"t": utc(), "e": "invalid", "n": point.number, "why": line["invalid"]}))
                else:
                    line = point.line()
                    bound.add(point.core_seconds)
                    backends[point.backend] += 1
                    needs_driver |= point.needs_driver
                    site = site or point.site
                plan.write(fit_line(layout, plan_fields(line)))
            plan.flush()
            os.fsync(plan.fileno())
    except OSError as error:
        raise SiteError(f"{layout.plan} cannot be written: {error.strerror}") from error
    finally:
        events.close()
    if not total:
        finding = Finding("sweep.exclude", "leaves out every point", mend="change the conditions, or the values")
        raise ConfigError("the sweep has no point", [finding])
    if invalid and (not skip_invalid or len(invalid) == total):
        raise invalid.error(total)
    if (too_much := bound.why_too_much(max_core_hours)) is not None:
        raise ConfigError("the sweep may cost more than it is allowed to", [too_much])
    return Written(total, dict(backends), needs_driver, site)


def plan_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """What a line says of a point, free of credentials."""
    shown = [redact_override(o) for o in fields["overrides"]]
    fields |= {"overrides": shown, "swept": redact(fields["swept"])}
    if any(REDACTED in line for line in shown):
        fields["redacted"] = True  # it cannot be composed again from here
    return fields


def fit_line(layout: SweepLayout, fields: dict[str, Any]) -> bytes:
    """The line; what does not fit goes into a file of its own, named by its content."""
    try:
        return dump_line(fields)
    except ValueError:
        long = json.dumps({name: fields[name] for name in ASIDE}).encode()
        aside = layout.aside / f"{hashlib.sha256(long).hexdigest()[:16]}.json"
        aside.parent.mkdir(exist_ok=True, parents=True)
        aside.write_bytes(long)
        return dump_line({**{k: v for k, v in fields.items() if k not in ASIDE}, "aside": aside.name})

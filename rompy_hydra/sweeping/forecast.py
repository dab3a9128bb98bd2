"""What a sweep would be, for `--dry-run`."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rompy_hydra.plan.point import InvalidPoint
from rompy_hydra.plan.spec import SiteSpec
from rompy_hydra.record.provenance import redact_argv
from rompy_hydra.redaction import redact
from rompy_hydra.run.slurm_script import SlurmSettings
from rompy_hydra.sweep.arrays import Member, plan_arrays
from rompy_hydra.sweep.cost import Bound
from rompy_hydra.sweep.invalid import InvalidPoints
from rompy_hydra.sweep.remote import USUAL_ARRAY_SIZE, array_key, packing_of
from rompy_hydra.sweep.settings import SweepSettings
from rompy_hydra.sweep.table import cell, swept_text
from rompy_hydra.sweeping.planning import REMOTE, PlannedPoint
from rompy_hydra.units.durations import format_duration, format_slurm_time
from rompy_hydra.units.sizes import format_memory


@dataclass(slots=True)
class Forecast:
    """What would be made and run, added up."""

    is_sweep: bool = True
    points: int = 0
    inodes: int = 0
    bytes: int = 0
    bound: Bound = field(default_factory=Bound)
    varies: dict[str, dict[str, None]] = field(default_factory=dict)
    invalid: InvalidPoints = field(default_factory=InvalidPoints)
    settings: SweepSettings = field(default_factory=SweepSettings)
    queued: list[Member] = field(default_factory=list)
    site: SiteSpec | None = None
    partition: str | None = None

    def add(self, point: PlannedPoint | InvalidPoint) -> None:
        """One more point."""
        self.points += 1
        for key, value in point.swept.items():
            values = self.varies.setdefault(key, {})
            if len(values) <= _MOST_VALUES:
                values[cell(redact(value, key))] = None
        if isinstance(point, InvalidPoint):
            self.invalid.add(point)
            return
        self.inodes += point.inodes + (0 if self.is_sweep else _MORE_OF_A_SINGLE_RUN)
        self.bytes += point.bytes
        self.bound.add(point.core_seconds)
        if self.is_sweep and point.backend in REMOTE:
            self.queued.append(Member(point.number, array_key(point.settings), point.settings.time_limit_s))
            self.site, self.partition = point.site, point.settings.partition

    def lines(self) -> Iterator[str]:
        """The sums, for a person."""
        invalid = f", {len(self.invalid)} of them wrong" if self.invalid else ""
        yield f"points       {self.points}{invalid}"
        for key, values in self.varies.items():
            shown = ", ".join(itertools.islice(values, _MOST_VALUES))
            yield f"varies       {key}: {shown}{', …' if len(values) > _MOST_VALUES else ''}"
        size = format_memory(self.bytes)
        yield f"to be made   {self.inodes} files and directories, {size}, before what the runs write"
        if self.queued:
            yield f"jobs         {self._jobs()}"
            yield "job scripts  the whole of one: rompy-hydra run --dry-run, with the overrides of its point"
        yield f"core-hours   {self.bound.text()}"

    def _jobs(self) -> str:
        largest = (self.site.max_array_size if self.site is not None else None) or USUAL_ARRAY_SIZE
        arrays, _ = plan_arrays(self.queued, packing_of(self.settings, self.site, self.partition, largest))
        jobs = sum(len(array.tasks) for array in arrays)
        most = self.settings.max_in_queue
        held = f", at most {most} in the queue at a time" if most is not None and most < jobs else ""
        many = "1 array" if len(arrays) == 1 else f"{len(arrays)} arrays"
        return f"{jobs} for {len(self.queued)} points, in {many} (of at most {largest}){held}"


_MOST_VALUES = 12
_MORE_OF_A_SINGLE_RUN = 5  # logs/, and .hydra/ with three files


def point_lines(point: PlannedPoint | InvalidPoint) -> Iterator[str]:
    """One point of a dry run, for a person."""
    swept = swept_text(redact(dict(point.swept)))
    yield f"point {point.name}  {swept}".rstrip()
    if isinstance(point, InvalidPoint):
        yield "  wrong: see below"
        return
    parts = [f"cpus {point.need.cpus}"]
    if point.need.memory_bytes is not None:
        parts.append(f"memory {format_memory(point.need.memory_bytes)}")
    if point.time_limit_s is not None:
        parts.append(f"time limit {format_duration(point.time_limit_s)}")
    yield f"  {point.backend}: {', '.join(parts)}"
    if point.settings is not None:
        yield from (f"  {line}" for line in _settings(point.settings))
    if point.argv:
        yield f"  {shlex.join(redact_argv(point.argv))}"
    else:
        yield f"  opaque: the plug-in '{point.backend}' decides what is started"


def _settings(settings: Any) -> Iterator[str]:
    """What only the executor of this backend reads, without what is empty or was not meant to be shown."""
    if isinstance(settings, SlurmSettings):
        limit = [] if settings.time_limit_s is None else [f"--time={format_slurm_time(settings.time_limit_s)}"]
        yield f"sbatch {' '.join([*settings.directives(), *limit])}"
        yield from (f"module load {name}" for name in settings.modules)
        yield from settings.setup
        return
    told = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.repr and value not in (None, "", (), {}, False) and not isinstance(value, Mapping):
            told.append(f"{item.name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    yield ", ".join(told)

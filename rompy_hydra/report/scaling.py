"""Strong scaling: the same simulation on more CPUs.  Time, speed-up, efficiency, and Amdahl's law fitted to them.

    samples → studies (what else varies) → lines (ranks or threads vary) → settings (their repeats)

*Speed-up* of a setting is the median time of the base setting over its own median time; the base is the setting with
the fewest CPUs (of several the fastest).  *Efficiency* is the speed-up per CPU, that of the base being 1.  The spread
is that of the repeats: the lowest and the highest time, against the median of the base.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

RESOURCE_PREFIX = "resources."

# Two-sided 95 % quantiles of Student's t distribution for 1, 2, … degrees of freedom (any table of it).
_STUDENT_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One run that succeeded: what varies, what it had, how long it took."""

    number: int
    swept: Mapping[str, Any]
    cpus: int
    ranks: int | None
    threads: int | None
    wall_s: float


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the resources and the times of its repeats."""

    cpus: int
    ranks: int | None
    threads: int | None
    walls_s: tuple[float, ...]

    @property
    def key(self) -> tuple[int, int | None, int | None]:
        """What makes it another setting."""
        return (self.cpus, self.ranks, self.threads)

    @property
    def wall_s(self) -> float:
        """The median time."""
        return median(self.walls_s)

    @property
    def spread(self) -> float:
        """How far the repeats lie apart, as a part of their median; 0 for one repeat."""
        return (max(self.walls_s) - min(self.walls_s)) / self.wall_s if self.wall_s else 0.0

    @property
    def title(self) -> str:
        """For a person: `4 CPUs (2 ranks × 2 threads)`."""
        cpus = f"{self.cpus} CPU{'s' if self.cpus != 1 else ''}"
        if self.ranks is None or self.threads is None or (self.ranks == 1 and self.threads == 1):
            return cpus
        if self.threads == 1:
            return f"{cpus} ({self.ranks} ranks)"
        if self.ranks == 1:
            return f"{cpus} ({self.threads} threads)"
        return f"{cpus} ({self.ranks} ranks × {self.threads} threads)"

    def faster_than(self, other: Setting) -> bool:
        """Whether each of its repeats was faster than each of the other's."""
        return max(self.walls_s) < min(other.walls_s)


@dataclass(frozen=True, slots=True)
class AmdahlFit:
    """`T(p) = T(1) · (s + (1 - s) / p)`, fitted by least squares to the relative deviations of all repeats.

    Source: G. M. Amdahl, "Validity of the single processor approach to achieving large scale computing capabilities",
    AFIPS 1967.  The law is linear in `a = T(1)·s` and `b = T(1)·(1 - s)`, so the solution is closed; `low` and `high`
    are the 95 % interval of `s` by the delta method and Student's t.
    """

    one_cpu_s: float
    serial: float
    low: float
    high: float

    def wall_s(self, cpus: float) -> float:
        """The time that the law foretells."""
        return self.one_cpu_s * (self.serial + (1 - self.serial) / cpus)

    @property
    def most_speedup(self) -> float | None:
        """The speed-up on any number of CPUs; None where nothing is serial."""
        return 1 / self.serial if self.serial > 0 else None


@dataclass(frozen=True, slots=True)
class ScalingLine:
    """Settings that differ in one thing: the ranks, or the threads."""

    title: str
    settings: tuple[Setting, ...]
    fit: AmdahlFit | None


@dataclass(frozen=True, slots=True)
class Study:
    """All settings of one simulation; `swept` is what else tells it from the others."""

    swept: Mapping[str, Any]
    settings: tuple[Setting, ...]
    lines: tuple[ScalingLine, ...]
    numbers: frozenset[int] = field(default_factory=frozenset)

    @property
    def base(self) -> Setting:
        """What the others are compared with."""
        return min(self.settings, key=lambda s: (s.cpus, s.wall_s))

    @property
    def title(self) -> str:
        """For a person: what tells it from the others."""
        return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.swept.items()) or "all points"

    def speedup(self, setting: Setting) -> float:
        """How many times faster than the base."""
        return self.base.wall_s / setting.wall_s

    def speedup_spread(self, setting: Setting) -> tuple[float, float]:
        """The lowest and the highest speed-up of its repeats."""
        return self.base.wall_s / max(setting.walls_s), self.base.wall_s / min(setting.walls_s)

    def efficiency(self, setting: Setting) -> float:
        """The speed-up per CPU."""
        return self.speedup(setting) * self.base.cpus / setting.cpus


def studies_of(samples: Iterable[Sample]) -> list[Study]:
    """The studies with more than one number of CPUs, in the order of their first points."""
    groups: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        if sample.wall_s > 0:
            groups.setdefault(study_key(sample.swept), []).append(sample)
    found = [_study(group) for group in groups.values() if len({s.cpus for s in group}) > 1]
    return sorted(found, key=lambda study: min(study.numbers))


def study_key(swept: Mapping[str, Any]) -> Hashable:
    """What makes two points the same simulation, but for the resources."""
    return tuple(sorted((key, repr(value)) for key, value in swept.items() if not key.startswith(RESOURCE_PREFIX)))


def _study(samples: list[Sample]) -> Study:
    walls: dict[tuple[int, int | None, int | None], list[float]] = {}
    for sample in samples:
        walls.setdefault((sample.cpus, sample.ranks, sample.threads), []).append(sample.wall_s)
    settings = tuple(
        sorted((Setting(*key, tuple(times)) for key, times in walls.items()), key=lambda s: (s.cpus, s.threads or 0))
    )
    swept = {key: value for key, value in samples[0].swept.items() if not key.startswith(RESOURCE_PREFIX)}
    return Study(swept, settings, tuple(_lines(settings)), frozenset(sample.number for sample in samples))


def _lines(settings: Sequence[Setting]) -> list[ScalingLine]:
    """A line for each number of threads over the ranks; what is on none of them: for each number of ranks."""
    if any(s.ranks is None or s.threads is None for s in settings):
        return [_line("CPUs", settings)]
    found: list[ScalingLine] = []
    covered: set[Setting] = set()
    for threads in sorted({s.threads for s in settings if s.threads}):
        line = [s for s in settings if s.threads == threads]
        if len({s.cpus for s in line}) > 1:
            covered |= set(line)
            found.append(_line("ranks" if threads == 1 else f"ranks of {threads} threads", line))
    for ranks in sorted({s.ranks for s in settings if s.ranks}):
        line = [s for s in settings if s.ranks == ranks]
        if len({s.cpus for s in line}) > 1 and not covered.issuperset(line):
            covered |= set(line)
            found.append(_line("threads" if ranks == 1 else f"threads of {ranks} ranks", line))
    if left := [s for s in settings if s not in covered]:
        found.append(_line("others", left))
    return found


def _line(title: str, settings: Sequence[Setting]) -> ScalingLine:
    samples = [(s.cpus, wall) for s in settings for wall in s.walls_s]
    return ScalingLine(title, tuple(settings), fit_amdahl(samples))


def fit_amdahl(samples: Sequence[tuple[float, float]]) -> AmdahlFit | None:
    """The law through (CPUs, time); None for fewer than three numbers of CPUs, or where more CPUs take longer."""
    by_cpus: dict[float, list[float]] = {}
    for cpus, wall in samples:
        by_cpus.setdefault(cpus, []).append(wall)
    if len(by_cpus) < 3:
        return None
    # Times scatter in proportion to themselves: each counts by its deviation relative to its setting's median.
    rows = [(1 / cpus, wall, median(by_cpus[cpus]) ** -2) for cpus, wall in samples]
    w = math.fsum(weight for _, _, weight in rows)
    wx = math.fsum(weight * x for x, _, weight in rows)
    wxx = math.fsum(weight * x * x for x, _, weight in rows)
    wy = math.fsum(weight * y for _, y, weight in rows)
    wxy = math.fsum(weight * x * y for x, y, weight in rows)
    det = w * wxx - wx * wx
    a, b = (wxx * wy - wx * wxy) / det, (w * wxy - wx * wy) / det
    one = a + b
    if one <= 0 or b <= 0:
        return None
    freedom = len(rows) - 2
    variance = math.fsum(weight * (y - a - b * x) ** 2 for x, y, weight in rows) / freedom
    by_a, by_b = b / one**2, -a / one**2
    error = math.sqrt(
        max(0.0, variance * (by_a * by_a * wxx - 2 * by_a * by_b * wx + by_b * by_b * w) / det)
    )  # ∇sᵀ (XᵀWX)⁻¹ ∇s, whose off-diagonal is -wx / det
    serial, margin = a / one, student_95(freedom) * error
    return AmdahlFit(one, serial, serial - margin, serial + margin)


def student_95(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    return _STUDENT_95[freedom - 1] if freedom <= len(_STUDENT_95) else 1.96 + 2.4 / freedom

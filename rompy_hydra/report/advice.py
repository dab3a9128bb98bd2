"""A plain sentence: which resources to take, and why; or that there is no evidence, and why not.

A study gives evidence where each of its settings was measured at least twice, alone on its CPUs, on one CPU model, and
none failed.  Of the settings that are worth their CPUs (an efficiency of at least 70 %, and each repeat faster than
each of the base's) the fastest one is recommended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from rompy_hydra.report.scaling import Setting, Study
from rompy_hydra.report.words import seconds
from rompy_hydra.units.sizes import format_memory

WORTH = 0.7
"""The efficiency below which more CPUs cost more than they are commonly held to be worth."""

NOISY = 0.25
"""Repeats that lie further apart than this part of their median measure the machine and not the model."""

MEMORY_SPARE = 1.2
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """How a point was measured; None is not known.

    `had_company`: another point of the sweep ran on the same host at the same time.  `exclusive`: nobody else could use
    the node.  `machine_cpus`: how many the host lets us have.
    """

    number: int
    state: str
    cpus: int
    ranks: int | None = None
    threads: int | None = None
    cpu_model: str | None = None
    machine_cpus: int | None = None
    exclusive: bool | None = None
    had_company: bool = False
    is_slurm: bool = False
    peak_bytes: int | None = None

    @property
    def setting(self) -> tuple[int, int | None, int | None]:
        """As `Setting.key`."""
        return (self.cpus, self.ranks, self.threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to take.  Without a `setting` there is no evidence, and `reasons` says why."""

    sentence: str
    setting: Setting | None = None
    overrides: str = ""
    reasons: tuple[str, ...] = ()


def advise(study: Study, points: Sequence[Circumstances], *, timing: bool) -> Advice:
    """The recommended setting of one study."""
    reasons = [*_against_measuring(study, points, timing=timing), *_against_times(study)]
    if reasons:
        return Advice(sentence=f"No evidence: {reasons[0]}.", reasons=tuple(reasons))
    worth = [s for s in study.settings if study.efficiency(s) >= WORTH and s.faster_than(study.base)]
    if not worth:
        return _with_memory(_keep_to_the_base(study), points)
    chosen = min(worth, key=lambda s: s.wall_s)
    low, high = study.speedup_spread(chosen)
    sentence = (
        f"Take {chosen.title}: a run takes {seconds(chosen.wall_s)} there, {study.speedup(chosen):.2g} times faster "
        f"than on {study.base.title} ({low:.3g} to {high:.3g} over {len(chosen.walls_s)} repeats), at an efficiency of "
        f"{study.efficiency(chosen):.0%}. {_beyond(study, chosen)}"
    )
    return _with_memory(Advice(sentence=sentence.strip(), setting=chosen, overrides=_overrides(chosen)), points)


def _with_memory(advice: Advice, points: Sequence[Circumstances]) -> Advice:
    """The same with the memory that the setting needs, where the peaks of all of its points are known."""
    assert advice.setting is not None
    peaks = [p.peak_bytes for p in points if p.setting == advice.setting.key]
    known = [peak for peak in peaks if peak]
    if not known or len(known) < len(peaks):
        return advice
    sentence = f"{advice.sentence} Its peak memory there was {format_memory(max(known))} at most."
    return replace(advice, sentence=sentence, overrides=f"{advice.overrides} resources.memory={enough_memory(known)}")


def enough_memory(peaks: Sequence[int]) -> str:
    """What to ask for: the highest peak and a fifth more, in whole MiB."""
    return f"{ceil(max(peaks) * MEMORY_SPARE / _MIB)}m"


def no_study(points: Sequence[Circumstances]) -> Advice:
    """The answer where no simulation ran on more than one number of CPUs."""
    ended = [point for point in points if point.state == "succeeded"]
    if not points:
        why = "the sweep has no points"
    elif not ended and any(point.state in ("queued", "waiting", "running") for point in points):
        why = "no point has succeeded yet"
    elif not ended:
        why = "no point succeeded"
    elif len({point.cpus for point in points}) > 1:
        why = "no simulation succeeded on more than one number of CPUs"
    else:
        why = (
            f"every point ran on {ended[0].cpus} CPU{'s' if ended[0].cpus != 1 else ''}, so there is nothing to compare"
        )
    return Advice(
        sentence=f"No evidence for another number of CPUs: {why}.",
        reasons=(why, "sweep resources.ranks or resources.threads, with sweep.timing=true and sweep.repeats=3"),
    )


def memory_advice(peaks: Sequence[int], asked: Iterable[int | None], *, out_of_memory: int, is_measured: bool) -> str:
    """A sentence about how much memory to ask for, of the peaks of the points that succeeded."""
    if not peaks:
        return "No evidence for the memory: no point that succeeded has a measured peak."
    most = max(peaks)
    limits = {limit for limit in asked if limit}
    told = f"The highest peak of {len(peaks)} point{'s' if len(peaks) != 1 else ''} was {format_memory(most)}"
    if len(limits) == 1:
        told += f" of {format_memory(limits.pop())} asked for"
    elif not limits:
        told += " (no limit was asked for)"
    lost = f" {out_of_memory} more ran out of memory, so the need may be higher." if out_of_memory else ""
    if not is_measured:
        return f"{told}. It was not measured but is an upper bound of a short run, so it says little.{lost}"
    return f"{told}. resources.memory={enough_memory(peaks)} holds it with a fifth to spare.{lost}"


def _against_measuring(study: Study, points: Sequence[Circumstances], *, timing: bool) -> list[str]:
    """What is wrong with how it was measured."""
    open_ = sum(point.state in ("queued", "waiting", "running") for point in points)
    bad = sum(point.state not in ("succeeded", "queued", "waiting", "running", "invalid") for point in points)
    ended = [point for point in points if point.state == "succeeded"]
    found = []
    if open_:
        found.append(f"{open_} of its {len(points)} points {'has' if open_ == 1 else 'have'} not ended yet")
    if bad:
        found.append(f"{bad} of its {len(points)} points did not succeed")
    if once := [s.title for s in study.settings if len(s.walls_s) < 2]:
        found.append(f"only one repeat of {_some(once)}, so the spread is unknown (sweep.repeats=3)")
    if len(models := {point.cpu_model for point in ended if point.cpu_model}) > 1:
        found.append(f"the points ran on different CPU models ({_some(sorted(models))})")
    if unknown := sum(point.cpu_model is None for point in ended):
        found.append(f"the CPU model of {unknown} point{'s' if unknown != 1 else ''} is not known")
    if shared := sum(point.had_company for point in ended):
        found.append(f"{shared} of its points shared their node with others of the sweep (sweep.timing=true)")
    elif not timing and not all(point.exclusive for point in ended):
        found.append("the points were not measured alone on their CPUs (sweep.timing=true)")
    elif any(point.is_slurm and not point.exclusive for point in ended):
        found.append("the nodes may have been shared with others' jobs (they were not asked for exclusively)")
    if many := sorted({p.cpus for p in ended if p.machine_cpus is not None and p.cpus > p.machine_cpus}):
        found.append(f"{many[-1]} CPUs were asked for on a machine that has fewer")
    return found


def _against_times(study: Study) -> list[str]:
    """What the times themselves do not show."""
    if noisy := [s for s in study.settings if s.spread > NOISY]:
        worst = max(noisy, key=lambda s: s.spread)
        return [f"the repeats differ too much: those of {worst.title} by {worst.spread:.0%} of their median"]
    if not any(s.faster_than(study.base) for s in study.settings if s.cpus > study.base.cpus):
        return [f"no speed-up: no setting is faster than {study.base.title} by more than its repeats differ"]
    return []


def _keep_to_the_base(study: Study) -> Advice:
    base = study.base
    fastest = min(study.settings, key=lambda s: s.wall_s)
    sentence = (
        f"Take {base.title}: more CPUs are faster, but none is worth them. {fastest.title} takes "
        f"{seconds(fastest.wall_s)} instead of {seconds(base.wall_s)}, at an efficiency of only "
        f"{study.efficiency(fastest):.0%} (at least {WORTH:.0%} is asked for here)."
    )
    return Advice(sentence=sentence, setting=base, overrides=_overrides(base))


def _beyond(study: Study, chosen: Setting) -> str:
    """Why not more."""
    more = [s for s in study.settings if s.cpus > chosen.cpus]
    if not more:
        return "No setting with more CPUs was measured."
    fastest = min(more, key=lambda s: s.wall_s)
    dearer = fastest.cpus * fastest.wall_s / (chosen.cpus * chosen.wall_s)
    if not fastest.faster_than(chosen):
        return f"{fastest.title} is not faster by more than the repeats differ, and costs {dearer:.2g} times as much."
    return (
        f"{fastest.title} takes {seconds(fastest.wall_s)} and costs {dearer:.2g} times as many core-hours "
        f"(efficiency {study.efficiency(fastest):.0%}, below {WORTH:.0%})."
    )


def _overrides(setting: Setting) -> str:
    if setting.ranks is None or setting.threads is None:
        return f"resources.cpus={setting.cpus}"
    return f"resources.ranks={setting.ranks} resources.threads={setting.threads}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

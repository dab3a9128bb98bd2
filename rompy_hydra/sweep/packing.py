"""Which point starts next, and on which processors: what points ask for, packed into what there is.

No I/O and no clock, so that its promises can be tested by themselves: nothing is given twice, and whatever waits is
overtaken a bounded number of times only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rompy_hydra.errors import Finding
from rompy_hydra.units.sizes import format_memory


@dataclass(frozen=True, slots=True)
class Need:
    """What one point asks for; `bound`: it wants processors of its own; no memory said counts as none."""

    cpus: int = 1
    memory_bytes: int | None = None
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What all running points may use together.

    `cpu_cores` are the numbers of the processors that points can be bound to, those of one core together; there may be
    fewer than `cpus` (a budget above the machine), and then nobody is bound.  None: no limit.
    """

    cpus: int
    memory_bytes: int | None = None
    jobs: int | None = None
    cpu_cores: tuple[tuple[int, ...], ...] = ()

    @property
    def at_once(self) -> int:
        """How many points can run at once, at most."""
        return min(self.cpus, self.jobs) if self.jobs is not None else self.cpus

    def why_never(self, need: Need) -> Finding | None:
        """What keeps a point from ever running within this budget."""
        if need.cpus > self.cpus:
            return Finding(
                key="resources.cpus",
                value=str(need.cpus),
                rule=f"the sweep has {self.cpus} CPUs for all its points together: it could never start",
                mend=f"ask for at most {self.cpus}, or set sweep.cpus={need.cpus} to have them share what there is",
            )
        if self.memory_bytes is not None and (need.memory_bytes or 0) > self.memory_bytes:
            there = format_memory(self.memory_bytes)
            return Finding(
                key="resources.memory",
                value=format_memory(need.memory_bytes or 0),
                rule=f"the sweep has {there} for all its points together: it could never start",
                mend=f"ask for at most {there}, or set sweep.memory to what they may use",
            )
        return None


class Packer:
    """What is in use, and the choice of the next point."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.running = 0
        self.cpus_used = 0
        self.memory_used = 0
        self._free = [list(core) for core in budget.cpu_cores]
        self._can_bind = sum(map(len, self._free)) >= budget.cpus
        self._overtaken = 0
        self._most_overtaken = max(8, 2 * budget.at_once)

    def fits(self, need: Need) -> bool:
        """Whether it could start now."""
        budget = self.budget
        if budget.jobs is not None and self.running >= budget.jobs:
            return False
        if self.cpus_used + need.cpus > budget.cpus:
            return False
        return budget.memory_bytes is None or self.memory_used + (need.memory_bytes or 0) <= budget.memory_bytes

    def choose(self, waiting: Sequence[Need]) -> int | None:
        """The place in the queue of what starts next; None: wait until something ends.

        The first one, if it fits; else the first that does, so that nothing lies idle.  But whoever is first is
        overtaken a limited number of times: then all wait until there is room for it.
        """
        if not waiting:
            return None
        if self.fits(waiting[0]):
            self._overtaken = 0
            return 0
        if self._overtaken >= self._most_overtaken or self.cpus_used >= self.budget.cpus:
            return None
        for place in range(1, len(waiting)):
            if self.fits(waiting[place]):
                self._overtaken += 1
                return place
        return None

    def take(self, need: Need) -> tuple[int, ...] | None:
        """Book it; the processors that are its alone, None where it is not bound."""
        self.running += 1
        self.cpus_used += need.cpus
        self.memory_used += need.memory_bytes or 0
        if not need.bound or not self._can_bind:
            return None
        taken: list[int] = []
        # Whole cores first, the fullest ones first: what is left over then is whole cores again.
        for core in sorted(self._free, key=len, reverse=True):
            while core and len(taken) < need.cpus:
                taken.append(core.pop(0))
        return tuple(sorted(taken))

    def give_back(self, need: Need, cpus: tuple[int, ...] | None) -> None:
        """The end of `take`."""
        self.running -= 1
        self.cpus_used -= need.cpus
        self.memory_used -= need.memory_bytes or 0
        for core, all_of_it in zip(self._free, self.budget.cpu_cores, strict=True):
            core.extend(cpu for cpu in cpus or () if cpu in all_of_it)
            core.sort()

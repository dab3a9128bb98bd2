"""From points to job arrays: those that ask for the same go together, into as few arrays as a site allows.

    members (in their order)  →  groups by what they ask for  →  tasks of several points  →  arrays  →  submitted

No I/O and no clock, so that its promises can be tested by themselves: every point is in exactly one task, an array is
never larger than the site's `MaxArraySize`, and no more tasks are planned than there is room for in the queue.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

RunsPerJob = int | Literal["auto"]
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Member:
    """One attempt of a point that waits to be submitted.

    `key` is all that a job of its own would ask for: members with equal keys can share an array.  `limit_s` is the time
    limit of the point (part of what is asked, so the same in one group), `estimate_s` how long it is thought to take.
    """

    number: int
    key: Hashable
    limit_s: float | None = None
    estimate_s: float | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """One job array: the points of each of its tasks, and the time limit that a task needs (None: none is asked)."""

    key: Hashable
    tasks: tuple[tuple[int, ...], ...]
    limit_s: float | None = None

    @property
    def points(self) -> Iterator[int]:
        """Every point of it."""
        return itertools.chain.from_iterable(self.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How points become tasks.

    `runs_per_job`: so many points in one task, or `auto`: as many as are thought to take `job_time_s` together.
    `longest_s`: what a job may take on the site; a task that needs more gets fewer points.  `at_once`: how many of a
    task's points run side by side (their resources are then asked for so many times).
    """

    runs_per_job: RunsPerJob = 1
    job_time_s: float = 600.0
    max_array_size: int = 1001
    longest_s: float | None = None
    at_once: int = 1

    def runs(self, group: Sequence[Member]) -> int:
        """How many points of a group go into one task at most."""
        if self.runs_per_job == "auto":
            times = [t for m in group if (t := m.estimate_s if m.estimate_s is not None else m.limit_s) is not None]
            if len(times) < len(group):
                return 1  # of some nobody knows anything: a job each, as if nothing had been said
            mean_s = max(0.01, sum(times) / len(times))
            wanted = max(1, math.floor(self.job_time_s / mean_s)) * self.at_once
        else:
            wanted = self.runs_per_job
        limit_s = group[0].limit_s
        if self.longest_s is not None and limit_s:
            wanted = min(wanted, max(1, math.floor(self.longest_s / limit_s)) * self.at_once)
        return wanted

    def limit_s(self, runs: int, limit_s: float | None) -> float | None:
        """The time limit of a task of so many points: one after the other, each up to its own limit."""
        return None if limit_s is None else math.ceil(runs / self.at_once) * limit_s


def plan_arrays(
    members: Iterable[Member], packing: Packing, *, room: int | None = None
) -> tuple[list[Array], list[Member]]:
    """The arrays to be submitted now, and the members for which there is no room in the queue (in their order).

    `room` is how many tasks (jobs, as a scheduler counts them) may be added to the queue; None: any number.
    """
    groups: dict[Hashable, list[Member]] = {}
    place: dict[int, int] = {}
    for at, member in enumerate(members):
        place[member.number] = at
        groups.setdefault((member.key, member.limit_s), []).append(member)
    left = math.inf if room is None else max(0, room)
    arrays: list[Array] = []
    held: list[Member] = []
    for group in groups.values():
        runs = packing.runs(group)
        many = min(math.ceil(len(group) / runs), left)
        fit = len(group) if many < left or room is None else int(many) * runs
        held += group[fit:]
        left -= many
        arrays += _arrays(group[:fit], int(many), packing)
    return arrays, sorted(held, key=lambda member: place[member.number])


def _arrays(group: Sequence[Member], many: int, packing: Packing) -> Iterator[Array]:
    """One group as arrays of `many` tasks together; the tasks are as even as they can be."""
    if not group:
        return
    tasks = list(_divided([member.number for member in group], many))
    chunks = math.ceil(len(tasks) / packing.max_array_size)
    for chunk in _divided(tasks, chunks):
        limit_s = packing.limit_s(max(map(len, chunk)), group[0].limit_s)
        yield Array(group[0].key, tuple(map(tuple, chunk)), limit_s)


def _divided(things: Sequence[Thing], parts: int) -> Iterator[Sequence[Thing]]:
    """So many parts, in order, whose sizes differ by one at most."""
    size, more = divmod(len(things), parts)
    at = 0
    for part in range(parts):
        end = at + size + (part < more)
        yield things[at:end]
        at = end


def task_ranges(tasks: Iterable[int]) -> str:
    """Task numbers as a scheduler writes them: `0-3,7,9-10`."""
    found: list[str] = []
    for _, run in itertools.groupby(enumerate(sorted(set(tasks))), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        found.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ",".join(found)

"""What runs cost: core-hours asked for, held and used; waits and failed attempts apart (records → this → report).

    cost_of_record(record)            one run or point, all of its attempts
    cost_of_sweep(layout)             a whole sweep, from its journal: no record is opened
    cost_of_points(layout)            the same for each point
    Bound                             the most that a sweep can cost, before anything of it is started

Core-seconds are CPUs × seconds.  *Asked* is what the scheduler was asked for (CPUs × time limit, once for each attempt
that was made), *held* what could not be used by others (CPUs of the allocation × time), *used* what the processes
computed.  A point of a packed job holds its share of the job while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rompy_hydra.errors import Finding, RecordError
from rompy_hydra.sweep.description import read_description
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.lines import read_events
from rompy_hydra.sweep.state import SweepState, read_state
from rompy_hydra.sweep.table import plan_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What runs cost; costs can be added.

    `asked_core_seconds` is None where an attempt had no time limit; `failed_core_seconds` is the part of what was held
    by attempts that did not succeed; `queue_seconds` is the time from submission to start, added up; `rate` is what a
    core-hour costs on the site (None: nobody said), in the site's own units.
    """

    attempts: int = 0
    asked_core_seconds: float | None = 0.0
    held_core_seconds: float = 0.0
    used_core_seconds: float = 0.0
    failed_core_seconds: float = 0.0
    queue_seconds: float = 0.0
    rate: float | None = None

    def __add__(self, other: Cost) -> Cost:
        asked = (self.asked_core_seconds, other.asked_core_seconds)
        return Cost(
            attempts=self.attempts + other.attempts,
            asked_core_seconds=None if None in asked else sum(x for x in asked if x is not None),
            held_core_seconds=self.held_core_seconds + other.held_core_seconds,
            used_core_seconds=self.used_core_seconds + other.used_core_seconds,
            failed_core_seconds=self.failed_core_seconds + other.failed_core_seconds,
            queue_seconds=self.queue_seconds + other.queue_seconds,
            rate=self.rate if self.rate is not None else other.rate,
        )

    @property
    def charge(self) -> float | None:
        """What the site charges for what was held; None where it has no rate."""
        return None if self.rate is None else self.held_core_seconds / 3600 * self.rate

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain data in core-hours and seconds, as `status --json` and records show it."""

        def hours(seconds: float | None) -> float | None:
            return None if seconds is None else round(seconds / 3600, 6)

        charge = self.charge
        return {
            "attempts": self.attempts,
            "asked_core_hours": hours(self.asked_core_seconds),
            "held_core_hours": hours(self.held_core_seconds),
            "used_core_hours": hours(self.used_core_seconds),
            "failed_core_hours": hours(self.failed_core_seconds),
            "queue_seconds": round(self.queue_seconds, 3),
            "charge": None if charge is None else round(charge, 6),
        }

    def line(self, unit: str = "units") -> str:
        """One line for a person; `unit` is what the site charges in."""
        asked = "no bound asked" if self.asked_core_seconds is None else f"{hours_text(self.asked_core_seconds)} asked"
        parts = [
            f"{hours_text(self.held_core_seconds)} core-hours held",
            f"{hours_text(self.used_core_seconds)} used",
            asked,
        ]
        if self.failed_core_seconds:
            parts.append(f"{hours_text(self.failed_core_seconds)} in failed attempts")
        if self.charge is not None:
            parts.append(f"charged {self.charge:.6g} {unit}")
        return ", ".join(parts)


def hours_text(core_seconds: float) -> str:
    """Core-hours, short."""
    hours = core_seconds / 3600
    return f"{hours:.0f}" if hours >= 100 else f"{hours:.3g}"


def cost_of_record(record: Mapping[str, Any], *, rate: float | None = None) -> Cost:
    """One run or point with all of its attempts, from its record; `rate` wins over that of the record's site."""
    resources = record.get("resources") or {}
    if rate is None:
        rate = ((record.get("config") or {}).get("site") or {}).get("charge_rate")
    attempts = record.get("attempts") or ([record] if record.get("wall_seconds") is not None else [])
    total = Cost(rate=rate)
    for number, attempt in enumerate(attempts):
        slurm = attempt.get("slurm") or record.get("slurm") or {}
        cores = asked_cores = resources.get("cpus") or 1
        if slurm.get("cpus"):  # a point that ran beside others in one job held its share
            cores = slurm["cpus"] * (slurm.get("nodes") or 1) / (slurm.get("slots") or 1)
        limit = resources.get("time_limit")
        wait = record.get("queue_seconds")
        if wait is None:
            wait = seconds_between(slurm.get("submitted_at"), attempt.get("started_at"))
        total += _attempt(
            cores=cores,
            wall=attempt.get("wall_seconds"),
            used=attempt.get("cpu_seconds"),
            asked=None if limit is None else asked_cores * limit,
            succeeded=attempt.get("state") == "succeeded",
            wait=wait if number == 0 else 0.0,
        )
    return total


def cost_of_event(event: Mapping[str, Any]) -> Cost:
    """One attempt, as the journal tells its end."""
    return _attempt(
        cores=event.get("cores", 1),
        wall=event.get("wall"),
        used=event.get("cpu"),
        asked=event.get("asked"),
        succeeded=event.get("state") == "succeeded",
        wait=event.get("wait") or 0.0,
    )


def planned_cost(line: Mapping[str, Any]) -> dict[str, float]:
    """What a line of `plan.jsonl` tells of the cost of an attempt, for the event of its end."""
    cpus, limit_s = line.get("cpus", 1), line.get("limit")
    cost: dict[str, float] = {"cores": cpus} if cpus != 1 else {}
    return cost if limit_s is None else {**cost, "asked": round(cpus * limit_s, 1)}


def cost_of_points(layout: SweepLayout) -> dict[int, Cost]:
    """The cost of every point that has had an attempt, by its number."""
    rate = read_description(layout).get("charge_rate")
    found: dict[int, Cost] = {}
    for _, _, event in read_events(layout.events, layout.reserve):
        if event.get("e") == "end" and isinstance(number := event.get("n"), int) and number >= 0:
            found[number] = found.get(number, Cost(rate=rate)) + cost_of_event(event)
    return found


def cost_of_state(state: SweepState, rate: float | None = None) -> Cost:
    """The cost of a whole sweep, as its journal adds up."""
    return Cost(
        attempts=state.ended,
        asked_core_seconds=None if state.unbounded else state.asked_core_seconds,
        held_core_seconds=state.held_core_seconds,
        used_core_seconds=state.cpu_seconds,
        failed_core_seconds=state.failed_core_seconds,
        queue_seconds=state.queue_seconds,
        rate=rate,
    )


def cost_of_sweep(layout: SweepLayout) -> Cost:
    """The cost of a whole sweep, up to now."""
    description = read_description(layout)
    return cost_of_state(read_state(layout, description["points"]), description.get("charge_rate"))


def remaining_core_seconds(layout: SweepLayout, numbers: set[int]) -> float | None:
    """What some points of a sweep may take at most (CPUs × time limit); None where one has no limit."""
    total = 0.0
    for line in plan_lines(layout, numbers):
        if line.get("limit") is None:
            return None
        total += line.get("cpus", 1) * line["limit"]
    return total


def _attempt(
    *, cores: float, wall: float | None, used: float | None, asked: float | None, succeeded: bool, wait: float
) -> Cost:
    held = cores * (wall or 0.0)
    return Cost(
        attempts=1,
        asked_core_seconds=asked,
        held_core_seconds=held,
        used_core_seconds=used or 0.0,
        failed_core_seconds=0.0 if succeeded else held,
        queue_seconds=wait,
    )


def seconds_between(earlier: str | None, later: str | None) -> float:
    """Seconds between two times of a record; clocks of two machines may differ, a wait is never negative."""
    if not earlier or not later:
        return 0.0
    try:
        return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())
    except ValueError as error:
        raise RecordError(f"a record holds times that are none: {error}") from error


@dataclass(slots=True)
class Bound:
    """The most that all points of a sweep can cost, added up while they are planned."""

    core_seconds: float = 0.0
    unlimited: int = 0

    def add(self, core_seconds: float | None) -> None:
        """One more point; None: it has no time limit."""
        if core_seconds is None:
            self.unlimited += 1
        else:
            self.core_seconds += core_seconds

    def text(self) -> str:
        """For a person."""
        if self.unlimited:
            return f"no bound: {self.unlimited} points have no time limit (resources.time_limit)"
        return f"at most {hours_text(self.core_seconds)} (cpus × time limit)"

    def why_too_much(self, max_core_hours: float | None) -> Finding | None:
        """What keeps the sweep from being started, where somebody said how much it may cost."""
        if max_core_hours is None:
            return None
        key, value = "sweep.max_core_hours", f"{max_core_hours:g}"
        if self.unlimited:
            rule = f"{self.unlimited} points have no time limit, so nobody knows how many core-hours they may take"
            return Finding(key, rule, value=value, mend="set resources.time_limit")
        if self.core_seconds <= max_core_hours * 3600:
            return None
        rule = f"the sweep may take up to {hours_text(self.core_seconds)} core-hours (cpus × time limit, all attempts)"
        return Finding(key, rule, value=value, mend="ask for less time or fewer points, or raise sweep.max_core_hours")

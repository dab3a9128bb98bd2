"""`resume --update`: the sweep as its repository describes it now, beside the sweep as it was submitted.

    old plan.jsonl + points composed anew  →  UpdatePlan: the same, changed, new, gone  →  journal, new plan.jsonl

What makes another simulation (`science_id`) runs again, its earlier directory is kept aside; other limits, queues,
accounts or names run nothing again.

The order of writing is: `changed` events, then the plan, then `sweep.json`.  A driver that dies in between leaves at
worst points that run once more as they were; never one that passes for what it is not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.errors import SiteError
from rompy_hydra.plan.point import InvalidPoint
from rompy_hydra.sweep.invalid import InvalidPoints
from rompy_hydra.sweep.journal import Journal
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.table import cell, plan_lines
from rompy_hydra.sweeping.planning import PlannedPoint, fit_line, plan_fields

_MOST_COMPARED = 50
_OF_THE_PLACE = frozenset({"run_id", "output_dir"})
_NOT_SCIENCE = ("cpus", "memory", "limit", "backend", "point")


@dataclass(slots=True)
class UpdatePlan:
    """What differs; `lines` is the new plan, ordered by number."""

    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    same: int = 0
    changed: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    other_limits: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs that could matter to a point that is still to run."""
        return not (self.changed or self.new or self.gone or self.other_limits)

    def text(self) -> str:
        """For a person."""
        parts = [f"{self.same} points are the same simulation as before"]
        if self.other_limits:
            parts.append(f"{self.other_limits} of them with other resources or limits, which runs nothing again")
        for number, what in ((len(self.changed), "changed"), (len(self.new), "new"), (len(self.gone), "gone")):
            if number:
                parts.append(f"{number} {what}")
        return ", ".join(parts)


def compare(
    layout: SweepLayout, points: Iterable[PlannedPoint | InvalidPoint]
) -> tuple[UpdatePlan, dict[int, tuple[str, ...]]]:
    """The old plan beside the points as they are now; numbers of old points stay.

    Also gives number → overrides of the changed ones, to tell what differs.  Raises `ConfigError` for invalid points.
    """
    old = {_key(line): line for line in plan_lines(layout)}
    update = UpdatePlan()
    overrides: dict[int, tuple[str, ...]] = {}
    invalid = InvalidPoints()
    following = max((line["n"] for line in old.values()), default=-1) + 1
    total = 0
    for point in points:
        total += 1
        if isinstance(point, InvalidPoint):
            invalid.add(point)
            continue
        line = plan_fields(point.line())
        before = old.pop(_key(line), None)
        if before is None:
            is_numbered = line["name"] == str(line["n"])
            line["n"] = following
            line["name"] = str(following) if is_numbered else line["name"]
            following += 1
            update.new.append(line["n"])
        else:
            line |= {"n": before["n"], "name": before["name"]}
            if before.get("science") != line["science"]:
                update.changed.append(line["n"])
                overrides[line["n"]] = tuple(line["overrides"])
            else:
                update.same += 1
                update.other_limits += any(before.get(name) != line.get(name) for name in _NOT_SCIENCE)
        update.lines[line["n"]] = line
    if invalid:
        raise invalid.error(total)
    for line in old.values():
        update.gone.append(line["n"])
        update.lines[line["n"]] = {**line, "gone": True}
    return update, overrides


def _key(line: Mapping[str, Any]) -> str:
    """What makes a point the same point: what varies, and the repeat; a named one its name."""
    is_named = line["name"] != str(line["n"])
    return json.dumps([line["name"] if is_named else None, line.get("swept"), line.get("repeat", 0)], sort_keys=True)


def differences(
    numbers: Iterable[int], before: Callable[[int], Mapping[str, Any]], now: Callable[[int], Mapping[str, Any]]
) -> Iterator[str]:
    """`model.parameters.wind_stress: 0.1 → 0.2 (points 3, 4)`, of the first changed points."""
    found: dict[str, list[int]] = {}
    for count, number in enumerate(numbers):
        if count == _MOST_COMPARED:
            break
        old, new = dict(_flat(before(number))), dict(_flat(now(number)))
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in _OF_THE_PLACE]
        for key in keys:
            text = f"{key}: {cell(old.get(key))} → {cell(new.get(key))}"
            found.setdefault(text, []).append(number)
        if not keys:
            what = "the template, an input, or the model's program is another one"
            found.setdefault(what, []).append(number)
    for text, points in found.items():
        shown = ", ".join(map(str, points[:8])) + (", …" if len(points) > 8 else "")
        yield f"{text} (point{'s' if len(points) > 1 else ''} {shown})"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def write_update(layout: SweepLayout, update: UpdatePlan, journal: Journal) -> None:
    """Journal what changed, then replace the plan."""
    journal.state.grow(max(update.lines, default=-1) + 1)
    for number in update.changed:
        journal.write("changed", n=number)
    for number in update.gone:
        if journal.state.is_open(number):
            journal.write("invalid", n=number, why="it is not in the design any more")
    journal.sync()
    aside = layout.plan.with_name(f"{layout.plan.name}.{os.getpid()}")
    try:
        with aside.open("wb") as plan:
            for number in sorted(update.lines):
                plan.write(fit_line(layout, update.lines[number]))
            plan.flush()
            os.fsync(plan.fileno())
        aside.replace(layout.plan)
    except OSError as error:
        raise SiteError(f"{layout.plan} cannot be written: {error.strerror}") from error


def next_snapshot(layout: SweepLayout) -> Path:
    """A directory for one more snapshot; the earlier ones stay, for the runs that were made from them."""
    number = 2
    while (place := layout.snapshot.with_name(f"{layout.snapshot.name}.{number}")).exists():
        number += 1
    return place

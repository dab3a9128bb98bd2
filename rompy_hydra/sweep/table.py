"""What became of a sweep, as text: a row for each point where there are few, the failures where there are many."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rompy_hydra.errors import RecordError
from rompy_hydra.sweep.layout import SweepLayout, point_directory
from rompy_hydra.sweep.lines import read_lines
from rompy_hydra.sweep.progress import FAILURES
from rompy_hydra.sweep.state import SweepState, event_at
from rompy_hydra.units.durations import format_duration
from rompy_hydra.units.sizes import format_memory

ASIDE = ("overrides", "swept")
"""What stands in a file of its own where the line of a point would be too long."""

MOST_ROWS = 40
MOST_FAILURES = 20
_CELL_MAX = 40


def plan_lines(layout: SweepLayout, numbers: set[int] | None = None) -> Iterator[dict[str, Any]]:
    """The points as they were planned; with `numbers` only these, in their order."""
    if numbers is None:
        for _, _, fields in read_lines(layout.plan):
            yield _whole(layout, fields)
        return
    wanted = sorted(numbers)
    if not wanted:
        return
    with layout.plan.open("rb") as plan:
        before = -1
        for number in wanted:
            line = next(itertools.islice(plan, number - before - 1, None), b"")
            before = number
            if not line:
                return  # it was removed from the end: whoever looks sees what is there
            try:
                fields = json.loads(line)
            except ValueError as error:
                raise RecordError(f"{layout.plan}:{number + 1} is torn or was edited: {error}") from error
            yield _whole(layout, fields)


def _whole(layout: SweepLayout, fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("aside"):
        fields |= json.loads((layout.aside / fields.pop("aside")).read_bytes())
    return fields


def directory_of(layout: SweepLayout, fields: Mapping[str, Any], *, fan_out: bool) -> Path:
    """Where a planned point lies."""
    return layout.point(point_directory(fields["n"], fields["name"], fields.get("dir"), fan_out=fan_out))


def swept_text(swept: Mapping[str, Any]) -> str:
    """`threads=4 wind_stress=0.2`: the swept keys by their last names, where that is enough to tell them apart."""
    lasts = [key.rpartition(".")[2] for key in swept]
    names = lasts if len(set(lasts)) == len(lasts) else list(swept)
    return " ".join(f"{name}={cell(value)}" for name, value in zip(names, swept.values(), strict=True))


def cell(value: Any) -> str:
    """A value as it is written in YAML, short."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _CELL_MAX else text[: _CELL_MAX - 1] + "…"


def final_table(layout: SweepLayout, state: SweepState) -> str:
    """A row for each point of a small sweep; empty for a big one."""
    if state.total > MOST_ROWS:
        return ""
    ends = {event["n"]: event for _, _, event in read_lines(layout.events) if event.get("e") == "end"}
    points = list(plan_lines(layout))
    keys = list(dict.fromkeys(key for point in points for key in point.get("swept", {})))
    lasts = [key.rpartition(".")[2] for key in keys]
    repeats = ["repeat"] if any(point.get("repeat") for point in points) else []
    names = lasts if len(set(lasts)) == len(lasts) else keys
    heads = ["point", *names, *repeats, "state", "wall", "cpu", "memory"]
    rows = [heads]
    for point in points:
        number = point["n"]
        end = ends.get(number, {})
        swept = point.get("swept", {})
        rows.append(
            [
                str(point["name"]),
                *(cell(swept[key]) if key in swept else "" for key in keys),
                *(str(point.get("repeat", 0)) for _ in repeats),
                state.state_of(number),
                format_duration(end["wall"]) if end.get("wall") is not None else "",
                format_duration(end["cpu"]) if end.get("cpu") is not None else "",
                format_memory(end["mem"]) if end.get("mem") else "",
            ]
        )
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    """Columns under each other; numbers (by their heads: the last three) to the right would help nobody here."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def failed_points(layout: SweepLayout, state: SweepState) -> list[tuple[int, str, str]]:
    """(number, state, reason) of the points that ended badly, the first of them."""
    found = []
    for number in itertools.islice(state.numbers(*FAILURES), MOST_FAILURES):
        event = event_at(layout, state.bad[number]) if number in state.bad else {}
        found.append((number, state.state_of(number), str(event.get("reason", ""))))
    return found


def summary(state: SweepState) -> str:
    """`998 succeeded, 2 failed`."""
    parts = [f"{n} {name}" for name, n in state.counts().items()]
    if state.post_failed:
        parts.append(f"the postprocessor failed for {len(state.post_failed)}")
    return ", ".join(parts)

"""How pages say things: durations, moments, states, core-hours, and the addresses of files."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rompy_hydra.record.store import utc
from rompy_hydra.sweep.cost import hours_text
from rompy_hydra.sweep.state import INVALID
from rompy_hydra.units.durations import format_duration

REFRESH_S = 10
"""How often a page reloads itself while something runs."""


def seconds(value: float) -> str:
    """A duration for people, with three digits below a minute."""
    if value >= 59.95:
        return format_duration(value)
    return f"{value:.3g} s" if value >= 0.9995 else f"{value * 1000:.3g} ms"


def seconds_of(text: Any) -> float | None:
    """A time on disk as seconds since the epoch; None for none."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def moment(when_s: float) -> dict[str, str]:
    """A time for a machine and for a person."""
    return {"utc": utc(when_s), "local": f"{datetime.fromtimestamp(when_s).astimezone():%Y-%m-%d %H:%M:%S %Z}"}


def moment_of(text: Any) -> dict[str, str] | None:
    """The same of a time on disk."""
    return None if (when := seconds_of(text)) is None else moment(when)


def words_of(state: str) -> str:
    """A state for a person."""
    return "left out" if state == INVALID else state.replace("_", " ")


def core_time(core_seconds: float) -> tuple[str, str]:
    """A figure and its unit: core-hours, but core-seconds where those would be less than a hundredth."""
    if 0 < core_seconds < 36:
        return f"{core_seconds:.3g}", "core-seconds"
    return hours_text(core_seconds), "core-hours"


def core_text(core_seconds: float) -> str:
    """The same as text."""
    return " ".join(core_time(core_seconds))


def link(path: Path, target: Path) -> str:
    """A relative address of a file, from where the page lies; never one with a scheme."""
    relative = os.path.relpath(path, target.parent)
    encoded = quote(os.fsencode(relative))
    return encoded if encoded.startswith(".") else f"./{encoded}"

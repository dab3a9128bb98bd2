"""Figures that an analysis left beside a run, flat: `temp.mean` → 8.5.

`analyze` writes them flat; a `metrics.json` of a user's own program may be nested, and say units.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rompy_hydra.postprocess.products import METRICS_NAME

MOST = 200
_MOST_BYTES = 4 * 2**20


def metrics_of(run_dir: Path, record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of `metrics.json`, else those that a postprocessor answered; the first `MOST` of them."""
    path = run_dir / METRICS_NAME
    try:
        return metrics_in(path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b"", record)
    except OSError:  # none
        return metrics_in(b"", record)


def metrics_in(text: bytes, record: Mapping[str, Any]) -> dict[str, float]:
    """The same of the content of `metrics.json`; empty: there is none."""
    try:
        told = json.loads(text)
    except ValueError:  # none, or being written: there are no figures to show then
        done = record.get("postprocess")
        told = done.get("metrics") if isinstance(done, dict) else None
    return dict(itertools.islice(_leaves(told, ""), MOST))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        if "value" in value and isinstance(value["value"], int | float):  # {"value": 1.2, "units": "m"}
            units = value.get("units")
            yield from _leaves(value["value"], f"{key} [{units}]" if units and key else key)
            return
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:20]):
            yield from _leaves(inner, f"{key}.{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool) and key and math.isfinite(value):
        yield key, float(value)

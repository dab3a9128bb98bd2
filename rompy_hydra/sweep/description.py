"""`sweep.json`: what a sweep is, written once, when all of its points are planned."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rompy_hydra.errors import RecordError, SiteError
from rompy_hydra.sweep.layout import SWEEP_NAME, SweepLayout

SCHEMA = "rompy-hydra/sweep"
SCHEMA_VERSION = 1


def write_description(layout: SweepLayout, data: dict[str, Any]) -> None:
    """Write it aside, then rename it: from then on the sweep is there."""
    text = json.dumps({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **data}, indent=2)
    aside = layout.description.with_name(f".{SWEEP_NAME}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(layout.description)
    except OSError as error:
        raise SiteError(f"{layout.description} cannot be written: {error.strerror}") from error


def read_description(layout: SweepLayout) -> dict[str, Any]:
    """What the sweep is.  `RecordError` where there is none, or one that we cannot read."""
    path = layout.description
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        if layout.plan.exists():
            raise RecordError(
                f"the sweep {layout.sweep_dir} was not planned to its end, nothing of it was started: "
                "remove the directory and start it again"
            ) from error
        raise RecordError(f"there is no sweep in {layout.sweep_dir}: {path} does not exist") from error
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise RecordError(f"{path} does not describe a sweep of ours")
    if data.get("schema_version", 0) > SCHEMA_VERSION:
        raise RecordError(f"{path} was written by a newer rompy-hydra: update rompy-hydra to read it")
    return data


def find_sweep(path: Path) -> SweepLayout | None:
    """The sweep that a directory is, if it is one."""
    layout = SweepLayout(path.absolute())
    return layout if layout.is_sweep else None

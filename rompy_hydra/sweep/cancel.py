"""How a sweep's driver is asked to end points: a small file, so that it works from any machine that sees the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from rompy_hydra.errors import SiteError
from rompy_hydra.sweep.layout import SweepLayout


def ask_to_cancel(layout: SweepLayout, numbers: Iterable[int] | None) -> None:
    """Ask for the end of some points, or (None) of the whole sweep."""
    aside = layout.cancel.with_name(f"{layout.cancel.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps({"points": None if numbers is None else sorted(numbers)}))
        aside.replace(layout.cancel)
    except OSError as error:
        raise SiteError(f"{layout.cancel} cannot be written: {error.strerror}") from error


def read_cancel_request(layout: SweepLayout) -> set[int] | None:
    """The points that somebody wants ended, None for all; the request is taken away, so that it is heeded once."""
    try:
        asked = json.loads(layout.cancel.read_bytes())["points"]
        layout.cancel.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return None if asked is None else {number for number in asked if isinstance(number, int)}

"""What the postprocessors left of a run to look at: `products_of(run_dir)` → its pictures, its gallery, its figures.

For whoever shows a run (the gallery itself, a report):

    products = products_of(run_dir)
    products.pictures    [Pictured(path, kind, title, alt), …]  in the order in which they should be shown
    products.gallery     the page with all of them (`pictures/index.html`, or `pictures.html` which holds them), or None
    products.metrics     {"temp.mean": 8.5, …} of `metrics.json`, sorted by name

Nothing is imported but the standard library, and nothing is read but two small files.  A picture that is gone, and a
file that cannot be read, are left out.  In a point of a sweep the pictures are inside `pictures.html`, and the list is
empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PICTURES = "pictures"
LISTING = "pictures.json"
PAGE_WITH_ALL = "pictures.html"
METRICS_NAME = "metrics.json"


@dataclass(frozen=True, slots=True)
class Pictured:
    """One picture: `alt` says in words what is to be seen."""

    path: Path
    kind: str
    title: str
    alt: str


@dataclass(frozen=True, slots=True)
class Products:
    """Of one run."""

    pictures: list[Pictured] = field(default_factory=list)
    gallery: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def products_of(run_dir: Path) -> Products:
    """The pictures, the gallery and the figures of the run in a directory; all empty where there are none."""
    folder = run_dir / PICTURES
    listed = _read(folder / LISTING).get("pictures")
    pictures = []
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping) and "/" not in (name := str(entry.get("file", ""))) and (folder / name).is_file():
            told = (str(entry.get(key, "")) for key in ("kind", "title", "alt"))
            pictures.append(Pictured(folder / name, *told))
    pages = (folder / "index.html", run_dir / PAGE_WITH_ALL)
    found = [page for page in pages if page.is_file()]
    return Products(
        pictures=pictures,
        gallery=max(found, key=lambda page: page.stat().st_mtime, default=None),
        metrics=dict(
            sorted((name, value) for name, value in _read(run_dir / METRICS_NAME).items() if _is_number(value))
        ),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""The pictures of a run, as they are put into its page: of `visualize`, of other postprocessors, of its folders."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.postprocess.products import products_of

FOLDERS = ("plots", "pictures", "figures", "visualize", "visualization")
KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
MOST = 60
MOST_BYTES = 24 * 2**20
"""Of all pictures of a page together; what is beyond is linked."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: `alt` says in words what is to be seen; `source` is its data, empty where it is only linked."""

    path: Path
    title: str
    alt: str
    source: str


def pictures_of(run_dir: Path, record: Mapping[str, Any]) -> list[Picture]:
    """In the order in which they should be shown; never one from outside of the run's directory."""
    found: list[Picture] = []
    room = MOST_BYTES
    for path, title, alt in _candidates(run_dir, record):
        try:
            size = path.stat().st_size
            fits = len(found) < MOST and size <= room
            data = path.read_bytes() if fits else b""
        except OSError:  # removed or being written: a later report shows it
            continue
        room -= len(data)
        kind = KINDS[path.suffix.lower()]
        source = f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else ""
        found.append(Picture(path, title, alt or title, source))
    return found


def gallery_of(run_dir: Path) -> Path | None:
    """The page of `visualize` with all of its pictures."""
    return products_of(run_dir).gallery


def _candidates(run_dir: Path, record: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    root = run_dir.resolve()
    found = [(one.path, one.title, one.alt) for one in products_of(run_dir).pictures]
    found += [(run_dir / name, "", "") for name in _named(record.get("postprocess"))]
    found += [(path, "", "") for name in FOLDERS for path in sorted((run_dir / name).rglob("*"))]
    seen: set[Path] = set()
    for path, title, alt in found:
        resolved = path.resolve()
        if resolved in seen or path.suffix.lower() not in KINDS or not resolved.is_relative_to(root):
            continue
        if resolved.is_file() and path.is_relative_to(run_dir):
            seen.add(resolved)
            yield path, title or path.relative_to(run_dir).as_posix(), alt


def _named(told: Any) -> Iterator[str]:
    """Every text of a postprocessor's answer that looks like the path of a picture."""
    if isinstance(told, str):
        if Path(told).suffix.lower() in KINDS and "\0" not in told:
            yield told
    elif isinstance(told, Mapping):
        for value in told.values():
            yield from _named(value)
    elif isinstance(told, list):
        for value in told:
            yield from _named(value)

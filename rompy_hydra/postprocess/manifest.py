"""The manifest of an archive: a line of JSON for each file, inside the archive and beside it; also its index.

    {"schema": "rompy-hydra/archive", "schema_version": 1, "kind": "run", "name": "tide", "format": "tar.gz", …}
    {"path": "out/tide.nc", "bytes": 5120, "sha256": "…", "mode": "644", "mtime_ns": …, "at": 1536}
    {"path": "latest.nc", "link": "out/tide.nc", "at": 512}
    {"path": "out", "folder": true, "mode": "755", "at": 0}
    {"files": 3, "bytes": 5120, "archive": "tide.tar.gz", "archive_bytes": 3210, "frames": [0, 1024, …]}

Paths come in their order on the disk (folder by folder, sorted by their bytes).  `at` is where the contents lie: in a
tar in the uncompressed stream, in a zip where the member's header begins (`packed`: the compressed size).  The last
line, which proves that none is missing, has `archive…` and `frames` only in the file beside.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rompy_hydra.errors import RecordError, SiteError

SCHEMA = "rompy-hydra/archive"
SCHEMA_VERSION = 1
FORMATS = ("tar.gz", "tar.zst", "zip")
INSIDE = ".archive-manifest.jsonl"
_BESIDE = ".manifest.jsonl"

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode  # lone surrogates: names that are no UTF-8


class DamagedArchiveError(SiteError):
    """An archive does not hold what it should: it was cut off, overwritten, or the disk lost something."""


def manifest_path(archive: Path) -> Path:
    """Where the manifest of an archive lies."""
    return archive.with_name(f"{archive.name}{_BESIDE}")


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def dump(fields: Mapping[str, Any]) -> bytes:
    """One line."""
    return f"{_encode(fields)}\n".encode()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest file: its header and its end; the entries are read when they are wanted."""

    path: Path
    header: dict[str, Any]
    end: dict[str, Any]

    @property
    def archive(self) -> Path:
        """The archive that it tells of; it may lie elsewhere."""
        return self.path.parent / str(self.end["archive"])

    def entries(self, below: str = "") -> Iterator[dict[str, Any]]:
        """The entries; `below`: only those of one folder, without reading the others closely."""
        start = b'{"path":"' if not below else _encode({"path": f"{below}/"})[:-2].encode()
        with self.path.open("rb") as file:
            if below:
                file.seek(_first_line(file, start))
            for line in file:
                if line.startswith(start):
                    yield json.loads(line)
                elif below:
                    return  # what lies in one folder stands together


def load_manifest(path: Path) -> Manifest | None:
    """The manifest in a file; None where there is none, or one that was not written to its end."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
            end = json.loads(_last_line(file))
    except (OSError, ValueError):
        return None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA or "files" not in end:
        return None
    if header.get("schema_version", 0) > SCHEMA_VERSION:
        raise RecordError(f"{path} was written by a newer rompy-hydra: update rompy-hydra to read it")
    return Manifest(path, header, end)


def _first_line(file: BinaryIO, start: bytes) -> int:
    """Where the first line begins that starts so; the end of the file if none does."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = text.find(b"\n" + start)
        return found + 1 if found >= 0 else len(text)


def _last_line(file: BinaryIO) -> bytes:
    """The last line of a file, however long it is (it holds where the frames begin)."""
    size = file.seek(0, os.SEEK_END)
    want = 64 * 1024
    while True:
        file.seek(max(0, size - want))
        data = file.read().rstrip(b"\n")
        if b"\n" in data or want >= size:
            return data.rpartition(b"\n")[2]
        want *= 8


def check_path(path: object) -> str:
    """A path of a manifest, if it stays below its folder; an archive may come from anywhere."""
    if not isinstance(path, str) or not path or path.startswith("/") or "\0" in path:
        raise DamagedArchiveError(f"it holds the path {path!r:.80}, which is not below its folder")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise DamagedArchiveError(f"it holds the path {path!r:.80}, which is not below its folder")
    return path

"""A sweep whose points lie in one archive: their records, logs and outputs, read without unpacking the rest.

    <sweep_dir>/points.tar.gz                  the archive (or somewhere else: the index knows)
    <sweep_dir>/points.tar.gz.manifest.jsonl   its index

A point's own directory wins where it is there (again): whoever reads asks `read_record` and `open_file`, and need not
know which of the two he got.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from rompy_hydra.errors import ConfigError, RecordError, SiteError
from rompy_hydra.postprocess.manifest import FORMATS, Manifest, load_manifest, manifest_path
from rompy_hydra.record import store
from rompy_hydra.record.store import RECORD_NAME
from rompy_hydra.sweep.layout import SweepLayout

STEM = "points"


@dataclass(frozen=True, slots=True)
class Pack:
    """The archive of a sweep's points; paths are relative to the sweep's directory, with slashes."""

    layout: SweepLayout
    manifest: Manifest

    @property
    def archive(self) -> Path:
        """Where it lies."""
        return self.manifest.archive

    def files(self, run_dir: Path) -> dict[str, dict[str, Any]]:
        """What it holds of a point: path below the point's directory → entry."""
        below = self._relative(run_dir)
        cut = len(below) + 1
        return {e["path"][cut:]: e for e in self.manifest.entries(below) if "sha256" in e}

    def logs(self, run_dir: Path, stream: str) -> list[str]:
        """The logs of a stream (`stdout`), of the first attempt first."""
        names = [name for name in self.files(run_dir) if "/" not in name and _attempt(name, stream)]
        return sorted(names, key=lambda name: _attempt(name, stream))

    @contextmanager
    def open_file(self, run_dir: Path, name: str) -> Iterator[BinaryIO]:
        """A file of a point, to read from anywhere.  `RecordError` where it is not in there."""
        entry = self.files(run_dir).get(name)
        if entry is None:
            raise RecordError(f"{self.archive} holds no {self._relative(run_dir)}/{name}")
        self._check_archive()
        with self._open(entry) as file:
            yield file

    def tail(self, run_dir: Path, name: str, size: int) -> bytes:
        """The last bytes of a file of a point; empty where it is not in there, or the archive is gone."""
        try:
            with self.open_file(run_dir, name) as file:
                file.seek(max(0, file.seek(0, io.SEEK_END) - size))
                return file.read()
        except (RecordError, SiteError):
            return b""

    def read_record(self, run_dir: Path) -> dict[str, Any]:
        """The record of a point."""
        with self.open_file(run_dir, RECORD_NAME) as file:
            return _record(file.read())

    def records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The records of all points, by their directories, in one pass."""
        from rompy_hydra.postprocess.archive_formats import read_entries

        self._check_archive()
        wanted = (e for e in self.manifest.entries() if e["path"].endswith(f"/{RECORD_NAME}") and "sha256" in e)
        for entry, text in read_entries(self.manifest, wanted):
            yield self.layout.point(entry["path"].rpartition("/")[0]), _record(text)

    def _open(self, entry: dict[str, Any]) -> AbstractContextManager[BinaryIO]:
        from rompy_hydra.postprocess.archive_formats import open_entry  # here: `status` of what is not packed is quick

        return open_entry(self.manifest, entry)

    def _relative(self, run_dir: Path) -> str:
        return run_dir.absolute().relative_to(self.layout.sweep_dir).as_posix()

    def _check_archive(self) -> None:
        if not self.archive.is_file():
            raise RecordError(
                f"the points of {self.layout.sweep_dir} were packed into {self.archive}, which is not there any more;"
                f" where it lies now goes into the last line of {self.manifest.path}"
            )


def find_pack(layout: SweepLayout) -> Pack | None:
    """The archive of a sweep's points, if they were packed."""
    for form in FORMATS:
        found = load_manifest(manifest_path(layout.sweep_dir / f"{STEM}.{form}"))
        if found is not None:
            return Pack(layout, found)
    return None


def read_record(layout: SweepLayout, run_dir: Path) -> dict[str, Any]:
    """The record of a point, from its directory or from the pack.  `RecordError` if there is none."""
    if (run_dir / RECORD_NAME).exists() or (pack := find_pack(layout)) is None:
        return store.read_record(run_dir)
    return pack.read_record(run_dir)


@contextmanager
def open_file(layout: SweepLayout, run_dir: Path, name: str) -> Iterator[BinaryIO | None]:
    """A file of a point (a log, `metrics.json`), from its directory or from the pack; None if there is none."""
    path = run_dir / name
    if path.is_file():
        with path.open("rb") as file:
            yield file
        return
    pack = find_pack(layout)
    if pack is None or name not in pack.files(run_dir):
        yield None
        return
    with pack.open_file(run_dir, name) as file:
        yield file


def refuse_packed(layout: SweepLayout, what: str) -> None:
    """`ConfigError` for something that needs the points' own directories, while they are packed."""
    pack = find_pack(layout)
    if pack is not None and not layout.snapshot.is_dir():
        raise ConfigError(
            f"the points of {layout.sweep_dir} are packed, so it cannot be {what};"
            f" first: rompy-hydra postprocess {layout.sweep_dir} --restore"
        )


def _attempt(name: str, stream: str) -> int:
    """Which attempt's log it is; 0 for what is none."""
    parts = name.split(".")
    if parts[0] != stream or parts[-1] != "log":
        return 0
    if len(parts) == 2:
        return 1
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0


def _record(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RecordError(f"a packed record is torn or was edited: {error}") from error
    return cast("dict[str, Any]", found)

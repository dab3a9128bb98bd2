"""What a sweep was submitted with: a copy of its configs and templates, so that later edits change none of its points.

    snapshot/0/conf/…  snapshot/0/templates/…     the first repository
    snapshot/1/…                                  the next one; the packaged one is last

A file above 64 MiB is not copied but linked, and watched: a sweep whose linked file has changed is not resumed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, SiteError

LARGEST_COPY_BYTES = 64 * 1024 * 1024
_LEFT_OUT = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".DS_Store", ".mypy_cache", ".ruff_cache"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where each repository lies in the snapshot, in their order; `linked`: file → (bytes, mtime in ns)."""

    confs: tuple[Path, ...]
    linked: Mapping[str, tuple[int, int]]


def take_snapshot(directory: Path, repositories: Sequence[tuple[Path, Path]]) -> Snapshot:
    """Copy the (conf, templates) directories of every repository.

    Raises `SiteError` where that cannot be read or written.
    """
    confs: list[Path] = []
    linked: dict[str, tuple[int, int]] = {}
    try:
        for number, (conf, templates) in enumerate(repositories):
            place = directory / str(number)
            _copy(conf, place / "conf", linked)
            if templates.is_dir():
                _copy(templates, place / "templates", linked)
            confs.append(place / "conf")
    except OSError as error:
        raise SiteError(f"the snapshot {directory} cannot be made: {error.filename}: {error.strerror}") from error
    return Snapshot(tuple(confs), linked)


def check_links(linked: Mapping[str, Sequence[int]]) -> None:
    """Raise `ConfigError` with every linked file that is not what it was."""
    findings = []
    for name, before in linked.items():
        try:
            status = Path(name).stat()
            now: Any = [status.st_size, status.st_mtime_ns]
        except OSError as error:
            now = error.strerror
        if now != list(before):
            rule = "has changed since the sweep was submitted" if isinstance(now, list) else f"cannot be read: {now}"
            findings.append(
                Finding(key="", value=name, rule=rule, mend="put it back, or start a new sweep (or resume --update)")
            )
    if findings:
        raise ConfigError("a large file of a template, which the snapshot only links to, is another one now", findings)


def restored(text: str, snapshot: Path, originals: Mapping[str, Path]) -> str:
    """A message that speaks of the user's own files instead of those in the snapshot."""
    for place, original in originals.items():
        text = text.replace(f"{snapshot / place}{os.sep}", f"{original}{os.sep}")
    return text


def _copy(source: Path, target: Path, linked: dict[str, tuple[int, int]]) -> None:
    target.mkdir(parents=True)
    for folder, subfolders, names in os.walk(source, followlinks=True):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT]
        place = target / Path(folder).relative_to(source)
        for name in subfolders:
            (place / name).mkdir()
        for name in names:
            if name not in _LEFT_OUT:
                _copy_file(Path(folder, name), place / name, linked)


def _copy_file(source: Path, target: Path, linked: dict[str, tuple[int, int]]) -> None:
    if not source.is_file():
        if source.is_symlink():
            target.symlink_to(source.readlink())  # a broken link stays one, and is found where it is looked at
        return
    status = source.stat()
    if status.st_size > LARGEST_COPY_BYTES:
        real = source.resolve()
        target.symlink_to(real)
        linked[str(real)] = (status.st_size, status.st_mtime_ns)
    else:
        shutil.copy2(source, target)

"""The way back: what an archive holds, laid out again, byte for byte; what is there already is never written over.

Everything that stands in the way is found before anything is written.  Each file is unpacked in a folder of our own,
held against its checksum, and only then gets its name, in one step that fails where the name is taken.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.postprocess.archive_formats import Member, read_members
from rompy_hydra.postprocess.archive_writing import ArchiveError, is_as_told
from rompy_hydra.postprocess.manifest import INSIDE, DamagedArchiveError, Manifest, check_path
from rompy_hydra.record.store import marker

_ASIDE = ".restoring"
_MARKER = ".restoring.marker"
_MOST_TOLD = 5
_HOLE = 4096


@dataclass(slots=True)
class Restored:
    """What was brought back; `same` files were there already."""

    files: int = 0
    bytes: int = 0
    same: int = 0
    kept: list[str] = field(default_factory=list)


def restore(manifest: Manifest, into: Path, *, keeps: Callable[[str], bool] = lambda _: False) -> Restored:
    """Lay out what an archive holds in a folder; what is there already and the same is left alone.

    `keeps` says of a path that what is there is newer and right.  Raises `ArchiveError`, before anything is written,
    where something else is in the way; `DamagedArchiveError` where the archive is not what it says.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        with marker(into, name=_MARKER):
            return _restore(manifest, into, keeps)
    except FileExistsError as error:
        raise ArchiveError(f"another process restores {into} at this moment") from error
    except OSError as error:
        raise ArchiveError(f"{error.filename or into}: {error.strerror or error}; call it again to go on") from error


def _restore(manifest: Manifest, into: Path, keeps: Callable[[str], bool]) -> Restored:
    done = Restored()
    wanted = dict(_wanted(manifest, into, keeps, done))
    aside = into / _ASIDE
    shutil.rmtree(aside, ignore_errors=True)  # what a killed call left
    aside.mkdir()
    links: list[Mapping[str, Any]] = []
    folders: list[Mapping[str, Any]] = []
    left = set(wanted)
    try:
        for member in read_members(manifest.archive, manifest.header["format"], _with_frames(manifest)):
            entry = wanted.get(member.path)
            if entry is None or member.path == INSIDE:
                continue
            left.discard(member.path)
            if "link" in entry:
                links.append(entry)
            elif entry.get("folder"):
                (into / entry["path"]).mkdir(parents=True, exist_ok=True)
                folders.append(entry)
            else:
                _place(_unpacked(member, entry, aside / "file"), into / entry["path"])
                done.files += 1
                done.bytes += entry["bytes"]
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if left:
        raise DamagedArchiveError(f"{manifest.archive} lacks {min(left)!r}")
    for link in links:  # after the files, so that none of these can be written through one of them
        (into / link["path"]).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(link["link"], into / link["path"])  # noqa: PTH211  # its text as it is
        done.files += 1
    for folder in reversed(folders):
        _set_meta(into / folder["path"], folder)
    return done


def _with_frames(manifest: Manifest) -> Manifest | None:
    return manifest if "frames" in manifest.end else None


def _wanted(
    manifest: Manifest, into: Path, keeps: Callable[[str], bool], done: Restored
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What has to be laid out; `ArchiveError` names what is in the way."""
    wrong: list[str] = []
    links = {entry["path"] for entry in manifest.entries() if "link" in entry}
    for entry in manifest.entries():
        path = check_path(entry["path"])
        if any(above in links for above in _above(path)) or _leaves(into, path):
            wrong.append(path)
        elif not os.path.lexists(into / path):
            yield path, entry
        elif is_as_told(into / path, entry):
            done.same += not entry.get("folder")
        elif keeps(path):
            done.kept.append(path)
        else:
            wrong.append(path)
    if wrong:
        told = ", ".join(map(repr, wrong[:_MOST_TOLD])) + (", …" if len(wrong) > _MOST_TOLD else "")
        raise ArchiveError(
            f"{len(wrong)} files in {into} differ from those in {manifest.archive}, and nothing is written over:"
            f" {told}; move them away, then restore again"
        )


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _leaves(into: Path, path: str) -> bool:
    """Whether a folder on the way is a link, or no folder."""
    for above in _above(path):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR((into / above).lstat().st_mode):
                return True
    return False


def _unpacked(member: Member, entry: Mapping[str, Any], path: Path) -> Path:
    """The contents of a member in a file, checked; where the original had holes, so has it."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in member.chunks:
            digest.update(chunk)
            if entry.get("sparse"):
                _write_with_holes(file, chunk)
            else:
                file.write(chunk)
        file.truncate(member.size)
    if (member.size, digest.hexdigest()) != (entry["bytes"], entry["sha256"]):
        raise DamagedArchiveError(
            f"{entry['path']!r} in the archive is not what its manifest says; nothing of it was kept"
        )
    _set_meta(path, entry)
    return path


def _write_with_holes(file: Any, chunk: bytes) -> None:
    for start in range(0, len(chunk), _HOLE):
        part = chunk[start : start + _HOLE]
        if any(part):
            file.write(part)
        else:
            file.seek(len(part), os.SEEK_CUR)


def _set_meta(path: Path, entry: Mapping[str, Any]) -> None:
    if "mode" in entry:
        path.chmod(int(entry["mode"], 8) & 0o1777)  # an archive from elsewhere brings nobody more rights
    if "mtime_ns" in entry:
        os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))


def _place(file: Path, path: Path) -> None:
    """Give a file its name, unless something has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, path)  # unlike a rename it writes over nothing
        file.unlink()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(path):  # a file system without hard links
            raise FileExistsError(errno.EEXIST, "it was made by somebody else meanwhile", str(path)) from error
        file.rename(path)

"""How an archive comes to be and how originals go: written aside, read again, renamed, and only then anything removed.

    walk → writer → .NAME.partial, fsync → every member read again → rename → fsync of the folder → originals

A process that is killed at any moment leaves the originals, or a whole and verified archive of those that are gone;
what else it leaves has a name that the next call knows and removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from rompy_hydra.errors import SiteError
from rompy_hydra.postprocess.archive_files import Choice, Item, walk
from rompy_hydra.postprocess.archive_formats import CHUNK, ArchiveWriter, Meta, open_writer, read_members
from rompy_hydra.postprocess.manifest import (
    FORMATS,
    INSIDE,
    SCHEMA,
    SCHEMA_VERSION,
    DamagedArchiveError,
    Manifest,
    dump,
    load_manifest,
    manifest_path,
    partial_path,
)
from rompy_hydra.record.store import marker


class ArchiveError(SiteError):
    """An archive cannot be made, or not as asked; nothing was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What is archived and how: all below `top`, as `choice` says, into `target`.

    `about` goes into the header; `replaced` are files that go in with other contents than they have on the disk.
    """

    top: Path
    target: Path
    form: str
    choice: Choice
    about: Mapping[str, Any] = field(default_factory=dict)
    replaced: Mapping[str, bytes] = field(default_factory=dict)
    level: int | None = None
    reproducible: bool = False


def own_names(stem: str) -> frozenset[str]:
    """What we may have made beside each other for one archive, finished or not."""
    archives = [Path(f"{stem}.{form}") for form in FORMATS]
    files = [*archives, *map(manifest_path, archives)]
    mark = _marker_name(stem)
    return frozenset({*(f.name for f in files), *(partial_path(f).name for f in files), mark, f"{mark}.break"})


def _marker_name(stem: str) -> str:
    return f".{stem}.archiving"


@contextmanager
def sole_archivist(folder: Path, stem: str) -> Iterator[None]:
    """Nobody else makes this archive meanwhile; what an earlier one left half-made is removed.

    `ArchiveError` where somebody does, or the folder cannot be written.
    """
    try:
        held = marker(folder, name=_marker_name(stem), patience_s=1.0)
        held.__enter__()
    except FileExistsError as error:
        raise ArchiveError(
            f"another process is archiving {stem} at this moment; if you know that it is gone (it was on another"
            f" machine), remove {folder / _marker_name(stem)}"
        ) from error
    except FileNotFoundError as error:
        raise ArchiveError(f"the directory {folder} for the archive does not exist; make it first") from error
    except OSError as error:
        raise ArchiveError(f"{folder}: {error.strerror or error}") from error
    try:
        for form in FORMATS:
            target = folder / f"{stem}.{form}"
            for path in (target, manifest_path(target)):
                partial_path(path).unlink(missing_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            held.__exit__(None, None, None)


def write_archive(making: Making) -> Manifest:
    """Write it aside, read all of it again, and give it its name.

    Raises `ArchiveError` for files that change meanwhile, `DamagedArchiveError` where the disk does not give back what
    was written, OSError for a full disk; then nothing has changed.  `MissingToolError` for zstd without its package.
    """
    target, beside = making.target, manifest_path(making.target)
    partial, partial_beside = partial_path(target), partial_path(beside)
    try:
        with partial.open("wb") as file, partial_beside.open("w+b") as listing:
            writer = open_writer(making.form, file, making.level)
            try:
                inside = _write_members(writer, listing, making)
                found = writer.finish()
            finally:
                writer.close()
            _sync(file)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # it is to be read from the disk
            end = {**inside.end, "archive": target.name, "archive_bytes": file.tell(), **found}
            listing.seek(inside.without_end)
            listing.truncate()
            listing.write(dump(end))
            _sync(listing)
        manifest = load_manifest(partial_beside)
        if manifest is None:
            raise DamagedArchiveError(f"{partial_beside} does not hold what was written")
        verify(partial, manifest, inside.sha256)
        beside.unlink(missing_ok=True)  # that of an earlier archive must not be taken for that of the new one
        partial.replace(target)
        partial_beside.replace(beside)
        _sync_folder(target.parent)
    except BaseException:
        for path in (partial, partial_beside):
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return Manifest(beside, manifest.header, manifest.end)


@dataclass(frozen=True, slots=True)
class _Inside:
    """The manifest as it stands inside the archive."""

    end: dict[str, Any]
    without_end: int
    sha256: str


def _write_members(writer: ArchiveWriter, listing: BinaryIO, making: Making) -> _Inside:
    name = making.top.name
    header = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "name": name, "format": making.form, **making.about}
    listing.write(dump(header))
    files = size = 0
    for item in walk(str(making.top), making.choice):
        entry = _write_member(writer, f"{name}/{item.path}", item, making)
        listing.write(dump(entry))
        files += "sha256" in entry or "link" in entry
        size += entry.get("bytes", 0)
    end = {"files": files, "bytes": size}
    without_end = listing.tell()
    listing.write(dump(end))
    total = listing.tell()
    listing.seek(0)
    digest = hashlib.sha256()
    writer.add(f"{name}/{INSIDE}", Meta(stat.S_IFREG | 0o644), total, _hashed(listing, digest))
    return _Inside(end, without_end, digest.hexdigest())


def _write_member(writer: ArchiveWriter, name: str, item: Item, making: Making) -> dict[str, Any]:
    """Add one file, link or folder; its line in the manifest."""
    info = item.info
    meta = _meta(info, reproducible=making.reproducible)
    times = {} if making.reproducible else {"mtime_ns": info.st_mtime_ns}
    mode = {"mode": f"{stat.S_IMODE(meta.mode):o}", **times}
    if item.link is not None:
        where = writer.add(name, meta, 0, [os.fsencode(item.link)])
        return {"path": item.path, "link": item.link, **where}
    if item.is_folder:
        return {"path": item.path, "folder": True, **mode, **writer.add(name, meta, 0, ())}
    digest = hashlib.sha256()
    content = making.replaced.get(item.path)
    if content is not None:
        digest.update(content)
        size = len(content)
        where = writer.add(name, meta, size, [content])
    else:
        size = info.st_size
        with _opened(making.top / item.path, info) as source:
            where = writer.add(name, meta, size, _exactly(source, making.top / item.path, info, digest))
    sparse = {"sparse": True} if item.is_sparse and not making.reproducible else {}
    return {"path": item.path, "bytes": size, "sha256": digest.hexdigest(), **mode, **sparse, **where}


def _meta(info: os.stat_result, *, reproducible: bool) -> Meta:
    """As it is on the disk; or without what differs between two copies of the same: times, owners, umask."""
    if not reproducible:
        return Meta(info.st_mode, info.st_mtime_ns // 10**9, info.st_uid, info.st_gid)
    usual = 0o755 if stat.S_ISDIR(info.st_mode) or info.st_mode & 0o100 else 0o644
    return Meta(stat.S_IFMT(info.st_mode) | (0o777 if stat.S_ISLNK(info.st_mode) else usual))


@contextmanager
def _opened(path: Path, seen: os.stat_result) -> Iterator[BinaryIO]:
    """The file that was listed, and not what somebody put in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor, not a path
        now = os.fstat(descriptor)
        if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino):
            raise ArchiveError(f"{path} was replaced while it was archived; archive a run when nobody writes there")
        yield file


def _exactly(file: BinaryIO, path: Path, seen: os.stat_result, digest: Any) -> Iterator[bytes]:
    """As many bytes as the header has promised, hashed on their way."""
    left = seen.st_size
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        digest.update(chunk)
        yield chunk
    now = os.fstat(file.fileno())
    if left or (now.st_size, now.st_mtime_ns) != (seen.st_size, seen.st_mtime_ns):
        raise ArchiveError(f"{path} changed while it was archived; archive a run when nobody writes there")


def _hashed(file: BinaryIO, digest: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        yield chunk


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        return  # a file system that knows no such thing
    finally:
        os.close(descriptor)


# ---- what there is already


def verify(archive: Path, manifest: Manifest, inside_sha256: str | None = None) -> None:
    """Read all of an archive, each member against its line; `DamagedArchiveError` names the first that differs."""
    form, name = manifest.header["format"], manifest.header["name"]
    size = archive.stat().st_size
    if size != manifest.end["archive_bytes"]:
        raise DamagedArchiveError(f"{archive} has {size} bytes, not {manifest.end['archive_bytes']}: it is not whole")
    entries = manifest.entries()
    for member in read_members(archive, form, manifest):
        digest = hashlib.sha256()
        for chunk in member.chunks:
            digest.update(chunk)
        if member.name == f"{name}/{INSIDE}":
            if inside_sha256 not in (None, digest.hexdigest()):
                raise DamagedArchiveError(f"{archive}: its manifest is not as it was written")
            break
        entry = next(entries, None)
        if entry is None or member.name != f"{name}/{entry['path']}" or member.at != entry["at"]:
            raise DamagedArchiveError(f"{archive} does not hold {entry and entry['path']!r} where its manifest says")
        is_same = (
            (member.size, digest.hexdigest()) == (entry["bytes"], entry["sha256"])
            if "sha256" in entry
            else member.link == entry.get("link")
        )
        if not is_same:
            raise DamagedArchiveError(f"{archive}: {entry['path']!r} is not as its manifest says")
    else:
        raise DamagedArchiveError(f"{archive} ends without its manifest")
    if (missing := next(entries, None)) is not None:
        raise DamagedArchiveError(f"{archive} lacks {missing['path']!r}")


@contextmanager
def opened_manifest(archive: Path) -> Iterator[Manifest]:
    """The manifest of an archive: that beside it, else a copy of that inside; `DamagedArchiveError` if it has none."""
    beside = load_manifest(manifest_path(archive))
    if beside is not None and beside.end.get("archive_bytes") == archive.stat().st_size:
        yield beside
        return
    form = form_of(archive)
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-") as folder:
        copy = Path(folder) / "manifest"
        for member in read_members(archive, form):
            if member.path == INSIDE:
                with copy.open("wb") as file:
                    file.writelines(member.chunks)
        found = load_manifest(copy)
        if found is None:
            raise DamagedArchiveError(f"{archive} holds no manifest of ours ({INSIDE}): unpack it with tar or unzip")
        yield Manifest(copy, found.header, {**found.end, "archive": str(archive.absolute())})


def form_of(archive: Path) -> str:
    """The form that an archive's name tells; `ArchiveError` for another name."""
    found = next((form for form in FORMATS if archive.name.endswith(f".{form}")), None)
    if found is None:
        raise ArchiveError(f"{archive} is none of our archives: its name ends neither in .{', .'.join(FORMATS)}")
    return found


def missing_on_disk(manifest: Manifest, top: Path) -> list[str]:
    """What an archive holds and the disk does not."""
    return [entry["path"] for entry in manifest.entries() if not os.path.lexists(top / entry["path"])]


def changed_on_disk(manifest: Manifest, making: Making) -> list[str]:
    """What lies on the disk and would be archived, and is not in an archive, or not as it is now."""
    known = {entry["path"]: entry for entry in manifest.entries()}
    items = walk(str(making.top), replace(making.choice, left_out=[]))
    return [i.path for i in items if i.path not in known or not is_as_told(making.top / i.path, known[i.path])]


def is_as_told(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether what lies on the disk is what a manifest's entry tells."""
    info = path.lstat()
    if "link" in entry:
        return stat.S_ISLNK(info.st_mode) and str(entry["link"]) == os.readlink(path)  # noqa: PTH115  # its text as it is
    if entry.get("folder"):
        return stat.S_ISDIR(info.st_mode)
    if not stat.S_ISREG(info.st_mode) or info.st_size != entry["bytes"]:
        return False
    return sha256_of(path) == str(entry["sha256"])


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- what is removed


@dataclass(slots=True)
class Removed:
    """What was removed; `kept`: what had changed since it was archived."""

    files: int = 0
    bytes: int = 0
    kept: list[str] = field(default_factory=list)


def remove_originals(manifest: Manifest, top: Path, stays: Callable[[str], bool]) -> Removed:
    """Remove what an archive holds, as far as it is still what was archived; then the folders that are empty."""
    done = Removed()
    folders = []
    for entry in manifest.entries():
        name = entry["path"]
        if stays(name):
            continue
        if entry.get("folder"):
            folders.append(name)
            continue
        path = top / name
        try:
            info = path.lstat()
            if not _is_unchanged(path, info, entry):
                done.kept.append(name)
                continue
            path.unlink()
        except FileNotFoundError:
            continue  # an earlier call was ended half-way
        done.files += 1
        done.bytes += info.st_size
    for name in reversed(folders):
        with contextlib.suppress(OSError):  # something is left in it
            (top / name).rmdir()
    return done


def _is_unchanged(path: Path, info: os.stat_result, entry: Mapping[str, Any]) -> bool:
    """Size and time tell it where the time is known; else the contents."""
    if "sha256" in entry and "mtime_ns" in entry:
        seen = (stat.S_ISREG(info.st_mode), info.st_size, info.st_mtime_ns)
        return seen == (True, entry["bytes"], entry["mtime_ns"])
    return is_as_told(path, entry)

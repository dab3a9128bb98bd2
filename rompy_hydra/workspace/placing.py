"""Inputs go into a workspace: as links, hard links, copies, copies that share blocks, or links to a staged copy.

Forcing is never copied unless that is asked for.  A link is absolute and leads to the file itself, not to another link:
one mount is enough in a container, and a link that is pointed elsewhere later changes no run.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rompy_hydra.errors import SiteError
from rompy_hydra.workspace.disk import aside_of, create_aside, make_directories, site_error, undo
from rompy_hydra.workspace.inputs import InputFile, members_of
from rompy_hydra.workspace.layout import RunLayout

STAGE_NAME = ".stage"
"""The directory beside the runs (in `output_dir`) that `mode: stage` copies to; nothing there is ever deleted by us."""

Placer = Callable[[Path, Path, list[Path]], None]
"""Puts source at target and notes what it made."""

_FICLONE = 0x40049409  # linux/fs.h
_BLOCK = 1 << 20


def place_inputs(
    layout: RunLayout, files: Sequence[InputFile], *, stage_dir: Path | None = None
) -> dict[str, tuple[int, int]]:
    """Put the inputs into the workspace and say what is there now: name → (bytes, mtime in ns), links as links.

    Doing it again changes nothing.  A link that leads elsewhere is replaced; anything else that has an input's name is
    an error, as is a file that has changed since it was identified.  Where it fails, what this call made is removed.

    `stage_dir` is where `mode: stage` copies to (default: `.stage` beside the run directory).

    Raises `SiteError` that names the path, and the mode that would work where this one cannot.
    """
    stage_dir = stage_dir or layout.run_dir.parent / STAGE_NAME
    placed: list[Path] = []
    with undo() as made:
        for file in files:
            target = layout.file(file.name.as_posix())
            make_directories(target.parent, made, layout.run_dir)
            _still_as_planned(file)
            if file.mode in ("link", "stage"):
                _link(target, file.path if file.mode == "link" else _staged(file, stage_dir), made)
                placed.append(target)
            else:
                placed += _fill(file, target, _PLACERS[file.mode], made, layout.run_dir)
        with site_error(layout.run_dir):
            status = {path.relative_to(layout.run_dir).as_posix(): path.lstat() for path in placed}
    return {name: (found.st_size, found.st_mtime_ns) for name, found in status.items()}


def _still_as_planned(file: InputFile) -> None:
    if file.is_directory and file.mode == "link":
        return  # it may hold a hundred thousand files, and was walked a moment ago
    files, _ = members_of(file.path)
    now = sum(s.st_size for s in files.values()), max((s.st_mtime_ns for s in files.values()), default=0)
    if now != (file.bytes, file.mtime_ns):
        raise SiteError(f"the input {file.path} has changed since the run was planned; start it again")


def _fill(file: InputFile, target: Path, place: Placer, made: list[Path], top: Path) -> list[Path]:
    """Place a file, or every file of a directory, by `place`."""
    if not file.is_directory:
        place(file.path, target, made)
        return [target]
    make_directories(target, made, top)
    placed = []
    for name in members_of(file.path)[0]:
        make_directories((target / name).parent, made, top)
        place(file.path / name, target / name, made)
        placed.append(target / name)
    return placed


def _link(target: Path, source: Path, made: list[Path]) -> None:
    with site_error(target):
        if target.is_symlink():
            if target.readlink() == source:
                return
            aside = aside_of(target)
            made.append(aside)
            aside.symlink_to(source)
            aside.replace(target)
            return
        try:
            target.symlink_to(source)
        except FileExistsError:
            raise _in_the_way(target) from None
        made.append(target)


def _hardlink(source: Path, target: Path, made: list[Path]) -> None:
    if os.path.lexists(target):
        if not target.is_symlink() and target.samefile(source):
            return
        raise _in_the_way(target)
    try:
        target.hardlink_to(source)
    except OSError as error:
        why = {errno.EXDEV: "it lies on another file system", errno.EPERM: "the file system or the kernel forbids it"}
        raise SiteError(
            f"cannot make {target} a hard link to {source}: {why.get(error.errno or 0, error.strerror)}; "
            "use mode: link or mode: copy"
        ) from error
    made.append(target)


def _copy(source: Path, target: Path, made: list[Path]) -> None:
    _duplicate(source, target, made, _copy_data)


def _reflink(source: Path, target: Path, made: list[Path]) -> None:
    _duplicate(source, target, made, _share_blocks)


def _duplicate(source: Path, target: Path, made: list[Path], fill: Callable[[int, int], None]) -> None:
    """A file of the same content, time and executable bit under another name."""
    with site_error(target), source.open("rb") as data:
        status = os.fstat(data.fileno())
        if os.path.lexists(target):
            there = target.lstat()
            if stat.S_ISREG(there.st_mode) and _size_and_time(there) == _size_and_time(status):
                return
            raise _in_the_way(target)
        with site_error(target, needs=status.st_size):
            aside, descriptor = create_aside(target, made, executable=bool(status.st_mode & stat.S_IXUSR))
            try:
                fill(data.fileno(), descriptor)
                os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(descriptor)
            if _size_and_time(os.fstat(data.fileno())) != _size_and_time(status):
                raise SiteError(f"the input {source} changed while it was copied; start again when it is complete")
            aside.replace(target)
            made.append(target)


def _size_and_time(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _copy_data(source: int, target: int) -> None:
    """Copy a file's data and leave its holes holes."""
    position, size = 0, os.fstat(source).st_size
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
            end = os.lseek(source, position, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                break
            if error.errno != errno.EINVAL:  # a file system that knows nothing of holes
                raise
            end = size
        os.lseek(target, position, os.SEEK_SET)
        while position < end:
            block = os.pread(source, min(end - position, _BLOCK), position)
            if not block:
                return  # it became shorter; whoever asked looks at the size again
            position += len(block)
            while block:
                block = block[os.write(target, block) :]
    os.ftruncate(target, size)


def _share_blocks(source: int, target: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS):
            why = "another file system" if error.errno == errno.EXDEV else "a file system that cannot do that"
            raise OSError(error.errno, f"no blocks can be shared ({why}); use mode: copy or mode: link") from error
        raise


_PLACERS: Mapping[str, Placer] = {
    "hardlink": _hardlink,
    "copy": _copy,
    "reflink": _reflink,
}


def _staged(file: InputFile, stage_dir: Path) -> Path:
    """The copy in the stage, made if it is not there yet: another content has another name, so no copy ever changes."""
    key = hashlib.sha256(f"{file.path}\0{file.identity}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    staged = stage_dir.absolute() / key / file.path.name
    with undo() as made:
        make_directories(staged.parent, made, stage_dir)
        for path in _fill(file, staged, _copy, made, stage_dir):
            with site_error(path):
                path.chmod(path.stat().st_mode & ~0o222)  # many runs read it, none may write to it
    return staged


def _in_the_way(target: Path) -> SiteError:
    return SiteError(
        f"cannot put an input at {target}: something else is there already; remove it, or give the input another name"
    )

"""Writing into a run directory: aside then renamed, never through a link, taken back on failure, every path named."""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rompy_hydra.errors import SiteError

_PARTIAL_PREFIX = ".rompy-hydra-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def clashing(names: Iterable[Path]) -> list[Path]:
    """Names that two things have, or that one thing has and another needs for its directory."""
    counts = Counter(names)
    directories = {parent for name in counts for parent in name.parents}
    return sorted(name for name, count in counts.items() if count > 1 or name in directories)


@contextmanager
def undo() -> Iterator[list[Path]]:
    """A list of the files and directories that were made; on an error they go again, last first."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            try:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            except OSError:  # somebody else put something into it, or took it away
                continue
        raise


@contextmanager
def site_error(path: Path, *, needs: int | None = None) -> Iterator[None]:
    """An OSError becomes a `SiteError` about `path`; on a full disk it says how many bytes it `needs`."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        if error.filename not in (None, str(path)) and _PARTIAL_PREFIX not in str(
            error.filename
        ):  # what is read, for one
            said += f" ({error.filename})"
        if needs is not None and error.errno in _FULL:
            said += f" ({needs} bytes are needed)"
        raise SiteError(f"cannot write {path}: {said}") from error


def make_directories(directory: Path, made: list[Path], run_dir: Path) -> None:
    """Make `directory` and what is missing above it; below the run's directory a link is not taken for one."""
    for path in reversed([directory, *directory.parents]):
        with site_error(path):
            if path != run_dir and path.is_relative_to(run_dir) and path.is_symlink():
                raise SiteError(
                    f"cannot write into {path}: it is a symbolic link, and may lead out of the run directory"
                )
            if path.is_dir():
                continue
            try:
                path.mkdir()
            except FileExistsError:
                if not path.is_dir():  # a file; a directory means that another process was faster
                    raise
            else:
                made.append(path)


def create_aside(target: Path, made: list[Path], *, executable: bool = False) -> tuple[Path, int]:
    """A new file beside `target`, open for writing, to be renamed to it; its mode is what the umask leaves."""
    aside = aside_of(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    made.append(aside)
    return aside, os.open(aside, flags, 0o777 if executable else 0o666)


def aside_of(target: Path) -> Path:
    """A name that nobody has, in the directory of `target`."""
    return target.with_name(f"{_PARTIAL_PREFIX}{secrets.token_hex(6)}")

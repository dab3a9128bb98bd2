"""Files of a repository, given as relative path → content: written where nothing is, compared, or written over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rompy_hydra.errors import SiteError

Files = Mapping[str, bytes]


@dataclass
class Written:
    """What became of some files: `made` new, `same` already there, `kept` there with another content."""

    made: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def skeleton() -> dict[str, bytes]:
    """The files of a new repository, as they lie beside this module."""
    directory = Path(__file__).with_name("skeleton")
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            found[path.relative_to(directory).as_posix()] = path.read_bytes()
    return found


def write_new(root: Path, files: Files) -> Written:
    """Write what is not there; a file that is there stays as it is, whatever it holds."""
    written = Written()
    for name, content in files.items():
        path = root / name
        if os.path.lexists(path):
            written_as = written.same if path.is_file() and path.read_bytes() == content else written.kept
            written_as.append(name)
            continue
        _put(path, content, is_new=True)
        written.made.append(name)
    return written


def write_over(root: Path, files: Files) -> list[str]:
    """Write what differs; what has its content already is not touched.  Gives the names of what was written."""
    changed = list(differing(root, files))
    for name in changed:
        _put(root / name, files[name], is_new=False)
    return changed


def differing(root: Path, files: Files) -> Iterator[str]:
    """The names of files that are not there, or are another."""
    for name, content in files.items():
        path = root / name
        if not path.is_file() or path.read_bytes() != content:
            yield name


def _put(path: Path, content: bytes, *, is_new: bool) -> None:
    """Aside, then in place: a full disk leaves no half of a file; `is_new` never replaces what came in between."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        if is_new:
            os.link(aside, path)
            aside.unlink()
        else:
            aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SiteError(f"cannot write {path}: {error.strerror}") from error

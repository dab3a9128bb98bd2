"""What goes into an archive: the files below a folder, in a fixed order, as the patterns choose them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rompy_hydra.postprocess.manifest import INSIDE

_OUR_RECORDS_ASIDE = ".run.json."


@dataclass(frozen=True, slots=True)
class Item:
    """A file, a link or a folder; `path` is relative to the top, with slashes.  `link` is where a link points."""

    path: str
    info: os.stat_result
    link: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_sparse(self) -> bool:
        """Whether it takes less room on the disk than it is long."""
        return stat.S_ISREG(self.info.st_mode) and self.info.st_blocks * 512 < self.info.st_size


@dataclass(slots=True)
class Choice:
    """Which files are chosen, by patterns on their paths.

    A pattern without a slash is held against every part of a path (`*.nc`, `restart`), one with a slash against the
    whole path (`out/*.nc`, `out/**`, where `**` is any number of folders).  A folder that fits stands for all below it.
    No `include`: everything; `always` are paths that are in at any rate; `never` says of a path that it is out,
    whatever the patterns say.  `left_out` gets the names of what is neither file, link nor folder.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    always: frozenset[str] = frozenset()
    never: Callable[[str], bool] = lambda _: False
    left_out: list[str] = field(default_factory=list)
    _included: list[re.Pattern[str]] = field(default_factory=list, init=False)
    _excluded: list[re.Pattern[str]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._included = [pattern_of(text) for text in self.include]
        self._excluded = [pattern_of(text) for text in self.exclude]

    def takes(self, path: str) -> bool:
        """Whether a path is chosen."""
        if path in self.always:
            return True
        if any(pattern.match(path) for pattern in self._excluded):
            return False
        return not self._included or any(pattern.match(path) for pattern in self._included)

    def enters(self, path: str) -> bool:
        """Whether anything below a folder could be chosen."""
        return not any(pattern.match(path) for pattern in self._excluded) or any(
            name.startswith(f"{path}/") for name in self.always
        )


def pattern_of(text: str) -> re.Pattern[str]:
    """A pattern as a regular expression that also takes whatever lies below what it names."""
    pattern = text.strip("/")
    anywhere = "" if "/" in pattern else "(?:.*/)?"
    return re.compile(f"(?s:{anywhere}{_translated(pattern)}(?:/.*)?)\\Z")


def _translated(pattern: str) -> str:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**/"):
            parts.append("(?:.*/)?")
            position += 3
        elif rest.startswith("**"):
            parts.append(".*")
            position += 2
        elif rest[0] == "*":
            parts.append("[^/]*")
            position += 1
        elif rest[0] == "?":
            parts.append("[^/]")
            position += 1
        elif rest[0] == "[" and (end := rest.find("]", 2)) > 0:
            inside = rest[1:end].replace("\\", "\\\\")
            parts.append(f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]")
            position += end + 1
        else:
            parts.append(re.escape(rest[0]))
            position += 1
    return "".join(parts)


def walk(top: str, choice: Choice, folder: str = "") -> Iterator[Item]:
    """Everything chosen below `top`: a folder before what it holds, by the bytes of the names.

    Folders are told where no `include` chooses single files.  Links are links: nothing is followed.  OSError where a
    folder cannot be read: an archive that silently lacks it would be worth nothing.
    """
    with os.scandir(os.path.join(top, folder)) as found:  # noqa: PTH118  # names that are no text stay as they are
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(_OUR_RECORDS_ASIDE) or path == INSIDE or choice.never(path):
            continue
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            if choice.enters(path):
                if choice.takes(path) and not choice.include:
                    yield Item(path, info)
                yield from walk(top, choice, path)
        elif not choice.takes(path):
            continue
        elif stat.S_ISLNK(info.st_mode):
            yield Item(path, info, os.readlink(entry.path))  # noqa: PTH115  # its text as it is
        elif stat.S_ISREG(info.st_mode):
            yield Item(path, info)
        else:
            choice.left_out.append(path)

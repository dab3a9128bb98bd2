"""Which plug-ins are installed: the entry points of our groups, read when somebody asks and not before.  Stdlib only.

    rompy_hydra.run   rompy_hydra.config   rompy_hydra.postprocess       ours
    rompy.run         rompy.config         rompy.postprocess             the seed's, for compatibility

Nothing is imported here until `load` is called; what a plug-in raises then is told with the name of its package.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kind = Literal["run", "config", "postprocess"]
KINDS: tuple[Kind, ...] = ("run", "config", "postprocess")
ROOTS = ("rompy_hydra", "rompy")  # the first wins where one package registers a name under both
# ROMPY registers its own backends and models under the same groups; they belong to its own runner.
_NO_PLUGINS = frozenset({"rompy", "rompy-hydra"})
_GROUPS = re.compile(rb"^\s*\[\s*rompy(?:_hydra)?\.(?:run|config|postprocess)\s*\]", re.MULTILINE)


class BrokenPluginError(Exception):
    """A plug-in cannot be imported; the cause is chained."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry point: who registers what under which name."""

    kind: Kind
    name: str
    value: str
    package: str
    version: str
    group: str
    point: EntryPoint

    @property
    def origin(self) -> str:
        """The package with its version, as people write it: `mypackage 1.2`."""
        return f"{self.package} {self.version}".strip()

    def load(self) -> Any:
        """The object that it names; `BrokenPluginError` says what kept it from being imported."""
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:  # foreign code: whatever it raises is its own failure
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise BrokenPluginError(f"{self.value} of the package {self.origin} cannot be imported: {why}") from error


def entries(kind: Kind) -> tuple[Entry, ...]:
    """All entries of one kind, by name and package; a package that says one thing under both roots says it once."""
    return _read(_state_of_the_path())[kind]


def entries_named(name: str, *kinds: Kind) -> list[Entry]:
    """The entries of these kinds under one name."""
    return [entry for kind in kinds for entry in entries(kind) if entry.name == name]


def _state_of_the_path() -> tuple[tuple[str, int], ...]:
    """What changes when a package is installed or removed: the import path and the time stamps of its directories."""
    state: list[tuple[str, int]] = []
    for directory in dict.fromkeys(sys.path):
        try:
            state.append((directory or ".", os.stat(directory or ".").st_mtime_ns))  # noqa: PTH116  # cheap on purpose
        except OSError:
            continue
    return tuple(state)


@lru_cache(maxsize=4)
def _read(state: tuple[tuple[str, int], ...]) -> dict[Kind, tuple[Entry, ...]]:
    if not any(_may_hold_plugins(directory) for directory, _ in state):
        return dict.fromkeys(KINDS, ())
    from importlib.metadata import entry_points

    points: Any = entry_points()
    return {kind: tuple(_of_kind(kind, points)) for kind in KINDS}


def _may_hold_plugins(directory: str) -> bool:
    """Whether a directory of the path names one of our groups: a look at its files, cheaper than the parser."""
    try:
        names = os.listdir(directory)  # noqa: PTH208
    except NotADirectoryError:
        return True  # an archive: the parser looks into it
    except OSError:
        return False
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(f"{directory}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123
                    if _GROUPS.search(file.read()):
                        return True
            except OSError:
                continue
    return False


def _of_kind(kind: Kind, points: Any) -> list[Entry]:
    found: dict[tuple[str, str, str], Entry] = {}
    for root in ROOTS:
        for point in points.select(group=f"{root}.{kind}"):
            package = point.dist.metadata["Name"] if point.dist is not None else "an unnamed package"
            if _normal(package) in _NO_PLUGINS:
                continue
            version = point.dist.version if point.dist is not None else ""
            entry = Entry(kind, point.name, point.value, package, version, f"{root}.{kind}", point)
            found.setdefault((entry.name, _normal(package), entry.value), entry)
    return sorted(found.values(), key=lambda entry: (entry.name, entry.package, entry.value))


def _normal(package: str) -> str:
    return package.lower().replace("_", "-").replace(".", "-")

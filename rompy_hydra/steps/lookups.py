"""What preparing runs finds out beside their plans, found once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rompy_hydra.run.planner import Tell
from rompy_hydra.run.program import Machinery
from rompy_hydra.workspace.hashes import FileHashes

Found = TypeVar("Found")


_MOST_KEPT = 1024


class Lookups:
    """What preparing a run finds out beside its plan, found once: the points of a sweep share one, a single run has
    its own.

    `repositories` are named in the records in place of the plan's (which may be a snapshot); `is_shared`: other runs
    are meant to run beside this one, so one that says nothing of CPUs is held to one.
    """

    def __init__(
        self,
        *,
        repositories: Sequence[Path] | None = None,
        is_shared: bool = False,
        tell: Tell = lambda _: None,
    ) -> None:
        self.tell = tell
        self.repositories = tuple(repositories) if repositories is not None else None
        self.is_shared = is_shared
        self.machinery = Machinery()
        self.hashes = FileHashes()
        self._found: dict[Hashable, Any] = {}

    def once(self, find: Callable[[], Found], *key: Hashable) -> Found:
        """What `find` gives, which depends on nothing but `key`; asked again only where a key cannot be kept."""
        try:
            return self._found[key]  # type: ignore[no-any-return]
        except KeyError:
            pass
        except TypeError:  # something in it is a list or a map
            return find()
        if len(self._found) >= _MOST_KEPT:
            self._found.clear()
        found = self._found[key] = find()
        return found


def as_key(value: Any) -> Hashable:
    """A part of a key for `Lookups`: maps and lists of plain values, in their order."""
    if isinstance(value, Mapping):
        return tuple(value.items())
    return tuple(value) if isinstance(value, list) else value

"""Faults of a repository, each cause once: `Faults` takes what compositions find and keeps one of each, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rompy_hydra.check.codes import CODES, Severity


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong line.

    `hits` of `tried` combinations meet it (0 where none had to be composed to see it), `example` is one of them: the
    words that one would type.
    """

    code: str
    path: Path
    line: int
    key: str
    message: str
    mend: str | None = None
    hits: int = 0
    tried: int = 0
    example: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CODES[self.code].severity

    @property
    def cause(self) -> tuple[Path, int, str, str]:
        """What makes two faults one."""
        return self.path, self.line, self.key, self.code


@dataclass
class Faults:
    """The faults of one repository in the order of their places."""

    _found: dict[tuple[Path, int, str, str], Fault] = field(default_factory=dict)

    def add(self, *faults: Fault) -> None:
        """Note some; the first one of each cause keeps its words."""
        for fault in faults:
            self._found.setdefault(fault.cause, fault)

    def count(self, fault: Fault, hits: int, tried: int) -> None:
        """Note one that `hits` more of `tried` combinations meet."""
        known = self._found.get(fault.cause, fault)
        if known.tried not in (0, tried):
            return  # counted already, among others
        example = known.example or fault.example
        self._found[fault.cause] = replace(known, hits=known.hits + hits, tried=tried, example=example)

    def has(self, path: Path, line: int, code: str, key: str | None = None) -> bool:
        """Whether something of that kind is known of a line, or of a key in it."""
        if key is not None:
            return (path, line, key, code) in self._found
        return any(p == path and n == line and c == code for p, n, _, c in self._found)

    def __iter__(self) -> Iterator[Fault]:
        return iter(sorted(self._found.values(), key=lambda f: (str(f.path), f.line, f.code, f.key)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check` found, and how much it looked at."""

    faults: tuple[Fault, ...]
    files: int = 0
    options: int = 0
    templates: int = 0
    combinations: int = 0
    strategy: str = "all"  # or "pairwise": more than the bound
    possible: int = 0
    sweeps: int = 0
    points: int = 0

    def only(self, codes: Iterable[str]) -> Report:
        """The same with faults of some codes."""
        wanted = frozenset(codes)
        return replace(self, faults=tuple(fault for fault in self.faults if fault.code in wanted))

    def count(self, severity: Severity) -> int:
        """How many faults are that bad."""
        return sum(fault.severity == severity for fault in self.faults)

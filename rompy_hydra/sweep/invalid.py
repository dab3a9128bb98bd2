"""What is wrong with the points of a sweep: each finding once, with the points that have it."""

from __future__ import annotations

from dataclasses import replace

from rompy_hydra.errors import ConfigError, Finding, MissingToolError
from rompy_hydra.plan.point import InvalidPoint

_MOST_FINDINGS = 200


class InvalidPoints:
    """Collects; what it keeps does not grow with the number of points."""

    def __init__(self) -> None:
        self._findings: dict[Finding, _Points] = {}
        self._count = 0
        self._left_out = 0
        self._only_tools_are_missing = True

    def __len__(self) -> int:
        return self._count

    def add(self, point: InvalidPoint) -> None:
        """One more invalid point."""
        self._count += 1
        self._only_tools_are_missing &= isinstance(point.error.__cause__, MissingToolError)
        for finding in point.error.findings or (Finding(key="", rule=point.error.headline),):
            if finding in self._findings:
                self._findings[finding].add(point.number)
            elif len(self._findings) < _MOST_FINDINGS:
                self._findings[finding] = _Points(point.number)
            else:
                self._left_out += 1

    def findings(self, total: int) -> list[Finding]:
        """All of them, with their points."""
        told = [f if p.count == total else replace(f, rule=f"{f.rule} ({p})") for f, p in self._findings.items()]
        if self._left_out:
            told.append(Finding(key="", rule=f"{self._left_out} more findings are like these"))
        return told

    def error(self, total: int) -> ConfigError:
        """All of them as one error; its exit code is that of a missing tool where nothing else is wrong."""
        many = f"{self._count} of {total} points" if total > 1 else "its only point"
        error = ConfigError(f"the sweep is wrong in {many}; nothing was started", self.findings(total))
        if self._only_tools_are_missing:
            error.exit_code = MissingToolError.exit_code
        return error


def why_invalid(point: InvalidPoint) -> str:
    """The first thing that is wrong with a point, on one line."""
    return str(next(iter(point.error.findings), point.error.headline)).splitlines()[0]


class _Points:
    """The points that have one finding: the first few, and how many."""

    def __init__(self, number: int) -> None:
        self.first = [number]
        self.count = 1

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.first) < 8:
            self.first.append(number)

    def __str__(self) -> str:
        more = f", … ({self.count} in all)" if self.count > len(self.first) else ""
        return f"point{'s' if self.count > 1 else ''} {', '.join(map(str, self.first))}{more}"

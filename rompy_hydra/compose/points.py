"""What `-m --cfg` shows: every point of a sweep, whatever its design, composed and validated, as it comes.

open_sweep (sweep_plans) → drafts, one after the other → a YAML document each, and in the end all that is wrong
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.composer import Composition, Request, wrong
from rompy_hydra.compose.designs import Draft
from rompy_hydra.compose.show import config_text
from rompy_hydra.compose.sweep_plans import Sweep, drafts_of, open_sweep, placed
from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.redaction import redact_override


def preview(
    request: Request, part: str, *, package: str | None = None, resolve: bool = False, cwd: Path
) -> Iterator[str]:
    """Each point as a YAML document under a comment with its number and overrides.

    Raises `ConfigError` at once for a design that cannot be, and after the last point with every finding of every
    point.
    """
    sweep = open_sweep(request, cwd=cwd)
    at_most = "at most " if sweep.spec.exclude else ""
    found = _Findings(sweep.design.count())
    for number, draft, error in drafts_of(sweep):
        lines = [o.input_line or "" for o in draft.overrides]
        shown = " ".join(redact_override(line).replace("\n", "\\n") for line in lines)
        repeat = f", repeat {draft.repeat}" if sweep.design.repeats > 1 else ""
        yield f"---\n# point {number} (of {at_most}{found.total}{repeat}): {shown}\n"
        composition = _composed(sweep, number, draft, lines, found) if error is None else None
        if error is not None:
            found.add(number, error)
        if composition is None:
            yield "# cannot be composed: see below\n"
            continue
        known = bool(composition.findings)  # without what is wrong it would be another point
        try:
            to_plan(composition, cwd=cwd)
        except ConfigError as wrong_values:
            found.add(number, placed(wrong_values, draft))
            yield "# wrong: see below\n"
        if known:
            continue
        try:
            yield config_text(composition, part, package=package, resolve=resolve, cwd=cwd)
        except ConfigError as not_shown:
            found.add(number, placed(not_shown, draft))
    found.raise_if_any()


def _composed(sweep: Sweep, number: int, draft: Draft, lines: Sequence[str], found: _Findings) -> Composition | None:
    try:
        if draft.findings:
            raise wrong(draft.findings)
        return sweep.planner.compose(lines, number)
    except ConfigError as error:
        found.add(number, placed(error, draft))
        return None


@dataclass
class _Findings:
    """The findings of many points, each told once with the points that have it."""

    total: int
    general: list[Finding] = field(default_factory=list)
    points: dict[Finding, list[int]] = field(default_factory=dict)

    def add(self, number: int, error: ConfigError) -> None:
        for finding in error.findings or [Finding(key="", rule=error.headline)]:
            numbers = self.points.setdefault(finding, [])
            if number not in numbers[-1:]:
                numbers.append(number)

    def raise_if_any(self) -> None:
        findings = [*self.general, *(self._with_points(f, numbers) for f, numbers in self.points.items())]
        if findings:
            wrong = len({number for numbers in self.points.values() for number in numbers})
            how_many = f"{wrong} of {self.total} points" if wrong else "its values"
            raise ConfigError(f"the sweep is wrong in {how_many}:", findings)

    def _with_points(self, finding: Finding, numbers: Sequence[int]) -> Finding:
        if len(numbers) == self.total:
            return finding
        shown = ", ".join(map(str, numbers[:8])) + (f", … ({len(numbers)} in all)" if len(numbers) > 8 else "")
        return replace(finding, rule=f"{finding.rule} (point{'s' if len(numbers) > 1 else ''} {shown})")

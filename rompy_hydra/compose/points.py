"""The points of a sweep as Hydra's own sweeper makes them: its grammar, its order, one after the other.

`preview` is `-m --cfg`: every point composed and validated, shown as it comes, and in the end all that is wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, OverrideParseException

from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.composer import Request, compose, compose_with, open_loader
from rompy_hydra.compose.hydra_keys import is_hydras
from rompy_hydra.compose.loader import Loader
from rompy_hydra.compose.search_path import build_search_path
from rompy_hydra.compose.show import config_text
from rompy_hydra.compose.typed_text import typed_choices
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.redaction import redact_override


@dataclass(frozen=True, kw_only=True)
class Points:
    """A sweep before it is composed: what every point has, and one axis of alternatives for each key.

    Iterating gives the overrides of one point after the other (the last axis varies fastest); `findings` tells which
    axes cannot be listed.
    """

    common: tuple[str, ...]
    axes: tuple[tuple[str, ...], ...]
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        for chosen in itertools.product(*self.axes):
            yield (*self.common, *chosen)


def expand(request: Request) -> Points:
    """The points that the overrides of a request ask for, `hydra.sweeper.params` of its configuration below them."""
    loader = Loader(build_search_path(request.sources))
    points = _expand(request.overrides, loader)
    try:
        first = compose(replace(request, overrides=next(iter(points)), point=0))
    except ConfigError:
        return points  # composing the points will tell
    if not first.sets("hydra.sweeper.params"):
        return points
    known = len(first.findings)
    params = first.resolve_hydra("sweeper").get("params") or {}
    points = _expand([*(f"{key}={value}" for key, value in params.items()), *request.overrides], loader)
    return replace(points, findings=(*points.findings, *first.findings[known:]))


def _expand(lines: Sequence[str], loader: Loader) -> Points:
    """Hydra's `BasicSweeper.split_arguments`, lazily, and with a finding for each line that it would trip over."""
    parser = OverridesParser.create(config_loader=loader)
    common: list[str] = []
    axes: dict[str, tuple[str, ...]] = {}
    findings: list[Finding] = []
    for line in lines:
        try:
            (override,) = parser.parse_overrides([line])
        except (OverrideParseException, HydraException):
            common.append(line)  # composing tells what is wrong with it
            continue
        if is_hydras(override.key_or_group) and not override.is_sweep_override():
            common.append(line)
            continue
        key = override.get_key_element()
        try:
            values = _values(override)
        except (HydraException, ValueError) as error:
            findings.append(_finding(override, f"cannot be listed: {str(error).splitlines()[0]}"))
            continue
        if isinstance(values, Finding):
            findings.append(values)
        else:
            axes[key] = values
    return Points(common=tuple(common), axes=tuple(axes.values()), findings=tuple(findings))


def _values(override: Override) -> tuple[str, ...] | Finding:
    """The overrides of one axis, or what is wrong with it."""
    key, line = override.get_key_element(), override.input_line or ""
    if not override.is_sweep_override():
        return (line,)
    if is_hydras(override.key_or_group):
        return _finding(override, "Hydra's own keys cannot be swept", "use a key of your own below vars")
    if override.is_interval_sweep():
        return _finding(override, "an interval is no list of points", "write range(start,stop,step), or a,b,c")
    values = typed_choices(line) if override.value_type is ValueType.SIMPLE_CHOICE_SWEEP else None
    if values is None:
        values = list(override.sweep_string_iterator())
    if values:
        return tuple(f"{key}={value}" for value in values)
    mend = None
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP and override.config_loader is not None:
        options = override.config_loader.get_group_options(override.key_or_group)
        mend = did_you_mean(line.partition("(")[2].strip("*)"), options) or "a glob is for config groups"
    return _finding(override, "names no value at all", mend)


def _finding(override: Override, rule: str, mend: str | None = None) -> Finding:
    line = redact_override(override.input_line or "")
    value = line.partition("=")[2] or None
    return Finding(key=override.key_or_group, value=value, rule=rule, where=f"the override '{line}'", mend=mend)


def preview(
    request: Request, part: str, *, package: str | None = None, resolve: bool = False, cwd: Path
) -> Iterator[str]:
    """Each point as a YAML document under a comment with its number and overrides.

    After the last one, raises `ConfigError` with every finding of every point.
    """
    points = expand(request)
    total = len(points)
    found = _Findings(total, list(points.findings))
    loader, templates = open_loader(request)
    for number, overrides in enumerate(points):
        shown = " ".join(redact_override(o).replace("\n", "\\n") for o in overrides)
        yield f"---\n# point {number} (of {total}): {shown}\n"
        try:
            composition = compose_with(replace(request, overrides=overrides, point=number), loader, templates)
        except ConfigError as error:
            found.add(number, error)
            yield "# cannot be composed: see below\n"
            continue
        wrong_overrides = bool(composition.findings)
        try:
            to_plan(composition, cwd=cwd)
        except ConfigError as error:
            found.add(number, error)
            yield "# wrong: see below\n"
        if wrong_overrides:
            continue  # without them it would be another point
        try:
            yield config_text(composition, part, package=package, resolve=resolve, cwd=cwd)
        except ConfigError as error:
            found.add(number, error)
    found.raise_if_any()


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

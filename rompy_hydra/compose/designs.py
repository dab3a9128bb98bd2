"""Designs: which points a sweep has (command line and `sweep:` → drafts of points → sweep composer).

    a=1,2  b=range(1,5)  model=glob(*)     axes of the command line, in the order of Hydra's own sweeper
    sweep.zip=[a,b]                        axes that vary together
    sweep.table / .samples / .design       parts from a file or a space; before the axes of the command line
    sweep.repeats                          the whole design again, outermost: what drifts, drifts for all points
    sweep.exclude                          conditions over composed values (`exclude` in `sweep_plans`)

The product is taken, the last axis varies fastest.  Everything is a stream: a product is never made, a range never
listed, a table never held.  A key that the command line gives wins over the same key in any part.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from hydra.core.override_parser.types import (
    Override,
    OverrideType,
    Quote,
    QuotedString,
    RangeSweep,
    ValueType,
)
from hydra.errors import HydraException
from pydantic import ValidationError

from rompy_hydra.compose.typed_text import typed_choices
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.plan.sweep_spec import DesignPart, Dimension, SamplesSpec, SweepSpec, TableSpec
from rompy_hydra.redaction import redact_override

Parse = Callable[[str], Override]
"""Hydra's parser of one override."""

_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
_PLAIN_TEXT = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_KEYWORDS = frozenset({"null", "true", "false", "inf", "nan"})
_ESCAPED = re.compile(r"(\\*)\$\{")


@dataclass(frozen=True, slots=True)
class Alternative:
    """One value of an axis: what it overrides; a row of a table has a `name` and says where it stands."""

    overrides: tuple[Override, ...]
    name: str | None = None
    where: str | None = None
    findings: tuple[Finding, ...] = ()


class Axis(Protocol):
    """Alternatives that can be gone through again and again."""

    def __iter__(self) -> Iterator[Alternative]: ...

    def count(self) -> int:
        """How many there are."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    """A point before it is composed.

    `swept` are the keys that vary with the values of this point; `where` is the row of a table that it comes from;
    with `findings` it cannot be composed.
    """

    overrides: tuple[Override, ...]
    swept: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    repeat: int = 0
    where: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Design:
    """All points: `before` are the axes of parts, `slots` what the command line gives, in its order."""

    before: tuple[Axis, ...] = ()
    slots: tuple[Override | Axis, ...] = ()
    repeats: int = 1

    def count(self) -> int:
        """How many points there are before any is left out."""
        axes = [slot for slot in (*self.before, *self.slots) if not isinstance(slot, Override)]
        return self.repeats * math.prod(axis.count() for axis in axes)

    def __iter__(self) -> Iterator[Draft]:
        slots = (*self.before, *self.slots)
        axes = [slot for slot in slots if not isinstance(slot, Override)]
        is_named_by_rows = self.repeats == 1 and len(axes) == 1
        fixed: list[tuple[Override, ...] | None] = [(s,) if isinstance(s, Override) else None for s in slots]
        for repeat in range(self.repeats):
            for number, chosen in enumerate(_product(axes)):
                yield _draft(fixed, chosen, repeat, None if is_named_by_rows else number)


def _draft(
    fixed: Sequence[tuple[Override, ...] | None], chosen: Sequence[Alternative], repeat: int, number: int | None
) -> Draft:
    alternatives = iter(chosen)
    overrides: list[Override] = []
    swept: dict[str, Any] = {}
    name = where = None
    findings: tuple[Finding, ...] = ()
    for slot in fixed:
        if slot is not None:
            overrides += slot
            continue
        alternative = next(alternatives)
        overrides += alternative.overrides
        for override in alternative.overrides:
            swept[override.key_or_group] = override.value()
        name = alternative.name or name
        where = alternative.where or where
        findings += alternative.findings
    if name is not None and number is not None:
        name = f"{name}-{repeat}-{number}" if repeat else f"{name}-{number}"
    return Draft(tuple(overrides), swept, name, repeat, where, findings)


def _product(axes: Sequence[Axis]) -> Iterator[tuple[Alternative, ...]]:
    """`itertools.product`, which would list every axis first."""
    if all(isinstance(axis, Listed) for axis in axes):
        yield from itertools.product(*(axis.alternatives for axis in axes))  # type: ignore[attr-defined]
        return
    first, *others = axes
    for alternative in first:
        for rest in _product(others):
            yield (alternative, *rest)


# -- axes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """An axis whose alternatives are written down."""

    alternatives: tuple[Alternative, ...]

    def __iter__(self) -> Iterator[Alternative]:
        return iter(self.alternatives)

    def count(self) -> int:
        """How many there are."""
        return len(self.alternatives)


@dataclass(frozen=True, slots=True)
class Ranged:
    """`key=range(start,stop,step)`, counted through each time."""

    override: Override

    def __iter__(self) -> Iterator[Alternative]:
        key = self.override.get_key_element()
        for value in self._values():
            yield Alternative((_like(self.override, value, f"{key}={value}"),))

    def count(self) -> int:
        """How many there are."""
        values = self._values()
        return len(values) if isinstance(values, range) else sum(1 for _ in values)

    def _values(self) -> Any:
        sweep = self.override.value()
        assert isinstance(sweep, RangeSweep)
        return sweep.range()


@dataclass(frozen=True, slots=True)
class Zipped:
    """Axes that vary together; they are of one length."""

    axes: tuple[Axis, ...]

    def __iter__(self) -> Iterator[Alternative]:
        for chosen in zip(*self.axes, strict=True):
            yield Alternative(tuple(o for alternative in chosen for o in alternative.overrides))

    def count(self) -> int:
        """How many there are."""
        return self.axes[0].count()


@dataclass(frozen=True, slots=True)
class United:
    """Designs, one after the other."""

    designs: tuple[tuple[Axis, ...], ...]

    def __iter__(self) -> Iterator[Alternative]:
        for axes in self.designs:
            for chosen in _product(axes):
                yield Alternative(
                    tuple(o for alternative in chosen for o in alternative.overrides),
                    next((a.name for a in chosen if a.name), None),
                    next((a.where for a in chosen if a.where), None),
                    tuple(f for alternative in chosen for f in alternative.findings),
                )

    def count(self) -> int:
        """How many there are."""
        return sum(math.prod(axis.count() for axis in axes) for axes in self.designs)


def _like(override: Override, value: Any, line: str) -> Override:
    """One value of an override that asks for several."""
    return Override(
        type=override.type,
        key_or_group=override.key_or_group,
        value_type=ValueType.ELEMENT,
        _value=value,
        package=override.package,
        input_line=line,
    )


def grammar_axis(override: Override, parse: Parse) -> Axis:
    """The axis of an override that asks for several values; raises `ConfigError` where they cannot be listed."""
    line, key = override.input_line or "", override.get_key_element()
    value = override.value()
    if override.is_hydra_override():
        raise _wrong(override, "Hydra's own keys cannot be swept", "use a key of your own below vars")
    texts = typed_choices(line) if override.value_type is ValueType.SIMPLE_CHOICE_SWEEP else None
    try:
        if (
            isinstance(value, RangeSweep)
            and not value.shuffle
            and next(iter(axis := Ranged(override)), None) is not None
        ):
            return axis
        values = texts if texts is not None else list(override.sweep_string_iterator())
        listed = tuple(Alternative((parse(f"{key}={text}"),)) for text in values)
    except (HydraException, ValueError) as error:
        raise _wrong(override, f"cannot be listed: {str(error).splitlines()[0]}") from None
    if not listed:
        raise _wrong(override, "names no value at all", _nearest_option(override))
    return Listed(listed)


def _nearest_option(override: Override) -> str | None:
    if override.value_type is not ValueType.GLOB_CHOICE_SWEEP or override.config_loader is None:
        return None
    pattern = (override.input_line or "").partition("(")[2].strip("*)")
    options = override.config_loader.get_group_options(override.key_or_group)
    return did_you_mean(pattern, options) or "a glob is for config groups"


def _wrong(override: Override, rule: str, mend: str | None = None) -> ConfigError:
    line = redact_override(override.input_line or "")
    finding = Finding(
        key=override.key_or_group,
        value=line.partition("=")[2] or None,
        rule=rule,
        where=f"the override '{line}'",
        mend=mend,
    )
    return ConfigError("the sweep is wrong", [finding])


# -- data as overrides -----------------------------------------------------------------------------------------------


class NoOverrideError(ValueError):
    """A value that no override can say."""


def setting(key: str, value: Any, parse: Parse) -> Override:
    """The override that sets `key` to a value that is data: no grammar is looked for in it.

    Its text means the same on a command line.  Raises `NoOverrideError` for `???`.
    """
    text = _as_text(value)
    if not _PLAIN_KEY.fullmatch(key):  # a sign, a package: Hydra's own reading
        return parse(f"{key}={text}")
    return Override(
        type=OverrideType.CHANGE,
        key_or_group=key,
        value_type=ValueType.ELEMENT,
        _value=_quoted(value),
        input_line=f"{key}={text}",
    )


def _as_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_as_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_as_key(key)}:{_as_text(item)}" for key, item in value.items()) + "}"
    return _text_of(str(value))


@lru_cache(maxsize=4096)
def _text_of(value: str) -> str:
    if _PLAIN_TEXT.fullmatch(value) and value.lower() not in _KEYWORDS:
        return value
    return _quoted_text(value).with_quotes()


def _as_key(key: Any) -> str:
    text = str(key)
    if not isinstance(key, str) or not _PLAIN_TEXT.fullmatch(text) or text.lower() in _KEYWORDS:
        raise NoOverrideError(f"a map with the key {key!r} cannot be given by an override")
    return text


def _quoted_text(value: str) -> QuotedString:
    if value == "???":
        raise NoOverrideError("'???' means that a value is missing, and cannot be one")
    # what looks like an interpolation is data here
    return QuotedString(text=_ESCAPED.sub(lambda m: f"{m[1]}{m[1]}\\${{", value), quote=Quote.single)


def _quoted(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_quoted(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    return _quoted_text(value) if isinstance(value, str) else value


# -- from the command line and `sweep:` to a design ------------------------------------------------------------------


class Parts(Protocol):
    """What tables and samples need to become axes."""

    def table(self, spec: TableSpec, pinned: frozenset[str]) -> Axis:
        """The rows of a file."""
        ...

    def samples(self, spec: SamplesSpec, pinned: frozenset[str]) -> Axis | None:
        """Points drawn from a space; None if no key is left to vary."""
        ...


def make_design(lines: Sequence[Override], spec: SweepSpec, *, parse: Parse, parts: Parts) -> Design:
    """The design that a command line (without its `sweep.*`) and `sweep:` ask for.

    Raises `ConfigError` with every finding.
    """
    return _Maker(lines, spec, parse, parts).design()


class _Maker:
    def __init__(self, lines: Sequence[Override], spec: SweepSpec, parse: Parse, parts: Parts) -> None:
        self.spec = spec
        self.parse = parse
        self.parts = parts
        self.findings: list[Finding] = []
        given: dict[str, Override] = {}
        for override in lines:  # as Hydra's sweeper: the last one of a key, in the place of the first
            given[override.get_key_element()] = override
        self.given = given
        self.pinned = frozenset(o.key_or_group for o in given.values())

    def design(self) -> Design:
        slots: dict[str, Override | Axis] = {}
        dimensions: dict[str, Dimension] = {}
        for key, override in self.given.items():
            if override.is_interval_sweep():
                self._add_interval(override, dimensions)
            elif override.is_sweep_override():
                if (axis := self._attempt(lambda override=override: grammar_axis(override, self.parse))) is not None:  # type: ignore[misc]
                    slots[key] = axis
            else:
                slots[key] = override
        before = self._axes(self.spec.design, "sweep.design")
        if self.spec.table is not None:
            before += self._table(self.spec.table)
        before += self._samples(dimensions)
        slots = self._zip(slots)
        if self.findings:
            raise ConfigError(f"the sweep is wrong in {_many(len(self.findings))}", self.findings)
        return Design(before=tuple(before), slots=tuple(slots.values()), repeats=self.spec.repeats)

    def _attempt(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except ConfigError as error:
            self.findings += error.findings or (Finding(key="sweep", rule=error.headline),)
        return None

    # -- the command line --------------------------------------------------------------------------------------------

    def _add_interval(self, override: Override, dimensions: dict[str, Dimension]) -> None:
        interval: Any = override.value()  # an IntervalSweep; whole numbers if `int(interval(…))` was asked for
        if self.spec.samples.n is None:
            self.findings += _wrong(
                override, "an interval is no list of points", "add sweep.samples.n=NUMBER to draw from it"
            ).findings
            return
        whole = isinstance(interval.start, int) and isinstance(interval.end, int)
        try:
            dimensions[override.get_key_element()] = Dimension(
                low=interval.start,
                high=interval.end,
                type="int" if whole else "float",
                scale="log" if "log" in interval.tags else "linear",
            )
        except ValidationError as error:
            self.findings += _wrong(override, error.errors(include_url=False)[0]["msg"]).findings

    def _zip(self, slots: dict[str, Override | Axis]) -> dict[str, Override | Axis]:
        swept = {key: slot for key, slot in slots.items() if not isinstance(slot, Override)}
        taken: dict[str, str] = {}
        for group in self.spec.zip:
            unknown = [key for key in group if key not in swept or key in taken]
            for key in unknown:
                self.findings.append(self._not_to_be_zipped(key, swept, taken))
            if unknown or not group:
                continue
            lengths = {key: swept[key].count() for key in group}
            if len(set(lengths.values())) > 1:
                shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
                rule = f"keys that vary together need the same number of values: {shown}"
                self.findings.append(Finding(key="sweep.zip", rule=rule))
            first = min(group, key=list(slots).index)
            ordered = [key for key in slots if key in group]
            slots = {
                key: Zipped(tuple(swept[k] for k in ordered)) if key == first else slot
                for key, slot in slots.items()
                if key == first or key not in group
            }
            taken |= dict.fromkeys(group, first)
        return slots

    def _not_to_be_zipped(self, key: str, swept: Mapping[str, Any], taken: Mapping[str, str]) -> Finding:
        if key in taken:
            return Finding(key="sweep.zip", value=key, rule="stands in it twice")
        mend = did_you_mean(key, swept) if swept else None
        why = "has one value only" if key in self.given else "is not swept on the command line"
        return Finding(key="sweep.zip", value=key, rule=why, mend=mend or f"write {key}=a,b,c")

    # -- the parts of `sweep:` ---------------------------------------------------------------------------------------

    def _axes(self, parts: Iterable[DesignPart], where: str) -> list[Axis]:
        axes: list[Axis] = []
        for number, part in enumerate(parts):
            place = f"{where}.{number}"
            if part.grid is not None:
                axes += [
                    axis for key, values in part.grid.items() if (axis := self._values(key, values, f"{place}.grid"))
                ]
            elif part.zip is not None:
                axes += self._zipped_part(part.zip, f"{place}.zip")
            elif part.table is not None:
                axes += self._table(part.table)
            elif part.samples is not None:
                axes += self._drawn(part.samples)
            elif part.union is not None:
                designs = [tuple(self._axes(inner, f"{place}.union.{n}")) for n, inner in enumerate(part.union)]
                axes.append(United(tuple(designs)))
        return axes

    def _values(self, key: str, values: list[Any] | str, where: str) -> Axis | None:
        """The axis of one key of a grid; None where the command line gives the key."""
        if key.lstrip("+~") in self.pinned:
            return None
        try:
            if isinstance(values, str):
                override = self.parse(f"{key}={values}")
                if override.is_sweep_override():
                    return grammar_axis(override, self.parse)
                return Listed((Alternative((override,)),))
            return Listed(tuple(Alternative((setting(key, value, self.parse),)) for value in values))
        except (HydraException, NoOverrideError) as error:
            self.findings.append(Finding(key=f"{where}.{key}", rule=str(error).splitlines()[0]))
        except ConfigError as error:
            self.findings += error.findings
        return None

    def _zipped_part(self, values: Mapping[str, list[Any] | str], where: str) -> list[Axis]:
        axes = {key: axis for key, texts in values.items() if (axis := self._values(key, texts, where)) is not None}
        lengths = {key: axis.count() for key, axis in axes.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            rule = f"keys that vary together need the same number of values: {shown}"
            self.findings.append(Finding(key=where, rule=rule))
            return []
        return [Zipped(tuple(axes.values()))] if axes else []

    def _table(self, spec: TableSpec) -> list[Axis]:
        axis = self._attempt(lambda: self.parts.table(spec, self.pinned))
        return [] if axis is None else [axis]

    def _drawn(self, spec: SamplesSpec) -> list[Axis]:
        axis = self._attempt(lambda: self.parts.samples(spec, self.pinned))
        return [] if axis is None else [axis]

    def _samples(self, dimensions: Mapping[str, Dimension]) -> list[Axis]:
        if self.spec.samples.n is None:
            return []
        self.pinned -= dimensions.keys()
        spec = self.spec.samples.model_copy(update={"over": {**self.spec.samples.over, **dimensions}})
        if not spec.over:
            mend = "give key=interval(low,high), or sweep.samples.over={key: [low, high]}"
            self.findings.append(Finding(key="sweep.samples", rule="there is nothing to draw from", mend=mend))
            return []
        return self._drawn(spec)


def _many(count: int) -> str:
    return "one place:" if count == 1 else f"{count} places:"

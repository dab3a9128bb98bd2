"""Many compositions of one command, each what `hydra.compose` gives, two orders of magnitude faster.

    overrides of a point → group choices and changes of structure: a *base*, composed by Hydra and kept
                         → values of leaves that stand there: set on the base's plain content
                         → anything else: composed by Hydra for this point alone, counted with the reason

Setting a leaf is all that is ever done without Hydra.  It is done only where that cannot matter to any other override
of the point: see `_reason_against`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from rompy_hydra.compose import resolvers
from rompy_hydra.compose.compiled_tree import Branch, CompiledTree, Leaf, NotUnderstood, Outline
from rompy_hydra.compose.staged_loader import SEARCH_PATH, StagedLoader
from rompy_hydra.compose.typed_text import typed_text

_KEPT_BASES = 128
_KEPT_REFUSALS = 4096
_FEW_SHAPES = 32
_SCALARS = (bool, int, float, str)


class Composed(Protocol):
    """What Hydra composed: the tree without Hydra's part, and that part."""

    @property
    def config(self) -> DictConfig:
        """The tree without Hydra's part."""
        ...

    @property
    def hydra(self) -> DictConfig:
        """Hydra's part."""
        ...

    @property
    def is_sound(self) -> bool:
        """Whether nothing was wrong with the request."""
        ...

    @property
    def unset(self) -> Sequence[str]:
        """Keys that must be given; if there are any, nothing else was wrong."""
        ...


Compose = Callable[[Sequence[str], int], Composed]
"""Composes (overrides, number of the point) by Hydra, whole; may raise anything."""

Look = Callable[[Sequence[str]], DictConfig]
"""The tree of group choices alone, no value set, to be looked at; may raise anything."""


class _Role(Enum):
    """What an override does to a base."""

    CHOOSES = 0  # a group's option
    SETS = 1  # the value of a leaf that stands there
    ADDS = 2  # a leaf where nothing stands
    SHAPES = 3  # anything else


class _Aside(Exception):  # noqa: N818  # no error: the point takes the other way
    """A point that Hydra must compose alone; says why."""


@dataclass(eq=False)
class _Choice:
    """What stands where after some group choices, and what was found out about commands over it."""

    outline: Outline
    deciding: frozenset[Leaf]
    shapes: int = 0  # bases that were composed because of something else than groups and leaves
    verdicts: dict[tuple[Any, ...], str | None] = field(default_factory=dict)


@dataclass(eq=False)
class Base:
    """A tree that many points share, and what was found out about it.

    `kept` is room for what a reader of the points wants to remember beside it.
    """

    composed: Composed
    tree: CompiledTree
    deciding: frozenset[Leaf]
    takes_text: dict[str, bool] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """How many points went which way: `fast`, `aside` by reason, `refused` (invalid: Hydra says why).

    `compositions` counts Hydra's, for bases and for points alone.
    """

    fast: int = 0
    aside: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    compositions: int = 0

    @property
    def fallbacks(self) -> int:
        """Points that were sound and yet needed a composition of their own."""
        return self.aside.total()

    def is_refused_after_all(self, point: ComposedPoint) -> None:
        """A point that could be composed, but is no valid one."""
        if point.reason is not None:
            self.aside[point.reason] -= 1
            self.aside += Counter()  # without zeros
        elif point.base is not None:
            self.fast -= 1
        else:
            return
        self.refused += 1

    def is_aside_after_all(self, point: ComposedPoint, reason: str) -> None:
        """A point that came the fast way, and could not be made a plan on it."""
        if point.reason is None:
            self.fast -= 1
            self.aside[reason] += 1


@dataclass(slots=True)
class ComposedPoint:
    """One point, composed.

    Either `base` and `plain`, its resolved content (it shares parts with others: never change it); or `composed`, by
    Hydra alone; or the `error` that this raised.
    """

    number: int
    overrides: tuple[Override, ...]
    base: Base | None = None
    plain: dict[Any, Any] | None = None
    is_complete: bool = True  # no `???` in it
    composed: Composed | None = None
    error: Exception | None = None
    reason: str | None = None  # why it needed a composition of its own, if nothing was wrong with it

    @property
    def config(self) -> dict[Any, Any]:
        """The resolved content, as `OmegaConf.to_container(config, resolve=True)` gives it; raises what that raises."""
        if self.error is not None:
            raise self.error
        if self.plain is not None:
            return self.plain
        assert self.composed is not None
        content: Any = OmegaConf.to_container(self.composed.config, resolve=True)
        return content  # type: ignore[no-any-return]

    def override_dirname(self, shown: Callable[[str], str] = str) -> str:
        """`${hydra.job.override_dirname}`, as Hydra makes it of the overrides; `shown` is how one is written."""
        composed = self.base.composed if self.base is not None else self.composed
        assert composed is not None
        how = composed.hydra.job.config.override_dirname
        ours = [replace(o, input_line=shown(o.input_line or "")) for o in self.overrides if not o.is_hydra_override()]
        return str(get_overrides_dirname(ours, how.exclude_keys, how.item_sep, how.kv_sep))

    @property
    def choices(self) -> dict[str, Any]:
        """Group → option, Hydra's own groups included."""
        composed = self.base.composed if self.base is not None else self.composed
        if composed is None:
            return {}
        kept = self.base.kept if self.base is not None else {}
        if "choices" not in kept:
            kept["choices"] = OmegaConf.to_container(composed.hydra.runtime.choices)
        return dict(kept["choices"])


class SweepComposer:
    """Composes points; what it keeps does not grow with their number.

    `deciding_keys` are those whose value decides how others are read: to change one makes another base.
    `takes_text(composed, key)` says whether a field wants the characters that were typed.  With `binds_hydra`,
    `${hydra:KEY}` reads Hydra's part of the composition.
    """

    def __init__(
        self,
        loader: StagedLoader,
        compose: Compose,
        look: Look,
        *,
        deciding_keys: Iterable[str] = (),
        takes_text: Callable[[Any, str], bool] | None = None,
        constant_resolvers: Iterable[str] = (),
        binds_hydra: bool = False,
        kept_bases: int = _KEPT_BASES,
    ) -> None:
        self.counts = Counts()
        self._loader = loader
        self._compose = compose
        self._look = look
        self._deciding_keys = tuple(deciding_keys)
        self._takes_text = takes_text
        self._constant_resolvers = frozenset(constant_resolvers)
        self._binds_hydra = binds_hydra
        self._kept_bases = kept_bases
        self._bases: OrderedDict[tuple[Any, ...], Base] = OrderedDict()
        self._choices: OrderedDict[tuple[Any, ...], _Choice] = OrderedDict()
        self._refusals: dict[tuple[Any, ...], str] = {}
        self._moments: dict[tuple[str, ...], Any] = {}

    def point(self, overrides: Sequence[str | Override], number: int = 0) -> ComposedPoint:
        """One point.  Nothing is raised: `error` holds what Hydra, or its parser, raised."""
        try:
            parsed = tuple(o if isinstance(o, Override) else self._loader.parse(o) for o in overrides)
        except HydraException as error:
            self.counts.refused += 1
            return ComposedPoint(number, (), error=error)
        try:
            point = self._fast(parsed, number)
        except (_Aside, NotUnderstood) as why:
            return self._aside(parsed, number, str(why) or "an interpolation is another one at this point")
        if point.reason is None:
            self.counts.fast += 1
        else:
            self.counts.aside[point.reason] += 1
        return point

    def _aside(self, parsed: tuple[Override, ...], number: int, reason: str) -> ComposedPoint:
        self.counts.compositions += 1
        try:
            composed = self._compose([o.input_line or "" for o in parsed], number)
        except Exception as error:  # noqa: BLE001  # Hydra refuses by exceptions of many kinds; they are the answer
            self.counts.refused += 1
            return ComposedPoint(number, parsed, error=error)
        OmegaConf.get_cache(composed.config)["now"] = dict(self._moments)  # one invocation is one moment
        if composed.is_sound:
            self.counts.aside[reason] += 1
        else:
            self.counts.refused += 1
        return ComposedPoint(number, parsed, composed=composed, reason=reason if composed.is_sound else None)

    # -- the fast way ------------------------------------------------------------------------------------------------

    def _fast(self, parsed: tuple[Override, ...], number: int) -> ComposedPoint:
        search_path = [o for o in parsed if o.key_or_group == SEARCH_PATH]
        try:
            chooses = [self._loader.chooses(o, search_path) for o in parsed]
        except Exception as error:  # noqa: BLE001  # a wrong search path, which Hydra's own way tells
            raise _Aside(f"{type(error).__name__} while looking for groups") from None
        chosen = [o for o, is_group in zip(parsed, chooses, strict=True) if is_group or o.key_or_group == SEARCH_PATH]
        choice = self._choice(tuple((o.input_line,) for o in chosen), chosen)
        roles = [
            _Role.CHOOSES if is_group else self._role(o, choice) for o, is_group in zip(parsed, chooses, strict=True)
        ]
        base, reason = self._base_for(parsed, roles, choice, number)
        if base.composed.unset and not {o.key_or_group for o in parsed}.issuperset(base.composed.unset):
            raise _Aside("a value must be given")
        changes: dict[Leaf, Any] = {}
        for override, role in zip(parsed, roles, strict=True):
            if role is _Role.SETS or role is _Role.ADDS:
                self._set(override, role, base, changes)
        try:
            if base.tree.left and self._binds_hydra:
                resolvers.register_hydra(base.composed.hydra)
            plain = base.tree.with_changes(changes, number)
        except NotUnderstood:
            raise
        except Exception as error:  # noqa: BLE001  # a leaf that cannot be resolved: Hydra's own way says so
            raise _Aside(f"{type(error).__name__} while resolving") from None
        is_complete = all(leaf in changes for leaf in base.tree.missing)
        return ComposedPoint(number, parsed, base=base, plain=plain, is_complete=is_complete, reason=reason)

    def _role(self, override: Override, choice: _Choice) -> _Role:
        value = override._value  # noqa: SLF001  # `value()` would copy lists and maps
        value = getattr(value, "text", value)
        is_scalar = value is None or isinstance(value, _SCALARS)
        if (
            override.is_hydra_override()
            or override.is_sweep_override()
            or override.package is not None
            or override.type is OverrideType.DEL
            or not is_scalar
            or (isinstance(value, str) and ("${" in value or value == "???"))
        ):
            return _Role.SHAPES
        key = override.key_or_group
        place = choice.outline.at(key)
        if isinstance(place, Leaf):
            if not place.settable or place in choice.deciding:
                return _Role.SHAPES
            if override.type is OverrideType.ADD and not _holds_nothing(place):
                return _Role.SHAPES
            return _Role.SETS
        if place is None and key not in self._deciding_keys and choice.outline.is_free(key):
            return _Role.ADDS
        return _Role.SHAPES

    def _base_for(
        self, parsed: tuple[Override, ...], roles: Sequence[_Role], choice: _Choice, number: int
    ) -> tuple[Base, str | None]:
        """The base of a point, and why it is as good as a composition for this point alone, if it is."""
        if _Role.SHAPES in roles or _Role.ADDS in roles:
            shape = tuple(
                (role, o.key_or_group if role in (_Role.SETS, _Role.ADDS) else o.input_line)
                for o, role in zip(parsed, roles, strict=True)
            )
            if shape not in choice.verdicts:
                if len(choice.verdicts) >= _KEPT_REFUSALS:
                    choice.verdicts.clear()
                choice.verdicts[shape] = _reason_against(parsed, roles, choice.outline)
            if (reason := choice.verdicts[shape]) is not None:
                raise _Aside(reason)
        kept = [(o, role) for o, role in zip(parsed, roles, strict=True) if role is not _Role.SETS]
        # A leaf that is added is part of the base, its value is not: the first point's stands there.
        key = tuple(o.get_key_element() if role is _Role.ADDS else (o.input_line,) for o, role in kept)
        before = self.counts.compositions
        base = self._base(key, [o for o, _ in kept], number)
        shaping = [o.key_or_group for o, role in kept if role is _Role.SHAPES]
        if self.counts.compositions == before or not shaping:
            return base, None
        choice.shapes += 1
        few = choice.shapes <= _FEW_SHAPES
        return base, None if few else f"every value of {', '.join(shaping)} needs a composition"

    def _set(self, override: Override, role: _Role, base: Base, changes: dict[Leaf, Any]) -> None:
        key = override.key_or_group
        leaf = base.tree.at(key)
        if not isinstance(leaf, Leaf) or not leaf.settable or leaf in base.deciding:
            raise _Aside(f"{key} is no plain value after the other overrides")
        is_add = override.type is OverrideType.ADD
        if is_add and (leaf in changes or (role is _Role.SETS and not _holds_nothing(leaf))):
            raise _Aside(f"+{key} depends on another override")
        value = override.value()
        try:
            if self._takes_text is not None and isinstance(value, (bool, int, float)):
                if key not in base.takes_text:
                    base.takes_text[key] = self._takes_text(base.composed, key)
                if base.takes_text[key]:
                    value = typed_text(override)
            changes[leaf] = leaf.converted(value)
        except Exception:  # noqa: BLE001  # Hydra's own way raises it, with the words that belong to it
            raise _Aside(f"{key} does not take this value") from None

    # -- what is kept ------------------------------------------------------------------------------------------------

    def _choice(self, key: tuple[Any, ...], overrides: Sequence[Override]) -> _Choice:
        choice = self._choices.get(key)
        if choice is not None:
            self._choices.move_to_end(key)
            return choice
        if key in self._refusals:
            raise _Aside(self._refusals[key])
        try:
            outline = Outline(self._look([o.input_line or "" for o in overrides]))
        except Exception as error:  # noqa: BLE001  # the composition of a point alone raises it again
            self._refuse(key, f"{type(error).__name__} while composing")
        deciding = {leaf for name in self._deciding_keys if isinstance(leaf := outline.at(name), Leaf)}
        # which leaves an expression reads is not known here: any of them may decide
        if any(leaf.is_expression for leaf in deciding):
            deciding |= set(outline.leaves())
        outline.forget_nodes()
        while len(self._choices) >= self._kept_bases:
            self._choices.popitem(last=False)
        choice = self._choices[key] = _Choice(outline, frozenset(deciding))
        return choice

    def _base(self, key: tuple[Any, ...], overrides: Sequence[Override], number: int) -> Base:
        base = self._bases.get(key)
        if base is not None:
            self._bases.move_to_end(key)
        else:
            base = self._new_base(key, overrides, number)
            while len(self._bases) >= self._kept_bases:
                self._bases.popitem(last=False)
            self._bases[key] = base
        if base.tree.foreign:
            raise _Aside(f"{min(base.tree.foreign)} may differ from point to point")
        return base

    def _new_base(self, key: tuple[Any, ...], overrides: Sequence[Override], number: int) -> Base:
        if key in self._refusals:
            raise _Aside(self._refusals[key])
        self.counts.compositions += 1
        try:
            composed = self._compose([o.input_line or "" for o in overrides], number)
        except Exception as error:  # noqa: BLE001  # the same composition for a point alone raises it again
            self._refuse(key, f"{type(error).__name__} while composing")
        if not composed.is_sound and not composed.unset:
            self._refuse(key, "the overrides are refused")
        tree = CompiledTree(
            composed.config,
            hydra=composed.hydra if self._binds_hydra else None,
            constant_resolvers=self._constant_resolvers,
            moments=self._moments,
        )
        deciding = {leaf for name in self._deciding_keys if isinstance(leaf := tree.at(name), Leaf)}
        return Base(composed, tree, frozenset(deciding.union(*(tree.reads(leaf) for leaf in deciding))))

    def _refuse(self, key: tuple[Any, ...], reason: str) -> None:
        """A base that cannot be is not tried again, unless another first value could mend it."""
        if not any(isinstance(part, str) for part in key):
            if len(self._refusals) >= _KEPT_REFUSALS:
                self._refusals.clear()
            self._refusals[key] = reason
        raise _Aside(reason)


def _holds_nothing(leaf: Leaf) -> bool:
    """Whether `+key=value` may set it: OmegaConf selects nothing there."""
    return not leaf.is_expression and (leaf.value is None or leaf.missing)


def _reason_against(parsed: Sequence[Override], roles: Sequence[_Role], tree: Outline) -> str | None:
    """Why the values of a point may not be set after everything else; None if that changes nothing.

    Hydra applies overrides in their order.  A value that is set before a change of structure may wait until after it
    if the change neither touches the leaf nor reads any.
    """
    before: list[str] = []
    for override, role in zip(parsed, roles, strict=True):
        key = override.key_or_group
        if role is _Role.SHAPES and before:
            if any(_overlap(key, other) for other in before):
                return f"{key} is set and then changed again"
            if _reads_values(override, tree):
                return f"{override.input_line} reads other values while it is applied"
        if role is _Role.SETS or role is _Role.ADDS:
            if override.type is OverrideType.ADD and key in before:
                return f"+{key} depends on another override"
            before.append(key)
    return None


def _overlap(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def _reads_values(override: Override, tree: Outline) -> bool:
    """Whether applying an override resolves an interpolation or compares a value."""
    key, value = override.key_or_group, override.value()
    if tree.leads_through_an_expression(key):
        return True
    place = tree.at(key)
    if override.type in (OverrideType.DEL, OverrideType.ADD):
        is_compared = override.type is OverrideType.DEL and value is not None
        if is_compared or (isinstance(place, Leaf) and place.is_expression):
            return True
    if isinstance(value, dict):
        return "${" in (override.input_line or "") or (isinstance(place, Branch) and _holds_expressions(place))
    return False


def _holds_expressions(branch: Branch) -> bool:
    return any(
        _holds_expressions(child) if isinstance(child, Branch) else child.is_expression
        for child in branch.children.values()
    )

"""What each layer and override did to each value: the composition once more, step by step (composer → explain, diff).

Hydra's own code merges and applies; after every step the tree is looked at.  A value's history holds who said it, and
who changed it without saying it (a map that an interpolation stood for), so nothing of the final tree is left out.
A list is one value: a merge replaces it as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override

from rompy_hydra.compose.composer import Composition
from rompy_hydra.compose.tree import child, children, is_branch, is_missing, written

Path = tuple[str, ...]


class _Gone:
    def __repr__(self) -> str:
        return "GONE"


GONE: Final = _Gone()
"""No value: before the first step that set it, or after one that took it away."""
MISSING = "???"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of composing: a layer, an override, or (neither) what is put right after Hydra has composed."""

    layer: ResultDefault | None = None
    override: Override | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What a step did to a value: `said` is what it says itself (GONE: nothing), `value` what stands there after it."""

    step: Step
    said: Any
    value: Any

    @property
    def is_idle(self) -> bool:
        """Whether it only asks for a value that is there already: a `???` loses to it."""
        return bool(self.said == MISSING and self.value != MISSING)


class History:
    """The history of every value of a composition, Hydra's own part included."""

    def __init__(self, composition: Composition) -> None:
        self._events: dict[Path, list[Event]] = {}
        self._tree: dict[Path, Any] = {}
        self._replay(composition)
        self._settle(composition)

    @property
    def final(self) -> Mapping[Path, Any]:
        """Every value of the composed tree as it is written."""
        return self._tree

    def of(self, path: Path) -> list[Event]:
        """What happened to a value, the last that set it last; nothing for what never was."""
        return list(self._events.get(path, ()))

    def paths(self) -> Iterator[Path]:
        """Everything that ever had a value."""
        return iter(self._events)

    def _replay(self, composition: Composition) -> None:
        provenance = composition.provenance
        loader = provenance.loader
        lines = [o.input_line for o in composition.parsed if o.input_line]
        # A repository of its own: merging moves nodes out of what was read, so that must be read once more.
        _, repository = loader._parse_overrides_and_create_caching_repo(provenance.config_name, lines)  # noqa: SLF001
        tree = OmegaConf.create()
        with flag_override(tree, "no_deepcopy_set_nodes", values=True):
            for layer in provenance.layers():
                config = loader._load_single_config(layer, repository).config  # noqa: SLF001
                said = dict(ends(config))
                tree.merge_with(config)
                self._note(Step(layer=layer), said, tree)
        OmegaConf.set_struct(tree, True)
        found = provenance.defaults_list()
        for override in found.config_overrides if found is not None else ():
            loader._apply_overrides_to_config([override], tree)  # noqa: SLF001
            self._note(Step(override=override), _said_by(override), tree)

    def _note(self, step: Step, said: Mapping[Path, Any], tree: DictConfig) -> None:
        after = dict(ends(tree))
        for path, value in after.items():
            says = said.get(path, GONE)
            if says is not GONE or not same(self._tree.get(path, GONE), value):
                self._add(path, Event(step, says, value))
        for path in self._tree.keys() - after.keys():
            self._add(path, Event(step, GONE, GONE))
        self._tree = after

    def _settle(self, composition: Composition) -> None:
        """The values as the composition has them: text as it was typed, what Hydra fills in."""
        final = dict(ends(composition.config))
        final.update((("hydra", *path), value) for path, value in ends(composition.hydra))
        for path, value in final.items():
            if same(self._tree.get(path, GONE), value):
                continue
            events = self._events.get(path, [])
            if events and events[-1].step.override is not None:
                events[-1] = Event(events[-1].step, value, value)
            else:
                self._add(path, Event(Step(), GONE, value))
        for path in self._tree.keys() - final.keys():
            self._events.pop(path, None)  # a `defaults` list, which Hydra takes out
        self._tree = final

    def _add(self, path: Path, event: Event) -> None:
        self._events.setdefault(path, []).append(event)


def ends(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, value as it is written) of all that holds a value in a tree; a list, and a map without keys, is one."""
    if isinstance(node, DictConfig) and is_branch(node) and (len(node) or not path):
        for key, inner in children(node):
            yield from ends(inner, (*path, str(key)))
    elif is_missing(node):
        yield path, MISSING
    else:
        yield path, plain(written(node))


def plain(value: Any) -> Any:
    """A written value as JSON can hold it, as far as it can be."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.name if hasattr(value, "name") and hasattr(type(value), "__members__") else value


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type: 1 is not true, and not 1.0."""
    if one is GONE or other is GONE:
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))  # noqa: PLR0124  # nan


def at(config: DictConfig | ListConfig, path: Path) -> Any:
    """The node at a path; None if there is none."""
    node: Any = config
    for part in path:
        if (node := child_of(node, part)) is None:
            return None
    return node


def child_of(node: Any, part: str) -> Any:
    """The node below another; keys that are no text (1, true) are found by their text."""
    if (found := child(node, part)) is not None or not isinstance(node, DictConfig) or not is_branch(node):
        return found
    return next((inner for key, inner in children(node) if str(key) == part), None)


def _said_by(override: Override) -> dict[Path, Any]:
    """What an override says of each value; the value of a text field is put right when all is composed."""
    if override.is_delete():
        return {}
    path = tuple(override.key_or_group.split("."))
    return dict(_ends_of(override.value(), path))


def _ends_of(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _ends_of(inner, (*path, str(key)))
    else:
        yield path, plain(value)

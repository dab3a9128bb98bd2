"""What an interpolation reads: the keys, environment variables and calls in `${…}` (layers → explain)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import AnyNode
from omegaconf._utils import split_key
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

_Node: Any = OmegaConfGrammarParser.InterpolationNodeContext
_Resolver: Any = OmegaConfGrammarParser.InterpolationResolverContext
_READ_A_KEY = frozenset({"oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated"})


@dataclass(frozen=True, slots=True)
class Reference:
    """One thing that is read: a key (`path`, absolute), or a call (`name`, `arguments` as they are written)."""

    text: str
    path: tuple[str, ...] | None = None
    name: str | None = None
    arguments: str = ""

    @property
    def variable(self) -> str | None:
        """The environment variable that it reads, if it is `oc.env`."""
        return self.arguments.partition(",")[0].strip().strip("'\"") if self.name == "oc.env" else None


def references(value: Any, parent: Any, path: Sequence[str]) -> list[Reference]:
    """What the written value at a path (a text, or a list or map with texts in it) reads, each thing once.

    Relative keys start at the map or list that holds the text; `parent` is a node that knows the tree.
    """
    found: dict[Reference, None] = {}
    for text, above in _texts(value, list(path)):
        found.update(dict.fromkeys(_in_text(text, parent, above)))
    return list(found)


def _texts(value: Any, path: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(text, the path of what holds it)."""
    if isinstance(value, str) and "${" in value:
        yield value, path[:-1]
    elif isinstance(value, (list, tuple, dict)):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            yield from _texts(inner, [*path, str(key)])


def _in_text(text: str, parent: Any, parts: list[str]) -> Iterator[Reference]:
    try:
        tree = parse(text)
    except OmegaConfBaseException:
        return  # composing tells that it is no interpolation
    for context in _descendants(tree):
        if isinstance(context, _Node):
            if (path := _absolute(context.getText()[2:-1], parent, parts)) is not None:
                yield Reference(context.getText(), path)
        elif isinstance(context, _Resolver):
            yield _call(context, parent, parts)


def _call(context: Any, parent: Any, parts: list[str]) -> Reference:
    name = context.resolverName().getText()
    sequence = context.sequence()
    arguments = sequence.getText() if sequence is not None else ""
    path = None
    first = arguments.partition(",")[0].strip().strip("'\"")
    if name == "hydra" and first:
        path = ("hydra", *_split(first, parent))
    elif name in _READ_A_KEY and first:
        path = _absolute(first, parent, parts)
    return Reference(context.getText(), path, name, arguments)


def _absolute(key: str, parent: Any, parts: list[str]) -> tuple[str, ...] | None:
    key = key.strip()
    dots = len(key) - len(key.lstrip("."))
    if dots > len(parts) + 1:
        return None
    above = parts[: len(parts) - dots + 1] if dots else []
    return (*above, *_split(key[dots:], parent))


def _split(key: str, parent: Any) -> list[str]:
    """The parts of a key; what is itself read (`a.${b}`) as it is now."""
    if "${" in key:
        node = AnyNode(key, parent=parent)
        try:
            key = str(node._dereference_node()._value())  # noqa: SLF001  # no public way without a key in the tree
        except OmegaConfBaseException:
            return [key]
    return split_key(key)


def _descendants(context: Any) -> Iterator[Any]:
    yield context
    for inner in getattr(context, "children", None) or ():
        yield from _descendants(inner)

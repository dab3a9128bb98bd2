"""A composed tree as plain data that knows which leaf reads which, for many points that differ in a few leaves.

OmegaConf says what an expression means: its own parser and visitor read it, its own resolvers answer, its own nodes
convert.  What is kept here is only which leaves were read on the way.  A leaf is worked out again for a point only if
one that it read is another there.  An expression that is not understood with certainty is left to OmegaConf: it is
resolved on the real tree for every point.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from omegaconf import AnyNode, DictConfig, ListConfig, Node, OmegaConf, ValueNode
from omegaconf._utils import split_key
from omegaconf.basecontainer import BaseContainer
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse
from omegaconf.grammar_visitor import GrammarVisitor

from rompy_hydra.compose.tree import is_branch

Path = tuple[Any, ...]

ASKED = frozenset(
    {
        "oc.env",
        "python_version",
        "host.cpus",
        "host.memory",
        "host.memory_gb",
        "host.name",
        "rompy.min",
        "rompy.max",
        "rompy.mul",
        "rompy.floordiv",
        "secret",
    }
)
"""Resolvers that look at nothing but their arguments, and give the same for the same within an invocation."""

LEFT_TO_OMEGACONF = frozenset(
    {"oc.create", "oc.decode", "oc.deprecated", "oc.dict.keys", "oc.dict.values", "oc.select"}
)
"""Resolvers that read the tree itself; they change nothing and depend on nothing else."""

_ResolverContext = OmegaConfGrammarParser.InterpolationResolverContext
_HYDRA_CONSTANTS = ("runtime.choices.", "runtime.cwd", "runtime.version", "job.name", "job.config_name")
_HYDRA_NUMBER = ("job.num", "job.id")

_ONE_NODE = re.compile(r"\$\{(\.*[A-Za-z_]\w*(?:\.\w+)*)\}", re.ASCII)
_PLAIN_TEXT = re.compile(r"(?:[^$\\{}]|\$(?!\{))*")


class NotUnderstood(Exception):  # noqa: N818  # no error: OmegaConf is asked instead
    """An expression that only OmegaConf itself can be trusted with."""


class Leaf:
    """A value of the tree; `expression` gives it where it is an interpolation that is understood."""

    __slots__ = ("expression", "is_expression", "key", "missing", "node", "parent", "path", "settable", "value")

    def __init__(self, key: Any, parent: Branch, node: Any) -> None:
        self.key = key
        self.parent = parent
        self.path: Path = (*parent.path, key)
        self.node = node
        self.value: Any = node._value()
        self.expression: Expression | None = None
        self.is_expression = False
        self.missing = False
        self.settable = isinstance(node, ValueNode) and not (
            node._get_flag("readonly") or parent.node._get_flag("readonly")
        )

    def converted(self, value: Any) -> Any:
        """What the node makes of a value that is set; raises as OmegaConf does."""
        return value if isinstance(self.node, AnyNode) else self.node.validate_and_convert(value)


class Branch:
    """A map or a list of the tree."""

    __slots__ = ("children", "is_list", "key", "node", "parent", "path")

    def __init__(self, key: Any, parent: Branch | None, node: Any) -> None:
        self.key = key
        self.parent = parent
        self.path: Path = (*parent.path, key) if parent is not None else ()
        self.node = node
        self.is_list = isinstance(node, ListConfig)
        self.children: dict[Any, Leaf | Branch] = {}

    def child(self, part: str) -> Leaf | Branch | None:
        """What a part of a dotted key leads to, as OmegaConf selects it."""
        if not self.is_list:
            return self.children.get(part)
        try:
            number = int(part)
        except ValueError:
            raise NotUnderstood from None  # an error there
        return self.children.get(number)


class Expression:
    """What an interpolation says, read once; the same text means the same at every leaf."""

    __slots__ = ("key", "parts", "tree")

    def __init__(self, text: str) -> None:
        self.key: str | None = None
        self.parts: list[tuple[bool, str]] | None = None
        self.tree: Any = None
        if whole := _ONE_NODE.fullmatch(text):
            self.key = whole[1]
        elif (parts := concatenation(text)) is not None:
            self.parts = parts
        else:
            self.tree = parse(text)


def concatenation(text: str) -> list[tuple[bool, str]] | None:
    """(is a node's key, text) for text with simple interpolations in it; None if it is anything else."""
    parts: list[tuple[bool, str]] = []
    position = 0
    while position < len(text):
        if match := _ONE_NODE.match(text, position):
            parts.append((True, match[1]))
        else:
            match = _PLAIN_TEXT.match(text, position)
            if not match or not match.group():
                return None
            parts.append((False, match.group()))
        position = match.end()
    return parts


@lru_cache(maxsize=4096)
def _split(key: str) -> tuple[str, ...]:
    return tuple(split_key(key))


@lru_cache(maxsize=1024)
def _expression(text: str) -> Expression:
    return Expression(text)


class Outline:
    """What stands where in a tree, nothing worked out."""

    def __init__(self, config: DictConfig) -> None:
        self.root = Branch(None, None, config)
        self.expressions: list[Leaf] = []
        self.missing: list[Leaf] = []
        self._grow(self.root)

    def at(self, key: str) -> Leaf | Branch | None:
        """What stands at a dotted key; None if nothing does, or if the way leads through a value."""
        here: Leaf | Branch | None = self.root
        for part in _split(key):
            if not isinstance(here, Branch):
                return None
            try:
                here = here.child(part)
            except NotUnderstood:
                return None
        return here

    def is_free(self, key: str) -> bool:
        """Whether nothing stands at a dotted key, and the way to it is through maps that stand there as such."""
        here: Leaf | Branch | None = self.root
        for part in _split(key):
            if not isinstance(here, Branch) or here.is_list:
                return False
            if (here := here.child(part)) is None:
                return True
        return False

    def leads_through_an_expression(self, key: str) -> bool:
        """Whether setting a dotted key would set something else: a map on the way is an interpolation."""
        here: Leaf | Branch | None = self.root
        for part in _split(key)[:-1]:
            if isinstance(here, Branch):
                try:
                    here = here.child(part)
                except NotUnderstood:
                    return True
            if isinstance(here, Leaf):
                return True
        return False

    def leaves(self, branch: Branch | None = None) -> Iterator[Leaf]:
        """All of them."""
        for child in (branch or self.root).children.values():
            if isinstance(child, Branch):
                yield from self.leaves(child)
            else:
                yield child

    def forget_nodes(self, branch: Branch | None = None) -> None:
        """Let go of the tree that this is the outline of."""
        here = branch or self.root
        here.node = None
        for child in here.children.values():
            if isinstance(child, Branch):
                self.forget_nodes(child)
            else:
                child.node = None

    def _grow(self, branch: Branch) -> None:
        content = branch.node._content
        pairs = enumerate(content) if branch.is_list else content.items()
        for key, node in pairs:
            if is_branch(node):
                child: Leaf | Branch = Branch(key, branch, node)
                self._grow(child)  # type: ignore[arg-type]
            else:
                child = self._leaf(key, branch, node)
            branch.children[key] = child

    def _leaf(self, key: Any, branch: Branch, node: Any) -> Leaf:
        leaf = Leaf(key, branch, node)
        value = leaf.value
        if isinstance(value, Node):  # a node of several types that holds one of one type
            leaf.value, leaf.settable = value._value(), False
        elif isinstance(value, str) and value == "???":
            leaf.missing = True
            self.missing.append(leaf)
        elif isinstance(value, str) and "${" in value:
            leaf.is_expression = True
            self.expressions.append(leaf)
        return leaf


class CompiledTree(Outline):
    """The tree of one base.

    `plain` is its content as `OmegaConf.to_container(resolve=True)` gives it, except for the leaves in `left` (those
    that OmegaConf resolves for every point).  `foreign` names resolvers that nobody vouches for.
    """

    def __init__(
        self,
        config: DictConfig,
        *,
        hydra: DictConfig | None = None,
        constant_resolvers: Iterable[str] = (),
        moments: dict[tuple[str, ...], Any] | None = None,
    ) -> None:
        super().__init__(config)
        self.config = config
        self.hydra = hydra
        self.moments = moments if moments is not None else {}
        OmegaConf.get_cache(config)["now"] = self.moments  # the cache of that resolver
        self.asked = ASKED | frozenset(constant_resolvers)
        self.number = Leaf("num", self.root, AnyNode(0))  # stands for the point's number among the leaves
        self.foreign: set[str] = set()
        self.left: list[Leaf] = []
        self.plain: dict[Any, Any] = {}
        self.dependents: dict[Leaf, list[Leaf]] = {}
        self._read_expressions()
        self._work_out()

    def reads(self, leaf: Leaf) -> Iterator[Leaf]:
        """The leaves that decide what `leaf` holds."""
        for read, readers in self.dependents.items():
            if leaf in readers:
                yield read

    # -- making it ---------------------------------------------------------------------------------------------------

    def _read_expressions(self) -> None:
        known = self.asked | LEFT_TO_OMEGACONF | ({"now", "hydra"} if self.hydra is not None else {"now"})
        for leaf in self.expressions:
            expression = _expression(leaf.value)
            self.foreign.update(_foreign_resolvers(expression, known))
            if isinstance(leaf.node, ValueNode):
                leaf.expression = expression

    def _work_out(self) -> None:
        evaluator = _Evaluator(self, {}, recording=True)
        if not self.foreign:
            for leaf in self.expressions:
                try:
                    evaluator.result(leaf)
                    evaluator.content(leaf)
                except NotUnderstood:
                    self.left.append(leaf)
                else:
                    for read in evaluator.reads[leaf]:
                        self.dependents.setdefault(read, []).append(leaf)
            self.plain = self._plain(self.root, evaluator)

    def _plain(self, branch: Branch, evaluator: _Evaluator) -> Any:
        left = set(self.left)
        content = {
            key: self._plain(child, evaluator)
            if isinstance(child, Branch)
            else (None if child in left else evaluator.content(child) if child.expression else child.value)
            for key, child in branch.children.items()
        }
        return list(content.values()) if branch.is_list else content

    # -- one point ---------------------------------------------------------------------------------------------------

    def with_changes(self, changes: Mapping[Leaf, Any], number: int = 0) -> dict[Any, Any]:
        """The plain content with other values at some leaves; parts that are the same are shared with `plain`.

        Raises `NotUnderstood` where OmegaConf must say what comes of it, and what OmegaConf raises for leaves that
        were left to it.
        """
        if number and self.number in self.dependents:
            changes = {**changes, self.number: number}
        copies: dict[Branch, Any] = {}
        root: dict[Any, Any] = self._copied(self.root, copies)
        affected: dict[Leaf, None] = {}
        for leaf, value in changes.items():
            for reader in self.dependents.get(leaf, ()):
                if reader not in changes:
                    affected[reader] = None
            if leaf is not self.number:
                self._copied(leaf.parent, copies)[leaf.key] = value
        if affected:
            evaluator = _Evaluator(self, changes)
            for leaf in affected:
                self._copied(leaf.parent, copies)[leaf.key] = evaluator.content(leaf)
        left = [leaf for leaf in self.left if leaf not in changes]
        if left:
            for leaf, value in self._ask_omegaconf(left, changes):
                self._copied(leaf.parent, copies)[leaf.key] = value
        return root

    def _copied(self, branch: Branch, copies: dict[Branch, Any]) -> Any:
        if branch not in copies:
            if branch.parent is None:
                copies[branch] = dict(self.plain)
            else:
                above = self._copied(branch.parent, copies)
                copies[branch] = above[branch.key] = above[branch.key].copy()
        return copies[branch]

    def _ask_omegaconf(self, leaves: list[Leaf], changes: Mapping[Leaf, Any]) -> Iterator[tuple[Leaf, Any]]:
        """Resolve leaves on the real tree, with the point's values in it for as long as that takes."""
        before = [(leaf.node, leaf.node._value()) for leaf in changes if leaf is not self.number]
        try:
            for leaf, value in changes.items():
                if leaf is not self.number:
                    leaf.node._set_value(value)
            answers = [(leaf, _resolved(leaf)) for leaf in leaves]
        finally:
            for node, value in before:
                node._set_value(value)
        yield from answers


def _resolved(leaf: Leaf) -> Any:
    """What `OmegaConf.to_container(resolve=True)` puts in the place of a leaf."""
    node = leaf.parent.node._get_child(leaf.key)._dereference_node()
    if isinstance(node, (DictConfig, ListConfig)):
        return BaseContainer._to_content(node, resolve=True, throw_on_missing=True)
    if node._is_missing():
        raise NotUnderstood
    return node._value()


def _foreign_resolvers(expression: Expression, known: frozenset[str]) -> Iterator[str]:
    """The calls in an expression of which nobody can say that they give the same for the same."""
    calls = (c for c in _descendants(expression.tree) if isinstance(c, _ResolverContext))
    context: Any
    for context in calls:
        name = context.resolverName().getText()
        arguments = sequence.getText() if (sequence := context.sequence()) is not None else ""
        call = f"${{{name}:{arguments}}}"
        vouched = "${" not in name and (name in known or not OmegaConf.has_resolver(name))
        if name == "now":
            vouched = "${" not in arguments
        if name == "hydra":
            vouched &= arguments in _HYDRA_NUMBER or (arguments.startswith(_HYDRA_CONSTANTS) and "${" not in arguments)
        if not vouched:
            yield call


def _descendants(context: Any) -> Iterator[Any]:
    if context is None:
        return
    yield context
    for child in getattr(context, "children", None) or ():
        yield from _descendants(child)


class _Evaluator:
    """Works out leaves for one point; with `recording`, notes which leaves each of them read."""

    def __init__(self, tree: CompiledTree, changes: Mapping[Leaf, Any], *, recording: bool = False) -> None:
        self.tree = tree
        self.changes = changes
        self.reads: dict[Leaf, set[Leaf]] = {}
        self._recording = recording
        self._results: dict[Leaf, Any] = {}
        self._contents: dict[Leaf, Any] = {}
        self._at_work: list[Leaf] = []

    def result(self, leaf: Leaf) -> Any:
        """The value of a leaf, or the branch that it stands for."""
        self._note(leaf)
        if leaf in self.changes:
            return self.changes[leaf]
        if leaf.expression is None:
            if leaf.missing or leaf.is_expression:
                raise NotUnderstood
            return leaf.value
        if leaf in self._results:
            self._note_all(leaf)
            return self._results[leaf]
        if leaf in self._at_work:
            raise NotUnderstood  # it reads itself
        self._at_work.append(leaf)
        if self._recording:
            self.reads.setdefault(leaf, set())
        try:
            value = self._evaluate(leaf, leaf.expression)
        finally:
            self._at_work.pop()
        self._results[leaf] = value
        self._note_all(leaf)
        return value

    def content(self, leaf: Leaf) -> Any:
        """The plain data that stand in the place of a leaf."""
        value = self.result(leaf)
        if not isinstance(value, Branch):
            return value
        if leaf not in self._contents:
            if leaf in self._at_work:
                raise NotUnderstood
            self._at_work.append(leaf)
            try:
                self._contents[leaf] = self._content_of(value)
            finally:
                self._at_work.pop()
        self._note_all(leaf)
        return self._contents[leaf]

    def _content_of(self, branch: Branch) -> Any:
        content = {
            key: self._content_of(child) if isinstance(child, Branch) else self.content(child)
            for key, child in branch.children.items()
        }
        return list(content.values()) if branch.is_list else content

    def _note(self, leaf: Leaf) -> None:
        if self._recording and self._at_work:
            self.reads.setdefault(self._at_work[-1], set()).add(leaf)

    def _note_all(self, leaf: Leaf) -> None:
        if self._recording and self._at_work:
            self.reads.setdefault(self._at_work[-1], set()).update(self.reads.get(leaf, ()))

    def _evaluate(self, leaf: Leaf, expression: Expression) -> Any:
        value: Any
        if expression.key is not None:
            value = self._node(leaf, expression.key)
        elif expression.parts is not None:
            value = "".join(
                str(self._scalar(self._node(leaf, text))) if is_key else text for is_key, text in expression.parts
            )
        else:
            value = self._visit(leaf, expression.tree)
        if isinstance(leaf.node, AnyNode):
            return value
        return self._converted(leaf, self._scalar(value))

    @staticmethod
    def _scalar(value: Any) -> Any:
        if isinstance(value, Branch):
            raise NotUnderstood
        return value

    @staticmethod
    def _converted(leaf: Leaf, value: Any) -> Any:
        try:
            converted = leaf.converted(value)
        except Exception:  # noqa: BLE001  # OmegaConf will say it
            raise NotUnderstood from None
        return converted if type(converted) is not type(value) else value

    def _visit(self, leaf: Leaf, tree: Any) -> Any:
        visitor = GrammarVisitor(
            node_interpolation_callback=lambda key, _: self._scalar_or_whole(leaf, key),
            resolver_interpolation_callback=lambda name, args, args_str: self._ask(leaf, name, args, args_str),
            memo=None,
        )
        try:
            value = visitor.visit(tree)
        except NotUnderstood:
            raise
        except Exception:  # noqa: BLE001  # a resolver may raise anything; OmegaConf will raise it again and say where
            raise NotUnderstood from None
        if isinstance(value, (Node, Branch)):
            raise NotUnderstood
        return value

    def _scalar_or_whole(self, leaf: Leaf, key: str) -> Any:
        return self._scalar(self._node(leaf, key))

    def _node(self, leaf: Leaf, key: str) -> Any:
        """What `${key}` in a leaf stands for, as OmegaConf's `_resolve_node_interpolation` finds it."""
        here: Branch | None = leaf.parent
        if key.startswith("."):
            while (key := key[1:]).startswith("."):
                assert here is not None
                if (here := here.parent) is None:
                    raise NotUnderstood
        else:
            here = self.tree.root
        *way, last = _split(key)
        branch: Any = here
        for part in way:
            branch = self._step(branch, part)
            if isinstance(branch, Leaf):
                branch = self.result(branch)
            if not isinstance(branch, Branch):
                raise NotUnderstood
        target = self._step(branch, last)
        value = self.result(target) if isinstance(target, Leaf) else target
        if isinstance(value, Branch):
            self._not_above(leaf, value)
        return value

    @staticmethod
    def _step(branch: Branch, part: str) -> Leaf | Branch:
        if (found := branch.child(part)) is None:
            raise NotUnderstood
        return found

    @staticmethod
    def _not_above(leaf: Leaf, branch: Branch) -> None:
        """OmegaConf refuses an interpolation that stands for a map around it."""
        above: Branch | None = leaf.parent
        while above is not None:
            if above is branch:
                raise NotUnderstood
            above = above.parent

    def _ask(self, leaf: Leaf, name: str, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
        if name == "now":
            return self._moment(leaf, args, args_str)
        if name == "hydra":
            return self._of_hydra(args)
        if name not in self.tree.asked:
            raise NotUnderstood
        return self._call(leaf, name, args, args_str)

    def _call(self, leaf: Leaf, name: str, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
        resolver = OmegaConf._get_resolver(name)
        if resolver is None:
            raise NotUnderstood
        return resolver(self.tree.config, leaf.parent.node, leaf.node, args, args_str)

    def _moment(self, leaf: Leaf, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
        """One invocation is one moment; OmegaConf's own cache goes by the text of the arguments too."""
        moments = self.tree.moments
        if args_str not in moments:
            moments[args_str] = self._call(leaf, "now", args, args_str)
        return moments[args_str]

    def _of_hydra(self, args: tuple[Any, ...]) -> Any:
        if self.tree.hydra is None or len(args) != 1 or not isinstance(args[0], str):
            raise NotUnderstood
        key = args[0]
        if key in _HYDRA_NUMBER:
            self._note(self.tree.number)
            number = self.changes.get(self.tree.number, 0)
            return number if key == "job.num" else str(number)
        if not key.startswith(_HYDRA_CONSTANTS):
            raise NotUnderstood
        value = OmegaConf.select(self.tree.hydra, key)
        if OmegaConf.is_config(value):
            raise NotUnderstood
        return value

"""Conditions that people write about configurations and records: `resources.threads > 4 and backend == 'local'`.

A small part of Python's expressions: dotted keys, numbers, texts, lists, `+ - * / // %`, comparisons, `in`, `and`,
`or`, `not`.  Nothing is called, nothing is looked up but keys.  `null` is no number: what compares it with one does not
hold, what calculates with it is null.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

Lookup = Callable[[str], Any]
"""The value of a dotted key; raises `KeyError` if there is none."""

_Value = Callable[[Lookup], Any]
_CONSTANTS = {"null": None, "true": True, "false": False}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_MOST_CHARACTERS = 2000


class ConditionError(ValueError):
    """A condition that cannot be read, or cannot be said of these values."""


class Condition:
    """One condition, read once and asked many times."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _MOST_CHARACTERS:
            raise ConditionError(f"a condition may have {_MOST_CHARACTERS} characters")
        try:
            tree = ast.parse(text.strip(), mode="eval")
            self._holds = _compiled(tree.body)
        except SyntaxError as error:
            raise ConditionError(f"'{text}' is no condition: {error.msg}") from None
        except RecursionError:
            raise ConditionError("the condition is nested too deeply") from None
        self.keys = tuple(dict.fromkeys(_keys(tree.body)))

    def holds(self, lookup: Lookup) -> bool:
        """Whether it holds for these values.

        Raises `ConditionError` for a key that is not there and for values that do not go together.
        """
        try:
            return bool(self._holds(lookup))
        except KeyError as error:
            raise ConditionError(f"'{self.text}' speaks of {error.args[0]}, which is not there") from None
        except (TypeError, ZeroDivisionError) as error:
            raise ConditionError(f"'{self.text}' cannot be said of these values: {error}") from None


def _keys(node: ast.expr) -> list[str]:
    key = _dotted(node)
    if key is not None:
        return [] if key in _CONSTANTS else [key]
    return [key for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr) for key in _keys(child)]


def _dotted(node: ast.expr) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _compiled(node: ast.expr) -> _Value:
    key = _dotted(node)
    if key is not None:
        if key in _CONSTANTS:
            value = _CONSTANTS[key]
            return lambda _: value
        return lambda lookup: lookup(key)
    match node:
        case ast.Constant(value=str() | int() | float() as constant):
            return lambda _: constant
        case ast.Constant(value=None):
            return lambda _: None
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            members = [_compiled(element) for element in elements]
            return lambda lookup: [member(lookup) for member in members]
        case ast.BoolOp(op=sign, values=values):
            parts = [_compiled(part) for part in values]
            together = all if isinstance(sign, ast.And) else any
            return lambda lookup: together(part(lookup) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _compiled(operand)
            return lambda lookup: not inner(lookup)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _calculated(_SIGNS[type(sign)], [_compiled(operand)])
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            return _calculated(_ARITHMETIC[type(sign)], [_compiled(left), _compiled(right)])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _compared([_compiled(left), *map(_compiled, comparators)], [_comparison(op) for op in ops])
    raise ConditionError(f"'{ast.unparse(node)}' cannot stand in a condition")


def _calculated(function: Callable[..., Any], parts: list[_Value]) -> _Value:
    def value(lookup: Lookup) -> Any:
        numbers = [part(lookup) for part in parts]
        return None if None in numbers else function(*numbers)

    return value


def _comparison(op: ast.cmpop) -> Callable[[Any, Any], Any]:
    if type(op) in _ORDER:
        function = _ORDER[type(op)]
        return lambda a, b: a is not None and b is not None and function(a, b)
    others: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
        ast.Is: operator.eq,
        ast.IsNot: operator.ne,
        ast.In: lambda a, b: b is not None and a in b,
        ast.NotIn: lambda a, b: b is None or a not in b,
    }
    return others[type(op)]


def _compared(parts: list[_Value], comparisons: list[Callable[[Any, Any], Any]]) -> _Value:
    def holds(lookup: Lookup) -> bool:
        left = parts[0](lookup)
        for part, compare in zip(parts[1:], comparisons, strict=True):
            right = part(lookup)
            if not compare(left, right):
                return False
            left = right
        return True

    return holds

"""What pydantic complains about, as one sentence for each key: every room that validates tells it in the same words."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import ValidationError

Key = TypeVar("Key", bound=Hashable)
Location = tuple[int | str, ...]

_PREFIXES = ("Value error, ", "Assertion failed, ")


def rules_by_key(error: ValidationError, key_of: Callable[[Location], Key]) -> dict[Key, str]:
    """Key → what is wrong with it, in the order found.

    The members of a union complain each for itself; their sentences are joined.  `key_of` turns pydantic's location,
    which also holds the labels of those members, into a key.
    """
    rules: dict[Key, list[str]] = {}
    for item in error.errors(include_url=False, include_input=False):
        message = item["msg"]
        for start in _PREFIXES:
            message = message.removeprefix(start)
        rules.setdefault(key_of(item["loc"]), []).append(message)
    return {key: "; or ".join(dict.fromkeys(messages)) for key, messages in rules.items()}


def path_in(data: Any, location: Sequence[str | int]) -> Location:
    """The keys of a location in the data that was validated: the labels of union members lead nowhere there."""
    path: list[str | int] = []
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if len(location) > 1 or isinstance(part, int):
                continue
        path.append(part)  # a single one that is not there is a field that is missing
    return tuple(path)

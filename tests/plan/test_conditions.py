"""Conditions: what they say of values, and what they refuse to be."""

from __future__ import annotations

from typing import Any

import pytest

from rompy_hydra.plan.conditions import Condition, ConditionError

VALUES: dict[str, Any] = {
    "resources.threads": 4,
    "resources.ranks": None,
    "backend": "local",
    "model.name": "veros",
    "state": "failed",
    "flag": True,
    "tags": ["a", "b"],
    "x": 0.5,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("resources.threads > 2", True),
        ("resources.threads > 4", False),
        ("2 < resources.threads <= 4", True),
        ("resources.threads * 2 == 8", True),
        ("resources.threads // 3 + 1 - -1 == 3", True),
        ("backend == 'local' and state=='failed'", True),
        ("backend == 'docker' or not flag", False),
        ("backend in ['local', 'docker']", True),
        ("backend not in ['local']", False),
        ("'a' in tags", True),
        ("'er' in model.name", True),
        ("flag", True),
        ("flag == true", True),
        ("resources.ranks == null", True),
        ("resources.ranks is None", True),
        ("resources.ranks is not null", False),
        ("resources.ranks > 1", False),
        ("not resources.ranks > 1", True),
        ("resources.ranks * resources.threads > 1", False),
        ("resources.ranks in [1, 2]", False),
        ("x % 0.3 < 0.3", True),
        ("  x >= .5  ", True),
    ],
)
def test_a_condition_holds_as_it_reads(text: str, holds: bool) -> None:
    assert Condition(text).holds(VALUES.__getitem__) is holds


@pytest.mark.parametrize(
    "text",
    [
        *("", "a >", "f(x)", "x := 1", "lambda: 1", "[a for a in tags]", "tags[0]", "f'{x}'", "a if b else c", "b'x'"),
        *("1 ** 9", "1 << 9", "__import__('os')", "x; y", "{1: 2}", "..", "'a'.upper()", "x" * 3000),
        "(" * 500 + "x" + ")" * 500,
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        Condition(text)


@pytest.mark.parametrize("text", ["nowhere > 1", "state > 1", "x / (x - x) > 1", "x in 5"])
def test_what_cannot_be_said_of_the_values_is_told_with_the_condition(text: str) -> None:
    with pytest.raises(ConditionError, match=r"nowhere|cannot be said"):
        Condition(text).holds(VALUES.__getitem__)


def test_the_keys_of_a_condition_are_known() -> None:
    assert Condition("a.b > 1 and (c == 'x' or a.b < d.e) and true").keys == ("a.b", "c", "d.e")

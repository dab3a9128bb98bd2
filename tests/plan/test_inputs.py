"""How an input is written: what is taken, what is refused and what it says then."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rompy_hydra.plan.inputs import InputSpec

PIN = "sha256:" + "0" * 64


def test_a_source_is_enough():
    spec = InputSpec.model_validate({"source": "wind.nc"})
    assert (spec.as_name, spec.mode, spec.required, spec.identity) == (None, "link", True, "stat")


def test_it_is_written_as_it_was_read():
    written = {"source": ["a", "b"], "as": "forcing", "mode": "copy", "required": False, "identity": PIN}
    assert InputSpec.model_validate(written).model_dump(by_alias=True) == written


def test_python_may_say_as_name():
    assert InputSpec(source="a", as_name="b") == InputSpec.model_validate({"source": "a", "as": "b"})


def test_a_pinned_value_is_told_from_a_kind_of_identity():
    assert InputSpec(source="a", identity=PIN).pinned == PIN
    assert InputSpec(source="a", identity="sha256").pinned is None


def test_it_cannot_be_changed():
    with pytest.raises(ValidationError):
        InputSpec(source="a").mode = "copy"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "required"),
        ({"source": ""}, "must not be empty"),
        ({"source": "template:"}, "must not be empty"),
        ({"source": []}, "at least one"),
        ({"source": ["a", ""]}, "must not be empty"),
        ({"source": 4}, "quote it"),
        ({"source": ["a", 4]}, "quote it"),
        ({"source": "a\0b"}, "NUL"),
        ({"source": "a", "as": "../b"}, "in the run directory"),
        ({"source": "a", "as": "/b"}, "in the run directory"),
        ({"source": "a", "as": ""}, "in the run directory"),
        ({"source": "a", "as": "b//c"}, "in the run directory"),
        ({"source": "a", "mode": "symlink"}, "'link', 'hardlink', 'copy', 'reflink' or 'stage'"),
        ({"source": "a", "required": 1}, "valid boolean"),
        ({"source": "a", "identity": "md5"}, "stat, fast, sha256"),
        ({"source": "a", "identity": "sha256:ABC"}, "lower case"),
        ({"source": "a", "moed": "copy"}, "did you mean 'mode'?"),
    ],
)
def test_what_is_refused_says_what_would_be_right(fields, said):
    with pytest.raises(ValidationError, match=said):
        InputSpec.model_validate(fields)

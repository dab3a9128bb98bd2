"""Memory sizes: what people write, in bytes."""

import json
import re
from contextlib import suppress
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rompy_hydra.units.sizes import MINIMUM_MEMORY, Memory, format_memory, parse_memory

MiB, GiB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512m", 512 * MiB),
        ("512mb", 512 * MiB),
        ("512 MiB", 512 * MiB),
        ("1.5g", 1536 * MiB),
        ("2gb", 2 * GiB),
        ("64GiB", 64 * GiB),
        ("1t", 1024 * GiB),
        ("1T", 1024 * GiB),
        (" 8G ", 8 * GiB),
        ("4194304", 4 * MiB),
        ("4194304b", 4 * MiB),
        ("8192k", 8 * MiB),
        (GiB, GiB),
        (1e9, 10**9),
    ],
)
def test_sizes_are_read_in_binary_units(written: object, size: Any) -> None:
    assert parse_memory(written) == size


def test_fractions_of_a_unit_become_whole_bytes() -> None:
    assert parse_memory("0.1g") == 107374182
    assert type(parse_memory(1e9)) is int


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (True, "boolean"),
        (False, "boolean"),
        (-1, "negative"),
        ("-1g", "negative"),
        (float("nan"), "not a whole number of bytes"),
        (float("inf"), "not a whole number of bytes"),
        (5e7 + 0.5, "not a whole number of bytes"),
        ("50000000.5", "not a whole number of bytes"),
        ("nan", "not a memory size"),
        ("2 gigs", "not a memory size"),
        ("2ib", "not a memory size"),
        ("1_000_000_000", "not a memory size"),
        ("٤g", "not a memory size"),
        ("9" * 5000, "not a memory size"),
        ("", "not a memory size"),
        (None, "NoneType"),
        (["2g"], "list"),
    ],
)
def test_what_is_no_size_is_refused_with_the_valid_forms(written: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_memory(written)
    assert "'1.5g'" in str(caught.value)


@pytest.mark.parametrize("written", [0, "0", "0g", 0.0])
def test_zero_is_refused_and_null_named_as_the_way_to_have_no_limit(written: object) -> None:
    with pytest.raises(ValueError, match=r"is 0, which no run can start in.*null"):
        parse_memory(written)


def test_less_than_the_minimum_is_refused() -> None:
    assert parse_memory(MINIMUM_MEMORY) == MINIMUM_MEMORY
    with pytest.raises(ValueError, match="less than the minimum of 4 MiB"):
        parse_memory("4095k")


def test_a_forgotten_unit_is_guessed() -> None:
    with pytest.raises(ValueError, match=re.escape("write '4g' if you mean gigabytes")):
        parse_memory(4)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (222 * MiB + 5, "222 MiB"),
        (1536 * MiB, "1.5 GiB"),
        (1023.96 * MiB, "1 GiB"),
        (9.96 * MiB, "10 MiB"),
        (3000 * 1024**5, "3000 PiB"),
    ],
)
def test_sizes_are_shown_in_binary_units(size: Any, shown: str) -> None:
    assert format_memory(size) == shown


@pytest.mark.parametrize("size", [-1, float("nan"), float("inf")])
def test_an_impossible_size_is_not_shown(size: Any) -> None:
    with pytest.raises(ValueError, match="not a number of bytes"):
        format_memory(size)


@given(st.integers(MINIMUM_MEMORY, 2**60))
def test_what_is_shown_reads_back_within_its_rounding(size: Any) -> None:
    assert parse_memory(format_memory(size)) == pytest.approx(size, rel=0.051)


@given(st.integers(MINIMUM_MEMORY, 2**60))
def test_a_size_in_bytes_stays_as_it_is(size: Any) -> None:
    assert parse_memory(size) == parse_memory(str(size)) == parse_memory(f"{size}b") == size


@given(st.text() | st.text("0123456789.kmgtib -") | st.integers() | st.floats() | st.booleans() | st.none())
def test_reading_a_size_ends_in_whole_bytes_or_a_value_error(written: object) -> None:
    with suppress(ValueError):
        assert type(parse_memory(written)) is int


def test_the_field_takes_text_and_dumps_bytes() -> None:
    memory = TypeAdapter(Memory)
    assert memory.validate_python("2g") == 2 * GiB
    assert memory.validate_json('"2g"') == 2 * GiB
    assert json.loads(memory.dump_json(2 * GiB)) == 2 * GiB
    with pytest.raises(ValidationError, match="boolean"):
        memory.validate_python(True)


def test_the_schema_accepts_what_the_field_accepts() -> None:
    schema = TypeAdapter(Memory).json_schema()
    for good in ("512m", "1.5g", "2gb", "64GiB", "4194304", GiB):
        jsonschema.validate(good, schema)
    for bad in ("2 gigs", "-1g", "", True, 0, None):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)

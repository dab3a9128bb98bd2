"""Memory sizes: what people write becomes whole bytes in a plan, and bytes become words on the screen.

Units are binary everywhere, as Docker and Slurm read them: `1k` = `1kb` = `1KiB` = 1024 bytes.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

MINIMUM_MEMORY = 4 * 1024**2
"""The least memory in bytes that a run may be given: no process starts in less."""

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgtp])(?:i?b)?|(b))?", re.IGNORECASE)
_LONGEST_TEXT = 64
_FORMS = "write a whole number of bytes, or a number with a unit such as '512m', '1.5g', '2gb' or '64GiB'"


def parse_memory(value: object) -> int:
    """Read a memory size as whole bytes.

    A plain number is bytes; `k m g t p`, alone or followed by `b` or `ib` in any case, are powers of 1024.
    Fractions of a unit are rounded to the nearest byte.

    Raises:
        ValueError: for booleans, negative or non-finite numbers, fractions of a byte, unknown units, and
            anything below `MINIMUM_MEMORY`.
    """
    size = _bytes_of(value)
    if size == 0:
        raise ValueError("memory is 0, which no run can start in: leave it out (null) for no limit of ours")
    if size < MINIMUM_MEMORY:
        unit = f"write '{value}g' if you mean gigabytes, or " if _is_bare(value) else ""
        raise ValueError(
            f"memory {value!r} is {size} bytes, less than the minimum of {format_memory(MINIMUM_MEMORY)}: "
            f"{unit}leave it out (null) for no limit of ours"
        )
    return size


def format_memory(size: float) -> str:
    """Write a number of bytes for people, in binary units and at most three digits: `212 MiB`, `1.5 GiB`.

    Raises:
        ValueError: for a negative or non-finite number of bytes.
    """
    if not 0 <= size < float("inf"):
        raise ValueError(f"{size!r} is not a number of bytes: it must be finite and not negative")
    scaled = float(size)
    for name in _NAMES:
        shown = round(scaled, 1) if round(scaled, 1) < 10 else float(round(scaled))
        if shown < 1024 or name == _NAMES[-1]:
            break
        scaled /= 1024
    return f"{shown:g} {name}"


Memory = Annotated[
    int,
    BeforeValidator(parse_memory),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": MINIMUM_MEMORY},
                {
                    "type": "string",
                    "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpP]([iI]?[bB])?|[bB])?\s*$",
                },
            ],
            "examples": ["512m", "1.5g", "64GiB"],
        },
        mode="validation",
    ),
]
"""A memory size in whole bytes, read by `parse_memory`."""


def _bytes_of(value: object) -> int:
    if isinstance(value, bool):
        raise ValueError(f"{value} is a boolean, not a memory size: {_FORMS}")
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"memory {value!r} is negative: {_FORMS}")
        if isinstance(value, float) and not value.is_integer():  # also NaN and infinity
            raise ValueError(f"memory {value!r} is not a whole number of bytes: {_FORMS}")
        return int(value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is a {type(value).__name__}, not a memory size: {_FORMS}")
    text = value.strip()
    match = _TEXT.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        what = "is negative" if text.startswith("-") else "is not a memory size"
        raise ValueError(f"memory {value!r} {what}: {_FORMS}")
    number, unit, _ = match.groups()
    exact = Fraction(number) * (1 << 10 * _POWERS[(unit or "").lower()])
    if not unit and exact.denominator != 1:
        raise ValueError(f"memory {value!r} is not a whole number of bytes: {_FORMS}")
    return round(exact)


def _is_bare(value: object) -> bool:
    return not isinstance(value, str) or value.strip().isdigit()

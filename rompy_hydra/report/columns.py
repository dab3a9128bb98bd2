"""Data on its way into a page: columns of numbers or coded texts, as JSON that no parser of HTML takes for markup."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

_DIGITS = 6
# Inside <script> only these can end it or open a comment; the rest is for whoever copies the text elsewhere.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def script_json(data: Any) -> str:
    """JSON for a `<script type="application/json">`: pure ASCII, and without any of `<>&`."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, written in _UNSAFE.items():
        text = text.replace(character, written)
    return text


def clean(text: str) -> str:
    """Text as it may be shown: what is invisible, or turns the reading direction, is a dot."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text)


def column(key: str, title: str, group: str, kind: str, values: Sequence[Any]) -> dict[str, Any]:
    """One column: numbers as they are, texts as numbers of a list of texts.

    `kind` (number, seconds, bytes, time, ratio, text, state) says how it is shown, `group` (point, swept, result,
    metric) where it is offered.
    """
    head = {"key": clean(key), "title": clean(title), "group": group}
    if kind == "number" and not all(_is_number(value) or value is None for value in values):
        kind = "text"
    if kind in ("text", "state"):
        texts = [_text(value) for value in values]
        codes: dict[str, int] = {}
        index = [codes.setdefault(text, len(codes)) for text in texts]
        return {**head, "kind": kind, "texts": list(codes), "index": index}
    return {**head, "kind": kind, "values": [_number(value) for value in values]}


def numbers(values: Sequence[float | None], digits: int = _DIGITS) -> list[float | int | None]:
    """Numbers with as many digits as a picture needs."""
    return [_number(value, digits) for value in values]


def _is_number(value: Any) -> bool:
    """Whether a page can hold it as a number; greater whole numbers than these would be rounded there."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53)


def _number(value: Any, digits: int = _DIGITS) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    if isinstance(value, int):
        return value
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))

"""Rules of success that need no Python: globs and regular expressions as a POSIX shell and `grep -E` read them alike.

What the two could read differently is not translated (None): whoever reads the end of the run then checks it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_CLASSES = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "s": "[[:space:]]",
    "S": "[^[:space:]]",
    "w": "[[:alnum:]_]",
    "W": "[^[:alnum:]_]",
}
_IN_CLASS = {"d": "0-9", "s": "[:space:]", "w": "[:alnum:]_"}
_PUNCTUATION = frozenset(".*+?^$|()[]{}\\/-_:;,=<>!@#%&~'\"` ")
_ERE_SPECIAL = frozenset(".*+?^$|()[]{}\\")


@dataclass(frozen=True, slots=True)
class ShellRegex:
    """An extended regular expression of POSIX."""

    text: str
    ignores_case: bool = False


def shell_glob(pattern: str) -> str | None:
    """A glob pattern as the shell expands it; None for `**` and for what it would read as an escape."""
    if "**" in pattern or "\\" in pattern or "\n" in pattern or pattern.startswith("/"):
        return None
    return pattern


@lru_cache(maxsize=256)
def shell_regex(pattern: str) -> ShellRegex | None:  # noqa: C901, PLR0912 - a branch for each kind of character
    """A regular expression for `grep -E`, None where it has more than both know."""
    ignores_case = pattern.startswith("(?i)")
    text = pattern.removeprefix("(?i)")
    if not text or not text.isascii() or re.search(r"[\x00-\x1f\x7f]", text):
        return None
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            part, at = _escape(text, at)
        elif char == "[":
            part, at = _character_class(text, at)
        elif char == "(":
            if text.startswith("(?:", at):
                part, at = "(", at + 3
            elif text.startswith("(?", at):
                return None
            else:
                part, at = "(", at + 1
            if text[at : at + 1] in ("*", "+", "?", "{", "|", ")", ""):
                return None  # an empty branch, which POSIX leaves open
        elif char in "*+?{":
            part, at = _repeat(text, at)
        elif char == "}":
            part, at = "\\}", at + 1
        elif char in "^$":
            part, at = (char, at + 1) if _is_anchor(text, at) else (None, at)
        elif char == "|":
            ok = 0 < at < len(text) - 1 and text[at - 1] not in "(|" and text[at + 1] not in ")|*+?{"
            part, at = ("|" if ok else None), at + 1
        else:
            part, at = char, at + 1
        if part is None:
            return None
        out.append(part)
    return ShellRegex("".join(out), ignores_case)


def _is_anchor(text: str, at: int) -> bool:
    """An anchor where both read one: at the very start or end of the whole or of a branch, and not repeated."""
    if text[at] == "^":
        return (at == 0 or text[at - 1] in "(|") and text[at + 1 : at + 2] not in ("*", "+", "?", "{")
    return at == len(text) - 1 or text[at + 1] in ")|"


def _escape(text: str, at: int) -> tuple[str | None, int]:
    letter = text[at + 1 : at + 2]
    if letter in _CLASSES and letter:
        return _CLASSES[letter], at + 2
    if letter in ("b", "B"):
        return f"\\{letter}", at + 2  # not of POSIX, but of every grep of Linux
    if letter and letter in _PUNCTUATION:
        return (f"\\{letter}" if letter in _ERE_SPECIAL else letter), at + 2
    return None, at


def _repeat(text: str, at: int) -> tuple[str | None, int]:
    if at == 0 or text[at - 1] in "(|":
        return None, at
    if text[at] == "{":
        found = re.compile(r"\{(\d{1,3})(,\d{0,3})?\}").match(text, at)
        if not found:
            return None, at  # `{,3}` repeats in Python, `{x` is itself; POSIX knows neither
        part, at = found[0], found.end()
    else:
        part, at = text[at], at + 1
    if text[at : at + 1] and text[at] in "*+?{":
        return None, at  # lazy, possessive, or repeated twice
    return part, at


def _character_class(text: str, at: int) -> tuple[str | None, int]:
    out = ["["]
    at += 1
    if text[at : at + 1] == "^":
        out.append("^")
        at += 1
    first = True
    tail = ""
    while at < len(text):
        char = text[at]
        if char == "]" and not first:
            body = "".join(out[1:])
            return (f"[{body}{tail}]" if body.strip("^") or tail else None), at + 1
        if char == "[":
            return None, at  # `[:alpha:]` is a class there and none here
        if char == "\\":
            letter = text[at + 1 : at + 2]
            if letter in _IN_CLASS and letter:
                out.append(_IN_CLASS[letter])
            elif letter and letter in _PUNCTUATION and letter not in "]^-\\[":
                out.append(letter)
            elif letter == "-":
                tail = "-"
            else:
                return None, at
            at += 2
        elif char == "-" and (first or text[at + 1 : at + 2] == "]"):
            tail = "-"
            at += 1
        elif char in "]^":
            return None, at  # their places mean different things
        else:
            out.append(char)
            at += 1
        first = False
    return None, at

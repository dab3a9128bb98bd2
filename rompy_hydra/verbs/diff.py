"""`diff`: what differs between two revisions, runs, points of sweeps, or lists of overrides; science apart."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, ConfigError, UsageError
from rompy_hydra.verbs.composing import Places, add_flags, as_json, as_value, is_override

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.differences import Change, Comparison, Setting, Side
    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.verbs import Parser

_HERE = "."
_RANGE = re.compile(r"(?P<a>[^./][^=]*?|)\.\.(?P<b>[^./][^=]*|)\Z")
_HEADS = (
    ("science", "science (another simulation)"),
    ("execution", "execution (the same simulation, otherwise)"),
    ("none", "neither (limits, names, paths, what happens afterwards)"),
)


def diff(words: list[str], parser_of: Parser) -> int:
    """`diff A B [KEY=VALUE ...]`, `diff A..B [KEY=VALUE ...]`."""
    args = _arguments(words, parser_of)
    from rompy_hydra.compose.differences import compare

    a, b = _sides(args)
    found = compare(a, b, environ=os.environ, cwd=Path.cwd(), config_name=args.config_name)
    if args.json:
        print(as_json(found.to_dict()))
    else:
        repositories = [r for side in (a, b) if side.sources is not None for r in side.sources.repositories]
        places = Places(repositories, Path.cwd())
        print("\n".join(places.short(line) for line in _lines(found, with_patch=args.patch)))
    return EXIT_RUN_FAILED if args.exit_code and not found.is_empty else EXIT_OK


def _arguments(words: list[str], parser_of: Parser) -> argparse.Namespace:
    parser = parser_of("diff", "[options] A B [KEY=VALUE ...]")
    parser.description = (
        "Tell which composed values differ, who set them on each side, and whether it is another simulation. A and B "
        "are each the directory of a run or of a sweep's point, a revision of your repository (A..B for two), '.' for "
        "the repository as it is now, or a quoted list of overrides: 'env=dev' 'env=hpc model=mine'. More KEY=VALUE go "
        "to both. Beside a run, the other side is that run's overrides composed anew: 'diff runs/latest v1.3'."
    )
    parser.add_argument("words", nargs="*", metavar="A B", help="the two sides, and overrides of both")
    parser.add_argument("--patch", "-p", action="store_true", help="show the changed lines of template files")
    parser.add_argument("--exit-code", action="store_true", help="end with 1 if something differs (else always 0)")
    add_flags(parser)
    return parser.parse_intermixed_args(words)


# -- the two sides -------------------------------------------------------------------------------------------------


def _sides(args: argparse.Namespace) -> tuple[Side, Side]:
    words = list(args.words)
    if args.rev:
        raise UsageError("--rev is for one side; name revisions as A..B, or A and B")
    if words and not _is_run(words[0]) and (both := _RANGE.match(words[0])) and (both["a"] or both["b"]):
        words[:1] = [both["a"] or "HEAD", both["b"] or _HERE]
    if len(words) < 2:
        raise UsageError("diff needs two sides: A B, or A..B for two revisions; see rompy-hydra diff --help")
    stray = [word for word in words[2:] if not is_override(word)]
    if stray:
        raise UsageError(
            f"'{stray[0]}' is a third side; after A and B come KEY=VALUE for both (quote a list of overrides)"
        )
    return _side(words[0], words[2:], args), _side(words[1], words[2:], args)


def _side(text: str, common: Sequence[str], args: argparse.Namespace) -> Side:
    from rompy_hydra.compose.differences import Side

    if _is_run(text):
        return Side(text=text, run=Path(text))
    try:
        parts = shlex.split(text) if is_override(text) or " " in text else [text]
    except ValueError as error:
        raise UsageError(f"the side '{text}' cannot be read: {error}") from None
    names = [part for part in parts if not is_override(part) and part not in ("", _HERE)]
    if len(names) > 1:
        raise UsageError(f"'{text}' names {' and '.join(names)}; a side is one revision, with overrides or without")
    overrides = (*common, *(part for part in parts if is_override(part)))
    return Side(text=f"'{text}'", sources=_sources(names[0] if names else None, text, args), overrides=overrides)


def _is_run(text: str) -> bool:
    place = Path(text)
    return not is_override(text) and any((place / name).is_file() for name in ("run.json", "sweep.json"))


def _sources(revision: str | None, text: str, args: argparse.Namespace) -> Sources:
    from rompy_hydra.compose.sources import find_sources

    try:
        return find_sources(args.config_dir, config_path=args.config_path, revision=revision)
    except ConfigError as error:
        if revision is None:
            raise
        raise ConfigError(
            f"'{text}' is no side: neither the directory of a run, nor a revision, nor KEY=VALUE", error.findings
        ) from error


# -- telling -------------------------------------------------------------------------------------------------------


def _lines(found: Comparison, *, with_patch: bool) -> Iterator[str]:
    yield f"A  {found.a.title}"
    yield f"B  {found.b.title}"
    for group, a, b in found.choices:
        yield f"   {group}: {_option(a)} → {_option(b)}"
    for identity, head in _HEADS:
        changes = found.of(identity)
        if changes:
            yield ""
            yield head
            for change in changes:
                yield from _change(change)
    if found.files:
        yield ""
        yield "template files"
        for file in found.files:
            count = "" if file.added is None else f"  +{file.added} -{file.removed}"
            yield f"  {file.name}  {file.what}{count}"
            if with_patch:
                yield from (f"    {line}" for line in file.patch)
    if found.surroundings:
        yield ""
        yield "around the runs"
        yield from (f"  {difference}" for difference in found.surroundings)
    yield ""
    yield _summary(found)


def _option(option: str | None) -> str:
    return "(none)" if option is None else option


def _change(change: Change) -> Iterator[str]:
    values = f"{_value(change.a)} → {_value(change.b)}"
    if change.follows:
        assert change.a is not None
        yield f"  {change.key}  {values}  follows {', '.join(change.a.reads)}"
        return
    yield f"  {change.key}  {values}"
    a, b = (setting.by if setting is not None else None for setting in (change.a, change.b))
    if a is not None and a == b:
        yield f"      A, B  {a}"
        return
    if a is not None:
        yield f"      A  {a}"
    if b is not None:
        yield f"      B  {b}"


def _value(setting: Setting | None) -> str:
    return "(not there)" if setting is None else as_value(setting.value)


def _summary(found: Comparison) -> str:
    if found.is_empty:
        return "no difference" + (" in the configuration" if found.surroundings else "")
    counts = [
        f"{len(found.of(identity))} {name}"
        for identity, name in zip(("science", "execution", "none"), ("science", "execution", "neither"), strict=True)
    ]
    total = sum(len(found.of(identity)) for identity, _ in _HEADS)
    parts = [f"{total} value{'' if total == 1 else 's'} differ{'s' if total == 1 else ''}: {', '.join(counts)}"]
    if found.files:
        parts.append(f"{len(found.files)} template file{'' if len(found.files) == 1 else 's'}")
    defaults = sum(change.is_default for change in found.changes)
    if defaults:
        parts.append(f"not shown: {defaults} default{'' if defaults == 1 else 's'} that only one side has")
    verdict = "another simulation" if found.is_another_simulation else "the same simulation"
    return f"{'; '.join(parts)}: {verdict}"

"""`explain`: where a value comes from: all that set it, the winner last, and what its interpolations read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK
from rompy_hydra.verbs.composing import Places, add_flags, as_json, as_value, is_override, sources_of
from rompy_hydra.verbs.old_names import tell_old_names

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.explain import Choice, Explanation, Link, Read
    from rompy_hydra.verbs import Parser


def explain(words: list[str], parser_of: Parser) -> int:
    """`explain [options] [KEY|GROUP ...] [KEY=VALUE ...]`."""
    args = _arguments(words, parser_of)
    from rompy_hydra.compose.explain import Explainer
    from rompy_hydra.compose.invocation import compose_command

    keys = [word for word in args.words if not is_override(word)]
    sources = sources_of(args)
    composition = compose_command([word for word in args.words if is_override(word)], sources, args.config_name)
    tell_old_names(composition.renamed)
    explainer = Explainer(composition, cwd=Path.cwd())
    choices, found = _asked(explainer, keys)
    if args.set:
        found = [e for e in found if not e.is_default]
    if args.json:
        print(as_json({"choices": [c.to_dict() for c in choices], "values": [e.to_dict() for e in found]}))
        return EXIT_OK
    places = Places(sources.repositories, Path.cwd())
    is_long = bool(keys)
    lines = [*(line for choice in choices for line in _choice(choice)), *([""] if choices and found else [])]
    for explanation in found:
        lines += _explanation(explanation, is_long=is_long)
    print("\n".join(map(places.short, lines)))
    return EXIT_OK


def _arguments(words: list[str], parser_of: Parser) -> argparse.Namespace:
    parser = parser_of("explain", "[options] [KEY|GROUP ...] [KEY=VALUE ...]")
    parser.description = (
        "Tell who set a value: every default, file and override that said it, the winner last (marked >), and the "
        "same for what its interpolations read. A KEY may be a value, a map or a group; without one, all values are "
        "told. KEY=VALUE are overrides, as for run."
    )
    parser.add_argument("words", nargs="*", metavar="KEY|KEY=VALUE", help="keys to explain, and overrides")
    parser.add_argument("--set", action="store_true", help="leave out what nobody set: the defaults")
    add_flags(parser)
    return parser.parse_intermixed_args(words)


def _asked(explainer: object, keys: Sequence[str]) -> tuple[list[Choice], list[Explanation]]:
    from rompy_hydra.compose.explain import Explainer

    assert isinstance(explainer, Explainer)
    if not keys:
        return explainer.choices(), list(explainer.all())
    choices: list[Choice] = []
    found: dict[tuple[str, ...], Explanation] = {}
    for key in keys:
        is_group = key in explainer.composition.choices
        if is_group:
            choices.append(explainer.choice(key))
        if not is_group or explainer.has(key):
            found.update({e.path: e for e in explainer.asked(key)})
    return choices, list(found.values())


def _choice(choice: Choice) -> Iterator[str]:
    option = "null" if choice.option is None else choice.option
    yield f"{choice.group}={option}  chosen by {choice.where}"
    if choice.hides:
        yield f"    {choice.file} answers and hides {', '.join(choice.hides)}"


def _explanation(explanation: Explanation, *, is_long: bool, indent: str = "") -> Iterator[str]:
    links = list(explanation.chain)
    head = f"{indent}{explanation.key} = {_value(explanation)}"
    if explanation.problem:
        head += f"  {explanation.problem}"
    if not is_long and len(links) == 1 and not explanation.reads and not links[0].hides:
        yield f"{head}    {links[0].where}"
        return
    yield head
    width = min(28, max((len(_said(link)) for link in links), default=0))
    for number, link in enumerate(links):
        mark = ">" if number == len(links) - 1 else " "
        yield f"{indent}  {mark} {_said(link):<{width}}  {link.where}{_about(link)}"
        for place, value in link.hides:
            yield f"{indent}    {'':<{width}}  hides {as_value(value)} of {place}"
    for read in explanation.reads:
        yield from _read(read, f"{indent}      ")


def _read(read: Read, indent: str) -> Iterator[str]:
    if read.explanation is None:
        yield f"{indent}{read.reference} is {read.text}"
        return
    yield f"{indent}{read.reference} is"
    yield from _explanation(read.explanation, is_long=True, indent=f"{indent}  ")


def _value(explanation: Explanation) -> str:
    from rompy_hydra.compose.layers import GONE

    if explanation.written is GONE:
        return "(not there)"
    return as_value(explanation.written if explanation.value is GONE else explanation.value)


def _said(link: Link) -> str:
    from rompy_hydra.compose.layers import GONE

    return "(gone)" if link.value is GONE else as_value(link.value)


def _about(link: Link) -> str:
    parts = [part for part in (link.chosen, link.note) if part]
    return f"  ({'; '.join(parts)})" if parts else ""

"""`sources`: which repositories are asked, in which order; which file answers for an option, and what it hides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK
from rompy_hydra.verbs.composing import Places, add_flags, as_json, is_override, sources_of
from rompy_hydra.verbs.old_names import tell_old_names

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.compose.answers import Answer, Place
    from rompy_hydra.verbs import Parser


def sources(words: list[str], parser_of: Parser) -> int:
    """`sources [options] [GROUP|GROUP/OPTION|KEY ...] [KEY=VALUE ...]`."""
    args = _arguments(words, parser_of)
    from rompy_hydra.compose.answers import Answers
    from rompy_hydra.compose.invocation import command_request

    found = sources_of(args)
    overrides = [word for word in args.words if is_override(word)]
    request = command_request(overrides, found, args.config_name)
    answers = Answers(request, cwd=Path.cwd())
    names = [word for word in args.words if not is_override(word)]
    answered = [answer for name in names for answer in answers.of(name)]
    tell_old_names(answers.renamed)
    repositories, personal = answers.places(), answers.personal()
    if not names:
        answered = answers.all()
    if args.json:
        told = {
            "repositories": [p.to_dict() for p in repositories],
            "personal_file": personal.to_dict() if personal is not None else None,
            "answers": [a.to_dict() for a in answered],
        }
        print(as_json(told))
        return EXIT_OK
    places = Places(found.repositories, Path.cwd())
    lines = list(_overview(repositories, personal, answered)) if not names else list(_details(answered))
    print("\n".join(map(places.short, lines)))
    return EXIT_OK


def _arguments(words: list[str], parser_of: Parser) -> argparse.Namespace:
    parser = parser_of("sources", "[options] [GROUP|GROUP/OPTION|KEY ...] [KEY=VALUE ...]")
    parser.description = (
        "Tell which repositories are asked and in which order, and which file answers for an option, a whole group, a "
        "template (template/NAME) or a key, with the files of the same name that it hides. KEY=VALUE are overrides, as "
        "for run."
    )
    parser.add_argument("words", nargs="*", metavar="GROUP|KEY", help="what to tell of (default: all)")
    add_flags(parser)
    return parser.parse_intermixed_args(words)


def _overview(repositories: list[Place], personal: Place | None, answers: list[Answer]) -> Iterator[str]:
    yield "asked in this order:"
    width = max(len(place.origin) for place in repositories)
    for number, place in enumerate(repositories, 1):
        yield f"  {number}. {place.origin:<{width}}  {place.path}{f'  ({place.about})' if place.about else ''}"
    if personal is not None:
        yield f"values of your own: {personal.path}  ({personal.about})"
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.group, []).append(answer)
    yield ""
    for group, found in groups.items():
        names = [a.name if a.number == len(repositories) else f"{a.name} ({a.number})" for a in found]
        yield f"{group or '(root)'}: {', '.join(names)}"
    hiding = [answer for answer in answers if answer.hides]
    if hiding:
        yield ""
        yield "hidden:"
        yield from (f"  {file}  by {answer.file}" for answer in hiding for file in answer.hides)


def _details(answers: list[Answer]) -> Iterator[str]:
    for answer in answers:
        yield f"{answer.title}  {answer.file}"
        if answer.note:
            yield f"    {answer.note}"
        yield from (f"    hides {file}" for file in answer.hides)

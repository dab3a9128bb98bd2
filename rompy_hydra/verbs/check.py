"""`check`: everything that is wrong in config repositories, with file and line; exit code 1 where it is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, UsageError

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.check.faults import Report
    from rompy_hydra.compose.sources import Sources
    from rompy_hydra.verbs import Parser

_BOUND = 2000


def check(words: list[str], parser_of: Parser) -> int:
    """`check [DIR …]`."""
    args = _arguments(words, parser_of)
    from rompy_hydra.check.codes import selected, table
    from rompy_hydra.check.output import FORMATS, as_text

    if args.codes:
        print(table())
        return EXIT_OK
    codes = selected(_words(args.select), _words(args.ignore))
    report = _report(args).only(codes)
    form = "json" if args.json else args.format
    cwd = Path.cwd()
    with_notes = args.notes or any(word.upper().startswith(("RH602", "RH604")) for word in _words(args.select))
    print(as_text(report, cwd, with_notes=with_notes) if form == "text" else FORMATS[form](report, cwd), end="")
    is_bad = report.count("error") or (args.strict and report.count("warning"))
    return EXIT_RUN_FAILED if is_bad else EXIT_OK


def _arguments(words: list[str], parser_of: Parser) -> argparse.Namespace:
    parser = parser_of("check", "[options] [DIR ...]")
    parser.description = (
        "Compose, validate and render all that is in a config repository, in memory, and tell everything that is wrong "
        "with its file and line (docs/repositories.md lists the codes). Several DIRs are one search path, the first "
        "one wins. Exit code 1: there are errors."
    )
    add = parser.add_argument
    add("directories", nargs="*", metavar="DIR", help="config repositories (default: the one here)")
    add("--format", choices=("text", "json", "github", "gitlab", "sarif"), default="text", help="form of the output")
    add("--json", action="store_true", help="the same as --format json")
    add("--select", action="append", default=[], metavar="CODES", help="only these codes, as RH2,RH301")
    add("--ignore", action="append", default=[], metavar="CODES", help="all but these codes")
    add("--strict", action="store_true", help="warnings end with exit code 1, too")
    add("--notes", action="store_true", help="tell notes as well")
    add("--bound", type=_positive, default=_BOUND, metavar="N", help="most combinations (default: %(default)s)")
    add("--packaged", action="store_true", help="every packaged option takes part, not only those that are chosen")
    add("--codes", action="store_true", help="print the table of codes")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise UsageError(f"--bound takes a whole number above 0, and not '{text}'")
    return int(text)


def _words(lists: list[str]) -> list[str]:
    return [word.strip() for text in lists for word in text.split(",")]


def _report(args: argparse.Namespace) -> Report:
    from rompy_hydra.compose.check_repository import Scope, check_repository

    cwd = Path.cwd()
    sources = _sources(args.directories, cwd)
    first = Path(args.directories[0]).absolute() if args.directories else cwd
    root = first if (first / "conf").is_dir() else first.parent if first.name == "conf" else first
    scope = Scope(sources=sources, cwd=root, bound=args.bound, packaged=args.packaged, environ=os.environ)
    return check_repository(scope)


def _sources(directories: list[str], cwd: Path) -> Sources:
    """The repositories that are named, or the one here; never what a variable or another directory adds."""
    from rompy_hydra.compose.sources import find_sources, packaged_dir

    nowhere = Path("/nonexistent")
    if directories:
        named = [d if d.startswith("git+") else str(cwd / d) for d in directories]
        sources = find_sources(named, environ={}, cwd=nowhere)
    else:
        sources = find_sources([], environ={}, cwd=cwd)
        is_packaged = (cwd / "conf").resolve() == packaged_dir("conf").resolve()
        if not sources.users and not is_packaged:
            raise UsageError(f"{cwd} is no config repository (it has no conf/ with groups of ours); name one")
    return sources

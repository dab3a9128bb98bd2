"""The street door for backends and postprocessors: `backends`, `postprocessors`, `postprocess`; prints like `cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import (
    EXIT_OK,
    EXIT_REQUEST,
    ConfigError,
    Finding,
    RompyHydraError,
    UsageError,
    did_you_mean,
)

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.backends.loading import Verdict
    from rompy_hydra.backends.registry import Problem
    from rompy_hydra.verbs import Parser


_BACKENDS = {
    "list": "the backends there are: type, classes, who brings them, and plug-ins that cannot be used",
    "validate": "hold configuration files against the rules: a verdict for each file and document",
    "schema": "the JSON schema of one type, or of all of them",
    "create": "a configuration to begin with",
}
_SUFFIXES = (".yaml", ".yml", ".json")


def backends(words: list[str], parser_of: Parser) -> int:
    """`backends list | validate FILE… | schema [TYPE] | create TYPE`."""
    return _subverb("backends", words, _BACKENDS)(words[1:], parser_of)


def postprocessors(words: list[str], parser_of: Parser) -> int:
    """`postprocessors list`."""
    known = {"list": "the postprocessors there are, who brings them, and plug-ins that cannot be used"}
    return _subverb("postprocessors", words, known)(words[1:], parser_of)


def _subverb(verb: str, words: list[str], known: Mapping[str, str]) -> Callable[..., int]:
    usage = f"{' | '.join(known)} [options]"
    if not words or words[0] in ("-h", "--help"):

        def told(*_: object) -> int:
            lines = "\n".join(f"  {name:<10} {what}" for name, what in known.items())
            print(f"usage: rompy-hydra {verb} {usage}\n\n{lines}\n\n'rompy-hydra {verb} VERB --help' for one of them")
            return EXIT_OK if words else EXIT_REQUEST

        return told
    if words[0] not in known:
        raise UsageError(f"there is no verb '{verb} {words[0]}'; {did_you_mean(words[0], known)}")
    handlers = {
        ("backends", "list"): _list_backends,
        ("backends", "validate"): _validate,
        ("backends", "schema"): _schema,
        ("backends", "create"): _create,
        ("postprocessors", "list"): _list_postprocessors,
    }
    return handlers[verb, words[0]]


def _add_format(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    told = default or "a table for people"
    parser.add_argument(
        "--format", choices=("json", "yaml"), default=default, help=f"form of the output (default: {told})"
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")


def _print(data: Any, form: str) -> None:
    if form == "json":
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return
    import yaml

    print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


# -- list --------------------------------------------------------------------------------------------------------


def _list_backends(words: list[str], parser_of: Parser) -> int:
    parser = parser_of("backends list", "[--format json|yaml]")
    parser.description = _BACKENDS["list"]
    _add_format(parser)
    args = parser.parse_args(words)
    from rompy_hydra.backends import registry

    usable, problems = registry.backends()
    rows: list[dict[str, Any]] = []
    for name, backend in usable.items():
        try:
            config, run = backend.config(), backend.run()
        except RompyHydraError as error:
            problems.append(registry.Problem(name=name, packages=(backend.package,), cause=str(error)))
            continue
        rows.append(
            {
                "type": name,
                "config": _path_of(config),
                "backend": _path_of(run),
                "package": backend.package,
                "replaces_built_in": backend.replaces_built_in,
                "description": _first_line(config),
            }
        )
    return _show(rows, problems, args.format, ("type", "config", "backend"))


def _list_postprocessors(words: list[str], parser_of: Parser) -> int:
    parser = parser_of("postprocessors list", "[--format json|yaml]")
    parser.description = "The postprocessors there are."
    _add_format(parser)
    args = parser.parse_args(words)
    from rompy_hydra.postprocess import registry

    usable, problems = registry.processors()
    rows: list[dict[str, Any]] = []
    for name, processor in usable.items():
        found = processor.load()
        rows.append(
            {
                "name": name,
                "class": _path_of(found),
                "package": processor.package,
                "replaces_built_in": processor.replaces_built_in,
                "description": _first_line(found),
            }
        )
    return _show(rows, problems, args.format, ("name", "class"))


def _path_of(found: Any) -> str:
    return f"{found.__module__}.{getattr(found, '__qualname__', type(found).__qualname__)}"


def _first_line(found: Any) -> str:
    return next(iter((getattr(found, "__doc__", None) or "").strip().splitlines()), "")


def _show(rows: list[dict[str, Any]], problems: Iterable[Problem], form: str | None, columns: Sequence[str]) -> int:
    """What is usable, then what is not; two plug-ins with one name are a fault of the installation: exit 2."""
    bad = [
        {columns[0]: p.name, "package": " and ".join(p.packages), "problem": p.cause, "conflict": p.is_conflict}
        for p in problems
    ]
    if form:
        _print([*rows, *bad], form)
    else:
        body = [[*(_short(str(row[key])) for key in columns), _from(row)] for row in rows]
        print(_table([[*(key.upper() for key in columns), "FROM"], *body]))
        for row in bad:
            print(f"{row[columns[0]]}: cannot be used: {row['problem']}")
    return EXIT_REQUEST if any(row["conflict"] for row in bad) else EXIT_OK


def _short(path: str) -> str:
    return path.rpartition(".")[2]


def _from(row: Mapping[str, Any]) -> str:
    notes = ["replaces the built-in"] * row["replaces_built_in"]
    return str(row["package"]) + (f" ({', '.join(notes)})" if notes else "")


# -- validate ----------------------------------------------------------------------------------------------------


def _validate(words: list[str], parser_of: Parser) -> int:
    parser = parser_of("backends validate", "FILE|DIR ... [--type TYPE] [--format json|yaml]")
    parser.description = "Hold backend configurations (YAML, several documents to a file, or JSON) against the rules."
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file, or a directory with .yaml, .yml, .json below")
    parser.add_argument("--type", metavar="TYPE", help="the type of documents that do not say theirs")
    _add_format(parser)
    args = parser.parse_args(words)
    from rompy_hydra.backends.loading import check_file
    from rompy_hydra.backends.registry import find

    if args.type is not None:
        find(args.type)
    verdicts = [verdict for path in _files(args.files) for verdict in check_file(path, args.type)]
    if args.format:
        _print([_as_data(verdict) for verdict in verdicts], args.format)
    else:
        for verdict in verdicts:
            print(_as_text(verdict))
    bad = sum(bool(verdict.findings) for verdict in verdicts)
    print(f"{len(verdicts) - bad} good, {bad} bad", file=sys.stderr)
    return EXIT_REQUEST if bad else EXIT_OK


def _files(names: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = Path(name)
        below = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file()) if path.is_dir() else [path]
        if not below:
            rule = f"holds no file that ends with {', '.join(_SUFFIXES)}"
            raise ConfigError(f"there is nothing to validate in {path}", [Finding("FILE", rule, str(path))])
        found += below
    return found


def _as_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "file": verdict.name,
        "document": verdict.number,
        "type": verdict.type,
        "valid": not verdict.findings,
        "findings": [{"key": f.key, "rule": f.rule, "where": f.where, "mend": f.mend} for f in verdict.findings],
    }


def _as_text(verdict: Verdict) -> str:
    head = f"{verdict.name}, document {verdict.number}"
    if not verdict.findings:
        return f"good  {head}: {verdict.type}"
    lines = [f"bad   {head}" + (f": {verdict.type}" if verdict.type else "")]
    for finding in verdict.findings:
        key = f"{finding.key}: " if finding.key else ""
        lines.append(
            f"      {finding.where or verdict.name}: {key}{finding.rule}"
            + (f"; {finding.mend}" if finding.mend else "")
        )
    return "\n".join(lines)


# -- schema and create -------------------------------------------------------------------------------------------


def _schema(words: list[str], parser_of: Parser) -> int:
    parser = parser_of("backends schema", "[TYPE] [--format json|yaml]")
    parser.description = "The JSON schema of one backend's configuration, or of all of them told apart by `type`."
    parser.add_argument("type", nargs="?", metavar="TYPE", help="a type that `backends list` names (default: all)")
    _add_format(parser, "json")
    args = parser.parse_args(words)
    from rompy_hydra.backends.schema import schema_of, schema_of_all

    _print(schema_of(args.type) if args.type else schema_of_all(), args.format)
    return EXIT_OK


def _create(words: list[str], parser_of: Parser) -> int:
    parser = parser_of("backends create", "TYPE [--format yaml|json]")
    parser.description = (
        "A configuration to begin with, on standard output; in YAML every other field stands in a comment."
    )
    parser.add_argument("type", metavar="TYPE", help="a type that `backends list` names")
    _add_format(parser, "yaml")
    args = parser.parse_args(words)
    from rompy_hydra.backends.registry import config_class
    from rompy_hydra.backends.starting import starting_point, starting_text

    cls = config_class(args.type)
    if args.format == "json":
        _print(starting_point(cls, args.type), "json")
    else:
        print(starting_text(cls, args.type), end="")
    return EXIT_OK

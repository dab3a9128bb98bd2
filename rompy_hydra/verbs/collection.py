"""`status DIR --where … --sort … --columns …`: runs as a collection, as a table, JSON or CSV; prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.collection import Runs

_CELL_MAX = 60
_DEFAULT_COLUMNS = ("run", "state", "model", "backend", "wall_seconds")


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether an option asks for runs as a collection."""
    return args.where is not None or bool(args.sort) or args.columns is not None or args.csv


def status_of_collection(args: argparse.Namespace) -> int:
    """Rows for a person or for a program."""
    if args.watch:
        raise UsageError("--watch is for one sweep; leave --where, --sort, --columns and --csv out")
    if args.json and args.csv:
        raise UsageError("--json and --csv do not go together; give one of them")
    from rompy_hydra.collection import collect

    columns, sort = _words(args.columns), [word for text in args.sort for word in _words(text) or ()]
    shown = columns
    if columns is None and not (args.json or args.csv):
        shown = _columns_of_table(args.where, sort)
    found = collect(
        Path(args.directory),
        where=args.where,
        sort=sort,
        descending=args.descending,
        columns=shown,
        strict=columns is not None,
    )
    for note in found.notes:
        print(f"rompy-hydra: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(list(found), indent=2))
    elif args.csv:
        _print_csv(found, columns)
    else:
        print(_table(found, shown or []))
    return EXIT_OK


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _columns_of_table(where: str | None, sort: list[str]) -> list[str]:
    from rompy_hydra.plan.conditions import Condition, ConditionError

    keys: tuple[str, ...] = ()
    if where is not None:
        try:
            keys = Condition(where).keys
        except ConditionError:
            keys = ()  # `collect` says what is wrong with it
    return list(dict.fromkeys([*_DEFAULT_COLUMNS, *keys, *sort]))


def _print_csv(found: Runs, columns: list[str] | None) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = columns if columns is not None else found.columns
    writer.writerow(names)
    writer.writerows([_csv_cell(row.get(name)) for name in names] for row in found)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _table(found: Runs, columns: list[str]) -> str:
    from rompy_hydra.sweep.table import aligned

    rows = [columns, *([_cell(row.get(name)) for name in columns] for row in found)]
    count = f"{len(found)} of {found.total} runs" if len(found) != found.total else f"{found.total} runs"
    return f"{aligned(rows)}\n{count}" if found else count


def _cell(value: Any) -> str:
    """A value as it is written in YAML, short, and nothing in it that a terminal obeys."""
    if value is None:
        return "-"
    text = str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else "·" for c in text)
    return text if len(text) <= _CELL_MAX else f"{text[: _CELL_MAX - 1]}…"

"""`status --verify RUN`: are its files what its record says, or another run's; ends with 1 if any is not; prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import EXIT_OK, EXIT_RUN_FAILED, UsageError

if TYPE_CHECKING:
    import argparse

    from rompy_hydra.steps.verify import Verdict


def status_of_files(args: argparse.Namespace, *, is_collection: bool) -> int:
    """A line for each file that is not the same, or all of them as JSON; then how many are what."""
    if args.watch or is_collection:
        raise UsageError("--verify goes with --against, --tolerance and --json only")
    from rompy_hydra.record.store import RECORD_NAME
    from rompy_hydra.steps.verify import other_of, verify
    from rompy_hydra.sweep.description import find_sweep

    directory = Path(args.directory)
    if not (directory / RECORD_NAME).is_file() and find_sweep(directory) is None:
        raise UsageError(f"{directory} is neither a run nor a sweep: name one to verify")
    against = Path(args.against) if args.against is not None else None
    if args.tolerance is not None and against is None:
        against = other_of(directory)
        if against is None:
            raise UsageError("a record holds no fields to compare with; add --against OTHER, a run of the same model")
        print(f"rompy-hydra: beside {against}, which it was made from", file=sys.stderr)
    found: list[Verdict] = []
    for verdict in verify(directory, against, args.tolerance):
        found.append(verdict)
        if not args.json and (verdict.detail or not verdict.verdict.is_good):
            print(_line(verdict, directory), flush=True)
    counts: dict[str, int] = {}
    for verdict in found:
        counts[verdict.verdict.value] = counts.get(verdict.verdict.value, 0) + 1
    is_same = all(verdict.verdict.is_good for verdict in found)
    if args.json:
        told = {"is_same": is_same, "counts": counts, "files": [verdict.to_dict() for verdict in found]}
        print(json.dumps(told, indent=2))
    else:
        print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()) or "no files")
    return EXIT_OK if is_same else EXIT_RUN_FAILED


def _line(verdict: Verdict, directory: Path) -> str:
    run = Path(verdict.run)
    top = directory.absolute()
    place = "" if run == top else f"{run.relative_to(top)}/"
    path = "".join(c if c.isprintable() else "·" for c in f"{place}{verdict.path}")
    detail = f"  ({verdict.detail})" if verdict.detail else ""
    return f"{verdict.verdict.value.replace('_', ' '):<13} {verdict.kind:<9} {path}{detail}"

"""`postprocess … --slurm`: the same command as a batch job of its own, after the jobs that it has to wait for.

The job is a run like any other (model=command, backend=slurm): `status` and `logs` tell of it.
"""

from __future__ import annotations

import re
import secrets
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import UsageError

if TYPE_CHECKING:
    from rompy_hydra.sweep.layout import SweepLayout
    from rompy_hydra.verbs import Parser

OUTPUT_DIR = "postprocess-jobs"


def submit(
    paths: Iterable[Path], words: Sequence[str], overrides: Sequence[str], parser_of: Parser, *, jobs: int
) -> int:
    """Hand `postprocess WORDS` to Slurm and come back; `overrides` are those of the run that the job is."""
    from rompy_hydra.sweep.description import find_sweep
    from rompy_hydra.verbs.run import run

    ids: set[str] = set()
    before: list[list[str]] = []
    for path in paths:
        layout = find_sweep(path)
        waited_for = set(_jobs_of_sweep(layout)) if layout is not None else set(_job_of_run(path))
        if layout is not None and waited_for and not _is_driven(layout):
            before.append(_ours("resume", str(path), "--submit"))  # nobody else writes down how its points ended
        ids |= waited_for
    lines = [f"cd {shlex.quote(str(Path.cwd()))}", *map(shlex.join, before), shlex.join(_ours("postprocess", *words))]
    after = [f"backend.additional_options=['--dependency=afterany:{':'.join(sorted(ids))}']"] if ids else []
    run_id = f"postprocess-{secrets.token_hex(4)}"
    told = ["model=command", "backend=slurm", f"run_id={run_id}", f"output_dir={OUTPUT_DIR}"]
    if jobs > 1:
        told.append(f"resources.cpus={jobs}")
    command = f"backend.command={_text('; '.join(lines))}"
    return run([*told, *after, *overrides, command, "--detach"], parser_of)


def _ours(*words: str) -> list[str]:
    return [sys.executable, "-m", "rompy_hydra", *words]


def _jobs_of_sweep(layout: SweepLayout) -> Iterator[str]:
    """The jobs in which points of a sweep run or wait."""
    from rompy_hydra.sweep.view import look_at

    state = look_at(layout).state
    for started in state.started.values():
        job = state.jobs.get(str(started.watcher.get("batch")))
        if job is not None:
            yield job


def _is_driven(layout: SweepLayout) -> bool:
    from rompy_hydra.sweep.view import look_at

    return look_at(layout).is_driven


def _job_of_run(path: Path) -> Iterator[str]:
    from rompy_hydra.record.states import RunState
    from rompy_hydra.record.store import RECORD_NAME
    from rompy_hydra.run.observe import observe

    if (path / RECORD_NAME).is_file():
        record = observe(path)
        job = (record.get("slurm") or {}).get("job_id")
        if job is not None and not RunState(record["state"]).is_final:
            yield str(job)


def _text(text: str) -> str:
    """A text as one value in Hydra's grammar."""
    if "${" in text:
        raise UsageError("a command with ${ in it cannot be handed to Slurm by --slurm: run it where you are")
    escaped = re.sub(r"(\\*)'", lambda m: m[1] * 2 + "\\'", text)
    trailing = re.search(r"\\*\Z", escaped)
    return f"'{escaped}{trailing[0] if trailing else ''}'"

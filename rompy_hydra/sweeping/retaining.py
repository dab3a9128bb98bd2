"""Runs and sweeps that lie in a directory, what the rules keep of them, and the removal of the others.

Only what is ours and over is ever touched: a directory with a record or a description of ours, no link, nothing that
runs or waits, nothing that somebody else has in hands.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rompy_hydra.errors import RecordError, RompyHydraError, SiteError
from rompy_hydra.postprocess.retention import Candidate, Decision, RetentionRules
from rompy_hydra.record import store
from rompy_hydra.record.states import RunState
from rompy_hydra.run.observe import observe
from rompy_hydra.steps.processing import sole_writer
from rompy_hydra.sweep.layout import SWEEP_NAME, SweepLayout
from rompy_hydra.sweep.table import directory_of, plan_lines
from rompy_hydra.sweep.view import look_at
from rompy_hydra.sweeping.pack import undriven
from rompy_hydra.workspace.run_record import RunRecord

_GONE = ".pruned-"
_LEFTOVER = re.compile(r"\..+\.pruned-[0-9a-f]{8}\Z")


@dataclass(slots=True)
class Freed:
    """How many files and bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, other: Freed) -> None:
        """Both together."""
        self.files += other.files
        self.bytes += other.bytes


def candidates_in(directory: Path) -> list[Candidate]:
    """The runs and sweeps that lie directly in a directory; of a sweep its points."""
    if (directory / SWEEP_NAME).is_file():
        return list(_points(SweepLayout(directory)))
    if (directory / store.RECORD_NAME).is_file():
        return [_run(directory)]
    found = []
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or not path.is_dir() or path.name.startswith("."):
            continue
        if (path / SWEEP_NAME).is_file():
            found.append(_sweep(SweepLayout(path)))
        elif (path / store.RECORD_NAME).is_file():
            found.append(_run(path))
    return found


def _run(path: Path) -> Candidate:
    try:
        record = observe(path)
        state = RunState(record["state"])
    except (RompyHydraError, KeyError, ValueError) as error:
        return Candidate(path, "run", frozenset(), None, f"its record cannot be read: {error}")
    untouchable = "" if state.is_final else f"it is {state}"
    if not untouchable and (inner := _inner(path)) is not None:
        untouchable = f"another run lies in it: {inner}"
    ended = _time(record.get("ended_at") or record.get("observed_at"))
    return Candidate(path, "run", frozenset({state}), ended, untouchable)


def _inner(path: Path) -> Path | None:
    """A run or a sweep below a run: whoever put it there does not expect it to go."""
    for folder, names, files in os.walk(path):
        if Path(folder) != path and (store.RECORD_NAME in files or SWEEP_NAME in files):
            return Path(folder)
        names[:] = [name for name in names if not name.startswith(".")]
    return None


def _sweep(layout: SweepLayout) -> Candidate:
    try:
        view = look_at(layout)
    except RompyHydraError as error:
        return Candidate(layout.sweep_dir, "sweep", frozenset(), None, f"it cannot be read: {error}")
    names = view.state.counts()
    states = frozenset(RunState(name) for name in names if name in set(RunState))
    untouchable = "somebody drives it" if view.is_driven else ""
    if open_states := [state for state in states if not state.is_final and state is not RunState.QUEUED]:
        untouchable = f"some of its points are {open_states[0]}"
    elif RunState.QUEUED in states:
        untouchable = "it is not over: some of its points have not run"
    return Candidate(layout.sweep_dir, "sweep", states, _time(view.state.last_event), untouchable)


def _points(layout: SweepLayout) -> Iterator[Candidate]:
    for run_dir in point_directories(layout):
        if (run_dir / store.RECORD_NAME).is_file():
            yield _run(run_dir)


def point_directories(layout: SweepLayout) -> Iterator[Path]:
    """Where the points of a sweep lie, or would."""
    from rompy_hydra.sweep.description import read_description

    fan_out = bool(read_description(layout).get("fan_out"))
    for line in plan_lines(layout):
        yield directory_of(layout, line, fan_out=fan_out)


def _time(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


# ---- what would go, and how it goes


def would_free(decision: Decision, rules: RetentionRules) -> Freed:
    """What the removal of one run or sweep frees."""
    found = Freed()
    path = decision.candidate.path
    if rules.remove == "runs":
        for folder, _, files in os.walk(path):
            for name in files:
                with suppress(OSError):
                    info = (Path(folder) / name).lstat()
                    found.add(Freed(1, info.st_blocks * 512))
        return found
    for run_dir in _runs_of(decision.candidate):
        for file, size in _outputs(run_dir):
            del file
            found.add(Freed(1, size))
    return found


def remove(decision: Decision, rules: RetentionRules) -> Freed:
    """Remove the outputs, or all, of one run or sweep; what was freed.

    Raises `RompyHydraError` where it is not as it was when that was decided, `SiteError` where the disk refuses.
    """
    candidate = decision.candidate
    try:
        if candidate.kind == "sweep":
            layout = SweepLayout(candidate.path)
            with undriven(layout, look_at(layout).state.total, "pruned"):
                return _remove(decision, rules)
        return _remove(decision, rules)
    except OSError as error:
        raise SiteError(f"{error.filename or candidate.path}: {error.strerror or error}") from error


def _remove(decision: Decision, rules: RetentionRules) -> Freed:
    freed = Freed()
    if rules.remove == "outputs":
        for run_dir in _runs_of(decision.candidate):
            freed.add(_remove_outputs(run_dir))
        return freed
    path = decision.candidate.path
    freed = would_free(decision, rules)
    if decision.candidate.kind == "run":
        with sole_writer(_ended(path)):  # it is over, and nobody has it in hands
            pass
    aside = path.with_name(f".{path.name[:200]}{_GONE}{secrets.token_hex(4)}")
    path.rename(aside)  # in one step: nobody finds half a run
    shutil.rmtree(aside)
    return freed


def remove_leftovers(directory: Path) -> None:
    """What a removal that was killed half-way left."""
    for path in directory.iterdir():
        if _LEFTOVER.match(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def _remove_outputs(run_dir: Path) -> Freed:
    freed = Freed()
    with sole_writer(_ended(run_dir)):
        record = store.read_record(run_dir)
        folders: set[Path] = set()
        for file, size in _outputs(run_dir):
            file.unlink()
            freed.add(Freed(1, size))
            folders.update(above for above in file.parents if above.is_relative_to(run_dir) and above != run_dir)
        for folder in sorted(folders, key=lambda f: len(f.parts), reverse=True):
            with suppress(OSError):  # something is left in it
                folder.rmdir()
        if freed.files:
            pruned = {"at": store.utc(), "files": freed.files, "bytes": freed.bytes}
            store.write_record(run_dir, {**record, "pruned": pruned})
    return freed


def _ended(run_dir: Path) -> RunRecord:
    record = RunRecord(run_dir, observe(run_dir))
    if not record.state.is_final:
        raise RecordError(f"{run_dir} is {record.state} by now")
    return record


def _runs_of(candidate: Candidate) -> Iterator[Path]:
    if candidate.kind == "run":
        yield candidate.path
        return
    for run_dir in point_directories(SweepLayout(candidate.path)):
        if (run_dir / store.RECORD_NAME).is_file():
            yield run_dir


def _outputs(run_dir: Path) -> Iterator[tuple[Path, int]]:
    """The outputs that the record lists and that are still there, with what they take on the disk."""
    try:
        listed: list[dict[str, Any]] = store.load_record(run_dir).get("outputs") or []
    except (OSError, json.JSONDecodeError, ValueError):
        return
    for entry in listed:
        parts = Path(str(entry.get("path", ""))).parts
        if not parts or ".." in parts or Path(*parts).is_absolute():
            continue
        file = run_dir / Path(*parts)
        with suppress(OSError):
            if any(above.is_symlink() for above in file.parents if above.is_relative_to(run_dir) and above != run_dir):
                continue  # it leads elsewhere
            info = file.lstat()
            if stat.S_ISREG(info.st_mode):
                yield file, info.st_blocks * 512

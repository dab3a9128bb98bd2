"""The run's directory, made here and now and by us alone, and the first record in it."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, RompyHydraError, SiteError
from rompy_hydra.plan.identity import point_id
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.record import provenance, store
from rompy_hydra.record.differences import differences
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.states import RunState
from rompy_hydra.run.observe import observe
from rompy_hydra.steps.prepare import Prepared
from rompy_hydra.workspace.layout import RunLayout, remove_empty, run_directory
from rompy_hydra.workspace.render import RenderedFile
from rompy_hydra.workspace.run_record import RunRecord

_LARGEST_HASHED_BYTES = 16 << 20


def claim_directory(prepared: Prepared) -> tuple[RunLayout, RunRecord | None]:
    """The directory of the run, made here and now and by us alone; or the finished record that `skip` found."""
    spec = prepared.spec
    layout = run_directory(spec.output_dir, spec.run_id)
    number = 1
    while True:
        if _make(layout.run_dir, prepared):
            return layout, None
        if spec.on_existing == "new":
            number += 1
            layout = run_directory(spec.output_dir, f"{spec.run_id}-{number}")
            continue
        existing = _existing(layout)
        if spec.on_existing == "skip" and existing is not None:
            same = existing.data.get("science_id") == prepared.science_id
            if existing.succeeded and same and "pruned" not in existing.data:
                return layout, RunRecord(layout.run_dir, existing.data, skipped=True)
            why = f"it is {existing.state}" if same else "it is another simulation (its science_id differs)"
            if "pruned" in existing.data:
                why = "its outputs were removed (postprocess --prune)"
            raise ConfigError(_exists(layout, f"and cannot be skipped: {why}"), [_on_existing_finding(spec)])
        if spec.on_existing == "replace" and existing is not None:
            _remove_run(layout, existing)
            continue
        raise ConfigError(_exists(layout, "" if existing else "and is no run of ours"), [_on_existing_finding(spec)])


def _exists(layout: RunLayout, why: str) -> str:
    return f"the run directory {layout.run_dir} exists already {why}".rstrip()


def _on_existing_finding(spec: RunSpec) -> Finding:
    return Finding(
        key="run_id",
        value=spec.run_id,
        rule="its directory exists already",
        mend="choose another run_id, or add on_existing=new, on_existing=replace or on_existing=skip",
    )


def _make(directory: Path, prepared: Prepared) -> bool:
    """Make the run's directory; True if it is ours now.  One that only holds what `generate` makes counts as free."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir()
    except FileExistsError:
        if directory.is_dir() and not directory.is_symlink():
            return _holds_only_generated(directory, {f.path.as_posix() for f in prepared.files})
        raise SiteError(f"{directory} exists and is no directory") from None
    except OSError as error:
        raise SiteError(
            f"the run directory {directory} cannot be made: {error.strerror}; choose another output_dir"
        ) from error
    return True


def _holds_only_generated(directory: Path, generated: set[str]) -> bool:
    for path in directory.rglob("*"):
        relative = path.relative_to(directory).as_posix()
        if path.is_symlink() or (not path.is_dir() and relative not in generated):
            return False
        if path.is_dir() and not any(name.startswith(f"{relative}/") for name in generated):
            return False
    return True


def _existing(layout: RunLayout) -> RunRecord | None:
    if not layout.record.exists():
        return None
    return RunRecord(layout.run_dir, observe(layout.run_dir))


def _remove_run(layout: RunLayout, existing: RunRecord) -> None:
    """Delete one run's own directory; a run that is not over is never deleted."""
    if not existing.state.is_final:
        raise ConfigError(
            f"the run {layout.run_dir} is {existing.state} and cannot be replaced",
            [
                Finding(
                    key="on_existing",
                    value="replace",
                    rule="the run is not over",
                    mend="wait for its end, or cancel it",
                )
            ],
        )
    aside = layout.run_dir.with_name(f".{layout.run_dir.name[:200]}.replaced-{secrets.token_hex(4)}")
    try:
        layout.run_dir.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise SiteError(f"the old run {layout.run_dir} cannot be removed: {error}") from error


@contextmanager
def new_run(layout: RunLayout, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """The record of a run that is about to start; if it does not come to that, nothing half-made is left."""
    record = first_record(layout, prepared)
    try:
        store.write_record(layout.run_dir, record)
        layout.logs.mkdir(exist_ok=True)
        yield record
    except OSError as error:
        _forget(layout)
        raise SiteError(f"{error.filename or layout.run_dir}: {error.strerror}") from error
    except (RompyHydraError, KeyboardInterrupt):
        _forget(layout)
        raise


def _forget(layout: RunLayout) -> None:
    """Take back a run directory, unless a process has run in it."""
    if layout.record.exists() and {"process", "container"} & store.read_record(layout.run_dir).keys():
        return
    shutil.rmtree(layout.run_dir, ignore_errors=True)
    remove_empty(layout.run_dir.parent)


@lru_cache(maxsize=1)
def _ourselves(pid: int) -> dict[str, Any]:
    return ProcessIdentity.of(pid).to_dict()


def first_record(layout: RunLayout, prepared: Prepared) -> dict[str, Any]:
    """The record of a run that has not been started."""
    plan = prepared.plan
    science = prepared.science_id
    return {
        "schema": store.SCHEMA,
        "schema_version": store.SCHEMA_VERSION,
        "run_id": layout.run_dir.name,
        "science_id": science,
        "point_id": point_id(science, {}),
        "state": RunState.QUEUED.value,
        "exit_code": None,
        "signal": None,
        "reason": RunState.QUEUED.sentence,
        "created_at": store.utc(),
        "started_at": None,
        "ended_at": None,
        "cpu_seconds": None,
        "peak_memory_bytes": None,
        "model": plan.spec.model.name,
        "backend": plan.spec.backend.type,
        "command": provenance.redact_argv(prepared.program.argv),
        "logs": {},
        "overrides": list(plan.overrides),
        "choices": plan.choices,
        "config": plan.config,
        "resources": prepared.resources.model_dump(mode="json"),
        "provenance": prepared.provenance,
        "inputs": [file.entry() for file in prepared.inputs],
        "workspace": [_entry(file) for file in prepared.files],
        "outputs": [],
        "attempts": [],
        "watcher": {"role": "driver", **_ourselves(os.getpid())},
        "job_token": secrets.token_hex(8),
        **_origin(layout, prepared),
    }


def _entry(file: RenderedFile) -> dict[str, Any]:
    """A generated file; a large one that is copied from the template is known by the template's own hash."""
    content = file.content
    digest = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else _digest_of_copied(content)
    return {"path": file.path.as_posix(), **({} if digest is None else {"sha256": digest})}


def _digest_of_copied(path: Path) -> str | None:
    status = path.stat()
    if status.st_size > _LARGEST_HASHED_BYTES:
        return None
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    """Of a file as it is now; the points of a sweep share it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _origin(layout: RunLayout, prepared: Prepared) -> dict[str, Any]:
    """What `run --from` needs beside the configuration (a sweep says it once), and what this run was made from."""
    plan = prepared.plan
    told: dict[str, Any] = {}
    if not layout.flat:
        told["source"] = {"base": str(plan.base), "config_name": plan.config_name, "kept": layout.source.name}
    if (before := plan.reproduced) is not None:
        found = differences(before.provenance, prepared.provenance)
        told["reproduces"] = {
            "run_id": before.run_id,
            "directory": str(before.directory),
            "science_id": before.science_id,
            "is_same": before.science_id == prepared.science_id,
            "overrides": list(before.overrides),
            "left_out": list(before.left_out),
            "differences": [difference.to_dict() for difference in found],
        }
    return told


def write_hydra_files(layout: RunLayout, plan: RunPlan) -> None:
    """The files in `.hydra/` that users of Hydra expect beside a run."""
    if plan.hydra_files:
        layout.hydra.mkdir(exist_ok=True)
        for name, text in plan.hydra_files.items():
            (layout.hydra / name).write_text(text, encoding="utf-8")

"""Runs that share a batch with others, points of arrays: a look at one of them, and what is written for one of them.

    run.json (waiting, with the job's facts)  +  task.K of its batch  →  PointLook  →  the record as it should be

A task's status file tells of all its runs; a look at one sees it as `slurm_observe.Look` sees a batch of one run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rompy_hydra.record.states import RunState
from rompy_hydra.run.base import Job
from rompy_hydra.run.keeping import wire_job
from rompy_hydra.run.slurm_commands import COMMENT_PREFIX, QueueEntry, Slurm
from rompy_hydra.run.slurm_observe import PENDING, RUNNING, Look, needs_the_controller
from rompy_hydra.run.slurm_status import RunStatus, TaskStatus

_NOT_KEPT = frozenset({"argv", "executable", "environment", "cpu_affinity", "record_start"})


def job_facts(job: Job) -> dict[str, Any]:
    """What of a job must be known to judge its end later, by anybody: it stands in the record until then."""
    return {name: value for name, value in wire_job(job, "").items() if name not in _NOT_KEPT}


def is_live(entry: QueueEntry | None) -> bool:
    """Whether the scheduler may still do something with it."""
    return entry is not None and (entry.state in PENDING or entry.state in RUNNING)


def has_ended(run: RunStatus | None) -> bool:
    """Whether a run has told its end, and will not be tried again by itself."""
    return run is not None and run.why is not None and run.is_last and run.why != "restart"


class PointLook(Look):
    """A look at one point of an array, with what its task has told (read once for all of them)."""

    def __init__(self, run_dir: str | os.PathLike[str], data: dict[str, Any], *, slurm: Slurm | None = None) -> None:
        super().__init__(run_dir, data, slurm=slurm)
        self.number = int(data["slurm"]["number"])

    @property
    def is_settled(self) -> bool:
        """Whether somebody else who looked has recorded its end already."""
        return RunState(self.data["state"]).is_final

    @property
    def job(self) -> dict[str, Any]:
        """The job as it was planned."""
        facts: dict[str, Any] = self.data["slurm"]["job"]
        return facts

    @property
    def cancelled(self) -> str | None:
        """Why we cancelled it, alone or with all of its batch."""
        return cancelled_because(Path(self.directory), self.number)

    def task(self) -> TaskStatus:
        """What its task has told of it."""
        return self.view(super().task())

    def entry(self) -> QueueEntry | None:
        """What the controller knows of its task; None if nothing any more."""
        job_id = self.data["slurm"].get("job_id")
        found = self.slurm.find(f"{COMMENT_PREFIX}{self.token}")
        if not found and job_id is not None:
            found = self.slurm.queue([int(job_id)])
        return next((entry for entry in found if entry.task == self.task_number), None)

    def view(self, status: TaskStatus) -> TaskStatus:
        """What the task has told of this point alone."""
        runs = status.runs.get(self.number, [])
        return dataclasses.replace(status, runs={0: runs, self.number: runs} if runs else {})

    def told(self, task: TaskStatus, entry: QueueEntry | None = None) -> dict[str, Any] | None:
        """The record after what the point itself has told."""
        return _without_job(super().told(self.view(task), entry))

    def untold(self, task: TaskStatus, entry: QueueEntry | None, silent_s: float) -> dict[str, Any] | None:
        """The record of a point that will not tell its end."""
        return _without_job(super().untold(self.view(task), entry, silent_s))

    def waits_for_the_controller(self, task: TaskStatus) -> bool:
        """Whether the scheduler may know better why it was ended."""
        return needs_the_controller(self.view(task))


def _without_job(final: dict[str, Any] | None) -> dict[str, Any] | None:
    if final is None:
        return None
    return {**final, "slurm": {name: value for name, value in final["slurm"].items() if name != "job"}}


# ---- cancelling


def write_cancelled(directory: Path, numbers: Iterable[int] | None, reason: str) -> None:
    """Write down why a batch (None), or some of its points, are cancelled, before they are."""
    for name in ["cancelled"] if numbers is None else [f"cancelled.{number}" for number in numbers]:
        (directory / name).write_text(f"{reason}\n", encoding="utf-8")


def cancelled_because(directory: Path, number: int) -> str | None:
    """Why we cancelled a point."""
    for name in (f"cancelled.{number}", "cancelled"):
        try:
            return (directory / name).read_text(encoding="utf-8").strip() or "it was cancelled"
        except OSError:
            continue
    return None

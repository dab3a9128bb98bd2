"""What became of points that a scheduler has: status files and the queue, one look for all points of a task.

    run.json (waiting)  +  task.K of its batch  +  the queue  →  PointLook  →  the record as it should be, or an outcome

`look_at_batches` is for whoever only looks: nothing is written, the queue is asked once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import RompyHydraError
from rompy_hydra.record import store
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.run.slurm_commands import QueueEntry, Slurm, is_installed
from rompy_hydra.run.slurm_points import PointLook, has_ended, is_live
from rompy_hydra.run.slurm_script import SlurmSettings
from rompy_hydra.run.slurm_status import TaskStatus, read_task, task_path
from rompy_hydra.sweep.arrays import Packing
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.settings import SweepSettings
from rompy_hydra.sweep.state import Started, SweepState

if TYPE_CHECKING:
    from rompy_hydra.plan.spec import SiteSpec

USUAL_ARRAY_SIZE = 1001
"""MaxArraySize where neither the site nor its controller says it: Slurm's own default."""


def array_key(settings: SlurmSettings) -> Hashable:
    """What points must share to be one array: all of it but its name, its time, and what each says for itself."""
    return dataclasses.replace(settings, job_name=None, retry=None, time_limit_s=None)


def packing_of(settings: SweepSettings, site: SiteSpec | None, partition: str | None, largest: int) -> Packing:
    """How points become tasks, for a partition of a site; `largest` is its MaxArraySize."""
    known = None if site is None else site.partitions.get(partition or site.partition or "")
    return Packing(
        runs_per_job=settings.runs_per_job,
        job_time_s=settings.job_time_s,
        max_array_size=largest,
        longest_s=None if known is None else known.time_limit,
        at_once=settings.runs_at_once,
    )


# ---- for whoever only looks


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be seen of a point: still waiting, running, or its outcome."""

    state: RunState
    outcome: Outcome | None = None
    cores: float | None = None
    queue_seconds: float | None = None


def remote_points(state: SweepState) -> dict[int, Started]:
    """The points that were announced as a part of a job, and have not ended as far as the journal tells."""
    return {number: started for number, started in state.started.items() if "batch" in started.watcher}


def look_at_batches(
    layout: SweepLayout, state: SweepState, run_dirs: Mapping[int, Path], *, ask_queue: bool
) -> Iterator[tuple[int, Seen]]:
    """What has become of them; the queue is asked (once) only if `ask_queue`, and where there is one."""
    tasks: dict[tuple[str, int], list[int]] = {}
    for number, started in remote_points(state).items():
        tasks.setdefault((str(started.watcher["batch"]), int(started.watcher["task"])), []).append(number)
    queue = _Queue(state, ask=ask_queue)
    for (batch, task), numbers in tasks.items():
        status = read_task(task_path(layout.batch(batch), task), batch)
        for number in numbers:
            yield number, _seen(run_dirs[number], status, number, queue, batch, task)


def _seen(run_dir: Path, status: TaskStatus, number: int, queue: _Queue, batch: str, task: int) -> Seen:
    last = status.last(number)
    open_state = RunState.RUNNING if last is not None and last.began_at is not None else RunState.WAITING
    if has_ended(last) and last is not None and last.why == "ok":
        outcome = Outcome(
            state=RunState.SUCCEEDED,
            ended_at=None if last.ended_at is None else store.utc(last.ended_at),
            wall_seconds=last.wall_s,
            cpu_seconds=last.cpu_s,
            peak_memory_bytes=last.peak_memory_bytes,
        )
        return Seen(outcome.state, outcome, status.cpus)
    try:
        data = store.load_record(run_dir)
    except (OSError, ValueError):
        return Seen(open_state)
    if RunState(data["state"]).is_final:
        return Seen(RunState(data["state"]), Outcome.from_dict(data), (data.get("slurm") or {}).get("cpus"))
    try:
        look = PointLook(run_dir, data)
        entry = queue.entry(batch, task)
        final = look.told(status, entry)
        if final is None and queue.was_asked and not is_live(entry):
            final = _untold(look, status, entry, number)
    except (KeyError, OSError, ValueError):
        return Seen(open_state)
    if final is None:
        return Seen(open_state)
    slurm = final.get("slurm") or {}
    return Seen(RunState(final["state"]), Outcome.from_dict(final), slurm.get("cpus"), final.get("queue_seconds"))


def _untold(look: PointLook, status: TaskStatus, entry: QueueEntry | None, number: int) -> dict[str, Any] | None:
    """As `Look.untold`, but nothing is revoked: we only look."""
    from rompy_hydra.run.slurm_observe import end_of_task

    silent_s = time.time() - last_sign(look.data, status)
    ending = end_of_task(status, entry, job_id=status.job_id, silent_s=silent_s, cancelled=look.cancelled)
    if ending is None:
        return None
    run = status.last(number)
    started = None if run is None or run.began_at is None else store.utc(run.began_at)
    outcome = Outcome(state=ending.state, reason=ending.reason, started_at=started)
    return {**look.data, **outcome.to_dict()}


def last_sign(data: Mapping[str, Any], status: TaskStatus) -> float:
    """When something of a point was seen last: what its task told, or its submission."""
    signs = [status.seen_at or 0.0]
    if submitted := (data.get("slurm") or {}).get("submitted_at"):
        signs.append(datetime.fromisoformat(submitted).timestamp())
    return max(signs)


class _Queue:
    """The queue as it is now, asked when the first point without an end needs it."""

    def __init__(self, state: SweepState, *, ask: bool) -> None:
        self._jobs = {batch: int(job) for batch, job in state.jobs.items() if int(job) > 0}
        self._is_silent = not ask or not self._jobs or not is_installed()
        self._entries: dict[tuple[int, int | None], QueueEntry] | None = None

    @property
    def was_asked(self) -> bool:
        """Whether it has answered: what is not there then is not in the queue."""
        return self._entries is not None

    def entry(self, batch: str, task: int) -> QueueEntry | None:
        """What it has of a task."""
        if not self._is_silent and self._entries is None:
            try:
                entries = Slurm(patience_s=5.0).queue(sorted(set(self._jobs.values())))
                self._entries = {(entry.array_id, entry.task): entry for entry in entries}
            except RompyHydraError:
                self._is_silent = True  # what the files tell is told
        job = self._jobs.get(batch)
        if self._entries is None or job is None:
            return None
        return self._entries.get((job, task))

"""A queue of our own inside an allocation: it takes the same job arrays as Slurm, and runs their tasks on our nodes.

    SlurmLane  →  submit (script)  →  tasks wait  →  a node has room  →  launcher  →  the shim of the task

It answers as `run.slurm_commands.Slurm` does, so nothing else of a sweep knows the difference.  The numbers of its jobs
are negative; those above zero belong to the scheduler of the site, which is asked about them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rompy_hydra.errors import MissingToolError, SiteError
from rompy_hydra.run.slurm_commands import JobEnd, QueueEntry, Slurm
from rompy_hydra.sweep.allocation import Allocation, Node, here, on_node

_MOST_OVERTAKEN = 64


@dataclass(slots=True)
class _Task:
    """A task that waits, or runs."""

    job_id: int
    number: int
    script: Path
    cpus: int
    comment: str
    node: Node | None = None
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class OwnQueue:
    """The nodes of an allocation, and what goes on there."""

    allocation: Allocation
    launcher: Sequence[str]
    site: Slurm | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _waiting: list[_Task] = field(default_factory=list)
    _running: list[_Task] = field(default_factory=list)
    _used: dict[str, int] = field(default_factory=dict)
    _last: int = field(default_factory=lambda: -1000 * int(time.time()))  # no number of an earlier driver comes again
    _overtaken: int = 0
    max_array_size: int = 1_000_000
    max_job_count: int = 1_000_000

    def put(self, script: Path, *, tasks: int, cpus: int, comment: str) -> int:
        """An array of so many tasks, of so many CPUs each; its number."""
        self._last -= 1
        widest = max(node.cpus for node in self.allocation.nodes)
        # What is larger than any node shares one as it is: whoever planned it was told what there is.
        self._waiting += [_Task(self._last, number, script, min(cpus, widest), comment) for number in range(tasks)]
        self.turn()
        return self._last

    def turn(self) -> None:
        """Take in what has ended, and start what there is room for."""
        for task in [t for t in self._running if t.process is not None and t.process.poll() is not None]:
            self._running.remove(task)
            assert task.node is not None
            self._used[task.node.name] -= task.cpus
        for task in list(self._waiting):
            if (node := self._room_for(task)) is not None:
                self._overtaken = 0 if task is self._waiting[0] else self._overtaken + 1
                self._waiting.remove(task)
                self._start(task, node)
            elif task is self._waiting[0] and self._overtaken >= _MOST_OVERTAKEN:
                return  # large ones do not wait for ever

    def _room_for(self, task: _Task) -> Node | None:
        fitting = [n for n in self.allocation.nodes if self._used.get(n.name, 0) + task.cpus <= n.cpus]
        return min(fitting, key=lambda node: node.cpus - self._used.get(node.name, 0), default=None)

    def _start(self, task: _Task, node: Node) -> None:
        command = ["env", f"SLURM_ARRAY_TASK_ID={task.number}", f"SLURM_CPUS_ON_NODE={task.cpus}", "sh"]
        command.append(str(task.script))
        index = self.allocation.nodes.index(node)
        argv = command
        if len(self.allocation.nodes) > 1 or node.name.partition(".")[0] != here():
            argv = on_node(self.launcher, node, command, cpus=task.cpus, index=index)
        try:
            # A session of its own: a Ctrl-C at our terminal is ours to heed.
            task.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MissingToolError(
                f"'{argv[0]}', which starts commands on the nodes of this job, does not exist: set site.node_launcher"
            ) from error
        except OSError as error:
            raise SiteError(f"{argv[0]} cannot be started: {error.strerror}") from error
        task.node = node
        self._running.append(task)
        self._used[node.name] = self._used.get(node.name, 0) + task.cpus

    # ---- as Slurm answers

    def queue(self, job_ids: Iterable[int] | None = None) -> list[QueueEntry]:
        """What waits and runs here, and what the site's own scheduler has of the rest."""
        self.turn()
        wanted = None if job_ids is None else set(job_ids)
        found = [
            QueueEntry(job_id=t.job_id, array_id=t.job_id, task=t.number, state=state, comment=t.comment)
            for state, tasks in (("PENDING", self._waiting), ("RUNNING", self._running))
            for t in tasks
            if wanted is None or t.job_id in wanted
        ]
        theirs = [] if wanted is None else [job for job in wanted if job > 0]
        if theirs and self.site is not None:
            found += self.site.queue(theirs)
        return found

    def find(self, comment: str) -> list[QueueEntry]:
        """Jobs with this comment."""
        ours = [entry for entry in self.queue() if entry.comment == comment]
        return ours or ([] if self.site is None else self.site.find(comment))

    def job(self, job_id: int) -> list[JobEnd]:
        """What is known of the end of a job: of one of ours nothing but what its tasks say themselves."""
        return [] if job_id < 0 or self.site is None else self.site.job(job_id)

    def cancel(self, jobs: Sequence[str | int]) -> None:
        """End these: `-1`, `-1_4`, `-1_[0-3,7]`."""
        theirs = [job for job in jobs if not str(job).startswith("-")]
        if theirs and self.site is not None:
            self.site.cancel(theirs)
        for text in (str(job) for job in jobs if str(job).startswith("-")):
            number, _, tasks = text.partition("_")
            self._end(int(number), _numbers(tasks))

    def _end(self, job_id: int, numbers: set[int] | None) -> None:
        def is_meant(task: _Task) -> bool:
            return task.job_id == job_id and (numbers is None or task.number in numbers)

        self._waiting = [task for task in self._waiting if not is_meant(task)]
        for task in filter(is_meant, self._running):
            if task.process is not None:
                with contextlib.suppress(ProcessLookupError):  # TERM reaches the shim through srun, ssh or at once
                    os.killpg(task.process.pid, signal.SIGTERM)


def _numbers(text: str) -> set[int] | None:
    """`[0-3,7]` → 0, 1, 2, 3, 7; None: all."""
    if not text:
        return None
    found: set[int] = set()
    for part in text.strip("[]").split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found

"""Lanes: where the points of one kind of backend go, under one scheduler."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rompy_hydra.errors import SiteError
from rompy_hydra.run.base import Job
from rompy_hydra.run.keeping import KeeperExecutor
from rompy_hydra.run.planner import open_executor
from rompy_hydra.sweep.scheduler import Announce, Handle

if TYPE_CHECKING:
    from rompy_hydra.steps.prepare import Prepared
    from rompy_hydra.sweeping.slurm_lane import SlurmLane


class Lane(Protocol):
    """One kind of backend under the scheduler: where its points go."""

    is_packed: bool
    """Whether its points take their part of this machine."""

    def hand_over(
        self, job: Job, record: dict[str, Any], announce: Announce, *, prepared: Prepared, attempt: int
    ) -> Handle:
        """Announce the attempt with its token and who will watch it, then start it."""
        ...

    def close(self) -> None:
        """Let go; what runs goes on."""
        ...


class KeeperLane:
    """A backend whose runs are in the hands of keepers of this machine."""

    is_packed = True

    def __init__(self, executor: KeeperExecutor, at_once: int) -> None:
        self._executor = executor
        self._at_once = at_once

    def warm(self) -> None:
        """Have the keepers ready that will be needed."""
        self._executor.warm(min(self._at_once, 64))

    def hand_over(
        self,
        job: Job,
        record: dict[str, Any],
        announce: Announce,
        *,
        prepared: Prepared | None = None,  # noqa: ARG002  # the job says all that a keeper needs
        attempt: int = 1,  # noqa: ARG002  # as above
    ) -> Handle:
        """The keeper is taken first, so that the journal can name it before it gets anything."""
        token = secrets.token_hex(8)
        if job.target is not None or job.stdout is None or job.stderr is None:
            # It gets a keeper of its own, which nobody knows yet: the record, made before it, is what tells.
            announce(token=token)
            return self._executor.submit(job, record, token=token)
        keeper = self._executor.take()
        try:
            announce(token=token, by={"pid": keeper.pid, "start_time": keeper.identity.start_time})
        except SiteError:
            self._executor.give_back(keeper)
            raise
        return self._executor.submit(job, record, token=token, keeper=keeper)

    def close(self) -> None:
        """Idle keepers end; busy ones when their run is recorded."""
        self._executor.close()


class Lanes:
    """The lanes of a sweep, made when a point needs one; together they are `sweep.scheduler.Gathering`."""

    def __init__(
        self,
        at_once: int,
        open_lane: Callable[[str, int], Lane],
        open_slurm: Callable[[], SlurmLane] | None = None,
    ) -> None:
        self._at_once = at_once
        self._open_lane = open_lane
        self._open_slurm = open_slurm
        self._made: dict[str, Lane] = {}
        self._slurm: SlurmLane | None = None

    def __call__(self, backend: str) -> Lane:
        """The lane of a type of backend."""
        if backend == "slurm" and self._open_slurm is not None:
            return self.slurm
        if backend not in self._made:
            self._made[backend] = self._open_lane(backend, self._at_once)
        return self._made[backend]

    @property
    def slurm(self) -> SlurmLane:
        """The one that goes into the queue of a cluster."""
        if self._slurm is None:
            assert self._open_slurm is not None
            self._slurm = self._made["slurm"] = self._open_slurm()
        return self._slurm

    def pause(self) -> None:
        """What was gathered may go."""
        if self._slurm is not None:
            self._slurm.pause()

    def look(self) -> bool:
        """Find out what has become of what runs elsewhere; whether there is more to look at now."""
        return self._slurm is not None and self._slurm.look()

    def withdraw(self) -> set[int]:
        """What was gathered stays here; these points."""
        return set() if self._slurm is None else self._slurm.withdraw()

    @property
    def held(self) -> int:
        """How many points wait for room in a queue."""
        return 0 if self._slurm is None else self._slurm.held

    @property
    def job_ids(self) -> list[int]:
        """The jobs that we have put into a queue."""
        return [] if self._slurm is None else list(self._slurm.submitted)

    def close(self) -> None:
        """Let go of all; what runs goes on."""
        for lane in self._made.values():
            lane.close()


def open_lane(backend: str, at_once: int) -> Lane:
    """The lane of a type of backend."""
    executor = open_executor(backend)
    assert isinstance(executor, KeeperExecutor)
    lane = KeeperLane(executor, at_once)
    if backend == "local":
        lane.warm()
    return lane

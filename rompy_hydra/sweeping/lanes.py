"""Lanes: where the points of one kind of backend go, under one scheduler."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol

from rompy_hydra.errors import SiteError
from rompy_hydra.run.base import Job
from rompy_hydra.run.keeping import KeeperExecutor
from rompy_hydra.run.planner import open_executor
from rompy_hydra.sweep.scheduler import Announce, Handle


class Lane(Protocol):
    """One kind of backend under the scheduler: where its points go."""

    is_packed: bool
    """Whether its points take their part of this machine."""

    def hand_over(self, job: Job, record: dict[str, Any], announce: Announce) -> Handle:
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

    def hand_over(self, job: Job, record: dict[str, Any], announce: Announce) -> Handle:
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
    """The lanes of a sweep, made when a point needs one."""

    def __init__(self, at_once: int, open_lane: Callable[[str, int], Lane]) -> None:
        self._at_once = at_once
        self._open_lane = open_lane
        self._made: dict[str, Lane] = {}

    def __call__(self, backend: str) -> Lane:
        """The lane of a type of backend."""
        if backend not in self._made:
            self._made[backend] = self._open_lane(backend, self._at_once)
        return self._made[backend]

    def close(self) -> None:
        """Let go of all; what runs goes on."""
        for lane in self._made.values():
            lane.close()


def open_lane(backend: str, at_once: int) -> Lane:
    """The lane of a type of backend."""
    lane = KeeperLane(open_executor(backend), at_once)
    if backend == "local":
        lane.warm()
    return lane

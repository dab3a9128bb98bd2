"""The local executor: jobs on this machine, each in the hands of a keeper process that outlives us."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, MissingToolError
from rompy_hydra.run.base import Job
from rompy_hydra.run.keeping import KeeperExecutor, KeeperProcess, check_paths, check_patterns, send_or_stop, wire_job
from rompy_hydra.run.spawn import find_executable


class LocalExecutor(KeeperExecutor):
    """Starts jobs on this machine; keepers are reused, one job at a time each.

    `stream_output` copies what the runs print to our own stdout and stderr while we wait for them; `on_output(name,
    chunk)` gets it instead (`name`: stdout or stderr).  Closing detaches: a run that still goes on goes on.
    """

    def wire(self, job: Job) -> dict[str, Any]:
        """The job as its keeper reads it, refused where it cannot be started here."""
        return wire_job(job, check_startable(job))

    def hand_over(self, job: Job, message: dict[str, Any], keeper: KeeperProcess | None) -> KeeperProcess:
        """Give the job to a keeper: one that is forked from us for a callable, one of its own for our terminal."""
        if job.target is not None:
            return KeeperProcess.fork(json.loads(json.dumps(message)), job.target)
        if keeper is None and (job.stdout is None or job.stderr is None):
            keeper = KeeperProcess.start(has_terminal=True)
        keeper = keeper or self.take()
        send_or_stop(keeper, message)
        return keeper


def check_startable(job: Job) -> str:
    """The file that the job's command is; refuses what cannot be started here, before anything is written or started.

    MissingToolError for a command that does not exist, ConfigError for everything else.
    """
    if not _has_proc():
        raise MissingToolError("the local executor follows processes through /proc, which is not there: it needs Linux")
    check_paths(job)
    if job.settings is not None:  # it was made for a container: what is in there is not what is here
        raise TypeError(f"run {job.run_id} is a job of another backend")
    executable = ""
    if job.target is None:
        if not job.argv:
            raise ConfigError(f"run {job.run_id}: there is no command to run")
        executable = _require_executable(job, job.argv[0], "the command")
    if job.success.check and "/" not in job.success.check[0]:
        _require_executable(job, job.success.check[0], "the command of success.check")
    check_patterns(job)
    if job.cpu_affinity is not None:
        _check_processors(job, set(job.cpu_affinity))
    return executable


def _require_executable(job: Job, name: str, what: str) -> str:
    path = job.environment.get("PATH")
    try:
        if "/" in name or not path or not all(map(os.path.isabs, path.split(os.pathsep))):
            return find_executable(name, directory=job.directory, path=path)
        return _find_on_path(name, path)
    except FileNotFoundError as error:
        where = f"in {job.directory}" if "/" in name else f"on its PATH ({path})"
        raise MissingToolError(f"run {job.run_id}: {what} {name!r} does not exist {where}") from error
    except OSError as error:
        raise ConfigError(
            f"run {job.run_id}: {what} {name!r} cannot be executed: {error.filename}: {error.strerror}"
        ) from error


def _check_processors(job: Job, asked: set[int]) -> None:
    ours = os.sched_getaffinity(0)
    if not asked or asked - ours:
        wrong = ",".join(map(str, sorted(asked - ours))) or "(none)"
        have = ",".join(map(str, sorted(ours)))
        raise ConfigError(f"run {job.run_id}: it cannot be bound to processors {wrong}: we may use {have}")


@lru_cache(maxsize=256)
def _find_on_path(name: str, path: str) -> str:
    # A program that is removed later is found missing by exec, with the same error.
    return find_executable(name, directory="/", path=path)


@lru_cache(maxsize=1)
def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()

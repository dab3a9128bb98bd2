"""The Docker executor: jobs in containers, each in the hands of a keeper process that outlives us.

    Job + ContainerSettings  →  keeper (`docker_keeper`)  →  container  →  Outcome

Where the keeper dies, the container goes on: we start another one that takes it up, and so does the next `status`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from typing import Any

from rompy_hydra.errors import ConfigError, Finding, RompyHydraError
from rompy_hydra.record import store
from rompy_hydra.record.states import RunState
from rompy_hydra.run.base import Job
from rompy_hydra.run.docker_container import MINIMUM_MEMORY_BYTES, ContainerSettings
from rompy_hydra.run.keeping import KeeperExecutor, KeeperProcess, check_paths, check_patterns, send_or_stop, wire_job
from rompy_hydra.units.sizes import format_memory

_TAKE_UP_PATIENCE_S = 120.0
# The keeper needs what is installed beside us (the SDK), and nothing that would stand in for the standard library.
_KEEPER_CODE = (
    "import json, sys; sys.path += [p for p in json.loads(sys.argv[3]) if p not in sys.path] + [sys.argv[1]]; "
    "from rompy_hydra.run.docker_keeper import main; main()"
)


class DockerExecutor(KeeperExecutor):
    """Starts jobs in containers; keepers are reused, one job at a time each.

    `stream_output` copies what the runs print to our own stdout and stderr while we wait for them; `on_output(name,
    chunk)` gets it instead (`name`: stdout or stderr).  Closing detaches: a run that still goes on goes on.
    """

    outlives_its_keeper = True

    def wire(self, job: Job) -> dict[str, Any]:
        """The job as its keeper reads it, refused where no engine could start it."""
        settings = check_startable(job)
        wire = wire_job(job, "")
        # A container takes a third of a second to start, and a run in one must be found again: always recorded.
        return {**wire, "run_id": job.run_id, "container": settings.to_wire(), "record_start": True}

    def new_keeper(self) -> KeeperProcess:
        """A keeper that knows the engine."""
        return KeeperProcess.start(code=_KEEPER_CODE, words=[json.dumps([p for p in sys.path if p])])

    def take_up(self, run_dir: str, record: dict[str, Any]) -> KeeperProcess | None:
        """A keeper for a container whose own one has died; None where it cannot be found again."""
        kept = _kept_job(run_dir, str(record.get("job_token")))
        if kept is None:
            return None
        message = {"do": "run", "take_up": True, **kept, "record": record, "tell_start": False}
        keeper = self.take()
        send_or_stop(keeper, message)
        return keeper


def check_startable(job: Job) -> ContainerSettings:
    """Refuse what no engine can start, before anything is written or started."""
    settings = job.settings
    if not isinstance(settings, ContainerSettings):
        raise TypeError("a job of the Docker executor needs ContainerSettings in Job.settings")
    if job.target is not None or not job.argv:
        raise ConfigError(f"run {job.run_id}: there is no command to run in a container")
    if job.stdout is None or job.stderr is None:
        raise ValueError("the output of a container goes to log files")
    check_paths(job)
    check_patterns(job)
    if job.memory_bytes is not None and job.memory_bytes < MINIMUM_MEMORY_BYTES:
        raise ConfigError(
            f"run {job.run_id}: a container gets {format_memory(MINIMUM_MEMORY_BYTES)} of memory at least",
            [Finding(key="backend.memory", value=format_memory(job.memory_bytes), rule="is too little for an engine")],
        )
    _check_text(job)
    return settings


def _check_text(job: Job) -> None:
    """An engine is spoken to in JSON: bytes that are no UTF-8 text would arrive as something else."""
    texts = {f"the variable {name}": value for name, value in job.environment.items()}
    texts |= {"the command": "".join(job.argv), "the directory": job.directory, "the run directory": job.run_dir}
    for what, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"run {job.run_id}: {what} holds bytes that are no UTF-8 text, and an engine takes nothing else",
                [Finding(key="backend", rule=f"{what}: {text!r}", mend="write it in UTF-8, or put it into a file")],
            ) from error


def observe(run_dir: str | os.PathLike[str], data: dict[str, Any]) -> dict[str, Any]:
    """What became of a run whose keeper has died, while its container may go on.

    One that has ended, or whose time is over, is taken to its end here and now: logs, exit code, rules, record.  One
    that runs is told as it is.  A reader who may not write gets the view.
    """
    from rompy_hydra.run.docker_engine import Engine

    directory, token = os.fspath(run_dir), str(data.get("job_token"))
    try:
        engine = Engine.connect(str((data.get("container") or {}).get("engine") or "") or None)
        found = [c for c in engine.find(token) if (c.get("Labels") or {}).get("rompy-hydra.role") == "run"]
        engine.close()
    except RompyHydraError as error:
        return {**data, "reason": f"its keeper died, and its engine cannot be asked: {error}"}
    status = str(found[0].get("State")) if found else "gone"
    if status in ("running", "paused") and not _is_overdue(directory, token, data):
        return {**data, "reason": "its keeper died; the container goes on, and the next look takes up its end"}
    view = {**data, "reason": f"its keeper died; its container is {status}, and you may not write its record"}
    if not os.access(directory, os.W_OK):
        return view
    with DockerExecutor() as executor:
        keeper = executor.take_up(directory, data)
        if keeper is None:
            return store.mark_lost(directory, data, f"its keeper died, and nothing tells how to take it up ({status})")
        try:
            _wait_for_the_end(keeper, token)
        finally:
            executor.give_back(keeper)
    now = store.read_record(directory)
    return now if RunState(now["state"]).is_final else store.observe(directory)


def _wait_for_the_end(keeper: KeeperProcess, token: str) -> None:
    deadline = time.monotonic() + _TAKE_UP_PATIENCE_S
    while (left_s := deadline - time.monotonic()) > 0:
        is_alive = keeper.receive(left_s)
        while keeper.events:
            event = keeper.events.popleft()
            if event["token"] == token and event["event"] in ("ended", "refused"):
                return
        if not is_alive:
            return


def _is_overdue(run_dir: str, token: str, data: dict[str, Any]) -> bool:
    kept = _kept_job(run_dir, token)
    limit_s = kept["job"]["timeout_s"] if kept is not None else None
    if limit_s is None or not data.get("started_at"):
        return False
    started = datetime.fromisoformat(str(data["started_at"])).timestamp()
    return bool(time.time() - started > limit_s)


def _kept_job(run_dir: str, token: str) -> dict[str, Any] | None:
    """What the dead keeper left of its job."""
    try:
        with open(os.path.join(run_dir, f".{store.RECORD_NAME}.job"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            kept = json.load(file)
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and kept.get("token") == token else None

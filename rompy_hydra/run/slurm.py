"""The Slurm executor: jobs in the queue of a cluster, which go on without us.

    Job + SlurmSettings  →  job script  →  sbatch  →  the shim on the node  →  its words  →  Outcome

There is no keeper: what the shim writes beside the run is the truth, and whoever looks reads it (`slurm_observe`).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from rompy_hydra.errors import ConfigError, RompyHydraError, SiteError
from rompy_hydra.record import store
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.run.base import Job
from rompy_hydra.run.follow import LogTail
from rompy_hydra.run.keeping import OutputSink, check_paths, check_patterns, to_our_own_output, wire_job
from rompy_hydra.run.slurm_commands import COMMENT_PREFIX, QueueEntry, Slurm
from rompy_hydra.run.slurm_observe import (
    CANCELLED_FILE,
    JOB_FILE,
    PENDING,
    RUNNING,
    Look,
    needs_the_controller,
    observe,
    settle,
    write_open,
)
from rompy_hydra.run.slurm_script import RunLine, SlurmSettings, job_script
from rompy_hydra.run.slurm_status import TaskStatus, task_path

SCRIPT_FILE = "job.sh"
_STREAM_BYTES = 1 << 20
_LINGER_S = 20.0
_CANCEL_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often we look: at what the run has told (on the shared disk), and at the queue (the controller's time)."""

    first_look_s: float = 0.05
    slowest_look_s: float = 2.0
    first_ask_s: float = 2.0
    slowest_ask_s: float = 30.0


class SlurmExecutor:
    """Puts jobs into the queue; closing leaves them there.

    `stream_output` copies what the runs print to our own stdout and stderr while we wait for them; `on_output(name,
    chunk)` gets it instead.  `tell` gets a sentence whenever a job's place in the queue changes.
    """

    def __init__(
        self,
        *,
        stream_output: bool = False,
        on_output: OutputSink | None = None,
        slurm: Slurm | None = None,
        pace: Pace = Pace(),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.sink = on_output or (to_our_own_output if stream_output else None)
        self.slurm = slurm or Slurm(tell=tell)
        self.pace = pace
        self.tell = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self, count: int = 1) -> None:
        """Nothing to have ready."""

    def close(self) -> None:
        """Nothing of ours is left behind; jobs in the queue stay there."""

    def start(self, job: Job, record: dict[str, Any]) -> SlurmRun:
        """Put `job` into the queue and return when it is there.

        ConfigError: it asks for what no script can do.  SiteError: Slurm refused it, or the run's directory cannot be
        written.
        """
        settings = check_startable(job)
        token = os.urandom(8).hex()
        batch = Path(job.run_dir, "logs", f"job-{token}")
        script = single_script(job, settings, batch=batch, token=token)
        record = self._write_batch(job, record, settings, batch, token, script)
        try:
            job_id = self.slurm.submit(script, comment=f"{COMMENT_PREFIX}{token}")
        except RompyHydraError as error:
            failed = {"state": RunState.FAILED.value, "reason": str(error), "ended_at": store.utc()}
            with contextlib.suppress(SiteError):  # the error that is raised tells more
                store.write_record(job.run_dir, {**record, **failed})
            raise
        except BaseException:
            # Whoever interrupts us gets no handle: what may be in the queue by now is taken out again.
            for entry in self.slurm.find(f"{COMMENT_PREFIX}{token}"):
                self.slurm.cancel([entry.array_id])
            raise
        facts = {**record["slurm"], "job_id": job_id, "submitted_at": store.utc()}
        waiting = f"it waits in the queue as job {job_id}"
        record = {**record, "state": RunState.WAITING.value, "reason": waiting, "slurm": facts}
        run = SlurmRun(job, record, self)
        run.record_now(record)
        return run

    def _write_batch(
        self, job: Job, record: dict[str, Any], settings: SlurmSettings, batch: Path, token: str, script: str
    ) -> dict[str, Any]:
        """Everything that later looks will need, before the first job can run."""
        facts = {
            "job_id": None,
            "task": 0,
            "batch": str(batch),
            "token": token,
            "submitted_at": store.utc(),
            "site": settings.site,
            "exclusive": settings.exclusive,
            "asked_cpus": settings.cpus,
            "asked_seconds": settings.time_limit_s,
            "charge_rate": settings.charge_rate,
        }
        record = {
            **record,
            "job_token": token,
            "state": RunState.QUEUED.value,
            "reason": "it is being handed to Slurm",
            "watcher": {"role": "slurm"},
            "slurm": {name: value for name, value in facts.items() if value is not None or name == "job_id"},
        }
        wire = {name: value for name, value in wire_job(job, "").items() if name != "environment"}
        try:
            batch.mkdir(parents=True)
            Path(batch, JOB_FILE).write_text(json.dumps(wire), encoding="utf-8")
            Path(batch, SCRIPT_FILE).write_text(script, encoding="utf-8", errors="surrogateescape")
            # Made here, so that no client of a shared disk remembers that they are not there.
            for path in (task_path(batch, 0), *(Path(p) for p in (job.stdout, job.stderr) if p is not None)):
                path.touch()
        except OSError as error:
            raise SiteError(f"the job cannot be written: {error.filename}: {error.strerror}") from error
        store.write_record(job.run_dir, record)
        return record


def check_startable(job: Job) -> SlurmSettings:
    """Refuse what no job script can start, before anything is written or submitted."""
    settings = job.settings
    if not isinstance(settings, SlurmSettings):
        raise TypeError("a job of the Slurm executor needs SlurmSettings in Job.settings")
    if settings.checks_paths:
        check_paths(job)
    check_patterns(job)
    for what, text in {"the command": "".join(job.argv), **job.environment}.items():
        if "\0" in text:
            raise ConfigError(f"run {job.run_id}: {what} holds a NUL character, which no program can get")
    return settings


def single_script(job: Job, settings: SlurmSettings, *, batch: Path, token: str, note: str = "") -> str:
    """The script of a job of one run; a retry that may use more asks for more."""
    settings = settings.replaced(memory_bytes=job.memory_bytes)
    if settings.time_limit_s is not None and job.timeout_s is not None and job.timeout_s > settings.time_limit_s:
        settings = settings.replaced(time_limit_s=job.timeout_s)
    line = RunLine.of(job, 0, settings.retry)
    common = job.environment
    return job_script(
        settings,
        directory=str(batch),
        token=token,
        name=settings.job_name or job.run_id,
        inline=[replace(line, environment={})],
        common=common,
        note=note,
    )


class SlurmRun:
    """A handle on a job in the queue; `wait` from one thread at a time, `cancel` from any."""

    goes_on_without_us = True

    def __init__(self, job: Job, record: dict[str, Any], executor: SlurmExecutor) -> None:
        self.job = job
        self.record_error: str | None = None
        self.look = Look(job.run_dir, record, slurm=executor.slurm)
        self._executor = executor
        self._outcome: Outcome | None = None
        self._told = ""
        pace = executor.pace
        self._look_every_s, self._ask_every_s = pace.first_look_s, pace.first_ask_s
        self._asked_at = self._changed_at = time.monotonic()
        self._seen: tuple[object, ...] = ()
        self._entry: QueueEntry | None = None
        self._ended_at: float | None = None
        logs = {"stdout": job.stdout, "stderr": job.stderr}
        self._tails = {n: LogTail(p) for n, p in logs.items() if p is not None} if executor.sink else {}

    @property
    def job_id(self) -> int:
        """The number of the job."""
        return int(self.look.data["slurm"]["job_id"])

    @property
    def is_over(self) -> bool:
        """Whether `wait` would answer at once."""
        return self._outcome is not None

    def record_now(self, record: dict[str, Any]) -> None:
        """The job is in the queue: from here on others may look, and the record is theirs as much as ours."""
        self.look.data = {**record, "reason": ""}
        write_open(self.look, record)
        self.look.data = record

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the end; None when `timeout_s` passed first.  Safe to call again, also after an interruption."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self.take_news()
            self._pass_output_on()
            left_s = self._look_every_s if deadline is None else min(self._look_every_s, deadline - time.monotonic())
            if self.is_over or left_s <= 0:
                break
            time.sleep(left_s)
            self._look_every_s = min(self._look_every_s * 1.3, self._executor.pace.slowest_look_s)
        if self.is_over:
            while self._pass_output_on():
                pass
        return self._outcome

    def take_news(self) -> None:
        """Look at what the run has told; ask the controller where that is due."""
        if self.is_over:
            return
        task = self.look.task()
        self._note_change(task)
        last = task.last(0)
        if last is not None and last.why is not None and last.is_last and last.why != "restart":
            if needs_the_controller(task) and not self._controller_has_spoken():
                return
            # Read again: while we asked, Slurm may have started the job once more, and that one may have ended.
            self._end(self.look.told(self.look.task(), self._entry))
            return
        now = time.monotonic()
        if now - self._asked_at < self._ask_every_s and task.failure is None:
            return
        self._ask()
        task = self.look.task()
        self._note_change(task)
        final = self.look.told(task, self._entry) if not needs_the_controller(task) else None
        self._end(final or self.look.untold(task, self._entry, time.monotonic() - self._changed_at))
        if self._outcome is None:
            self._tell(write_open(self.look, self.look.open(task, self._entry)))

    def _note_change(self, task: TaskStatus) -> None:
        seen = (task.job_id, task.restart, task.seen_at, task.failure, len(task.words))
        if seen != self._seen:
            self._seen, self._changed_at, self._ended_at = seen, time.monotonic(), None
            self._look_every_s = self._executor.pace.first_look_s
            if self._outcome is None and task.job_id is not None:
                self._tell(write_open(self.look, self.look.open(task, self._entry)))

    def _ask(self) -> None:
        """One question to the controller; the next one later, unless something has changed."""
        before = self._entry
        self._entry = self.look.entry()
        self._asked_at = time.monotonic()
        pace = self._executor.pace
        self._ask_every_s = min(self._ask_every_s * 1.5, pace.slowest_ask_s)
        known = (before and before.state, before and before.reason)
        if known != (self._entry and self._entry.state, self._entry and self._entry.reason):
            self._ask_every_s = pace.first_ask_s
            self._changed_at = self._asked_at

    def _controller_has_spoken(self) -> bool:
        """Whether what ended the run can be known by now: its job has left the nodes, or we have waited enough."""
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        self._ask_every_s = self._executor.pace.first_ask_s
        if self.look.cancelled is not None:
            return True
        if self._asked_at < self._ended_at or now - self._asked_at > self._executor.pace.first_ask_s:
            self._ask()
        is_over = self._entry is None or self._entry.state not in (*RUNNING, *PENDING)
        return is_over or (
            now - self._ended_at > _LINGER_S and self._entry is not None and self._entry.state in RUNNING
        )

    def _end(self, final: dict[str, Any] | None) -> None:
        if final is None:
            return
        data, self.record_error = settle(self.look, final)
        self.look.data = data
        self._outcome = Outcome.from_dict(data)

    def _tell(self, data: dict[str, Any]) -> None:
        sentence = f"job {data['slurm'].get('job_id')}: " + (
            f"running on {data['slurm'].get('host')}" if data["state"] == RunState.RUNNING.value else data["reason"]
        )
        if sentence != self._told:
            self._told = sentence
            self._executor.tell(sentence)

    def cancel(self, reason: str, *, grace_s: float | None = None) -> None:
        """Take the job out of the queue, or end it on its node; `wait` then answers `cancelled`."""
        del grace_s  # Slurm's own (KillWait) counts
        if not self.is_over:
            cancel(self.look, reason)
            self._look_every_s, self._ask_every_s = self._executor.pace.first_look_s, 0.5

    def _pass_output_on(self) -> bool:
        more = False
        for name, tail in list(self._tails.items()):
            chunk = tail.read(_STREAM_BYTES)
            if chunk and self._executor.sink is not None:
                more = True
                try:
                    self._executor.sink(name, chunk)
                except BrokenPipeError:
                    self._tails = {}  # nobody listens any more; the logs are kept all the same
                    return False
        return more


def cancel(look: Look, reason: str) -> None:
    """Write down why, then `scancel` exactly this job."""
    path = Path(look.directory, CANCELLED_FILE)
    try:
        if not path.exists():
            path.write_text(reason + "\n", encoding="utf-8")
    except OSError as error:
        raise SiteError(f"the job cannot be cancelled by you: {path}: {error.strerror}") from error
    job_id = look.data["slurm"].get("job_id")
    ids = (
        [int(job_id)] if job_id is not None else [e.array_id for e in look.slurm.find(f"{COMMENT_PREFIX}{look.token}")]
    )
    if ids:
        look.slurm.cancel(ids)


def cancel_run(run_dir: str | os.PathLike[str], record: dict[str, Any], reason: str) -> dict[str, Any]:
    """Cancel a run from anywhere, and wait a while for its end; the record as it is then."""
    look = Look(run_dir, record)
    cancel(look, reason)
    deadline = time.monotonic() + _CANCEL_PATIENCE_S
    pause_s = 0.1
    while not RunState(record["state"]).is_final and time.monotonic() < deadline:
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 2.0)
        record = observe(run_dir, store.read_record(run_dir), slurm=look.slurm)
    return record

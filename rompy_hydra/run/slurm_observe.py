"""What became of a run in a batch job: the run's own words first, the scheduler's second, silence last.

    task.K (the shim)  →  queue (squeue)  →  what is remembered (scontrol)  →  RunState, a sentence  →  run.json

No accounting database is asked, and nothing is lost when the controller has forgotten a job: what the shim wrote tells.
Whoever looks and may write brings the record up to date; whoever may not gets the same answer in memory.
"""

from __future__ import annotations

import json
import os
import re
import signal as signals
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rompy_hydra.errors import MissingToolError, SiteError
from rompy_hydra.record import store
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.outputs import hash_outputs, list_outputs, remove_outputs
from rompy_hydra.record.states import RunState
from rompy_hydra.run.attempt import AbortWatch
from rompy_hydra.run.slurm_commands import COMMENT_PREFIX, JobEnd, QueueEntry, Slurm
from rompy_hydra.run.slurm_status import RunStatus, TaskStatus, read_task, revoke, task_path, telling
from rompy_hydra.run.success import last_line, quote, signal_name, unmet_rule

GRACE_VARIABLE = "ROMPY_HYDRA_SLURM_GRACE"
GRACE_S = 90.0
"""How long a silent job may still be heard: longer than the attribute cache of an NFS client (60 s)."""
_ENDED_GRACE_S = 10.0
JOB_FILE = "job.json"
CANCELLED_FILE = "cancelled"

PENDING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
RUNNING = frozenset(
    {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "POWER_UP_NODE"}
)
ENDS: Mapping[str, tuple[RunState, str]] = {
    "COMPLETED": (RunState.LOST, "its job has ended without telling how the run did"),
    "OUT_OF_MEMORY": (RunState.OUT_OF_MEMORY, "Slurm ended it because it used more memory than its job was given"),
    "TIMEOUT": (RunState.TIMED_OUT, "Slurm ended it because its job had reached its time limit"),
    "DEADLINE": (RunState.TIMED_OUT, "Slurm ended it because its deadline had passed"),
    "CANCELLED": (RunState.CANCELLED, "its job was cancelled (scancel) by somebody else than us"),
    "PREEMPTED": (RunState.LOST, "Slurm took its node for a job of higher priority (preempted)"),
    "NODE_FAIL": (RunState.LOST, "a node that it ran on has failed"),
    "BOOT_FAIL": (RunState.LOST, "a node for it could not be started"),
    "LAUNCH_FAILED": (RunState.LOST, "Slurm could not start it on its node"),
    "RECONFIG_FAIL": (RunState.LOST, "a node for it could not be prepared"),
    "REVOKED": (RunState.LOST, "Slurm took it back because another cluster of the federation had started it"),
    "FAILED": (RunState.FAILED, "its job has failed before it could tell how the run did"),
}
"""What the states of Slurm in which a job ends mean for a run that has not told its own end (source: squeue(1))."""
_WAITS: Mapping[str, str] = {
    "Resources": "for nodes that are busy",
    "Priority": "other jobs come first",
    "Dependency": "for another job",
    "JobHeldUser": "somebody holds it; scontrol release starts it",
    "JobHeldAdmin": "an administrator holds it",
    "PartitionNodeLimit": "its partition has not that many nodes, so it will not start; cancel it and ask for less",
    "PartitionTimeLimit": "its partition allows less time, so it will not start; cancel it and ask for less",
    "PartitionDown": "its partition is closed",
    "PartitionInactive": "its partition is closed",
    "BadConstraints": "no node can give what it asks for, so it will not start; cancel it and ask for something else",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "Nodes required for job are DOWN": "nodes that it needs are down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "JobArrayTaskLimit": "as many tasks of its array run as may",
    "AssocGrp": "your account has used what it may",
    "AssocMax": "you use what you may",
    "QOSGrp": "its quality of service is used up",
    "QOSMax": "its quality of service allows no more",
    "launch failed requeued held": "a node could not start it; scontrol release tries again",
}
"""What the reasons of a job that waits mean (source: squeue(1), JOB REASON CODES)."""
_MEMORY_WORDS = (
    "exceeded memory limit",
    "exceeded job memory limit",
    "oom_kill",
    "oom-kill",
    "out-of-memory",
    "oom killed",
)
_WORDS: tuple[tuple[str, str], ...] = (
    ("due to time limit", "TIMEOUT"),
    ("due to preemption", "PREEMPTED"),
    ("due to node failure", "NODE_FAIL"),
    ("due to deadline", "DEADLINE"),
)
_CANCELLED = re.compile(r"cancelled at \S+ \*\*\*")  # with a reason, as `DUE TO JOB REQUEUE`, it is something else


def grace_s() -> float:
    """How long a silent job may still be heard."""
    return float(os.environ.get(GRACE_VARIABLE) or GRACE_S)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended that has not told it itself."""

    state: RunState
    reason: str


# ---- the two sources


def end_of_task(
    task: TaskStatus,
    entry: QueueEntry | None,
    *,
    job_id: int | None,
    silent_s: float,
    grace: float | None = None,
    cancelled: str | None = None,
) -> Ending | None:
    """How a task ended whose runs have not told it; None while it may still go on.

    `entry` is what the controller knows (None: nothing any more), `silent_s` how long nothing new has been seen,
    `cancelled` why we cancelled it.
    """
    grace = grace_s() if grace is None else grace
    name = f"job {job_id}" if job_id is not None else "its job"
    if entry is not None and (entry.state in PENDING or entry.state in RUNNING):
        return None
    said = end_by_words(task.words)
    if task.failure is not None:
        return Ending(RunState.FAILED, why_not_ready(task))
    if entry is None:
        if said is None and silent_s < grace:
            return None
        if cancelled is not None:
            return Ending(RunState.CANCELLED, cancelled)
        if said is not None:
            return said
        begun = f"it was heard of last at {store.utc(task.seen_at)}" if task.seen_at else "it has never told anything"
        return Ending(RunState.LOST, f"{name} is not in the queue any more, and {begun}; nothing tells how it ended")
    was_never_started = task.job_id is None and not entry.nodes
    is_clear = was_never_started or said is not None
    if not is_clear and silent_s < min(grace, _ENDED_GRACE_S if entry.state != "COMPLETED" else grace):
        return None  # what the node wrote last may not have come through yet
    if cancelled is not None and entry.state in ("CANCELLED", "FAILED", "COMPLETED"):
        return Ending(RunState.CANCELLED, cancelled)
    if said is not None and entry.state in ("FAILED", "CANCELLED"):
        return said
    state, sentence = ENDS.get(entry.state, (RunState.LOST, f"its job ended as {entry.state}"))
    more = f" ({entry.reason})" if entry.reason and entry.reason.lower() != entry.state.lower() else ""
    words = f": {telling(task.words)}" if task.words and entry.state == "FAILED" else ""
    return Ending(state, f"{sentence}{more}{words}")


def end_by_words(words: list[str]) -> Ending | None:
    """What Slurm itself has written into a job's output about why it ended it."""
    text = "\n".join(words).lower()
    line = next((w.strip() for w in words if any(said in w.lower() for said in _MEMORY_WORDS)), None)
    if line is not None:
        return Ending(RunState.OUT_OF_MEMORY, f"{ENDS['OUT_OF_MEMORY'][1]}: {line}")
    for said, state in _WORDS:
        if said in text:
            return Ending(*ENDS[state])
    return Ending(*ENDS["CANCELLED"]) if _CANCELLED.search(text) else None


def why_not_ready(task: TaskStatus) -> str:
    """Why the node could not be made ready, with what was printed."""
    kind, _, what = (task.failure or "").partition(":")
    sentence = {
        "setup": f"line {what} of site.setup failed",
        "module": f"the module {what} could not be loaded",
        "purge": "`module purge` failed",
        "modules": "the node has no `module` command (site.module_init names the file that defines it)",
        "base": "the directory of the set-up lines cannot be entered",
        "mkdir": "its directories cannot be made",
        "secret": f"the secret {what} was not found on the node",
        "tmp": "the node has no room for temporary files",
        "exit": "the job script ended before the runs did (does a set-up line say `exit`?)",
    }.get(kind, f"the node could not be made ready ({task.failure})")
    said = f": {telling(task.words)}" if task.words else ""
    return f"{sentence} on {task.host or 'its node'}{said}"


# ---- one run


def outcome_of(
    job: Mapping[str, Any],
    run: RunStatus,
    task: TaskStatus,
    *,
    cancelled: str | None = None,
    entry: QueueEntry | None = None,
) -> Outcome:
    """The outcome of a run that has told its end; `job` is what `keeping.wire_job` makes of a `Job`."""
    logs = {name: log_of(job[name], run.attempt) for name in ("stdout", "stderr") if job[name] is not None}
    ending = _ending(job, run, task, logs, cancelled, entry)
    notes = ["processes still ran in the background after the main process had ended, and were ended"]
    how = "the run's processes on the first node, sampled (/proc)"
    # srun's processes belong to a step of their own, which is not seen from the script.
    is_elsewhere = bool(job.get("argv")) and os.path.basename(job["argv"][0]) == "srun"  # noqa: PTH119
    return Outcome(
        state=ending.state,
        exit_code=run.exit_code if run.signal is None else None,
        signal=signal_name(run.signal) if run.signal is not None else None,
        reason=ending.reason,
        started_at=store.utc(run.began_at) if run.began_at is not None else None,
        ended_at=store.utc(run.ended_at) if run.ended_at is not None else None,
        wall_seconds=run.wall_s,
        cpu_seconds=None if is_elsewhere else run.cpu_s,
        peak_memory_bytes=None if is_elsewhere else run.peak_memory_bytes,
        memory_measured_by=how if run.peak_memory_bytes and not is_elsewhere else None,
        logs=logs,
        notes=notes if run.left_processes else [],
    )


def log_of(path: str, attempt: int) -> str:
    """The log of an attempt: `stdout.log`, from the second on `stdout.2.log`."""
    return path if attempt <= 1 else f"{path.removesuffix('.log')}.{attempt}.log"


def _ending(
    job: Mapping[str, Any],
    run: RunStatus,
    task: TaskStatus,
    logs: dict[str, str],
    cancelled: str | None,
    entry: QueueEntry | None,
) -> Ending:
    kind, _, what = (run.why or "").partition(":")
    if kind == "timeout":
        return Ending(RunState.TIMED_OUT, f"it ran longer than its time limit of {job['timeout_s']:g} s")
    if kind == "time":
        return Ending(RunState.TIMED_OUT, "it was ended before its job's time limit, when Slurm gave warning of it")
    if kind == "skipped":
        return Ending(RunState.CANCELLED, cancelled or "it was taken back before it began or while it ran")
    if kind == "restart":
        return Ending(RunState.LOST, "its job was started again by Slurm (requeued)")
    if kind == "signal":
        return _ended_by_a_signal(what, task, cancelled, entry)
    if kind in ("cd", "log"):
        place = f"its directory {job['directory']} cannot be entered" if kind == "cd" else "its logs cannot be written"
        return Ending(RunState.FAILED, f"{place} on {task.host}{': ' + telling(task.words) if task.words else ''}")
    killed = run.signal == signals.SIGKILL or run.exit_code == 128 + signals.SIGKILL
    if kind == "exit" and killed and (said := _memory_was_short(task, entry)) is not None:
        return said
    return _judged(job, run, kind, what, logs)


def _ended_by_a_signal(name: str, task: TaskStatus, cancelled: str | None, entry: QueueEntry | None) -> Ending:
    if cancelled is not None:
        return Ending(RunState.CANCELLED, cancelled)
    if (said := end_by_words(task.words)) is not None:
        return said
    if entry is not None and entry.state in ENDS and entry.state not in ("COMPLETED", "FAILED"):
        return Ending(*ENDS[entry.state])
    return Ending(RunState.CANCELLED, f"its job got {'SIG' + name}: {ENDS['CANCELLED'][1]}")


def _memory_was_short(task: TaskStatus, entry: QueueEntry | None) -> Ending | None:
    if entry is not None and entry.state == "OUT_OF_MEMORY":
        return Ending(*ENDS["OUT_OF_MEMORY"])
    said = end_by_words(task.words)
    return said if said is not None and said.state is RunState.OUT_OF_MEMORY else None


def _judged(job: Mapping[str, Any], run: RunStatus, kind: str, what: str, logs: dict[str, str]) -> Ending:
    """What the run's own end means; the rules are looked at once more, in the words of every backend."""
    rules = job["success"]
    try:
        if (hit := AbortWatch(list(job["abort_on"]), logs).look_at_all()) is not None:
            return Ending(RunState.FAILED, f"abort_on: {hit}")
        reason = unmet_rule(rules, run_dir=job["run_dir"], logs=logs, exit_code=run.exit_code, signal_number=run.signal)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return Ending(RunState.FAILED, f"its result could not be checked:{where} {error.strerror}")
    if reason is not None:
        return Ending(RunState.FAILED, reason)
    if kind == "check":
        limit = f"ran longer than {rules['check_timeout_s']:g} s"
        how = limit if what == "timeout" else f"ended with exit code {what}"
        line = last_line(_check_log(job))
        return Ending(RunState.FAILED, f"success.check {how}" + (f": {quote(line)}" if line else ""))
    if kind not in ("ok", "unchecked"):
        return Ending(RunState.FAILED, f"success.{kind} did not hold when it ended" if kind != "abort" else "abort_on")
    asked = [rule for rule in ("files", "nonempty", "log_has", "log_lacks", "check") if rules[rule]]
    held = f", and its rules held ({', '.join(asked)})" if asked else ""
    return Ending(RunState.SUCCEEDED, f"it ended with exit code {run.exit_code}{held}")


# ---- the record


class Look:
    """One look at a run in a batch job; the controller is asked only where the run's own words do not tell.

    `silent_since` is when something new was seen last (of the run or of its job).
    """

    def __init__(self, run_dir: str | os.PathLike[str], data: dict[str, Any], *, slurm: Slurm | None = None) -> None:
        self.run_dir = os.fspath(run_dir)
        self.data = data
        facts = data["slurm"]
        self.directory = str(facts["batch"])
        self.token = str(facts["token"])
        self.task_number = int(facts.get("task") or 0)
        self.slurm = slurm or Slurm()
        self._job: dict[str, Any] | None = None

    @property
    def job(self) -> dict[str, Any]:
        """The job as it was planned (`keeping.wire_job`), kept beside its script."""
        if self._job is None:
            self._job = json.loads(Path(self.directory, JOB_FILE).read_text(encoding="utf-8"))
        return self._job

    @property
    def cancelled(self) -> str | None:
        """Why we cancelled it."""
        try:
            return Path(self.directory, CANCELLED_FILE).read_text(encoding="utf-8").strip() or "it was cancelled"
        except OSError:
            return None

    def task(self) -> TaskStatus:
        """What the shim has told."""
        return read_task(task_path(self.directory, self.task_number), self.token)

    def entry(self) -> QueueEntry | None:
        """What the controller knows of the job; None if nothing any more."""
        job_id = self.data["slurm"].get("job_id")
        mark = f"{COMMENT_PREFIX}{self.token}"
        found = self.slurm.find(mark) if job_id is None else self.slurm.queue([int(job_id)])
        return found[0] if found else None

    # ---- from what is seen to the record as it should be

    def told(self, task: TaskStatus, entry: QueueEntry | None = None) -> dict[str, Any] | None:
        """The record after what the run itself has told; None where it has not told its end."""
        last = task.last(0)
        if last is None or last.why is None or not last.is_last or last.why == "restart":
            return None
        if last.why.startswith("signal:") and entry is not None and entry.state in PENDING and self.cancelled is None:
            return None  # Slurm has put it back into the queue
        outcome = outcome_of(self.job, last, task, cancelled=self.cancelled, entry=entry)
        return self._final(outcome, task, last)

    def untold(self, task: TaskStatus, entry: QueueEntry | None, silent_s: float) -> dict[str, Any] | None:
        """The record of a run that will not tell its end; None while it may."""
        job_id = self.data["slurm"].get("job_id") or task.job_id
        ending = end_of_task(task, entry, job_id=job_id, silent_s=silent_s, cancelled=self.cancelled)
        if ending is None and task.failure is not None and (entry is None or entry.state not in PENDING):
            ending = Ending(RunState.FAILED, why_not_ready(task))
        if ending is None:
            return None
        if task.job_id is None and not revoke(self.directory, self.task_number, self.token):
            return None  # it has begun while we looked
        run = task.last(0) or RunStatus(number=0, attempt=0)
        job = self.job
        logs = {n: log_of(job[n], run.attempt) for n in ("stdout", "stderr") if job[n] is not None and run.attempt}
        outcome = Outcome(
            state=ending.state,
            reason=ending.reason,
            started_at=store.utc(run.began_at) if run.began_at is not None else None,
            ended_at=None if ending.state is RunState.LOST else store.utc(task.seen_at),
            peak_memory_bytes=run.peak_memory_bytes,
            memory_measured_by="sampled before it was ended (/proc)" if run.peak_memory_bytes else None,
            logs=logs,
        )
        return self._final(outcome, task, run)

    def open(self, task: TaskStatus, entry: QueueEntry | None) -> dict[str, Any]:
        """The record of a run that waits or goes on."""
        data = {**self.data, "slurm": self._facts(task)}
        run = task.last(0)
        if entry is not None and data["slurm"].get("job_id") is None:
            data["slurm"]["job_id"] = entry.array_id
        if run is not None and run.began_at is not None:
            logs = {n: log_of(self.job[n], run.attempt) for n in ("stdout", "stderr") if self.job[n] is not None}
            started = store.utc(run.began_at)
            return {**data, "state": RunState.RUNNING.value, "reason": "", "started_at": started, "logs": logs}
        return {**data, "state": RunState.WAITING.value, "reason": why_it_waits(entry, task)}

    def _facts(self, task: TaskStatus) -> dict[str, Any]:
        facts = dict(self.data["slurm"])
        seen = {
            "job_id": facts.get("job_id") or task.job_id,
            "host": task.host,
            "cpus": task.cpus,
            "nodes": task.nodes,
            "cpu_model": task.cpu_model,
            "began_at": store.utc(task.started_at) if task.started_at else None,
            "restarts": task.restart or None,
        }
        return facts | {name: value for name, value in seen.items() if value is not None}

    def _final(self, outcome: Outcome, task: TaskStatus, last: RunStatus) -> dict[str, Any]:
        before = list(self.data.get("attempts") or [])
        earlier = [run for run in task.runs.get(0, []) if run is not last]
        before += [outcome_of(self.job, run, task).to_dict() for run in earlier]
        ended = outcome.to_dict()
        return {
            **self.data,
            **ended,
            "slurm": self._facts(task),
            "attempts": [*before, outcome.to_dict()],
            **_queue_wait(self.data, task),
        }


def _check_log(job: Mapping[str, Any]) -> str:
    return str(job.get("check_log") or f"{job['run_dir']}/logs/check.log")


def _queue_wait(data: dict[str, Any], task: TaskStatus) -> dict[str, Any]:
    submitted = data["slurm"].get("submitted_at")
    if not submitted or task.started_at is None:
        return {}
    wait = task.started_at - datetime.fromisoformat(submitted).timestamp()
    return {"queue_seconds": round(max(0.0, wait), 2)}


def why_it_waits(entry: QueueEntry | None, task: TaskStatus) -> str:
    """What a run waits for, in a sentence."""
    if task.job_id is not None:
        return f"its job is being made ready on {task.host}"
    if entry is None:
        return "it was handed to Slurm"
    if entry.state in RUNNING:
        return f"its job has started on {entry.nodes or 'a node'}"
    if not entry.reason:
        return "it waits in the queue"
    known = next((sentence for word, sentence in _WAITS.items() if entry.reason.startswith(word)), "")
    return f"it waits in the queue ({entry.reason}{': ' + known if known else ''})"


def open_look(run_dir: str | os.PathLike[str], data: dict[str, Any], slurm: Slurm) -> Look:
    """A look at a run that has its batch for itself, or at one of many that share one (a point of a sweep)."""
    if "job" in data["slurm"]:
        from rompy_hydra.run.slurm_points import PointLook

        return PointLook(run_dir, data, slurm=slurm)
    return Look(run_dir, data, slurm=slurm)


def observe(
    run_dir: str | os.PathLike[str],
    data: dict[str, Any],
    *,
    slurm: Slurm | None = None,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """The record of a run in a batch job as the truth stands now; written where we may.

    Where the controller cannot be asked (no commands here, no answer) the record says so and what the run has told.
    """
    if RunState(data["state"]).is_final:
        return data
    look = open_look(run_dir, data, slurm or Slurm(patience_s=5))
    try:
        task = look.task()
        final = None if needs_the_controller(task) else look.told(task)
        entry: QueueEntry | None = None
        if final is None:
            try:
                entry = look.entry()
            except (SiteError, MissingToolError) as error:
                final = look.told(task)
                if final is None:
                    why = f"Slurm cannot be asked: {error}".partition("\n")[0]
                    return {**look.open(task, None), "reason": why, "unverified": True}
            else:
                task = look.task()  # what came while we asked
                final = look.told(task, entry) or look.untold(task, entry, clock() - _last_sign(look, task))
    except OSError as error:
        return {**data, "unverified": True, "reason": f"{error.filename}: {error.strerror}"}
    if final is not None:
        return settle(look, final)[0]
    return write_open(look, look.open(task, entry))


def needs_the_controller(task: TaskStatus) -> bool:
    """Whether Slurm may know better why a run that has told its end was ended: a signal from outside, SIGKILL."""
    last = task.last(0)
    if last is None or last.why is None:
        return True
    if last.why.startswith("signal:"):
        return end_by_words(task.words) is None
    return last.why == "exit" and (last.signal == signals.SIGKILL or last.exit_code == 128 + signals.SIGKILL)


def _last_sign(look: Look, task: TaskStatus) -> float:
    """When something of it was seen last: what it told, its submission, or that it was cancelled."""
    signs = [task.seen_at or 0.0]
    if submitted := look.data["slurm"].get("submitted_at"):
        signs.append(datetime.fromisoformat(submitted).timestamp())
    return max(signs)


def write_open(look: Look, data: dict[str, Any]) -> dict[str, Any]:
    """Bring an open record up to date on disk, if anything has changed and we may."""
    if all(look.data.get(name) == data.get(name) for name in ("state", "reason", "started_at", "slurm")):
        return data
    try:
        with store.marker(look.run_dir):
            now = store.load_record(look.run_dir)
            if now.get("job_token") != look.data.get("job_token") or RunState(now["state"]).is_final:
                return now
            store.replace_record(look.run_dir, data, durable=False)
    except (OSError, ValueError):
        return data  # we may not write, or somebody else does: the view is the same
    look.data = data
    return data


def settle(look: Look, data: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Write the end of a run with its outputs, once; the record, and why it could not be written."""
    job = look.job
    own = [*(data.get("logs") or {}).values(), _check_log(job)]
    try:
        with store.marker(look.run_dir, patience_s=5.0):
            now = store.load_record(look.run_dir)
            if now.get("job_token") != look.data.get("job_token") or RunState(now["state"]).is_final:
                return now, None
            if job.get("clean_failed") and data["state"] != RunState.SUCCEEDED.value:
                gone = remove_outputs(look.run_dir, generated=job["generated"], own=own)
                note = f"its outputs were removed ({gone['files']} files, {gone['bytes']} bytes): on_failure"
                data = {**data, "notes": [*data.get("notes", []), note]}
                data["attempts"][-1]["notes"] = data["notes"]
            outputs = list_outputs(
                look.run_dir, generated=job["generated"], own=own, sha256_max_bytes=job["sha256_max_bytes"]
            )
            hash_outputs(outputs, look.run_dir)
            data = {**data, **outputs.to_record()}
            # of a point the status file of its task tells the same, and there are thousands of points
            store.replace_record(look.run_dir, data, durable="sweep" not in data)
    except (OSError, ValueError) as error:
        return data, f"{look.run_dir}/{store.RECORD_NAME}: {getattr(error, 'strerror', None) or error}"
    return data, None


def end_facts(slurm: Slurm, job_id: int) -> JobEnd | None:
    """What the controller still remembers of a job that has ended."""
    found = slurm.job(job_id)
    return found[0] if found else None

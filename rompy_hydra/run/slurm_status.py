"""What a shim has told of its task, read back: the runs that began and how they ended, and what Slurm itself has said.

    task.K  →  read_task  →  TaskStatus (runs: number → RunStatus for each attempt)

The file has one writer, a torn last line is passed over, and lines that do not carry the batch's own token are what
somebody else printed: Slurm, a module, a set-up line.  Also the claim, by which one job alone has a task.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REVOKED = "revoked"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_WORDS_MAX = 20_000
_SHOWN_MAX = 5


@dataclass(slots=True, kw_only=True)
class RunStatus:
    """One attempt of a run; times are seconds of the epoch.  `why` is None while it goes on.

    `why`: `ok` (every rule held), `unchecked` (but for those that the shim cannot check), `exit`, `timeout`, `abort:I`,
    `files`, `nonempty`, `log_has`, `log_lacks`, `check:CODE`, `cd`, `log`, `signal:NAME`, `time`, `skipped`, `restart`.
    An attempt 0 never began.
    """

    number: int
    attempt: int
    began_at: float | None = None
    ended_at: float | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int | None = None
    why: str | None = None
    is_last: bool = True
    left_processes: bool = False


@dataclass(slots=True, kw_only=True)
class TaskStatus:
    """A task of a batch: who has it, its runs, whether it is done.  All is empty while nothing has been told.

    `failure` is why the node could not be made ready (`setup:2`, `module:NAME`, `secret:NAME`, `exit`); `words` are the
    lines that others have printed, Slurm's among them.  `seen_at` is the time of the last sign of life.
    """

    job_id: int | None = None
    array_id: int | None = None
    restart: int = 0
    host: str | None = None
    cpus: int | None = None
    nodes: int | None = None
    cpu_model: str | None = None
    started_at: float | None = None
    seen_at: float | None = None
    is_ready: bool = False
    is_done: bool = False
    failure: str | None = None
    runs: dict[int, list[RunStatus]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def last(self, number: int) -> RunStatus | None:
        """The last attempt of a run, None if it has not begun."""
        found = self.runs.get(number)
        return found[-1] if found else None


def read_task(path: str | os.PathLike[str], token: str) -> TaskStatus:
    """Everything that a task's file tells; empty where there is none yet."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - opened anew each time: over NFS only that asks the server
            data = file.read()
    except FileNotFoundError:
        return TaskStatus()
    return parse_task(data.decode("utf-8", "replace"), token)


def parse_task(text: str, token: str) -> TaskStatus:
    """The text of a task's file."""
    status = TaskStatus()
    mark = f"@{token} "
    lines = text.split("\n")
    lines.pop()  # what follows the last line end: nothing, or a line that is being written
    kept = 0
    for line in lines:
        if line.startswith(mark):
            _take(status, line[len(mark) :])
        elif line.strip() and kept < _WORDS_MAX:
            kept += len(line)
            status.words.append(line)
    return status


def _take(status: TaskStatus, line: str) -> None:
    kind, _, rest = line.partition(" ")
    if kind == "cpu":
        status.cpu_model = rest.strip() or None
        return
    words = rest.split()
    facts = {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    first = words[0] if words else ""
    if (at := _decimal(facts.get("at"))) is not None:
        status.seen_at = at
    if kind == "task":
        _take_task(status, facts, at)
    elif kind == "ready":
        status.is_ready = True
    elif kind == "fail":
        status.failure = first
    elif kind == "done":
        status.is_done = True
    elif first.isdigit():
        _take_run(status, kind, int(first), facts, at)


def _take_task(status: TaskStatus, facts: Mapping[str, str], at: float | None) -> None:
    """A job has taken the task, or the same job has started again: what it had not finished is cut off."""
    status.job_id = _whole(facts.get("job"))
    status.array_id = _whole(facts.get("array")) or status.job_id
    status.restart = _whole(facts.get("restart")) or 0
    status.host = facts.get("host")
    status.cpus = _whole(facts.get("cpus"))
    status.nodes = _whole(facts.get("nodes"))
    status.started_at = at
    status.failure = None
    status.is_ready = status.is_done = False
    status.words = []  # what was said of an earlier start says nothing of this one
    for attempts in status.runs.values():
        if attempts[-1].why is None or (status.restart and attempts[-1].why.startswith("signal:")):
            attempts[-1].why, attempts[-1].is_last = "restart", False


def _take_run(status: TaskStatus, kind: str, number: int, facts: Mapping[str, str], at: float | None) -> None:
    attempts = status.runs.setdefault(number, [])
    if kind == "begin":
        attempts.append(RunStatus(number=number, attempt=_whole(facts.get("attempt")) or 1, began_at=at))
        return
    if kind == "end" and (not attempts or attempts[-1].why is not None):
        attempts.append(RunStatus(number=number, attempt=0))  # it was never begun
    if not attempts:
        return
    run = attempts[-1]
    if kind == "mem":
        run.peak_memory_bytes = max(run.peak_memory_bytes or 0, (_whole(facts.get("pages")) or 0) * _PAGE_BYTES)
    elif kind == "left":
        run.left_processes = True
    elif kind == "end":
        run.ended_at = at
        run.wall_s = _decimal(facts.get("wall"))
        run.cpu_s = _decimal(facts.get("cpu"))
        run.exit_code = _whole(facts.get("exit"))
        run.signal = _whole(facts.get("signal"))
        run.why = facts.get("why") or "exit"
        run.is_last = facts.get("last") != "0"


# ---- the claim


def claim_path(directory: str | os.PathLike[str], task: int) -> Path:
    """The link that says whose a task is."""
    return Path(directory) / f"claim.{task}"


def task_path(directory: str | os.PathLike[str], task: int) -> Path:
    """The file that a task tells into."""
    return Path(directory) / f"task.{task}"


def revoke(directory: str | os.PathLike[str], task: int, token: str) -> bool:
    """Make sure that no job can begin a task any more.  False: it has begun, or it is done."""
    claim = claim_path(directory, task)
    try:
        claim.symlink_to(f"{REVOKED}.0")
    except FileExistsError:
        return is_revoked(directory, task)
    if read_task(task_path(directory, task), token).job_id is not None:
        claim.unlink()  # it has run already, and had given its claim back
        return False
    return True


def is_revoked(directory: str | os.PathLike[str], task: int) -> bool:
    """Whether a task was taken back before any job could begin it."""
    try:
        return str(claim_path(directory, task).readlink()).startswith(REVOKED)
    except OSError:
        return False


def telling(words: list[str]) -> str:
    """What others have printed, shortened for a sentence: Slurm's errors first."""
    errors = [line for line in words if "error" in line.lower()]
    return "; ".join(line.strip() for line in (errors or words)[-_SHOWN_MAX:])[:500]


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d+", text) else None


def _decimal(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d+\.\d+", text) else None

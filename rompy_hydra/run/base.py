"""The contract of the executors: a `Job` goes in, an `Outcome` comes out.  Stdlib only.

    plan + workspace  →  Job  →  Executor.start  →  RunningJob.wait  →  Outcome

Every executor (`local`, `docker`, `slurm`, the adapter for seed-style plug-ins) has this shape and passes the same
contract suite (`tests/run/contract.py`).  An executor knows nothing of Hydra, templates or other executors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rompy_hydra.record.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRules:
    """What a model calls success; an empty rule asks nothing.  Exit code 0 is not success by itself.

    `files` and `nonempty` are glob patterns below the run directory (each must match at least one file; for `nonempty`
    every match must hold at least one byte).  `log_has` / `log_lacks` are regular expressions searched line by line in
    stdout and stderr.  `check` is a command run in the run directory after all other rules held; its exit code
    must be 0, its last output line is quoted in the reason.
    """

    exit_codes: tuple[int, ...] = (0,)
    files: tuple[str, ...] = ()
    nonempty: tuple[str, ...] = ()
    log_has: tuple[str, ...] = ()
    log_lacks: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    check_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt of one run, in the terms of an operating system.

    `argv` is executed as it is (a shell command arrives as `/bin/sh -c TEXT`).  `environment` is the whole
    environment of the child.  `stdout` and `stderr` are the log files (absolute; None = our own terminal).
    All limits are plain seconds and bytes; None = no limit by us.  `target` replaces `argv` for a Python
    object that must run in a child process of its own: it is called there, an exception or `False` is a failure.
    `generated` maps workspace-relative paths that existed before the start to (bytes, mtime_ns), so that
    only what the run itself made or changed is listed as its outputs.  `record_start=False` is for thousands of short
    runs with a journal of their own: `run.json` is written once, at the end, without fsync.  `check_log` is where the
    output of `success.check` goes (None: `logs/check.log` of the run directory); without any output there is none.
    With `clean_failed` the files that a run made are deleted if it does not succeed (its logs and record stay).
    `settings` is what only the executor of its backend reads (Docker: `ContainerSettings`).
    """

    run_id: str
    run_dir: str
    directory: str
    argv: tuple[str, ...] = ()
    target: Callable[[], object] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stdout: str | None = None
    stderr: str | None = None
    timeout_s: float | None = None
    memory_bytes: int | None = None
    cpu_affinity: tuple[int, ...] | None = None
    grace_s: float = 10.0
    abort_on: tuple[str, ...] = ()
    success: SuccessRules = SuccessRules()
    generated: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sha256_max_bytes: int = 256 * 1024 * 1024
    record_start: bool = True
    check_log: str | None = None
    clean_failed: bool = False
    settings: Any = None


class RunningJob(Protocol):
    """A handle on a job that was started."""

    record_error: str | None
    """Why the end could not be written to the record (a full disk), once the job has ended; None: it was."""

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the end; None when `timeout_s` passed first.  Safe to call again."""
        ...

    def cancel(self, reason: str) -> None:
        """Ask for the end of the whole tree (TERM, grace, KILL); `wait` then answers `cancelled`."""
        ...


class Executor(Protocol):
    """Starts jobs; knows only its own backend."""

    def start(self, job: Job, record: dict[str, Any]) -> RunningJob:
        """Start `job`.  `record` is the run's record so far: from here on the executor's keeper owns `run.json`
        until the job's end and writes it there (`running` with who watches, then the outcome and the outputs).
        """
        ...

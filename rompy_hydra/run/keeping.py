"""The driver's side of keepers: the pool that hands jobs to them, and the handle on a job in their hands.

    Executor.submit  →  KeeperProcess (a pipe to it, a pipe from it)  →  KeptRun.wait  →  Outcome

What every executor that works through keepers shares; `local` and `docker` say what a job of theirs looks like on the
wire and which program their keeper is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from rompy_hydra.errors import ConfigError, ExecutionError, MissingToolError, RompyHydraError, SiteError
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import load_record, mark_lost, utc, write_record
from rompy_hydra.run import keeper as keeper_program
from rompy_hydra.run.base import Job, SuccessRules
from rompy_hydra.run.follow import LogTail
from rompy_hydra.run.processes import end_marked
from rompy_hydra.run.success import describe_signal

OutputSink = Callable[[str, bytes], None]

FAREWELL_S = 5.0
_STREAM_INTERVAL_S = 0.05
_STREAM_BYTES = 1 << 20
_KEEPERS_OF_A_RUN = 3  # how often the keeper of one run is replaced
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # those whose handlers raise, as a rule
PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
# Appended, not inserted: a file of site-packages must not stand in for a module of the standard library.
KEEPER_CODE = (
    "import sys; sys.path.append(sys.argv[1]); from rompy_hydra.run.keeper import main; "
    "main(has_terminal=sys.argv[2] == 'terminal')"
)


# The driver's ends of all keepers' pipes: a forked keeper must not hold them, or the others would miss our death.
_driver_fds: set[int] = set()
_unburied: list[int] = []


class KeeperExecutor:
    """An executor whose jobs are in the hands of keepers; keepers are reused, one job at a time each.

    `stream_output` copies what the runs print to our own stdout and stderr while we wait for them; `on_output(name,
    chunk)` gets it instead (`name`: stdout or stderr).  Closing detaches: a run that still goes on goes on.
    """

    def __init__(self, *, stream_output: bool = False, on_output: OutputSink | None = None) -> None:
        self.sink = on_output or (to_our_own_output if stream_output else None)
        self._idle: list[KeeperProcess] = []
        self._is_closed = False
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)  # an executor that nobody closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what each backend says

    def wire(self, job: Job) -> dict[str, Any]:
        """The job as its keeper reads it; refuses what cannot be started, before anything is written or started."""
        raise NotImplementedError

    def new_keeper(self) -> KeeperProcess:
        """A keeper of this backend."""
        return KeeperProcess.start()

    def hand_over(self, job: Job, message: dict[str, Any], keeper: KeeperProcess | None) -> KeeperProcess:  # noqa: ARG002
        """Give the job to a keeper, `keeper` if there is one."""
        keeper = keeper or self.take()
        send_or_stop(keeper, message)
        return keeper

    outlives_its_keeper = False
    """Whether what runs goes on without its keeper, so that `take_up` is worth asking."""

    def take_up(self, run_dir: str, record: dict[str, Any]) -> KeeperProcess | None:  # noqa: ARG002
        """The keeper of a run has died: another one that watches what goes on; None: nothing does."""
        return None

    # ---- what all share

    def warm(self, count: int = 1) -> None:
        """Have `count` keepers ready, so that their start overlaps with other work."""
        with self._lock:
            missing = count - len(self._idle)
        for _ in range(missing):
            self._give_back(self.new_keeper())

    def start(self, job: Job, record: dict[str, Any]) -> KeptRun:
        """Start `job` and return when its process runs.

        ConfigError, MissingToolError: the job asks for what cannot be started here (nothing was).  SiteError: a log or
        the record cannot be written, or no process can be made.
        """
        run = self.submit(job, record, tell_start=True)
        try:
            run.wait_started()
        except RompyHydraError:
            raise
        except BaseException:
            # Whoever interrupts us gets no handle, so nobody could end what may have started.
            run.cancel("interrupted while it was started")
            run.wait(job.grace_s + FAREWELL_S)
            raise
        return run

    def take(self) -> KeeperProcess:
        """A keeper that has nothing to do; it belongs to whoever takes it, until `submit` or `give_back` get it."""
        return self._take()

    def give_back(self, keeper: KeeperProcess) -> None:
        """The end of `take`, if nothing was submitted to it."""
        self._give_back(keeper)

    def submit(
        self,
        job: Job,
        record: dict[str, Any],
        *,
        tell_start: bool = False,
        token: str | None = None,
        keeper: KeeperProcess | None = None,
    ) -> KeptRun:
        """`start` without waiting for the process: a start that fails is raised by `wait`.

        With `tell_start` the handle learns its `process` when it starts, else (cheaper, for thousands) not at all.
        `token` (new for each attempt) and `keeper` (from `take`) are for whoever must write them down before anything
        is handed over; where `submit` raises, the keeper is taken back or let go.
        """
        try:
            wire = self.wire(job)
        except RompyHydraError:
            if keeper is not None:
                self._give_back(keeper)
            raise
        token = token or os.urandom(8).hex()
        record = {
            **record,
            "job_token": token,
            "state": RunState.QUEUED.value,
            "reason": "",
            "watcher": {"role": "driver", **_our_identity(os.getpid())},
        }
        if wire["record_start"]:
            write_record(job.run_dir, record, durable=False)  # the keeper's first write follows in a moment
        message = {
            "do": "run",
            "token": token,
            "job": wire,
            "record": record,
            "tell_start": tell_start,
        }
        try:
            keeper = self.hand_over(job, message, keeper)
        except OSError as error:
            _record_failed_start(job, record, f"no keeper could be started: {error.strerror or error}")
            raise ExecutionError(
                f"run {job.run_id} cannot be started: no keeper process could be made: {error.strerror or error}"
            ) from error
        return KeptRun(job, record, keeper, self)

    def close(self) -> None:
        """Let go of the keepers: idle ones end now, busy ones when their job has ended and is recorded."""
        with self._lock:
            self._is_closed = True
        _close_all(self._idle)

    def _take(self) -> KeeperProcess:
        while True:
            with self._lock:
                keeper = self._idle.pop() if self._idle else None
            if keeper is None:
                return self.new_keeper()
            if keeper.is_well():
                return keeper
            keeper.close()
            keeper.bury(FAREWELL_S)

    def _give_back(self, keeper: KeeperProcess) -> None:
        with self._lock:
            is_kept = keeper.is_reusable and not self._is_closed
            if is_kept:
                self._idle.append(keeper)
        if not is_kept:
            keeper.close()
            keeper.bury(FAREWELL_S)


def send_or_stop(keeper: KeeperProcess, message: dict[str, Any]) -> None:
    """Send; whoever interrupts us gets no handle, so the keeper is told to end what it may have got."""
    try:
        keeper.send(message)
    except KeyboardInterrupt:
        keeper.stop()  # it may have got the whole line, and nobody else could end what it starts
        raise
    except OSError as error:
        raise OSError(error.errno, f"it {keeper.bury(FAREWELL_S)}") from error


def _close_all(keepers: list[KeeperProcess]) -> None:
    leaving = [keepers.pop() for _ in range(len(keepers))]
    for keeper in leaving:
        keeper.close()
    for keeper in leaving:
        keeper.bury(FAREWELL_S)


def wait_any(runs: Sequence[KeptRun], timeout_s: float | None = None) -> list[KeptRun]:
    """The runs that have ended (or could not be started), waiting until there is at least one or the time is over."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    poll = select.poll()
    by_fd = {run.fileno(): run for run in runs if not run.is_over}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    while True:
        over = [run for run in runs if run.is_over]
        if over or not by_fd or (deadline is not None and time.monotonic() >= deadline):
            return over
        for fd, _ in poll.poll(_poll_ms(deadline)):
            by_fd[fd].take_news()


class KeptRun:
    """A handle on a job that was handed to a keeper; `wait` from one thread at a time, `cancel` from any."""

    def __init__(
        self,
        job: Job,
        record: dict[str, Any],
        keeper: KeeperProcess,
        executor: KeeperExecutor,
    ) -> None:
        self.job = job
        self.process: ProcessIdentity | None = None
        self.record_error: str | None = None
        self._record = record
        self._keeper = keeper
        self._executor = executor
        self._keepers_left = _KEEPERS_OF_A_RUN if executor.outlives_its_keeper else 0
        self._own_fd = keeper.copy_events_fd() if executor.outlives_its_keeper else -1
        if self._own_fd >= 0:
            self._dropped = weakref.finalize(self, _close_own_fd, self._own_fd)  # a handle that nobody waits for
        self._is_started = False
        self._is_done_with_keeper = False
        self._outcome: Outcome | None = None
        self._refusal: RompyHydraError | None = None
        logs = {name: path for name, path in (("stdout", job.stdout), ("stderr", job.stderr)) if path}
        self._sink = sink = executor.sink
        if logs.get("stderr") == logs.get("stdout"):
            logs.pop("stderr", None)  # one file for both
        self._tails = {name: LogTail(path) for name, path in logs.items()} if sink else {}

    @property
    def keeper(self) -> ProcessIdentity:
        """Who watches it."""
        return self._keeper.identity

    @property
    def is_over(self) -> bool:
        """Whether `wait` would answer at once."""
        return self._outcome is not None or self._refusal is not None

    def fileno(self) -> int:
        """Something to select on: readable when there is news (`take_news`); one number for the whole run."""
        return self._own_fd if self._own_fd >= 0 else self._keeper.events_fd

    def wait_started(self) -> None:
        """Wait until its process runs; raises what kept it from starting."""
        while not self._is_started and not self.is_over:
            self.take_news(timeout_s=None)
        if self._refusal is not None:
            raise self._refusal
        if not self._is_started and self._outcome is not None and self._outcome.state is RunState.LOST:
            raise ExecutionError(f"run {self.job.run_id} could not be started: {self._outcome.reason}")

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the end; None when `timeout_s` passed first.  Safe to call again, also after an interruption.

        Raises what kept the job from starting, for one that was submitted without `wait_started`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_over:
            left_s = None if deadline is None else deadline - time.monotonic()
            if self._tails:
                self._pass_output_on()
                left_s = _STREAM_INTERVAL_S if left_s is None else min(left_s, _STREAM_INTERVAL_S)
            self.take_news(left_s)
            if deadline is not None and time.monotonic() >= deadline:
                break
        if self._refusal is not None:
            raise self._refusal
        if self._outcome is not None:
            while self._pass_output_on():
                pass
        return self._outcome

    def cancel(self, reason: str, *, grace_s: float | None = None) -> None:
        """Ask for the end of the whole tree (TERM, grace, KILL); a second time: without further grace."""
        if not self.is_over:
            message = {"do": "cancel", "token": self._record["job_token"], "reason": reason, "grace_s": grace_s}
            with contextlib.suppress(OSError):  # the keeper is gone: `wait` finds out and tells
                self._keeper.send(message)

    def take_news(self, timeout_s: float | None = 0) -> None:
        """Take in what the keeper says, waiting for it at most `timeout_s` (None: as long as it takes)."""
        is_alive = self._keeper.receive(timeout_s)
        while self._keeper.events:
            self._apply(self._keeper.events[0])
            self._keeper.events.popleft()  # only now: an interruption in between repeats a step, it loses none
        if not is_alive and not self.is_over:
            self._mourn()
        if self.is_over and not self._is_done_with_keeper:
            self._is_done_with_keeper = True
            self._drop_own_fd()
            self._executor.give_back(self._keeper)

    def _apply(self, event: dict[str, Any]) -> None:
        if event["token"] != self._record["job_token"]:
            return
        if event["event"] == "started":
            self._is_started = True
            self.process = ProcessIdentity.from_dict(event["process"]) if event["process"] else None
        elif event["event"] == "refused":
            self._refusal = self._why_refused(event)
        else:
            self._is_started = True
            self._keeper.is_reusable = self._keeper.is_reusable and not event["leaving"]
            self.record_error = event["record_error"]
            self._outcome = Outcome.from_dict(event["outcome"])

    def _why_refused(self, event: dict[str, Any]) -> RompyHydraError:
        if not event["was_recorded"]:
            _record_failed_start(self.job, self._record, event["message"])
        kind = {
            "exec": MissingToolError if event["errno"] == 2 else ConfigError,
            "directory": ConfigError,
            "affinity": ConfigError,
            "tool": MissingToolError,
            "log": SiteError,
            "record": SiteError,
        }.get(event["kind"], ExecutionError)
        why = kind(f"run {self.job.run_id} cannot be started: {event['message']}")
        if event["errno"] is not None:
            why.__cause__ = OSError(event["errno"], os.strerror(event["errno"]))
        return why

    def _mourn(self) -> None:
        """The keeper died before it told the end: end what is left, and let the record say what is known."""
        token = self._record["job_token"]
        how = self._keeper.bury(FAREWELL_S)
        try:
            found = load_record(self.job.run_dir)
        except (OSError, ValueError):
            found = self._record
        if found.get("job_token") == token and RunState(found["state"]).is_final:
            self._outcome = Outcome.from_dict(found)
            return
        if self._keepers_left and found.get("state") == RunState.RUNNING.value:
            self._keepers_left -= 1
            successor = self._executor.take_up(self.job.run_dir, found)
            if successor is not None:
                self._keeper = successor
                successor.copy_events_fd(self._own_fd)
                return
        left = end_marked(token, self.process)
        reason = f"its keeper (process {self._keeper.pid}) {how}, so no exit status is known"
        if left:
            reason += f"; still running: process {', '.join(map(str, left))}"
        record = mark_lost(self.job.run_dir, {**self._record, **found}, reason)
        self._outcome = Outcome.from_dict({**record, "state": RunState.LOST, "reason": reason})

    def _drop_own_fd(self) -> None:
        if self._own_fd >= 0:
            self._dropped()
            self._own_fd = -1

    def _pass_output_on(self) -> bool:
        """Copy some of what was printed; True when there may be more."""
        more = False
        for name, tail in list(self._tails.items()):
            chunk = tail.read(_STREAM_BYTES)
            if chunk and self._sink is not None:
                more = True
                try:
                    self._sink(name, chunk)
                except BrokenPipeError:
                    self._tails = {}  # nobody listens any more; the logs are kept all the same
                    return False
        return more


class KeeperProcess:
    """Our side of one keeper: a pid and the ends of its pipes."""

    def __init__(self, pid: int, control_fd: int, events_fd: int, errors_fd: int, *, is_reusable: bool) -> None:
        self.pid = pid
        self.identity = ProcessIdentity.of(pid)
        self.events_fd = events_fd
        self.events: deque[dict[str, Any]] = deque()
        self.is_reusable = is_reusable
        self._control_fd = control_fd
        self._errors_fd = errors_fd
        self._received = bytearray()
        self._is_closed = False
        self._end: str | None = None
        self._lock = threading.Lock()
        _driver_fds.update((control_fd, events_fd))
        os.set_blocking(events_fd, False)
        # A handle that nobody waits for: its keeper is let go, and its exit status taken some time later.
        self._abandoned = weakref.finalize(self, _abandon, pid, control_fd, events_fd, errors_fd)

    @classmethod
    def start(cls, *, has_terminal: bool = False, code: str | None = None, words: Sequence[str] = ()) -> KeeperProcess:
        """A keeper as a program of its own; with `has_terminal` it holds our stdout and stderr for one job.

        `code` and `words` are another program than `run.keeper` and its arguments.
        """
        if not sys.executable:
            raise MissingToolError("the Python interpreter does not know its own path (sys.executable is empty)")
        control_r, control_w, events_r, events_w, errors = _pipes()
        actions = [(control_r, 0), (events_w, 1), (errors, 2)]
        if has_terminal:
            _flush_our_output()
            actions = [(1, 3), (2, 4), *actions]  # first: 1 and 2 are written over below
        utf8 = ["-X", "utf8"] if sys.getfilesystemencoding() == "utf-8" else []
        role = "terminal" if has_terminal else "keeper"
        argv = [sys.executable, "-I", "-S", *utf8, "-c", code or KEEPER_CODE, PACKAGE_PARENT, role, *words]
        try:
            pid = _spawn_program(argv, actions)
        except OSError:
            os.close(control_w)
            os.close(events_r)
            os.close(errors)
            raise
        finally:
            os.close(control_r)
            os.close(events_w)
        return cls(pid, control_w, events_r, errors, is_reusable=not has_terminal)

    @classmethod
    def fork(cls, message: dict[str, Any], target: Callable[[], object]) -> KeeperProcess:
        """A keeper forked from us, because a Python callable cannot be handed to another program."""
        control_r, control_w, events_r, events_w, errors = _pipes()
        _flush_our_output()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads; the child takes no lock of theirs and execs nothing of ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for fd in (control_w, events_r, *_driver_fds):
                    with contextlib.suppress(OSError):  # another thread has just closed it
                        os.close(fd)
                keeper_program.main_forked(control_r, events_w, message, target)
                code = 0
            except BaseException:  # noqa: BLE001 - this is the bottom of a process: above lies the driver's stack
                with contextlib.suppress(OSError):
                    os.write(errors, traceback.format_exc().encode(errors="replace"))
            finally:
                os._exit(code)
        os.close(control_r)
        os.close(events_w)
        return cls(pid, control_w, events_r, errors, is_reusable=False)

    def copy_events_fd(self, onto: int | None = None) -> int:
        """A descriptor that is readable when this keeper has news, and that outlives it; `onto` is made that one."""
        if onto is not None:
            return os.dup2(self.events_fd, onto, inheritable=False)
        copy = os.dup(self.events_fd)
        _driver_fds.add(copy)
        return copy

    def is_well(self) -> bool:
        """Whether an idle keeper is still there."""
        return not self._is_closed and self.receive(0)

    def send(self, message: dict[str, Any]) -> None:
        """One line to the keeper, whole or not at all: half a line starts nothing, so on failure the pipe is closed."""
        line = memoryview(json.dumps(message).encode() + b"\n")
        with self._lock:
            if self._is_closed:
                raise BrokenPipeError("the keeper was let go")
            try:
                with _uninterrupted():
                    while line:
                        line = line[os.write(self._control_fd, line) :]
            except OSError:
                self._close()
                raise

    def receive(self, timeout_s: float | None) -> bool:
        """Append what it says to `events`, waiting at most `timeout_s`; False when it is gone and will say no more."""
        if self._is_closed:
            return False
        poll = select.poll()
        poll.register(self.events_fd, select.POLLIN)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not poll.poll(_poll_ms(deadline)):
            return True
        # Bytes that were read must not be lost to a KeyboardInterrupt between two bytecodes.
        with _uninterrupted():
            try:
                part = os.read(self.events_fd, 1 << 16)
            except BlockingIOError:
                return True
            self._received += part
            if b"\n" in part:
                *lines, rest = bytes(self._received).split(b"\n")
                self._received = bytearray(rest)
                self.events.extend(map(json.loads, lines))
        return bool(part)

    def stop(self) -> None:
        """Have it cancel what it runs, and end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Let it go: it ends when its job has ended and is recorded."""
        with self._lock:
            self._close()

    def bury(self, patience_s: float) -> str:
        """Take its exit status when it ends within `patience_s`; how it ended, for a sentence."""
        if self._end is None:
            deadline = time.monotonic() + patience_s
            pause_s = 0.0005
            while (end := self._reap()) is None and time.monotonic() < deadline:
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.05)
            if end is None:
                return "does not answer any more"
            self._end = end + self._last_words()
            self.close()
            os.close(self._errors_fd)
            self._abandoned.detach()
        return self._end

    def _reap(self) -> str | None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return "ended"  # somebody else took its exit status
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        return f"was ended by {describe_signal(-code)}" if code < 0 else f"ended with exit code {code}"

    def _last_words(self) -> str:
        """The traceback of a keeper that failed, one line of it."""
        size = os.lseek(self._errors_fd, 0, os.SEEK_END)
        tail = os.pread(self._errors_fd, 4096, max(0, size - 4096)).decode(errors="replace").strip()
        return f" ({tail.splitlines()[-1]})" if tail else ""

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._abandoned.detach()
            self._abandoned = weakref.finalize(self, _abandon, self.pid, self._errors_fd)
            for fd in (self._control_fd, self.events_fd):
                _driver_fds.discard(fd)
                os.close(fd)


def _close_own_fd(fd: int) -> None:
    _driver_fds.discard(fd)
    os.close(fd)


def _abandon(pid: int, *fds: int) -> None:
    _unburied.append(pid)
    for fd in fds:
        _driver_fds.discard(fd)
        os.close(fd)


def _bury_abandoned() -> None:
    for pid in list(_unburied):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        _unburied.remove(pid)


def check_paths(job: Job) -> None:
    """Refuse a job whose paths are relative or whose directory is not there."""
    for path in filter(None, (job.run_dir, job.directory, job.stdout, job.stderr)):
        if not os.path.isabs(path):  # noqa: PTH117 - thousands of times a second
            raise ValueError(f"a job's paths are absolute, the keeper has another directory than we: {path}")
    if not os.path.isdir(job.directory):  # noqa: PTH112 - thousands of times a second
        raise ConfigError(f"run {job.run_id}: its directory {job.directory} is not there or is no directory")


def check_patterns(job: Job) -> None:
    """Refuse a job with a pattern that is none, or that searches output which is not kept."""
    for rule, patterns in (
        ("abort_on", job.abort_on),
        ("success.log_has", job.success.log_has),
        ("success.log_lacks", job.success.log_lacks),
    ):
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"run {job.run_id}: {rule}: {pattern!r} is no regular expression: {error}") from error
        if patterns and job.stdout is None and job.stderr is None:
            raise ConfigError(
                f"run {job.run_id}: {rule} searches the output, which is not kept (capture_output: false)"
            )


_RULES = tuple(rule.name for rule in fields(SuccessRules))


def wire_job(job: Job, executable: str) -> dict[str, Any]:
    """The job as plain data, for the pipe to its keeper."""
    return {
        "run_dir": job.run_dir,
        "directory": job.directory,
        "argv": list(job.argv),
        "executable": executable,
        "environment": dict(job.environment),
        "stdout": job.stdout,
        "stderr": job.stderr,
        "timeout_s": job.timeout_s,
        "memory_bytes": job.memory_bytes,
        "cpu_affinity": job.cpu_affinity,
        "grace_s": job.grace_s,
        "abort_on": job.abort_on,
        "success": {name: getattr(job.success, name) for name in _RULES},
        "generated": dict(job.generated),
        "sha256_max_bytes": job.sha256_max_bytes,
        "record_start": job.record_start,
        "check_log": job.check_log,
        "clean_failed": job.clean_failed,
    }


def _record_failed_start(job: Job, record: dict[str, Any], reason: str) -> None:
    record = {**record, "state": RunState.FAILED.value, "reason": reason, "ended_at": utc()}
    with contextlib.suppress(SiteError):  # the error that is about to be raised tells more
        write_record(job.run_dir, record, durable=job.record_start)


@lru_cache(maxsize=1)
def _our_identity(pid: int) -> dict[str, Any]:
    return ProcessIdentity.of(pid).to_dict()


def _pipes() -> tuple[int, int, int, int, int]:
    """Control (read, write), events (read, write), and a place for a keeper's last words.

    All above 9, so that giving them their places in the keeper cannot write over one that is still needed.
    """
    _bury_abandoned()
    pairs = [*os.pipe(), *os.pipe()]
    with tempfile.TemporaryFile() as file:
        pairs.append(file.fileno())
        control_r, control_w, events_r, events_w, errors = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in pairs)
    for fd in pairs[:4]:
        os.close(fd)
    return control_r, control_w, events_r, events_w, errors


def _spawn_program(argv: list[str], actions: list[tuple[int, int]]) -> int:
    """Start a program in a session of its own with these descriptors: (ours, its)."""
    file_actions = [(os.POSIX_SPAWN_DUP2, ours, its) for ours, its in actions]
    try:
        return os.posix_spawn(argv[0], argv, os.environb, file_actions=file_actions, setsid=True)
    except NotImplementedError:  # built against an old C library: the keeper makes its session itself
        return os.posix_spawn(argv[0], argv, os.environb, file_actions=file_actions)


def _flush_our_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, broken, or none
            stream.flush()


def to_our_own_output(name: str, chunk: bytes) -> None:
    """The sink that copies what runs print to our own stdout and stderr."""
    stream = sys.stderr if name == "stderr" else sys.stdout
    stream.buffer.write(chunk)
    stream.flush()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """No signal handler of Python runs in here; one that is pending runs at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _poll_ms(deadline: float | None) -> int | None:
    return None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))

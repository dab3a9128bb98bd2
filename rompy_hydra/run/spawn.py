"""How a job's main process comes to life.  Stdlib only.

`spawn` forks a child that prepares itself, waits at a gate, then execs or calls.  That costs 0.9 ms of processor time
more than `spawn_fast` (posix_spawn) and buys three things: the kernel kills the child when its keeper dies, the record
holds the child's identity before the first instruction of the command runs, and a Python callable takes the same way.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from rompy_hydra.run.processes import die_with_parent

_MESSAGE_MAX = 2000


def find_executable(name: str, *, directory: str, path: str | None) -> str:
    """The file that `name` means for a process in `directory` with `PATH=path`.

    FileNotFoundError, PermissionError (there, not executable) or IsADirectoryError, as exec would answer.
    """
    if not name:
        raise FileNotFoundError(errno.ENOENT, "the command is empty")
    if "/" in name:
        candidates = [os.path.join(directory, name)]
    else:
        folders = (os.defpath if path is None else path).split(os.pathsep)
        candidates = [os.path.join(directory, folder, name) for folder in folders]
    found: OSError | None = None
    for candidate in candidates:
        if os.path.isdir(candidate):
            found = found or IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), candidate)
        elif os.path.exists(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            found = found or PermissionError(errno.EACCES, os.strerror(errno.EACCES), candidate)
    raise found or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


class Launch:
    """What a child needs to know; plain data, made before the fork."""

    __slots__ = ("argv", "executable", "target", "environment", "directory", "stdio", "affinity", "private_fds")

    def __init__(
        self,
        *,
        argv: list[str],
        executable: str = "",
        target: Callable[[], object] | None = None,
        environment: Mapping[str, str],
        directory: str,
        stdio: tuple[int, int, int],
        affinity: Sequence[int] | None = None,
        private_fds: Sequence[int] = (),
    ) -> None:
        self.argv = argv
        self.executable = executable
        self.target = target
        self.environment = environment
        self.directory = directory
        self.stdio = stdio
        self.affinity = affinity
        self.private_fds = private_fds


class Child:
    """A child, perhaps still at its gate, and `status_fd`, which tells how its start went (None: it has started).

    On `status_fd` arrives one JSON line per fact: `{"stage", "errno"}` when it could not start; for a callable
    `{"began"}`, then `{"result"}`.  End of file with nothing before it: the exec succeeded.
    """

    __slots__ = ("pid", "status_fd", "_gate_fd")

    def __init__(self, pid: int, status_fd: int | None = None, gate_fd: int | None = None) -> None:
        self.pid = pid
        self.status_fd = status_fd
        self._gate_fd = gate_fd

    @property
    def fds(self) -> set[int]:
        """Our ends of its pipes."""
        return {fd for fd in (self.status_fd, self._gate_fd) if fd is not None}

    def open_gate(self) -> None:
        """Let it run."""
        if self._gate_fd is not None:
            try:
                os.write(self._gate_fd, b"\n")
            except BrokenPipeError:
                pass  # it ended before its gate: `status_fd` says why
            os.close(self._gate_fd)
            self._gate_fd = None

    def let_go(self) -> None:
        """Close our ends; a child whose gate was never opened ends without having run anything."""
        for fd in self.fds:
            os.close(fd)
        self.status_fd = self._gate_fd = None


def spawn(launch: Launch) -> Child:
    """Fork a child that gets ready and waits at its gate.  OSError when the fork itself fails."""
    status_r, status_w = os.pipe()
    gate_r, gate_w = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _live(launch, parent, status_w, gate_r, (status_r, gate_w))
    except OSError:
        os.close(status_r)
        os.close(gate_w)
        raise
    finally:
        os.close(status_w)
        os.close(gate_r)
    os.set_blocking(status_r, False)
    return Child(pid, status_r, gate_w)


def spawn_fast(launch: Launch) -> Child:
    """Start a program at once; it is not tied to our life, and needs what `spawn_fast_can` says.

    `StartError` when it cannot be started.
    """
    stdio = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(launch.stdio)]
    ours = None
    if launch.affinity is not None:
        ours = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, launch.affinity)  # the child inherits it
        except OSError as error:
            raise StartError("affinity", error.errno or errno.EINVAL) from error
    stage = "directory"
    try:
        os.chdir(launch.directory)
        stage = "exec"
        pid = os.posix_spawn(launch.executable, launch.argv, launch.environment, file_actions=stdio, setsid=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in an argument
        raise StartError(stage, getattr(error, "errno", None) or errno.EINVAL) from error
    finally:
        os.chdir("/")
        if ours is not None:
            os.sched_setaffinity(0, ours)
    return Child(pid)


def spawn_fast_can(launch: Launch) -> bool:
    """Whether `spawn_fast` will do: a program, on a C library that can setsid."""
    return launch.target is None and hasattr(os, "posix_spawn") and _can_setsid()


@lru_cache(maxsize=1)
def _can_setsid() -> bool:
    try:
        os.posix_spawn("/no/such/program", ["program"], {}, setsid=True)
    except NotImplementedError:
        return False
    except OSError:
        pass  # as it should be
    return True


class StartError(Exception):
    """A program could not be started: at which stage, and the errno."""

    def __init__(self, stage: str, number: int) -> None:
        self.stage = stage
        self.number = number
        super().__init__(f"{stage}: {os.strerror(number)}")


def _live(launch: Launch, parent: int, status_fd: int, gate_fd: int, others: tuple[int, int]) -> NoReturn:
    """The child's whole life; never returns into the parent's code.

    Short on purpose: every page that is touched between fork and exec is copied.  The keeper's signal handlers
    need no care: exec resets them.
    """
    code = 127
    stage = "start"
    try:
        os.setsid()
        die_with_parent()
        if os.getppid() != parent:
            os._exit(code)  # the keeper died before the line above could ask for it
        stdin, stdout, stderr = launch.stdio
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        if launch.affinity is not None:
            stage = "affinity"
            os.sched_setaffinity(0, launch.affinity)
        stage = "directory"
        os.chdir(launch.directory)
        for fd in others:
            os.close(fd)  # our copy of the gate's other end would keep it from ever closing
        if not os.read(gate_fd, 1):
            os._exit(code)
        if launch.target is None:
            stage = "exec"
            os.execve(launch.executable, launch.argv, launch.environment)  # noqa: S606 - what a keeper is for
        for fd in launch.private_fds:
            os.close(fd)
        code = _call(launch, status_fd)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in an argument
        _tell(status_fd, stage=stage, errno=getattr(error, "errno", None) or errno.EINVAL, message=str(error))
    finally:
        os._exit(code)


def _call(launch: Launch, status_fd: int) -> int:
    """Run the callable as a small program of its own: fresh streams, its own exit handlers, an exit code."""
    import atexit
    import threading
    import traceback

    # What the driver registered is the driver's; multiprocessing does the same in its forked children.
    atexit._clear()  # noqa: SLF001
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python itself starts: such a write raises an exception
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(launch.environment)
    _fresh_streams()
    assert launch.target is not None
    name = getattr(launch.target, "__qualname__", type(launch.target).__name__)
    _tell(status_fd, began=True)
    code = 0
    try:
        result = launch.target()
        if result is not None and not result:
            _tell(status_fd, result=f"{name} returned {result!r}")
            code = 1
    except SystemExit as leave:
        code = _exit_code(leave)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is this run's result
        traceback.print_exc()
        text = str(error)
        _tell(status_fd, result=f"{type(error).__name__}: {text}" if text else type(error).__name__)
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - joins its threads
        atexit._run_exitfuncs()  # noqa: SLF001
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # noqa: BLE001 - an exit handler of the model's: it is in the log, the result stands
        traceback.print_exc()
    return code


def _fresh_streams() -> None:
    """Streams on the redirected descriptors: the driver's may hold unwritten text or be somebody's replacement."""
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # type: ignore[misc]  # noqa: SIM115


def _exit_code(leave: SystemExit) -> int:
    if leave.code is None:
        return 0
    if isinstance(leave.code, int):
        return leave.code & 0xFF
    sys.stderr.write(f"{leave.code}\n")
    return 1


def _tell(fd: int, **facts: Any) -> None:
    for key in ("message", "result"):
        if key in facts:
            facts[key] = facts[key][:_MESSAGE_MAX]  # far below what a pipe holds: the writer never waits
    os.write(fd, json.dumps(facts).encode() + b"\n")

"""One background program: start it, know whether it still is that program, wait until it answers, end it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path

STATE_DIR = Path("/var/tmp/rompy-hydra-services")
LOG_LINES_SHOWN = 15

# What this process started, so that Python does not complain about children that are meant to outlive it.
_STARTED: list[subprocess.Popen[bytes]] = []


class ServiceError(RuntimeError):
    """A service cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class Daemon:
    """A program that is kept in the foreground of its own session, its output in a log file.

    Our pid file is trusted only while boot id, pid and start time all still match: a pid alone may be anybody's.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None

    @property
    def log(self) -> Path:
        return STATE_DIR / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return STATE_DIR / f"{self.name}.pid"

    def pid(self) -> int | None:
        """The process that we started, if it still lives."""
        try:
            boot, pid, started = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _fingerprint(int(pid)) == (boot, pid, started) else None

    def start(self) -> None:
        if self.pid() is not None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, **self.env},
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
            )
        _STARTED.append(process)
        self.pid_file.write_text(" ".join(_fingerprint(process.pid) or ("", str(process.pid), "")))

    def wait_until(self, complaint: Callable[[], str | None], *, seconds: float = 30) -> None:
        """Return when `complaint()` finds nothing to complain about; raise with the end of the log if it never does."""
        deadline = time.monotonic() + seconds
        while (reason := complaint()) is not None:
            died = self.pid() is None
            if died or time.monotonic() > deadline:
                what = "ended at once" if died else f"is not ready after {seconds:.0f} s: {reason}"
                raise ServiceError(f"{self.name} {what}\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self) -> str:
        """The last lines of the log, and where the rest is."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:] if self.log.exists() else []
        return "\n".join([f"  last lines of {self.log}:", *(f"    {line}" for line in lines or ["(empty)"])])

    def stop(self, *, grace_s: float = 20) -> bool:
        """End the process that we started (TERM, then KILL); say whether there was one."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self.pid() is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.pid() is not None:
                os.kill(pid, signal.SIGKILL)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None


def require_root(what: str) -> None:
    if os.geteuid() != 0:
        raise ServiceError(f"{what} can only be started by root; run `sudo make services`")


def require_programs(names: Sequence[str], *, package: str) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise ServiceError(f"not installed: {', '.join(missing)}; on Debian: apt-get install {package}")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let a second `start` wait for the first instead of racing it."""
    STATE_DIR.mkdir(parents=True, exist_ok=True)
    with (STATE_DIR / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield


def _fingerprint(pid: int) -> tuple[str, str, str] | None:
    """What tells a process from a later one with the same pid; None for one that is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    after_name = stat.rpartition(")")[2].split()  # the name may hold spaces and brackets
    state, started = after_name[0], after_name[19]
    return None if state in "ZX" else (boot, str(pid), started)

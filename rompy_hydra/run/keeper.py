"""The keeper: a long-lived process that runs one job after another, outlives its driver, and writes the record.

    driver ──(pipe: one JSON line per message)──▶ keeper ──fork──▶ the job's main process and all its descendants
       ◀──(pipe: one JSON line per event)──────────┘ └──▶ run.json

Messages: `{"do": "run", "token", "job", "record"}`, `{"do": "cancel", "token", "reason", "grace_s"}`.
Events: `started` (who watches, which process), `refused` (it was never started, and why), `ended` (the outcome).

The keeper has a session of its own, so neither the terminal's Ctrl-C nor its hang-up reaches it.  When the driver
is gone (end of file) it finishes the job that runs, writes the record and leaves; half a line starts nothing.  SIGTERM
or SIGINT ends the job (`cancelled`) and the keeper.  Stdlib only, and without `dataclasses`: it must start fast.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import select
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.run.attempt import Attempt
from rompy_hydra.run.process_attempt import ProcessAttempt
from rompy_hydra.run.processes import become_subreaper
from rompy_hydra.run.spawn import Child
from rompy_hydra.run.success import signal_name

_CHECK_DRIVER_S = 5.0  # how late an idle keeper may notice its driver's death if a sibling holds the pipe open


class Keeper:
    """The loop: messages in, jobs one after the other, events out."""

    def __init__(
        self,
        control_fd: int,
        events_fd: int,
        *,
        terminal: tuple[int, int] | None = None,
        attempt: Callable[..., Attempt] = ProcessAttempt,
    ) -> None:
        self._attempt = attempt
        self.identity = ProcessIdentity.of()
        self.terminal = terminal
        self.stop_signal: int | None = None
        self.driver_gone = False
        self.tainted = False
        self._signals = 0
        self._driver_pid = os.getppid()
        self._control_fd = control_fd
        self._events_fd = events_fd
        self._received = bytearray()
        self._jobs: deque[dict[str, Any]] = deque()
        self._token = ""
        self._cancel: dict[str, Any] | None = None
        self._early_cancels: dict[str, dict[str, Any]] = {}
        self._is_hurried = False
        self._readers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._wake_r, self._wake_w = os.pipe()
        self.null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in (control_fd, self._wake_r, self._wake_w):
            os.set_blocking(fd, False)
        self.listen(control_fd, self._read_control)
        self.listen(self._wake_r, self._drain_wake)
        # The wake-up pipe turns every signal, SIGCHLD above all, into something that poll() sees: nothing is missed
        # between looking and sleeping.
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        # Taken in and passed over, not SIG_IGN: a handler is reset by exec, so the children start with the defaults.
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, lambda *_: None)

    @property
    def private_fds(self) -> tuple[int, ...]:
        """Descriptors that no child may hold."""
        return (self._control_fd, self._events_fd, self._wake_r, self._wake_w, self.null_fd)

    @property
    def must_leave(self) -> bool:
        """Whether no further job may be started."""
        return self.driver_gone or self.stop_signal is not None or self.tainted

    def serve(self) -> None:
        """Run what comes until the driver is gone or a signal asks for the end."""
        while True:
            while self._jobs and not self.must_leave:
                message = self._jobs.popleft()
                self.run(message)
            if self.must_leave:
                return
            self.turn(_CHECK_DRIVER_S)

    def run(self, message: dict[str, Any], **special: Any) -> None:
        """Run one job to its end."""
        self._token = message["token"]
        self._cancel = self._early_cancels.pop(self._token, None)
        self._is_hurried = False
        self._attempt(self, message, **special).run()
        self._token = ""

    def turn(self, seconds: float) -> bool:
        """Wait for news at most that long and take it in; True when whoever waits out a grace should wait no more."""
        for fd, _ in self._poll.poll(math.ceil(max(0.0, seconds) * 1000)):
            if fd in self._readers:
                self._readers[fd]()
        if not self.driver_gone and os.getppid() != self._driver_pid:
            self._lose_driver()
        return self._is_hurried

    def listen(self, fd: int, reader: Callable[[], None]) -> None:
        """Call `reader` when `fd` has something to read."""
        self._readers[fd] = reader
        self._poll.register(fd, select.POLLIN)

    def ignore(self, fd: int) -> None:
        """The end of `listen`."""
        if self._readers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def ending_asked(self) -> tuple[str, float | None] | None:
        """Why the job that runs is to be ended, and the grace that was asked for; None = nobody asked."""
        if self.stop_signal is not None:
            return f"its keeper got {signal_name(self.stop_signal)}", None
        if self._cancel is not None:
            return str(self._cancel.get("reason") or "cancelled"), self._cancel.get("grace_s")
        return None

    def tell(self, event: str, **facts: Any) -> None:
        """One line to the driver, if there still is one."""
        if self.driver_gone:
            return
        line = memoryview(json.dumps({"event": event, "token": self._token, **facts}).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._events_fd, line) :]
        except OSError:
            self._lose_driver()  # EPIPE

    def _read_control(self) -> None:
        while True:
            try:
                part = os.read(self._control_fd, 1 << 16)
            except BlockingIOError:
                return
            if not part:
                self._lose_driver()
                return
            self._received += part
            if b"\n" in part:
                *lines, rest = bytes(self._received).split(b"\n")
                self._received = bytearray(rest)
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        if message["do"] == "run":
            self._jobs.append(message)
        elif message["do"] == "cancel" and message["token"] == self._token:
            self._is_hurried = self._cancel is not None or message.get("grace_s") == 0
            self._cancel = self._cancel or message
        elif message["do"] == "cancel" and any(job["token"] == message["token"] for job in self._jobs):
            self._early_cancels[message["token"]] = message  # it came together with its job

    def _lose_driver(self) -> None:
        self.driver_gone = True
        self.ignore(self._control_fd)

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_r, 512):
                pass
        except BlockingIOError:
            pass

    def _on_stop(self, number: int, _frame: object) -> None:
        self._signals += 1
        self._is_hurried = self._signals > 1
        self.stop_signal = self.stop_signal or number


def main(*, has_terminal: bool = False, attempt: Callable[..., Attempt] = ProcessAttempt) -> None:
    """A keeper of its own program: descriptors 0 and 1 are messages and events, 3 and 4 the driver's own output."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.getsid(0) != os.getpid():
        os.setsid()
    control_fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10)
    events_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 10)
    terminal = None
    if has_terminal:
        terminal = (fcntl.fcntl(3, fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(4, fcntl.F_DUPFD_CLOEXEC, 10))
    _let_go({2, control_fd, events_fd, *(terminal or ())})
    become_subreaper("rompy-keeper")
    Keeper(control_fd, events_fd, terminal=terminal, attempt=attempt).serve()
    os._exit(0)  # nothing is buffered here, and the driver waits for our end


def main_forked(control_fd: int, events_fd: int, message: dict[str, Any], target: Callable[[], object]) -> None:
    """A keeper forked from the driver, for a Python callable; the caller ends the process when this returns."""
    import gc

    gc.disable()  # what the driver left behind must not be finalised a second time here
    os.setsid()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) and number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    become_subreaper("rompy-keeper")
    keeper = Keeper(control_fd, events_fd, terminal=(1, 2))

    def let_go(child: Child) -> None:
        _let_go({2, *keeper.private_fds, *child.fds})
        os.dup2(keeper.null_fd, 2)

    keeper.run(message, target=target, after_spawn=let_go)


def _let_go(keep: set[int]) -> None:
    """Close what was inherited and hold neither the driver's directory nor its terminal."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 1 and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed them

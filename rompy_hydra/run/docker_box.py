"""One container in a keeper's hands: its output goes to the logs byte for byte, its usage is read, its end is heard of.

Box.create → start (or take_up) → output, frame by frame, into the logs → look … stop → finish → remove
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rompy_hydra.run.attempt import Refusal
from rompy_hydra.run.docker_engine import Engine, EngineError, Stream
from rompy_hydra.run.keeper import Keeper

SILENCE_PATIENCE_S = 300.0  # how long an engine may be gone (an upgrade, a restart) before a run is given up
_KILL_PATIENCE_S = 30.0
_READS_A_TURN = 64
_REST_OF_THE_OUTPUT_S = 60.0
_LOOK_ANYWAY_S = 10.0  # the end of the output tells the end; should that ever fail, this finds it


class Box:
    """One container in our hands: its output goes to the logs, byte for byte, and we hear of its end."""

    def __init__(self, engine: Engine, name: str, logs: dict[int, int], keeper: Keeper) -> None:
        self.id = ""
        self.name = name
        self.facts: dict[str, Any] = {}
        self.is_over = False
        self.is_left_behind = False
        self.was_silent = False
        self.gave_up = ""
        self.notes: list[str] = []
        self.due = math.inf
        self._engine = engine
        self._keeper = keeper
        self._logs = LogFiles(logs)
        self._stream: Stream | None = None
        self._frames = Frames(self._logs.write)
        self._pause_s = 0.002
        self._silent_since: float | None = None
        self._is_stopped = False
        self._has_followed = False

    # ---- start

    def create(self, config: dict[str, Any]) -> None:
        """Make it; nothing runs yet."""
        self.id = self._engine.create(config, self.name)

    def start(self) -> None:
        """Start it; every byte that it writes is ours from here on.  `Refusal` where the engine cannot start it."""
        self._listen(self._engine.attach(self.id))
        try:
            self._engine.start(self.id)
        except EngineError as error:
            raise _start_refusal(error) from error

    def take_up(self, container: str) -> None:
        """Go on with one that another keeper started: what the logs lack comes from the engine's own log."""
        self.id = container
        try:
            self.facts = self._engine.inspect(container) or {}
            if (self.facts.get("State") or {}).get("Status") == "created":
                self.is_over = True
                return
            self._follow()
        except EngineError:  # `look` has patience with it
            self.was_silent = True
            self.due = time.monotonic()

    def _listen(self, stream: Stream) -> None:
        self._stream = stream
        self._keeper.listen(stream.fd, self._read)
        self.due = time.monotonic() + _LOOK_ANYWAY_S

    def _follow(self) -> None:
        """From the engine's log, from its first byte on: what we have already is skipped."""
        self._has_followed = True
        self._frames = Frames(self._logs.write)
        self._logs.start_over()
        self._listen(self._engine.follow_logs(self.id))

    # ---- output

    def _read(self) -> None:
        for _ in range(_READS_A_TURN):  # bounded: a flood of output must not hold up a timeout
            if self._stream is None:
                return
            chunk = self._stream.read()
            if chunk is None:
                return
            if not chunk:
                self._hang_up()
                return
            self._frames.feed(chunk)

    def _hang_up(self) -> None:
        """The stream is at its end: so is the container, or the engine."""
        if self._stream is not None:
            self._keeper.ignore(self._stream.fd)
            self._stream.close()
            self._stream = None
            self._pause_s = 0.002
            self.due = time.monotonic()

    # ---- end

    def look(self) -> bool:
        """Whether it has ended; asks the engine only when there is reason to."""
        if self.is_over:
            return True
        now = time.monotonic()
        if now < self.due:
            return False
        try:
            found = self._engine.inspect(self.id)
        except EngineError as error:
            return self._is_given_up(error, now)
        if self._silent_since is not None:
            self._silent_since = None
        if found is None:
            self.facts = {"State": {"Error": "gone"}}
            self.is_over = True
            return True
        self.facts = found
        state = found.get("State") or {}
        if state.get("Status") in ("exited", "dead"):
            self.is_over = True
            return True
        if self._stream is None and self.was_silent and not self._is_stopped:
            with suppress(EngineError):
                self._follow()  # the engine is back and the container goes on
                return False
        self._pause_s = min(self._pause_s * 1.6, 0.5)
        self.due = now + (self._pause_s if self._stream is None else _LOOK_ANYWAY_S)
        return False

    def _is_given_up(self, error: EngineError, now: float) -> bool:
        self.was_silent = True
        self._silent_since = self._silent_since or now
        if now - self._silent_since > SILENCE_PATIENCE_S:
            self.gave_up = f"the engine has not answered for {SILENCE_PATIENCE_S:.0f} s ({error})"
            self.is_over = True
            return True
        self.due = now + 1.0
        return False

    def stop(self, grace_s: float) -> bool:
        """The image's own stop signal, grace, kill; True if it had to be killed."""
        self._is_stopped = True
        signal_name = str((self.facts.get("Config") or {}).get("StopSignal") or "")
        if not signal_name:
            with suppress(EngineError):
                self.facts = self._engine.inspect(self.id) or {}
            signal_name = str((self.facts.get("Config") or {}).get("StopSignal") or "SIGTERM")
        if grace_s > 0:
            self._send(signal_name)
            if self._wait(grace_s, until_hurried=True):
                return False
        self._send("SIGKILL")
        self._wait(_KILL_PATIENCE_S)
        return True

    def _send(self, signal_name: str) -> None:
        with suppress(EngineError):  # it may have ended, or the engine is away: `look` finds out
            self._engine.kill(self.id, signal_name)

    def _wait(self, seconds: float, *, until_hurried: bool = False) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            self.due = min(self.due, time.monotonic() + 0.1)
            if self.look():
                return True
            now = time.monotonic()
            if now >= deadline:
                return False
            if self._keeper.turn(min(deadline, self.due) - now) and until_hurried:
                return False

    def finish(self) -> None:
        """Take in the rest of its output."""
        self._drain()
        is_known = not self.gave_up and bool(self.facts.get("Config"))
        # A log that is followed can lose its last words; on a disk that was full there may be room again.
        if is_known and (self.was_silent or self._has_followed or self._logs.complaint):
            with suppress(EngineError):
                self._follow()
                self._drain()
        if self._logs.complaint:
            self.notes.append(f"part of its output is lost: {self._logs.complaint}")

    def _drain(self) -> None:
        deadline = time.monotonic() + _REST_OF_THE_OUTPUT_S
        while self._stream is not None and time.monotonic() < deadline:
            self._keeper.turn(1.0)
        self._hang_up()

    def remove(self) -> None:
        """Remove it from the engine."""
        if self.id:
            self._engine.remove(self.id)
            self.id = ""
            self.is_left_behind = False

    def close(self) -> None:
        """Let go of stream and logs."""
        self._hang_up()
        self._logs.close()


class LogFiles:
    """Where the output goes: what a file holds is always the beginning of what was written to its stream."""

    def __init__(self, fds: dict[int, int]) -> None:
        self.complaint = ""
        self._fds = fds
        places = {number: (os.fstat(fd).st_dev, os.fstat(fd).st_ino) for number, fd in fds.items()}
        self._place = {number: list(places.values()).index(place) for number, place in places.items()}
        self._skip = dict.fromkeys(self._place.values(), 0)

    def start_over(self) -> None:
        """The streams come again from their first byte: what is in the files is passed over."""
        self.complaint = ""
        self._skip = {self._place[number]: os.fstat(fd).st_size for number, fd in self._fds.items()}

    def write(self, number: int, data: memoryview) -> None:
        """Append to the file of a stream; after a failure nothing more, so that nothing is missing in between."""
        place = self._place.get(number)
        if place is None or self.complaint:
            return
        skipped = min(self._skip[place], len(data))
        self._skip[place] -= skipped
        data = data[skipped:]
        try:
            while data:
                data = data[os.write(self._fds[number], data) :]
        except OSError as error:
            self.complaint = f"a log could not be written: {error.strerror}"

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}
        self._place = {}


class Frames:
    """Takes the engine's multiplexed stream apart: eight bytes that say which stream and how much, then the bytes."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._header = bytearray()
        self._number = 0
        self._left = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the stream, cut anywhere."""
        data = memoryview(chunk)
        while data:
            if self._left:
                part = data[: self._left]
                data = data[len(part) :]
                self._left -= len(part)
                self._write(self._number, part)
                continue
            part = data[: 8 - len(self._header)]
            data = data[len(part) :]
            self._header += part
            if len(self._header) == 8:
                self._number = self._header[0]
                self._left = int.from_bytes(self._header[4:], "big")
                self._header.clear()


class Usage:
    """Memory and processor time of a container, read from its control group; nothing where that is out of sight."""

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self.cpu_seconds: float | None = None
        self.method: str | None = None
        self.due = time.monotonic() + 0.02
        self._interval_s = 0.05
        self._files: tuple[str, str] | None = None
        self._tries = 0

    def sample(self, box: Box) -> None:
        """Read it now; the next time is `due`."""
        if self._files is None:
            self._find(box)
        if self._files is not None:
            self._read(*self._files)
        self._interval_s = min(self._interval_s * 1.5, 0.5)
        self.due = math.inf if self._tries > 5 else time.monotonic() + self._interval_s

    def _find(self, box: Box) -> None:
        self._tries += 1
        facts = box.facts
        pid = int((facts.get("State") or {}).get("Pid") or 0)
        if not pid:
            with suppress(EngineError):
                facts = box._engine.inspect(box.id) or {}  # noqa: SLF001 - one of us
                box.facts = facts
            pid = int((facts.get("State") or {}).get("Pid") or 0)
        for line in _text(f"/proc/{pid}/cgroup").splitlines() if pid else []:
            number, controllers, path = line.split(":", 2)
            if box.id not in path:
                continue  # an engine elsewhere, whose pid is somebody else's here
            if number == "0":
                self._files = (f"/sys/fs/cgroup{path}/memory.stat", f"/sys/fs/cgroup{path}/cpu.stat")
            elif "memory" in controllers.split(","):
                found = _cpu_accounts(pid)
                self._files = (f"/sys/fs/cgroup/memory{path}/memory.stat", found)
                break
        if self._files is not None:
            self._tries = 0

    def _read(self, memory_file: str, cpu_file: str) -> None:
        memory = dict(line.split(" ", 1) for line in _text(memory_file).splitlines() if " " in line)
        if not memory:
            self._tries += 1
            return
        names = ("total_rss", "total_mapped_file") if "total_rss" in memory else ("anon", "shmem")
        used = sum(int(memory.get(name, 0)) for name in names)
        if used > (self.peak_bytes or 0):
            self.peak_bytes = used
            self.method = "memory of the container's control group, sampled"
        said = _text(cpu_file)
        if found := re.search(r"^usage_usec (\d+)", said, re.MULTILINE):
            self.cpu_seconds = int(found[1]) / 1e6
        elif said.strip().isdigit():
            self.cpu_seconds = int(said) / 1e9


def _cpu_accounts(pid: int) -> str:
    for line in _text(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            for mounted in (controllers, "cpuacct", "cpu,cpuacct"):
                name = f"/sys/fs/cgroup/{mounted}{path}/cpuacct.usage"
                if os.path.exists(name):
                    return name
    return ""


def _start_refusal(error: EngineError) -> Refusal:
    text = str(error)
    if "executable file not found" in text or ("exec" in text and "no such file" in text):
        return Refusal("exec", f"{text} (docker's exit code 127: the image has no such program)", errno.ENOENT)
    if "permission denied" in text and "exec" in text:
        return Refusal("exec", f"{text} (docker's exit code 126: it cannot be executed)", errno.EACCES)
    return Refusal("engine", f"{text} (docker's exit code 125: the engine itself could not do it)")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:  # it has ended
        return ""

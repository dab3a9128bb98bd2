"""Who a process is, for longer than its pid lasts: host, boot, pid, start time.  Stdlib only (the keeper reads it)."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

_FIELDS = ("host", "boot_id", "pid", "start_time", "pid_namespace")


class ProcessIdentity:
    """One process on one boot of one machine; a recycled pid is somebody else.

    `start_time` is in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).  `pid_namespace` tells a
    container from its host, which share name and boot id but not pids; None = unknown.
    """

    # Not a dataclass: importing `dataclasses` would take half of the keeper's start-up time.
    __slots__ = _FIELDS

    def __init__(self, host: str, boot_id: str, pid: int, start_time: int, pid_namespace: str | None = None) -> None:
        self.host = host
        self.boot_id = boot_id
        self.pid = pid
        self.start_time = start_time
        self.pid_namespace = pid_namespace

    @classmethod
    def of(cls, pid: int | None = None) -> ProcessIdentity:
        """The identity of a living process of this machine (default: ours); ProcessLookupError when there is none."""
        pid = os.getpid() if pid is None else pid
        found = read_stat(pid)
        if found is None:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(host_name(), boot_id(), pid, found.start_time, pid_namespace())

    def is_alive(self) -> bool | None:
        """Whether it still runs (a zombie does not); None when that cannot be told from here (another host)."""
        if self.host != host_name():
            return None
        if self.boot_id != boot_id():
            return False
        if None not in (self.pid_namespace, pid_namespace()) and self.pid_namespace != pid_namespace():
            return None
        found = read_stat(self.pid)
        return found is not None and found.start_time == self.start_time and not found.is_dead

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ProcessIdentity:
        """The reverse of `to_dict`; other keys are passed over.  KeyError when one is missing."""
        return cls(
            str(data["host"]),
            str(data["boot_id"]),
            int(data["pid"]),
            int(data["start_time"]),
            data.get("pid_namespace"),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcessIdentity) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.host, self.boot_id, self.pid, self.start_time))

    def __repr__(self) -> str:
        return f"ProcessIdentity(pid={self.pid}, start_time={self.start_time}, host={self.host!r})"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class ProcessStat:
    """The few fields of `/proc/PID/stat` that we use; `rss_bytes` is the resident size."""

    __slots__ = ("pid", "state", "ppid", "session", "threads", "start_time", "rss_bytes")

    def __init__(self, pid: int, fields: list[bytes]) -> None:
        self.pid = pid
        self.state = fields[0].decode()
        self.ppid = int(fields[1])
        self.session = int(fields[3])
        self.threads = int(fields[17])
        self.start_time = int(fields[19])
        self.rss_bytes = int(fields[21]) * _PAGE_BYTES

    @property
    def is_dead(self) -> bool:
        """Whether only its exit status is left; a main thread that ended before the others does not count."""
        return self.state in "ZXx" and self.threads <= 1


def read_stat(pid: int) -> ProcessStat | None:
    """`/proc/PID/stat`, or None when there is no such process."""
    raw = read_proc(f"/proc/{pid}/stat")
    if not raw:
        return None
    # The name in parentheses may itself hold spaces and parentheses: the last one closes it.
    return ProcessStat(pid, raw[raw.rindex(b")") + 2 :].split())


def read_proc(path: str) -> bytes:
    """A file of `/proc`; empty when its process is gone or it may not be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # ESRCH: it ended between open and read
        return b""
    finally:
        os.close(fd)


@lru_cache(maxsize=1)
def host_name() -> str:
    """The name of this machine as the kernel tells it."""
    return os.uname().nodename


@lru_cache(maxsize=1)
def boot_id() -> str:
    """A random word that changes with every boot; empty where the kernel has none."""
    return read_proc("/proc/sys/kernel/random/boot_id").decode().strip()


def pid_namespace() -> str | None:
    """Which numbering of pids we live in (`pid:[4026531836]`); None where the kernel does not say."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

"""The journal of a sweep: text files that are only appended to, by one writer (the holder of the lease), and their truth.

    plan.jsonl      {"n": 12, "name": "12", "overrides": […], "swept": {…}, "science": …, "point": …, …}
    events.jsonl    {"t": …, "e": "driver", "host": …, "pid": …}     a driver took the sweep
                    {"t": …, "e": "start", "n": 12, "a": 1, …}       attempt 1 of point 12 is about to be handed over
                    {"t": …, "e": "back", "n": 12, "why": …}         it was never started after all
                    {"t": …, "e": "end", "n": 12, "a": 1, "state": …}
                    {"t": …, "e": "post", "n": 12, "ok": …}          its postprocessor has ended
                    {"t": …, "e": "invalid", "n": 12, "why": …}      it cannot run and was left out
                    {"t": …, "e": "stop", "why": …}                  the driver left

A line takes at most 4 KB.  A line that a killed driver or a full disk tore is passed over: what it would have told had not
happened yet (`start`) or is in the run's own record (`end`).  On a full disk the ends go into `events.reserve`, whose
blocks were there before; the next driver moves them over.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rompy_hydra.errors import SiteError
from rompy_hydra.record.store import utc

LINE_MAX = 4096
RESERVE_BYTES = 64 * 1024
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REASON_MAX = 600

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def dump_line(fields: Mapping[str, Any]) -> bytes:
    """One line of a journal.  ValueError where it would be longer than a line may be."""
    line = _encode(fields).encode() + b"\n"
    if len(line) > LINE_MAX:
        raise ValueError(f"a line of {len(line)} bytes is longer than {LINE_MAX}")
    return line


def short(text: str, limit: int = _REASON_MAX) -> str:
    """A sentence that fits into a line, whatever it holds."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


class LineFile:
    """A file of lines that are appended whole; `SiteError` names the file, and keeps the OSError as its cause."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o666)
            self._is_torn = _ends_torn(path)
        except OSError as error:
            raise self._error(error) from error

    def append(self, line: bytes) -> None:
        """Append one line; after a failure the next one starts on a line of its own."""
        rest = memoryview(b"\n" + line if self._is_torn else line)
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._is_torn = True
                rest = rest[written:]
        except OSError as error:
            raise self._error(error) from error
        self._is_torn = False

    def sync(self) -> None:
        """Have it on the disk, also if the machine stops now."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise self._error(error) from error

    def close(self) -> None:
        """The end of writing."""
        os.close(self._fd)

    def _error(self, error: OSError) -> SiteError:
        return SiteError(f"the journal {self.path} cannot be written: {error.strerror}")


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


class Journal:
    """The writer of `events.jsonl`."""

    def __init__(self, events: Path, reserve: Path) -> None:
        self._events = LineFile(events)
        self._reserve = _Reserve(reserve)
        self.is_dirty = False
        for line in self._reserve.take_over():
            self._events.append(line)
        self._reserve.renew(self._events.sync)

    def write(self, event: str, **fields: Any) -> None:
        """Append one event; what it says has not been done yet, or must not be lost: on a full disk it raises."""
        self._events.append(dump_line({"t": utc(), "e": event, **fields}))
        self.is_dirty = True

    def write_end(self, **fields: Any) -> None:
        """Append the end of a point; on a full disk into the reserve."""
        line = dump_line({"t": utc(), "e": "end", **fields})
        try:
            self._events.append(line)
        except SiteError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in DISK_FULL or not self._reserve.write(line):
                raise
        self.is_dirty = True

    def sync(self) -> None:
        """Have everything on the disk."""
        if self.is_dirty:
            self._events.sync()
            self.is_dirty = False

    def close(self) -> None:
        """Sync and end."""
        self.sync()
        self._events.close()
        self._reserve.close()


class _Reserve:
    """Blocks that were taken while there was room; they are written over in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._used = 0
        self._fd: int | None = None

    def take_over(self) -> list[bytes]:
        """The lines that an earlier driver had to leave here."""
        return [line + b"\n" for line in _reserved_lines(self._path)]

    def renew(self, before: Any) -> None:
        """Empty it, after `before()` has brought what was in it to the disk; without room there is none."""
        try:
            if _reserved_lines(self._path):
                before()
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            os.posix_fallocate(self._fd, 0, RESERVE_BYTES)
        except OSError as error:
            if error.errno not in (*DISK_FULL, errno.EOPNOTSUPP, errno.EINVAL):
                raise SiteError(f"{self._path} cannot be written: {error.strerror}") from error

    def write(self, line: bytes) -> bool:
        """Whether there was room for the line."""
        if self._fd is None or self._used + len(line) > RESERVE_BYTES:
            return False
        try:
            os.pwrite(self._fd, line, self._used)
        except OSError:
            return False
        self._used += len(line)
        return True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _reserved_lines(path: Path) -> list[bytes]:
    try:
        data = path.read_bytes()
    except OSError:
        return []
    written = data.partition(b"\0")[0]
    return [line for line in written.split(b"\n")[:-1] if line]


Line = tuple[int, int, dict[str, Any]]
"""Where a line starts, where it ends, what it says."""


def read_lines(path: Path, offset: int = 0) -> Iterator[Line]:
    """Every whole line from `offset` on; torn ones are passed over.

    Raises `SiteError` where the file cannot be read; a missing one is empty.
    """
    loads = json.loads
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if line[-1:] != b"\n":
                    return  # being written, or torn: the next reader looks again
                start, offset = offset, offset + len(line)
                try:
                    fields = loads(line)
                except ValueError:
                    continue
                if type(fields) is dict:
                    yield start, offset, fields
    except FileNotFoundError:
        return
    except OSError as error:
        raise SiteError(f"{path} cannot be read: {error.strerror}") from error


def read_events(events: Path, reserve: Path, offset: int = 0) -> Iterator[Line]:
    """The events from `offset` on, those of the reserve last (they lie at the end of the other file)."""
    end = offset
    for line in read_lines(events, offset):
        end = line[1]
        yield line
    for text in _reserved_lines(reserve):
        try:
            yield end, end, json.loads(text)
        except ValueError:
            continue

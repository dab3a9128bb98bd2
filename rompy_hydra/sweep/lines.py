"""Files of lines that are only appended to, and the reserve for the last of them on a full disk.

A line takes at most 4 KB and is one JSON object.  A line that a killed writer or a full disk tore is passed over.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rompy_hydra.errors import SiteError

LINE_MAX = 4096
RESERVE_BYTES = 64 * 1024
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REASON_MAX = 600

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk (or a used up quota) is behind an error."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in DISK_FULL


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
            self.size = os.fstat(self._fd).st_size
        except OSError as error:
            raise self._error(error) from error

    def append(self, line: bytes) -> int:
        """Append one line and say where it starts; after a failure the next one starts on a line of its own."""
        rest = memoryview(b"\n" + line if self._is_torn else line)
        try:
            while rest:
                written = os.write(self._fd, rest)
                self._is_torn = True
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise self._error(error) from error
        self._is_torn = False
        return self.size - len(line)

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


class Reserve:
    """Blocks that were taken while there was room; they are written over in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._used = 0
        self._fd: int | None = None

    def take_over(self) -> list[bytes]:
        """The lines that an earlier driver had to leave here."""
        return [line + b"\n" for line in reserved_lines(self._path)]

    def renew(self, before: Any) -> None:
        """Empty it, after `before()` has brought what was in it to the disk; without room there is none."""
        try:
            if reserved_lines(self._path):
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
        """The end of writing."""
        if self._fd is not None:
            os.close(self._fd)


def reserved_lines(path: Path) -> list[bytes]:
    """What stands in a reserve."""
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
    decoder: Any = json.JSONDecoder()
    scan = decoder.scan_once  # what `json.loads` ends in: half the time for a hundred thousand short lines
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if line[-1:] != b"\n":
                    return  # being written, or torn: the next reader looks again
                start, offset = offset, offset + len(line)
                try:
                    fields, end = scan(line.decode(), 0)
                except (ValueError, StopIteration):
                    continue
                if type(fields) is dict and end == len(line) - 1:
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
    for text in reserved_lines(reserve):
        try:
            yield end, end, json.loads(text)
        except ValueError:
            continue

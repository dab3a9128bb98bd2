"""Hashes of files, each content read once: in this process, and for the next ones in a file of the user's cache.

The cache holds one line a file, only ever appended to: any number of processes may write, and a line that is torn or
foreign is passed over.  It is a convenience: where it cannot be read or written, files are hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from rompy_hydra.errors import SiteError

CACHE_NAME = "input-hashes.txt"
_BLOCK = 1 << 20
_LONGEST_LINE = 4096  # what is appended in one piece
_LARGEST_CACHE = 8 << 20
_ATTEMPTS = 3

Key = tuple[str, int, int, int]
"""What a hash is kept under: path, size, mtime in ns, inode."""


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The user's cache directory for us; None where there is no home for it."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117  # as the specification says: a relative one is to be ignored
        home = environ.get("HOME", "")
        if not home:
            return None
        base = f"{home}/.cache"
    return Path(base) / "rompy-hydra"


class FileHashes:
    """SHA-256 of whole files and of samples of them; `read_bytes` counts what was really read."""

    def __init__(
        self,
        cache_file: Path | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        directory = cache_directory(environ)
        self._file = cache_file if cache_file is not None else directory / CACHE_NAME if directory else None
        self._now = now
        self._known: dict[tuple[str, Key], str] = {}
        self._stored: dict[Key, str] | None = None
        self._lock = threading.Lock()  # one file at a time: the disk is what limits, and no content is read twice
        self.read_bytes = 0

    def sha256(self, path: Path) -> str:
        """`sha256:` and the digest of the content.

        Raises `SiteError` for a file that cannot be read, or that keeps changing while it is.
        """
        return self._digest("sha256", path, self._whole)

    def fast(self, path: Path) -> str:
        """`fast:` and a digest of the size and of the first, the middle and the last megabyte."""
        return self._digest("fast", path, self._samples)

    def _digest(self, kind: str, path: Path, read: Callable[[BinaryIO], str]) -> str:
        with self._lock:
            try:
                for _ in range(_ATTEMPTS):
                    with path.open("rb") as file:
                        key = _key(path, os.fstat(file.fileno()))
                        known = self._known.get((kind, key)) or (self._from_disk(key) if kind == "sha256" else None)
                        digest = known or read(file)
                        if known or _key(path, os.fstat(file.fileno())) == key:
                            break
                else:
                    raise SiteError(f"{path} keeps changing while it is read; wait until it is complete")
            except OSError as error:
                raise SiteError(f"cannot read {path}: {error.strerror}") from error
            self._known[kind, key] = digest
            if kind == "sha256" and known is None:
                self._to_disk(key, digest)
            return f"{kind}:{digest}"

    def _whole(self, file: BinaryIO) -> str:
        digest = hashlib.sha256()
        left = os.fstat(file.fileno()).st_size  # and no more: somebody may append faster than we read
        while left and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
            self.read_bytes += len(block)
        return digest.hexdigest()

    def _samples(self, file: BinaryIO) -> str:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(b"%d\0" % size)
        starts = [0] if size <= 3 * _BLOCK else [0, (size - _BLOCK) // 2, size - _BLOCK]
        for start in starts:
            file.seek(start)
            block = file.read(3 * _BLOCK if len(starts) == 1 else _BLOCK)
            digest.update(block)
            self.read_bytes += len(block)
        return digest.hexdigest()

    def _from_disk(self, key: Key) -> str | None:
        if self._stored is None:
            self._stored = {}
            data = self._read_cache()
            self._stored.update(_entries(data))
            if self._file is not None and len(data) > _LARGEST_CACHE:
                self._shrink(self._file)
        return self._stored.get(key)

    def _read_cache(self) -> bytes:
        if self._file is None:
            return b""
        try:
            if self._file.is_file():
                return self._file.read_bytes()
            if self._file.exists():  # a pipe or a device: to open it could block, to read it never end
                self._file = None
        except OSError:
            self._file = None
        return b""

    def _to_disk(self, key: Key, digest: str) -> None:
        """Keep a hash for later processes, unless the file is so young that a change could leave its time as it is."""
        age = self._now() - key[2]
        coarse = key[2] % 1_000_000_000 == 0  # a file system that only knows whole seconds
        line = _line(key, digest)
        if self._file is None or age < (2_000_000_000 if coarse else 50_000_000) or len(line) > _LONGEST_LINE:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._file, flags, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError:
            return

    def _shrink(self, file: Path) -> None:
        """Write the newer half of the entries anew; what another process appends meanwhile is hashed again one day."""
        entries = list((self._stored or {}).items())
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            aside.write_bytes(b"".join(_line(key, digest) for key, digest in entries[len(entries) // 2 :]))
            aside.replace(file)
        except OSError:
            return


def _key(path: Path, status: os.stat_result) -> Key:
    return (str(path), status.st_size, status.st_mtime_ns, status.st_ino)


def _line(key: Key, digest: str) -> bytes:
    text = json.dumps([*key, digest], separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entries(data: bytes) -> Iterator[tuple[Key, str]]:
    for line in data.split(b"\n"):
        check, _, text = line.partition(b" ")
        if check != b"%08x" % zlib.crc32(text):
            continue
        try:
            path, size, mtime_ns, inode, digest = json.loads(text)
        except ValueError:
            continue
        yield (path, size, mtime_ns, inode), digest

"""What a run made: the files of its directory that are new or changed.  Stdlib only (the keeper lists them)."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from rompy_hydra.record.store import RECORD_NAME, utc

MAX_LISTED = 10_000
SHA256_TOTAL_BYTES = 2 * 1024**3
SHA256_TOTAL_S = 30.0

_OUR_FOLDERS = frozenset({".hydra", ".source", "logs"})
_CHUNK = 1 << 20


class Outputs:
    """The outputs of one run; `note` says what was left out, and why."""

    __slots__ = ("entries", "note", "unhashed")

    def __init__(self, entries: list[dict[str, Any]], note: str, unhashed: list[dict[str, Any]]) -> None:
        self.entries = entries
        self.note = note
        self.unhashed = unhashed

    @property
    def bytes_to_hash(self) -> int:
        """What `hash_outputs` would have to read."""
        return sum(entry["bytes"] for entry in self.unhashed)

    def to_record(self) -> dict[str, Any]:
        """The record's keys."""
        return {"outputs": self.entries, **({"outputs_note": self.note} if self.note else {})}


def list_outputs(
    run_dir: str,
    *,
    generated: Mapping[str, tuple[int, int]] | None = None,
    own: Collection[str] = (),
    sha256_max_bytes: int = 0,
) -> Outputs:
    """Regular files below `run_dir`, by path, without what we made ourselves.

    Links are neither followed nor listed: an input is linked and is no output.  `generated` (path → bytes, mtime_ns)
    are files that were there before; they are listed only if they changed.  `own` are absolute paths of ours (logs).
    Paths are POSIX and relative; bytes that are no UTF-8 stay as lone surrogates, which JSON can carry.
    """
    generated = generated or {}
    skip = {os.path.relpath(path, run_dir) for path in own}
    entries: list[dict[str, Any]] = []
    left_out = left_out_bytes = 0
    for path, info in sorted(_files(run_dir)):
        if path in skip or tuple(generated.get(path, ())) == (info.st_size, info.st_mtime_ns):
            continue
        if len(entries) >= MAX_LISTED:
            left_out += 1
            left_out_bytes += info.st_size
            continue
        entries.append({"path": path, "bytes": info.st_size, "mtime": utc(info.st_mtime_ns / 1e9)})
    note = ""
    if left_out:
        note = f"{left_out} more files ({left_out_bytes} bytes) are not listed: the list ends at {MAX_LISTED}"
    unhashed = sorted((e for e in entries if e["bytes"] <= sha256_max_bytes), key=lambda e: int(e["bytes"]))
    return Outputs(entries, note, unhashed)


def hash_outputs(
    outputs: Outputs,
    run_dir: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    max_bytes: int = SHA256_TOTAL_BYTES,
    max_s: float = SHA256_TOTAL_S,
) -> None:
    """Give the entries their `sha256`, the smallest first, until the budget is used or `stop()` says so."""
    import hashlib  # loads OpenSSL: only when there is something to hash

    deadline = time.monotonic() + max_s
    left = len(outputs.unhashed)
    for entry in outputs.unhashed:
        max_bytes -= entry["bytes"]
        stopped = stop()
        if stopped or max_bytes < 0 or time.monotonic() > deadline:
            budget = f"the budget of {SHA256_TOTAL_BYTES} bytes or {SHA256_TOTAL_S:g} s a run was used up"
            why = "the keeper was asked to end" if stopped else budget
            outputs.note = "; ".join(filter(None, [outputs.note, f"{left} files have no sha256: {why}"]))
            break
        left -= 1
        digest = hashlib.sha256()
        try:
            with open(os.path.join(run_dir, entry["path"]), "rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            entry["sha256_error"] = error.strerror or str(error)
            continue
        entry["sha256"] = digest.hexdigest()
    outputs.unhashed = []


def remove_outputs(run_dir: str, *, generated: Collection[str] = (), own: Collection[str] = ()) -> dict[str, int]:
    """Delete the regular files below `run_dir` that the run itself made, and the folders that are empty then.

    What was `generated` stays, changed or not; so do links and what we made ourselves (`own`: absolute paths of
    logs).  Answers how many `files` and `bytes` are gone.
    """
    skip = {os.path.relpath(path, run_dir) for path in own}
    gone = {"files": 0, "bytes": 0}
    folders: set[str] = set()
    for path, info in list(_files(run_dir)):
        if path in skip or path in generated:
            continue
        try:
            os.unlink(os.path.join(run_dir, path))
        except OSError:
            continue
        gone["files"] += 1
        gone["bytes"] += info.st_size
        while path := os.path.dirname(path):
            folders.add(path)
    for folder in sorted(folders, key=len, reverse=True):
        try:
            os.rmdir(os.path.join(run_dir, folder))
        except OSError:
            continue  # something is left in it
    return gone


def _files(top: str) -> Iterator[tuple[str, os.stat_result]]:
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            found = os.scandir(os.path.join(top, folder))
        except OSError:
            continue  # unreadable or just removed: it holds nothing that could be listed
        with found:
            for entry in found:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if path not in _OUR_FOLDERS:
                        folders.append(path)
                elif not _is_ours(path):
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISREG(info.st_mode):
                        yield path, info


def _is_ours(path: str) -> bool:
    return path == RECORD_NAME or path.startswith(f".{RECORD_NAME}.")

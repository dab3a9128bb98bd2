"""Live output: what is added to a log, bytes-safe and in bounded memory.  Stdlib only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_CHUNK = 65536


class LogTail:
    """Reads what was added to a file since the last look; a file that does not exist yet has nothing to say."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._offset = 0

    def read(self, max_bytes: int = _CHUNK) -> bytes:
        """The next bytes, at most `max_bytes`; empty when there are none now."""
        try:
            with self._path.open("rb") as file:
                if self._offset > file.seek(0, 2):
                    self._offset = 0  # it was written anew
                file.seek(self._offset)
                chunk = file.read(max_bytes)
        except FileNotFoundError:
            return b""
        self._offset += len(chunk)
        return chunk


def follow(
    logs: Mapping[str, str], is_over: Callable[[], bool], *, interval_s: float = 0.1
) -> Iterator[tuple[str, bytes]]:
    """Yield `(name, bytes)` as the logs grow, until `is_over()` and everything was read."""
    tails = {name: LogTail(path) for name, path in logs.items()}
    while True:
        over = is_over()  # asked before the last look, so that nothing written before the end is missed
        found = False
        for name, tail in tails.items():
            while chunk := tail.read():
                found = True
                yield name, chunk
        if over:
            return
        if not found:
            time.sleep(interval_s)

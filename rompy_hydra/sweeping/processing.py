"""Postprocessors of points, in processes of their own beside the runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rompy_hydra.sweep.scheduler import After


class Processing:
    """All of one sweep, two at a time: they may use any library, and take their time."""

    def __init__(self, at_once: int = 2) -> None:
        self._at_once = at_once
        self.running: set[_Process] = set()

    def add(self, run_dir: Path) -> After:
        """Have the outputs in a directory processed, when it is their turn."""
        return _Process(self, run_dir)

    def has_room(self) -> bool:
        """Whether one more may be started."""
        return len(self.running) < self._at_once


class _Process:
    """One of them."""

    def __init__(self, all_of_them: Processing, run_dir: Path) -> None:
        self._all = all_of_them
        self._run_dir = run_dir
        self._process: subprocess.Popen[bytes] | None = None

    def poll(self) -> bool | None:
        """Start it when it is its turn; whether it succeeded."""
        if self._process is None:
            if self._all.has_room():
                code = "import sys, rompy_hydra.steps.processing as p; sys.exit(p.postprocess_again(sys.argv[1]))"
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code, str(self._run_dir)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._all.running.add(self)
            return None
        if self._process.poll() is None:
            return None
        self._all.running.discard(self)
        return self._process.returncode == 0

    def cancel(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._all.running.discard(self)

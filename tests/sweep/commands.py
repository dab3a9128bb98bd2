"""Sweeps as a user types them, in processes of their own."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0


def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Poll until it holds; tests never rely on how fast a machine is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Sweeps:
    """Runs `rompy-hydra` in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *words: str, code: int | None = 0, **how: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "rompy_hydra", *words],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), **how.pop("env", {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            **how,
        )
        assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on; whatever happens, it is killed in the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "rompy_hydra", *words],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()

    def sweep(self, command: str, *words: str) -> list[str]:
        """The words of a sweep in `sw`; `command` is for a shell."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        return ["run", "-m", "model=command", f'model.command="{quoted}"', "hydra.sweep.dir=sw", *words]

    @property
    def path(self) -> Path:
        return self.directory / "sw"

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.path / "events.jsonl").read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [event for event in found if kind is None or event.get("e") == kind]

    def states(self) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self.run("status", "--json", "sw").stdout)["states"]
        return counts

    def record(self, point: str | int) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.path / str(point) / "run.json").read_text())
        return data

    def ran(self) -> collections.Counter[str]:
        """What the points wrote into `ran`, each a line."""
        with contextlib.suppress(FileNotFoundError):
            return collections.Counter((self.directory / "ran").read_text().split())
        return collections.Counter()

    def append(self, text: str) -> str:
        """A command that tells that it ran."""
        return f"echo {text} >> '{self.directory}/ran'"


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)

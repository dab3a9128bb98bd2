"""Real models through the real command line, as a user types it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """One run that is over: its directory, its record, and what the command said."""

    directory: Path
    record: dict[str, Any]
    exit_code: int
    said: str


def module_or_none(name: str) -> Any:
    """A model's own library; where it is missing the tests' markers skip them, or fail them where they are required."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def model_environment() -> dict[str, str]:
    """What a shell has in which the models' environment is active, and nothing of this test run's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ROMPY_", "OMPI_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["PYTHONPATH"] = str(ROOT)
    return environment


@pytest.fixture(scope="module")
def rompy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Finished]:
    """`rompy(run_id, *arguments)` runs `rompy-hydra run …` in a directory of this module's and reads the record."""
    output = tmp_path_factory.mktemp("runs")
    environment = {**model_environment(), "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}

    def run(run_id: str, *arguments: str) -> Finished:
        command = [sys.executable, "-m", "rompy_hydra", "run", f"output_dir={output}", f"run_id={run_id}", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=output, env=environment, timeout=110
        )
        record = output / run_id / "run.json"
        assert record.exists(), done.stdout + done.stderr
        return Finished(output / run_id, json.loads(record.read_text()), done.returncode, done.stdout + done.stderr)

    return run

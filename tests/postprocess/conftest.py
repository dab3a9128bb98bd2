"""Runs of the real models, made once by the command line: `analyze` is part of them, pictures are drawn afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.conftest import model_environment
from tests.report.conftest import browser, chromium

__all__ = ["browser", "chromium"]  # fixtures


def _run(directory: Path, *words: str) -> Path:
    environment = {**model_environment(), "XDG_CACHE_HOME": str(directory / "cache")}
    command = [sys.executable, "-m", "rompy_hydra", "run", f"output_dir={directory}", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=directory, env=environment, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "real"


@pytest.fixture(scope="session")
def anuga_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run model=anuga_dambreak postprocess=analyze`, coarse and short."""
    words = ["model=anuga_dambreak", "postprocess=analyze", "run_id=real"]
    words += [f"model.parameters.{item}" for item in ("final_time=30", "output_interval=3", "resolution=4")]
    return _run(tmp_path_factory.mktemp("anuga"), *words)


@pytest.fixture(scope="session")
def veros_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run model=veros_acc postprocess=analyze` with four records in eight days."""
    words = ["model=veros_acc", "postprocess=analyze", "run_id=real"]
    words += [f"model.parameters.{item}" for item in ("run_length=8d", "averages_interval=2d")]
    return _run(tmp_path_factory.mktemp("veros"), *words)

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.run.base import Job
from rompy_hydra.run.local import LocalExecutor
from tests.run.contract import MakeJob


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor() as executor:
        yield executor


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(script: str = "", *, name: str = "run", **changes: Any) -> Job:
        run_dir = tmp_path / name
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        job: dict[str, Any] = {
            "run_id": name,
            "run_dir": str(run_dir),
            "directory": str(run_dir),
            "argv": ("/bin/sh", "-c", script),
            "environment": {"PATH": os.environ["PATH"]},
            "stdout": str(run_dir / "logs/stdout.log"),
            "stderr": str(run_dir / "logs/stderr.log"),
            "grace_s": 0.3,
        }
        return Job(**{**job, **changes})

    return make

"""What the tests of the Slurm backend share: jobs for the real cluster, and the cluster seen from outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rompy_hydra.run.base import Job
from rompy_hydra.run.slurm import Pace
from rompy_hydra.run.slurm_script import SlurmSettings

QUICK = Pace(first_look_s=0.02, slowest_look_s=0.2, first_ask_s=0.5, slowest_ask_s=1.0)
"""A test waits for little, and one controller serves few of them."""


def slurm(*words: str, check: bool = True, conf: Path | None = None) -> str:
    """Slurm's own command line, as a witness."""
    env = {**os.environ, **({"SLURM_CONF": str(conf)} if conf is not None else {})}
    done = subprocess.run(list(words), capture_output=True, text=True, timeout=100, check=False, env=env)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def maker(directory: Path) -> Callable[..., Job]:
    """`make_job` of the contract, for the queue; `ask` changes what is asked of it."""

    def make(script: str = "", *, name: str = "run", ask: dict[str, Any] | None = None, **changes: Any) -> Job:
        run_dir = directory / name
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        settings = SlurmSettings(**{"memory_bytes": 100 << 20, "nodes": 1, **(ask or {})})
        job: dict[str, Any] = {
            "run_id": name,
            "run_dir": str(run_dir),
            "directory": str(run_dir),
            "argv": ("/bin/sh", "-c", script),
            "environment": {"TESTED": "yes"},
            "stdout": str(run_dir / "logs/stdout.log"),
            "stderr": str(run_dir / "logs/stderr.log"),
            "grace_s": 0.3,
            "settings": settings,
        }
        return Job(**{**job, **changes})

    return make

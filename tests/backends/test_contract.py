"""A seed-style backend under the suite that every executor passes, and how far it goes.

It answers True or False and keeps exit codes and signals to itself: the four tests about them say what is true
instead.  All the rest holds, because its child process is in the same hands as any program.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rompy_hydra.record.states import RunState
from rompy_hydra.run.base import Executor, Job, SuccessRules
from rompy_hydra.run.local import LocalExecutor
from rompy_hydra.run.plugin import SeedBackendCall
from tests.run.contract import ExecutorContract, MakeJob, log, run


class ShellRunBackend:
    """What a plug-in author would write: start a program, wait, answer a bool."""

    def run(self, model_run: Any, config: Any) -> bool:
        return subprocess.run(["/bin/sh", "-c", config.script], check=False).returncode == 0


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor() as executor:
        yield executor


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    def make(script: str = "", *, name: str = "run", **changes: Any) -> Job:
        run_dir = tmp_path / name
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        plan: Any = SimpleNamespace(spec=SimpleNamespace(backend=SimpleNamespace(script=script)))
        job: dict[str, Any] = {
            "run_id": name,
            "run_dir": str(run_dir),
            "directory": str(run_dir),
            "target": SeedBackendCall(ShellRunBackend, plan, model_run=object(), workspace=run_dir),
            "environment": {"PATH": os.environ["PATH"]},
            "stdout": str(run_dir / "logs/stdout.log"),
            "stderr": str(run_dir / "logs/stderr.log"),
            "grace_s": 0.3,
        }
        return Job(**{**job, **changes})

    return make


class TestSeedStyleBackend(ExecutorContract):
    def test_failure_keeps_the_exit_code_and_quotes_the_last_line(self, executor: Executor, make_job: MakeJob) -> None:
        """Its exit code is 1 and its reason the answer; what its program printed is in the log."""
        job = make_job("echo CFL number above 1 >&2; exit 3")
        outcome = run(executor, job)
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 1)
        assert outcome.reason == "ShellRunBackend.run returned False"
        assert b"CFL number above 1" in log(job, "stderr")

    def test_a_signal_is_no_exit_code(self, executor: Executor, make_job: MakeJob) -> None:
        """The signal that ends its program is its own affair."""
        outcome = run(executor, make_job("kill -SEGV $$"))
        assert (outcome.state, outcome.exit_code, outcome.signal) == (RunState.FAILED, 1, None)

    def test_an_exit_code_of_a_shell_for_a_signal_is_explained(self, executor: Executor, make_job: MakeJob) -> None:
        """There is none to explain."""
        assert run(executor, make_job("exit 139")).exit_code == 1

    def test_other_exit_codes_can_be_success(self, executor: Executor, make_job: MakeJob) -> None:
        """False stays a failure whatever the model's rules say of exit codes."""
        assert run(executor, make_job("exit 17", success=SuccessRules(exit_codes=(0, 17)))).state is RunState.FAILED

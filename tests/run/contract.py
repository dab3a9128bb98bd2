"""What every executor must do: the shared suite.  A backend's test module subclasses `ExecutorContract`.

It needs two fixtures: `executor`, and `make_job(script, **changes)`, which gives a `Job` that runs a POSIX shell script
in a fresh directory.  Nothing here knows how the executor does it; the scripts need only what busybox has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rompy_hydra.record.outcome import Outcome
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record
from rompy_hydra.run.base import Executor, Job, SuccessRules

MakeJob = Callable[..., Job]

HOSTILE_VALUES = {
    "SPACES": "  two  spaces  ",
    "QUOTES": 'it\'s "quoted" `here`',
    "COMMAND": "$(touch /tmp/rompy-hydra-was-here); rm -rf nothing",
    "NEWLINES": "one\ntwo\n",
    "UNICODE": "Größe → 水",
    "BYTES": b"\xff\xfe\x80".decode("utf-8", "surrogateescape"),
    "BACKSLASH": "\\n \\",
    "EMPTY": "",
    "EQUALS": "a=b=c",
}


def record_for(job: Job) -> dict[str, Any]:
    return {"run_id": job.run_id, "config": {"depth": 4000}}


def run(executor: Executor, job: Job, timeout_s: float = 60) -> Outcome:
    """Start, wait, and check that the record on disk tells the same."""
    outcome = executor.start(job, record_for(job)).wait(timeout_s)
    assert outcome is not None, "it has not ended in time"
    record = read_record(job.run_dir)
    assert record["run_id"] == job.run_id
    assert record["config"] == {"depth": 4000}
    for key, value in outcome.to_dict().items():
        assert record[key] == value, key
    return outcome


def log(job: Job, name: str = "stdout") -> bytes:
    return Path(job.stdout if name == "stdout" else job.stderr or "").read_bytes()  # type: ignore[arg-type]


class ExecutorContract:
    hostile_values: ClassVar[dict[str, str]] = HOSTILE_VALUES

    def test_success_leaves_an_outcome_a_record_and_logs(self, executor: Executor, make_job: MakeJob) -> None:
        job = make_job("echo out; echo err >&2; echo data > result.txt")
        outcome = run(executor, job)
        assert outcome.state is RunState.SUCCEEDED
        assert (outcome.exit_code, outcome.signal) == (0, None)
        assert "exit code 0" in outcome.reason
        assert log(job) == b"out\n"
        assert log(job, "stderr") == b"err\n"
        assert outcome.logs == {"stdout": job.stdout, "stderr": job.stderr}
        assert outcome.started_at is not None
        assert outcome.ended_at is not None
        assert outcome.started_at <= outcome.ended_at
        assert outcome.ended_at.endswith("Z")
        outputs = read_record(job.run_dir)["outputs"]
        assert [(o["path"], o["bytes"]) for o in outputs] == [("result.txt", 5)]

    def test_failure_keeps_the_exit_code_and_quotes_the_last_line(self, executor: Executor, make_job: MakeJob) -> None:
        outcome = run(executor, make_job("echo CFL number above 1 >&2; exit 3"))
        assert outcome.state is RunState.FAILED
        assert (outcome.exit_code, outcome.signal) == (3, None)
        assert "exit code 3" in outcome.reason
        assert "CFL number above 1" in outcome.reason

    def test_a_signal_is_no_exit_code(self, executor: Executor, make_job: MakeJob) -> None:
        outcome = run(executor, make_job("kill -SEGV $$"))
        assert outcome.state is RunState.FAILED
        assert (outcome.exit_code, outcome.signal) == (None, "SIGSEGV")
        assert "SIGSEGV" in outcome.reason

    def test_an_exit_code_of_a_shell_for_a_signal_is_explained(self, executor: Executor, make_job: MakeJob) -> None:
        outcome = run(executor, make_job("sh -c 'kill -SEGV $$'; exit $?"))
        assert (outcome.exit_code, outcome.signal) == (139, None)
        assert "SIGSEGV" in outcome.reason

    def test_other_exit_codes_can_be_success(self, executor: Executor, make_job: MakeJob) -> None:
        rules = SuccessRules(exit_codes=(0, 17))
        assert run(executor, make_job("exit 17", success=rules)).succeeded

    def test_exit_code_0_without_the_promised_file_is_a_failure(self, executor: Executor, make_job: MakeJob) -> None:
        outcome = run(executor, make_job("true", success=SuccessRules(files=("*.nc",))))
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 0)
        assert "success.files" in outcome.reason
        assert "*.nc" in outcome.reason

    def test_a_timeout_ends_the_run(self, executor: Executor, make_job: MakeJob) -> None:
        start = time.monotonic()
        outcome = run(executor, make_job("sleep 60; echo too late", timeout_s=0.5))
        assert outcome.state is RunState.TIMED_OUT
        assert "0.5 s" in outcome.reason
        assert time.monotonic() - start < 30

    def test_cancel_ends_the_run_and_names_the_reason(self, executor: Executor, make_job: MakeJob) -> None:
        job = make_job("echo started; sleep 60")
        running = executor.start(job, record_for(job))
        assert running.wait(0.01) is None
        running.cancel("the user changed her mind")
        outcome = running.wait(30)
        assert outcome is not None
        assert outcome.state is RunState.CANCELLED
        assert "the user changed her mind" in outcome.reason
        assert running.wait() == outcome
        running.cancel("too late to matter")
        assert read_record(job.run_dir)["state"] == "cancelled"

    def test_a_run_that_ignores_term_is_killed(self, executor: Executor, make_job: MakeJob) -> None:
        job = make_job("trap '' TERM; echo ready; while :; do sleep 1; done")
        running = executor.start(job, record_for(job))
        until(lambda: b"ready" in log(job))
        running.cancel("enough")
        outcome = running.wait(30)
        assert outcome is not None
        assert outcome.state is RunState.CANCELLED

    @pytest.mark.parametrize("name", ["with space", "quo'te\"s", "new\nline", "$(echo x);&", "-n", "größe", "*"])
    def test_awkward_directories(self, executor: Executor, make_job: MakeJob, name: str) -> None:
        job = make_job("echo here > out.txt; pwd", name=name)
        assert run(executor, job).succeeded
        assert Path(job.directory, "out.txt").read_text() == "here\n"

    def test_environment_arrives_byte_for_byte(self, executor: Executor, make_job: MakeJob) -> None:
        values = self.hostile_values
        script = "".join(f"printf '%s\\0' \"${name}\"; " for name in values)
        job = make_job(script, environment={**make_job("").environment, **values})
        assert run(executor, job).succeeded
        assert log(job) == b"".join(os.fsencode(value) + b"\0" for value in values.values())
        assert not Path("/tmp/rompy-hydra-was-here").exists()

    def test_binary_output_is_kept_as_it_is(self, executor: Executor, make_job: MakeJob) -> None:
        job = make_job(r"printf '\377\376\000\001\r\n\200'; printf '\303' >&2")
        assert run(executor, job).succeeded
        assert log(job) == b"\xff\xfe\x00\x01\r\n\x80"
        assert log(job, "stderr") == b"\xc3"

    def test_stdin_is_empty(self, executor: Executor, make_job: MakeJob) -> None:
        job = make_job("cat; echo end")
        assert run(executor, job).succeeded
        assert log(job) == b"end\n"

    def test_abort_on_ends_a_run_that_prints_it(self, executor: Executor, make_job: MakeJob) -> None:
        job = make_job("echo step 1; echo 'Solution is NaN at step 2'; sleep 60", abort_on=(r"\bNaN\b",))
        outcome = run(executor, job)
        assert outcome.state is RunState.FAILED
        assert "NaN" in outcome.reason
        assert "Solution is NaN at step 2" in outcome.reason

    def test_a_second_job_starts_after_the_first(self, executor: Executor, make_job: MakeJob) -> None:
        assert run(executor, make_job("exit 1", name="one")).exit_code == 1
        assert run(executor, make_job("exit 0", name="two")).succeeded


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Poll until it holds; tests never rely on how fast a machine is."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def names(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())

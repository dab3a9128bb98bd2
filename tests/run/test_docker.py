"""The Docker executor on the real engine: the shared contract, and what only a container can do."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from rompy_hydra.errors import ConfigError, ExecutionError
from rompy_hydra.record.liveness import read_stat
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record
from rompy_hydra.run.base import Executor, SuccessRules
from rompy_hydra.run.docker import DockerExecutor
from rompy_hydra.run.keeping import wait_any
from rompy_hydra.run.local import LocalExecutor
from tests.run.contract import HOSTILE_VALUES, ExecutorContract, MakeJob, log, record_for, run, until
from tests.run.docker_support import built, containers_in, docker, image_id, inspect, maker

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture(scope="module")
def docker_executor() -> Iterator[DockerExecutor]:
    with DockerExecutor() as executor:
        yield executor


@pytest.fixture
def executor(docker_executor: DockerExecutor) -> DockerExecutor:
    return docker_executor


@pytest.fixture
def make_job(tmp_path: Path, tiny_image: str) -> Iterator[MakeJob]:
    yield maker(tmp_path, image_id(tiny_image))
    assert containers_in(tmp_path) == []


class TestContract(ExecutorContract):
    # An engine is spoken to in JSON, which has no bytes that are no text; they are refused (below).
    hostile_values: ClassVar = {name: value for name, value in HOSTILE_VALUES.items() if name != "BYTES"}

    def test_a_signal_is_no_exit_code(self, executor: Executor, make_job: MakeJob) -> None:
        """An engine tells a signal as a shell does; the reason names it all the same."""
        outcome = run(executor, make_job("kill -SEGV $$"))
        assert outcome.state is RunState.FAILED
        assert (outcome.exit_code, outcome.signal) == (139, None)
        assert "SIGSEGV" in outcome.reason


# ---- how it ends


def test_the_out_of_memory_flag_of_the_engine_is_the_state(executor: DockerExecutor, make_job: MakeJob) -> None:
    outcome = run(executor, make_job("x=x; while :; do x=$x$x; done", memory_bytes=24 << 20))
    assert outcome.state is RunState.OUT_OF_MEMORY
    assert outcome.exit_code == 137
    assert "24.0 MiB" in outcome.reason


def test_swap_does_not_soften_the_limit(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job(
        "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.swap.max", memory_bytes=24 << 20
    )
    run(executor, job)
    assert log(job).split()[0] in (str(24 << 20).encode(), b"0", b"")


def test_a_fork_bomb_stays_within_its_limit(executor: DockerExecutor, make_job: MakeJob) -> None:
    bomb = "f() { f | f & sleep 1; }; f; sleep 2"
    job = make_job(bomb, container={"pids": 40}, timeout_s=5)
    outcome = executor.start(job, record_for(job)).wait(60)
    assert outcome is not None
    assert b"fork" in log(job, "stderr")
    assert run(executor, make_job("true", name="after")).succeeded


def test_the_image_s_own_stop_signal_is_sent(executor: DockerExecutor, tmp_path: Path, tiny_image: str) -> None:
    script = "trap 'echo asked to stop; exit 3' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with built("rompy-test/stop-signal", f"FROM {tiny_image}\nSTOPSIGNAL SIGUSR1\n") as image:
        job = maker(tmp_path, image_id(image))(script, grace_s=20)
        running = executor.start(job, record_for(job))
        until(lambda: log(job) == b"ready\n")
        running.cancel("enough")
        outcome = running.wait(30)
    assert outcome is not None
    assert (outcome.state, outcome.exit_code) == (RunState.CANCELLED, 3)
    assert log(job) == b"ready\nasked to stop\n"


def test_a_stop_that_is_ignored_becomes_a_kill(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("trap '' TERM; echo ready; while :; do sleep 0.1; done", timeout_s=1)
    outcome = run(executor, job)
    assert outcome.state is RunState.TIMED_OUT
    assert outcome.reason.endswith("it had to be killed")
    assert outcome.exit_code == 137


def test_a_program_that_the_image_does_not_have_is_named(executor: DockerExecutor, make_job: MakeJob) -> None:
    outcome = run(executor, make_job(argv=("no such program", "--option")))
    assert outcome.state is RunState.FAILED
    assert outcome.reason.startswith("exit code 127: the image has no program “no such program”")


def test_a_file_that_cannot_be_executed_is_named(executor: DockerExecutor, make_job: MakeJob) -> None:
    outcome = run(executor, make_job(argv=("/tmp",)))
    assert outcome.exit_code == 126
    assert "cannot execute “/tmp”" in outcome.reason


def test_a_shell_s_127_is_explained(executor: DockerExecutor, make_job: MakeJob) -> None:
    outcome = run(executor, make_job("no_such_program"))
    assert outcome.exit_code == 127
    assert "(a shell's way to say: command not found)" in outcome.reason


def test_a_container_that_cannot_be_made_is_told_and_nothing_is_left(
    executor: DockerExecutor, make_job: MakeJob
) -> None:
    job = make_job("true", container={"capabilities": ("NO_SUCH_CAPABILITY",)})
    with pytest.raises(ExecutionError, match=r"(?i)no_such_capability"):
        executor.start(job, record_for(job))
    assert read_record(job.run_dir)["state"] == "failed"


def test_bytes_that_are_no_text_are_refused(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("true", environment={"BYTES": HOSTILE_VALUES["BYTES"]})
    with pytest.raises(ConfigError, match="BYTES holds bytes that are no UTF-8 text"):
        executor.start(job, record_for(job))


def test_a_success_check_runs_in_a_container_of_the_same_image(executor: DockerExecutor, make_job: MakeJob) -> None:
    rules = SuccessRules(check=("/bin/sh", "-c", "cat made; echo $WHO; test $(cat made) = 7"))
    good = run(executor, make_job("echo 7 > made", name="good", environment={"WHO": "me"}, success=rules))
    assert good.succeeded, good.reason
    job = make_job("echo 8 > made", name="bad", environment={"WHO": "me"}, success=rules)
    bad = run(executor, job)
    assert (bad.state, bad.reason) == (RunState.FAILED, "success.check ended with exit code 1: “me”")
    assert Path(job.run_dir, "logs/check.log").read_bytes() == b"8\nme\n"


def test_a_check_that_hangs_is_stopped(executor: DockerExecutor, make_job: MakeJob) -> None:
    rules = SuccessRules(check=("/bin/sh", "-c", "sleep 60"), check_timeout_s=1)
    outcome = run(executor, make_job("true", success=rules))
    assert outcome.reason == "success.check ran longer than 1 s"


def test_a_kept_container_can_be_looked_at(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("echo kept; exit 4", container={"remove": False})
    run(executor, job)
    container = read_record(job.run_dir)["container"]["id"]
    try:
        assert docker("logs", container) == "kept"
        assert inspect(container)["State"]["ExitCode"] == 4
    finally:
        docker("rm", "-f", container)


# ---- what it measures


def test_memory_and_processor_time_come_from_its_control_group(executor: DockerExecutor, make_job: MakeJob) -> None:
    busy = "x=$(head -c 30000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"
    outcome = run(executor, make_job(busy))
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes > 20_000_000
    assert outcome.cpu_seconds is not None
    assert outcome.cpu_seconds > 0.1
    assert "control group" in str(outcome.memory_measured_by)


# ---- output


def test_output_is_there_while_it_runs(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("echo first; while ! test -e go; do sleep 0.05; done; echo last")
    running = executor.start(job, record_for(job))
    until(lambda: log(job) == b"first\n")
    Path(job.run_dir, "go").touch()
    assert running.wait(30) is not None
    assert log(job) == b"first\nlast\n"


def test_output_without_line_ends_is_whole(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("head -c 300000 /dev/zero | tr '\\0' x; head -c 200000 /dev/urandom > random; cat random >&2")
    assert run(executor, job).succeeded
    assert log(job) == b"x" * 300_000
    assert log(job, "stderr") == Path(job.run_dir, "random").read_bytes()


def test_both_streams_may_share_one_file(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("")
    both = str(Path(job.run_dir, "logs/both.log"))
    job = make_job("echo out; echo err >&2", stdout=both, stderr=both)
    assert run(executor, job).succeeded
    assert sorted(Path(both).read_text().split()) == ["err", "out"]


@pytest.mark.slow
def test_a_gigabyte_of_output_costs_little_memory(executor: DockerExecutor, make_job: MakeJob) -> None:
    line = "x" * 999  # the engine takes lines apart, so a thousand millions of empty ones would take it an hour
    job = make_job(f"yes {line} | head -c 1000000000")
    running = executor.start(job, record_for(job))
    peak = 0
    while running.wait(0.2) is None:
        stat = read_stat(running.keeper.pid)
        peak = max(peak, stat.rss_bytes if stat is not None else 0)
    assert Path(job.stdout or "").stat().st_size == 1_000_000_000
    Path(job.stdout or "").unlink()
    assert 0 < peak < 120_000_000


# ---- many


def test_eight_at_once(executor: DockerExecutor, make_job: MakeJob) -> None:
    jobs = [make_job(f"echo {number}; sleep 0.5; exit {number}", name=f"n{number}") for number in range(8)]
    running = [executor.submit(job, record_for(job)) for job in jobs]
    waiting = set(running)
    while waiting:
        over = wait_any(list(waiting), 60)
        assert over
        waiting -= set(over)
    outcomes = [one.wait(0) for one in running]
    assert [outcome.exit_code for outcome in outcomes if outcome is not None] == list(range(8))
    assert [log(job) for job in jobs] == [f"{number}\n".encode() for number in range(8)]


def test_docker_and_local_runs_wait_together(executor: DockerExecutor, make_job: MakeJob, tmp_path: Path) -> None:
    with LocalExecutor() as local:
        here = tmp_path / "here"
        here.mkdir()
        inside = make_job("exit 6")
        out, err = str(here / "out.log"), str(here / "err.log")
        job = replace(inside, run_id="here", run_dir=str(here), directory=str(here), stdout=out, stderr=err)
        job = replace(job, argv=("/bin/sh", "-c", "exit 5"), settings=None)
        running = [local.submit(job, record_for(job)), executor.submit(inside, record_for(inside))]
        waiting = set(running)
        while waiting:
            waiting -= set(wait_any(list(waiting), 60))
        assert [outcome.exit_code for one in running if (outcome := one.wait(0)) is not None] == [5, 6]


def test_a_job_of_a_container_never_runs_on_this_machine(make_job: MakeJob) -> None:
    job = make_job("touch escaped")
    with LocalExecutor() as local, pytest.raises(TypeError, match="another backend"):
        local.submit(job, record_for(job))
    assert not Path(job.run_dir, "escaped").exists()


def test_jobs_and_dropped_handles_leave_no_descriptor_behind(executor: DockerExecutor, make_job: MakeJob) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    assert run(executor, make_job("true", name="first")).succeeded
    before = count()
    for number in range(3):
        assert run(executor, make_job("true", name=f"n{number}")).succeeded
    assert count() == before
    with DockerExecutor() as other:
        job = make_job("true", name="dropped")
        other.start(job, record_for(job))
    gc.collect()
    assert count() == before
    until(lambda: read_record(job.run_dir)["state"] == "succeeded")

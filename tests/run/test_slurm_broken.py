"""What becomes of jobs when the cluster itself breaks: on a small Slurm of our own, which may be stopped and killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record
from rompy_hydra.run.observe import observe
from rompy_hydra.run.slurm import SlurmExecutor
from rompy_hydra.run.slurm_commands import Slurm
from tests.run.contract import MakeJob, log, record_for, until
from tests.run.slurm_support import QUICK, maker
from tests.services.slurm import PrivateSlurm

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm-private"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    if os.geteuid() != 0:
        pytest.skip("a cluster can only be started by root")
    with PrivateSlurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> PrivateSlurm:
    for name, value in shared_cluster.environ.items():
        monkeypatch.setenv(name, value)
    return shared_cluster


@pytest.fixture
def executor(cluster: PrivateSlurm) -> Iterator[SlurmExecutor]:
    with SlurmExecutor(pace=QUICK) as executor:
        yield executor


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    return maker(tmp_path)


def test_a_drained_node_is_told_while_the_job_waits(
    cluster: PrivateSlurm, executor: SlurmExecutor, make_job: MakeJob
) -> None:
    cluster.ask("scontrol", "update", "NodeName=rompy[1-2]", "State=DRAIN", "Reason=test")
    try:
        job = make_job("echo ran")
        running = executor.start(job, record_for(job))
        assert running.wait(3) is None
        record = observe(job.run_dir)
        assert record["state"] == "waiting"
        assert "nodes that it needs are down, drained or reserved" in record["reason"], record["reason"]
    finally:
        cluster.ask("scontrol", "update", "NodeName=rompy[1-2]", "State=RESUME")
    outcome = running.wait(120)
    assert outcome is not None
    assert outcome.succeeded


def test_a_controller_that_is_away_for_a_while_costs_nothing(
    cluster: PrivateSlurm, executor: SlurmExecutor, make_job: MakeJob
) -> None:
    short, long = make_job("echo ended", name="short"), make_job("until test -e go; do sleep 0.1; done", name="long")
    runs = [executor.start(job, record_for(job)) for job in (short, long)]
    until(lambda: all(run.look.task().runs for run in runs), timeout_s=60)
    cluster.controller.stop()
    first = runs[0].wait(60)  # its own words are enough
    assert first is not None
    assert first.succeeded
    impatient = Slurm(patience_s=0.5)
    from rompy_hydra.run import slurm_observe

    seen = slurm_observe.observe(long.run_dir, read_record(long.run_dir), slurm=impatient)
    assert (seen["state"], seen["unverified"]) == ("running", True)
    assert "Slurm cannot be asked" in seen["reason"]
    cluster.controller.start()
    Path(long.run_dir, "go").touch()
    second = runs[1].wait(120)
    assert second is not None
    assert second.succeeded


def test_a_submission_waits_for_a_controller_that_comes_back(cluster: PrivateSlurm, make_job: MakeJob) -> None:
    told: list[str] = []
    paused: list[float] = []

    def comes_back(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 1:
            cluster.controller.start()
            cluster.controller.wait_until(lambda: None if " is UP" in cluster.ask("scontrol", "ping") else "down")

    cluster.controller.stop()
    patient = Slurm(sleep=comes_back, tell=told.append)
    with SlurmExecutor(pace=QUICK, slurm=patient) as executor:
        job = make_job("echo ran >> out.txt")
        outcome = executor.start(job, record_for(job)).wait(120)
    assert outcome is not None
    assert outcome.succeeded
    assert Path(job.run_dir, "out.txt").read_text() == "ran\n"
    assert "does not answer" in told[0]


def test_a_node_that_dies_is_told_and_the_run_is_not_called_succeeded(
    cluster: PrivateSlurm, executor: SlurmExecutor, make_job: MakeJob
) -> None:
    job = make_job("echo $SLURMD_NODENAME; sleep 100", ask={"options": ("--no-requeue",)})
    running = executor.start(job, record_for(job))
    until(lambda: log(job) != b"", timeout_s=60)
    node = cluster.nodes[int(log(job).decode().strip()[-1]) - 1]
    pid = node.pid()
    assert pid is not None
    shim = running.look.task()
    os.kill(pid, signal.SIGKILL)
    for line in cluster.ask("ps", "-eo", "pid,args").splitlines():  # and all that it had started: a power failure
        words = line.split(None, 1)
        if len(words) == 2 and (
            f"[{running.job_id}." in words[1] or f"job{running.job_id:05d}/slurm_script" in words[1]
        ):
            os.kill(int(words[0]), signal.SIGKILL)
    assert shim.job_id == running.job_id
    outcome = running.wait(200)
    assert outcome is not None
    assert outcome.state is RunState.LOST
    assert "a node that it ran on has failed" in outcome.reason, outcome.reason
    node.start()
    cluster.wait_idle()


def test_gpus_are_asked_for_and_given(cluster: PrivateSlurm, executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("env; scontrol show job $SLURM_JOB_ID", ask={"gpus": 2})
    outcome = executor.start(job, record_for(job)).wait(100)
    assert outcome is not None
    assert outcome.succeeded
    assert b"SLURM_GPUS=2" in log(job)
    assert b"gres/gpu=2" in log(job) or b"gres:gpu:2" in log(job)


def test_two_nodes_are_two_nodes(cluster: PrivateSlurm, executor: SlurmExecutor, make_job: MakeJob) -> None:
    job = make_job("scontrol show hostnames", ask={"nodes": 2, "ntasks": 2})
    outcome = executor.start(job, record_for(job)).wait(100)
    assert outcome is not None
    assert log(job) == b"rompy1\nrompy2\n"

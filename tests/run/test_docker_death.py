"""Containers outlive their driver, their keeper and both: whoever looks next finds them, and nothing runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record, write_record
from rompy_hydra.run.base import SuccessRules
from rompy_hydra.run.docker import DockerExecutor
from rompy_hydra.run.keeping import KeptRun
from rompy_hydra.run.observe import observe
from tests.run.contract import MakeJob, log, record_for, until
from tests.run.docker_support import container_of, containers_in, docker, image_id, maker

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]

# Counts itself, prints, waits for leave, prints more, ends with a code of its own.
SCRIPT = "echo x >> ran; echo before; echo aside >&2; while ! test -e go; do sleep 0.05; done; printf 'after'; exit 3"


@pytest.fixture
def make_job(tmp_path: Path, tiny_image: str) -> Iterator[MakeJob]:
    yield maker(tmp_path, image_id(tiny_image))
    assert containers_in(tmp_path) == []


@pytest.fixture
def executor() -> Iterator[DockerExecutor]:
    with DockerExecutor() as executor:
        yield executor


def assert_ended_once(run_dir: str, reason: str = "exit code 3") -> dict[str, Any]:
    record = read_record(run_dir)
    assert (record["state"], record["exit_code"]) == ("failed", 3)
    assert reason in record["reason"]
    assert Path(run_dir, "ran").read_text() == "x\n"
    assert Path(run_dir, "logs/stdout.log").read_text() == "before\nafter"
    assert Path(run_dir, "logs/stderr.log").read_text() == "aside\n"
    assert sorted(path.name for path in Path(run_dir).iterdir()) == ["go", "logs", "ran", "run.json"]
    return record


class Driver:
    """`rompy-hydra run` in a process of its own."""

    def __init__(self, where: Path, image: str, script: str = SCRIPT, *words: str) -> None:
        self.where = where
        self.run = where / "out" / "r"
        (where / "script.sh").write_text(script)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rompy_hydra", "run", "model=command", "backend=docker", f"backend.image={image}",
             "output_dir=out", "run_id=r", f"backend.executable=[/bin/sh,{where}/script.sh]",
             f"backend.volumes=['{where}/script.sh:{where}/script.sh']", *words],
            cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        until(lambda: (self.run / "ran").exists() or self.process.poll() is not None, 60)

    def end(self) -> int:
        out, err = self.process.communicate(timeout=60)
        assert "Traceback" not in out + err
        code = self.process.returncode
        return 128 - code if code < 0 else code

    def kill_all(self) -> None:
        """Driver and keeper at once, as when a machine runs out of memory."""
        keeper = read_record(self.run)["watcher"]["pid"]
        self.process.kill()
        os.kill(keeper, signal.SIGKILL)
        self.end()
        until(lambda: ProcessIdentity.from_dict(read_record(self.run)["watcher"]).is_alive() is False)

    def status(self) -> dict[str, Any]:
        told = subprocess.run(
            [sys.executable, "-m", "rompy_hydra", "status", "out/r", "--json"],
            cwd=self.where, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return dict(json.loads(told.stdout))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_driver_stops_its_container(tmp_path: Path, tiny_image: str, number: signal.Signals) -> None:
    driver = Driver(tmp_path, tiny_image)
    driver.process.send_signal(number)
    assert driver.end() == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert read_record(driver.run)["state"] == "cancelled"
    assert containers_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=lambda number: number.name)
def test_a_container_goes_on_without_its_driver(tmp_path: Path, tiny_image: str, number: signal.Signals) -> None:
    driver = Driver(tmp_path, tiny_image)
    driver.process.send_signal(number)
    driver.end()
    assert driver.status()["state"] == "running"
    (driver.run / "go").touch()
    until(lambda: read_record(driver.run)["state"] != "running")
    record = read_record(driver.run)
    assert (record["state"], record["exit_code"]) == ("failed", 3)
    assert (driver.run / "ran").read_text() == "x\n"
    until(lambda: containers_in(tmp_path) == [])


def test_status_takes_up_a_container_that_nobody_watches(tmp_path: Path, tiny_image: str) -> None:
    driver = Driver(tmp_path, tiny_image)
    driver.kill_all()
    seen = driver.status()
    assert seen["state"] == "running"
    assert "the container goes on" in seen["reason"]
    (driver.run / "go").touch()
    name = read_record(driver.run)["container"]["name"]
    until(lambda: docker("inspect", "-f", "{{.State.Status}}", name) == "exited")
    with ThreadPoolExecutor(4) as several:  # several look at the same moment: one of them takes it up
        told = list(several.map(lambda _: driver.status(), range(4)))
    assert {record["state"] for record in told} <= {"failed", "running"}
    until(lambda: driver.status()["state"] == "failed")
    record = driver.status()
    assert (record["exit_code"], len(record["attempts"])) == (3, 1)
    assert (driver.run / "ran").read_text() == "x\n"
    assert (driver.run / "logs/stdout.log").read_text() == "before\nafter"
    assert (driver.run / "logs/stderr.log").read_text() == "aside\n"
    assert containers_in(tmp_path) == []


def test_status_ends_a_container_whose_time_is_over(tmp_path: Path, tiny_image: str) -> None:
    driver = Driver(tmp_path, tiny_image, SCRIPT, "resources.time_limit=3")
    driver.kill_all()
    until(lambda: driver.status()["state"] == "timed_out")
    assert containers_in(tmp_path) == []


def kill_keeper(running: KeptRun) -> None:
    os.kill(running.keeper.pid, signal.SIGKILL)


def test_a_driver_replaces_a_keeper_that_died(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job(SCRIPT)
    running = executor.start(job, record_for(job))
    until(lambda: log(job) == b"before\n" and log(job, "stderr") == b"aside\n")
    first, fd = running.keeper, running.fileno()
    kill_keeper(running)
    until(lambda: running.wait(0.1) is None and running.keeper != first)
    assert running.fileno() == fd  # whoever polls on it needs no news of the change
    Path(job.run_dir, "go").touch()
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.notes == ["its keeper died while it ran; another one took it up from the engine"]
    assert_ended_once(job.run_dir)


def test_output_made_while_nobody_watched_is_in_the_logs(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job("i=0; while [ $i -lt 3000 ]; do echo line $i; echo $i >&2; i=$((i+1)); done; sleep 1")
    running = executor.start(job, record_for(job))
    until(lambda: len(log(job)) > 100)
    kill_keeper(running)
    assert running.wait(60) is not None
    assert log(job) == b"".join(b"line %d\n" % number for number in range(3000))
    assert log(job, "stderr") == b"".join(b"%d\n" % number for number in range(3000))


def test_limits_and_rules_hold_after_a_change_of_keepers(executor: DockerExecutor, make_job: MakeJob) -> None:
    late = make_job("echo x; sleep 60", name="late", timeout_s=3)
    bad = make_job("echo x; sleep 1; echo now NaN; sleep 60", name="bad", abort_on=("NaN",))
    check = ("/bin/sh", "-c", 'test "$WHO" = me && echo checked')
    good = make_job("echo x; sleep 1", name="good", environment={"WHO": "me"}, success=SuccessRules(check=check))
    running = [executor.start(job, record_for(job)) for job in (late, bad, good)]
    for one, job in zip(running, (late, bad, good), strict=True):
        until(lambda job=job: log(job) == b"x\n")  # type: ignore[misc]
        kill_keeper(one)
    outcomes = [one.wait(60) for one in running]
    states = [outcome.state for outcome in outcomes if outcome is not None]
    assert states == [RunState.TIMED_OUT, RunState.FAILED, RunState.SUCCEEDED], outcomes


def test_a_container_can_be_cancelled_after_a_change_of_keepers(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job(SCRIPT)
    running = executor.start(job, record_for(job))
    first = running.keeper
    kill_keeper(running)
    until(lambda: running.wait(0.1) is None and running.keeper != first)
    running.cancel("enough")
    outcome = running.wait(60)
    assert outcome is not None
    assert (outcome.state, outcome.reason.startswith("enough")) == (RunState.CANCELLED, True)


def test_a_container_that_somebody_removed_is_lost(executor: DockerExecutor, make_job: MakeJob) -> None:
    job = make_job(SCRIPT, container={"remove": False})
    running = executor.start(job, record_for(job))
    docker("rm", "-f", container_of(running))
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.state is RunState.LOST
    assert "is gone from the engine" in outcome.reason


def dead_process() -> dict[str, Any]:
    child = subprocess.Popen(["sleep", "60"])
    who = ProcessIdentity.of(child.pid).to_dict()
    child.kill()
    child.wait()
    return {"role": "keeper", **who}


@pytest.mark.parametrize("was_made", [True, False])
def test_a_keeper_that_died_before_the_start_leaves_a_lost_run(
    executor: DockerExecutor, make_job: MakeJob, tiny_image: str, tmp_path: Path, *, was_made: bool
) -> None:
    job = replace(make_job(SCRIPT), timeout_s=60)
    wire = {**executor.wire(job), "container": {**executor.wire(job)["container"], "mounts": [], "secret_files": {}}}
    name = f"rompy-test-{os.getpid()}-{was_made}"
    container = {"name": name, "engine": wire["container"]["engine"], "image": tiny_image}
    record = {**record_for(job), "job_token": name, "state": "running", "watcher": dead_process()}
    logs = {"stdout": job.stdout, "stderr": job.stderr}
    write_record(
        job.run_dir, {**record, "container": container, "logs": logs, "started_at": "2026-01-01T00:00:00.000Z"}
    )
    Path(job.run_dir, ".run.json.job").write_text(json.dumps({"token": name, "job": wire}))
    if was_made:
        labels = ["--label", f"rompy-hydra.token={name}", "--label", "rompy-hydra.role=run"]
        docker("create", "--name", name, *labels, "-v", f"{tmp_path}:/x", tiny_image, "true")
    found = observe(job.run_dir)
    assert found["state"] == "lost"
    assert ("had started the container" if was_made else "is gone from the engine") in found["reason"]
    assert not Path(job.run_dir, "ran").exists()


def test_a_container_of_somebody_else_is_never_touched(
    executor: DockerExecutor, make_job: MakeJob, tiny_image: str
) -> None:
    other = docker("run", "-d", "--label", "rompy-hydra.token=not-ours", tiny_image, "sleep", "60")
    try:
        job = make_job("sleep 60", timeout_s=1)
        assert executor.start(job, record_for(job)).wait(60) is not None
        assert docker("inspect", "-f", "{{.State.Running}}", other) == "true"
    finally:
        docker("rm", "-f", other)


def sweep(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "rompy_hydra", *words], cwd=tmp_path, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip


def test_local_and_docker_points_of_one_sweep_survive_its_driver(tmp_path: Path, tiny_image: str) -> None:
    command = "echo x >> ran; while ! test -e go; do sleep 0.05; done"
    words = ["model=command", f"model.command='{command}'", f"model.image={tiny_image}", "backend=docker,local"]
    driver = sweep(tmp_path, "run", "-m", *words, "hydra.sweep.dir=swept", "sweep.jobs=2")
    points = [tmp_path / "swept" / name for name in ("0", "1")]
    until(lambda: all((point / "ran").exists() for point in points), 60)
    keepers = [read_record(p)["watcher"]["pid"] for p in points if (p / "run.json").exists()]
    driver.kill()
    driver.communicate()
    os.kill(keepers[0], signal.SIGKILL)  # of the container
    resumed = sweep(tmp_path, "resume", "swept")
    for point in points:
        (point / "go").touch()
    said, _ = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, said
    assert [(point / "ran").read_text() for point in points] == ["x\n", "x\n"]
    assert [read_record(point)["state"] for point in points] == ["succeeded", "succeeded"]
    assert containers_in(tmp_path) == []

"""Sweeps on a cluster, as a user types them; the cluster is a few lines of shell that run jobs here (`fake_slurm`)."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.report.facts import Reader
from rompy_hydra.sweep.layout import SweepLayout
from tests.sweep.commands import PATIENCE_S, ROOT, Sweeps, kill, until
from tests.sweep.fake_slurm import FakeSlurm

_GRACE = {"ROMPY_HYDRA_SLURM_GRACE": "2"}
SLURM = ("backend=slurm", "resources.time_limit=10m")


class SlurmSweeps(Sweeps):
    """Sweeps that find the cluster of this test."""

    def __init__(self, directory: Path, cluster: FakeSlurm) -> None:
        super().__init__(directory)
        self.cluster = cluster

    def run(self, *words: str, code: int | None = 0, **how: Any) -> subprocess.CompletedProcess[str]:
        how["env"] = {**self.cluster.environ, **_GRACE, **how.get("env", {})}
        return super().run(*words, code=code, **how)

    @contextlib.contextmanager
    def driven(self, *words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """A command that drives a sweep; when it is handed out, the sweep is there."""
        process = subprocess.Popen(
            [sys.executable, "-m", "rompy_hydra", *words],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), **_GRACE, **self.cluster.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            until(lambda: process.poll() is not None or self.path.exists())
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()

    def sweep(self, command: str, *words: str) -> list[str]:
        return super().sweep(command, *SLURM, *words)

    def states_until(self, wanted: dict[str, int]) -> None:
        until(lambda: self.states() == wanted)


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[SlurmSweeps]:
    found = SlurmSweeps(tmp_path, FakeSlurm(tmp_path / "cluster"))
    yield found
    for pid in tmp_path.glob("cluster/job.*/pid.*"):
        if not pid.with_name(f"done.{pid.suffix[1:]}").exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False, capture_output=True)


def once(sweeps: SlurmSweeps, points: int) -> None:
    ran = sweeps.ran()
    assert ran == {str(n): 1 for n in range(points)}, {n: c for n, c in ran.items() if c != 1}


# ---- arrays


def test_points_become_one_array_and_every_record_is_whole(sweeps: SlurmSweeps) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,6)"))
    once(sweeps, 6)
    assert sweeps.cluster.tasks() == [6]
    assert sweeps.states() == {"succeeded": 6}
    record = sweeps.record(3)
    assert (record["state"], record["backend"], record["slurm"]["task"]) == ("succeeded", "slurm", 3)
    assert "job" not in record["slurm"]
    assert len(record["attempts"]) == 1
    assert sorted(p.name for p in (sweeps.path / "3").iterdir()) == ["run.json", "stderr.log", "stdout.log"]
    (batch,) = (sweeps.path / "jobs").iterdir()
    assert sorted(p.name for p in batch.iterdir()) == ["job.sh", "status"]


def test_an_array_is_not_larger_than_the_site_allows(sweeps: SlurmSweeps) -> None:
    (sweeps.cluster.directory / "max_array_size").write_text("4\n")
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,10)"))
    once(sweeps, 10)
    assert sorted(sweeps.cluster.tasks()) == [3, 3, 4]


def test_points_of_different_resources_are_different_arrays(sweeps: SlurmSweeps) -> None:
    words = ("vars.n=range(0,3)", "resources.cpus=1,2", "model.parallel=openmp")
    sweeps.run(*sweeps.sweep("true", *words))
    assert sweeps.cluster.tasks() == [3, 3]
    asked = [next(line for line in s.splitlines() if "cpus-per-task" in line) for s in sweeps.cluster.scripts()]
    assert asked == ["#SBATCH --cpus-per-task=1", "#SBATCH --cpus-per-task=2"]


def test_packed_points_share_jobs_and_the_time_that_they_need(sweeps: SlurmSweeps) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,10)", "sweep.runs_per_job=4"))
    once(sweeps, 10)
    assert sweeps.cluster.tasks() == [3]
    assert "#SBATCH --time=0-00:40:00" in sweeps.cluster.scripts()[0]


def test_auto_packs_by_the_time_limit_of_a_point(sweeps: SlurmSweeps) -> None:
    words = ("vars.n=range(0,12)", "sweep.runs_per_job=auto", "sweep.job_time=1h")
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), *words))
    once(sweeps, 12)
    assert sweeps.cluster.tasks() == [2]


def test_packed_points_run_side_by_side_where_the_job_asks_for_it(sweeps: SlurmSweeps) -> None:
    meet = "touch ../here.${vars.n}; while [ $(ls ../here.* | wc -l) -lt 3 ]; do sleep 0.05; done"
    sweeps.run(*sweeps.sweep(meet, "vars.n=range(0,3)", "sweep.runs_per_job=3", "sweep.runs_at_once=3"))
    (script,) = sweeps.cluster.scripts()
    assert "#SBATCH --ntasks=3" in script
    assert "#SBATCH --time=0-00:10:00" in script


def test_a_sweep_may_be_mixed(sweeps: SlurmSweeps) -> None:
    words = [w for w in sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,4)") if w != "backend=slurm"]
    sweeps.run(*words, "backend=local,slurm")
    assert sweeps.ran() == {str(n): 2 for n in range(4)}
    assert sweeps.cluster.tasks() == [4]
    assert collections.Counter(sweeps.record(n)["backend"] for n in range(8)) == {"slurm": 4, "local": 4}


def test_a_dry_run_tells_how_many_jobs_it_would_be(sweeps: SlurmSweeps) -> None:
    words = sweeps.sweep("true", "vars.n=range(0,10)", "sweep.runs_per_job=4", "sweep.max_in_queue=2", "--dry-run")
    lines = sweeps.run(*words, "resources.time_limit=10m", "resources.memory=1g").stdout.splitlines()
    assert lines[2] == "  sbatch --nodes=1 --ntasks=1 --cpus-per-task=1 --mem=1024M --time=0-00:10:00"
    assert "jobs         3 for 10 points, in 1 array (of at most 1001), at most 2 in the queue at a time" in lines
    assert not sweeps.cluster.jobs()


# ---- submit and exit


def test_a_detached_sweep_is_left_to_the_queue_and_told_of_later(sweeps: SlurmSweeps) -> None:
    sweeps.cluster.switch("hold")
    done = sweeps.run(*sweeps.sweep("exit ${vars.n}", "vars.n=0,1,2"), "--detach")
    assert "3 of 3 points are in the queue: job 1000" in done.stdout
    assert sweeps.states() == {"waiting": 3}
    assert "its jobs go on by themselves" in sweeps.run("status", "sw").stdout
    assert not (sweeps.path / ".lease").exists()
    sweeps.cluster.start()
    sweeps.states_until({"succeeded": 1, "failed": 2})  # the queue has forgotten them, the files tell
    told = json.loads(sweeps.run("status", "--json", "sw").stdout)
    assert told["cost"]["attempts"] == 3
    assert [failure["name"] for failure in told["failures"]] == ["1", "2"]
    assert "exit code 2" in told["failures"][1]["reason"]
    facts = Reader(SweepLayout(sweeps.path)).read()  # nor does a report wait until somebody records the ends
    assert [(p.state, p.wall_s is not None) for p in facts.points] == [
        ("succeeded", True),
        ("failed", True),
        ("failed", True),
    ]
    assert sorted(span.number for span in facts.spans) == [0, 1, 2]
    assert facts.cost.attempts == 3
    sweeps.run("resume", "sw", code=1)
    assert [e["state"] for e in sweeps.events("end")] == ["succeeded", "failed", "failed"]
    assert sweeps.record(2)["state"] == "failed"


def test_logs_of_a_point_are_there_while_it_runs(sweeps: SlurmSweeps) -> None:
    wait = "echo hello; while ! test -e ../go; do sleep 0.05; done"
    sweeps.run(*sweeps.sweep(wait, "vars.n=0"), "--detach")
    sweeps.states_until({"running": 1})
    assert sweeps.run("logs", "sw", "0").stdout == "hello\n"
    assert "state    running" in sweeps.run("status", "sw/0").stdout
    (sweeps.path / "go").touch()
    assert sweeps.run("logs", "-f", "sw", "0").stdout == "hello\n"
    sweeps.states_until({"succeeded": 1})
    assert "state    succeeded" in sweeps.run("status", "sw/0").stdout  # written by whoever looks: it may
    assert "job" not in sweeps.record(0)["slurm"]
    assert sweeps.states() == {"succeeded": 1}
    sweeps.run("resume", "sw")
    assert [e["state"] for e in sweeps.events("end")] == ["succeeded"]
    assert len(sweeps.record(0)["attempts"]) == 1


def test_what_finds_no_room_in_the_queue_is_submitted_by_a_process_that_goes_on(sweeps: SlurmSweeps) -> None:
    words = sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,7)", "sweep.max_in_queue=3")
    done = sweeps.run(*words, "--detach")
    assert "3 of 7 points are in the queue" in done.stdout.replace("7 of 7", "3 of 7")
    until(lambda: sweeps.states() == {"succeeded": 7})
    once(sweeps, 7)
    assert max(sweeps.cluster.tasks()) <= 3
    until(lambda: not (sweeps.path / ".lease").exists())


def test_no_more_jobs_than_allowed_are_in_the_queue_at_a_time(sweeps: SlurmSweeps) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=range(0,9)", "sweep.max_in_queue=2"))
    once(sweeps, 9)
    assert all(tasks <= 2 for tasks in sweeps.cluster.tasks())
    ends = starts = 0
    for event in sweeps.events():
        starts, ends = starts + (event["e"] == "start"), ends + (event["e"] == "end")
        assert starts - ends <= 2


def test_a_refused_job_fails_its_points_with_the_words_of_the_scheduler(sweeps: SlurmSweeps) -> None:
    sweeps.cluster.switch("refuse", "sbatch: error: invalid partition specified: nowhere")
    done = sweeps.run(*sweeps.sweep("true", "vars.n=0,1"), code=1)
    assert "invalid partition specified" in done.stderr
    assert sweeps.states() == {"failed": 2}
    sweeps.cluster.unswitch("refuse")
    sweeps.run("resume", "--retry-failed", "sw")
    assert sweeps.states() == {"succeeded": 2}


def test_a_full_queue_is_tried_again_later(sweeps: SlurmSweeps) -> None:
    sweeps.cluster.switch("full", "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    with sweeps.driven(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1")) as driver:
        until(lambda: len(sweeps.events("back")) == 2)
        assert sweeps.states() == {"queued": 2}
        driver.send_signal(signal.SIGINT)
        assert driver.wait(PATIENCE_S) == 130
    assert not sweeps.ran()
    sweeps.cluster.unswitch("full")
    sweeps.run("resume", "sw")
    once(sweeps, 2)


def test_an_end_that_somebody_else_has_recorded_meanwhile_is_taken_as_it_is(sweeps: SlurmSweeps) -> None:
    wait = "while ! test -e ../go; do sleep 0.05; done; exit ${vars.n}"
    with sweeps.driven(*sweeps.sweep(wait, "vars.n=0,1")) as driver:
        until(lambda: sweeps.states().get("running", 0) == 2)
        driver.send_signal(signal.SIGSTOP)
        (sweeps.path / "go").touch()
        until(lambda: "exit code 0" in sweeps.run("status", "sw/0").stdout)
        until(lambda: "exit code 1" in sweeps.run("status", "sw/1").stdout)
        driver.send_signal(signal.SIGCONT)
        assert driver.wait(PATIENCE_S) == 1
    assert [e["state"] for e in sorted(sweeps.events("end"), key=lambda e: e["n"])] == ["succeeded", "failed"]


# ---- retries


def test_a_failed_run_is_tried_again_by_its_job_itself(sweeps: SlurmSweeps) -> None:
    words = ("vars.n=0", "retry.attempts=3", "retry.wait=0.1")
    sweeps.run(*sweeps.sweep("test $(ls stdout*.log | wc -l) = 3", *words))
    assert sweeps.cluster.tasks() == [1]
    assert [a["state"] for a in sweeps.record(0)["attempts"]] == ["failed", "failed", "succeeded"]
    assert len(sweeps.events("end")) == 1


def test_what_is_to_get_more_is_submitted_again_as_a_further_array(sweeps: SlurmSweeps) -> None:
    words = ("vars.n=0,1", "retry.attempts=2", "retry.wait=0.1", "retry.scale.time_limit=3")
    sweeps.run(*sweeps.sweep("test -e stdout.2.log || test ${vars.n} = 1", *words))
    assert sweeps.cluster.tasks() == [2, 1]
    first, second = sweeps.cluster.scripts()
    assert "#SBATCH --time=0-00:10:00" in first
    assert "#SBATCH --time=0-00:30:00" in second
    assert [a["state"] for a in sweeps.record(0)["attempts"]] == ["failed", "succeeded"]
    assert [(e["n"], e["a"], e["state"]) for e in sweeps.events("end") if e["n"] == 0] == [
        (0, 1, "failed"),
        (0, 2, "succeeded"),
    ]


# ---- ending


def test_cancel_ends_exactly_our_jobs_without_a_driver(sweeps: SlurmSweeps) -> None:
    loop = "while :; do sleep 0.05; done"
    sweeps.run(*sweeps.sweep(loop, "vars.n=range(0,4)"), "--detach")
    until(lambda: sweeps.states().get("running", 0) == 2)
    done = sweeps.run("cancel", "sw")
    assert "4 of its points" in done.stdout
    assert sweeps.cluster.cancelled() == ["1000"]
    sweeps.states_until({"cancelled": 4})


def test_cancel_ends_single_points_and_the_others_go_on(sweeps: SlurmSweeps) -> None:
    wait = f"while ! test -e ../go; do sleep 0.05; done; {sweeps.append('${vars.n}')}"
    with sweeps.driven(*sweeps.sweep(wait, "vars.n=range(0,4)")) as driver:
        until(lambda: sweeps.states().get("running", 0) == 2)
        sweeps.run("cancel", "sw", "1", "3")
        until(lambda: {e["n"] for e in sweeps.events("end")} == {1, 3})
        assert sweeps.cluster.cancelled() == ["1000_[1,3]"]
        (sweeps.path / "go").touch()
        assert driver.wait(PATIENCE_S) == 1
    assert sweeps.ran() == {"0": 1, "2": 1}
    assert sweeps.states() == {"succeeded": 2, "cancelled": 2}
    assert "rompy-hydra cancel" in sweeps.record(1)["reason"]


def test_a_packed_point_that_has_not_begun_is_passed_over(sweeps: SlurmSweeps) -> None:
    wait = f"while ! test -e ../go; do sleep 0.05; done; {sweeps.append('${vars.n}')}"
    with sweeps.driven(*sweeps.sweep(wait, "vars.n=range(0,3)", "sweep.runs_per_job=3")) as driver:
        until(lambda: sweeps.states().get("running", 0) == 1)
        sweeps.run("cancel", "sw", "2")
        until(lambda: list(sweeps.path.glob("jobs/*/skip.2")))
        (sweeps.path / "go").touch()
        assert driver.wait(PATIENCE_S) == 1
    assert sweeps.ran() == {"0": 1, "1": 1}
    assert sweeps.states() == {"succeeded": 2, "cancelled": 1}


def test_a_packed_point_that_runs_is_ended_and_the_others_go_on(sweeps: SlurmSweeps) -> None:
    wait = f"while ! test -e ../go.${{vars.n}}; do sleep 0.05; done; {sweeps.append('${vars.n}')}"
    with sweeps.driven(*sweeps.sweep(wait, "vars.n=range(0,3)", "sweep.runs_per_job=3")) as driver:
        until(lambda: sweeps.states().get("running", 0) == 1)
        for number in (1, 2):
            (sweeps.path / f"go.{number}").touch()
        sweeps.run("cancel", "sw", "0")
        assert driver.wait(PATIENCE_S) == 1
    assert sweeps.ran() == {"1": 1, "2": 1}
    assert sweeps.states() == {"succeeded": 2, "cancelled": 1}


def test_an_interruption_without_a_terminal_leaves_the_jobs_in_the_queue(sweeps: SlurmSweeps) -> None:
    wait = f"while ! test -e ../go; do sleep 0.05; done; {sweeps.append('${vars.n}')}"
    with sweeps.driven(*sweeps.sweep(wait, "vars.n=0,1")) as driver:
        until(lambda: sweeps.states().get("running", 0) == 2)
        driver.send_signal(signal.SIGINT)
        out, err = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 130, err
    assert "stay in the queue" in err
    assert "rompy-hydra cancel" in out
    assert sweeps.states() == {"running": 2}
    (sweeps.path / "go").touch()
    sweeps.run("resume", "sw")
    once(sweeps, 2)


def test_a_job_that_somebody_else_ended_is_no_success(sweeps: SlurmSweeps) -> None:
    sweeps.cluster.switch("hold")
    sweeps.run(*sweeps.sweep("true", "vars.n=0"), "--detach")
    (job,) = sweeps.cluster.jobs()
    (job / "done.0").touch()  # gone from the queue without a word
    sweeps.states_until({"lost": 1})
    assert "not in the queue" in json.loads(sweeps.run("status", "--json", "sw").stdout)["failures"][0]["reason"]


# ---- inside an allocation


def in_two_nodes(sweeps: SlurmSweeps) -> dict[str, str]:
    """The environment of a PBS job on two nodes, and the launcher that its site would have."""
    (sweeps.directory / "nodes").write_text("node-a\nnode-b\n")
    launcher = sweeps.directory / "launch"
    launcher.write_text('#!/bin/sh\nhost=$1\nshift\nNODE=$host exec "$@"\n')
    launcher.chmod(0o755)
    return {"PBS_JOBID": "77.server", "PBS_NODEFILE": str(sweeps.directory / "nodes"), "NCPUS": "2"}


def test_a_resume_inside_an_allocation_packs_what_is_left_onto_its_nodes(sweeps: SlurmSweeps) -> None:
    environ = in_two_nodes(sweeps)
    command = f"echo $NODE > node; sleep 0.2; {sweeps.append('${vars.n}')}"
    launch = f'site.node_launcher=[{sweeps.directory}/launch,"{{host}}"]'
    done = sweeps.run(*sweeps.sweep(command, "vars.n=range(0,8)", launch), "--emit-script", "pbs", "--nodes", "2")
    assert "#PBS -l select=2:ncpus=1" in done.stdout
    assert not sweeps.ran()
    done = sweeps.run("resume", "sw", env=environ)
    assert "inside pbs job 77.server: 2 nodes, 4 CPUs" in done.stderr
    once(sweeps, 8)
    assert not sweeps.cluster.jobs()
    assert {(sweeps.path / str(n) / "node").read_text() for n in range(8)} == {"node-a\n", "node-b\n"}
    assert sweeps.record(0)["state"] == "succeeded"


def test_inside_an_allocation_the_queue_can_be_taken_all_the_same(sweeps: SlurmSweeps) -> None:
    sweeps.run(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1"), "--emit-script", "lsf")
    sweeps.run("resume", "sw", "--submit", env=in_two_nodes(sweeps))
    once(sweeps, 2)
    assert sweeps.cluster.tasks() == [2]


def test_a_driver_that_is_killed_inside_an_allocation_repeats_nothing(sweeps: SlurmSweeps) -> None:
    environ = in_two_nodes(sweeps)
    launch = f'site.node_launcher=[{sweeps.directory}/launch,"{{host}}"]'
    wait = f"while ! test -e ../go; do sleep 0.05; done; {sweeps.append('${vars.n}')}"
    sweeps.run(*sweeps.sweep(wait, "vars.n=range(0,6)", launch), "--emit-script", "pbs")
    with sweeps.driven("resume", "sw", env=environ) as driver:
        until(lambda: sweeps.states().get("running", 0) == 4)
        kill(driver)
    with sweeps.driven("resume", "sw", env=environ) as driver:
        until(lambda: len(sweeps.events("driver")) == 2)
        time.sleep(1)
        (sweeps.path / "go").touch()
        out, err = driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode == 0, f"{out}\n{err}"
    once(sweeps, 6)


# ---- killed


def test_a_silent_controller_is_no_news(sweeps: SlurmSweeps) -> None:
    wait = f"while ! test -e ../go; do sleep 0.05; done; {sweeps.append('${vars.n}')}"
    with sweeps.driven(*sweeps.sweep(wait, "vars.n=0,1")) as driver:
        until(lambda: sweeps.states().get("running", 0) == 2)
        sweeps.cluster.switch("silent", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
        (sweeps.path / "go").touch()
        time.sleep(1)
        sweeps.cluster.unswitch("silent")
        assert driver.wait(PATIENCE_S) == 0
    once(sweeps, 2)
    assert sweeps.states() == {"succeeded": 2}


def test_a_job_that_was_submitted_but_not_journaled_is_found(sweeps: SlurmSweeps) -> None:
    sweeps.cluster.switch("slow")
    sweeps.cluster.switch("hold")
    with sweeps.driven(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1,2")) as driver:
        until(lambda: sweeps.cluster.jobs() and (sweeps.cluster.jobs()[0] / "script").exists())
        kill(driver)
    assert not sweeps.events("job")
    assert len(sweeps.events("start")) == 3
    sweeps.cluster.start()
    sweeps.run("resume", "sw")
    once(sweeps, 3)
    assert len(sweeps.cluster.jobs()) == 1


def test_a_job_that_comes_into_the_queue_after_all_runs_nothing(sweeps: SlurmSweeps) -> None:
    """Its sbatch was on its way when the driver died, and the queue did not know it when `resume` asked."""
    sweeps.cluster.switch("slow")
    sweeps.cluster.switch("hold")
    with sweeps.driven(*sweeps.sweep(sweeps.append("${vars.n}"), "vars.n=0,1,2")) as driver:
        until(lambda: sweeps.cluster.jobs() and (sweeps.cluster.jobs()[0] / "script").exists())
        kill(driver)
    late = sweeps.cluster.jobs()[0]
    late.rename(sweeps.cluster.directory / "late")
    sweeps.cluster.unswitch("hold")
    sweeps.cluster.unswitch("slow")
    sweeps.run("resume", "sw")
    once(sweeps, 3)
    (sweeps.cluster.directory / "late").rename(sweeps.cluster.directory / "job.2000")
    subprocess.run(["sh", str(sweeps.cluster.directory / "bin" / "start"), "2000"], check=True, timeout=PATIENCE_S)
    once(sweeps, 3)


def killed_again_and_again(sweeps: SlurmSweeps, rnd: random.Random, *, points: int, kills: int, runs: int) -> int:
    words = sweeps.sweep(
        sweeps.append("${vars.n}"), f"vars.n=range(0,{points})", f"sweep.runs_per_job={runs}", "sweep.max_in_queue=40"
    )
    killed = 0
    while True:
        with sweeps.driven(*words) as driver:
            words = ["resume", "sw"]
            if killed < kills:
                try:
                    driver.wait(rnd.uniform(0, 2.5))
                except subprocess.TimeoutExpired:
                    kill(driver)
                    killed += 1
                    continue
            out, err = driver.communicate(timeout=300)
            assert driver.returncode == 0, f"{out}\n{err}"
            return killed


def check_exactly_once(sweeps: SlurmSweeps, points: int) -> None:
    once(sweeps, points)
    assert sweeps.states() == {"succeeded": points}
    assert sorted(e["n"] for e in sweeps.events("end") if not e.get("again")) == list(range(points))
    for number in range(points):
        assert [a["state"] for a in sweeps.record(number)["attempts"]] == ["succeeded"]


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_driver_costs_no_point_and_repeats_none(sweeps: SlurmSweeps, seed: int) -> None:
    rnd = random.Random(seed)
    killed_again_and_again(sweeps, rnd, points=30, kills=3, runs=rnd.choice([1, 3]))
    check_exactly_once(sweeps, 30)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
def test_twenty_killed_drivers_of_three_hundred_points(
    sweeps: SlurmSweeps, soak_random: random.Random, number: int
) -> None:
    rnd = random.Random(f"{soak_random.random()} {number}")
    killed_again_and_again(sweeps, rnd, points=300, kills=rnd.choice([1, 3, 8]), runs=rnd.choice([1, 2, 10]))
    check_exactly_once(sweeps, 300)

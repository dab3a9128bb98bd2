"""Sweeps on the real Slurm: few and short, for what only it can show."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.sweep.commands import Sweeps, kill, until

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm-sweeps")]
SLURM = ("backend=slurm", "resources.time_limit=5m")


class Real(Sweeps):
    """Sweeps whose points go into the queue."""

    def sweep(self, command: str, *words: str) -> list[str]:
        return super().sweep(command, *SLURM, *words)

    def queue(self) -> list[str]:
        """The tasks of ours that the queue still has."""
        ids = [str(event["id"]) for event in self.events("job")]
        found = ask("squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={','.join(ids)}") if ids else ""
        return found.split()

    def is_forgotten(self) -> bool:
        ids = [str(event["id"]) for event in self.events("job")]
        asked = [subprocess.run(["scontrol", "show", "job", i], capture_output=True, check=False) for i in ids]
        return bool(ids) and all(done.returncode != 0 for done in asked)


def ask(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def real(tmp_path: Path) -> Real:
    return Real(tmp_path / "a dir")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path) -> None:
    (tmp_path / "a dir").mkdir()


def test_a_detached_sweep_is_told_of_after_the_controller_has_forgotten_it(real: Real) -> None:
    hostile = "$(touch pwned) 'a' \"b\"; echo c"
    words = real.sweep('printf "%s" "$HOSTILE" > out; exit ${vars.n}', "vars.n=0,7", "sweep.max_core_hours=1")
    quoted = hostile.replace("\\", "\\\\").replace('"', '\\"')
    real.run(*words, f'+env_vars.HOSTILE="{quoted}"', "--detach")
    assert sum(real.states().values()) == 2
    until(real.is_forgotten)
    assert real.states() == {"succeeded": 1, "failed": 1}
    told = json.loads(real.run("status", "--json", "sw").stdout)
    assert "exit code 7" in told["failures"][0]["reason"]
    assert told["cost"]["attempts"] == 2
    assert (real.path / "0" / "out").read_text() == hostile
    assert not list(real.directory.rglob("pwned"))
    real.run("resume", "sw", code=1)
    assert real.record(1)["state"] == "failed"
    assert real.record(0)["slurm"]["cpus"] == 1


def test_a_held_array_waits_until_it_is_released_and_costs_no_time(real: Real) -> None:
    words = real.sweep(real.append("${vars.n}"), "vars.n=0,1", "backend.additional_options=[--hold]")
    with real.started(*words) as driver:
        until(lambda: real.events("job"))
        time.sleep(2)
        assert real.states() == {"waiting": 2}
        assert driver.poll() is None
        ask("scontrol", "release", str(real.events("job")[0]["id"]))
        assert driver.wait(90) == 0
    assert real.ran() == {"0": 1, "1": 1}
    assert real.record(0)["queue_seconds"] >= 2
    assert real.record(0)["wall_seconds"] < 2


def test_cancel_ends_our_jobs_and_no_others(real: Real) -> None:
    other = ask("sbatch", "--parsable", "--output=/dev/null", "--time=5", "--wrap=sleep 300").strip()
    try:
        real.run(*real.sweep("sleep 300", "vars.n=0,1,2"), "--detach")
        until(lambda: "running" in real.states())
        real.run("cancel", "sw")
        until(lambda: real.states() == {"cancelled": 3})
        assert ask("squeue", "--noheader", "--format=%T", f"--jobs={other}").strip() in ("RUNNING", "PENDING")
    finally:
        ask("scancel", other)


def killed_again_and_again(real: Real, rnd: random.Random, *, points: int, kills: int, runs: int) -> None:
    """Kill the driver at random moments, resume until the sweep is done: each point ran once."""
    words = real.sweep(
        real.append("${vars.n}"), f"vars.n=range(0,{points})", f"sweep.runs_per_job={runs}", "sweep.max_in_queue=30"
    )
    for left in range(kills, -1, -1):
        with real.started(*words) as driver:
            until(real.path.exists)
            if left:
                time.sleep(rnd.uniform(0, 3))
                kill(driver)
            else:
                out, err = driver.communicate(timeout=600)
                assert driver.returncode == 0, f"{out}\n{err}"
        words = ["resume", "sw"]
    assert real.ran() == {str(n): 1 for n in range(points)}
    assert real.states() == {"succeeded": points}
    assert sorted(e["n"] for e in real.events("end")) == list(range(points))


def test_a_killed_driver_costs_no_point_and_repeats_none(real: Real) -> None:
    killed_again_and_again(real, random.Random(1), points=24, kills=2, runs=2)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(5))
def test_five_killed_drivers_of_three_hundred_points(real: Real, soak_random: random.Random, number: int) -> None:
    rnd = random.Random(f"{soak_random.random()} {number}")
    killed_again_and_again(real, rnd, points=300, kills=rnd.choice([2, 5]), runs=rnd.choice([3, 10]))


def test_an_emitted_script_runs_the_sweep_on_the_nodes_of_its_own_job(real: Real) -> None:
    words = real.sweep(f"{real.append('${vars.n}')}; echo $SLURM_JOB_ID > job", "vars.n=range(0,6)")
    done = real.run(*words, "--emit-script", "slurm", "--cpus-per-node", "2")
    assert "6 points" in done.stderr
    script = real.directory / "job.sh"
    script.write_text(done.stdout)
    job = ask("sbatch", "--parsable", "--export=NONE", str(script)).strip()
    until(lambda: real.path.exists() and real.states() == {"succeeded": 6})
    assert real.ran() == {str(n): 1 for n in range(6)}
    assert {(real.path / str(n) / "job").read_text().strip() for n in range(6)} == {job}
    assert f"inside slurm job {job}" in (real.path / "driver.log").read_text()
    until(lambda: not ask("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip())


@pytest.mark.soak
def test_ten_thousand_packed_points_that_do_nothing(real: Real) -> None:
    words = real.sweep("true", "vars.n=range(0,10000)", "sweep.runs_per_job=2500")
    with real.started(*words) as driver:
        out, err = driver.communicate(timeout=3600)
        assert driver.returncode == 0, err
    assert "10000 succeeded" in out
    assert len(real.events("job")) == 1
    assert sorted(e["n"] for e in real.events("end")) == list(range(10000))
    assert real.states() == {"succeeded": 10000}

"""Batch jobs from the command line: wait, detach, ask later, paste the dry run into sbatch, be interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import ModelRun, SlurmConfig
from rompy_hydra.cli import main
from rompy_hydra.run import SlurmRunBackend
from tests.run.contract import until
from tests.run.slurm_support import slurm

pytestmark = [pytest.mark.slurm]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "a place"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def command(text: str, *more: str) -> list[str]:
    return ["run", "backend=slurm", "model=command", f"model.command='{text}'", "run_id=r", *more]


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs/r/run.json").read_text())
    return found


def test_a_run_is_waited_for_and_its_exit_code_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command("echo computed > result.txt")) == 0
    said = capfd.readouterr()
    assert "state    succeeded: it ended with exit code 0" in said.out
    assert "in the queue; it runs in" in said.err
    assert [o["path"] for o in record()["outputs"]] == ["result.txt"]
    assert main(command("exit 3", "run_id=s")) == 1


def test_detach_returns_when_the_job_is_in_the_queue(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command("echo out; until test -e go; do sleep 0.1; done"), "--detach"]) == 0
    assert "it waits in the queue as job" in capfd.readouterr().out

    def status() -> str:
        assert main(["status", "runs/r"]) == 0
        return capfd.readouterr().out

    until(lambda: "state    running" in status(), timeout_s=60)
    assert main(["logs", "runs/r"]) == 0
    assert capfd.readouterr().out == "out\n"
    Path("runs/r/go").touch()
    until(lambda: "state    succeeded" in status(), timeout_s=60)
    assert f"Slurm job {record()['slurm']['job_id']}, on {os.uname().nodename}, waited " in status()


def test_detach_is_for_jobs_and_sweeps(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--detach", "model=command", "model.command=true"]) == 2
    assert "add backend=slurm" in capfd.readouterr().err


def test_the_script_of_a_dry_run_does_the_same_by_hand(capfd: pytest.CaptureFixture[str]) -> None:
    words = command('echo "$SAID" > "a file"; exit 4', "env_vars.SAID=\"it is $(not) 'run'\"", "--dry-run")
    assert main([*words, "resources.time_limit=2h", "backend.timeout=3600"]) == 0
    shown = capfd.readouterr().out
    assert not Path("runs").exists()
    assert "#SBATCH --time=0-02:00:00\n" in shown
    assert "# the smaller time limit counts: backend.timeout=1 h 00 min (not resources.time_limit=2 h 00 min)" in shown
    script = shown[shown.index("#!/bin/sh") : shown.index("\nrh_close\n") + len("\nrh_close\n")]
    done = subprocess.run(["sbatch", "--wait"], input=script, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 4
    assert Path("runs/r/a file").read_text() == "it is $(not) 'run'\n"


def test_the_backend_of_the_seed_runs_a_job(tmp_path: Path) -> None:
    run = ModelRun("seed", tmp_path, model={"name": "m", "command": "echo $A > out.txt"})
    assert SlurmRunBackend().run(run, SlurmConfig(env_vars={"A": "a b"}, time_limit="10m", job_name="from the seed"))
    assert (tmp_path / "seed/out.txt").read_text() == "a b\n"
    assert not SlurmRunBackend().run(ModelRun("bad", tmp_path, model={"name": "m", "command": "false"}), SlurmConfig())


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_an_interruption_without_a_terminal_leaves_the_job(number: signal.Signals) -> None:
    words = [sys.executable, "-m", "rompy_hydra", *command("until test -e go; do sleep 0.1; done")]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **quiet) as driver:  # type: ignore[call-overload]
        until(lambda: Path("runs/r/run.json").exists() and record()["state"] == "running", timeout_s=60)
        driver.send_signal(number)
        said = driver.communicate(timeout=30)[1]
    assert driver.returncode == 128 + number
    assert ("the job goes on" in said) == (number != signal.SIGHUP)
    Path("runs/r/go").touch()

    def state() -> str:
        main(["status", "runs/r"])
        return str(record()["state"])

    until(lambda: state() == "succeeded", timeout_s=60)


def test_a_secret_that_only_our_shell_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THE_KEY", "s3cret")
    words = command('printf %s "$TOLD"', "env_vars.TOLD='${secret:THE_KEY}'")
    assert main(words) == 2
    assert "no file holds the secret THE_KEY for the node (it is in your environment" in capfd.readouterr().err
    monkeypatch.delenv("THE_KEY")
    Path(".env").write_text("# mine\nexport THE_KEY='s3 cret'\n")
    assert main(words) == 0
    assert Path("runs/r/logs/stdout.log").read_text() == "s3 cret"
    kept = [p for p in Path("runs").rglob("*") if p.is_file() and p.name != "stdout.log"]
    assert not [p for p in kept if b"s3 cret" in p.read_bytes()]


def test_set_up_lines_of_a_site_make_the_node_ready(capfd: pytest.CaptureFixture[str]) -> None:
    Path("conf/site").mkdir(parents=True)
    Path("conf/site/tin.yaml").write_text(
        "defaults: [/schema/site, _self_]\nname: tin\nscheduler: slurm\nsetup: ['. ./ready.sh']\nscratch: /scratch/x\n"
    )
    Path("ready.sh").write_text("export READY=yes\n")
    assert main(command("echo $READY $ROMPY_HYDRA_SCRATCH", "site=tin")) == 0
    assert Path("runs/r/logs/stdout.log").read_text() == "yes /scratch/x\n"
    assert record()["provenance"]["site"] == "tin"
    Path("ready.sh").write_text("echo no licence >&2; false\n")
    assert main(command("echo $READY", "site=tin", "run_id=s")) == 1
    assert "line 1 of site.setup failed" in capfd.readouterr().out


def test_nothing_of_ours_is_left_in_the_queue() -> None:
    """Runs last in this file."""
    here = str(Path.cwd().parent.parent)
    assert here not in slurm("squeue", "--noheader", "--me", "--format=%Z")

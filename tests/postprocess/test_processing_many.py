"""`postprocess` of many runs: in parallel, going on where it was ended, with failures first."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.cli import main
from rompy_hydra.record.store import marker
from rompy_hydra.steps.processing_workers import Done, Wanted, Workers
from tests.sweep.commands import Sweeps, until

OWN = '''
import os, pathlib, time

class Note:
    """Leaves a line for each run; `crash` names runs in which the whole process dies, `wait` makes it slow."""

    def process(self, model_run, crash="", fail="", wait=0.0):
        directory = pathlib.Path(model_run.output_dir) / model_run.run_id
        with open("noted", "a") as file:
            file.write(f"{model_run.run_id}\\n")
        print("chatter on standard output")
        until = time.monotonic() + wait
        while time.monotonic() < until and not os.path.exists("enough"):
            time.sleep(0.01)
        if model_run.run_id in str(crash).split("+"):
            os.kill(os.getpid(), 9)
        if model_run.run_id in str(fail).split("+"):
            raise RuntimeError(f"no field in {model_run.run_id}")
        return {"success": True, "message": f"noted {model_run.run_id}"}
'''
ROOT = Path(__file__).resolve().parents[2]
MINE = "processor=mine:Note"


@pytest.fixture
def runs(tmp_path: Path) -> Sweeps:
    """Six points of a sweep, of which one failed, and one run."""
    (tmp_path / "mine.py").write_text(OWN)
    sweeps = Sweeps(tmp_path)
    command = 'backend.command="test ${vars.n} != 5"'
    sweeps.run("run", "-m", "model=command", command, "vars.n=0,1,2,3,4,5", "hydra.sweep.dir=sw", code=1)
    sweeps.run("run", "model=command", "backend.command=true", "run_id=one")
    return sweeps


def noted(runs: Sweeps) -> list[str]:
    path = runs.directory / "noted"
    return sorted(path.read_text().split()) if path.exists() else []


def process(runs: Sweeps, *words: str, code: int = 0) -> Any:
    return runs.run("postprocess", *words, code=code, env={"PYTHONPATH": f"{runs.directory}:{ROOT}"})


def test_every_ended_run_is_processed_once_and_not_again(runs: Sweeps) -> None:
    done = process(runs, "sw", "runs", MINE, "-j", "3")
    assert noted(runs) == ["0", "1", "2", "3", "4", "5", "one"]
    assert done.stdout.splitlines()[-1] == "7 done"
    assert "sw/3: mine:Note: noted 3" in done.stdout
    assert "chatter" not in done.stdout
    again = process(runs, "sw", "runs", MINE)
    assert again.stdout.splitlines()[-1] == "7 done before"
    assert len(noted(runs)) == 7
    process(runs, "sw", MINE, "--again")
    assert len(noted(runs)) == 13
    process(runs, "sw", MINE, "wait=0.001")  # other options: another thing to do
    assert len(noted(runs)) == 19


def test_failures_come_first_with_their_reasons_and_are_done_again(runs: Sweeps) -> None:
    done = process(runs, "sw", MINE, "fail=3", "-j", "2", code=1)
    assert done.stdout.splitlines()[0] == "sw/3: mine:Note: failed: RuntimeError: no field in 3"
    assert done.stdout.splitlines()[-1] == "1 failed, 5 done"
    assert runs.record(3)["state"] == "succeeded"
    assert runs.record(3)["postprocess"]["success"] is False
    process(runs, "sw", MINE, "fail=3", code=1)
    assert noted(runs).count("3") == 2
    assert noted(runs).count("2") == 1


def test_a_processor_that_kills_its_process_takes_no_other_along(runs: Sweeps) -> None:
    done = process(runs, "sw", MINE, "crash=1", "-j", "2", code=1)
    assert "sw/1: mine:Note: failed: the process of its postprocessor was ended by SIGKILL" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 failed, 5 done"
    assert "SIGKILL" in runs.record(1)["postprocess"]["error"]
    assert not list((runs.path / "1").glob(".run.json*"))
    assert process(runs, "sw", MINE).returncode == 0


def test_only_some_states(runs: Sweeps) -> None:
    process(runs, "sw", MINE, "--only", "succeeded")
    assert noted(runs) == ["0", "1", "2", "3", "4"]
    assert "is no state" in process(runs, "sw", MINE, "--only", "good", code=2).stderr


def test_json_tells_every_answer(runs: Sweeps) -> None:
    told = json.loads(process(runs, "sw", MINE, "fail=0", "--json", "-j", "2", code=1).stdout)
    assert set(told) == {f"sw/{n}" for n in range(6)}
    assert told["sw/0"]["success"] is False
    assert told["sw/1"]["message"] == "noted 1"


def test_wrong_options_are_found_once_and_before_anything(runs: Sweeps) -> None:
    refused = process(runs, "sw", "processor=archive", "fromat=zip", code=2)
    assert refused.stderr.count("did you mean 'format'") == 1
    assert "at least one" in process(runs, "sw", MINE, "-j", "0", code=2).stderr


def test_runs_that_have_not_ended_are_left_out(runs: Sweeps) -> None:
    words = ["run", "-m", "model=command", 'backend.command="touch up; sleep ${vars.n}"', "vars.n=0,600"]
    with runs.started(*words, "hydra.sweep.dir=other", "sweep.jobs=2"):
        until((runs.directory / "other" / "1" / "up").exists)
        until((runs.directory / "other" / "0" / "run.json").exists)
        until(lambda: '"end"' in (runs.directory / "other" / "events.jsonl").read_text())
        done = process(runs, "other", MINE)
        assert noted(runs) == ["0"]
        assert "1 left out: they have not ended" in done.stdout
        runs.run("cancel", "other")


def interrupt_while(runs: Sweeps, monkeypatch: pytest.MonkeyPatch, *, times: int) -> tuple[int, str]:
    monkeypatch.chdir(runs.directory)  # the command finds mine.py beside itself
    with runs.started("postprocess", "sw", MINE, "wait=300", "-j", "2") as verb:
        until(lambda: len(noted(runs)) == 2)
        assert verb.stderr is not None
        verb.send_signal(signal.SIGINT)
        while not verb.stderr.readline().startswith("interrupted"):
            pass
        if times == 2:
            verb.send_signal(signal.SIGINT)
        else:
            (runs.directory / "enough").touch()
        out, _ = verb.communicate(timeout=90)
        return verb.returncode, out


def test_ctrl_c_finishes_what_runs_and_the_next_call_goes_on(runs: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out = interrupt_while(runs, monkeypatch, times=1)
    assert code == 130
    assert "2 done, 4 not started" in out
    process(runs, "sw", MINE, "wait=300")
    assert noted(runs) == ["0", "1", "2", "3", "4", "5"]


def test_ctrl_c_twice_ends_what_runs(runs: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out = interrupt_while(runs, monkeypatch, times=2)
    assert code == 130
    assert "2 failed, 4 not started" in out
    (runs.directory / "enough").touch()
    process(runs, "sw", MINE, "wait=300")
    assert sorted(set(noted(runs))) == ["0", "1", "2", "3", "4", "5"]


def test_the_record_keeps_what_every_processor_said(runs: Sweeps) -> None:
    process(runs, "sw/0", MINE)
    process(runs, "sw/0", "processor=archive", "format=zip")
    told = runs.record(0)
    assert told["postprocess"]["processor"] == "archive"
    assert set(told["processed"]) == {"mine:Note", "archive"}
    assert told["processed"]["archive"]["options"] == {"format": "zip"}
    assert told["processed"]["mine:Note"]["answer"]["message"] == "noted 0"
    assert "was done before" in process(runs, "sw/0", "processor=archive", "format=zip").stdout
    Path(told["postprocess"]["archive"]).unlink()
    assert "was done before" not in process(runs, "sw/0", "processor=archive", "format=zip").stdout


def test_two_at_a_time_on_one_run_are_kept_apart(runs: Sweeps) -> None:
    with marker(runs.path / "0", name=".run.json.post"):
        refused = process(runs, "sw/0", MINE, code=2)
    assert "another process postprocesses" in refused.stderr
    assert process(runs, "sw/0", MINE).returncode == 0


def test_the_sweep_s_own_failure_is_forgotten_when_it_is_mended(runs: Sweeps) -> None:
    conf = runs.directory / "conf" / "postprocess"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text("defaults: [/schema/postprocess, _self_]\nprocessor: late:Late\n")
    late = "class Late:\n    def process(self, model_run):\n        return {'success': %s, 'error': 'no'}\n"
    (runs.directory / "late.py").write_text(late % "model_run.run_id != '1'")
    words = ["run", "-m", "model=command", "backend.command=true", "postprocess=mine", "vars.n=1,2,3"]
    env = {"PYTHONPATH": f"{runs.directory}:{ROOT}"}
    runs.run(*words, "hydra.sweep.dir=other", code=1, env=env)
    assert "the postprocessor failed for 1" in runs.run("status", "other").stdout
    (runs.directory / "late.py").write_text(late % "True")
    done = process(runs, "other")
    assert done.stdout.splitlines()[-1] == "1 done, 2 done before"
    assert "the postprocessor failed" not in runs.run("status", "other").stdout


def test_workers_hand_out_every_run_once(tmp_path: Path) -> None:
    """Where there is no run at all, every answer says so."""
    workers = Workers(Wanted("noop", {}, again=True), 2)
    found: list[Done] = list(workers.process([tmp_path / str(n) for n in range(5)]))
    workers.close()
    assert sorted(one.run_dir.name for one in found) == ["0", "1", "2", "3", "4"]
    assert all("no record" in one.answer["error"] for one in found)


def test_a_text_with_a_star_needs_no_quotes_for_yaml(runs: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    point = str(runs.path / "0")
    assert main(["postprocess", point, "processor=archive", "include=*.log"]) == 0
    assert main(["postprocess", point, "processor=archive", "include=[a.log", "--again"]) == 2
    capsys.readouterr()

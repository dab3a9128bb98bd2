"""`resume --update`: what is another simulation runs again, everything else stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sweep.commands import Sweeps


@pytest.fixture
def model(sweeps: Sweeps) -> Path:
    """A config repository with a model whose parameter is not on the command line."""
    option = sweeps.directory / "conf" / "model" / "m.yaml"
    option.parent.mkdir(parents=True)
    write(option, "1")
    return option


def write(option: Path, factor: str, more: str = "") -> None:
    option.write_text(
        "defaults: [/packaged/model/command, _self_]\nname: m\n"
        f"command: 'echo ${{vars.n}} {factor} >> ../../ran2; echo ${{vars.n}} > out'\n"
        f"env_vars: {{FACTOR: '{factor}'}}\n{more}"
    )


def words(*more: str) -> list[str]:
    return ["run", "-m", "model=m", "vars.n=1,2,3", "hydra.sweep.dir=sw", *more]


def ran(sweeps: Sweeps) -> list[str]:
    return sorted((sweeps.directory / "ran2").read_text().splitlines())


def test_limits_run_nothing_again(sweeps: Sweeps, model: Path) -> None:
    sweeps.run(*words())
    (sweeps.directory / "conf" / "env").mkdir()
    (sweeps.directory / "conf" / "env" / "dev.yaml").write_text("# @package _global_\nresources: {time_limit: 2h}\n")
    done = sweeps.run("resume", "--update", "sw")
    assert "3 points are the same simulation as before, 3 of them with other resources or limits" in done.stderr
    assert "nothing is left to do" in done.stdout
    assert len(ran(sweeps)) == 3


def test_another_science_runs_again_and_the_old_results_stay_aside(sweeps: Sweeps, model: Path) -> None:
    sweeps.run(*words())
    old = sweeps.record(0)["science_id"]
    write(model, "2")
    done = sweeps.run("resume", "sw")
    assert "nothing is left to do" in done.stdout  # without --update: the snapshot counts
    done = sweeps.run("resume", "--update", "sw")
    assert "0 points are the same simulation as before, 3 changed" in done.stderr
    assert "model.env_vars.FACTOR: 1 → 2 (points 0, 1, 2)" in done.stderr
    assert ran(sweeps) == ["1 1", "1 2", "2 1", "2 2", "3 1", "3 2"]
    assert sweeps.record(0)["science_id"] != old
    assert len(sweeps.record(0)["attempts"]) == 1
    assert json.loads((sweeps.path / "0.before-1" / "run.json").read_text())["science_id"] == old
    assert "nothing is left to do" in sweeps.run("resume", "sw").stdout
    assert "3 points are the same" in sweeps.run("resume", "--update", "sw").stderr


def test_new_points_are_added_and_gone_ones_do_not_run(sweeps: Sweeps, model: Path) -> None:
    write(model, "1", more="")
    (sweeps.directory / "conf" / "experiment").mkdir()
    design = sweeps.directory / "conf" / "experiment" / "e.yaml"
    design.write_text("# @package _global_\nvars: {n: 0}\nsweep: {design: [{grid: {vars.n: [1, 2, 3]}}]}\n")
    sweeps.run("run", "-m", "model=m", "experiment=e", "hydra.sweep.dir=sw")
    design.write_text("# @package _global_\nvars: {n: 0}\nsweep: {design: [{grid: {vars.n: [3, 4, 1]}}]}\n")
    done = sweeps.run("resume", "--update", "sw")
    assert "2 points are the same simulation as before, 1 new, 1 gone" in done.stderr
    assert ran(sweeps) == ["1 1", "2 1", "3 1", "4 1"]
    assert (sweeps.path / "3" / "out").read_text() == "4\n"
    assert sweeps.states() == {"succeeded": 4}


def test_an_update_that_is_wrong_changes_nothing(sweeps: Sweeps, model: Path) -> None:
    sweeps.run(*words())
    before = {p: p.read_bytes() for p in sweeps.path.rglob("*") if p.is_file()}
    write(model, "2", more="success: {exit_codes: [no]}\n")
    done = sweeps.run("resume", "--update", "sw", code=2)
    assert "exit_codes" in done.stderr
    assert {p: p.read_bytes() for p in sweeps.path.rglob("*") if p.is_file()} == before


def test_an_update_waits_for_what_runs(sweeps: Sweeps, model: Path) -> None:
    sweeps.run(*words())
    events = (sweeps.path / "events.jsonl").read_text().splitlines(keepends=True)
    (sweeps.path / "events.jsonl").write_text("".join(e for e in events if '"e":"end","n":1' not in e))
    (sweeps.path / ".digest.json").unlink()
    assert "may still run" in sweeps.run("resume", "--update", "sw", code=2).stderr
    sweeps.run("resume", "sw")
    sweeps.run("resume", "--update", "sw")
    assert len(ran(sweeps)) == 3

"""What is kept of old runs and what goes: the rules alone, then on the disk."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rompy_hydra.cli import main
from rompy_hydra.postprocess.retention import Candidate, RetentionRules, decide
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import marker
from tests.sweep.commands import Sweeps

DAY = 86400.0
NOW = 1_800_000_000.0


def candidate(name: str, state: str, days_ago: float | None, untouchable: str = "") -> Candidate:
    ended = None if days_ago is None else NOW - days_ago * DAY
    return Candidate(Path(name), "run", frozenset({RunState(state)}), ended, untouchable)


MANY = [
    candidate("old", "succeeded", 100),
    candidate("older", "succeeded", 200),
    candidate("broke", "failed", 300),
    candidate("slow", "timed_out", 301),
    candidate("fresh", "succeeded", 1),
    candidate("busy", "running", None, "it is running"),
    candidate("timeless", "succeeded", None),
]


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        ({"keep": "failed"}, {"old", "older", "fresh", "timeless"}),
        ({"keep": ["succeeded"]}, {"broke", "slow"}),
        ({"keep": "timed_out,succeeded"}, {"broke"}),
        ({"keep_last": 1}, {"old", "older", "broke", "slow", "timeless"}),
        ({"keep_last": 0}, {"old", "older", "broke", "slow", "timeless", "fresh"}),
        ({"keep_days": 150}, {"older", "broke", "slow"}),
        ({"keep": "failed", "keep_last": 2}, {"older", "timeless"}),
        ({"keep_days": 150, "keep": "failed", "keep_last": 3}, set()),
    ],
)
def test_a_run_goes_if_no_rule_keeps_it(rules: dict[str, Any], gone: set[str]) -> None:
    decisions = decide(MANY, RetentionRules(**rules), NOW)
    assert {d.candidate.path.name for d in decisions if d.goes} == gone
    assert len(decisions) == len(MANY)


@pytest.mark.parametrize(
    ("rules", "says"),
    [({}, "say what is kept"), ({"keep": "running"}, "keep"), ({"keep_last": -1}, "keep_last"), ({"kep": 1}, "keep")],
)
def test_rules_that_say_nothing_or_nonsense_are_refused(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RetentionRules(**rules)


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(directory: Path, state: str, days_ago: float, **more: Any) -> Path:
    directory.mkdir(parents=True)
    ended = datetime.fromtimestamp(time.time() - days_ago * DAY, UTC).isoformat().replace("+00:00", "Z")
    (directory / "out").mkdir()
    (directory / "out" / "field.nc").write_bytes(bytes(range(256)) * 400)
    (directory / "stdout.log").write_text("said")
    record = {
        "schema": "rompy-hydra/run",
        "schema_version": 1,
        "run_id": directory.name,
        "state": state,
        "ended_at": ended,
        "outputs": [{"path": "out/field.nc", "bytes": 102400}],
        **more,
    }
    (directory / "run.json").write_text(json.dumps(record))
    return directory


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs" / "old", "succeeded", 40)
    make_run(tmp_path / "runs" / "bad", "failed", 50)
    make_run(tmp_path / "runs" / "new", "succeeded", 1)
    return tmp_path / "runs"


def test_at_first_it_only_says_what_would_go(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", "runs", "--prune", "keep=failed", "keep_days=30"]) == 0
    out = capsys.readouterr().out
    assert "100 KiB" in out
    assert "runs/old  succeeded, ended 40 days ago" in out
    assert "1: failed  (bad)" in out
    assert "nothing was removed yet: add --yes" in out
    assert all((runs / name / "out" / "field.nc").exists() for name in ("old", "bad", "new"))


def test_outputs_go_and_the_record_tells_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", "runs", "--prune", "keep=failed", "keep_days=30", "--yes"]) == 0
    assert "removed the outputs of 1 of 3: 100 KiB in 1 files" in capsys.readouterr().out
    assert not (runs / "old" / "out").exists()
    assert (runs / "old" / "stdout.log").read_text() == "said"
    told = json.loads((runs / "old" / "run.json").read_text())
    assert told["pruned"]["files"] == 1
    assert told["state"] == "succeeded"
    assert (runs / "bad" / "out" / "field.nc").exists()


def test_whole_runs_go_on_request(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / ".gone.pruned-0123abcd").mkdir()  # what a killed call left
    words = ["postprocess", "runs", "--prune", "keep_last=1", "remove=runs", "--json"]
    assert main(words) == 0
    assert {Path(e["path"]).name for e in json.loads(capsys.readouterr().out)["would_remove"]} == {"old", "bad"}
    assert main([*words, "--yes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] > 200_000
    assert [path.name for path in runs.iterdir()] == ["new"]


def test_what_is_not_ours_or_not_over_is_never_touched(runs: Path, tmp_path: Path) -> None:
    watcher = {"role": "keeper", **ProcessIdentity.of().to_dict()}
    make_run(runs / "busy", "running", 400, watcher=watcher)
    make_run(runs / "elsewhere", "running", 400, watcher={**watcher, "host": "another"})
    make_run(runs / "nest", "succeeded", 400)
    make_run(runs / "nest" / "deep" / "inner", "running", 400, watcher=watcher)
    (runs / "theirs").mkdir()
    (runs / "theirs" / "thesis.tex").write_text("years of work")
    (runs / "torn").mkdir()
    (runs / "torn" / "run.json").write_text("{")
    outside = make_run(tmp_path / "outside", "succeeded", 400)
    (runs / "link").symlink_to(outside)
    assert main(["postprocess", "runs", "--prune", "keep_last=0", "remove=runs", "--yes"]) == 0
    left = {path.name for path in runs.iterdir()}
    assert left == {"busy", "elsewhere", "nest", "theirs", "torn", "link"}
    assert (outside / "out" / "field.nc").exists()


def test_an_output_behind_a_link_is_not_ours(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "field.nc").write_text("of all")
    shutil.rmtree(runs / "old" / "out")
    (runs / "old" / "out").symlink_to(tmp_path / "shared")
    assert main(["postprocess", "runs", "--prune", "keep_last=0", "--yes"]) == 0
    assert (tmp_path / "shared" / "field.nc").read_text() == "of all"


def test_a_run_that_somebody_has_in_hands_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with marker(runs / "old", name=".run.json.post"):
        assert main(["postprocess", "runs", "--prune", "keep_days=30", "remove=runs", "--yes"]) == 1
    assert "old: not removed: another process" in capsys.readouterr().err
    assert (runs / "old").exists()
    assert not (runs / "bad").exists()


def test_the_rules_are_asked_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in (
        (["--prune"], "keep=failed, keep_last=5, keep_days=30"),
        (["--prune", "keep=faild"], "keep"),
        (["--prune", "keeplast=3"], "did you mean 'keep_last'"),
        (["--yes"], "goes with --prune"),
    ):
        assert main(["postprocess", "runs", *words]) == 2
        assert says in capsys.readouterr().err


def test_a_run_without_its_outputs_is_not_skipped_as_if_it_had_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "model=command", 'backend.command="echo 1 > field"', "run_id=r", "on_existing=skip"]
    assert main(words) == 0
    assert main(words) == 0
    assert main(["postprocess", "runs", "--prune", "keep_last=0", "--yes"]) == 0
    assert not (tmp_path / "runs" / "r" / "field").exists()
    assert main(words) == 2
    assert "its outputs were removed" in capsys.readouterr().err


def test_points_lose_their_outputs_and_sweeps_go_whole(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    command = 'backend.command="echo ${vars.n} > field; test ${vars.n} != 2"'
    sweeps.run("run", "-m", "model=command", command, "vars.n=1,2,3", "hydra.sweep.dir=all/sw", code=1)
    sweep = tmp_path / "all" / "sw"
    assert "add --yes" in sweeps.run("postprocess", "all/sw", "--prune", "keep=failed").stdout
    sweeps.run("postprocess", "all/sw", "--prune", "keep=failed", "--yes")
    assert [(sweep / str(n) / "field").exists() for n in range(3)] == [False, True, False]
    assert sweeps.run("logs", "all/sw", "0").returncode == 0
    sweeps.run("postprocess", "all/sw", "--prune", "keep=failed", "remove=runs", code=2)
    assert "failed" in sweeps.run("postprocess", "all", "--prune", "keep=failed", "--yes").stdout
    assert (sweep / "1" / "field").exists()
    os.utime(sweep)
    sweeps.run("postprocess", "all", "--prune", "keep_last=0", "remove=runs", "--yes")
    assert list((tmp_path / "all").iterdir()) == []

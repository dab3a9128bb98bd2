"""Runs as a collection: real runs and sweeps as rows, filtered, sorted, as CSV, JSON and a data frame."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rompy_hydra
from rompy_hydra.collection import collect
from rompy_hydra.errors import ConfigError, RecordError


def rompy(cwd: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "rompy_hydra", *words],
        cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def rows_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return list(json.loads(done.stdout))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two single runs, one deeper down, and a sweep of which a point failed."""
    top = tmp_path_factory.mktemp("lab")
    rompy(top, "run", "model=command", "model.command=true", "run_id=good", "vars.depth=10")
    rompy(top, "run", "model=command", "model.command='exit 3'", "run_id=bad", "output_dir=runs/deep/er", code=1)
    command = "model.command='test ${vars.depth} -lt 3'"
    rompy(top, "run", "-m", "model=command", command, "vars.depth=1,2,3", "hydra.sweep.dir=runs/scan", code=1)
    (top / "runs/good/metrics.json").write_text('{"rmse": 0.25, "bias": {"north": -1}}')
    return top


def test_single_runs_nested_ones_and_points_are_all_there(runs: Path) -> None:
    rows = collect(runs / "runs")
    assert {(row["run"], row["state"]) for row in rows} == {
        ("good", "succeeded"),
        ("deep/er/bad", "failed"),
        ("scan/0", "succeeded"),
        ("scan/1", "succeeded"),
        ("scan/2", "failed"),
    }
    point = next(row for row in rows if row["run"] == "scan/2")
    assert point["vars.depth"] == 3
    assert point["sweep.number"] == 2
    assert point["exit_code"] == 1
    assert point["resources.cpus"] == 1, "the settled number, not what was asked"
    assert not [key for row in rows for key, value in row.items() if isinstance(value, dict)]


def test_where_sort_and_columns(runs: Path) -> None:
    words = ("status", "runs", "--where", "vars.depth >= 2 and backend == 'local'", "--sort", "vars.depth")
    done = rompy(runs, *words, "--descending", "--columns", "run,vars.depth,model.name", "--json")
    assert rows_of(done) == [
        {"run": "good", "vars.depth": 10, "model.name": "command"},
        {"run": "scan/2", "vars.depth": 3, "model.name": "command"},
        {"run": "scan/1", "vars.depth": 2, "model.name": "command"},
    ]
    table = rompy(runs, *words).stdout.splitlines()
    assert table[0].split() == ["run", "state", "model", "backend", "wall_seconds", "vars.depth"]
    assert [line.split()[0] for line in table[1:-1]] == ["scan/1", "scan/2", "good"]
    assert table[-1] == "3 of 5 runs"


def test_rows_without_a_value_come_last_either_way(runs: Path) -> None:
    for descending in (False, True):
        rows = collect(runs / "runs", sort="vars.depth", descending=descending, columns=["run"])
        assert rows[-1] == {"run": "deep/er/bad"}


def test_metrics_are_columns(runs: Path) -> None:
    assert collect(runs / "runs", where="metrics.rmse < 0.5", columns=["run", "metrics.bias.north"]) == [
        {"run": "good", "metrics.bias.north": -1}
    ]
    assert next(row for row in collect(runs / "runs") if row["run"] == "good")["metrics.rmse"] == 0.25


def test_metrics_in_the_postprocessor_s_answer_count_too(tmp_path: Path) -> None:
    rompy(tmp_path, "run", "model=command", "model.command=true", "run_id=a")
    path = tmp_path / "runs/a/run.json"
    data = json.loads(path.read_text())
    data["postprocess"]["metrics"] = {"rmse": 7}
    path.write_text(json.dumps(data))
    assert collect(tmp_path, where="metrics.rmse == 7", columns=["run"]) == [{"run": "runs/a"}]


def test_csv_has_every_key_once(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(rompy(runs, "status", "runs", "--csv").stdout)))
    assert len(rows) == 5
    assert {row["run"]: row["vars.depth"] for row in rows}["deep/er/bad"] == ""
    assert rows[0].keys() >= {"state", "resources.cpus", "metrics.rmse", "provenance.machine.host", "vars.depth"}


def test_unknown_keys_are_told_with_the_nearest(runs: Path) -> None:
    words = ("--where", "resorces.cpus > 1", "--sort", "wal_seconds", "--columns", "run,vars.deph")
    wrong = rompy(runs, "status", "runs", *words, code=2).stderr
    for text in ("'resorces.cpus'", "'resources.cpus'", "'wall_seconds'", "'vars.depth'", "--sort", "--columns"):
        assert text in wrong


@pytest.mark.parametrize("where", ["state ==", "__import__('os').system('true')", "state.__class__ == 1", "x" * 3000])
def test_a_condition_that_is_none_is_refused(where: str, runs: Path) -> None:
    wrong = rompy(runs, "status", "runs", "--where", where, code=2).stderr
    assert "Traceback" not in wrong
    assert "--where" in wrong


def test_values_that_do_not_go_together_are_told_and_hide_no_other(runs: Path) -> None:
    found = collect(runs / "runs", where="vars.depth > 5 or model.command > 3", columns=["run"])
    assert found == [{"run": "good"}]
    assert "4 runs are left out" in found.notes[0]


def test_flags_that_do_not_go_together(runs: Path) -> None:
    wrong = (["--csv", "--json"], ["--watch", "--csv"], ["--descending"], ["--against", "x"], ["--tolerance", "-1"])
    for words in wrong:
        assert "rompy-hydra:" in rompy(runs, "status", "runs", *words, code=2).stderr


def test_a_sweep_and_a_single_run_are_collections(runs: Path) -> None:
    assert [row["run"] for row in collect(runs / "runs/scan", where="state == 'failed'")] == ["2"]
    assert [row["run"] for row in collect(runs / "runs/good")] == ["good"]


def test_points_that_never_ran_are_rows_too(runs: Path, tmp_path: Path) -> None:
    words = ("model=command", "model.command='exit 1'", "vars.n=1,2,3", "sweep.on_failure=fail_fast", "sweep.jobs=1")
    rompy(tmp_path, "run", "-m", *words, "hydra.sweep.dir=s", code=1)
    rows = collect(tmp_path / "s", columns=["run", "state", "vars.n", "resources.cpus"])
    assert rows[0] == {"run": "0", "state": "failed", "vars.n": 1, "resources.cpus": 1}
    assert rows[-1] == {"run": "2", "state": "queued", "vars.n": 3, "resources.cpus": 1}


def test_what_cannot_be_read_is_told_and_hides_nothing(tmp_path: Path) -> None:
    rompy(tmp_path, "run", "model=command", "model.command=true", "run_id=a", "output_dir=.")
    for name, text in {"torn": '{"schema"', "foreign": '{"a": 1}', "list": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "loop").symlink_to(tmp_path)
    found = collect(tmp_path)
    assert [row["run"] for row in found] == ["a"]
    assert len(found.notes) == 3
    done = rompy(tmp_path, "status", ".", "--csv")
    assert done.stderr.count("rompy-hydra: ") == 3


def test_what_a_terminal_would_obey_is_not_printed(tmp_path: Path) -> None:
    rompy(tmp_path, "run", "model=command", "model.command=true", "run_id=a")
    path = tmp_path / "runs/a/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "reason": "\x1b[2Jgone\n"}))
    assert "\x1b" not in rompy(tmp_path, "status", "runs", "--columns", "run,reason").stdout


def test_a_run_whose_keeper_died_is_lost_here_too(tmp_path: Path) -> None:
    rompy(tmp_path, "run", "model=command", "model.command=true", "run_id=a")
    path = tmp_path / "runs/a/run.json"
    data = json.loads(path.read_text())
    data |= {"state": "running", "watcher": {**data["watcher"], "pid": 2**22 + 1}}
    data.pop("process")
    path.write_text(json.dumps(data))
    assert collect(tmp_path, columns=["state"]) == [{"state": "lost"}]


def test_no_directory_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no directory"):
        collect(tmp_path / "nowhere")
    assert collect(tmp_path, where="state == 'failed'") == []
    assert rompy(tmp_path, "status", ".", "--where", "state == 'failed'").stdout == "0 runs\n"


def test_the_same_as_a_data_frame(runs: Path) -> None:
    pytest.importorskip("pandas")
    frame = rompy_hydra.collect(runs / "runs").to_dataframe()
    assert len(frame) == 5
    assert frame.set_index("run").loc["good", "metrics.rmse"] == 0.25
    assert str(frame["started_at"].dtype).startswith("datetime64")
    assert frame.groupby("state").size().to_dict() == {"failed": 2, "succeeded": 3}


def test_without_pandas_it_is_said_what_to_install(runs: Path) -> None:
    script = (
        "import sys; sys.modules['pandas'] = None\n"
        f"import rompy_hydra\nrompy_hydra.collect({str(runs)!r}).to_dataframe()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'rompy-hydra[frames]'" in done.stderr


def test_from_python_what_is_wrong_is_raised(runs: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'state'"):
        rompy_hydra.collect(runs, where="stat == 'failed'")


def test_thousands_of_runs_cost_little_more_than_reading_their_records(runs: Path, tmp_path: Path) -> None:
    text = (runs / "runs/good/run.json").read_bytes()
    for number in range(1500):
        (tmp_path / f"r{number}").mkdir()
        (tmp_path / f"r{number}/run.json").write_bytes(text)

    def spent(work: Any) -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    def read() -> None:
        for number in range(1500):
            json.loads((tmp_path / f"r{number}/run.json").read_bytes())

    ours = min(spent(lambda: collect(tmp_path, where="vars.depth > 3", columns=["run"])) for _ in range(3))
    floor = min(spent(read) for _ in range(3))
    assert ours < 4 * floor


def test_packed_points_are_rows_and_the_rest_says_how_to_bring_them_back(tmp_path: Path) -> None:
    rompy(tmp_path, "run", "-m", "model=command", "model.command=true", "vars.n=1,2,3", "hydra.sweep.dir=s")
    before = collect(tmp_path / "s", sort="run", columns=["run", "state", "vars.n", "science_id"])
    rompy(tmp_path, "postprocess", "s", "processor=archive", "pack=true", "remove_originals=true")
    assert not (tmp_path / "s/0").exists()
    assert collect(tmp_path / "s", sort="run", columns=["run", "state", "vars.n", "science_id"]) == before
    for words in (["run", "--from", "s/0"], ["status", "--verify", "s"]):
        done = subprocess.run(
            [sys.executable, "-m", "rompy_hydra", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "--restore" in done.stdout + done.stderr

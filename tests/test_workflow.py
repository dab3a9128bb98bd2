"""The path of one run: inputs, period and retries through the real executor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import ModelRun
from rompy_hydra.errors import ConfigError


def run(tmp_path: Path, run_id: str = "r", **settings: Any) -> dict[str, Any]:
    model_run = ModelRun(run_id=run_id, output_dir=tmp_path / "out", **settings)
    model_run.run()
    assert model_run.record is not None
    return model_run.record.data


# -- inputs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def wind(tmp_path: Path) -> Path:
    path = tmp_path / "wind 2020.nc"
    path.write_text("north\n")
    return path


def test_an_input_is_linked_read_and_recorded(tmp_path: Path, wind: Path) -> None:
    record = run(
        tmp_path,
        model={"name": "m", "command": "cat wind.nc", "inputs": {"wind": {"source": str(wind), "as": "wind.nc"}}},
    )
    link = tmp_path / "out" / "r" / "wind.nc"
    assert link.is_symlink()
    assert link.readlink() == wind
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "north\n"
    (entry,) = record["inputs"]
    assert (entry["name"], entry["path"], entry["bytes"]) == ("wind", str(wind), 6)
    assert entry["mtime"]
    assert entry["identity"].startswith("stat:")
    assert record["outputs"] == []


def test_a_replaced_input_makes_another_run(tmp_path: Path, wind: Path) -> None:
    model = {"name": "m", "command": "true", "inputs": {"wind": {"source": str(wind)}}}
    first = run(tmp_path, "a", model=model)
    again = run(tmp_path, "b", model=model)
    wind.write_text("south\n")
    os.utime(wind, (1, 1))
    other = run(tmp_path, "c", model=model)
    assert first["science_id"] == again["science_id"] != other["science_id"]


def test_all_missing_inputs_are_told_before_anything_is_written(tmp_path: Path) -> None:
    model = {
        "name": "m",
        "command": "true",
        "inputs": {n: {"source": f"{tmp_path}/{n}.nc"} for n in ("wind", "tide", "ice")},
    }
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, model=model)
    assert {f.key.split(".")[2] for f in caught.value.findings} == {"wind", "tide", "ice"}
    assert not (tmp_path / "out").exists()


def test_a_large_forcing_file_costs_nothing_in_fifty_workspaces(tmp_path: Path) -> None:
    forcing = tmp_path / "forcing.nc"
    with forcing.open("wb") as file:
        file.truncate(20 * 2**30)
    model = {"name": "m", "command": "true", "inputs": {"forcing": {"source": str(forcing)}}}
    started = time.monotonic()
    for number in range(50):
        ModelRun(run_id=f"r{number}", output_dir=tmp_path / "out", model=model).generate()
    assert time.monotonic() - started < 60
    used = sum(p.lstat().st_blocks * 512 for p in (tmp_path / "out").rglob("*"))
    assert used < 10 * 2**20


# -- period ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam", "Pacific/Auckland"])
def test_the_machine_s_time_zone_never_matters(tmp_path: Path, zone: str) -> None:
    (tmp_path / "templates" / "tide" / "workspace").mkdir(parents=True)
    (tmp_path / "templates" / "tide" / "template.yaml").write_text("model: {command: [cat, in.txt]}\n")
    (tmp_path / "templates" / "tide" / "workspace" / "in.txt.j2").write_text(
        "{{ period.start | strftime('%Y-%m-%d %H:%M') }} "
        "{{ period.end | strftime('%Y-%m-%d %H:%M') }} {{ period | seconds }}\n"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "tide.yaml").write_text("defaults: [/template/tide, _self_]\n")
    words = ["run", "model=tide", "period.start=2023-03-25T12:00", "period.duration=2d", "output_dir=out", "run_id=r"]
    done = subprocess.run(
        [sys.executable, "-m", "rompy_hydra", *words], cwd=tmp_path, env={**os.environ, "TZ": zone},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "2023-03-25 12:00 2023-03-27 12:00 172800\n"


def test_an_end_before_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not after its start"):
        run(tmp_path, model={"name": "m", "command": "true"}, period={"start": "2020-01-02", "end": "2020-01-01"})


def test_a_run_under_the_next_free_name_renders_and_records_that_name(tmp_path: Path) -> None:
    (tmp_path / "templates" / "t" / "workspace").mkdir(parents=True)
    (tmp_path / "templates" / "t" / "template.yaml").write_text("model: {command: [cat, in.txt]}\n")
    (tmp_path / "templates" / "t" / "workspace" / "in.txt.j2").write_text("{{ run_id }}\n")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "t.yaml").write_text("defaults: [/template/t, _self_]\n")
    words = ["run", "model=t", "output_dir=out", "run_id=r", "on_existing=new"]
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "rompy_hydra", *words], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "out" / "r-2" / "logs" / "stdout.log").read_text() == "r-2\n"
    assert json.loads((tmp_path / "out" / "r-2" / "run.json").read_text())["config"]["run_id"] == "r-2"


# -- retries -----------------------------------------------------------------------------------------------------


def test_a_failed_run_is_tried_again_and_every_attempt_is_kept(tmp_path: Path) -> None:
    command = "echo try; test -e second && exit 0; test -e first && { touch second; exit 4; }; touch first; exit 3"
    record = run(tmp_path, model={"name": "m", "command": command}, retry={"attempts": 5, "wait": 0.01})
    assert [(a["state"], a["exit_code"]) for a in record["attempts"]] == [
        ("failed", 3),
        ("failed", 4),
        ("succeeded", 0),
    ]
    assert record["state"] == "succeeded"
    logs = tmp_path / "out" / "r" / "logs"
    assert [(logs / name).read_text() for name in ("stdout.log", "stdout.2.log", "stdout.3.log")] == ["try\n"] * 3
    assert record["attempts"][1]["logs"]["stdout"].endswith("stdout.2.log")


def test_attempts_run_out(tmp_path: Path) -> None:
    record = run(tmp_path, model={"name": "m", "command": "exit 3"}, retry={"attempts": 3, "wait": 0.01})
    assert (record["state"], len(record["attempts"])) == ("failed", 3)


def test_only_the_named_exit_codes_are_tried_again(tmp_path: Path) -> None:
    record = run(
        tmp_path, model={"name": "m", "command": "exit 3"}, retry={"attempts": 3, "wait": 0.01, "on_exit_codes": [75]}
    )
    assert len(record["attempts"]) == 1


def test_a_limit_can_grow_with_the_attempts(tmp_path: Path) -> None:
    record = run(
        tmp_path,
        model={"name": "m", "command": "sleep 1.2"},
        resources={"time_limit": 0.4},
        retry={"attempts": 4, "wait": 0.01, "on_states": ["timed_out"], "scale": {"time_limit": 3}},
    )
    assert [a["state"] for a in record["attempts"]] == ["timed_out", "timed_out", "succeeded"][
        -len(record["attempts"]) :
    ]
    assert len(record["attempts"]) >= 2
    assert record["state"] == "succeeded"


def test_a_run_that_needs_one_attempt_has_one(tmp_path: Path) -> None:
    record = run(tmp_path, model={"name": "m", "command": "true"})
    assert [a["state"] for a in record["attempts"]] == ["succeeded"]

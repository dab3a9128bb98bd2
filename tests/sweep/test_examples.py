"""Every file of multirun_examples/: its first line runs, in its small form, and the results make sense."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "multirun_examples"
FILES = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".yaml", ".sh"))
SMALL = "# small form: "


def command_of(path: Path) -> str:
    return path.read_text().splitlines()[0].removeprefix("# ")


def small_form(path: Path) -> list[str]:
    line = next(line for line in path.read_text().splitlines() if line.startswith(SMALL))
    return shlex.split(line.removeprefix(SMALL))


def run(tmp_path: Path, name: str, *more: str, code: int = 0) -> list[dict[str, Any]]:
    """Run an example in its small form; the records of its points."""
    path = EXAMPLES / name
    (tmp_path / "multirun_examples").symlink_to(EXAMPLES)
    words = [*small_form(path), "hydra.sweep.dir=sw", *more]
    done = subprocess.run(
        ["bash", "-c", f"{command_of(path)} {shlex.join(words)}"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    lines = [json.loads(line) for line in (tmp_path / "sw" / "plan.jsonl").read_text().splitlines()]
    return [
        json.loads((tmp_path / "sw" / line["name"] / "run.json").read_text()) for line in lines if "invalid" not in line
    ]


def test_there_are_at_least_six_and_each_is_tested_here() -> None:
    assert len(FILES) >= 6
    source = Path(__file__).read_text()
    assert [path.name for path in FILES if f'"{path.name}"' not in source] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_first_line_is_the_command_and_names_the_file(path: Path) -> None:
    command = command_of(path)
    assert command.startswith("rompy-hydra run -m ")
    if path.suffix == ".yaml":
        assert command == f"rompy-hydra run -m --config-dir multirun_examples --config-name {path.stem}"


@pytest.mark.parametrize("path", [p for p in FILES if p.stem != "backend_comparison"], ids=lambda path: path.name)
def test_its_points_are_all_valid_as_it_stands(path: Path, tmp_path: Path) -> None:
    (tmp_path / "multirun_examples").symlink_to(EXAMPLES)
    done = subprocess.run(
        ["bash", "-c", f"{command_of(path)} --dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr  # 3: the model is not installed here
    assert "compositions took" not in done.stderr  # none took Hydra's own, slow way


def test_env_matrix(tmp_path: Path) -> None:
    records = run(tmp_path, "env_matrix.sh")
    printed = [(tmp_path / "sw" / str(n) / "stdout.log").read_text() for n in range(len(records))]
    assert printed == ["1h\nLOG_LEVEL=DEBUG\n", "12h\n"]


@pytest.mark.docker
def test_backend_comparison(tmp_path: Path, tiny_image: str) -> None:
    records = run(tmp_path, "backend_comparison.yaml", f"model.image={tiny_image}", "sweep.repeats=1")
    assert [(r["backend"], r["state"]) for r in records] == [("local", "succeeded"), ("docker", "succeeded")]
    assert records[0]["sweep"]["swept"] == {"backend": "local"}


# ---- a dam break off a beach


def sww(tmp_path: Path, name: str) -> Any:
    from netCDF4 import Dataset

    return Dataset(tmp_path / "sw" / name / "dambreak.sww")


def water(tmp_path: Path, name: str) -> float:
    """Mean depth over the domain at the end, in metres."""
    with sww(tmp_path, name) as file:
        return float(np.mean(file["stage_c"][-1] - file["elevation_c"][:]))


@pytest.mark.anuga
@pytest.mark.xdist_group("examples-anuga")
def test_strong_scaling(tmp_path: Path) -> None:
    records = run(tmp_path, "strong_scaling.yaml")
    assert {r["state"] for r in records} == {"succeeded"}
    ranks = {r["resources"]["ranks"] for r in records}
    assert 1 in ranks
    depths = [water(tmp_path, r["run_id"]) for r in records]
    assert np.ptp(depths) < 1e-6 * depths[0]  # however it is divided, the same water


@pytest.mark.anuga
@pytest.mark.xdist_group("examples-anuga")
def test_memory_sizing(tmp_path: Path) -> None:
    coarse, fine = run(tmp_path, "memory_sizing.yaml")
    assert coarse["attempts"][0]["state"] == "out_of_memory"
    assert (coarse["state"], fine["state"]) == ("succeeded", "succeeded")
    assert fine["peak_memory_bytes"] > coarse["peak_memory_bytes"] > 100 * 2**20


@pytest.mark.anuga
@pytest.mark.xdist_group("examples-anuga")
def test_ensemble_anuga(tmp_path: Path) -> None:
    records = run(tmp_path, "ensemble_anuga.yaml")
    assert [r["run_id"] for r in records] == ["calm", "Yasi (2011)", "surge", "rough"]
    assert {r["state"] for r in records} == {"succeeded"}
    depths = {r["run_id"]: water(tmp_path, r["run_id"]) for r in records}
    assert depths["calm"] < depths["Yasi (2011)"] < depths["surge"]
    assert depths["rough"] == pytest.approx(depths["surge"], rel=1e-4)  # friction moves no water in or out
    assert records[2]["config"]["model"]["parameters"]["friction"] == 0.03  # a blank cell


# ---- an idealised ocean


def averages(tmp_path: Path, name: str) -> Any:
    from netCDF4 import Dataset

    return Dataset(tmp_path / "sw" / name / "acc_basic.averages.nc")


@pytest.mark.veros
@pytest.mark.xdist_group("examples-veros")
def test_sensitivity_veros(tmp_path: Path) -> None:
    records = run(tmp_path, "sensitivity_veros.yaml")
    assert {r["state"] for r in records} == {"succeeded"}
    wind = np.array([r["sweep"]["swept"]["model.parameters.wind_stress"] for r in records])
    assert np.all((wind >= 0.05) & (wind <= 0.2))
    assert np.ptp(wind) > 0.05  # a Latin hypercube fills its range, also with three points
    stress, speed = [], []
    for record in records:
        with averages(tmp_path, record["run_id"]) as file:
            stress.append(np.ma.max(file["surface_taux"][:]))
            speed.append(np.ma.max(np.abs(file["u"][:])))
    assert np.allclose(stress / wind, stress[0] / wind[0], rtol=1e-6)  # the ocean feels the wind that was asked for
    assert np.all((np.array(speed) > 1e-3) & (np.array(speed) < 1))


@pytest.mark.veros
@pytest.mark.xdist_group("examples-veros")
def test_zipped_lengths(tmp_path: Path) -> None:
    records = run(tmp_path, "zipped_lengths.sh")
    swept = [r["sweep"]["swept"] for r in records]
    assert [(s["model.parameters.run_length"], s["model.parameters.averages_interval"]) for s in swept] == [
        ("1d", "1d"),
        ("2d", "5d"),
    ]
    assert {r["state"] for r in records} == {"succeeded"}

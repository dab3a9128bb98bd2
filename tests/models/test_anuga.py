"""The ANUGA template: the same water on one process and on two ranks, and a check that says what is wrong with it.

Tolerance: the centroid values of both runs, matched by the triangles' positions, differ by less than 1e-6 (m, m2/s).
The vertex fields are averages over the triangles that a rank knows, and differ at the border between two ranks.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.models.conftest import ROOT, model_environment, module_or_none

netcdf, np = module_or_none("netCDF4"), module_or_none("numpy")

pytestmark = [pytest.mark.anuga, pytest.mark.slow, pytest.mark.xdist_group("anuga")]

TEMPLATE = ROOT / "templates/anuga_dambreak"
TOLERANCE = 1e-6
TWO_RANKS = ("backend.mpiexec='mpirun -np 2 --oversubscribe'",)


@pytest.fixture(scope="module")
def anuga(rompy, tmp_path_factory):
    """Runs the template by an option in a repository of one's own."""
    options = tmp_path_factory.mktemp("repository") / "conf/model"
    options.mkdir(parents=True)
    (options / "beach.yaml").write_text("defaults: [/template/anuga_dambreak, _self_]\n")

    def run(run_id, *arguments):
        return rompy(run_id, "--config-dir", str(options.parent), "model=beach", *arguments)

    return run


@pytest.fixture(scope="module")
def serial(anuga):
    return anuga("serial")


@pytest.fixture(scope="module")
def parallel(anuga):
    return anuga("parallel", *TWO_RANKS)


def fields(directory: Path) -> dict[str, Any]:
    """Time, elevation, and the centroid fields in the order of the triangles' positions."""
    with netcdf.Dataset(directory / "dambreak.sww") as file:
        corners = file["volumes"][:]
        x, y = (np.asarray(file[name][:], dtype=float)[corners] for name in ("x", "y"))
        area = np.abs((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])) / 2
        order = np.lexsort((x.mean(1).round(3), y.mean(1).round(3)))
        names = ("stage_c", "xmomentum_c", "ymomentum_c", "elevation_c")
        data = {name: np.asarray(file[name][:], dtype=float)[..., order] for name in names}
        return {"time": file["time"][:], "x": x.mean(1)[order], "area": area[order], **data}


# ---- the fields ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["serial", "parallel"])
def test_run_succeeds_with_one_merged_file(request, name):
    run = request.getfixturevalue(name)
    assert (run.exit_code, run.record["state"]) == (0, "succeeded"), run.said
    assert [output["path"] for output in run.record["outputs"]] == ["dambreak.sww"]


def test_two_ranks_really_ran(parallel):
    assert parallel.record["resources"]["ranks"] == 2
    assert parallel.record["command"][0].endswith("mpirun")


def test_centroid_fields_are_those_of_one_process_within_the_tolerance(serial, parallel):
    one, two = fields(serial.directory), fields(parallel.directory)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].shape == two[name].shape, name
        assert np.abs(one[name] - two[name]).max() < TOLERANCE, name


def test_water_runs_up_the_beach_and_none_is_lost(serial):
    data = fields(serial.directory)
    depth = data["stage_c"] - data["elevation_c"]
    volume = depth @ data["area"]
    front = [data["x"][wet].max() for wet in depth > 0.01]
    assert np.abs(volume / volume[0] - 1).max() < 1e-6
    assert front[0] < 90
    assert max(front) > front[0] + 10
    assert data["time"][-1] == 60


def test_bathymetry_is_an_input_that_decides(anuga, serial, tmp_path):
    lines = (TEMPLATE / "inputs/bathymetry.asc").read_text().splitlines()
    flat = [" ".join(["-4.0"] * 61)] * 31
    (tmp_path / "flat.asc").write_text("\n".join([*lines[:6], *flat]) + "\n")
    run = anuga("flat", f"model.inputs.bathymetry.source={tmp_path}/flat.asc", "model.parameters.final_time=5")
    assert run.record["state"] == "succeeded", run.said
    assert run.record["science_id"] != serial.record["science_id"]
    assert (run.directory / "bathymetry.asc").readlink() == tmp_path / "flat.asc"
    assert (fields(run.directory)["elevation_c"] == -4).all()


def test_interval_that_does_not_fit_still_ends_at_the_final_time(anuga):
    run = anuga("odd", "model.parameters.final_time=5", "model.parameters.output_interval=2")
    assert run.record["state"] == "succeeded", run.said
    assert list(fields(run.directory)["time"]) == [0, 2, 4, 5]


def test_rank_that_fails_ends_the_others(anuga, tmp_path):
    text = (TEMPLATE / "inputs/bathymetry.asc").read_text()
    (tmp_path / "holes.asc").write_text(text.replace("-4.000", "-9999", 1))
    started = time.monotonic()
    run = anuga("holes", f"model.inputs.bathymetry.source={tmp_path}/holes.asc", *TWO_RANKS)
    assert run.record["state"] == "failed"
    assert "the grid has cells without data" in (run.directory / "logs/stderr.log").read_text()
    assert time.monotonic() - started < 60


# ---- in a batch job --------------------------------------------------------------------------------------------------

IN_A_JOB = (
    "backend=slurm",
    "resources.ranks=2",
    "model.parameters.final_time=10",
    "env_vars.OMPI_MCA_mpi_yield_when_idle='1'",
)


def assert_begins_as(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """The fields of a shorter run are those of the first times of a longer one."""
    assert whole.keys() == part.keys()
    for name, values in part.items():
        first = whole[name][: len(values)] if name in ("time", "stage_c", "xmomentum_c", "ymomentum_c") else whole[name]
        assert np.abs(first - values).max() < TOLERANCE, name


@pytest.mark.slurm
def test_two_ranks_in_an_allocation_of_slurm_are_one_process_within_the_tolerance(anuga, serial):
    run = anuga("job", *IN_A_JOB, "site.launcher=mpirun")
    assert run.record["state"] == "succeeded", run.said
    assert (run.record["resources"]["ranks"], run.record["slurm"]["cpus"]) == (2, 2)
    assert_begins_as(fields(serial.directory), fields(run.directory))


@pytest.mark.slurm
def test_srun_starts_the_ranks_of_a_job(anuga, serial):
    listed = subprocess.run(["srun", "--mpi=list"], capture_output=True, text=True, check=False)
    if "pmix" not in listed.stdout + listed.stderr:
        pytest.skip("this Slurm cannot start MPI processes by itself (no pmix)")
    run = anuga("srun", *IN_A_JOB, "site.launcher='srun --mpi=pmix'")
    assert run.record["state"] == "succeeded", run.said
    assert run.record["command"][0].endswith("srun")
    assert_begins_as(fields(serial.directory), fields(run.directory))


# ---- the check -------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(serial, tmp_path):
    return shutil.copytree(serial.directory, tmp_path / "run", symlinks=True)


def check(directory: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "check_sww.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env=model_environment(),
    )
    return done.returncode, done.stdout.strip()


def test_check_holds_for_a_good_run(workspace):
    assert check(workspace) == (0, "")


def test_check_names_a_nan(workspace):
    with netcdf.Dataset(workspace / "dambreak.sww", "r+") as file:
        file["xmomentum_c"][5, 100] = np.nan
    assert check(workspace) == (1, "dambreak.sww: 1 of 93600 values of xmomentum_c are NaN, infinite or missing")


def test_check_names_a_run_that_ended_early(workspace):
    path = workspace / "parameters.json"
    path.write_text(path.read_text().replace('"final_time": 60.0', '"final_time": 90.0'))
    assert check(workspace) == (1, "dambreak.sww: ends at 60.0 s instead of 90.0 s")


def test_check_names_lost_water(workspace):
    with netcdf.Dataset(workspace / "dambreak.sww", "r+") as file:
        file["stage_c"][-1, :] = file["stage_c"][-1, :] + 0.01
    assert "although every side is a wall" in check(workspace)[1]


def test_check_names_a_file_that_is_cut_off(workspace):
    with (workspace / "dambreak.sww").open("r+b") as file:
        file.truncate(5000)
    code, said = check(workspace)
    assert code == 1
    assert said.startswith("dambreak.sww: ")

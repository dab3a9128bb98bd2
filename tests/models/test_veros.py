"""The Veros template: bit for bit what Veros gives by hand, and a check that says what is wrong with its files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.models.conftest import ROOT, model_environment, module_or_none

h5py, np = module_or_none("h5py"), module_or_none("numpy")

pytestmark = [pytest.mark.veros, pytest.mark.slow, pytest.mark.xdist_group("veros")]

CHECKS = ROOT / "templates/veros_acc/workspace"
SAID_WHEN = {"date_created", "setup_file", "setup_code"}  # attributes that tell when and from which file


def veros(directory: Path, *arguments: str) -> Path:
    subprocess.run(
        ["veros", *arguments], check=True, capture_output=True, cwd=directory, env=model_environment(), timeout=110
    )
    return directory


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """What Veros writes without us: `veros copy-setup acc_basic`, ten days."""
    directory = veros(tmp_path_factory.mktemp("by_hand"), "copy-setup", "acc_basic", "--to", "setup") / "setup"
    return veros(directory, "run", "acc_basic.py", "-s", "runlen", "864000", "--force-overwrite")


@pytest.fixture(scope="module")
def default(rompy):
    return rompy("default")


@pytest.fixture(scope="module")
def strong(rompy):
    return rompy("strong", "model.parameters.wind_stress=0.15")


def contents(path: Path) -> dict[str, object]:
    """Every dataset and every attribute of the file as bytes."""
    found: dict[str, object] = {}
    with h5py.File(path) as file:
        found |= {
            f"@{name}": np.asarray(value).tobytes() for name, value in file.attrs.items() if name not in SAID_WHEN
        }
        file.visititems(
            lambda name, item: (
                found.update({name: (item.dtype, item.shape, item[()].tobytes())})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def field(directory: Path, name: str):
    with h5py.File(directory / "acc_basic_0020.restart.h5") as file:
        return file[f"core/{name}"][()]


# ---- the fields ------------------------------------------------------------------------------------------------------


def test_default_run_succeeds_with_three_files(default):
    assert (default.exit_code, default.record["state"]) == (0, "succeeded")
    assert sorted(output["path"] for output in default.record["outputs"]) == [
        "acc_basic.averages.nc",
        "acc_basic.overturning.nc",
        "acc_basic_0020.restart.h5",
    ]


def test_overturning_is_bit_for_bit_that_of_veros_by_hand(default, by_hand):
    name = "acc_basic.overturning.nc"
    assert contents(default.directory / name) == contents(by_hand / name)


def test_model_state_is_bit_for_bit_that_of_veros_by_hand(default, by_hand):
    """But for the sums since the last record of the averages: this run has written two, upstream's none."""
    ours, theirs = (contents(where / "acc_basic_0020.restart.h5") for where in (default.directory, by_hand))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name] and not name.startswith("averages/")] == []


def test_averages_are_bit_for_bit_those_of_the_rendered_set_up_run_by_hand(default, tmp_path):
    shutil.copy(default.directory / "acc_basic.py", tmp_path)
    veros(tmp_path, "run", "acc_basic.py")
    name = "acc_basic.averages.nc"
    assert contents(default.directory / name) == contents(tmp_path / name)
    with h5py.File(tmp_path / name) as file:
        assert list(file["Time"]) == [5.0, 10.0]


def test_wind_stress_changes_the_ocean(default, strong):
    assert strong.record["state"] == "succeeded"
    assert strong.record["science_id"] != default.record["science_id"]
    assert np.abs(field(strong.directory, "u")).max() > 1.2 * np.abs(field(default.directory, "u")).max()


def test_wind_stress_does_what_an_edit_of_veros_own_set_up_does(strong, by_hand, tmp_path):
    source = (by_hand / "acc_basic.py").read_text()
    assert source.count("0.1 * ") == 2
    (tmp_path / "acc_basic.py").write_text(source.replace("0.1 * ", "0.15 * "))
    veros(tmp_path, "run", "acc_basic.py", "-s", "runlen", "864000")
    for name in ("u", "v", "temp", "psi", "tke"):
        ours, theirs = field(strong.directory, name), field(tmp_path, name)
        assert np.abs(ours - theirs).max() <= 1e-9 * np.abs(theirs).max(), name  # 0.15 / 0.1 rounds


def test_run_shorter_than_the_interval_has_one_record_of_averages(rompy):
    short = rompy("short", "model.parameters.run_length=1d", "model.parameters.identifier=short")
    assert short.record["state"] == "succeeded", short.said
    with h5py.File(short.directory / "short.averages.nc") as file:
        assert list(file["Time"]) == [1.0]
        assert np.isfinite(file["temp"]).all()


def test_ocean_that_blows_up_fails_and_the_reason_quotes_the_line(rompy):
    run = rompy("blown_up", "model.parameters.wind_stress=1000")
    assert (run.exit_code, run.record["state"]) == (1, "failed")
    assert "solution diverged at iteration" in run.record["reason"]


# ---- the check -------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(default, tmp_path):
    """The finished default run, to be damaged."""
    return shutil.copytree(default.directory, tmp_path / "run")


def check(directory: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "check_fields.sh"], capture_output=True, text=True, check=False, cwd=directory, env=model_environment()
    )
    return done.returncode, done.stdout.strip().rpartition("\n")[2]


def test_check_holds_for_a_good_run(workspace):
    assert check(workspace) == (0, "")


def test_check_names_file_and_variable_with_a_nan_in_the_water(workspace):
    with h5py.File(workspace / "acc_basic.averages.nc", "r+") as file:
        file["salt"][1, 3, 20, 10] = np.nan
    assert check(workspace) == (1, "acc_basic.averages.nc: 1 of 37800 values of salt are NaN or infinite")


def test_check_looks_into_the_restart_file(workspace):
    with h5py.File(workspace / "acc_basic_0020.restart.h5", "r+") as file:
        file["core/temp"][10, 10, 0, 0] = np.inf
    assert "acc_basic_0020.restart.h5: 1 of 70380 values of core/temp" in check(workspace)[1]


def test_check_names_a_field_of_nothing_but_fill_values(workspace):
    with h5py.File(workspace / "acc_basic.averages.nc", "r+") as file:
        file["u"][...] = file["u"].attrs["_FillValue"]
    assert check(workspace) == (1, "acc_basic.averages.nc: u holds nothing but its fill value")


def test_check_names_a_missing_variable(workspace):
    with h5py.File(workspace / "acc_basic.overturning.nc", "r+") as file:
        del file["vsf_depth"]
    assert check(workspace) == (1, "acc_basic.overturning.nc: the variable vsf_depth is missing")


def test_check_wants_a_record_of_the_averages(workspace, by_hand):
    shutil.copy(by_hand / "acc_basic.averages.nc", workspace)
    assert check(workspace) == (1, "acc_basic.averages.nc: holds no record in time")


def test_check_names_a_file_that_is_cut_off(workspace):
    with (workspace / "acc_basic.overturning.nc").open("r+b") as file:
        file.truncate(5000)
    code, said = check(workspace)
    assert code == 1
    assert said.startswith("acc_basic.overturning.nc: cannot be read")


def test_check_names_what_is_not_there(workspace):
    (workspace / "acc_basic_0020.restart.h5").unlink()
    assert check(workspace) == (1, "there is no *.restart.h5")


@pytest.mark.parametrize("first_line", ["#!{python}", "#!/usr/bin/env {python}", "#!/bin/sh"])
def test_check_finds_the_python_of_veros_however_it_is_installed(workspace, tmp_path, first_line):
    """pip and pipx name the interpreter in the first line; where its path is long or has a blank it lies beside it."""
    real = shutil.which("veros", path=model_environment()["PATH"])
    assert real is not None
    python = Path(real).read_text().partition("\n")[0].removeprefix("#!")
    tools = tmp_path / "tools with blank"
    tools.mkdir()
    (tools / "veros").write_text(first_line.format(python=python) + "\n")
    (tools / "veros").chmod(0o755)
    (tools / "python3").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    (tools / "python3").chmod(0o755)
    done = subprocess.run(["sh", "check_fields.sh"], check=False, cwd=workspace, env={"PATH": f"{tools}:/usr/bin:/bin"})
    assert done.returncode == 0

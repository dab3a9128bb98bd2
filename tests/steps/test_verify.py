"""`status --verify`: the files of a run beside its record, and beside another run's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MAKES = "cat in/table.csv > copy.txt; mkdir -p out; echo result > out/a.txt; echo log"
MAKES_NETCDF = """
import os, sys, numpy as np, xarray as xr
attrs = {"history": sys.argv[2], "setup": os.path.abspath("setup.py")}
data = xr.Dataset({"v": ("x", 1 + np.arange(5.0) * float(sys.argv[1]))}, attrs=attrs)
data.to_netcdf("fields.nc", engine="h5netcdf")
"""


def rompy(cwd: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "rompy_hydra", *words],
        cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def verdicts(cwd: Path, *words: str, code: int = 0) -> dict[str, str]:
    told = json.loads(rompy(cwd, "status", "--verify", "--json", *words, code=code).stdout)
    assert told["is_same"] is (code == 0)
    return {f"{f['kind']} {f['path']}": f["verdict"] for f in told["files"]}


def run(cwd: Path, name: str, *words: str, multirun: bool = False) -> Path:
    more = ["-m", f"hydra.sweep.dir=runs/{name}"] if multirun else [f"run_id={name}"]
    inputs = "+model.inputs.table.source=table.csv", "+model.inputs.table.as=in/", "model.inputs.table.identity=sha256"
    rompy(cwd, "run", *more, "model=command", f"model.command='{MAKES}'", *inputs[:2], f"+{inputs[2]}", *words)
    return cwd / "runs" / name


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text("1,2\n")
    return tmp_path


def test_a_run_that_nobody_touched_is_the_same(lab: Path) -> None:
    run(lab, "a")
    assert verdicts(lab, "runs/a") == {
        "input in/table.csv": "same",
        "output copy.txt": "same",
        "output out/a.txt": "same",
    }
    assert rompy(lab, "status", "--verify", "runs/a").stdout == "3 same\n"


def test_each_kind_of_change_is_told(lab: Path) -> None:
    made = run(lab, "a")
    path = made / "out/a.txt"
    before = path.stat()
    path.write_text("RESULT\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nobody had been there
    (made / "copy.txt").unlink()
    (made / "new.txt").write_text("x")
    (lab / "table.csv").write_text("1,3\n")
    assert verdicts(lab, "runs/a", code=1) == {
        "input in/table.csv": "changed",
        "output copy.txt": "missing",
        "output out/a.txt": "changed",
        "output new.txt": "extra",
    }
    told = rompy(lab, "status", "--verify", "runs/a", code=1).stdout
    assert "sha256" in told
    assert told.endswith("2 changed, 1 missing, 1 extra\n")
    (lab / "table.csv").unlink()
    assert verdicts(lab, "runs/a", code=1)["input in/table.csv"] == "missing"


@pytest.mark.parametrize("kind", ["stat", "fast", "sha256"])
def test_inputs_are_verified_however_they_are_identified(kind: str, lab: Path) -> None:
    folder = lab / "many"
    folder.mkdir()
    (folder / "x").write_text("1")
    (folder / "y").write_text("2")
    words = ("+model.inputs.d.source=many", f"+model.inputs.d.identity={kind}", f"model.inputs.table.identity={kind}")
    run(lab, "a", *words)
    assert set(verdicts(lab, "runs/a").values()) == {"same"}
    for path in (folder / "x", lab / "table.csv"):
        before = path.stat()
        path.write_text(path.read_text().replace("1", "9"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = verdicts(lab, "runs/a", code=1)
    assert found["input many"] == found["input in/table.csv"] == "changed"


def test_generated_files_are_verified_too(lab: Path) -> None:
    template = lab / "templates/t"
    (template / "workspace").mkdir(parents=True)
    (template / "template.yaml").write_text("model: {command: cat a.txt}\n")
    (template / "workspace/a.txt.j2").write_text("{{ run_id }}\n")
    (template / "workspace/b.txt").write_text("as it is\n")
    (lab / "conf/model").mkdir(parents=True)
    (lab / "conf/model/t.yaml").write_text("defaults: [/template/t@_here_]\n")
    rompy(lab, "run", "model=t", "run_id=a")
    assert verdicts(lab, "runs/a") == {"workspace a.txt": "same", "workspace b.txt": "same"}
    (lab / "runs/a/a.txt").write_text("edited\n")
    (lab / "runs/a/b.txt").unlink()
    assert verdicts(lab, "runs/a", code=1) == {"workspace a.txt": "changed", "workspace b.txt": "missing"}


def test_an_output_without_a_hash_counts_by_its_size(lab: Path) -> None:
    made = run(lab, "a")
    data = json.loads((made / "run.json").read_text())
    for entry in data["outputs"]:
        del entry["sha256"]
    (made / "run.json").write_text(json.dumps(data))
    assert verdicts(lab, "runs/a")["output out/a.txt"] == "not_recorded"
    assert "no sha256 was recorded" in rompy(lab, "status", "--verify", "runs/a").stdout
    (made / "out/a.txt").write_text("longer than it was\n")
    assert verdicts(lab, "runs/a", code=1)["output out/a.txt"] == "changed"


def test_what_the_postprocessor_made_is_no_surprise(lab: Path) -> None:
    run(lab, "a", "postprocess=archive")
    assert verdicts(lab, "runs/a")["output a.tar.gz"] == "not_recorded"


def test_a_run_beside_another(lab: Path) -> None:
    run(lab, "a")
    run(lab, "b")
    assert set(verdicts(lab, "runs/a", "--against", "runs/b").values()) == {"same"}
    (lab / "runs/b/copy.txt").write_text("other\n")
    (lab / "runs/b/more.txt").write_text("x")
    (lab / "runs/b/out/a.txt").unlink()
    assert verdicts(lab, "runs/a", "--against", "runs/b", code=1) == {
        "input in/table.csv": "same",
        "output copy.txt": "changed",
        "output more.txt": "missing",
        "output out/a.txt": "extra",
    }


def test_netcdf_fields_with_a_tolerance(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    (tmp_path / "make.py").write_text(MAKES_NETCDF)
    for name, step, history in (("a", 1, "now"), ("b", 1, "later"), ("c", 1.0001, "later")):
        command = f"model.command='{sys.executable} {tmp_path}/make.py {step} {history}'"
        rompy(tmp_path, "run", "model=command", command, f"run_id={name}")
    words = ("runs/a", "--against")
    assert verdicts(tmp_path, *words, "runs/b", code=1) == {"output fields.nc": "changed"}
    assert verdicts(tmp_path, *words, "runs/b", "--tolerance", "0") == {"output fields.nc": "same"}
    assert verdicts(tmp_path, *words, "runs/c", "--tolerance", "1e-3") == {"output fields.nc": "same"}
    told = rompy(tmp_path, "status", "--verify", *words, "runs/c", "--tolerance", "1e-6", code=1).stdout
    assert "v: differs by up to 0.0004" in told


def test_a_reproduced_run_is_held_beside_the_first_one(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    (tmp_path / "make.py").write_text(MAKES_NETCDF)
    command = f"model.command='{sys.executable} {tmp_path}/make.py 1 $RANDOM$$'"
    rompy(tmp_path, "run", "model=command", command, "run_id=a")
    rompy(tmp_path, "run", "--from", "runs/a")
    done = rompy(tmp_path, "status", "--verify", "runs/a-2", "--tolerance", "0")
    assert f"beside {tmp_path}/runs/a" in done.stderr
    wrong = rompy(tmp_path, "status", "--verify", "runs/a", "--tolerance", "0", code=2)
    assert "--against" in wrong.stderr


def test_a_sweep_with_all_of_its_points(lab: Path) -> None:
    made = run(lab, "scan", "vars.n=1,2,3", multirun=True)
    shutil.copytree(made, lab / "copy", symlinks=True)
    assert set(verdicts(lab, "runs/scan").values()) == {"same"}
    assert set(verdicts(lab, "runs/scan", "--against", "copy").values()) == {"same"}
    (made / "1/out/a.txt").write_text("other\n")
    shutil.rmtree(lab / "copy/2")
    told = rompy(lab, "status", "--verify", "runs/scan", code=1).stdout
    assert "1/out/a.txt" in told
    assert told.endswith("8 same, 1 changed\n")
    told = rompy(lab, "status", "--verify", "runs/scan", "--against", "copy", code=1).stdout
    assert "the other one has no record" in told
    assert "1/out/a.txt  (7 bytes here, 6 there)" not in told
    assert "1/out/a.txt" in told


def test_what_cannot_be_verified_is_refused(lab: Path) -> None:
    made = run(lab, "a")
    for words in (["runs"], ["runs/a", "--watch"], ["runs/a", "--csv"], ["runs/a", "--against", "nowhere"]):
        rompy(lab, "status", "--verify", *words, code=2)
    data: dict[str, Any] = json.loads((made / "run.json").read_text())
    (made / "run.json").write_text(json.dumps({**data, "state": "waiting"}))
    assert "it is verified when it has ended" in rompy(lab, "status", "--verify", "runs/a", code=2).stderr


def test_hostile_names_do_not_reach_the_terminal(lab: Path) -> None:
    made = run(lab, "a")
    (made / "x\x1b[2J\ny").write_text("x")
    assert "\x1b" not in rompy(lab, "status", "--verify", "runs/a", code=1).stdout


@pytest.mark.veros
@pytest.mark.xdist_group("veros")
def test_a_real_ocean_once_more_has_the_same_fields(tmp_path: Path) -> None:
    rompy(tmp_path, "run", "model.parameters.run_length=1d", "run_id=a")
    rompy(tmp_path, "run", "--from", "runs/a")
    assert json.loads((tmp_path / "runs/a-2/run.json").read_text())["reproduces"]["is_same"]
    found = verdicts(tmp_path, "runs/a-2", "--tolerance", "1e-12")
    assert found["output acc_basic.averages.nc"] == "same"
    verdicts(tmp_path, "runs/a-2", "--against", "runs/a", code=1)

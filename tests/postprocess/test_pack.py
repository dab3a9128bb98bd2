"""A sweep in one archive: few inodes, and everything that looks at it still sees its points."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.postprocess.archive_writing import verify
from rompy_hydra.postprocess.manifest import load_manifest
from rompy_hydra.sweep.layout import SweepLayout
from rompy_hydra.sweep.packed import find_pack, open_file, read_record
from tests.postprocess.test_archive import FORMATS, UNPACK, tree
from tests.sweep.commands import Sweeps, until

# what an archive is not told of: what a driver keeps for the moment, and the archive itself
MOMENT = (".digest.json", ".lease", "*points.tar.gz", "*points.tar.zst", "*points.zip", "*.manifest.jsonl")
POINTS = "vars.n=0,1,2,3"
COMMAND = (
    'backend.command="echo out ${vars.n}; echo err ${vars.n} >&2; mkdir -p deep/er; seq 1 20000 > deep/er/field.txt;'
    ' ln -s deep/er/field.txt latest; test ${vars.n} != 2"'
)


@pytest.fixture
def sweeps(tmp_path: Path) -> Sweeps:
    """A sweep of four points, of which one failed."""
    sweeps = Sweeps(tmp_path)
    sweeps.run("run", "-m", "model=command", COMMAND, POINTS, "hydra.sweep.dir=sw", code=1)
    return sweeps


def packed(sweeps: Sweeps, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return sweeps.run("postprocess", "sw", "processor=archive", "pack=true", *words, code=code)


def inodes(directory: Path) -> int:
    return sum(1 for _ in directory.rglob("*"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_packed_sweep_has_few_inodes_and_is_seen_as_before(sweeps: Sweeps, form: str) -> None:
    status = json.loads(sweeps.run("status", "--json", "sw").stdout)
    point = json.loads(sweeps.run("status", "--json", "sw/2").stdout)
    logs = [sweeps.run("logs", "sw", str(n)) for n in range(4)]
    before = tree(sweeps.path, but=MOMENT)
    packed(sweeps, f"format={form}", "remove_originals=true")
    assert inodes(sweeps.path) <= 12
    assert not (sweeps.path / "2").exists()
    assert json.loads(sweeps.run("status", "--json", "sw").stdout) == status
    assert json.loads(sweeps.run("status", "--json", "sw/2").stdout) == point
    text = sweeps.run("status", "sw").stdout
    assert "    | err 2" in text
    assert f"points.{form}" in text
    assert "failed: its command ended" in sweeps.run("status", "sw/2").stdout
    for number, log in enumerate(logs):
        now = sweeps.run("logs", "sw", str(number))
        assert (now.stdout, now.stderr) == (log.stdout, log.stderr)
    assert sweeps.run("logs", "sw/3").stdout == "out 3\n"
    sweeps.run("postprocess", "sw", "--restore")
    assert tree(sweeps.path, but=MOMENT) == before
    sweeps.run("resume", "--retry-failed", "sw", code=1)
    assert sweeps.record(2)["attempts"][-1]["state"] == "failed"


@pytest.mark.parametrize("form", FORMATS)
def test_the_real_programs_open_a_pack(sweeps: Sweeps, tmp_path: Path, form: str) -> None:
    before = tree(sweeps.path, but=MOMENT)
    packed(sweeps, f"format={form}")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run([*UNPACK[form], sweeps.path / f"points.{form}"], cwd=unpacked, check=True)
    assert tree(unpacked / "sw", but=(".archive-manifest.jsonl",)) == before


def test_a_pack_is_read_at_any_place_without_unpacking(sweeps: Sweeps) -> None:
    field = (sweeps.path / "1" / "deep" / "er" / "field.txt").read_bytes()
    records = {n: sweeps.record(n) for n in range(4)}
    packed(sweeps, "remove_originals=true")
    layout = SweepLayout(sweeps.path)
    pack = find_pack(layout)
    assert pack is not None
    assert {int(d.name): record for d, record in pack.records()} == records
    assert read_record(layout, sweeps.path / "3") == records[3]
    chance = random.Random(5)
    with open_file(layout, sweeps.path / "1", "deep/er/field.txt") as file:
        assert file is not None
        for _ in range(20):
            at, size = chance.randrange(len(field)), chance.randrange(5000)
            file.seek(at)
            assert file.read(size) == field[at : at + size]
        assert file.seek(0, 2) == len(field)
    with open_file(layout, sweeps.path / "1", "metrics.json") as file:
        assert file is None
    sweeps.run("postprocess", "sw", "--restore")
    assert read_record(layout, sweeps.path / "3") == records[3]


def test_a_point_that_is_there_wins_over_the_packed_one(sweeps: Sweeps) -> None:
    packed(sweeps)
    record = sweeps.record(1)
    (sweeps.path / "1" / "run.json").write_text(json.dumps({**record, "reason": "newer"}))
    assert read_record(SweepLayout(sweeps.path), sweeps.path / "1")["reason"] == "newer"


def test_a_packed_sweep_is_restored_before_it_goes_on(sweeps: Sweeps) -> None:
    packed(sweeps, "remove_originals=true")
    for words in (["resume", "sw"], ["postprocess", "sw", "processor=noop"]):
        refused = sweeps.run(*words, code=2)
        assert "postprocess" in refused.stderr
        assert "--restore" in refused.stderr
    sweeps.run("resume", "sw", code=2)
    again = packed(sweeps, "remove_originals=true")
    assert "0 originals removed" in again.stdout
    assert "bring them back first" in packed(sweeps, "format=zip", code=4).stderr


def test_files_of_others_stay(sweeps: Sweeps) -> None:
    (sweeps.path / "notes.txt").write_text("mine")
    (sweeps.path / "plots").mkdir()
    (sweeps.path / "plots" / "a.png").write_text("mine")
    packed(sweeps, "remove_originals=true")
    assert (sweeps.path / "notes.txt").read_text() == "mine"
    assert (sweeps.path / "plots" / "a.png").exists()
    assert not (sweeps.path / "0").exists()


def test_excluded_files_stay(sweeps: Sweeps) -> None:
    packed(sweeps, "remove_originals=true", "exclude=*.txt")
    assert [p.name for p in sweeps.path.rglob("*.txt")] == ["field.txt"] * 4
    assert not (sweeps.path / "0" / "run.json").exists()


def test_an_archive_elsewhere_is_found_and_missed(sweeps: Sweeps, tmp_path: Path) -> None:
    (tmp_path / "tape").mkdir()
    packed(sweeps, "remove_originals=true", "destination=tape")
    assert (tmp_path / "tape" / "sw.tar.gz").exists()
    assert sweeps.run("logs", "sw", "1").stdout == "out 1\n"
    (tmp_path / "tape" / "sw.tar.gz").rename(tmp_path / "away.tar.gz")
    assert "which is not there any more" in sweeps.run("logs", "sw", "1", code=2).stderr
    assert sweeps.run("status", "sw").returncode == 0
    (tmp_path / "away.tar.gz").rename(tmp_path / "tape" / "sw.tar.gz")
    shutil.rmtree(sweeps.path)
    sweeps.run("postprocess", "tape/sw.tar.gz", "--restore", "into=sw")
    assert sweeps.states() == {"succeeded": 3, "failed": 1}


def test_restoring_writes_nothing_over(sweeps: Sweeps) -> None:
    packed(sweeps, "remove_originals=true")
    (sweeps.path / "1").mkdir()
    (sweeps.path / "1" / "run.json").write_text("mine")
    refused = sweeps.run("postprocess", "sw", "--restore", code=4)
    assert "1/run.json" in refused.stderr
    assert not (sweeps.path / "0").exists()
    assert (sweeps.path / "1" / "run.json").read_text() == "mine"


def test_a_sweep_that_runs_is_not_packed(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    words = ["run", "-m", "model=command", 'backend.command="touch up; sleep 600"', "vars.n=1,2", "hydra.sweep.dir=sw"]
    with sweeps.started(*words) as driver:
        until((tmp_path / "sw" / "0" / "up").exists)
        assert "driven" in packed(sweeps, "remove_originals=true", code=2).stderr
        driver.send_signal(signal.SIGKILL)
        driver.wait(60)
        assert "still runs" in packed(sweeps, "remove_originals=true", code=2).stderr
        assert (tmp_path / "sw" / "0" / "up").exists()
        sweeps.run("cancel", "sw")


def test_only_a_sweep_can_be_packed(sweeps: Sweeps) -> None:
    sweeps.run("run", "model=command", "backend.command=true", "run_id=one")
    refused = sweeps.run("postprocess", "runs/one", "processor=archive", "pack=true", code=2)
    assert "is no sweep" in refused.stderr
    assert "no such field" in packed(sweeps, "fromat=zip", code=2).stderr
    assert "was not packed" in sweeps.run("postprocess", "sw", "--restore", code=2).stderr


def test_killed_at_any_moment_a_pack_loses_nothing(sweeps: Sweeps, tmp_path: Path) -> None:
    before = tree(sweeps.path, but=MOMENT)
    safe = tmp_path / "safe"
    shutil.copytree(sweeps.path, safe, symlinks=True)
    code = (
        "import sys, rompy_hydra.sweeping.pack\nfrom rompy_hydra.cli import main\n"
        "print('begin', flush=True)\n"
        "main(['postprocess', 'sw', 'processor=archive', 'pack=true', 'remove_originals=true'])\n"
    )
    chance, took = random.Random(7), 1.0
    for _ in range(4):
        shutil.rmtree(sweeps.path)
        shutil.copytree(safe, sweeps.path, symlinks=True)
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, took))
            child.send_signal(signal.SIGKILL)
            said = child.stdout.read()
        if said:
            took = min(took, time.monotonic() - began) * 0.7
        assert sweeps.states() == {"succeeded": 3, "failed": 1}
        packed(sweeps, "remove_originals=true")
        hidden = {p.name for p in sweeps.path.iterdir() if p.name.startswith(".")}
        assert hidden <= {".hydra", ".digest.json", ".source"}
        manifest = load_manifest(sweeps.path / "points.tar.gz.manifest.jsonl")
        assert manifest is not None
        verify(manifest.archive, manifest)
        sweeps.run("postprocess", "sw", "--restore")
        assert tree(sweeps.path, but=MOMENT) == before


def test_points_of_a_fanned_out_sweep_are_found(sweeps: Sweeps) -> None:
    """A thousand points to a directory: made by hand, since it is about paths."""
    description = json.loads((sweeps.path / "sweep.json").read_text())
    (sweeps.path / "sweep.json").write_text(json.dumps({**description, "fan_out": True}))
    (sweeps.path / "000").mkdir()
    for number in range(4):
        (sweeps.path / str(number)).rename(sweeps.path / "000" / str(number))
    packed(sweeps, "remove_originals=true")
    assert not (sweeps.path / "000").exists()
    assert sweeps.run("logs", "sw", "3").stdout == "out 3\n"
    assert "| err 2" in sweeps.run("status", "sw").stdout


def test_a_pack_without_points_of_that_name_says_so(sweeps: Sweeps) -> None:
    packed(sweeps, "remove_originals=true")
    missing: Any = sweeps.run("logs", "sw", "99", code=2)
    assert "no point '99'" in missing.stderr

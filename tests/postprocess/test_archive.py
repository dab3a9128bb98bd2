"""Archives of runs: opened with the real programs and compared byte for byte; killed, starved, damaged, restored."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rompy_hydra.cli import main
from rompy_hydra.errors import SiteError
from rompy_hydra.postprocess import archive_writing, process
from rompy_hydra.postprocess.archive_files import pattern_of
from rompy_hydra.postprocess.archive_writing import ArchiveError, opened_manifest
from rompy_hydra.postprocess.manifest import DamagedArchiveError, dump, load_manifest
from rompy_hydra.sweeping.unpack import restore_archive

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("tar.gz", "tar.zst", "zip")
UNPACK = {"tar.gz": ["tar", "-xzf"], "tar.zst": ["tar", "--zstd", "-xf"], "zip": ["unzip", "-q"]}
BIG = 3 * 256 * 1024 + 17  # several frames, none of them full


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(directory: Path) -> Path:
    """A run as one finds it: a record, logs, outputs, and names that nobody would choose."""
    (directory / "out" / "empty").mkdir(parents=True)
    (directory / "logs").mkdir()
    record = {"schema": "rompy-hydra/run", "schema_version": 1, "run_id": directory.name, "state": "succeeded"}
    (directory / "run.json").write_text(json.dumps({**record, "job_token": f"of {directory.name}"}))
    (directory / "logs" / "stdout.log").write_text("hello\n")
    (directory / "out" / "field.nc").write_bytes(random.Random(1).randbytes(BIG))
    (directory / "out" / "text.csv").write_text("1,2\n" * 50_000)
    (directory / "-rf").write_text("no option")
    (directory / "Zürich.txt").write_text("ü")
    (directory / ("long" * 50)).write_text("a name of 200 bytes")
    (directory / "tool.sh").write_text("#!/bin/sh\n")
    (directory / "tool.sh").chmod(0o750)
    (directory / "latest").symlink_to("out/field.nc")
    (directory / "out" / "away").symlink_to("/nowhere/../input data")
    with (directory / "out" / "holes").open("wb") as file:
        file.seek(2_000_000)
        file.write(b"end")
    return directory


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "tide")


def archive(run_dir: Path, **options: Any) -> dict[str, Any]:
    return process("archive", SimpleNamespace(run_id=run_dir.name, output_dir=run_dir.parent), options)


def tree(directory: Path, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Everything below a directory: kind, mode, contents."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if any(name == b or (b.startswith("*") and name.endswith(b[1:])) for b in but):
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)  # noqa: PTH115  # its text as it is
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (stat.S_IMODE(path.stat().st_mode), hashlib.sha256(path.read_bytes()).hexdigest())
    return found


OURS = ("*.manifest.jsonl", "tide.tar.gz", "tide.tar.zst", "tide.zip", ".archive-manifest.jsonl")


@pytest.mark.parametrize("form", FORMATS)
def test_the_real_programs_open_it_and_find_every_byte(run_dir: Path, tmp_path: Path, form: str) -> None:
    before = tree(run_dir)
    answer = archive(run_dir, format=form)
    assert answer["success"], answer
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run([*UNPACK[form], answer["archive"]], cwd=unpacked, check=True)
    assert tree(unpacked / "tide", but=OURS) == before
    assert [path.name for path in unpacked.iterdir()] == ["tide"]


@pytest.mark.parametrize("form", FORMATS)
def test_the_real_programs_find_no_fault(run_dir: Path, form: str) -> None:
    made = archive(run_dir, format=form)["archive"]
    tests = {"tar.gz": ["gzip", "-t"], "tar.zst": ["zstd", "-qt"], "zip": ["unzip", "-qt"]}
    done = subprocess.run([*tests[form], made], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_no_text_and_one_of_two_lines_survive_tar(run_dir: Path, tmp_path: Path) -> None:
    for name in (b"\xff\xfe.bin", b"two\nlines", b"tab\t", b"back\\slash"):
        (run_dir / os.fsdecode(name)).write_bytes(name)
    before = tree(run_dir)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzf", archive(run_dir)["archive"]], cwd=unpacked, check=True)
    assert tree(unpacked / "tide", but=OURS) == before


@pytest.mark.parametrize("form", FORMATS)
def test_odd_names_come_back(run_dir: Path, tmp_path: Path, form: str) -> None:
    for name in (b"\xff\xfe.bin", b"two\nlines", b"back\\slash", b"50% \xe2\x82\xac"):
        (run_dir / os.fsdecode(name)).write_bytes(name)
    before = tree(run_dir)
    made = Path(archive(run_dir, format=form)["archive"])
    restore_archive(made, tmp_path / "again")
    assert tree(tmp_path / "again") == before


def test_the_manifest_tells_every_file_inside_and_beside(run_dir: Path, tmp_path: Path) -> None:
    answer = archive(run_dir)
    beside = Path(answer["manifest"]).read_text().splitlines()
    listed = {entry["path"]: entry for entry in map(json.loads, beside[1:-1])}
    field = (run_dir / "out" / "field.nc").read_bytes()
    assert listed["out/field.nc"]["sha256"] == hashlib.sha256(field).hexdigest()
    assert listed["out/field.nc"]["bytes"] == len(field)
    assert listed["latest"]["link"] == "out/field.nc"
    text = subprocess.run(
        ["tar", "-xzOf", answer["archive"], "tide/.archive-manifest.jsonl"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert text[:-1] == beside[:-1]
    assert answer["sha256"] == hashlib.sha256(Path(answer["archive"]).read_bytes()).hexdigest()
    assert sum("sha256" in e or "link" in e for e in listed.values()) == answer["files"]


def test_pipes_are_left_out_and_named(run_dir: Path) -> None:
    os.mkfifo(run_dir / "pipe")
    answer = archive(run_dir, remove_originals=True)
    assert answer["left_out"] == ["pipe"]
    assert "1 pipes" in answer["message"]
    assert (run_dir / "pipe").exists()


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("*.nc", ["a.nc", "out/a.nc", "a.nc/inside"], ["a.ncx"]),
        ("out", ["out", "out/a", "x/out/b"], ["outer"]),
        ("out/*.nc", ["out/a.nc"], ["a.nc", "out/b/a.nc", "x/out/a.nc"]),
        ("out/**", ["out/a", "out/b/c"], ["out2/a"]),
        ("**/a", ["a", "b/a", "b/c/a"], ["ba"]),
        ("r[0-9]?.[!x]", ["r12.y"], ["r1.y", "r12.x"]),
        ("a+(b).txt", ["a+(b).txt"], ["aab.txt"]),
        ("two\nlines", ["two\nlines"], ["two"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    compiled = pattern_of(pattern)
    assert [name for name in fits if not compiled.match(name)] == []
    assert [name for name in fits_not if compiled.match(name)] == []


def names_in(answer: dict[str, Any]) -> set[str]:
    found = load_manifest(Path(answer["manifest"]))
    assert found is not None
    return {entry["path"] for entry in found.entries() if not entry.get("folder")}


def test_patterns_choose_and_the_record_is_always_there(run_dir: Path) -> None:
    assert names_in(archive(run_dir, include=["*.nc", "logs"])) == {"run.json", "out/field.nc", "logs/stdout.log"}
    assert names_in(archive(run_dir, include="*.nc,*.csv", exclude="text.*")) == {"run.json", "out/field.nc"}
    without = names_in(archive(run_dir, exclude=["out"]))
    assert "run.json" in without
    assert not any(name.startswith("out/") for name in without)


def test_patterns_that_fit_nothing_are_a_mistake(run_dir: Path) -> None:
    answer = archive(run_dir, include="*.grib")
    assert answer["success"] is False
    assert "include=*.grib" in answer["error"]
    assert not list(run_dir.glob("tide.*"))


def test_excluded_files_are_not_removed(run_dir: Path) -> None:
    archive(run_dir, exclude="*.csv", remove_originals=True)
    assert (run_dir / "out" / "text.csv").exists()
    assert not (run_dir / "out" / "field.nc").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_reproducible_archives_of_equal_files_are_equal(run_dir: Path, tmp_path: Path, form: str) -> None:
    other = tmp_path / "elsewhere" / "tide"
    shutil.copytree(run_dir, other, symlinks=True)
    for number, path in enumerate(sorted(other.rglob("*"))):
        if not path.is_symlink():
            os.utime(path, (number, number))
    (other / "out" / "text.csv").chmod(0o600)
    first = archive(run_dir, format=form, reproducible=True)
    second = archive(other, format=form, reproducible=True)
    assert first["sha256"] == second["sha256"]


def test_a_reproducible_archive_does_not_depend_on_what_was_said_of_the_one_before(run_dir: Path) -> None:
    first = archive(run_dir, reproducible=True)
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps({**record, "postprocess": first, "processed": {"archive": first}}))
    Path(first["archive"]).unlink()
    from rompy_hydra.record.store import replace_record

    replace_record(run_dir, {**record, "postprocess": first})
    second = archive(run_dir, reproducible=True)
    replace_record(run_dir, record)
    assert archive(run_dir, reproducible=True)["sha256"] == second["sha256"]


# ---- originals


@pytest.mark.parametrize("form", FORMATS)
def test_originals_go_and_come_back_byte_for_byte(run_dir: Path, form: str) -> None:
    before = tree(run_dir)
    times = (run_dir / "out" / "field.nc").stat().st_mtime_ns
    answer = archive(run_dir, format=form, remove_originals=True)
    assert answer["removed"]["files"] == 9
    left = {p.relative_to(run_dir).as_posix() for p in run_dir.rglob("*")}
    assert left == {"run.json", "logs", "logs/stdout.log", f"tide.{form}", f"tide.{form}.manifest.jsonl"}
    assert main(["postprocess", str(run_dir), "--restore"]) == 0
    assert tree(run_dir, but=OURS) == before
    assert (run_dir / "out" / "field.nc").stat().st_mtime_ns == times
    holes = (run_dir / "out" / "holes").stat()
    assert holes.st_blocks * 512 < holes.st_size


def test_without_being_asked_nothing_is_removed(run_dir: Path) -> None:
    before = tree(run_dir)
    assert archive(run_dir)["success"]
    assert tree(run_dir, but=OURS) == before


def test_an_archive_whose_originals_are_gone_is_never_written_over(run_dir: Path) -> None:
    first = archive(run_dir, remove_originals=True)
    again = archive(run_dir, remove_originals=True)
    assert (again["success"], again["sha256"]) == (True, first["sha256"])
    (run_dir / "new.txt").write_text("new")
    for options in ({}, {"overwrite": True}, {"format": "zip"}):
        refused = archive(run_dir, **options)
        assert refused["success"] is False
        assert "--restore" in refused["error"]
    assert hashlib.sha256(Path(first["archive"]).read_bytes()).hexdigest() == first["sha256"]
    assert main(["postprocess", str(run_dir), "--restore"]) == 0
    assert archive(run_dir)["files"] == first["files"] + 1


def test_a_removal_that_was_ended_half_way_goes_on(run_dir: Path) -> None:
    archive(run_dir)
    (run_dir / "out" / "field.nc").unlink()
    answer = archive(run_dir, remove_originals=True)
    assert answer["success"], answer
    assert not (run_dir / "out").exists()
    assert main(["postprocess", str(run_dir), "--restore"]) == 0
    assert (run_dir / "out" / "field.nc").stat().st_size == BIG


def test_what_changed_since_it_was_archived_is_kept(run_dir: Path) -> None:
    answer = archive(run_dir)
    (run_dir / "out" / "text.csv").write_text("changed")
    manifest = load_manifest(Path(answer["manifest"]))
    assert manifest is not None
    removed = archive_writing.remove_originals(manifest, run_dir, lambda _: False)
    assert removed.kept == ["out/text.csv"]
    assert (run_dir / "out" / "text.csv").read_text() == "changed"


def test_a_file_that_changes_while_it_is_read_fails_the_archive(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = archive_writing._exactly

    def growing(file: Any, path: Path, *rest: Any) -> Any:
        if path.name == "text.csv":
            with path.open("a") as more:
                more.write("still running\n")
        return real(file, path, *rest)

    monkeypatch.setattr(archive_writing, "_exactly", growing)
    answer = archive(run_dir, remove_originals=True)
    assert answer["success"] is False
    assert "changed while it was archived" in answer["error"]
    assert (run_dir / "out" / "field.nc").exists()
    assert not list(run_dir.glob("*tide*"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("at", [0.3, 0.999])
def test_a_disk_that_forgets_a_byte_is_found_out_before_anything_is_removed(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, form: str, at: float
) -> None:
    real = archive_writing._sync

    def forgetful(file: Any) -> None:
        real(file)
        if file.name.endswith(f"{form}.partial"):
            where = int(Path(file.name).stat().st_size * at) if form != "zip" else int(BIG * at)
            with Path(file.name).open("r+b") as again:
                again.seek(where)
                byte = again.read(1)
                again.seek(where)
                again.write(bytes([byte[0] ^ 0x10]))

    monkeypatch.setattr(archive_writing, "_sync", forgetful)
    before = tree(run_dir)
    answer = archive(run_dir, format=form, remove_originals=True)
    assert answer["success"] is False
    assert "damaged" in answer["error"] or "not as its manifest says" in answer["error"]
    assert tree(run_dir) == before


# ---- killed, starved

KILLED = """
import sys, types
from rompy_hydra.postprocess import process
run = types.SimpleNamespace(run_id="tide", output_dir=sys.argv[1])
print("begin", flush=True)
answer = process("archive", run, {"format": sys.argv[2], "remove_originals": True, "level": 9})
print(answer, flush=True)
"""


@pytest.mark.parametrize("form", FORMATS)
def test_killed_at_any_moment_nothing_is_lost_and_the_next_call_cleans_up(
    run_dir: Path, tmp_path: Path, form: str
) -> None:
    for number in range(40):
        (run_dir / "out" / f"{number}.bin").write_bytes(random.Random(number).randbytes(60_000))
    before = tree(run_dir)
    safe = tmp_path / "safe"
    shutil.copytree(run_dir, safe, symlinks=True)
    chance = random.Random(form)
    took = 1.0
    for _ in range(5):
        shutil.rmtree(run_dir)
        shutil.copytree(safe, run_dir, symlinks=True)
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(run_dir.parent), form],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, took))
            child.send_signal(signal.SIGKILL)
            said = child.stdout.read()
        if said:  # it had ended already: aim better
            took = min(took, time.monotonic() - began) * 0.7
        made = run_dir / f"tide.{form}"
        if made.exists():
            with opened_manifest(made) as manifest:
                archive_writing.verify(made, manifest) if "frames" in manifest.end or form == "zip" else None
            restore_archive(made, None)
        assert tree(run_dir, but=(*OURS, *litter(run_dir))) == before
        answer = archive(run_dir, format=form)
        assert answer["success"], answer
        assert litter(run_dir) == []


def litter(run_dir: Path) -> list[str]:
    return [path.name for path in run_dir.iterdir() if path.name.startswith(".")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], capture_output=True, check=False
    ).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_told_and_costs_nothing(run_dir: Path, small_disk: Path, form: str) -> None:
    (run_dir / "big").write_bytes(random.Random(2).randbytes(4_000_000))
    before = tree(run_dir)
    answer = archive(run_dir, format=form, destination=str(small_disk), remove_originals=True)
    assert answer["success"] is False
    assert "No space left on device" in answer["error"]
    assert tree(run_dir) == before
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_while_restoring_leaves_no_half_file(run_dir: Path, small_disk: Path) -> None:
    (run_dir / "big").write_bytes(random.Random(2).randbytes(4_000_000))
    made = Path(archive(run_dir)["archive"])
    with pytest.raises(SiteError, match="No space left on device"):
        restore_archive(made, small_disk / "tide")
    assert not (small_disk / "tide" / "big").exists()
    assert not (small_disk / "tide" / ".restoring").exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_memory_does_not_grow_with_the_run(tmp_path: Path, form: str) -> None:
    code = (
        "import sys, types, resource\n"
        "from rompy_hydra.postprocess import process\n"
        "run = types.SimpleNamespace(run_id=sys.argv[1], output_dir='.')\n"
        "assert process('archive', run, {'format': sys.argv[2], 'level': 1})['success']\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for name, megabytes in (("small", 4), ("large", 72)):
        (tmp_path / name).mkdir()
        block = random.Random(3).randbytes(1 << 20)
        with (tmp_path / name / "field.nc").open("wb") as file:
            for _ in range(megabytes):
                file.write(block)
        done = subprocess.run(
            [sys.executable, "-c", code, name, form],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) // 1024)
    assert peaks[1] - peaks[0] < 30, peaks


# ---- many in one place, missing parts


def test_two_runs_of_one_name_do_not_share_an_archive(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    first = archive(run_dir, destination="safe")
    other = make_run(tmp_path / "other" / "tide")
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**record, "job_token": "another"}))
    refused = archive(other, destination="safe")
    assert refused["success"] is False
    assert "another run" in refused["error"]
    assert hashlib.sha256(Path(first["archive"]).read_bytes()).hexdigest() == first["sha256"]
    assert archive(other, destination="safe", overwrite=True)["success"]


def test_a_point_is_named_with_its_sweep_where_many_share_a_place(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps({**record, "sweep": {"directory": "/data/winds", "number": 3}}))
    assert Path(archive(run_dir, destination="safe")["archive"]).name == "winds-tide.tar.gz"


def test_two_at_a_time_do_not_spoil_each_other(run_dir: Path) -> None:
    with archive_writing.sole_archivist(run_dir, "tide"):
        answer = archive(run_dir)
    assert answer["success"] is False
    assert "another process" in answer["error"]
    assert archive(run_dir)["success"]


def test_zst_without_its_package_is_told_before_anything_runs(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert main(["postprocess", str(run_dir), "processor=archive", "format=tar.zst"]) == 3
    assert "pip install 'rompy-hydra[archive]'" in capsys.readouterr().err
    words = ["run", "model=command", "backend.command=true", "postprocess=archive", "run_id=never"]
    assert main([*words, "postprocess.options.format=tar.zst"]) == 3
    assert not Path("runs/never").exists()


def test_levels_are_held_against_the_form(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", str(run_dir), "processor=archive", "level=19"]) == 2
    assert "levels from 1 to 9" in capsys.readouterr().err
    assert archive(run_dir, format="tar.zst", level=19)["success"]


def test_a_directory_that_cannot_be_read_fails_the_archive(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("out"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    answer = archive(run_dir)
    assert answer["success"] is False
    assert "Permission denied" in answer["error"]


# ---- restore


def test_what_is_there_is_never_written_over(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(run_dir, remove_originals=True)
    (run_dir / "out").mkdir()
    (run_dir / "out" / "text.csv").write_text("mine")
    assert main(["postprocess", str(run_dir), "--restore"]) == 4
    assert "out/text.csv" in capsys.readouterr().err
    assert (run_dir / "out" / "text.csv").read_text() == "mine"
    assert not (run_dir / "out" / "field.nc").exists()  # it was found before anything was written
    (run_dir / "out" / "text.csv").unlink()
    assert main(["postprocess", str(run_dir), "--restore"]) == 0
    assert main(["postprocess", str(run_dir), "--restore"]) == 0
    assert "0 files restored" in capsys.readouterr().out


RESTORED = """
import sys, pathlib
from rompy_hydra.sweeping.unpack import restore_archive
print("begin", flush=True)
restore_archive(pathlib.Path(sys.argv[1]), None)
"""


def test_a_restore_that_was_killed_leaves_whole_files_and_goes_on(run_dir: Path) -> None:
    for number in range(60):
        (run_dir / "out" / f"{number}.bin").write_bytes(random.Random(number).randbytes(50_000))
    before = tree(run_dir)
    made = archive(run_dir, remove_originals=True)["archive"]
    chance = random.Random(11)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", RESTORED, made],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
        there = tree(run_dir, but=(*OURS, *litter(run_dir), "*.restoring/file"))
        assert {name: what for name, what in there.items() if what != before[name]} == {}
    assert main(["postprocess", str(run_dir), "--restore"]) == 0
    assert tree(run_dir, but=OURS) == before


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_alone_is_enough(run_dir: Path, tmp_path: Path, form: str) -> None:
    before = tree(run_dir)
    answer = archive(run_dir, format=form)
    away = tmp_path / "tape"
    away.mkdir()
    moved = Path(shutil.move(answer["archive"], away))
    shutil.rmtree(run_dir)
    assert main(["postprocess", str(moved), "--restore"]) == 0
    assert tree(away / "tide") == before
    assert main(["postprocess", str(moved), "--restore", f"into={tmp_path / 'here'}"]) == 0
    assert tree(tmp_path / "here") == before


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_archive_is_found_out_and_no_half_file_stays(run_dir: Path, tmp_path: Path, form: str) -> None:
    made = Path(archive(run_dir, format=form)["archive"])
    with made.open("r+b") as file:
        file.seek(BIG // 2)
        file.write(bytes(64))
    with pytest.raises(DamagedArchiveError, match="damaged"):
        restore_archive(made, tmp_path / "again")
    assert not (tmp_path / "again" / "out" / "field.nc").exists()
    made.write_bytes(made.read_bytes()[:5000])
    with pytest.raises(DamagedArchiveError):
        restore_archive(made, tmp_path / "again")


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "", "out/away/evil"])
def test_an_archive_from_elsewhere_stays_in_its_folder(run_dir: Path, tmp_path: Path, path: str) -> None:
    answer = archive(run_dir)
    beside = Path(answer["manifest"])
    lines = beside.read_bytes().splitlines(keepends=True)
    evil = {"path": path, "bytes": 1, "sha256": "0" * 64, "mode": "644", "at": 0}
    beside.write_bytes(b"".join([*lines[:-1], dump(evil), lines[-1]]))
    with pytest.raises((DamagedArchiveError, ArchiveError)):
        restore_archive(Path(answer["archive"]), tmp_path / "x" / "again")
    assert not (tmp_path / "x" / "again" / "run.json").exists()
    assert not (tmp_path / "x" / "evil").exists()


def test_a_link_in_the_way_is_not_followed(run_dir: Path, tmp_path: Path) -> None:
    made = Path(archive(run_dir)["archive"])
    (tmp_path / "outside").mkdir()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(ArchiveError):
        restore_archive(made, tmp_path / "again")
    assert list((tmp_path / "outside").iterdir()) == []


def test_there_must_be_an_archive(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["postprocess", str(run_dir), "--restore"]) == 2
    assert "there is no archive" in capsys.readouterr().err
    Path("other.tar").write_text("no")
    assert main(["postprocess", "other.tar", "--restore"]) == 4
    assert "none of our archives" in capsys.readouterr().err

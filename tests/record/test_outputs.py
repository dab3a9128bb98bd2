from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from rompy_hydra.record import outputs
from rompy_hydra.record.outputs import hash_outputs, list_outputs
from rompy_hydra.record.store import dump_record


def paths(found: outputs.Outputs) -> list[str]:
    return [entry["path"] for entry in found.entries]


def test_new_files_are_listed_by_path(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "b.nc").write_bytes(b"12345")
    (tmp_path / "deep/er/a.nc").touch()
    os.utime(tmp_path / "b.nc", ns=(0, 1_500_000_000))
    found = list_outputs(str(tmp_path))
    assert paths(found) == ["b.nc", "deep/er/a.nc"]
    assert found.entries[0] == {"path": "b.nc", "bytes": 5, "mtime": "1970-01-01T00:00:01.500Z"}


def test_links_are_neither_listed_nor_followed(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (tmp_path / "forcing.nc").write_bytes(b"x")
    (run_dir / "forcing.nc").symlink_to(tmp_path / "forcing.nc")
    (run_dir / "inputs").symlink_to(tmp_path)
    (run_dir / "loop").symlink_to(".")
    (run_dir / "dangling").symlink_to("nowhere")
    assert paths(list_outputs(str(run_dir))) == []


def test_special_files_are_not_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert paths(list_outputs(str(tmp_path))) == []


def test_our_own_files_are_not_outputs(tmp_path: Path) -> None:
    for name in ("run.json", ".run.json.123", ".run.json.marker", ".hydra/config.yaml", "logs/stdout.log", "my.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in (".hidden", "sub/run.json", "sub/logs/model.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = list_outputs(str(tmp_path), own=[str(tmp_path / "my.log")])
    assert paths(found) == [".hidden", "sub/logs/model.log", "sub/run.json"]


def test_generated_files_are_listed_only_if_they_changed(tmp_path: Path) -> None:
    generated = {}
    for name in ("same", "touched", "grown", "removed"):
        (tmp_path / name).write_text("x")
        info = (tmp_path / name).stat()
        generated[name] = (info.st_size, info.st_mtime_ns)
    os.utime(tmp_path / "touched", ns=(1, 1))
    (tmp_path / "grown").write_text("xy")
    (tmp_path / "removed").unlink()
    as_json = json.loads(json.dumps(generated))
    assert paths(list_outputs(str(tmp_path), generated=as_json)) == ["grown", "touched"]


def test_names_that_are_not_utf8_survive_the_record(tmp_path: Path) -> None:
    name = os.fsdecode(b"result-\xff.nc")
    (tmp_path / name).touch()
    written = dump_record(list_outputs(str(tmp_path)).to_record())
    assert os.fsencode(json.loads(written)["outputs"][0]["path"]) == b"result-\xff.nc"


def test_hashes_only_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"data")
    (tmp_path / "big").write_bytes(b"data" * 10)
    found = list_outputs(str(tmp_path), sha256_max_bytes=4)
    assert found.bytes_to_hash == 4
    hash_outputs(found, str(tmp_path))
    by_path = {entry["path"]: entry for entry in found.entries}
    assert by_path["small"]["sha256"] == hashlib.sha256(b"data").hexdigest()
    assert "sha256" not in by_path["big"]
    assert found.note == ""


def test_a_budget_ends_the_hashing_and_the_record_says_so(tmp_path: Path) -> None:
    for size in (3, 1, 2):
        (tmp_path / f"file{size}").write_bytes(b"x" * size)
    found = list_outputs(str(tmp_path), sha256_max_bytes=100)
    hash_outputs(found, str(tmp_path), max_bytes=3)
    assert [entry["path"] for entry in found.entries if "sha256" in entry] == ["file1", "file2"]
    assert "1 files have no sha256" in found.to_record()["outputs_note"]


def test_hashing_stops_when_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    found = list_outputs(str(tmp_path), sha256_max_bytes=100)
    hash_outputs(found, str(tmp_path), stop=lambda: True)
    assert "asked to end" in found.note


def test_a_file_that_vanishes_meanwhile_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    found = list_outputs(str(tmp_path), sha256_max_bytes=100)
    (tmp_path / "file").unlink()
    hash_outputs(found, str(tmp_path))
    assert found.entries[0]["sha256_error"] == "No such file or directory"


def test_a_huge_tree_is_cut_and_the_record_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MAX_LISTED", 2)
    for number in range(5):
        (tmp_path / f"file{number}").write_bytes(b"xx")
    found = list_outputs(str(tmp_path))
    assert paths(found) == ["file0", "file1"]
    assert found.note.startswith("3 more files (6 bytes) are not listed")


def test_a_missing_directory_has_no_outputs(tmp_path: Path) -> None:
    assert paths(list_outputs(str(tmp_path / "none"))) == []

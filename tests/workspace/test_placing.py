"""Inputs in a workspace: every mode, again and again, and what is left when it cannot be done."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import SiteError
from rompy_hydra.plan.inputs import InputSpec
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.inputs import InputFile, find_inputs, identify
from rompy_hydra.workspace.layout import RunLayout
from rompy_hydra.workspace.placing import place_inputs

HOSTILE = ["with blank", "new\nline", "quo'te\"", "-rf", "ünï", os.fsdecode(b"\xff"), "$(x);&"]


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "wind.nc").write_text("wind")
    (directory / "tool.sh").write_text("#!/bin/sh\n")
    (directory / "tool.sh").chmod(0o555)
    (directory / "sub" / "a").write_text("a")
    (directory / "sub" / "deep" / "b").write_text("b")
    return directory


@pytest.fixture
def layout(tmp_path):
    return RunLayout(tmp_path / "runs" / "r1")


def planned(data: Path, *sources: str, **fields: Any) -> list[InputFile]:
    specs = {source: InputSpec(source=source, **fields) for source in sources}
    found, findings = find_inputs(specs, base=data)
    assert findings == []
    return identify(found, FileHashes())


def below(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def test_link_is_absolute_and_leads_to_the_file_itself(data, layout):
    (data / "latest").symlink_to("wind.nc")
    made = place_inputs(layout, planned(data, "latest", as_name="in/w.nc"))
    link = layout.run_dir / "in/w.nc"
    assert link.readlink() == data / "wind.nc"
    assert made == {"in/w.nc": (link.lstat().st_size, link.lstat().st_mtime_ns)}


def test_directory_is_one_link(data, layout):
    assert list(place_inputs(layout, planned(data, "sub"))) == ["sub"]
    assert (layout.run_dir / "sub/deep/b").read_text() == "b"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_placed_as_they_are(data, layout, name):
    (data / name).write_text("x")
    place_inputs(layout, planned(data, name))
    assert (layout.run_dir / name).readlink() == data / name


def test_hardlink_is_the_same_file(data, layout):
    place_inputs(layout, planned(data, "wind.nc", "sub", mode="hardlink"))
    assert (layout.run_dir / "wind.nc").samefile(data / "wind.nc")
    assert (layout.run_dir / "sub/deep/b").samefile(data / "sub/deep/b")


def test_copy_is_the_runs_own_with_the_time_and_the_executable_bit(data, layout):
    made = place_inputs(layout, planned(data, "wind.nc", "tool.sh", "sub", mode="copy"))
    copy = layout.run_dir / "tool.sh"
    assert not copy.samefile(data / "tool.sh")
    assert copy.stat().st_mtime_ns == (data / "tool.sh").stat().st_mtime_ns
    assert os.access(copy, os.X_OK)
    assert copy.stat().st_mode & 0o200, "a run may change its own copy, also one of a read-only file"
    assert set(made) == {"wind.nc", "tool.sh", "sub/a", "sub/deep/b"}


def test_copy_leaves_holes_holes(data, layout):
    with (data / "large").open("wb") as file:
        file.write(b"head")
        file.seek(200 << 20)
        file.write(b"tail")
        file.truncate(400 << 20)
    place_inputs(layout, planned(data, "large", mode="copy", identity="fast"))
    copy = layout.run_dir / "large"
    assert copy.stat().st_size == 400 << 20
    assert copy.stat().st_blocks * 512 < 1 << 20
    with copy.open("rb") as file:
        assert file.read(6) == b"head\0\0"
        file.seek(200 << 20)
        assert file.read(6) == b"tail\0\0"


def test_stage_copies_once_and_all_runs_link_to_it(data, tmp_path):
    layouts = [RunLayout(tmp_path / "runs" / name) for name in ("r1", "r2")]
    for each in layouts:
        place_inputs(each, planned(data, "wind.nc", "sub", mode="stage"))
    targets = {(each.run_dir / "wind.nc").readlink() for each in layouts}
    (target,) = targets
    assert target.is_relative_to(tmp_path / "runs/.stage")
    assert target.read_text() == "wind"
    assert target.stat().st_mode & 0o222 == 0, "many runs read it, none may write to it"
    assert (layouts[0].run_dir / "sub/deep/b").read_text() == "b"


def test_stage_keeps_the_old_content_for_those_who_use_it(data, layout):
    place_inputs(layout, planned(data, "wind.nc", mode="stage"))
    (data / "wind.nc").write_text("other")
    second = RunLayout(layout.run_dir.with_name("r2"))
    place_inputs(second, planned(data, "wind.nc", mode="stage"))
    assert [(each.run_dir / "wind.nc").read_text() for each in (layout, second)] == ["wind", "other"]


def test_stage_may_lie_elsewhere(data, layout, tmp_path):
    place_inputs(layout, planned(data, "wind.nc", mode="stage"), stage_dir=tmp_path / "scratch")
    assert (layout.run_dir / "wind.nc").readlink().is_relative_to(tmp_path / "scratch")


@pytest.mark.parametrize("mode", ["link", "hardlink", "copy", "stage"])
def test_placing_again_changes_nothing(data, layout, mode):
    files = planned(data, "wind.nc", "sub", mode=mode)
    first = place_inputs(layout, files)
    inodes = [path.lstat().st_ino for path in sorted(layout.run_dir.rglob("*"))]
    assert place_inputs(layout, files) == first
    assert [path.lstat().st_ino for path in sorted(layout.run_dir.rglob("*"))] == inodes


def test_link_that_leads_elsewhere_is_pointed_anew(data, layout):
    place_inputs(layout, planned(data, "wind.nc", as_name="w"))
    place_inputs(layout, planned(data, "tool.sh", as_name="w"))
    assert (layout.run_dir / "w").readlink() == data / "tool.sh"
    assert below(layout.run_dir) == ["w"]


@pytest.mark.parametrize("mode", ["link", "hardlink", "copy", "stage"])
def test_file_that_is_in_the_way_is_never_replaced(data, layout, mode):
    layout.run_dir.mkdir(parents=True)
    (layout.run_dir / "wind.nc").write_text("mine")
    with pytest.raises(SiteError, match="something else is there"):
        place_inputs(layout, planned(data, "tool.sh", "wind.nc", mode=mode))
    assert (layout.run_dir / "wind.nc").read_text() == "mine"
    assert below(layout.run_dir) == ["wind.nc"], "what the failed call made is gone"


def test_link_in_the_run_directory_is_not_written_through(data, layout, tmp_path):
    (tmp_path / "outside").mkdir()
    layout.run_dir.mkdir(parents=True)
    (layout.run_dir / "in").symlink_to(tmp_path / "outside")
    with pytest.raises(SiteError, match="symbolic link"):
        place_inputs(layout, planned(data, "wind.nc", as_name="in/w"))
    assert below(tmp_path / "outside") == []


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_input_that_changed_after_the_plan_is_refused(data, layout, mode):
    files = planned(data, "wind.nc", mode=mode)
    (data / "wind.nc").write_text("longer than before")
    with pytest.raises(SiteError, match="has changed since the run was planned"):
        place_inputs(layout, files)
    assert not layout.run_dir.exists()


def test_input_that_went_after_the_plan_is_named(data, layout):
    files = planned(data, "wind.nc")
    (data / "wind.nc").unlink()
    with pytest.raises(SiteError, match=r"wind\.nc"):
        place_inputs(layout, files)


@pytest.mark.parametrize(("number", "said"), [(errno.EXDEV, "another file system"), (errno.EPERM, "forbids")])
def test_hardlink_that_cannot_be_made_says_which_mode_can(data, layout, monkeypatch, number, said):
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(SiteError, match=f"{said}.*use mode: link or mode: copy"):
        place_inputs(layout, planned(data, "wind.nc", mode="hardlink"))


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EXDEV])
def test_reflink_that_cannot_be_made_says_which_mode_can(data, layout, monkeypatch, number):
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("rompy_hydra.workspace.placing.fcntl.ioctl", refuse)
    with pytest.raises(SiteError, match="use mode: copy or mode: link"):
        place_inputs(layout, planned(data, "wind.nc", mode="reflink"))
    assert not layout.run_dir.exists()


def test_reflink_has_the_content(data, layout):
    try:
        place_inputs(layout, planned(data, "wind.nc", mode="reflink"))
    except SiteError as error:
        pytest.skip(f"not on this file system: {error}")
    assert (layout.run_dir / "wind.nc").read_text() == "wind"
    assert not (layout.run_dir / "wind.nc").samefile(data / "wind.nc")


def test_full_disk_while_copying_leaves_nothing(data, layout, monkeypatch):
    real_open = os.open
    monkeypatch.setattr("rompy_hydra.workspace.disk.os.open", lambda *_: real_open("/dev/full", os.O_WRONLY))
    with pytest.raises(SiteError, match=r"No space left on device \(4 bytes are needed\)"):
        place_inputs(layout, planned(data, "wind.nc", mode="copy"))
    assert not layout.run_dir.exists()


def test_twenty_gigabytes_are_linked_into_fifty_workspaces_in_no_time(data, tmp_path):
    with (data / "forcing.nc").open("wb") as file:
        file.truncate(20 << 30)
    hashes = FileHashes()
    specs = {
        "forcing": InputSpec(source="forcing.nc"),
        "sample": InputSpec(source="forcing.nc", as_name="b", identity="fast"),
    }
    started = time.monotonic()
    for number in range(50):
        found, _ = find_inputs(specs, base=data)
        place_inputs(RunLayout(tmp_path / "runs" / f"p{number}"), identify(found, hashes))
    assert time.monotonic() - started < 2
    assert hashes.read_bytes == 3 << 20, "the sample is read once for all of them"
    assert sum(path.lstat().st_blocks for path in (tmp_path / "runs").rglob("*")) * 512 < 1 << 20

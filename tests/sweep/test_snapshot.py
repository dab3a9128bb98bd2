"""The snapshot of a sweep: what its configuration needs, and nothing else that lies beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rompy_hydra.errors import ConfigError
from rompy_hydra.sweep import snapshot as snapshot_module
from rompy_hydra.sweep.snapshot import check_links, take_snapshot


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory that somebody calls their configuration."""
    for name in (
        "model/m.yaml",
        "thesis.tex",
        "data/wind.nc",
        ".git/config.yaml",
        "runs/a/run.json",
        "runs/a/out.yaml",
    ):
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x: 1\n")
    return tmp_path / "home"


def names(directory: Path) -> set[str]:
    return {p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()}


def test_only_options_are_copied_from_a_configuration(home: Path, tmp_path: Path) -> None:
    taken = take_snapshot(tmp_path / "sw" / "snapshot", [(home, tmp_path / "templates")])
    assert names(taken.confs[0]) == {"model/m.yaml"}


def test_a_sweep_inside_its_own_configuration_is_not_copied_into_itself(home: Path) -> None:
    (home / "sweeps" / "sw").mkdir(parents=True)
    taken = take_snapshot(home / "sweeps" / "sw" / "snapshot", [(home, home / "none")])
    assert names(taken.confs[0]) == {"model/m.yaml"}


def test_templates_are_copied_whole_with_their_modes(home: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "templates" / "t" / "workspace"
    workspace.mkdir(parents=True)
    (workspace / "run.sh.j2").write_text("echo\n")
    (workspace / "run.sh.j2").chmod(0o755)
    (workspace / "data.bin").write_bytes(bytes(range(256)))
    (workspace / "link").symlink_to("data.bin")
    taken = take_snapshot(tmp_path / "snapshot", [(home, tmp_path / "templates")])
    copied = taken.confs[0].parent / "templates" / "t" / "workspace"
    assert names(copied) == {"run.sh.j2", "data.bin", "link"}
    assert os.access(copied / "run.sh.j2", os.X_OK)
    assert (copied / "link").read_bytes() == bytes(range(256))


def test_a_large_file_is_linked_and_watched(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "LARGEST_COPY_BYTES", 100)
    big = tmp_path / "templates" / "t" / "bathymetry.nc"
    big.parent.mkdir(parents=True)
    big.write_bytes(b"x" * 101)
    taken = take_snapshot(tmp_path / "snapshot", [(home, tmp_path / "templates")])
    assert (taken.confs[0].parent / "templates" / "t" / "bathymetry.nc").is_symlink()
    check_links(taken.linked)
    big.write_bytes(b"y" * 102)
    with pytest.raises(ConfigError, match="has changed since the sweep was submitted"):
        check_links(taken.linked)
    big.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        check_links(taken.linked)


def test_a_directory_of_everything_is_refused(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "MOST_ENTRIES", 3)
    with pytest.raises(ConfigError, match="config groups and nothing else"):
        take_snapshot(tmp_path / "snapshot", [(home, tmp_path / "none")])

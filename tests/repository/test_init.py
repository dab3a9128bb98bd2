"""`init`: a repository that works at once; nothing that is there is changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rompy_hydra.cli import main

COMMANDS = re.compile(r"^\$ (rompy-hydra .*)$", re.MULTILINE)


def content(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, byte for byte, with its time."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_new_repository_has_what_it_needs_and_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new"
    assert main(["init", str(root)]) == 0
    names = set(content(root))
    assert names >= {
        *("conf/config.yaml", "conf/model/heat_rod.yaml", "conf/experiment/copper.yaml", "sweeps/conductivities.yaml"),
        *("templates/heat_rod/template.yaml", ".gitignore", "README.md", ".github/workflows/check.yaml"),
        *(".vscode/settings.json", ".schemas/root.json"),
    }
    monkeypatch.chdir(root)
    capsys.readouterr()
    assert main(["check", "--strict", "--notes"]) == 0
    assert capsys.readouterr().out.endswith("nothing is wrong\n")
    assert main(["schema", "--check"]) == 0


def test_a_second_call_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "new"
    assert main(["init", str(root)]) == 0
    before = content(root)
    capsys.readouterr()
    assert main(["init", str(root)]) == 0
    assert content(root) == before
    assert "nothing was changed" in capsys.readouterr().out


def test_what_is_there_is_kept_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine\n")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").symlink_to("elsewhere.yaml")  # leads nowhere, and is theirs all the same
    assert main(["init", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "kept  README.md" in out
    assert "kept  conf/config.yaml" in out
    assert (tmp_path / "README.md").read_text() == "mine\n"
    assert (tmp_path / "conf" / "config.yaml").is_symlink()
    assert (tmp_path / "conf" / "model" / "heat_rod.yaml").is_file()


def test_the_commands_of_its_readme_work(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    commands = COMMANDS.findall((tmp_path / "README.md").read_text())
    assert len(commands) == 6
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    (sweep,) = (tmp_path / "runs").glob("sweep-*")
    assert len(list(sweep.glob("*/temperature.csv"))) == 6


def test_its_ci_file_runs_check_and_what_is_in_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["init", str(tmp_path)]) == 0
    steps = yaml.safe_load((tmp_path / ".github/workflows/check.yaml").read_text())["jobs"]["check"]["steps"]
    ours = [step["run"] for step in steps if step.get("run", "").startswith("rompy-hydra ")]
    assert ours[0].startswith("rompy-hydra check")
    monkeypatch.chdir(tmp_path)
    for line in ours:
        assert main(line.split()[1:]) == 0


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file")]) == 4
    assert main(["init", str(tmp_path / "file" / "below")]) == 4
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))

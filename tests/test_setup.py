"""The set-up itself: the doors and what they import, markers that skip or fail as they should, the files of CI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rompy_hydra

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"hydra", "omegaconf", "pydantic", "docker"}


def python(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    # a test run inside this one must not take itself for one of its workers
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, env={**outer, **env}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_light_commands_import_nothing_heavy(argument: str) -> None:
    report = python("-X", "importtime", "-m", "rompy_hydra", argument)
    assert report.returncode == 0, report.stderr
    imported = {line.rpartition("|")[2].strip() for line in report.stderr.splitlines()}
    assert "rompy_hydra.cli" in imported
    assert imported & HEAVY == set()


def test_importing_the_package_imports_no_room() -> None:
    code = "import sys, rompy_hydra; print([m for m in sys.modules if m.startswith('rompy_hydra.')])"
    assert python("-c", code).stdout.strip() == "[]"


def test_the_script_and_the_module_are_the_same_door() -> None:
    script = Path(sys.executable).with_name("rompy-hydra")
    if not script.exists():
        pytest.skip("the package is not installed here; `make test` installs it")
    answer = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert answer == python("-m", "rompy_hydra", "--version").stdout
    assert rompy_hydra.__version__ in answer


class TestMarkers:
    """A missing engine skips its tests, and fails them where ROMPY_HYDRA_REQUIRE names it."""

    CASE = "tests/services/test_services.py::TestSlurm::test_an_exit_code_comes_back"

    def trial(self, require: str) -> str:
        arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", self.CASE]
        return python(*arguments, PATH="/nowhere", ROMPY_HYDRA_REQUIRE=require).stdout

    def test_what_is_missing_is_skipped_with_the_mend(self) -> None:
        printed = self.trial("")
        assert "1 skipped" in printed
        assert "apt-get install slurm-wlm munge, then `make services`" in printed

    def test_what_is_required_fails(self) -> None:
        printed = self.trial("docker,slurm")
        assert "1 error" in printed
        assert "ROMPY_HYDRA_REQUIRE asks for slurm: no `sbatch` on PATH" in printed

    def test_an_unknown_requirement_is_an_error(self) -> None:
        result = python("-m", "pytest", "-q", self.CASE, ROMPY_HYDRA_REQUIRE="slurn")
        assert result.returncode == pytest.ExitCode.USAGE_ERROR
        assert "names slurn; it knows docker, slurm" in result.stderr


class TestIsolation:
    def test_the_users_settings_are_out_of_sight(self, tmp_path: Path) -> None:
        ours = {name for name in os.environ if name.startswith("ROMPY_")} - {"ROMPY_HYDRA_REQUIRE"}
        assert not ours
        for kind in ("CONFIG", "CACHE", "DATA", "STATE"):
            assert not Path(os.environ[f"XDG_{kind}_HOME"]).exists()

    def test_git_commits_under_a_name_that_is_not_the_users(self, tmp_path: Path) -> None:
        for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["log", "--format=%ae"]):
            done = subprocess.run(["git", *command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "test@example.org\n"


def test_every_extra_that_make_installs_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"\.installed-(\w+)", makefile) + re.findall(r"^TEST_EXTRAS := ([\w,]+)", makefile, re.MULTILINE)
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()


def test_the_ci_script_is_sound_bash_and_executable() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_pre_commit_runs_what_ci_runs() -> None:
    assert "make check" in (ROOT / ".ci" / "run").read_text()
    assert "entry: make check" in (ROOT / ".pre-commit-config.yaml").read_text()

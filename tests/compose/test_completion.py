"""Shell completion: what a TAB offers, and the scripts in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rompy_hydra.compose.completion import answer, candidates

VERBS = ["run", "status"]


def offered(line: str, **environ: str) -> list[str]:
    return candidates(line, verbs=VERBS, environ=environ)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rompy-hydra ", ["run", "status"]),
        ("rompy-hydra r", ["run"]),
        ("rompy-hydra run model=", ["model=anuga_dambreak", "model=command", "model=veros_acc"]),
        ("rompy-hydra run model=v", ["model=veros_acc"]),
        ("rompy-hydra run resour", ["resources.", "resources="]),
        ("rompy-hydra run model=command backend.t", ["backend.timeout=", "backend.type="]),
        ("rompy-hydra run model=command backend.type=", ["backend.type=local"]),
        ("rompy-hydra run +exp", ["+experiment="]),
        ("rompy-hydra run hydra.job.env", ["hydra.job.env_copy.", "hydra.job.env_set."]),
        ("rompy-hydra run --cf", ["--cfg"]),
        ("rompy-hydra run --cfg ", ["job", "hydra", "all"]),
        ("rompy-hydra run -i def", ["defaults", "defaults-tree"]),
        ("rompy-hydra run -m env=dev,hpc model=command model.na", ["model.name="]),
        ("rompy-hydra run --config-dir ", []),
        ("rompy-hydra status ", []),
        ("rompy-hydra", []),
        ("", []),
    ],
)
def test_a_tab_offers(line: str, words: list[str]) -> None:
    assert offered(line) == words


@pytest.mark.parametrize(
    "line",
    ["a=[1 mod", "nope=1 backend.", "--config-dir /not/there mod", "--nope mod", "'a b", "model=swam backend.", "\\"],
)
def test_a_tab_after_something_wrong_says_nothing(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    offered(f"rompy-hydra run {line}")
    assert capfd.readouterr() == ("", "")


def test_nothing_that_is_refused_or_inner_is_offered() -> None:
    words = [*offered("rompy-hydra run "), *offered("rompy-hydra run hydra/"), *offered("rompy-hydra run hydra.")]
    assert "model=" in words
    assert "hydra/job_logging=" in words
    assert "hydra.run." in words
    assert [
        w for w in words if w.startswith(("packaged", "schema", "template", "hydra/launcher", "hydra.runtime"))
    ] == []


def test_a_repository_on_the_line_is_asked(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [/schema/model, _self_]\nname: mine\n")
    for flag in ("--config-dir", "-cd", "--config-path"):
        assert offered(f"rompy-hydra run {flag} {tmp_path} model=m") == ["model=mine"]
    assert offered(f"rompy-hydra run --config-dir={tmp_path} model=m") == ["model=mine"]


def test_no_credential_is_offered(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("# @package _global_\nenv_vars: {API_KEY: canary, OTHER: b}\n")
    line = f"rompy-hydra run -cd {tmp_path} env=mine env_vars."
    assert offered(line) == ["env_vars.API_KEY=", "env_vars.OTHER="]
    assert offered(f"{line}API_KEY=") == []
    assert offered(f"{line}OTHER=") == ["env_vars.OTHER=b"]


def test_a_query_reads_the_line_up_to_the_cursor() -> None:
    environ = {"COMP_LINE": "rompy-hydra run --cfg job", "COMP_POINT": "22"}
    assert answer(["query=bash"], verbs=VERBS, environ=environ) == "job hydra all\n"
    assert answer(["query=fish"], verbs=VERBS, environ=environ) == "job\nhydra\nall\n"


def run_shell(shell: str, script: str, cwd: Path) -> str:
    """A script in a shell that finds `rompy-hydra`, as it is installed or as a stand-in that starts this Python."""
    bin_dir = cwd / "bin"
    bin_dir.mkdir()
    (bin_dir / "rompy-hydra").write_text(f'#!/bin/sh\nexec {sys.executable} -m rompy_hydra "$@"\n')
    (bin_dir / "rompy-hydra").chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, "-c", script], cwd=cwd, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_completes_in_bash_and_goes_away_again(tmp_path: Path) -> None:
    script = """
        eval "$(rompy-hydra -sc install=bash)"
        COMP_LINE="rompy-hydra run model=command backend.comm"
        COMP_POINT=${#COMP_LINE} COMP_WORDS=($COMP_LINE) COMP_CWORD=3
        rompy_hydra_bash_completion
        echo "${COMPREPLY[*]}"
        eval "$(rompy-hydra run -sc uninstall=bash)"
        complete -p rompy-hydra 2>/dev/null || echo gone
    """
    assert run_shell("bash", script, tmp_path) == "backend.command=\ngone\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_the_script_completes_in_fish(tmp_path: Path) -> None:
    script = 'rompy-hydra -sc install=fish | source; complete -C "rompy-hydra run model=comm"'
    assert run_shell("fish", script, tmp_path) == "model=command\n"

"""Shell completion: what a TAB offers, and the scripts in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rompy_hydra.cli import _VERBS
from rompy_hydra.compose.completion import SUBVERBS, answer, candidates, may_be_shown
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.verbs.backends import _BACKENDS

VERBS = {verb: _VERBS[verb] for verb in ("run", "status")}


def offered(line: str, **environ: str) -> list[str]:
    return candidates(line, verbs=VERBS, environ={"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], **environ})


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


WORDS = (
    *(
        "",
        "mod",
        "model=",
        "model=v",
        "resources",
        "resources.",
        "resources.c",
        "backend.",
        "backend.ty",
        "backend.type=",
    ),
    *(
        "env=",
        "env=h",
        "hydra",
        "hydra.",
        "hydra.run.",
        "hydra.run.dir",
        "hydra/",
        "hydra/job_logging=",
        "+exp",
        "~exp",
    ),
    *(
        "model.parameters.",
        "model.success.",
        "model.success.files",
        "nothing",
        "nothing.",
        "sweep.samples.",
        "+",
        "x/y",
    ),
)


@pytest.mark.parametrize("before", ["", "model=command ", "env=hpc backend=local ", "-m model=command,veros_acc "])
def test_the_index_offers_what_hydras_own_completion_offers(before: str) -> None:
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from rompy_hydra.compose.composer import open_loader
    from rompy_hydra.compose.invocation import command_request

    request = command_request((), find_sources(environ={}), environ={})
    plugin = DefaultCompletionPlugin(open_loader(request)[0])
    for word in WORDS if not before else WORDS[::4]:  # Hydra takes its time
        theirs = [text for text in plugin._query("config", f"{before}{word}") if may_be_shown(text)]
        assert offered(f"rompy-hydra run {before}{word}") == theirs, word


def test_a_tab_with_an_index_imports_no_hydra_and_one_after_an_edit_sees_it(tmp_path: Path) -> None:
    (tmp_path / "conf" / "env").mkdir(parents=True)
    option = tmp_path / "conf" / "env" / "mine.yaml"
    option.write_text("# @package _global_\nvars: {first: 1}\n")
    code = (
        "import os, sys; from rompy_hydra.cli import _VERBS; from rompy_hydra.compose.completion import candidates;"
        "from rompy_hydra.compose import cache; cache.our_own_code = lambda: []; cache.installed_in = lambda _: [];"
        "found = candidates(sys.argv[1], verbs=_VERBS, environ=os.environ);"
        "print(*found, bool({'hydra', 'omegaconf', 'pydantic', 'yaml'} & set(sys.modules)))"
    )

    def tab(line: str) -> str:
        words = [sys.executable, "-c", code, f"rompy-hydra run {line}"]
        return subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    assert tab("env=mine vars.") == "vars.first= True"
    assert tab("env=mine vars.") == "vars.first= False"
    assert tab("env=m") == "env=mine False"
    assert tab("env=mine resources.cpus=4 vars.") == "vars.first= False"  # a value makes no other keys
    option.write_text("# @package _global_\nvars: {first: 1, second: 2}\n")
    assert tab("env=mine vars.") == "vars.first= vars.second= True"
    assert tab("env=mine vars.") == "vars.first= vars.second= False"


def test_nothing_is_kept_where_there_is_no_place_for_it(tmp_path: Path) -> None:
    assert offered("rompy-hydra run resources.gp", XDG_CACHE_HOME=str(tmp_path), ROMPY_HYDRA_CACHE="off") == [
        "resources.gpus="
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("rompy-hydra che", ["check"]),
        ("rompy-hydra check --fo", ["--format"]),
        ("rompy-hydra schema --", ["--check", "--help", "--write"]),
        ("rompy-hydra backends ", list(SUBVERBS["backends"])),
        ("rompy-hydra backends li", ["list"]),
        ("rompy-hydra backends list --f", ["--format"]),
        ("rompy-hydra postprocessors ", ["list"]),
        ("rompy-hydra init ", []),
        ("rompy-hydra nothing --", []),
        ("rompy-hydra run --dr", ["--dry-run"]),
    ],
)
def test_a_tab_offers_every_verb_its_flags(line: str, some: list[str]) -> None:
    assert candidates(line, verbs=_VERBS, environ={}) == some


def test_every_verb_tells_its_flags_and_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in _VERBS:
        more = f"{SUBVERBS[verb][0]} " if verb in SUBVERBS else ""
        found = candidates(f"rompy-hydra {verb} {more}--", verbs=_VERBS, environ={})
        assert found, verb
        assert "--help" in found or verb == "run"
    assert list(tmp_path.iterdir()) == []
    assert set(SUBVERBS["backends"]) == set(_BACKENDS)


def test_files_are_offered_where_a_value_begins_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.nc").write_text("")
    monkeypatch.chdir(tmp_path)
    assert offered("rompy-hydra run vars.a=./da") == ["vars.a=./data"]
    assert offered("rompy-hydra run vars.a=./data/") == ["vars.a=./data/one.nc"]
    assert offered(f"rompy-hydra run vars.a={tmp_path}/d") == [f"vars.a={tmp_path}/data"]
    assert offered("rompy-hydra run vars.a=./no/where") == []


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


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_the_script_loads_in_zsh_and_completes(tmp_path: Path) -> None:
    script = """
        autoload -Uz compinit bashcompinit && compinit -u && bashcompinit
        eval "$(rompy-hydra -sc install=zsh)"
        export COMP_LINE="rompy-hydra run model=comm"
        export COMP_POINT=${#COMP_LINE}
        rompy-hydra -sc query=zsh
        complete -p | grep -c rompy-hydra
    """
    assert run_shell("zsh", script, tmp_path) == "model=command\n1\n"


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_the_script_completes_in_fish(tmp_path: Path) -> None:
    script = 'rompy-hydra -sc install=fish | source; complete -C "rompy-hydra run model=comm"'
    assert run_shell("fish", script, tmp_path) == "model=command\n"

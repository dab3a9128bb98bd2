"""Twenty mistakes in a repository of a user's: each message names file:line, key, rule and mend."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rompy_hydra.cli import main
from tests.compose.git_kit import write

CLEAN = {
    "backend__mine": "defaults: [/packaged/backend/local, _self_]\ntimeout: 120\n",
    "model__mine": "defaults: [/schema/model, _self_]\nname: mine\ncommand: [echo, hello]\n",
    "env__mine": "# @package _global_\ndefaults:\n  - override /backend: mine\n  - override /model: mine\n  - _self_\n",
}


@dataclass(frozen=True)
class Mistake:
    """What is written into a file, or typed, and what the message must hold: place, key, rule, mend."""

    name: str
    key: str
    rule: str
    mend: str
    file: str = "env__mine"
    line: int | None = None
    add: str = ""
    replace: tuple[str, str] = ("", "")
    typed: tuple[str, ...] = field(default=())


MISTAKES = [
    Mistake("a value below its bound", "backend.timeout", "60", "", "backend__mine", 2, replace=("120", "5")),
    Mistake(
        "a misspelt key in a file", "backend.timeuot", "no such field", "timeout", "backend__mine", 3, "timeuot: 60\n"
    ),
    Mistake("a misspelt root key", "resource", "no such field", "resources", line=6, add="resource: {cpus: 2}\n"),
    Mistake(
        "a key of another part",
        "backend.memory",
        "no such field",
        "resources.memory",
        "backend__mine",
        3,
        "memory: 4g\n",
    ),
    Mistake("a memory that is none", "resources.memory", "plenty", "", line=7, add="resources:\n  memory: plenty\n"),
    Mistake(
        "a duration that is none", "resources.time_limit", "soon", "", line=7, add="resources:\n  time_limit: soon\n"
    ),
    Mistake("a word for a number", "resources.ranks", "two", "", line=7, add="resources:\n  ranks: two\n"),
    Mistake("an unknown choice", "on_existing", "overwrite", "replace", line=6, add="on_existing: overwrite\n"),
    Mistake("a number where text is meant", "env_vars.N", "4", "'4'", line=7, add="env_vars:\n  N: 4\n"),
    Mistake(
        "an interpolation into nothing",
        "vars.x",
        "cannot be resolved",
        "resources.cpus",
        line=7,
        add="vars:\n  x: ${resource.cpus}\n",
    ),
    Mistake(
        "a variable that is not set",
        "vars.x",
        "NOT_SET",
        "oc.env:NOT_SET,DEFAULT",
        line=7,
        add="vars:\n  x: ${oc.env:NOT_SET}\n",
    ),
    Mistake(
        "a resolver that nobody has", "vars.x", "no resolver", "host.cpus", line=7, add="vars:\n  x: ${hots.cpus:}\n"
    ),
    Mistake(
        "a circle",
        "vars.x",
        "cannot be resolved",
        "explain vars.x",
        line=7,
        add="vars:\n  x: ${vars.y}\n  y: ${vars.x}\n",
    ),
    Mistake(
        "a mandatory value that is missing", "vars.x", "must be given", "vars.x=VALUE", line=7, add="vars:\n  x: ???\n"
    ),
    Mistake(
        "an option that is not there",
        "model",
        "no option 'mien'",
        "did you mean 'mine'",
        line=4,
        replace=("model: mine", "model: mien"),
    ),
    Mistake("a tab in YAML", "", "not valid YAML", "not tabs", line=7, add="vars:\n\tx: 1\n"),
    Mistake("an unclosed bracket", "", "not valid YAML", "']'", line=7, add="vars: {x: [1\n"),
    Mistake(
        "a template that is not there",
        "model.template",
        "no template 'veros'",
        "veros_acc",
        "model__mine",
        4,
        "template: veros\n",
    ),
    Mistake(
        "a misspelt group on the command line",
        "bakend",
        "no group or key",
        "did you mean 'backend'",
        typed=("bakend=local",),
    ),
    Mistake(
        "a misspelt key on the command line",
        "backend.tmeout",
        "no key",
        "backend.timeout",
        typed=("backend.tmeout=60",),
    ),
    Mistake("an unquoted comma", "vars.x", "several values", "-m", typed=("vars.x=a,b",)),
    Mistake(
        "a directory that is not there",
        "--config-dir",
        "no directory",
        "did you mean 'conf'",
        typed=("--config-dir", "cnof"),
    ),
    Mistake("a revision that is not there", "--rev", "", "", typed=("--rev", "v9")),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_message_names_place_key_rule_and_mend(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    conf = write(tmp_path / "conf", **CLEAN)
    path = conf / f"{mistake.file.replace('__', '/')}.yaml"
    path.write_text(
        path.read_text().replace(*mistake.replace) + mistake.add
        if mistake.replace[0]
        else path.read_text() + mistake.add
    )
    assert main(["run", "--dry-run", "env=mine", *mistake.typed]) == 2
    message = capsys.readouterr().err
    place = mistake.typed[-1] if mistake.typed else f"{path}:{mistake.line}" if mistake.line else str(path)
    for part in (place, mistake.key, mistake.rule, mistake.mend):
        assert part in message, message
    assert "Traceback" not in message
    assert "internal error" not in message


def test_without_a_mistake_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "conf", **CLEAN)
    assert main(["run", "--dry-run", "env=mine"]) == 0
    assert capsys.readouterr().err == ""

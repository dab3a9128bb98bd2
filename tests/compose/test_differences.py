"""`diff`: what differs between revisions, runs, points, overrides; who set it; whether it is another simulation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.cli import main
from rompy_hydra.compose.differences import Change, Comparison, Side, compare
from rompy_hydra.compose.sources import find_sources, packaged_dir
from rompy_hydra.errors import ConfigError
from tests.compose.git_kit import commit, git, ocean, write


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = ocean(tmp_path / "ocean")
    monkeypatch.chdir(made)
    return made


def side(*overrides: str, revision: str | None = None, cwd: Path | None = None) -> Side:
    sources = find_sources(environ=os.environ, cwd=cwd or Path("/"), revision=revision)
    return Side(text=revision or " ".join(overrides), sources=sources, overrides=overrides)


def compared(a: Side, b: Side, environ: dict[str, str] | None = None) -> Comparison:
    return compare(a, b, environ=environ or {}, cwd=Path.cwd(), config_name="config")


def by_key(found: Comparison) -> dict[str, Change]:
    return {change.key: change for change in found.changes}


def sides_of(change: Change) -> list[tuple[Any, str]]:
    """(value, who set it) of both sides."""
    assert change.a is not None
    assert change.b is not None
    return [(change.a.value, change.a.by or ""), (change.b.value, change.b.by or "")]


def told(*words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(["diff", *words]) == code
    return capsys.readouterr().out


# -- overrides -----------------------------------------------------------------------------------------------------


def test_the_same_on_both_sides_differs_in_nothing() -> None:
    assert compared(side("env=hpc"), side("env=hpc")).is_empty


def test_science_is_told_apart_from_execution_and_the_rest() -> None:
    one = side("model.parameters.wind_stress=0.2", "resources.ranks=2", "resources.time_limit=2h")
    found = compared(side(), one)
    assert {c.key: c.identity for c in found.changes} == {
        "model.parameters.wind_stress": "science",
        "resources.ranks": "execution",
        "resources.time_limit": "none",
    }
    assert found.is_another_simulation
    assert not compared(side(), side("resources.time_limit=2h")).is_another_simulation


def test_each_side_says_who_set_it() -> None:
    change = by_key(compared(side("env=dev"), side("env=staging", "backend=local")))["resources.time_limit"]
    conf = packaged_dir("conf")
    assert sides_of(change) == [("1h", f"{conf}/env/dev.yaml:7"), ("3h", f"{conf}/env/staging.yaml:10")]


def test_what_only_follows_another_value_is_told_so() -> None:
    found = by_key(compared(side("backend=docker"), side("backend=docker", "resources.memory=2g")))
    assert (found["backend.memory"].follows, found["resources.memory"].follows) == (True, False)


def test_types_differ_too(tmp_path: Path) -> None:
    found = compared(side("vars.a=1"), side("vars.a='1'"))
    assert [[value for value, _ in sides_of(c)] for c in found.changes] == [[1, "1"]]


def test_the_defaults_of_another_backend_are_no_news() -> None:
    found = compared(side("backend=local"), side("backend=docker"))
    assert ("backend", "local", "docker") in found.choices
    change = by_key(found)["backend.remove_container"]
    assert (change.is_default, change.a) == (True, None)
    assert "backend.remove_container" not in {c.key for i in ("science", "execution", "none") for c in found.of(i)}


def test_a_credential_that_differs_is_told_and_not_shown() -> None:
    found = compared(
        side("vars.password=canary1", "vars.x=${vars.password}"), side("vars.password=canary2", "vars.x=1")
    )
    assert set(by_key(found)) == {"vars.password", "vars.x"}
    assert "canary" not in json.dumps(found.to_dict()) + repr(found)


def test_a_side_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigError, match=r"of backend\.timeuot=1: the configuration is wrong") as error:
        compared(side(), side("backend.timeuot=1"))
    assert error.value.findings[0].mend == "did you mean 'backend.timeout'?"


# -- revisions -----------------------------------------------------------------------------------------------------


def test_two_revisions_differ_in_values_and_templates(repository: Path) -> None:
    found = compared(
        side("model=mine", revision="v1.2", cwd=repository), side("model=mine", cwd=repository, revision="v1.3")
    )
    change = by_key(found)["backend.timeout"]
    assert [value for value, _ in sides_of(change)] == [120, 240]
    assert all(by.endswith("/conf/backend/local.yaml:2") for _, by in sides_of(change))
    (file,) = found.files
    assert (file.name, file.what, file.added, file.removed) == ("mine/workspace/input.txt.j2", "changed", 1, 0)
    assert found.is_another_simulation


def test_what_changes_if_i_take_the_new_version_is_one_line(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--rev", "v1.2", "env=ops", "run_id=ops", "resources.ranks=1"]) == 0
    capsys.readouterr()
    text = told("runs/ops", "v1.3", capsys=capsys)
    assert "vars.greeting  hello → ho" in text
    assert "      B  v1.3:conf/env/ops.yaml:8" in text
    assert f"      A  {git(repository, 'rev-parse', 'v1.2')[:12]}:conf/env/ops.yaml:8" in text
    assert text.splitlines()[-1] == "3 values differ: 2 science, 0 execution, 1 neither: another simulation"
    assert told("runs/ops", "v1.2", capsys=capsys).splitlines()[-1] == "no difference"


@pytest.mark.parametrize(
    ("words", "sides"),
    [
        (["v1.2..v1.3"], ("v1.2", "v1.3")),
        (["v1.2.."], ("v1.2", "as it is now")),
        (["v1.2", "v1.3"], ("v1.2", "v1.3")),
        (["v1.2", "."], ("v1.2", "as it is now")),
        (["v1.2 env=ops", "v1.3"], ("v1.2", "v1.3")),
        (["v1.2..v1.3", "env=ops"], ("v1.2", "v1.3")),
    ],
)
def test_sides_are_named_in_several_ways(
    words: list[str], sides: tuple[str, str], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(*words, capsys=capsys).splitlines()
    assert lines[0].startswith(f"A  {sides[0]}")
    assert lines[1].startswith(f"B  {sides[1]}")


def test_uncommitted_edits_are_the_work_tree_s(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told("HEAD", ".", capsys=capsys).splitlines()[-1] == "no difference"
    write(repository / "conf", backend__local="defaults: [/packaged/backend/local, _self_]\ntimeout: 99\n")
    assert "backend.timeout  240 → 99" in told("HEAD", ".", capsys=capsys)


def test_a_new_version_that_does_not_compose_says_what_is_wrong(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository / "conf", env__ops="# @package _global_\ndefaults: [{override /model: gone}]\n")
    commit(repository, "v1.4")
    assert main(["diff", "v1.3..v1.4", "env=ops"]) == 2
    error = capsys.readouterr().err
    assert "of 'v1.4'" in error
    assert "there is no option 'gone'" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "two sides"),
        (["v1.2"], "two sides"),
        (["v1.2", "v1.3", "v1.3"], "third side"),
        (["v1.2", "runs/none"], "neither the directory of a run, nor a revision, nor KEY=VALUE"),
        (["v1.2 v1.3", "."], "one revision"),
        (["'a=1", "b=2"], "cannot be read"),
        (["v1.2", ".", "--rev", "v1.3"], "A..B"),
    ],
)
def test_what_is_no_side_is_told(
    words: list[str], message: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *words]) == 2
    assert message in capsys.readouterr().err


# -- runs ----------------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_from_their_records(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, *more in (("a",), ("b", "vars.greeting=hi"), ("c", "resources.time_limit=10m")):
        assert main(["run", "env=ops", f"run_id={name}", *more]) == 0
    capsys.readouterr()
    text = told("runs/a", "runs/b", capsys=capsys)
    assert "vars.greeting  ho → hi\n      A  " in text
    assert "      B  the override 'vars.greeting=hi'" in text
    assert "backend.command" in text
    text = told("runs/a", "runs/c", capsys=capsys)
    assert text.splitlines()[-1] == "1 value differs: 0 science, 0 execution, 1 neither: the same simulation"


def test_a_run_without_its_snapshot_still_has_its_values(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        assert main(["run", "env=ops", f"run_id={name}", f"vars.n={name}"]) == 0
        for file in (repository / "runs" / name / ".source").iterdir():
            file.unlink()
    capsys.readouterr()
    text = told("runs/a", "runs/b", capsys=capsys)
    assert "vars.n  a → b\n      A, B  the record" in text


def test_points_of_a_sweep_are_compared(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "env=ops", "vars.n=1,2", "hydra.sweep.dir=sweep"]) == 0
    capsys.readouterr()
    names = sorted(path.parent.name for path in (repository / "sweep").glob("*/run.json"))
    text = told(f"sweep/{names[0]}", f"sweep/{names[1]}", capsys=capsys)
    assert "vars.n  1 → 2" in text
    assert text.splitlines()[-1].startswith("1 value differs: 1 science")
    assert main(["diff", "sweep", "."]) == 2
    assert "is a sweep" in capsys.readouterr().err


def test_the_exit_code_tells_only_if_asked(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told("v1.2..v1.3", capsys=capsys)
    told("v1.2..v1.3", "--exit-code", capsys=capsys, code=1)
    told("v1.3..HEAD", "--exit-code", capsys=capsys)


def test_it_is_there_for_programs(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told("v1.2..v1.3", "env=ops", "--json", capsys=capsys))
    assert found["is_another_simulation"] is True
    (value,) = [v for v in found["values"] if v["key"] == "vars.greeting"]
    assert (value["a"]["value"], value["b"]["value"], value["identity"]) == ("hello", "ho", "science")


def test_a_patch_of_the_templates_is_shown_on_request(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told("v1.2..v1.3", "model=mine", "--patch", capsys=capsys)
    assert "    +more" in text.splitlines()

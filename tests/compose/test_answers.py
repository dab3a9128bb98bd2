"""`sources`: who is asked, in which order, which file answers and what it hides."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rompy_hydra.cli import main
from rompy_hydra.compose.answers import Answers
from rompy_hydra.compose.invocation import command_request
from rompy_hydra.compose.sources import find_sources, packaged_dir
from rompy_hydra.errors import ConfigError
from tests.compose.git_kit import git, ocean, write

PACKAGED = str(packaged_dir("conf"))


@pytest.fixture
def repositories(tmp_path: Path) -> tuple[Path, Path]:
    """Mine and a colleague's: both shadow the packaged local backend, and mine shadows the colleague's option."""
    mine = write(
        tmp_path / "mine" / "conf", backend__local="defaults: [/packaged/backend/local, _self_]\ntimeout: 60\n"
    )
    write(mine, env__shared="# @package _global_\nvars: {from: mine}\n")
    theirs = write(
        tmp_path / "theirs" / "conf", backend__local="defaults: [/packaged/backend/local, _self_]\ntimeout: 90\n"
    )
    write(theirs, env__shared="# @package _global_\nvars: {from: theirs}\n", ocean__deep="depth: 4\n")
    return mine, theirs


def answers(*names: Path | str, overrides: tuple[str, ...] = (), cwd: Path = Path("/")) -> Answers:
    sources = find_sources([str(n) for n in names], environ=os.environ, cwd=cwd)
    return Answers(command_request(overrides, sources, environ={}), cwd=cwd)


def test_repositories_are_asked_in_the_order_given_the_packaged_one_last(repositories: tuple[Path, Path]) -> None:
    found = answers(*repositories).places()
    assert [place.path for place in found] == [str(repositories[0]), str(repositories[1]), PACKAGED]
    assert [place.origin for place in found] == ["--config-dir", "--config-dir", "packaged"]


def test_the_first_that_has_an_option_answers_and_hides_the_others(repositories: tuple[Path, Path]) -> None:
    (found,) = answers(*repositories).of("backend/local")
    assert found.file == f"{repositories[0]}/backend/local.yaml"
    assert found.hides == (f"{repositories[1]}/backend/local.yaml", f"{PACKAGED}/backend/local.yaml")
    (found,) = answers(*reversed(repositories)).of("backend/local")
    assert found.file == f"{repositories[1]}/backend/local.yaml"


def test_a_group_has_the_options_of_all(repositories: tuple[Path, Path]) -> None:
    found = {a.name: a.number for a in answers(*repositories).of("env")}
    assert found == {"shared": 1} | dict.fromkeys(("dev", "development", "hpc", "production", "staging"), 3)
    assert [(a.title, a.number) for a in answers(*repositories).of("ocean")] == [("ocean/deep", 2)]


def test_the_option_that_answers_is_the_one_that_is_composed(repositories: tuple[Path, Path]) -> None:
    asked = answers(*repositories, overrides=("env=shared", "model=command"))
    (key,) = asked.of("vars.from")
    (option,) = asked.of("env/shared")
    assert key.file == f"{option.file}:2"
    assert key.hides == (f"{repositories[1]}/env/shared.yaml:2",)


def test_everything_is_listed_and_nothing_of_hydra_s(repositories: tuple[Path, Path]) -> None:
    titles = {a.title for a in answers(*repositories).all()}
    assert {"config", "backend/local", "ocean/deep", "template/veros_acc"} <= titles
    assert not {t for t in titles if t.startswith(("hydra", "packaged", "schema"))}


def test_templates_are_shadowed_too(tmp_path: Path) -> None:
    repository = ocean(tmp_path / "ocean")
    (repository / "templates" / "mine").rename(repository / "templates" / "veros_acc")
    (found,) = answers(repository).of("template/veros_acc")
    assert found.file == str(repository / "templates" / "veros_acc")
    assert found.hides == (str(packaged_dir("templates") / "veros_acc"),)


def test_a_searchpath_of_hydra_s_is_asked_last(tmp_path: Path) -> None:
    more = write(tmp_path / "more", env__extra="{}\n", env__dev="{}\n")
    asked = answers(overrides=(f"hydra.searchpath=[file://{more},file:///not/there]",))
    assert [(p.origin, p.about) for p in asked.places()][1:] == [
        ("hydra.searchpath", ""),
        ("hydra.searchpath", "not there"),
    ]
    assert asked.of("env/extra")[0].file == f"{more}/env/extra.yaml"
    assert asked.of("env/dev")[0].hides == (f"{more}/env/dev.yaml",)


def test_a_place_tells_its_revision(tmp_path: Path) -> None:
    repository = ocean(tmp_path / "ocean")
    head = git(repository, "rev-parse", "HEAD")[:12]
    assert answers(cwd=repository).places()[0].about == head
    assert answers(f"git+file://{repository}@v1.3").places()[0].about == f"v1.3 ({head}) of file://{repository}"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("backend/locall", "did you mean 'backend/local'"),
        ("template/veros", "did you mean 'template/veros_acc'"),
        ("backend.timeuot", "did you mean 'backend.timeout'"),
        ("bakend", "did you mean 'backend'"),
    ],
)
def test_what_nobody_has_is_told_with_its_neighbour(name: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=mend):
        answers().of(name)


@pytest.mark.parametrize(
    ("make", "named", "message"),
    [
        ("repo/conf/env", "rpeo", "did you mean 'repo'"),
        ("repo", "repo", "has no conf/"),
        ("repo/ocean/conf/env", "repo", "did you mean '.*/repo/ocean'"),
        ("repo/templates/t", "repo", "has no conf/"),
        ("repo/.git", "repo", "has no conf/"),
    ],
)
def test_a_mistyped_path_or_a_repository_without_conf_is_an_error(
    make: str, named: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / make).mkdir(parents=True)
    (tmp_path / make / ("README.md" if make == "repo" else "template.yaml")).write_text("{}\n")
    for environ in ({}, {"ROMPY_HYDRA_CONFIG_PATH": str(tmp_path / named)}):
        with pytest.raises(ConfigError, match=message):
            find_sources([] if environ else [str(tmp_path / named)], environ=environ, cwd=Path("/"))


def test_a_bare_conf_needs_no_conf_in_it(tmp_path: Path) -> None:
    write(tmp_path / "options", ocean__deep="{}\n")
    assert find_sources([str(tmp_path / "options")], environ={}, cwd=Path("/")).users[0].conf == tmp_path / "options"


# -- the verb ------------------------------------------------------------------------------------------------------


def test_the_overview_fits_on_a_screen(
    repositories: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repositories[0].parent)
    assert main(["sources", "--config-dir", str(repositories[1])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "asked in this order:"
    assert "env: dev, development, hpc, production, shared (1), staging" in lines
    assert f"  conf/backend/local.yaml  by {repositories[1]}/backend/local.yaml" in lines
    assert len(lines) < 40


def test_the_personal_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "rompy-hydra" / "personal.yaml"
    assert main(["sources"]) == 0
    assert f"values of your own: {path}  (not there)" in capsys.readouterr().out
    path.parent.mkdir(parents=True)
    path.write_text("# mine\naccount: abc123\nmail: me@example.org\n")
    assert main(["sources"]) == 0
    assert f"{path}  (sets site.account, site.mail_user)" in capsys.readouterr().out
    assert main(["explain", "site.account", "site.mail_user"]) == 0
    out = capsys.readouterr().out
    assert f"> abc123  {path}:2" in out
    assert f"{path}:3" in out
    assert main(["explain", "site.account", "site.account=other"]) == 0
    assert "> other   the override 'site.account=other'" in capsys.readouterr().out


def test_a_site_that_nobody_typed_says_how_it_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = write(tmp_path / "conf", site__here="defaults: [/schema/site, _self_]\nname: here2\nhosts: ['*']\n")
    assert main(["explain", "site", "--config-dir", str(conf)]) == 0
    assert "site=here  chosen by the name of this machine" in capsys.readouterr().out
    monkeypatch.setenv("ROMPY_HYDRA_SITE", "laptop")
    assert main(["explain", "site", "--config-dir", str(conf)]) == 0
    assert "site=laptop  chosen by the environment variable ROMPY_HYDRA_SITE=laptop" in capsys.readouterr().out


def test_it_is_there_for_programs(repositories: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "env/shared", "--json", "--config-dir", str(repositories[0])]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [p["origin"] for p in told["repositories"]] == ["--config-dir", "packaged"]
    assert told["answers"][0]["file"] == f"{repositories[0]}/env/shared.yaml"

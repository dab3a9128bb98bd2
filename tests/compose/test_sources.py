"""Where configuration comes from: a user's repository comes first and can extend what it shadows."""

from __future__ import annotations

from pathlib import Path

import pytest

from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import find_sources, packaged_dir


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    conf = tmp_path / "repo" / "conf"
    (conf / "backend").mkdir(parents=True)
    (conf / "backend" / "local.yaml").write_text("defaults:\n  - /packaged/backend/local\n  - _self_\ntimeout: 120\n")
    return conf


def backend_of(conf: Path | str, *overrides: str):  # whatever the class is
    return to_plan(
        compose_command(["model=command", *overrides], find_sources([str(conf)], environ={}), environ={}),
        cwd=Path("/x"),
    ).spec.backend


def test_a_users_option_shadows_the_packaged_one_and_extends_it(repository: Path) -> None:
    backend = backend_of(repository)
    assert (backend.type, backend.timeout, backend.shell) == ("local", 120, True)


def test_a_repository_may_be_named_by_its_root(repository: Path) -> None:
    assert backend_of(repository.parent).timeout == 120


def test_the_first_of_two_repositories_wins(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "conf" / "backend"
    other.mkdir(parents=True)
    (other / "local.yaml").write_text("defaults: [/packaged/backend/local, _self_]\ntimeout: 240\n")
    (other / "more.yaml").write_text("defaults: [/packaged/backend/local, _self_]\ntimeout: 300\n")
    composition = compose_command(
        ["model=command"], find_sources([str(repository), str(other.parent)], environ={}), environ={}
    )
    assert to_plan(composition, cwd=Path("/x")).spec.backend.timeout == 120
    composition = compose_command(
        ["model=command", "backend=more"], find_sources([str(repository), str(other.parent)], environ={}), environ={}
    )
    assert to_plan(composition, cwd=Path("/x")).spec.backend.timeout == 300


def test_the_variable_names_repositories_too(repository: Path) -> None:
    found = find_sources(environ={"ROMPY_HYDRA_CONFIG_PATH": str(repository)}, cwd=Path("/"))
    assert [r.conf for r in found.repositories] == [repository, packaged_dir("conf")]


def test_conf_in_the_current_directory_is_used_if_it_answers_to_our_groups(repository: Path) -> None:
    found = find_sources(environ={}, cwd=repository.parent)
    assert [r.origin for r in found.repositories] == ["current directory", "packaged"]


def test_somebody_elses_conf_in_the_current_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "nginx.conf").write_text("")
    assert len(find_sources(environ={}, cwd=tmp_path).repositories) == 1


def test_a_users_template_comes_first(repository: Path) -> None:
    template = repository.parent / "templates" / "mine"
    (template / "workspace").mkdir(parents=True)
    (template / "template.yaml").write_text(
        "parameters:\n  depth: {type: float, default: 10, gt: 0, units: m}\nmodel:\n  command: [cat, input.txt]\n"
    )
    (repository / "model").mkdir()
    (repository / "model" / "mine.yaml").write_text("defaults: [/template/mine, _self_]\nparameters: {depth: 20}\n")
    composition = compose_command(["model=mine"], find_sources([str(repository)], environ={}), environ={})
    plan = to_plan(composition, cwd=Path("/x"))
    assert (plan.parameters, plan.template_directory) == ({"depth": 20.0}, template)
    assert plan.spec.model.command == ["cat", "input.txt"]

"""The shipped configuration: every combination composes and validates, and later wins."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from rompy_hydra.backends.config import DockerConfig
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import find_sources, packaged_dir
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.run_plan import RunPlan

CONF = packaged_dir("conf")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def plan(*overrides: str, environ: dict[str, str] | None = None, config_dirs: tuple[str, ...] = ()) -> RunPlan:
    composition = compose_command(overrides, find_sources(config_dirs, environ=environ or {}), environ=environ or {})
    return to_plan(composition, cwd=Path("/work-dir"))


COMBINATIONS = list(itertools.product(*(options(g) for g in ("env", "site", "backend", "model"))))


@pytest.mark.parametrize("model", options("model"))
@pytest.mark.parametrize("backend", options("backend"))
def test_every_env_and_site_composes_with(backend: str, model: str) -> None:
    for env, site in itertools.product(options("env"), options("site")):
        found = plan(f"env={env}", f"site={site}", f"backend={backend}", f"model={model}")
        assert found.spec.backend.type == backend
        assert found.spec.site.name == site
        assert found.choices["env"] == env


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    assert plan(f"experiment={experiment}").choices["experiment"] == experiment


@pytest.mark.parametrize("name", options("resources"))
def test_every_resources_preset_composes(name: str) -> None:
    assert plan(f"resources={name}").choices["resources"] == name


def test_production_chooses_docker_as_the_seed_does() -> None:
    backend = plan("env=production").spec.backend
    assert isinstance(backend, DockerConfig)
    assert (backend.type, backend.cpu, backend.memory) == ("docker", 16, "32g")


def test_the_command_line_wins_over_the_environment_s_backend() -> None:
    assert plan("env=production", "backend=local").spec.backend.type == "local"


def test_rompy_env_picks_the_environment() -> None:
    assert plan(environ={"ROMPY_ENV": "staging"}).choices["env"] == "staging"


def test_the_command_line_wins_over_rompy_env() -> None:
    assert plan("env=dev", environ={"ROMPY_ENV": "staging"}).choices["env"] == "dev"


def test_development_is_an_alias_of_dev() -> None:
    alias, dev = plan(environ={"ROMPY_ENV": "development"}), plan("env=dev")
    assert alias.spec.env_vars == dev.spec.env_vars
    assert alias.spec.resources == dev.spec.resources
    assert alias.spec.backend.type == dev.spec.backend.type


def test_an_unknown_rompy_env_names_the_variable_and_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"ROMPY_ENV=prodution[\s\S]*did you mean 'production'"):
        plan(environ={"ROMPY_ENV": "prodution"})


def test_the_run_id_is_minted_once_per_invocation_and_differs_between_two() -> None:
    first, second = (compose_command(["model=command"], find_sources(environ={}), environ={}) for _ in range(2))
    assert first.resolve()["run_id"] == f"command-{first.request.invocation}"
    assert first.resolve()["run_id"] == first.resolve()["run_id"]
    assert first.request.invocation != second.request.invocation


def test_hydra_run_dir_means_the_run_s_directory() -> None:
    found = plan("model=command", "hydra.run.dir=elsewhere/deep/name")
    assert (found.output_dir, found.run_id) == (Path("/work-dir/elsewhere/deep"), "name")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("vars.a=1", "a", 1),
        ("+vars.a=[1,b,'c d']", "a", [1, "b", "c d"]),
        ("++vars.a={x:1,y:null}", "a", {"x": 1, "y": None}),
        ("vars.a='x=1,y=2'", "a", "x=1,y=2"),
        ("vars.a=1e-3", "a", 0.001),
        ("vars.a=float(3)", "a", 3.0),
        ("vars.a=\\,", "a", ","),
        ("vars.a=${model.name}", "a", "command"),
    ],
)
def test_hydra_s_override_grammar_works(override: str, key: str, value: object) -> None:
    assert plan("model=command", override).spec.vars[key] == value


def test_a_key_can_be_deleted_and_its_default_holds() -> None:
    assert plan("model=command", "~env_vars.LOG_LEVEL").spec.env_vars == {}


def test_open_maps_take_new_keys_without_a_plus() -> None:
    found = plan("model=command", "env_vars.NEW=1", "backend.env_vars.OTHER=x")
    assert found.spec.env_vars["NEW"] == "1"
    assert found.spec.backend.env_vars == {"OTHER": "x"}


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("run_id=001", lambda p: p.run_id),
        ("backend.env_vars.A=001", lambda p: p.spec.backend.env_vars["A"]),
        ("backend.env_vars={A:001}", lambda p: p.spec.backend.env_vars["A"]),
        ("+backend.env_vars.A=001", lambda p: p.spec.backend.env_vars["A"]),
        ("backend.command=[001,x]", lambda p: p.spec.backend.command[0]),
        ("'backend.command=001'", None),
    ],
)
def test_text_fields_get_the_characters_that_were_typed(override: str, read: object) -> None:
    if read is None:
        with pytest.raises(ConfigError):
            plan("model=command", override)
        return
    assert read(plan("model=command", override)) == "001"  # type: ignore[operator]


@pytest.mark.parametrize("typed", ["1.10", "true", "1e3", "1_000", "off", "-0", "nan", "null-ish", "+5"])
def test_scalars_typed_for_a_string_map_are_their_characters(typed: str) -> None:
    assert plan("model=command", f"env_vars.X={typed}").spec.env_vars["X"] == typed

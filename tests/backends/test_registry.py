"""Which backends exist, who brings them, and what becomes of plug-ins that are no good."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from rompy_hydra.backends import BaseBackendConfig, LocalConfig, get_available_backends, registry
from rompy_hydra.errors import ConfigError
from rompy_hydra.run import LocalRunBackend
from tests.backends import plugin_kit
from tests.backends.conftest import Plug


def test_the_built_in_backends_are_there() -> None:
    assert list(get_available_backends()) == ["docker", "local", "slurm"]
    assert get_available_backends()["local"] is LocalRunBackend
    assert registry.config_class("local") is LocalConfig


@pytest.mark.parametrize("root", ["rompy_hydra", "rompy"])
def test_a_plug_in_is_known_by_the_name_of_its_entry_point(plug: Plug, root: str) -> None:
    plug("good", root=root, run={"good": "good:GoodRunBackend"}, config={"good": "good:GoodConfig"})
    assert registry.backend_types() == ["docker", "good", "local", "slurm"]
    assert get_available_backends()["good"].__name__ == "GoodRunBackend"
    found = registry.find("good")
    assert (found.package, found.is_built_in, found.replaces_built_in) == ("good 1.0", False, False)
    assert found.config().__name__ == "GoodConfig"


def test_a_class_without_a_type_gets_its_entry_point_s_name(plug: Plug) -> None:
    source = (
        "from rompy_hydra.backends.config import BaseBackendConfig\n"
        "class AnyConfig(BaseBackendConfig):\n    queue: str = 'q'\n"
        "class Run:\n    def run(self, model_run, config): return True\n"
    )
    plug("moon", source, run={"lunar": "moon:Run"}, config={"lunar": "moon:AnyConfig"})
    cls = registry.config_class("lunar")
    assert cls.model_validate({"queue": "x"}).type == "lunar"
    assert cls(type="lunar", timeout=60).validate()
    assert cls.model_json_schema()["properties"]["type"]["const"] == "lunar"
    assert cls().get_backend_class().__name__ == "Run"
    import moon  # type: ignore[import-not-found]

    assert cls is moon.AnyConfig


def test_a_class_that_calls_itself_otherwise_is_called_by_its_entry_point(plug: Plug) -> None:
    plug("good", run={"fine": "good:GoodRunBackend"}, config={"fine": "good:GoodConfig"})
    config = registry.config_class("fine").model_validate({"type": "fine", "queue": "long"})
    assert config.type == "fine"
    assert type(config).__mro__[1].__name__ == "GoodConfig"
    assert registry.config_class("fine") is type(config)


def test_a_plug_in_without_a_configuration_class_gets_what_every_backend_has(plug: Plug) -> None:
    plug("seedy", plugin_kit.SEED_STYLE, root="rompy", run={"seedy": "seedy:SeedRunBackend"})
    cls = registry.config_class("seedy")
    assert issubclass(cls, BaseBackendConfig)
    assert cls(timeout=60).get_backend_class().__name__ == "SeedRunBackend"
    assert set(cls.model_fields) == set(BaseBackendConfig.model_fields)


def test_a_plug_in_without_a_run_entry_names_its_class_itself(plug: Plug) -> None:
    plug("good", config={"good": "good:GoodConfig"})
    assert get_available_backends()["good"].__name__ == "GoodRunBackend"


@pytest.mark.parametrize("kinds", ["both", "run"])
def test_a_plug_in_may_take_the_place_of_a_built_in(plug: Plug, kinds: str) -> None:
    config = {"config": {"local": "good:GoodConfig"}} if kinds == "both" else {}
    plug("good", run={"local": "good:GoodRunBackend"}, **config)
    found = registry.find("local")
    assert found.replaces_built_in
    made = found.config()(type="local")
    assert made.get_backend_class().__name__ == "GoodRunBackend"
    assert isinstance(made, LocalConfig) == (kinds == "run")
    assert get_available_backends()["local"].__name__ == "GoodRunBackend"
    assert LocalConfig().get_backend_class() is LocalRunBackend  # the class is what it is


def test_two_plug_ins_with_one_name_are_an_error_that_names_both(plug: Plug, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        plug(name, run={"same": f"{name}:GoodRunBackend"}, config={"same": f"{name}:GoodConfig"})
    with pytest.raises(ConfigError, match=r"one 1\.0 and two 1\.0"):
        registry.config_class("same")
    assert "same" not in get_available_backends()
    assert "one 1.0 and two 1.0" in caplog.text
    assert registry.config_class("local") is LocalConfig


def test_one_package_under_both_roots_is_no_conflict(plug: Plug, tmp_path: Path) -> None:
    names = {"good": "good:GoodRunBackend"}
    plugin_kit.lay_out(
        tmp_path / "site-packages", "good", {"good.py": plugin_kit.GOOD}, {"rompy.run": names, "rompy_hydra.run": names}
    )
    assert registry.find("good").package == "good 1.0"


MODEL_CONFIG = """\
from pydantic import BaseModel
class BaseConfig(BaseModel):
    model_type: str = "base"
class SwanConfig(BaseConfig):
    '''One of ROMPY's model configurations.'''
"""


def test_a_model_configuration_of_rompy_is_told_apart_and_does_no_harm(plug: Plug) -> None:
    plug(
        "rompy-swan",
        MODEL_CONFIG,
        root="rompy",
        config={"swan": "rompy_swan:SwanConfig", "local": "rompy_swan:BaseConfig"},
    )
    assert registry.backend_types() == ["docker", "local", "slurm"]
    assert registry.backends()[1] == []
    assert registry.config_class("local") is LocalConfig
    with pytest.raises(ConfigError, match="no backend 'swan'"):
        registry.find("swan")


def test_a_model_configuration_and_a_backend_may_share_a_name(plug: Plug) -> None:
    plug("rompy-swan", MODEL_CONFIG, root="rompy", config={"good": "rompy_swan:SwanConfig"})
    plug("good", run={"good": "good:GoodRunBackend"}, config={"good": "good:GoodConfig"})
    assert registry.find("good").package == "good 1.0"


def test_what_rompy_itself_registers_is_its_own_affair(plug: Plug) -> None:
    plug(
        "rompy", plugin_kit.BROKEN, root="rompy", run={"local": "rompy.run:LocalRunBackend"}, config={"base": "rompy:X"}
    )
    assert registry.find("local").is_built_in
    assert registry.backends()[1] == []


def test_a_broken_plug_in_is_told_with_package_and_cause_and_isolated(
    plug: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    plug("bad-moon", plugin_kit.BROKEN, run={"moon": "bad_moon:Run"}, config={"moon": "bad_moon:Config"})
    plug("good", run={"good": "good:GoodRunBackend"})
    with caplog.at_level(logging.WARNING):
        assert list(get_available_backends()) == ["docker", "good", "local", "slurm"]
    assert "bad-moon 1.0" in caplog.text
    assert "libmoon.so.3 is not there" in caplog.text
    with pytest.raises(ConfigError) as caught:
        registry.config_class("moon")
    assert "bad-moon 1.0" in str(caught.value)
    assert "ImportError: libmoon.so.3 is not there" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import sys; sys.exit('leaving')", "SystemExit: leaving"),
        ("x = 1", "has no attribute 'Run'"),
        ("class Run: pass", "no method run(model_run, config)"),
        ("def Run(", "SyntaxError"),
        ("class Run:\n    def run(self, m, c): return True\nclass Config: pass", None),
    ],
)
def test_every_way_to_be_broken_is_told(plug: Plug, source: str, cause: str | None) -> None:
    plug("odd", source, run={"odd": "odd:Run"})
    usable, problems = registry.backends()
    assert ("odd" in usable) == (cause is None)
    if cause is not None:
        (problem,) = problems
        assert cause in problem.cause
        assert problem.packages == ("odd 1.0",)


def test_a_broken_replacement_leaves_the_built_in(plug: Plug, caplog: pytest.LogCaptureFixture) -> None:
    plug("bad-local", plugin_kit.BROKEN, run={"local": "bad_local:Run"})
    assert registry.find("local").is_built_in
    assert "bad-local 1.0" in caplog.text


def test_a_configuration_that_names_no_backend_is_told(plug: Plug) -> None:
    source = "from rompy_hydra.backends.config import BaseBackendConfig\nclass C(BaseBackendConfig): pass\n"
    plug("half", source, config={"half": "half:C"})
    with pytest.raises(ConfigError, match="names no backend class"):
        registry.find("half")


def test_an_unknown_backend_has_a_hint(plug: Plug) -> None:
    plug("good", run={"goodness": "good:GoodRunBackend"})
    with pytest.raises(ConfigError, match="did you mean 'goodness'"):
        registry.find("godness")
    assert "good" not in sys.modules  # a hint imports nobody


def test_a_package_that_comes_later_is_found(plug: Plug) -> None:
    assert "good" not in get_available_backends()
    plug("good", run={"good": "good:GoodRunBackend"})
    assert "good" in get_available_backends()


def test_discovery_costs_nothing_until_somebody_asks() -> None:
    code = """
import sys
import rompy_hydra, rompy_hydra.backends, rompy_hydra.backends.registry
from rompy_hydra.backends import LocalConfig
from rompy_hydra.backends import discovery
def never(*a, **k): raise AssertionError("looked for plug-ins")
discovery._read = never  # pydantic looks for plug-ins of its own in any case
LocalConfig(timeout=60, command="true").validate()
from rompy_hydra.cli import main
assert main(["--version"]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_model_configuration_of_a_test_is_really_none_of_ours() -> None:
    names: dict[str, type[BaseModel]] = {}
    exec(MODEL_CONFIG, names)
    assert not issubclass(names["SwanConfig"], BaseBackendConfig)

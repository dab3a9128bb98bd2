"""Every code block of the seed's document runs, with our package root in its imports.

Supplied are only the names that its prose leaves open: files, `model_run`, `mypackage`, `create_mock_model`,
`API_KEY`, host paths that exist, and the imports that a block takes over from those above it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from rompy_hydra import ModelRun
from rompy_hydra.backends import BaseBackendConfig, DockerConfig, LocalConfig, load_configs
from rompy_hydra.backends.registry import find
from rompy_hydra.backends.schema import schema_of, schema_of_all
from rompy_hydra.cli import main
from tests.backends import plugin_kit
from tests.seed.blocks import read_blocks

BLOCKS = read_blocks()

pytestmark = pytest.mark.filterwarnings("ignore:.*validator.*:DeprecationWarning")  # the sketch uses pydantic's old one


def text(number: int, heading: str, language: str = "python") -> str:
    """The block, ready to run; its heading stands in the test for the reader, and guards the number."""
    block = BLOCKS[number]
    assert (block.heading, block.language) == (heading, language)
    return block.code if language == "python" else block.text


def run(number: int, heading: str, /, **supplied: Any) -> dict[str, Any]:
    """Execute a Python block and hand back its names."""
    names: dict[str, Any] = {"__name__": "block", **supplied}
    code = compile(text(number, heading), f"backend_reference.rst block {number}", "exec", dont_inherit=True)
    exec(code, names)
    return names


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model_run(tmp_path: Path) -> ModelRun:
    return ModelRun("seed", tmp_path / "runs", model={"name": "tide", "command": "echo 3.2 > tide.txt"})


def test_the_document_has_24_blocks() -> None:
    assert len(BLOCKS) == 24
    assert {block.language for block in BLOCKS} == {"python", "yaml", "json", "toml", "text"}


def test_the_hierarchy_is_the_real_class_tree() -> None:
    tree = text(0, "Configuration Hierarchy", "text")
    base, *children = re.findall(r"(\w+Config)\b", tree)

    class CustomConfig(BaseBackendConfig):
        pass

    classes: dict[str, type] = {
        cls.__name__: cls for cls in (BaseBackendConfig, LocalConfig, DockerConfig, CustomConfig)
    }
    assert base == "BaseBackendConfig"
    assert children == ["LocalConfig", "DockerConfig", "CustomConfig"]
    for child in children:
        assert classes[child].__bases__ == (classes[base],)


def test_a_configuration_comes_from_a_file_and_from_python(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("timeout: 3600\ncommand: python run.py\n")
    names = run(1, "Configuration Loading")
    assert isinstance(names["config"], DockerConfig)
    assert (names["config"].cpu, names["config"].memory) == (4, "2g")


def test_the_yaml_block_is_two_configurations(tmp_path: Path) -> None:
    for name in ("input", "output"):
        (tmp_path / "data" / name).mkdir(parents=True)
    path = tmp_path / "backends.yml"
    path.write_text(text(2, "YAML Format", "yaml").replace('"/data/', f'"{tmp_path}/data/'))
    local, docker = load_configs(path)
    assert isinstance(local, LocalConfig)
    assert local.env_vars == {"OMP_NUM_THREADS": "4", "MODEL_DEBUG": "true"}
    assert isinstance(docker, DockerConfig)
    assert docker.volumes == [f"{tmp_path}/data/input:/app/input:ro", f"{tmp_path}/data/output:/app/output:rw"]
    for document in yaml.safe_load_all(path.read_text()):
        jsonschema.validate(document, schema_of_all())


def test_the_json_block_loads_and_validates_against_our_schema(tmp_path: Path) -> None:
    path = tmp_path / "backend.json"
    path.write_text(text(3, "JSON Format", "json"))
    (config,) = load_configs(path)
    assert isinstance(config, LocalConfig)
    for schema in (schema_of("local"), schema_of_all(), LocalConfig.model_json_schema()):
        jsonschema.validate(json.loads(path.read_text()), schema)


def test_errors_have_their_places_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    run(4, "Error Handling")
    assert "Field ('cpu',): Input should be less than or equal to 128" in capsys.readouterr().out


def test_the_schema_is_saved(tmp_path: Path) -> None:
    names = run(5, "Schema Generation")
    schema = json.loads((tmp_path / "local_schema.json").read_text())
    assert schema == names["schema"]
    assert schema["properties"]["type"]["const"] == "local"


def test_the_schema_validates(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(6, "Using Schemas", LocalConfig=LocalConfig)
    assert capsys.readouterr().out == "Configuration is valid\n"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"timeout": 30}, names["schema"])


def test_a_configuration_is_made_for_the_machine() -> None:
    config = run(7, "Dynamic Configuration")["create_optimal_config"]()
    assert isinstance(config, (LocalConfig, DockerConfig))


@pytest.mark.parametrize(
    ("environment", "kind", "timeout"),
    [("production", DockerConfig, 21600), ("staging", DockerConfig, 10800), (None, LocalConfig, 3600)],
)
def test_a_configuration_is_made_for_the_environment(
    environment: str | None, kind: type, timeout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment:
        monkeypatch.setenv("ROMPY_ENV", environment)
    config = run(8, "Environment-Based Configuration")["load_config_for_environment"]()
    assert isinstance(config, kind)
    assert config.timeout == timeout  # type: ignore[attr-defined]


def test_configurations_are_made_from_a_template() -> None:
    names = run(9, "Configuration Templates")
    hpc, dev = names["create_hpc_config"](timeout=600), names["create_dev_config"]()
    assert (hpc.cpu, hpc.mpiexec, hpc.timeout, hpc.user) == (32, "mpirun -np 32", 600, "modeluser")
    assert dev.remove_container is False
    assert dev.env_vars == {"MODEL_DEBUG": "true", "LOG_LEVEL": "DEBUG"}


def test_a_class_of_one_s_own_with_pydantic_s_old_validator_works() -> None:
    cls = run(10, "Custom Configuration Classes")["SlurmConfig"]
    config = cls(queue="gpu", nodes=2)
    assert (config.type, config.partition, config.timeout) == ("slurm", "compute", None)
    for wrong in (
        {"queue": "gpu", "time_limit": "1h"},
        {"queue": "gpu", "nodes": 101},
        {"queue": "gpu", "timeout": 5},
        {},
    ):
        with pytest.raises(ValidationError):
            cls(**wrong)


def test_a_backend_of_one_s_own_runs(model_run: ModelRun) -> None:
    config_class = run(10, "Custom Configuration Classes")["SlurmConfig"]
    backend_class = run(11, "Custom Backend Implementation", SlurmConfig=config_class)["SlurmRunBackend"]
    config_class.get_backend_class = lambda _: backend_class
    assert model_run.run(backend=config_class(queue="gpu")) is False  # the sketch submits nothing
    assert model_run.record is not None
    assert model_run.record.data["reason"] == "SlurmRunBackend.run returned False"


PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "mypackage"
version = "2.1"

"""


@pytest.fixture(scope="session")
def site_of_mypackage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the prose, made of the blocks, with the TOML block in its pyproject.toml, installed by pip."""
    project = tmp_path_factory.mktemp("mypackage")
    package = project / "mypackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text(text(10, "Custom Configuration Classes"))
    backend = text(11, "Custom Backend Implementation").replace(
        "# Implementation details...\n        pass", "return _demo(self, locals())"
    )
    header = "from mypackage.config import SlurmConfig\n\n"
    # What the prose leaves to the author: here the "queue" is a shell.
    demo = textwrap.dedent("""
        def _demo(self, given):
            import subprocess
            if "job_script" in given:
                return subprocess.Popen(["sh", "-c", given["job_script"]])
            if "job_id" in given:
                return given["job_id"].wait() == 0
            return f"echo {given['config'].queue} > queue.txt"
    """)
    (package / "backends.py").write_text(header + backend + demo)
    (project / "pyproject.toml").write_text(PYPROJECT + text(12, "Entry Points Registration", "toml"))
    site = tmp_path_factory.mktemp("site")
    plugin_kit.pip_install(site, project)
    return site


@pytest.fixture
def mypackage(site_of_mypackage: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site_of_mypackage))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def test_the_toml_block_registers_a_backend(mypackage: None) -> None:
    groups = tomllib.loads(text(12, "Entry Points Registration", "toml"))["project"]["entry-points"]
    assert groups.keys() == {"rompy.run", "rompy.config"}
    found = find("slurm")
    assert (found.package, found.replaces_built_in) == ("mypackage 2.1", True)
    assert found.config() is importlib.import_module("mypackage.config").SlurmConfig
    assert found.run() is importlib.import_module("mypackage.backends").SlurmRunBackend


def test_backends_are_discovered_and_used(
    mypackage: None, model_run: ModelRun, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(13, "Backend Discovery", model_run=model_run)
    assert names["backends"]["slurm"].__module__ == "mypackage.backends"
    assert set(names["backends"]) == {"local", "docker", "slurm"}
    assert "Available backends:" in capsys.readouterr().out
    assert names["success"] is True
    assert (model_run.run_dir / "queue.txt").read_text() == "gpu\n"


def test_a_backend_that_replaces_a_built_in_is_used_on_the_command_line(mypackage: None, tmp_path: Path) -> None:
    for number, choice in enumerate(("backend=slurm", "backend.type=slurm")):
        assert main(["run", "model=command", choice, "backend.queue=long", f"run_id=r{number}"]) == 0
        assert (tmp_path / "runs" / f"r{number}" / "queue.txt").read_text() == "long\n"
    assert main(["run", "-m", "model=command", "backend=slurm,local", "backend.command=x", "hydra.sweep.dir=s"]) == 2
    words = ["model=command", "backend=slurm", "backend.queue=a,b", "hydra.sweep.dir=sweep"]
    assert main(["run", "-m", *words]) == 0
    assert sorted(path.read_text() for path in (tmp_path / "sweep").rglob("queue.txt")) == ["a\n", "b\n"]


def test_postprocessors_take_options_by_keyword(model_run: ModelRun) -> None:
    model_run.run()
    names = run(14, "Usage Patterns", model_run=model_run)
    assert names["results"]["success"] is False
    assert "no result file" in names["results"]["error"]  # the seed's model run is a command that writes no NetCDF
    assert model_run.postprocess(processor="archive")["success"] is True


def test_a_postprocessor_of_one_s_own_processes(model_run: ModelRun) -> None:
    model_run.run()
    cls = run(15, "Custom Postprocessors", Path=Path)["CustomPostprocessor"]
    cls._process_outputs = lambda _, output_dir, **options: [str(output_dir), options]
    results = model_run.postprocess(processor=cls, depth=2)
    assert results["success"] is True
    assert results["processed_files"] == [str(model_run.run_dir), {"depth": 2}]


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "from-outside")
    config = run(16, "Configuration Management", LocalConfig=LocalConfig, os=os)["config"]
    assert config.env_vars == {"API_KEY": "secret-key-123"}
    for shown in (repr(config), str(config), config.model_dump(), config.model_dump_json()):
        assert "secret-key-123" not in str(shown)


def test_a_secure_docker_configuration_is_valid(tmp_path: Path) -> None:
    code = text(17, "Security Considerations").replace('"/data:', f'"{tmp_path}:')
    names: dict[str, Any] = {"DockerConfig": DockerConfig}
    exec(code, names)
    assert names["config"].volumes == [f"{tmp_path}:/app/data:ro"]
    assert names["config"].user == "appuser"


def test_a_fast_docker_configuration_is_valid() -> None:
    config = run(18, "Performance Optimization", DockerConfig=DockerConfig)["config"]
    assert (config.cpu, config.memory, config.mpiexec) == (16, "32g", "mpirun -np 16")


def test_a_model_is_run_safely(model_run: ModelRun, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    safely = run(19, "Error Handling", logger=logging.getLogger("block"))["safe_model_execution"]
    assert safely(model_run, LocalConfig()) is True
    bad = ModelRun("bad", tmp_path / "runs", model={"name": "bad", "command": "exit 1"})
    assert safely(bad, LocalConfig()) is False
    assert "Model execution failed" in caplog.text
    gone = tmp_path / "gone"
    gone.mkdir()
    config = LocalConfig(working_dir=gone)
    assert config.validate() is True
    gone.rmdir()
    assert config.validate() is False
    assert safely(model_run, config) is False


def test_the_configuration_test_passes() -> None:
    run(20, "Configuration Testing")["test_local_config_validation"]()


def test_the_backend_test_passes(tmp_path: Path) -> None:
    class MockModel:
        run_id = "mock"
        output_dir = str(tmp_path)

        def generate(self) -> str:
            (tmp_path / "workspace").mkdir()
            return str(tmp_path / "workspace")

    run(21, "Backend Testing", LocalConfig=LocalConfig, create_mock_model=MockModel)["test_backend_execution"]()
    assert (tmp_path / "mock" / "logs" / "stdout.log").read_text() == "test\n"


def test_the_integration_test_passes(tmp_path: Path) -> None:
    (tmp_path / "test_model.yml").write_text(
        "run_id: full\noutput_dir: out\nmodel: {name: tide, command: 'echo 3.2 > tide.txt'}\n"
    )
    run(22, "Integration Testing", LocalConfig=LocalConfig, ModelRun=ModelRun)["test_full_workflow"]()
    assert (tmp_path / "out" / "full" / "full.tar.gz").is_file()


def test_debug_logging_is_the_standard_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    config = run(23, "Debug Mode", LocalConfig=LocalConfig)["config"]
    assert root.level == logging.DEBUG
    assert config.env_vars["LOG_LEVEL"] == "DEBUG"


def test_no_block_is_skipped() -> None:
    source = Path(__file__).read_text()
    called = {int(number) for number in re.findall(r"\b(?:run|text)\((\d+), ", source)}
    assert called == set(range(24))


def test_importing_us_touches_neither_the_root_logger_nor_warnings() -> None:
    import subprocess

    code = """
import logging, warnings
before = (logging.root.level, list(logging.root.handlers), list(warnings.filters), logging.getLoggerClass())
import rompy_hydra, rompy_hydra.backends, rompy_hydra.backends.config, rompy_hydra.model, rompy_hydra.cli
from rompy_hydra import ModelRun, LocalConfig
LocalConfig(timeout=60)
after = (logging.root.level, list(logging.root.handlers), list(warnings.filters), logging.getLoggerClass())
assert before == after, (before, after)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

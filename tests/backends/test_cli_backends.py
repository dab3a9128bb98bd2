"""`backends list | validate | schema | create` and `postprocessors list`, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from rompy_hydra.backends import load_config, registry
from rompy_hydra.backends.schema import schema_of_all
from rompy_hydra.cli import main
from tests.backends import plugin_kit
from tests.backends.conftest import Plug

Out = pytest.CaptureFixture[str]


@pytest.fixture
def three(plug: Plug) -> None:
    plug(
        "good",
        run={"good": "good:GoodRunBackend", "slurm": "good:GoodRunBackend"},
        config={"good": "good:GoodConfig"},
        postprocess={"count": "good:Count"},
    )
    plug("seedy", plugin_kit.SEED_STYLE, root="rompy", run={"seedy": "seedy:SeedRunBackend"})
    plug("bad-moon", plugin_kit.BROKEN, run={"moon": "bad_moon:Run"}, postprocess={"phase": "bad_moon:Phase"})


def test_the_list_names_types_classes_and_packages(three: None, capsys: Out) -> None:
    assert main(["backends", "list"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "LocalConfig" in lines["local"]
    assert "LocalRunBackend" in lines["local"]
    assert "good 1.0" in lines["good"]
    assert "good 1.0 (replaces the built-in)" in lines["slurm"]
    assert "SeedRunBackend" in lines["seedy"]
    assert "bad-moon 1.0" in lines["moon:"]
    assert "libmoon.so.3 is not there" in lines["moon:"]


@pytest.mark.parametrize("words", [["--json"], ["--format", "json"], ["--format", "yaml"]])
def test_the_list_is_for_machines_too(three: None, capsys: Out, words: list[str]) -> None:
    assert main(["backends", "list", *words]) == 0
    rows = {row["type"]: row for row in yaml.safe_load(capsys.readouterr().out)}
    assert set(rows) == {"docker", "good", "local", "moon", "seedy", "slurm"}
    assert rows["slurm"]["replaces_built_in"] is True
    assert rows["moon"]["problem"]


def test_a_conflict_is_listed_and_is_exit_code_2(plug: Plug, capsys: Out) -> None:
    for name in ("one", "two"):
        plug(name, run={"same": f"{name}:GoodRunBackend"})
    assert main(["backends", "list"]) == 2
    assert "one 1.0 and two 1.0" in capsys.readouterr().out
    assert main(["run", "model=command", "backend=same"]) == 2
    assert "one 1.0 and two 1.0" in capsys.readouterr().err


def test_postprocessors_are_listed(three: None, capsys: Out) -> None:
    assert main(["postprocessors", "list"]) == 0
    out = capsys.readouterr().out
    for word in ("noop", "archive", "count", "analyze", "bad-moon 1.0"):
        assert word in out
    assert main(["postprocessors", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["analyze"]["class"] == "rompy_hydra.postprocess.analyze.AnalyzePostprocessor"


def test_a_folder_of_good_and_bad_files_gets_a_verdict_for_each_document(tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yml").write_text("type: local\n---\ntype: docker\nimage: a\ncpu: 900\n")
    (tmp_path / "b.json").write_text('{"image": "a"}')
    (tmp_path / "deep" / "c.yaml").write_text("x: [\n")
    (tmp_path / "notes.txt").write_text("no configuration")
    assert main(["backends", "validate", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert f"good  {tmp_path}/a.yml, document 1: local" in told.out
    assert f"bad   {tmp_path}/a.yml, document 2: docker" in told.out
    assert f"{tmp_path}/a.yml:5 (document 2): cpu: Input should be less than or equal to 128" in told.out
    assert f"good  {tmp_path}/b.json, document 1: docker" in told.out
    assert f"bad   {tmp_path}/deep/c.yaml, document 1" in told.out
    assert "notes.txt" not in told.out
    assert told.err == "2 good, 2 bad\n"
    assert main(["backends", "validate", "--json", f"{tmp_path}/a.yml", f"{tmp_path}/b.json"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [(row["document"], row["valid"]) for row in rows] == [(1, True), (2, False), (1, True)]
    assert rows[1]["findings"][0]["key"] == "cpu"
    assert main(["backends", "validate", f"{tmp_path}/b.json"]) == 0


def test_what_cannot_be_validated_is_said(tmp_path: Path, capsys: Out) -> None:
    assert main(["backends", "validate", f"{tmp_path}/none.yml"]) == 2
    assert "missing file" in capsys.readouterr().out
    assert main(["backends", "validate", str(tmp_path)]) == 2
    assert "nothing to validate" in capsys.readouterr().err
    assert main(["backends", "validate"]) == 2
    (tmp_path / "a.yml").write_text("timeout: 60\n")
    assert main(["backends", "validate", f"{tmp_path}/a.yml", "--type", "slrm"]) == 2
    assert "did you mean 'slurm'" in capsys.readouterr().err
    assert main(["backends", "validate", f"{tmp_path}/a.yml", "--type", "slurm"]) == 0
    assert "slurm" in capsys.readouterr().out


def test_schemas_are_printed(three: None, capsys: Out) -> None:
    assert main(["backends", "schema", "local"]) == 0
    jsonschema.validate({"timeout": 60}, json.loads(capsys.readouterr().out))
    assert main(["backends", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema_of_all()
    assert main(["backends", "schema", "good", "--format", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["properties"]["queue"]["default"] == "short"


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_is_created_is_valid(three: None, form: str, tmp_path: Path, capsys: Out) -> None:
    for name in registry.backend_types():
        assert main(["backends", "create", name, "--format", form]) == 0
        path = tmp_path / f"{name}.{form}"
        path.write_text(capsys.readouterr().out)
        assert load_config(path).type == name
        assert main(["backends", "validate", str(path)]) == 0
        capsys.readouterr()


def test_every_field_stands_in_a_created_file(capsys: Out) -> None:
    assert main(["backends", "create", "docker"]) == 0
    text = capsys.readouterr().out
    uncommented = [line.removeprefix("# ") for line in text.splitlines()]
    for name in registry.config_class("docker").model_fields:
        assert any(line.startswith(f"{name}:") for line in uncommented), name


def test_required_fields_of_a_plug_in_get_a_stand_in(plug: Plug, capsys: Out) -> None:
    source = plugin_kit.GOOD.replace('queue: str = Field("short", description="Queue.")', "queue: str\n    nodes: int")
    plug("good", source, run={"good": "good:GoodRunBackend"}, config={"good": "good:GoodConfig"})
    assert main(["backends", "create", "good"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"type": "good", "queue": "CHANGE_ME", "nodes": 1}


@pytest.mark.parametrize(
    "words", [["backends"], ["backends", "lst"], ["postprocessors", "schema"], ["backends", "create"]]
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: Out) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert "rompy-hydra" in told.out + told.err

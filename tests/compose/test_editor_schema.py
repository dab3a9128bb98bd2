"""Schemas for editors: every shipped file is valid, broken ones are not, what is written is what would be written."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rompy_hydra.backends.loading import parse_documents
from rompy_hydra.cli import main
from rompy_hydra.compose.check_files import SWEEP_DIRECTORIES, read_files
from rompy_hydra.compose.editor_schema import GROUPS, editor_files, header_of, schema_of, schemas
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.plan.spec import RunSpec
from tests.compose.check_kit import FAULTS, clean_repository, write

ROOT = Path(__file__).resolve().parents[2]
SKELETON = "rompy_hydra/repository/skeleton"
SHIPPED = sorted(
    path.relative_to(ROOT).as_posix()
    for base in (ROOT, ROOT / SKELETON)
    for pattern in ("conf/**/*.yaml", "multirun_examples/*.yaml", "sweeps/*.yaml", "templates/*/template.yaml")
    for path in base.glob(pattern)
)


@cache
def known(root: Path = ROOT) -> dict[str, Any]:
    return schemas(find_sources([str(root)], environ={}, cwd=Path("/nonexistent")))


def errors(schema: dict[str, Any], content: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(content)]


def errors_in(name: str, text: str) -> list[str]:
    (content,) = parse_documents(text, name)
    return errors(known()[name], content)


def errors_of_files(root: Path) -> dict[str, list[str]]:
    """What the schemas find in every file of a repository."""
    found = {}
    for top in ("conf", *SWEEP_DIRECTORIES):
        for file in read_files(root / top, []) if (root / top).is_dir() else ():
            relative = f"{top}/{file.config_path}.yaml"
            schema = schema_of(relative, header_of(file))
            if schema is not None and not file.is_broken:
                found[relative] = errors(known(root)[schema], file.content)
    for path in root.glob("templates/*/template.yaml"):
        (content,) = parse_documents(path.read_text(), str(path))
        found[path.relative_to(root).as_posix()] = errors(known(root)["template"], content)
    return found


def test_schemas_are_schemas_in_the_dialect_of_the_yaml_language_server() -> None:
    assert set(known()) == {"root", "template", *GROUPS}
    for schema in known().values():
        assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("base", ["", SKELETON])
def test_every_shipped_file_is_valid(base: str) -> None:
    found = errors_of_files(ROOT / base)
    assert len(found) == len([name for name in SHIPPED if name.startswith(f"{SKELETON}/") == bool(base)])
    assert {name: why for name, why in found.items() if why} == {}


def test_the_files_of_a_clean_repository_are_valid_and_planted_faults_are_found(tmp_path: Path) -> None:
    root = clean_repository(tmp_path)
    assert {name: why for name, why in errors_of_files(root).items() if why} == {}
    known.cache_clear()
    write(root, FAULTS)
    found = {name for name, why in errors_of_files(root).items() if why}
    seen = {
        "conf/env/mapping.yaml",
        "conf/env/number.yaml",
        "conf/experiment/typo.yaml",
        "conf/experiment/parameter.yaml",
        "conf/resources/negative.yaml",
        "conf/env/old.yaml",
        "sweeps/wrong.yaml",
        "templates/badtype/template.yaml",
    }
    assert seen <= found
    assert all("bay" not in name and "config" not in name for name in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resources", "cpus: ${host.cpus:}"),
        ("resources", "cpus: ???"),
        ("resources", "memory: 2g\ntime_limit: 90m"),
        ("backend", "image: a\ncpu: 2"),
        ("backend", "defaults: [/packaged/backend/docker, _self_]\ncpu: 1.5"),
        ("model", "parameters: {anything: [1, {a: b}]}"),
        ("model", "command: [python, run.py]"),
        ("model", "defaults: [/template/veros_acc, _self_]\nparameters: {run_length: 1d, wind_stress: '${vars.w}'}"),
        ("root", "backend: ${x}"),
        ("root", "defaults: [config, {override /model: command}, {optional env: a}, {site: null}, {x@y: [a, b]}]"),
        (
            "root",
            "sweep: {design: [{grid: {a.b: [1, 2], c: 'range(1,3)'}}], zip: [a, b], exclude: 'a > 1', table: t.csv}",
        ),
        ("root", "sweep: {samples: {n: 3, over: {a.b: [0, 1], c: {low: 1, high: 2, scale: log}}}}"),
        ("root", "period: {start: 2020-01-01, duration: 10d}\nvars: {a: [1]}\nhydra: {run: {dir: x}}"),
        ("template", "parameters: {a: {type: duration, default: 1d, gt: 0}}\nmodel: {command: 'true'}"),
    ],
)
def test_a_part_of_a_configuration_is_valid(name: str, text: str) -> None:
    assert errors_in(name, text) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resources", "cpu: 4"),
        ("resources", "cpus: -1"),
        ("resources", "cpus: four"),
        ("backend", "imag: a"),
        ("backend", "type: local\nimage: a"),
        ("backend", "defaults: [/packaged/backend/local, _self_]\nimage: a"),
        ("backend", "type: dockr"),
        ("site", "lancher: srun"),
        ("postprocess", "procesor: archive"),
        ("model", "comand: 'true'"),
        ("model", "parallel: sometimes"),
        ("model", "defaults: [/template/veros_acc, _self_]\nparameters: {wind: 1}"),
        ("model", "defaults: [veros_acc, _self_]\nparameters: {wind_stress: -1}"),
        ("root", "resorces: {}"),
        ("root", "defaults: {model: a}"),
        ("root", "defaults: [[a]]"),
        ("root", "defaults: [{model: a, site: b}]"),
        ("root", "defaults: [{override /model: veros_acc}, _self_]\nmodel: {parameters: {wind: 1}}"),
        ("root", "env_vars: {A: 1}"),
        ("root", "sweep: {desing: []}"),
        ("root", "sweep: {repeats: 0}"),
        ("root", "on_existing: maybe"),
        ("template", "parameters: {a: {type: flot, default: 1}}"),
        ("template", "model: {comand: x}"),
    ],
)
def test_a_mistake_is_none(name: str, text: str) -> None:
    assert errors_in(name, text) != []


def test_people_are_told_descriptions_defaults_units_and_choices() -> None:
    root = known()["root"]
    assert root["properties"]["on_existing"]["description"].startswith("If the run's directory exists")
    assert root["properties"]["on_existing"]["default"] == "error"
    assert {"enum": ["error", "new", "replace", "skip"], "type": "string"} in root["properties"]["on_existing"]["anyOf"]
    wind = known()["model"]["definitions"]["parameters.veros_acc"]["properties"]["wind_stress"]
    assert wind["description"].endswith("In N m-2.")
    assert wind["default"] == 0.1
    for part, schema in known().items():
        for key, told in schema["properties"].items():
            if key != "type" and part != "template":
                assert told.get("description"), (part, key)


def test_every_key_of_a_run_is_in_the_schema() -> None:
    assert set(known()["root"]["properties"]) == {*RunSpec.model_fields, "defaults", "hydra"}


# -- files in a repository ---------------------------------------------------------------------------------------------


def test_written_schemas_are_checked_for_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = clean_repository(tmp_path / "repo", ("north",))
    monkeypatch.chdir(root)
    assert main(["schema", "--check"]) == 1
    assert "schema --write" in capsys.readouterr().err
    assert main(["schema", "--write"]) == 0
    assert main(["schema", "--check"]) == 0
    capsys.readouterr()
    assert main(["schema", "--write"]) == 0
    assert "already" in capsys.readouterr().out
    template = root / "templates" / "north" / "template.yaml"
    template.write_text(template.read_text().replace("  depth:", "  deepness:"))
    assert main(["schema", "--check", str(root)]) == 1
    assert ".schemas/model.json is not that of this version" in capsys.readouterr().err


def test_the_editor_knows_which_schema_is_for_which_file(tmp_path: Path) -> None:
    root = clean_repository(tmp_path, ("north",))
    (root / "conf" / "queue").mkdir()
    (root / "conf" / "queue" / "long.yaml").write_text("# @package _global_\nretry: {attempts: 2}\n")
    files = editor_files(root, find_sources([str(root)], environ={}, cwd=Path("/nonexistent")))
    mapping = json.loads(files[".vscode/settings.json"])["yaml.schemas"]
    assert "conf/queue/long.yaml" in mapping["./.schemas/root.json"]
    assert "sweeps/*.yaml" in mapping["./.schemas/root.json"]
    assert not any("physics" in pattern for patterns in mapping.values() for pattern in patterns)
    for path in root.rglob("*.yaml"):
        relative = path.relative_to(root)
        names = {name for name, patterns in mapping.items() for p in patterns if matches(relative, p)}
        expected = schema_of(relative.as_posix(), "_global_" if "queue" in relative.parts else own_header(path))
        assert names == ({f"./.schemas/{expected}.json"} if expected else set()), relative


def own_header(path: Path) -> str | None:
    first = path.read_text().splitlines()[0]
    return first.split()[-1] if first.startswith("# @package") else None


def matches(path: Path, pattern: str) -> bool:
    """As editors match: `**` stands for any directories, or none."""
    return (
        path.match(pattern) if "**/" not in pattern else path.match(pattern.replace("**/", "")) or path.match(pattern)
    )


def test_settings_that_are_there_keep_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = clean_repository(tmp_path, ("north",))
    (root / ".vscode").mkdir()
    settings = root / ".vscode" / "settings.json"
    settings.write_text('{"editor.rulers": [120], "yaml.schemas": {"./mine.json": ["mine.yaml"]}}')
    assert main(["schema", "--write", str(root)]) == 0
    written = json.loads(settings.read_text())
    assert written["editor.rulers"] == [120]
    assert written["yaml.schemas"]["./mine.json"] == ["mine.yaml"]
    assert "./.schemas/root.json" in written["yaml.schemas"]
    settings.write_text('{\n  // rulers\n  "editor.rulers": [120]\n}\n')
    assert main(["schema", "--write", str(root)]) == 2
    assert "add it by hand" in capsys.readouterr().err
    assert "// rulers" in settings.read_text()


def test_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "run_id" in json.loads(capsys.readouterr().out)["properties"]
    assert main(["schema", "resources"]) == 0
    assert "cpus" in json.loads(capsys.readouterr().out)["properties"]
    assert main(["schema", "resorces"]) == 2
    assert "did you mean 'resources'?" in capsys.readouterr().err


def test_a_directory_without_conf_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--write", str(tmp_path)]) == 2
    assert "rompy-hydra init" in capsys.readouterr().err

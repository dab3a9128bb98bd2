"""Configurations from files: one loader for YAML and JSON, with the place in every error."""

from __future__ import annotations

from pathlib import Path

import pytest

from rompy_hydra.backends import DockerConfig, LocalConfig, SlurmConfig, load_config, load_configs
from rompy_hydra.backends.loading import check_file
from rompy_hydra.errors import ConfigError, SiteError
from tests.backends.conftest import Plug


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "cls"),
    [
        ("type: docker\nimage: a\n", DockerConfig),
        ("image: a\ncpu: 4\n", DockerConfig),
        ("timeout: 3600\ncommand: python run.py\n", LocalConfig),
        ("queue: gpu\nnodes: 2\n", SlurmConfig),
        ("timeout: 60\n", LocalConfig),
    ],
)
def test_a_type_is_said_or_told_by_the_keys(tmp_path: Path, text: str, cls: type) -> None:
    assert isinstance(load_config(write(tmp_path / "a.yml", text)), cls)


def test_the_caller_may_say_the_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yml", "timeout: 60\n")
    assert isinstance(load_config(path, "slurm"), SlurmConfig)
    with pytest.raises(ConfigError, match="'docker' was asked for"):
        load_config(write(tmp_path / "b.yml", "type: local\n"), "docker")


def test_json_is_read_with_tabs_and_all(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json", '{\n\t"type": "docker",\n\t"image": "a/b:1",\n\t"env_vars": {"A": "\\u00e9\\/"}\n}'
    )
    config = load_config(path)
    assert config.env_vars == {"A": "é/"}
    path.write_text('{\n\t"type": "docker",\n\t"image": "a",\n\t"cpu": 900\n}')
    with pytest.raises(ConfigError, match=f"{path}:4"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "text", "place", "says"),
    [
        ("a.yml", "type: local\ntimeout: 5\n", ":2", "greater than or equal to 60"),
        ("a.yml", "type: local\n---\ntype: docker\nimage: a\ncpu: 900\n", ":5 (document 2)", "less than or equal"),
        ("a.yml", "type: local\nenv_vars:\n  A: x\n  N: 4\n", ":4", "quote it: '4'"),
        ("a.yml", "type: local\ntimeot: 60\n", ":2", "did you mean 'timeout'"),
        ("a.yml", "type: loca\n", ":1", "did you mean 'local'"),
        ("a.yml", "type: [local]\n", ":1", "name of a backend"),
        ("a.yml", "type: docker\nimage: a\nvolumes:\n- /:/a\n- x\n", ":3", "must contain ':'"),
        ("a.yml", "type: local\ncommand:\n- run\n- 3\n", ":2", "quote it"),
        ("a.yml", "type: local\ntype: local\n", ":2:1", "twice"),
        ("a.yml", "type: local\n  x: [\n", ":2:4", "not valid YAML"),
        ("a.yml", "- type: local\n", ":1", "holds a list"),
        ("a.yml", "defaults: [/schema/backend/local]\n", ":1", "option of a config group"),
        ("a.yml", "", "", "holds no configuration"),
        ("a.yml", "type: docker\n", ":1", "Either 'image' or 'dockerfile'"),
        ("a.json", '{"type": "local",\n "timeout": }', ":2:13", "not valid JSON"),
        ("a.json", '{"type": "local", "type": "docker"}', "", "stands twice"),
        ("a.json", '{"timeout": NaN}', "", "NaN is no JSON"),
        ("a.json", "[" * 100_000, "", "nested too deeply"),
        ("a.json", "", ":1:1", "not valid JSON"),
    ],
)
def test_an_error_names_file_document_and_line(tmp_path: Path, name: str, text: str, place: str, says: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(ConfigError) as caught:
        load_configs(path)
    (finding,) = caught.value.findings
    assert finding.where == f"{path}{place}"
    assert says in str(finding)


def test_every_finding_of_every_document_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yml", "timeout: 5\nshell: maybe\n---\nimage: A\n---\ntype: local\n")
    with pytest.raises(ConfigError) as caught:
        load_configs(path)
    assert [finding.key for finding in caught.value.findings] == ["timeout", "shell", "image"]


def test_a_malformed_rest_spoils_no_verdict_before_it(tmp_path: Path) -> None:
    verdicts = list(check_file(write(tmp_path / "a.yml", "type: local\n---\ntype: docker\nimage: a\n---\nx: [\n")))
    assert [(v.number, v.type, bool(v.findings)) for v in verdicts] == [
        (1, "local", False),
        (2, "docker", False),
        (3, None, True),
    ]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing file"):
        load_configs(tmp_path / "none.yml")
    (tmp_path / "bytes.yml").write_bytes(b"type: \xff\n")
    with pytest.raises(ConfigError, match="cannot be decoded"):
        load_configs(tmp_path / "bytes.yml")
    with pytest.raises((ConfigError, SiteError), match="directory"):
        load_configs(tmp_path)


def test_one_configuration_is_wanted_from_load_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 2 configurations"):
        load_config(write(tmp_path / "a.yml", "type: local\n---\ntype: local\n"))


def test_a_secret_is_in_no_finding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yml", "type: local\nenv_vars:\n  API_KEY: 54170001\n  DB_PASSWORD: [canary]\n")
    with pytest.raises(ConfigError) as caught:
        load_configs(path)
    assert "54170001" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_plug_ins_load_from_files(plug: Plug, tmp_path: Path) -> None:
    plug("good", run={"good": "good:GoodRunBackend"}, config={"good": "good:GoodConfig"})
    config = load_config(write(tmp_path / "a.yml", "type: good\nqueue: long\n"))
    assert config.type == "good"
    with pytest.raises(ConfigError, match=r"a\.yml:2"):
        load_config(write(tmp_path / "a.yml", "type: good\nqueue: 7\n"))

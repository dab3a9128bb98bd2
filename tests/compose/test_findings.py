"""What a person reads when a request is wrong: every finding at once, with key, value, rule, place and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.errors import ConfigError, Finding


def findings(
    *overrides: str, config_dirs: tuple[str, ...] = (), environ: dict[str, str] | None = None
) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        to_plan(
            compose_command(overrides, find_sources(config_dirs, environ=environ or {}), environ=environ or {}),
            cwd=Path("/x"),
        )
    return list(caught.value.findings)


def repository(tmp_path: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path / "conf")


def test_three_typos_and_two_bad_values_are_five_findings() -> None:
    found = {
        f.key: f
        for f in findings(
            "model=command",
            "bakend=docker",
            "env=prodution",
            "backend.tmeout=60",
            "backend.timeout=5",
            "resources.memory=plenty",
        )
    }
    assert set(found) == {"bakend", "env", "backend.tmeout", "backend.timeout", "resources.memory"}
    assert found["bakend"].mend == "did you mean 'backend'?"
    assert found["env"].mend == "did you mean 'production'?"
    assert found["backend.tmeout"].mend == "did you mean 'backend.timeout'?"
    assert found["backend.timeout"].value == "5"
    assert "60" in found["backend.timeout"].rule
    assert found["resources.memory"].value == "'plenty'"
    for key, finding in found.items():
        assert key in (finding.where or "")


def test_nobody_is_ever_told_to_use_a_plus() -> None:
    assert "+" not in "".join(str(f) for f in findings("model=command", "backend.cpuu=4", "moodel=x"))


def test_a_bad_value_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    conf = repository(
        tmp_path,
        {"backend/mine.yaml": "defaults:\n  - /packaged/backend/local\n  - _self_\n\n# a comment\ntimeout: 30\n"},
    )
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert finding.key == "backend.timeout"
    assert finding.where == f"{conf}/backend/mine.yaml:6"


def test_a_number_in_a_string_map_of_a_file_is_told_to_be_quoted(tmp_path: Path) -> None:
    conf = repository(
        tmp_path,
        {"backend/mine.yaml": "defaults: [/packaged/backend/local, _self_]\nenv_vars:\n  N: 4\n"},
    )
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert "quote it: '4'" in finding.rule
    assert finding.where == f"{conf}/backend/mine.yaml:3"


def test_an_error_inside_an_interpolation_names_key_expression_and_line(tmp_path: Path) -> None:
    conf = repository(
        tmp_path,
        {"backend/mine.yaml": "defaults: [/packaged/backend/docker, _self_]\nimage: x\ncpu: ${resources.cpuss}\n"},
    )
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert (finding.key, finding.value) == ("backend.cpu", "${resources.cpuss}")
    assert finding.where == f"{conf}/backend/mine.yaml:3"
    assert finding.mend == "did you mean 'resources.cpus'?"


def test_a_missing_environment_variable_is_named_with_its_mend() -> None:
    (finding,) = findings("model=command", "output_dir=${oc.env:NOT_THERE}")
    assert "NOT_THERE" in finding.rule
    assert finding.mend is not None
    assert "set NOT_THERE" in finding.mend


def test_malformed_yaml_names_file_line_and_column(tmp_path: Path) -> None:
    conf = repository(tmp_path, {"backend/mine.yaml": "timeout: 60\nenv_vars: [1\n"})
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert finding.where == f"{conf}/backend/mine.yaml:3:1"


def test_a_duplicate_key_names_the_file(tmp_path: Path) -> None:
    conf = repository(tmp_path, {"backend/mine.yaml": "timeout: 60\ntimeout: 70\n"})
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert "timeout" in finding.rule
    assert f"{conf}/backend/mine.yaml:2" in (finding.where or "")


def test_a_missing_default_names_the_file_that_asks_for_it(tmp_path: Path) -> None:
    conf = repository(tmp_path, {"backend/mine.yaml": "defaults: [/packaged/backend/loca, _self_]\n"})
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert finding.where == f"{conf}/backend/mine.yaml:1"
    assert finding.mend == "did you mean 'local'?"


def test_an_unknown_model_lists_the_known_ones() -> None:
    (finding,) = findings("model=swam")
    assert "command" in (finding.mend or "")
    assert "veros_acc" in (finding.mend or "")


def test_an_unknown_key_in_a_file_has_its_line_and_a_hint(tmp_path: Path) -> None:
    conf = repository(tmp_path, {"backend/mine.yaml": "defaults: [/packaged/backend/local, _self_]\n\ntimeuot: 60\n"})
    (finding,) = findings("model=command", "backend=mine", config_dirs=(conf,))
    assert finding.key == "backend.timeuot"
    assert "did you mean 'timeout'" in finding.rule
    assert finding.where == f"{conf}/backend/mine.yaml:3"


def test_a_parameter_of_a_template_is_typed_and_bounded() -> None:
    keys = [f.key for f in findings("model.parameters.wind_stress=strong", "model.parameters.run_length=-1d")]
    assert sorted(keys) == ["model.parameters.run_length", "model.parameters.wind_stress"]


def test_a_misspelt_parameter_is_found_by_its_key() -> None:
    (finding,) = findings("model.parameters.wnd_stress=0.2")
    assert finding.mend == "did you mean 'model.parameters.wind_stress'?"


def test_a_mandatory_value_must_be_given(tmp_path: Path) -> None:
    conf = repository(tmp_path, {"model/mine.yaml": "defaults: [/schema/model, _self_]\nname: mine\ncommand: ???\n"})
    (finding,) = findings("model=mine", config_dirs=(conf,))
    assert (finding.key, finding.where) == ("model.command", f"{conf}/model/mine.yaml:3")
    assert finding.mend == "add model.command=VALUE"


@pytest.mark.parametrize("override", ["a=[1", "=3", "a b", "backend.command='x", "x={a:1"])
def test_what_is_no_override_is_quoted_with_a_mend(override: str) -> None:
    (finding,) = findings("model=command", override)
    assert override in (finding.where or "")
    assert "key=value" in (finding.mend or "")


def test_several_values_without_m_are_told_how_to_sweep() -> None:
    (finding,) = findings("model=command", "resources.threads=1,2")
    assert "-m" in (finding.mend or "")


def test_a_secret_typed_on_the_command_line_is_in_no_finding() -> None:
    text = "".join(
        str(f) for f in findings("model=command", "backend.env_vars.API_KEY.x=canary-1", "backend.pasword=canary-2")
    )
    assert "canary-1" not in text


@pytest.mark.parametrize("path", ["/does/not/exist", "typo"])
def test_a_config_directory_that_is_not_there_is_an_error(path: str) -> None:
    (finding,) = findings("model=command", config_dirs=(path,))
    assert finding.key == "--config-dir"


def test_an_interpolation_in_a_text_field_that_leads_nowhere_is_one_finding() -> None:
    (finding,) = findings("model=command", "run_id='a${b}'")
    assert (finding.key, finding.value) == ("run_id", "a${b}")


def test_null_is_no_option_of_a_group() -> None:
    (finding,) = findings("model=null")
    assert "veros_acc" in (finding.mend or "")
    assert "~model" in (finding.mend or "")

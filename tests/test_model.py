"""`ModelRun`, the seed's API: a real bool comes back, the record holds the rest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import DockerConfig, LocalConfig, ModelRun
from rompy_hydra.errors import ConfigError, MissingToolError, RecordError
from rompy_hydra.record.states import RunState

HELLO = {"name": "hello", "command": "echo hello > hello.txt"}


def test_run_answers_a_real_bool(tmp_path: Path) -> None:
    good = ModelRun(run_id="good", output_dir=tmp_path, model=HELLO)
    bad = ModelRun(run_id="bad", output_dir=tmp_path, model={"name": "bad", "command": "exit 3"})
    assert good.run(backend=LocalConfig(timeout=3600)) is True
    assert bad.run(backend=LocalConfig(timeout=3600)) is False
    assert bad.record is not None
    assert (bad.record.state, bad.record.data["exit_code"]) == (RunState.FAILED, 3)
    assert (tmp_path / "good" / "hello.txt").read_text() == "hello\n"


def test_the_backend_s_command_replaces_the_model_s(tmp_path: Path) -> None:
    run = ModelRun(run_id="r", output_dir=tmp_path, model=HELLO)
    assert run.run(backend=LocalConfig(command="echo other > other.txt"))
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"other.txt", "run.json", "logs", ".source"}


def test_the_configuration_s_own_backend_class_runs_a_model_as_the_seed_shows(tmp_path: Path) -> None:
    config = LocalConfig(timeout=600, command="echo 'test'")
    backend = config.get_backend_class()()
    assert backend.run(ModelRun(run_id="r", output_dir=tmp_path, model=HELLO), config) is True


def test_run_id_and_output_dir_are_what_was_given(tmp_path: Path) -> None:
    run = ModelRun(run_id="r", output_dir=tmp_path, model=HELLO)
    assert (run.run_id, Path(run.output_dir)) == ("r", tmp_path)


def test_from_file_reads_yaml_and_json(tmp_path: Path) -> None:
    text = {
        "run_id": "r",
        "output_dir": str(tmp_path / "out"),
        "model": HELLO,
        "backend": {"type": "local", "timeout": 60},
    }
    (tmp_path / "run.json").write_text(json.dumps(text))
    (tmp_path / "run.yml").write_text(
        f"run_id: s\noutput_dir: {tmp_path}/out\nmodel: {{name: hello, command: 'true'}}\n"
    )
    assert ModelRun.from_file(tmp_path / "run.json").run() is True
    assert ModelRun.from_file(str(tmp_path / "run.yml")).run() is True
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["r", "s"]


def test_from_file_names_the_file_and_every_finding(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text("run_id: ../x\nmodel: {name: hello, comand: 'true'}\nbackend: {type: local, timeout: 5}\n")
    with pytest.raises(ConfigError) as caught:
        ModelRun.from_file(path)
    assert {f.key for f in caught.value.findings} == {"run_id", "model.comand", "backend.timeout"}
    assert str(path) in str(caught.value)
    assert "did you mean 'command'" in str(caught.value)


def test_from_file_names_line_and_column_of_malformed_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text("run_id: r\nmodel: [\n")
    with pytest.raises(ConfigError, match=f"{path}:3:1"):
        ModelRun.from_file(path)


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small template in the current directory's repository."""
    workspace = tmp_path / "templates" / "tide" / "workspace"
    workspace.mkdir(parents=True)
    (workspace.parent / "template.yaml").write_text(
        "parameters:\n  amplitude: {type: float, default: 1.5, ge: 0, units: m}\nmodel:\n  command: [cat, tide.txt]\n"
    )
    (workspace / "tide.txt.j2").write_text("amplitude {{ parameters.amplitude }}\n")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return workspace


def test_generate_renders_the_workspace_and_is_idempotent(template: Path, tmp_path: Path) -> None:
    run = ModelRun(run_id="r", output_dir=tmp_path / "out", model={"template": "tide", "parameters": {"amplitude": 2}})
    directory = Path(run.generate())
    before = (directory / "tide.txt").stat().st_mtime_ns
    assert (directory / "tide.txt").read_text() == "amplitude 2.0\n"
    assert Path(run.generate()) == directory
    assert (directory / "tide.txt").stat().st_mtime_ns == before
    assert run.run() is True
    assert (directory / "logs" / "stdout.log").read_text() == "amplitude 2.0\n"


def test_generated_files_are_no_outputs(template: Path, tmp_path: Path) -> None:
    run = ModelRun(run_id="r", output_dir=tmp_path / "out", model="tide")
    run.generate()
    assert run.run(backend=LocalConfig(command="cp tide.txt result.txt"))
    assert run.record is not None
    assert [o["path"] for o in run.record.data["outputs"]] == ["result.txt"]


def test_a_workspace_made_elsewhere_can_be_run(template: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tide.txt").write_text("by hand\n")
    run = ModelRun(run_id="r", output_dir=tmp_path / "out", model="tide")
    assert run.run(workspace_dir=elsewhere)
    assert (tmp_path / "out" / "r" / "logs" / "stdout.log").read_text() == "by hand\n"


def test_an_unknown_template_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="veros_acc"):
        ModelRun(run_id="r", output_dir=tmp_path, model="veros_ac")


def test_a_wrong_parameter_is_refused_before_anything_is_written(template: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="amplitude"):
        ModelRun(run_id="r", output_dir=tmp_path / "out", model={"template": "tide", "parameters": {"amplitude": -1}})
    assert not (tmp_path / "out").exists()


class Model:
    """A model object: its `run` happens in a child process."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.seen: list[int] = []

    def run(self) -> Any:
        print("printed by", os.getpid())
        self.seen.append(os.getpid())
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "good"), [(None, True), (True, True), (False, False), (ValueError("no wind"), False)]
)
def test_a_model_object_runs_in_a_child_process_of_its_own(tmp_path: Path, answer: Any, good: bool) -> None:
    model = Model(answer)
    run = ModelRun(run_id="r", output_dir=tmp_path, model=model)
    assert run.run() is good
    assert model.seen == []
    pid = int((tmp_path / "r" / "logs" / "stdout.log").read_text().split()[-1])
    assert pid != os.getpid()
    if isinstance(answer, ValueError):
        assert "ValueError: no wind" in run.status()["reason"]


def test_a_model_object_may_want_the_model_run_as_rompy_s_do(tmp_path: Path) -> None:
    class WithRun:
        def run(self, model_run: ModelRun) -> bool:
            (Path(model_run.output_dir) / model_run.run_id / "made").write_text("x")
            return True

    assert ModelRun(run_id="r", output_dir=tmp_path, model=WithRun()).run() is True
    assert (tmp_path / "r" / "made").exists()


def test_an_object_without_run_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\(\) method"):
        ModelRun(run_id="r", output_dir=tmp_path, model=object())


def test_an_impossible_request_is_an_error_and_no_false(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="no-such-program"):
        ModelRun(run_id="r", output_dir=tmp_path, model={"name": "x", "command": ["no-such-program"]}).run()
    with pytest.raises(ConfigError, match="command"):
        ModelRun(run_id="r", output_dir=tmp_path).run()
    assert list(tmp_path.iterdir()) == []


def test_postprocess_takes_a_name_a_class_and_an_object(tmp_path: Path) -> None:
    class Count:
        def process(self, model_run: Any, **options: Any) -> dict[str, Any]:
            return {
                "success": True,
                "files": len(list((Path(model_run.output_dir) / model_run.run_id).iterdir())),
                **options,
            }

    run = ModelRun(run_id="r", output_dir=tmp_path, model=HELLO)
    run.run()
    assert run.postprocess()["success"] is True
    assert run.postprocess(processor="noop")["output_dir"] == str(tmp_path / "r")
    assert run.postprocess(processor=Count, depth=1) == {"success": True, "files": 4, "depth": 1}
    assert run.postprocess(processor=Count())["success"] is True
    with pytest.raises(ConfigError, match="noop"):
        run.postprocess(processor="nop")


def test_the_status_of_a_run_that_was_not_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not been started"):
        ModelRun(run_id="r", output_dir=tmp_path, model=HELLO).status()


def test_a_refused_assignment_leaves_a_configuration_as_it_was() -> None:
    config = LocalConfig(timeout=3600)
    with pytest.raises(ValueError, match="60"):
        config.timeout = 5
    assert config.timeout == 3600
    config.timeout = 7200
    assert config.timeout == 7200


def test_credentials_are_in_no_repr() -> None:
    config = DockerConfig(image="x", env_vars={"API_KEY": "canary"}, build_args={})
    assert "canary" not in repr(config) + str(config)

"""Plug-ins at work: from Python, on the command line, in files; how seed-style backends end, and what is told of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import LocalConfig, ModelRun
from rompy_hydra.backends import BaseBackendConfig, registry
from rompy_hydra.cli import main
from rompy_hydra.errors import ConfigError
from rompy_hydra.record.states import RunState
from rompy_hydra.run import LocalRunBackend
from tests.backends import plugin_kit
from tests.backends.conftest import Plug

TIDE = {"name": "tide", "command": "echo 3.2 > tide.txt"}


@pytest.fixture
def good(plug: Plug) -> None:
    plug(
        "good",
        run={"good": "good:GoodRunBackend"},
        config={"good": "good:GoodConfig"},
        postprocess={"count": "good:Count"},
    )


@pytest.fixture
def seedy(plug: Plug) -> None:
    plug("seedy", plugin_kit.SEED_STYLE, root="rompy", run={"seedy": "seedy:SeedRunBackend"})


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "run.json").read_text())
    return found


# -- from Python -------------------------------------------------------------------------------------------------


def test_a_plug_in_runs_from_python(good: None, tmp_path: Path) -> None:
    run = ModelRun("r", tmp_path, model=TIDE)
    assert run.run(backend=registry.config_class("good").model_validate({"queue": "long"})) is True
    assert (tmp_path / "r" / "queue.txt").read_text() == "long"
    assert (tmp_path / "r" / "logs" / "stdout.log").read_text() == "good ran r\n"
    told = run.status()
    assert (told["state"], told["backend"], told["exit_code"]) == ("succeeded", "good", 0)
    assert [output["path"] for output in told["outputs"]] == ["queue.txt"]


def test_a_mapping_names_a_plug_in_by_its_type(good: None, tmp_path: Path) -> None:
    run = ModelRun("r", tmp_path, model=TIDE, backend={"type": "good", "queue": "gpu"})
    assert run.run() is True
    assert (tmp_path / "r" / "queue.txt").read_text() == "gpu"
    with pytest.raises(ConfigError, match="did you mean 'queue'"):
        ModelRun("s", tmp_path, model=TIDE, backend={"type": "good", "qeue": "gpu"})


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        ("yes", RunState.SUCCEEDED, ""),
        ("no", RunState.FAILED, "SeedRunBackend.run returned False"),
        ("none", RunState.FAILED, "SeedRunBackend.run returned None, where a backend answers True or False"),
        ("raise", RunState.FAILED, "RuntimeError: no node would have it"),
    ],
)
def test_what_a_seed_style_backend_answers_is_the_run_s_end(
    seedy: None, tmp_path: Path, answer: str, state: RunState, reason: str
) -> None:
    run = ModelRun("r", tmp_path, model=TIDE)
    config = registry.config_class("seedy")(env_vars={"ANSWER": answer})
    assert run.run(backend=config) is (state is RunState.SUCCEEDED)
    assert run.record is not None
    assert run.record.state is state
    assert reason in run.record.data["reason"]
    assert int((tmp_path / "r" / "pid").read_text()) != os.getpid()
    log = (tmp_path / "r" / "logs" / "stderr.log").read_text()
    assert "INFO seedy: asked to run r" in log
    assert ("Traceback" in log) == (answer == "raise")


def test_a_seed_style_backend_is_timed_out(seedy: None, tmp_path: Path) -> None:
    run = ModelRun("r", tmp_path, model=TIDE, resources={"time_limit": "1s"})
    began = time.monotonic()
    assert run.run(backend=registry.config_class("seedy")(env_vars={"ANSWER": "sleep"})) is False
    assert time.monotonic() - began < 30
    assert run.record is not None
    assert run.record.state is RunState.TIMED_OUT


def test_a_backend_that_the_caller_defined_runs_without_any_entry_point(tmp_path: Path) -> None:
    class HereBackend:
        def run(self, model_run: ModelRun, config: BaseBackendConfig, workspace_dir: str | None = None) -> bool:
            assert workspace_dir == str(model_run.run_dir) == model_run.generate()
            (Path(workspace_dir) / "seen").write_text(f"{type(model_run).__name__} {config.type}")
            return True

    class HereConfig(BaseBackendConfig):
        def get_backend_class(self) -> type[Any]:
            return HereBackend

    run = ModelRun("r", tmp_path, model=TIDE, on_existing="new")
    assert run.run(backend=HereConfig()) is True
    assert run.run(backend=HereConfig()) is True
    assert (tmp_path / "r" / "seen").read_text() == "ModelRun here"
    assert (tmp_path / "r-2" / "seen").exists()


def test_a_configuration_whose_class_cannot_be_had_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    class LostConfig(BaseBackendConfig):
        def get_backend_class(self) -> type[Any]:
            import no_such_package  # type: ignore[import-not-found]

            return no_such_package.Backend  # type: ignore[no-any-return]

    with pytest.raises(ConfigError, match="no_such_package"):
        ModelRun("r", tmp_path / "runs", model=TIDE).run(backend=LostConfig())
    assert not (tmp_path / "runs").exists()


# -- our own backends, by the seed's method ----------------------------------------------------------------------


def test_our_own_backend_class_runs_a_stranger_s_run(tmp_path: Path) -> None:
    class Config:
        def run(self, model_run: Any) -> bool:
            Path("by_config").write_text(model_run.run_id)
            return True

    class Stranger:
        run_id = "stranger"
        output_dir = tmp_path
        config = Config()

        def generate(self) -> str:
            (tmp_path / "made").mkdir()
            return str(tmp_path / "made")

    assert LocalRunBackend().run(Stranger(), LocalConfig()) is True
    assert (tmp_path / "made" / "by_config").read_text() == "stranger"
    assert LocalRunBackend().run(ModelRun("ours", tmp_path, model=TIDE), LocalConfig()) is True


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="model_run cannot be None"):
        LocalRunBackend().run(None, LocalConfig())
    with pytest.raises(ValueError, match="model_run must have a run_id attribute"):
        LocalRunBackend().run(object(), LocalConfig())


# -- on the command line and in files ----------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["backend=good", "backend.type=good"])
def test_a_plug_in_is_chosen_on_the_command_line(good: None, choice: str, tmp_path: Path) -> None:
    assert main(["run", "model=command", choice, "backend.queue=007", "run_id=r", "output_dir=runs"]) == 0
    assert (tmp_path / "runs" / "r" / "queue.txt").read_text() == "007"
    assert record(tmp_path / "runs" / "r")["backend"] == "good"


def test_the_command_line_wins_over_the_backend_of_an_environment(good: None, tmp_path: Path) -> None:
    assert main(["run", "model=command", "env=staging", "backend.type=good", "run_id=r", "resources.memory=null"]) == 0
    assert record(tmp_path / "runs" / "r")["backend"] == "good"


def test_the_type_of_a_built_in_chooses_its_option_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model=command", "backend.type=docker", "backend.cpu=3", "--cfg", "job", "-p", "backend"]) == 0
    out = capsys.readouterr().out
    assert "type: docker" in out
    assert "image: ${model.image}" in out
    assert "cpu: 3" in out


def test_a_plug_in_is_chosen_in_a_file(good: None, tmp_path: Path) -> None:
    backend = tmp_path / "conf" / "backend"
    backend.mkdir(parents=True)
    (backend / "short.yaml").write_text("type: good\nqueue: from-file\n")
    (backend / "gpu.yaml").write_text("defaults: [/schema/backend/good, _self_]\nqueue: gpu\n")
    (backend / "good.yaml").write_text("defaults: [/schema/backend/good, _self_]\nqueue: mine\n")
    for option, queue in (("short", "from-file"), ("gpu", "gpu"), ("good", "mine")):
        assert main(["run", "model=command", f"backend={option}", f"run_id={option}"]) == 0
        assert (tmp_path / "runs" / option / "queue.txt").read_text() == queue
    assert main(["run", "model=command", "backend.type=good", "run_id=typed"]) == 0
    assert (tmp_path / "runs" / "typed" / "queue.txt").read_text() == "mine"


def test_findings_of_a_plug_in_s_configuration_are_told_as_all_are(
    good: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["run", "model=command", "backend=good", "backend.qeue=x", "backend.timeout=5"]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'backend.queue'" in told
    assert "greater than or equal to 60" in told
    assert main(["run", "model=command", "backend.type=goood"]) == 2
    assert "did you mean 'good'" in capsys.readouterr().err
    assert main(["run", "model=command", "backend=goood"]) == 2
    assert "did you mean 'good'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_broken_plug_in_does_not_keep_others_from_running(plug: Plug, capsys: pytest.CaptureFixture[str]) -> None:
    plug("bad-moon", plugin_kit.BROKEN, run={"moon": "bad_moon:Run"})
    assert main(["run", "model=command", "backend.command=true", "run_id=r"]) == 0
    for choice in ("backend=moon", "backend.type=moon"):
        assert main(["run", "model=command", choice, "run_id=s"]) == 2
        told = capsys.readouterr().err
        assert "bad-moon 1.0" in told
        assert "libmoon.so.3 is not there" in told


def test_a_seed_style_backend_is_swept(seedy: None, tmp_path: Path) -> None:
    words = ["run", "-m", "model=command", "backend=seedy", "backend.env_vars.ANSWER=yes,no,raise"]
    assert main([*words, "hydra.sweep.dir=sweep"]) == 1
    found = {path.parent: record(path.parent) for path in (tmp_path / "sweep").rglob("run.json")}
    assert sorted(data["state"] for data in found.values()) == ["failed", "failed", "succeeded"]
    assert {"RuntimeError: no node would have it"} < {data["reason"] for data in found.values()}


# -- from wheels, in a driver that is interrupted -----------------------------------------------------------------


@pytest.fixture(scope="session")
def site_of_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three third-party wheels, installed by pip: a good one, a seed-style one, one that raises at import."""
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    made = [
        plugin_kit.make_wheel(
            wheels,
            "good",
            {"good.py": plugin_kit.GOOD},
            {
                "rompy_hydra.run": {"good": "good:GoodRunBackend"},
                "rompy_hydra.config": {"good": "good:GoodConfig"},
                "rompy_hydra.postprocess": {"count": "good:Count"},
            },
        ),
        plugin_kit.make_wheel(
            wheels, "seedy", {"seedy.py": plugin_kit.SEED_STYLE}, {"rompy.run": {"seedy": "seedy:SeedRunBackend"}}
        ),
        plugin_kit.make_wheel(
            wheels, "bad-moon", {"bad_moon.py": plugin_kit.BROKEN}, {"rompy_hydra.run": {"moon": "bad_moon:Run"}}
        ),
    ]
    plugin_kit.pip_install(site, *made)
    return site


def driver(site: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "rompy_hydra", *words]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_three_wheels_are_listed_and_used(site_of_three: Path, tmp_path: Path) -> None:
    listed = driver(site_of_three, "backends", "list", "--json")
    rows = {row["type"]: row for row in json.loads(listed.communicate(timeout=60)[0])}
    assert rows["good"]["package"] == "good 1.0"
    assert rows["seedy"]["package"] == "seedy 1.0"
    assert "libmoon.so.3" in rows["moon"]["problem"]
    ran = driver(site_of_three, "run", "model=command", "backend.type=seedy", "run_id=r", "postprocess.processor=count")
    out, err = ran.communicate(timeout=60)
    assert ran.returncode == 0, err
    assert record(tmp_path / "runs" / "r")["postprocess"]["success"] is True
    assert "seedy" in out


def test_ctrl_c_ends_a_seed_style_backend_and_is_recorded(site_of_three: Path, tmp_path: Path) -> None:
    words = ["model=command", "backend=seedy", "backend.env_vars.ANSWER=sleep", "run_id=r"]
    running = driver(site_of_three, "run", *words, start_new_session=True)
    pid = tmp_path / "runs" / "r" / "pid"
    deadline = time.monotonic() + 60
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline, running.communicate()
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert record(tmp_path / "runs" / "r")["state"] == "cancelled"
    assert not Path(f"/proc/{pid.read_text()}").exists()


# -- cleaning up after a failure, only if asked -------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True])
def test_a_failed_run_s_outputs_are_removed_only_if_asked(tmp_path: Path, asked: bool) -> None:
    (tmp_path / "precious.nc").write_text("not the run's")
    workspace = tmp_path / "templates" / "tide" / "workspace"
    workspace.mkdir(parents=True)
    (workspace.parent / "template.yaml").write_text("model: {command: [sh, run.sh]}\n")
    (workspace / "run.sh").write_text(
        "mkdir -p a/b; echo x > a/b/c; echo y > d; echo '#' >> run.sh; ln -s ../../precious.nc l; exit 3"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    run = ModelRun("r", tmp_path / "runs", model="tide", on_failure="remove_outputs" if asked else "keep")
    assert run.run() is False
    left = {path.relative_to(run.run_dir).as_posix() for path in run.run_dir.rglob("*") if not path.is_dir()}
    always = {"run.sh", "l", "run.json", "logs/stdout.log", "logs/stderr.log", ".source/snapshot.tar.gz"}
    assert left == (always if asked else always | {"a/b/c", "d"})
    assert (run.run_dir / "a").exists() is not asked
    assert (tmp_path / "precious.nc").read_text() == "not the run's"
    told = record(run.run_dir)
    assert any("2 files" in note for note in told["notes"]) is asked
    assert told["exit_code"] == 3


def test_a_run_that_succeeds_keeps_its_outputs(tmp_path: Path) -> None:
    run = ModelRun("r", tmp_path / "runs", model=TIDE, on_failure="remove_outputs")
    assert run.run() is True
    assert (run.run_dir / "tide.txt").exists()


def test_ctrl_c_in_a_sweep_of_a_seed_style_backend_ends_what_runs(site_of_three: Path, tmp_path: Path) -> None:
    words = ["model=command", "backend.type=seedy", "backend.env_vars.ANSWER=sleep", "vars.n=range(0,20)"]
    running = driver(site_of_three, "run", "-m", *words, "hydra.sweep.dir=sweep", start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(path.read_text() for path in (tmp_path / "sweep").rglob("pid")):
        assert time.monotonic() < deadline, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, out + err
    states = [record(path.parent)["state"] for path in (tmp_path / "sweep").rglob("run.json")]
    assert 1 <= len(states) < 20
    assert set(states) == {"cancelled"}
    for path in (tmp_path / "sweep").rglob("pid"):
        assert not Path(f"/proc/{path.read_text()}").exists()


def test_a_dry_run_of_a_plug_in_starts_nothing(good: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--dry-run", "model=command", "backend=good", "run_id=r"]) == 0
    assert "opaque: the plug-in 'good' decides what is started" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()

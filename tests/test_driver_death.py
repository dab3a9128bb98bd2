"""What becomes of a run when its driver or its keeper dies, as a matrix: signal × stage.

Each stage is held open by something real: a declaration that is a pipe nobody writes to, a template that takes
for ever to render, a command and a check that wait for a file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WAIT = "while ! test -e go; do sleep 0.05; done"
STAGES = ("composing", "generating", "running", "collecting", "postprocessing")
# What a person sees as the exit code of a process that a signal ended.
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: 137}


SLOW_PROCESSOR = """
import pathlib, time

class Slow:
    def process(self, model_run, **options):
        (pathlib.Path(model_run.output_dir) / model_run.run_id / "at").touch()
        time.sleep(300)
        return {"success": True}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    conf, template = tmp_path / "conf", tmp_path / "templates" / "slow"
    (conf / "model").mkdir(parents=True)
    (tmp_path / "templates" / "pipe").mkdir(parents=True)
    (template / "workspace").mkdir(parents=True)
    os.mkfifo(tmp_path / "templates" / "pipe" / "template.yaml")
    (conf / "model" / "pipe.yaml").write_text("defaults: [/template/pipe, _self_]\n")
    (template / "template.yaml").write_text("model: {command: 'true'}\n")
    (template / "workspace" / "in.txt.j2").write_text("{% for i in range(10 ** 9) %}{% endfor %}\n")
    (tmp_path / "slow_processor.py").write_text(SLOW_PROCESSOR)
    (conf / "model" / "slow.yaml").write_text("defaults: [/template/slow, _self_]\n")
    return tmp_path


def words(stage: str) -> list[str]:
    here = ["output_dir=out", "run_id=r"]
    return {
        "composing": ["model=pipe", *here],
        "generating": ["model=slow", *here],
        "running": ["model=command", f"backend.command='touch at; {WAIT}; echo x >> ran'", *here],
        "collecting": [
            "model=command", "backend.command='echo x >> ran'", f"model.success.check='touch at; {WAIT}'", *here,
        ],
        "postprocessing": [
            "model=command", "backend.command='echo x >> ran'", "postprocess.processor='slow_processor:Slow'", *here,
        ],
    }[stage]  # fmt: skip


class Driver:
    """`rompy-hydra run`, held at a stage."""

    def __init__(self, stage: str, where: Path) -> None:
        self.where = where
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rompy_hydra", "run", *words(stage)],
            cwd=where, env={**os.environ, "PYTHONPATH": str(where)}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  # the tests may run under nohup
        )  # fmt: skip
        self._reach(stage)

    def _reach(self, stage: str) -> None:
        if stage in ("running", "collecting", "postprocessing"):
            until((self.run / "at").exists)
        elif stage == "composing":
            until(self._reads_the_pipe)
            time.sleep(0.3)  # from open() into read(): a signal in between is Python's to keep until the read is over
        else:
            until(lambda: self._cpu_seconds() > 1.5)  # composing takes a third of a second: this is the rendering

    def _reads_the_pipe(self) -> bool:
        try:
            self._writer = os.open(self.where / "templates" / "pipe" / "template.yaml", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: nobody has opened it for reading yet
            return False
        return True

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def run(self) -> Path:
        return self.where / "out" / "r"

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.run / "run.json").read_text()))

    def status(self) -> dict[str, Any]:
        told = subprocess.run(
            [sys.executable, "-m", "rompy_hydra", "status", "out/r", "--json"],
            cwd=self.where, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return dict(json.loads(told.stdout))

    def end(self) -> int:
        out, err = self.process.communicate(timeout=60)
        assert "Traceback" not in out + err
        code = self.process.returncode
        return 128 - code if code < 0 else code


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def nothing_runs(where: Path) -> bool:
    """Whether no process is left that works in this test's directory."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = (entry / "cwd").readlink().is_relative_to(where)
            except OSError:  # it has ended, or is a zombie that nobody here reaps
                continue
            if inside:
                return False
    return True


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("stage", STAGES[:2])
def test_before_the_start_nothing_is_left(repository: Path, stage: str, number: signal.Signals) -> None:
    driver = Driver(stage, repository)
    driver.process.send_signal(number)
    assert driver.end() == CODES[number]
    assert not (repository / "out").exists()
    until(lambda: nothing_runs(repository))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("stage", STAGES[2:4])
def test_an_interrupted_run_is_cancelled_and_gone(repository: Path, stage: str, number: signal.Signals) -> None:
    driver = Driver(stage, repository)
    driver.process.send_signal(number)
    assert driver.end() == CODES[number]
    assert driver.record()["state"] == "cancelled"
    until(lambda: nothing_runs(repository))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("stage", STAGES[2:4])
def test_a_run_goes_on_without_its_driver_and_its_end_is_recorded(
    repository: Path, stage: str, number: signal.Signals
) -> None:
    driver = Driver(stage, repository)
    driver.process.send_signal(number)
    assert driver.end() == CODES[number]
    assert driver.status()["state"] == "running"
    (driver.run / "go").touch()
    until(lambda: driver.record()["state"] == "succeeded")
    assert (driver.run / "ran").read_text() == "x\n"
    until(lambda: nothing_runs(repository))


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_death_while_postprocessing_leaves_a_run_that_succeeded(repository: Path, number: signal.Signals) -> None:
    driver = Driver("postprocessing", repository)
    driver.process.send_signal(number)
    assert driver.end() == CODES[number]
    status = driver.status()
    assert status["state"] == "succeeded"
    assert status.get("postprocess", {}).get("success") is not True
    until(lambda: nothing_runs(repository))


@pytest.mark.parametrize("stage", STAGES[2:4])
def test_a_killed_keeper_leaves_a_lost_run_and_no_process(repository: Path, stage: str) -> None:
    driver = Driver(stage, repository)
    os.kill(driver.record()["watcher"]["pid"], signal.SIGKILL)
    assert driver.end() == 1
    record = driver.record()
    assert record["state"] == "lost"
    assert "keeper" in record["reason"]
    until(lambda: nothing_runs(repository))


@pytest.mark.parametrize("stage", STAGES[2:4])
def test_when_driver_and_keeper_die_status_says_lost(repository: Path, stage: str) -> None:
    driver = Driver(stage, repository)
    keeper = driver.record()["watcher"]["pid"]
    driver.process.kill()
    driver.end()
    os.kill(keeper, signal.SIGKILL)
    until(lambda: driver.status()["state"] == "lost")
    until(lambda: nothing_runs(repository))

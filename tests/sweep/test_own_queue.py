"""A queue of our own inside an allocation: tasks are packed onto its nodes, started by the launcher, and ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rompy_hydra.errors import MissingToolError
from rompy_hydra.sweep.allocation import Allocation, Node
from rompy_hydra.sweeping.own_queue import OwnQueue
from tests.sweep.commands import until

TWO_NODES = Allocation("pbs", "1", (Node("node-a", 4), Node("node-b", 2)))


@pytest.fixture
def launcher(tmp_path: Path) -> list[str]:
    """Stands for ssh or pbsdsh: notes the node, and runs the command here."""
    program = tmp_path / "on"
    program.write_text(f'#!/bin/sh\necho "$1" >> "{tmp_path}/nodes"\nshift\nexec "$@"\n')
    program.chmod(0o755)
    return [str(program), "{host}"]


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job script.sh"
    path.write_text(text)
    return path


def finish(queue: OwnQueue) -> None:
    until(lambda: not queue.queue())


def test_every_task_runs_once_with_its_number(tmp_path: Path, launcher: list[str]) -> None:
    queue = OwnQueue(TWO_NODES, launcher)
    job = queue.put(script(tmp_path, f"echo $SLURM_ARRAY_TASK_ID >> '{tmp_path}/ran'"), tasks=20, cpus=1, comment="c")
    assert job < 0
    finish(queue)
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(20))
    assert set((tmp_path / "nodes").read_text().split()) == {"node-a", "node-b"}


def test_no_node_gets_more_than_it_has(tmp_path: Path, launcher: list[str]) -> None:
    queue = OwnQueue(TWO_NODES, launcher)
    wait = f"while ! test -e '{tmp_path}/go'; do sleep 0.02; done"
    queue.put(script(tmp_path, wait), tasks=5, cpus=2, comment="c")
    states = [entry.state for entry in queue.queue()]
    assert sorted(states) == ["PENDING"] * 2 + ["RUNNING"] * 3
    until(lambda: (tmp_path / "nodes").exists() and len((tmp_path / "nodes").read_text().split()) == 3)
    assert sorted((tmp_path / "nodes").read_text().split()) == ["node-a", "node-a", "node-b"]
    (tmp_path / "go").touch()
    finish(queue)
    assert len((tmp_path / "nodes").read_text().split()) == 5


def test_what_is_cancelled_does_not_start_and_what_runs_is_told(tmp_path: Path, launcher: list[str]) -> None:
    queue = OwnQueue(Allocation("lsf", "1", (Node("node-a", 1),)), launcher)
    loop = f"trap 'touch {tmp_path}/told; exit' TERM; touch {tmp_path}/began; while :; do sleep 0.05; done"
    job = queue.put(script(tmp_path, loop), tasks=3, cpus=1, comment="c")
    until((tmp_path / "began").exists)
    queue.cancel([f"{job}_[1-2]"])
    assert [(entry.task, entry.state) for entry in queue.queue()] == [(0, "RUNNING")]
    queue.cancel([f"{job}_0"])
    finish(queue)
    assert (tmp_path / "told").exists()


def test_a_job_is_found_by_its_comment(tmp_path: Path, launcher: list[str]) -> None:
    queue = OwnQueue(TWO_NODES, launcher)
    job = queue.put(script(tmp_path, "sleep 0.2"), tasks=1, cpus=1, comment="rompy-hydra:abc")
    assert [entry.array_id for entry in queue.find("rompy-hydra:abc")] == [job]
    assert queue.find("rompy-hydra:other") == []
    finish(queue)


def test_a_launcher_that_is_not_there_is_told_with_the_key(tmp_path: Path) -> None:
    queue = OwnQueue(TWO_NODES, ["no_such_launcher", "{host}"])
    with pytest.raises(MissingToolError, match=r"site\.node_launcher"):
        queue.put(script(tmp_path, "true"), tasks=1, cpus=1, comment="c")


def test_a_small_task_passes_a_large_one_that_has_no_room(tmp_path: Path, launcher: list[str]) -> None:
    queue = OwnQueue(Allocation("pbs", "1", (Node("node-a", 4),)), launcher)
    wait = script(tmp_path, f"while ! test -e '{tmp_path}/go'; do sleep 0.02; done")
    queue.put(wait, tasks=1, cpus=3, comment="a")
    large = queue.put(wait, tasks=1, cpus=4, comment="b")
    small = queue.put(wait, tasks=1, cpus=1, comment="c")
    states = {entry.job_id: entry.state for entry in queue.queue()}
    assert (states[large], states[small]) == ("PENDING", "RUNNING")
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 60
    while queue.queue():
        assert time.monotonic() < deadline
        time.sleep(0.02)

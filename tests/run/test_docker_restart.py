"""The engine goes away while a container runs: an engine of the test's own, which it may end as it likes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import read_record
from rompy_hydra.run.docker import DockerExecutor
from tests.run.contract import log, record_for, until
from tests.run.docker_support import docker, maker

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("docker")]

SCRIPT = "echo x >> ran; i=0; while ! test -e go; do i=$((i+1)); echo $i; sleep 0.02; done; echo last; exit 3"


class PrivateEngine:
    """A dockerd with everything of its own."""

    def __init__(self, where: Path, *options: str) -> None:
        self.where = where
        self.address = f"unix://{where}/docker.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (where / "dockerd.log").open("ab")

    def start(self) -> None:
        """Start it and wait until it answers."""
        for leftover in ("docker.pid", "exec/containerd/containerd.pid"):  # after a kill -9 it would trust them
            (self.where / leftover).unlink(missing_ok=True)
        # In a network of its own: it would take the bridge of the machine's engine down.
        words = ["unshare", "--net", "dockerd", "--host", self.address, "--bridge", "none", "--iptables=false"]
        words += ["--data-root", f"{self.where}/data", "--exec-root", f"{self.where}/exec"]
        words += ["--pidfile", f"{self.where}/docker.pid", *self._options]
        self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log, start_new_session=True)
        until(lambda: self("version", "--format", "{{.Server.Version}}", check=False) != "", 60)

    def stop(self, number: signal.Signals) -> None:
        """End it by a signal."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)

    def __call__(self, *words: str, check: bool = True) -> str:
        return docker("--host", self.address, *words, check=check)

    def close(self) -> None:
        """End it with everything that it runs."""
        for name in self("ps", "-aq", check=False).split():
            self("rm", "-f", name, check=False)
        self.stop(signal.SIGTERM)
        self._log.close()
        until(self._is_alone, 20)  # its containerd and shims may outlive it
        for _ in range(20):
            mounts = [
                line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(self.where) in line
            ]
            for mount in sorted(mounts, reverse=True):
                subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
            if not mounts:
                break
        shutil.rmtree(self.where, ignore_errors=True)

    def _is_alone(self) -> bool:
        left = 0
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.where).encode() in (entry / "cmdline").read_bytes():
                    left += 1
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
        return not left


@pytest.fixture
def engine_with(tiny_image: str) -> Iterator[Callable[..., PrivateEngine]]:
    if os.geteuid() != 0:
        pytest.skip("an engine of one's own is started by root")
    engines: list[PrivateEngine] = []

    def start(*options: str) -> PrivateEngine:
        engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp")), *options)
        engines.append(engine)
        engine.start()
        archive = engine.where / "image.tar"
        docker("save", "-o", str(archive), tiny_image)
        engine("load", "-i", str(archive))
        return engine

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture
def executor() -> Iterator[DockerExecutor]:
    with DockerExecutor() as executor:
        yield executor


def test_a_container_that_outlives_its_engine_is_followed_to_its_end(
    engine_with: Callable[..., PrivateEngine], executor: DockerExecutor, tmp_path: Path, tiny_image: str
) -> None:
    engine = engine_with("--live-restore")
    job = maker(tmp_path, tiny_image)(SCRIPT, container={"engine": engine.address})
    running = executor.start(job, record_for(job))
    until(lambda: log(job).count(b"\n") > 20)
    engine.stop(signal.SIGKILL)
    assert running.wait(1.5) is None
    assert read_record(job.run_dir)["state"] == "running"
    engine.start()
    time.sleep(1)
    Path(job.run_dir, "go").touch()
    outcome = running.wait(60)
    assert outcome is not None
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 3)
    assert Path(job.run_dir, "ran").read_text() == "x\n"
    lines = log(job).split()
    assert lines[-1] == b"last"
    numbers = [int(line) for line in lines[:-1]]
    assert len(numbers) == len(set(numbers))
    until(lambda: engine("ps", "-aq") == "", 60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_container_that_its_engine_ends_is_told_truthfully(
    engine_with: Callable[..., PrivateEngine],
    executor: DockerExecutor,
    tmp_path: Path,
    tiny_image: str,
    number: signal.Signals,
) -> None:
    engine = engine_with()
    job = maker(tmp_path, tiny_image)(SCRIPT, container={"engine": engine.address})
    running = executor.start(job, record_for(job))
    until(lambda: log(job).count(b"\n") > 5)
    engine.stop(number)
    engine.start()
    outcome = running.wait(60)
    assert outcome is not None
    assert outcome.state is RunState.FAILED
    assert "it was not us who ended it: somebody stopped the container, or its engine went away" in outcome.reason
    assert Path(job.run_dir, "ran").read_text() == "x\n"
    until(lambda: engine("ps", "-aq") == "", 60)

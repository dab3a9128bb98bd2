"""Podman's socket is an engine like another: the shared contract through `DOCKER_HOST`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from rompy_hydra import DockerConfig, ModelRun
from rompy_hydra.record.states import RunState
from rompy_hydra.run.base import Executor
from rompy_hydra.run.docker import DockerExecutor
from rompy_hydra.run.docker_engine import Engine
from tests.run.contract import HOSTILE_VALUES, ExecutorContract, MakeJob, run, until
from tests.run.docker_support import docker, maker

MISSING = [name for name in ("podman", "catatonit") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(bool(MISSING) or os.geteuid() != 0, reason=f"no {' and no '.join(MISSING) or 'root'}"),
]

# Its own idea of limits is above what a container of ours, or CI's, may ask for.
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"""


@pytest.fixture(scope="module")
def podman(tiny_image: str) -> Iterator[str]:
    """The address of a Podman with everything of its own, the tiny image in it."""
    where = Path(tempfile.mkdtemp(prefix="rp-", dir="/tmp"))  # it takes no long paths
    (where / "settings.conf").write_text(SETTINGS)
    words = ["podman", "--root", f"{where}/root", "--runroot", f"{where}/run", "--storage-driver", "vfs"]
    address = f"unix://{where}/podman.sock"
    environment = {**os.environ, "CONTAINERS_CONF": f"{where}/settings.conf"}
    with (where / "log").open("wb") as log:
        service = subprocess.Popen([*words, "system", "service", "--time=0", address], stdout=log, stderr=log,
                                   env=environment)  # fmt: skip
    try:
        try:
            until((where / "podman.sock").exists, 60)
        except AssertionError:  # Podman is a courtesy: the engine that must be there is Docker's
            pytest.skip(f"podman does not serve here: {(where / 'log').read_text(errors='replace')[-300:]}")
        docker("save", "-o", f"{where}/image.tar", tiny_image)
        docker("--host", address, "load", "-i", f"{where}/image.tar")
        yield address
        assert docker("--host", address, "ps", "-aq") == ""
    finally:
        service.terminate()
        service.wait(30)
        shutil.rmtree(where, ignore_errors=True)


@pytest.fixture
def executor() -> Iterator[DockerExecutor]:
    with DockerExecutor() as executor:
        yield executor


@pytest.fixture
def make_job(tmp_path: Path, podman: str, tiny_image: str) -> MakeJob:
    engine = Engine.connect(podman)
    image, driver = engine.image(tiny_image), engine.facts.log_driver
    engine.close()
    assert image is not None
    make = maker(tmp_path, image.id)
    return lambda script="", **changes: make(script, container={"engine": podman, "log_driver": driver}, **changes)


class TestPodman(ExecutorContract):
    hostile_values: ClassVar[dict[str, str]] = {n: value for n, value in HOSTILE_VALUES.items() if n != "BYTES"}

    def test_a_signal_is_no_exit_code(self, executor: Executor, make_job: MakeJob) -> None:
        outcome = run(executor, make_job("kill -SEGV $$"))
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, 139)

    @pytest.mark.parametrize("name", ["with space", "it's", "$(echo x);&", "-n", "größe", "*"])
    def test_awkward_directories(self, executor: Executor, make_job: MakeJob, name: str) -> None:
        """Podman reads mounts as comma separated values: quotes and line ends are refused by it, in its own words."""
        super().test_awkward_directories(executor, make_job, name)


def test_a_whole_run_by_docker_host(
    podman: str, tiny_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman)
    backend = DockerConfig(image=tiny_image, memory="64m", cpu=1)
    model_run = ModelRun("r", tmp_path, model={"name": "m", "command": "touch made; id -u"}, backend=backend)
    assert model_run.run()
    assert (tmp_path / "r" / "made").stat().st_uid == os.getuid()

"""What needs no engine: settings as plain data, the engine's stream taken apart, who the container's user is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rompy_hydra.backends.config import DockerConfig
from rompy_hydra.errors import ConfigError
from rompy_hydra.model import ModelRun
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.run import docker_engine
from rompy_hydra.run.docker_box import Frames, LogFiles
from rompy_hydra.run.docker_container import ContainerSettings, container_config, shm_bytes, split_volume, volume_binds
from rompy_hydra.run.docker_engine import EngineFacts, engine_address
from rompy_hydra.run.docker_planner import DockerPlanner
from rompy_hydra.steps.prepare import settle


class FakeEngine:
    """An engine of which only the facts are asked."""

    address = "unix:///nowhere"

    def __init__(self, *, is_rootless: bool = False) -> None:
        self.facts = EngineFacts(
            cpus=4, memory_bytes=8 << 30, platform="linux/amd64", version="1", is_rootless=is_rootless
        )


def planned(*, is_rootless: bool = False, **backend: Any) -> tuple[dict[str, str], DockerPlanner, RunSpec]:
    spec = RunSpec.model_validate(
        {
            "run_id": "r",
            "model": {"name": "m", "command": "true", "parallel": "mpi"},
            "backend": {"type": "docker", "image": "a/b", "cpu": None, **backend},
        }
    )
    planner = DockerPlanner(FakeEngine(is_rootless=is_rootless))  # type: ignore[arg-type]
    resources = planner.place(spec, settle(spec))
    return planner.environment(spec, resources, []), planner, spec


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    monkeypatch.setattr(os, "getgid", lambda: 8765)


@pytest.mark.usefixtures("somebody")
def test_the_user_is_the_caller_with_a_home_that_can_be_written() -> None:
    environment, planner, spec = planned()
    assert planner._user(spec.backend) == "4321:8765"  # type: ignore[arg-type]
    assert environment == {"HOME": "/tmp", "USER": "4321"}


@pytest.mark.usefixtures("somebody")
def test_under_a_rootless_engine_its_root_is_the_caller() -> None:
    _, planner, spec = planned(is_rootless=True)
    assert planner._user(spec.backend) == "0:0"  # type: ignore[arg-type]


@pytest.mark.usefixtures("somebody")
def test_open_mpi_may_start_as_root_only_where_the_container_s_user_is_root() -> None:
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}
    assert not allowed & planned(mpiexec="mpirun -np 2")[0].keys()
    assert allowed <= planned(mpiexec="mpirun -np 2", user="root")[0].keys()
    assert not allowed & planned(user="root")[0].keys()


def test_a_launcher_is_taken_as_it_is_written_and_never_doubled() -> None:
    for mpiexec, words in (("mpirun -np 16", ["mpirun", "-np", "16"]), ("mpirun", ["mpirun", "-n", "1"])):
        _, planner, spec = planned(mpiexec=mpiexec)
        program = planner.program(spec, planner.place(spec, settle(spec)), {}, None)  # type: ignore[arg-type]
        assert list(program.argv) == [*words, "/bin/sh", "-c", "true"]


def test_shared_memory_grows_for_mpi_within_the_run_s_memory() -> None:
    assert shm_bytes(has_launcher=False, memory_bytes=None) is None
    assert shm_bytes(has_launcher=True, memory_bytes=None) == 1 << 30
    assert shm_bytes(has_launcher=True, memory_bytes=512 << 20) == 256 << 20


def test_less_memory_than_an_engine_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="an engine asks for 6 MiB at least"):
        planned(memory="5m")


def test_a_python_object_does_not_run_in_a_container() -> None:
    class Model:
        def run(self) -> None: ...

    with pytest.raises(ConfigError, match="a Python object cannot run in the backend 'docker'"):
        ModelRun(model=Model()).run(backend=DockerConfig(image="a/b"))


def test_an_address_is_docker_host_or_the_usual_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    assert engine_address({"DOCKER_HOST": "unix:///x"}) == "unix:///x"
    assert engine_address({}) == docker_engine.DEFAULT_ADDRESS


@pytest.mark.parametrize(
    ("volume", "bind"),
    [
        ("/a:/b", "/a:/b:ro"),
        ("/a:/b:ro", "/a:/b:ro"),
        ("/a:/b:rw", "/a:/b:rw"),
        ("/a:/b:z", "/a:/b:ro,z"),
        ("/a:/b:rw,Z,rslave", "/a:/b:rw,Z,rslave"),
        ("volume:v1:/b:nocopy", "v1:/b:ro,nocopy"),
        ("volume:v1:/b:rw", "v1:/b:rw"),
    ],
)
def test_modes_are_strict(volume: str, bind: str) -> None:
    assert volume_binds([volume]) == (bind,)


def test_a_volume_is_taken_apart() -> None:
    assert split_volume("volume:v1:/b:rw,nocopy") == ("v1", "/b", ("rw", "nocopy"))
    assert split_volume("/volume:/b") == ("/volume", "/b", ())


def test_secrets_are_in_no_repr_and_in_no_configuration_of_the_engine() -> None:
    settings = ContainerSettings(engine="unix:///x", image="sha256:1", user="1:1", secret_files={"KEY": "hidden"})
    config = container_config(
        settings.to_wire(),
        argv=["true"],
        environment={"KEY_FILE": "/run/secrets/KEY"},
        directory="/w",
        memory_bytes=None,
        token="t",
        secrets_at="/dev/shm/x",
    )
    assert "hidden" not in repr(settings) + json.dumps(config)
    assert {"Source": "/dev/shm/x/KEY", "Target": "/run/secrets/KEY"}.items() <= config["HostConfig"]["Mounts"][
        0
    ].items()


@pytest.mark.parametrize(
    ("engine", "binds_cpus", "bound"),
    [("unix:///x", True, "0,3"), ("unix:///x", False, None), ("tcp://far:2376", True, None)],
)
def test_a_container_is_bound_to_the_cpus_of_its_point_where_the_engine_can(
    engine: str, binds_cpus: bool, bound: str | None
) -> None:
    settings = ContainerSettings(engine=engine, image="sha256:1", user="1:1", binds_cpus=binds_cpus)
    config = container_config(
        settings.to_wire(),
        argv=["true"],
        environment={},
        directory="/w",
        memory_bytes=None,
        cpu_affinity=(0, 3),
        token="t",
    )
    assert config["HostConfig"].get("CpusetCpus") == bound


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12), st.data())
def test_the_stream_is_taken_apart_however_it_was_cut(frames: list[tuple[int, bytes]], data: Any) -> None:
    stream = b"".join(bytes([number, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for number, part in frames)
    got: dict[int, bytes] = {1: b"", 2: b""}

    def write(number: int, part: memoryview) -> None:
        got[number] += part

    apart = Frames(write)
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        apart.feed(stream[:size])
        stream = stream[size:]
    assert got == {n: b"".join(part for number, part in frames if number == n) for n in (1, 2)}


@given(st.binary(max_size=60), st.integers(0, 60))
def test_a_log_that_starts_over_holds_every_byte_once(tmp_path_factory: Any, written: bytes, had: int) -> None:
    path = tmp_path_factory.mktemp("log") / "out"
    path.write_bytes(written[:had])
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    logs = LogFiles({1: fd, 2: os.open(os.devnull, os.O_WRONLY)})
    logs.start_over()
    for start in range(0, len(written), 7):
        logs.write(1, memoryview(written[start : start + 7]))
    logs.close()
    assert path.read_bytes() == written


def test_after_a_full_disk_a_log_is_completed_from_the_beginning(tmp_path: Path) -> None:
    logs = LogFiles({1: os.open("/dev/full", os.O_WRONLY)})
    logs.write(1, memoryview(b"x" * 10))
    assert "No space left" in logs.complaint
    logs.start_over()
    assert logs.complaint == ""
    logs.close()

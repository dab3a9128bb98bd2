"""Every setting of `DockerConfig` reaches the engine: asked of `docker inspect`, and read from inside."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import DockerConfig, ModelRun
from rompy_hydra.errors import ConfigError
from rompy_hydra.record.store import read_record
from tests.run.contract import HOSTILE_VALUES, until
from tests.run.docker_support import built, containers_in, docker, image_id, inspect

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]

WAIT = "while ! test -e go; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert containers_in(tmp_path) == []


@pytest.fixture
def config(tiny_image: str) -> Callable[..., DockerConfig]:
    return lambda **settings: DockerConfig(image=tiny_image, **{"cpu": None, **settings})


def run(tmp_path: Path, backend: DockerConfig, script: str = "true", **settings: Any) -> dict[str, Any]:
    """A shell script through the whole path of a run; its record."""
    model = {"name": "m", "command": ["/bin/sh", "-c", script], **settings.pop("model", {})}
    model_run = ModelRun("r", tmp_path / "out", model=model, backend=backend, on_existing="new", **settings)
    model_run.run()
    assert model_run.record is not None
    return {**model_run.record.data, "run_dir": model_run.record.run_dir}


def said(record: dict[str, Any], stream: str = "stdout") -> str:
    text: str = (record["run_dir"] / "logs" / f"{stream}.log").read_text()
    return text


@contextmanager
def seen(tmp_path: Path, backend: DockerConfig, script: str = WAIT, **settings: Any) -> Iterator[dict[str, Any]]:
    """What the engine says of the container while it runs."""
    thread = threading.Thread(target=run, args=(tmp_path, backend, script), kwargs=settings)
    thread.start()
    run_dir = tmp_path / "out" / "r"
    try:
        until(lambda: "id" in (json.loads((run_dir / "run.json").read_text()).get("container") or {})
              if (run_dir / "run.json").exists() else False)  # fmt: skip
        container = str(read_record(run_dir)["container"]["id"])
        until(lambda: inspect(container)["State"]["Running"])
        yield inspect(container)
    finally:
        (run_dir / "go").touch()
        thread.join(60)


Config = Callable[..., DockerConfig]


def test_limits_reach_the_engine(tmp_path: Path, config: Config) -> None:
    backend = config(cpu=1.5, memory="64m", pids_limit=77, shm_size="16m")
    with seen(tmp_path, backend) as found:
        host = found["HostConfig"]
        assert host["NanoCpus"] == 1_500_000_000
        assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)
        assert host["PidsLimit"] == 77
        assert host["ShmSize"] == 16 << 20


def test_without_a_word_nothing_is_limited_but_processes(tmp_path: Path, config: Config) -> None:
    with seen(tmp_path, config()) as found:
        host = found["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (0, 0, 4096)


def test_more_cpus_than_the_engine_has_are_a_note(tmp_path: Path, config: Config) -> None:
    record = run(tmp_path, config(cpu=128))
    assert record["state"] == "succeeded"
    assert record["resources"]["notes"] == [f"backend.cpu=128, but the engine has {os.cpu_count()}"]


def test_a_container_is_locked_down_by_default(tmp_path: Path, config: Config) -> None:
    with seen(tmp_path, config()) as found:
        host = found["HostConfig"]
        assert host["Privileged"] is False
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Init"] is True
        assert host["AutoRemove"] is False
        assert host["RestartPolicy"]["Name"] == "no"


def test_capabilities_are_gone_inside_but_those_that_are_kept(tmp_path: Path, config: Config) -> None:
    script = "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status"
    assert said(run(tmp_path, config(user="0:0"), script)).split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert said(run(tmp_path, config(user="0:0", capabilities=["CHOWN"]), script)).split()[1] == f"{1:016x}"


def test_a_read_only_root_leaves_the_workspace_and_tmp(tmp_path: Path, config: Config) -> None:
    record = run(tmp_path, config(read_only=True), "echo x > /tmp/x && echo y > y && ! touch /bin/z")
    assert record["state"] == "succeeded"
    assert "Read-only file system" in said(record, "stderr")


def test_the_container_runs_as_the_caller(tmp_path: Path, config: Config) -> None:
    record = run(tmp_path, config(), "id -u; id -g; touch made")
    assert said(record).split() == [str(os.getuid()), str(os.getgid())]
    assert (record["run_dir"] / "made").stat().st_uid == os.getuid()


def test_the_container_runs_as_whom_it_is_told(tmp_path: Path, config: Config) -> None:
    assert said(run(tmp_path, config(user="1234:2345"), "id -u; id -g")).split() == ["1234", "2345"]


def test_the_network_is_the_one_that_was_asked_for(tmp_path: Path, config: Config) -> None:
    with seen(tmp_path, config(network="none")) as found:
        assert found["HostConfig"]["NetworkMode"] == "none"
    with pytest.raises(ConfigError, match="no such network on the engine"):
        run(tmp_path / "refused", config(network="no-such-network"))
    assert not (tmp_path / "refused").exists()


def test_labels_say_who_it_is(tmp_path: Path, config: Config) -> None:
    with seen(tmp_path, config()) as found:
        record = read_record(tmp_path / "out" / "r")
        labels = found["Config"]["Labels"]
        assert labels["rompy-hydra.run_id"] == "r"
        assert labels["rompy-hydra.science_id"] == record["science_id"]
        assert labels["rompy-hydra.token"] == record["job_token"]
        assert found["Name"] == f"/{record['container']['name']}"


def test_the_image_is_in_the_record_and_in_the_science(tmp_path: Path, config: Config, tiny_image: str) -> None:
    record = run(tmp_path, config())
    assert record["provenance"]["image"]["id"] == image_id(tiny_image)
    assert record["provenance"]["image"]["name"] == tiny_image
    docker("tag", tiny_image, f"rompy-test/other-name-{os.getpid()}")
    made = f"FROM {tiny_image}\nLABEL made={tmp_path}\n"
    docker("build", "-q", "-t", f"rompy-test/other-image-{os.getpid()}", "-", stdin=made)
    try:
        renamed = run(tmp_path, DockerConfig(image=f"rompy-test/other-name-{os.getpid()}", cpu=None))
        changed = run(tmp_path, DockerConfig(image=f"rompy-test/other-image-{os.getpid()}", cpu=None))
    finally:
        docker("rmi", f"rompy-test/other-name-{os.getpid()}", f"rompy-test/other-image-{os.getpid()}")
    assert record["science_id"] == renamed["science_id"] != changed["science_id"]


# ---- command and environment


def test_a_command_of_words_keeps_its_spaces(tmp_path: Path, config: Config) -> None:
    words = ["/bin/sh", "-c", 'printf "%s|" "$0" "$@"', "a b", "it's", "$HOME", "", "*"]
    assert said(run(tmp_path, config(executable=words))) == "a b|it's|$HOME||*|"


def test_a_command_of_text_goes_through_the_shell_inside(tmp_path: Path, config: Config) -> None:
    assert said(run(tmp_path, config(executable="X=1; echo $X $((X + 1)) | cat"))) == "1 2\n"


def test_an_image_s_own_entrypoint_and_command_are_not_in_the_way(tmp_path: Path, tiny_image: str) -> None:
    lines = f'FROM {tiny_image}\nENTRYPOINT ["/bin/false"]\nCMD ["x"]\nHEALTHCHECK CMD false\n'
    with built("rompy-test/entry", lines) as image:
        record = run(tmp_path, DockerConfig(image=image, cpu=None), "echo mine")
    assert (record["state"], said(record)) == ("succeeded", "mine\n")


def test_variables_arrive_byte_for_byte_and_ours_stay_outside(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_OUTSIDE", "x")
    values = {name: value for name, value in HOSTILE_VALUES.items() if name != "BYTES"}
    script = "".join(f"printf '%s\\0' \"${name}\"; " for name in values) + "echo ${ONLY_OUTSIDE-unset}"
    record = run(tmp_path, config(env_vars=values), script)
    assert said(record) == "".join(f"{value}\0" for value in values.values()) + "unset\n"


@pytest.mark.parametrize("name", ["with space", "quo'te\"s", "new\nline", "col:on,comma", "größe"])
def test_awkward_directories_are_mounted(tmp_path: Path, config: Config, name: str) -> None:
    (tmp_path / name).mkdir()
    record = run(tmp_path / name, config(), "pwd > where")
    assert record["state"] == "succeeded"
    assert (record["run_dir"] / "where").read_text() == f"{record['run_dir']}\n"


def test_a_working_directory_elsewhere_is_mounted_and_entered(tmp_path: Path, config: Config) -> None:
    (tmp_path / "else where").mkdir()
    record = run(tmp_path, config(working_dir=tmp_path / "else where"), "pwd; touch made")
    assert said(record) == f"{tmp_path / 'else where'}\n"
    assert (tmp_path / "else where" / "made").exists()


# ---- mounts


def test_volumes_are_read_only_unless_they_say_rw(tmp_path: Path, config: Config) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    volumes = [f"{tmp_path}/a:/a", f"{tmp_path}/b:/b:ro", f"{tmp_path}/c:/c:rw", f"{tmp_path}/a:/twice:rw,rprivate"]
    record = run(tmp_path, config(volumes=volumes), "for d in a b c twice; do touch /$d/made && echo $d; done; true")
    assert said(record) == "c\ntwice\n"
    assert said(record, "stderr").count("Read-only file system") == 2


def test_two_volumes_at_one_place_are_refused(tmp_path: Path, config: Config) -> None:
    with pytest.raises(ConfigError, match=r"/a in the container is taken by"):
        run(tmp_path, config(volumes=[f"{tmp_path}:/a", f"{tmp_path}:/a/:rw"]))


def test_a_named_volume_must_be_there_and_is_left_as_it_is(tmp_path: Path, config: Config) -> None:
    with pytest.raises(ConfigError, match="docker volume create rompy-test-none"):
        run(tmp_path, config(volumes=["volume:rompy-test-none:/v"]))
    docker("volume", "create", f"rompy-test-v{os.getpid()}")
    try:
        run(tmp_path, config(user="0:0", volumes=[f"volume:rompy-test-v{os.getpid()}:/v:rw"]), "echo kept > /v/file")
        assert said(run(tmp_path, config(volumes=[f"volume:rompy-test-v{os.getpid()}:/v"]), "cat /v/file")) == "kept\n"
    finally:
        docker("volume", "rm", f"rompy-test-v{os.getpid()}")


def test_anonymous_volumes_of_an_image_are_gone_with_the_container(tmp_path: Path, tiny_image: str) -> None:
    lines = f"FROM {tiny_image}\nVOLUME /data\n"
    with built("rompy-test/volume", lines) as image, seen(tmp_path, DockerConfig(image=image, cpu=None)) as found:
        (volume,) = [mount["Name"] for mount in found["Mounts"] if mount["Destination"] == "/data"]
    assert volume not in docker("volume", "ls", "-q").split()


def test_linked_inputs_are_mounted_read_only_at_their_own_place(tmp_path: Path, config: Config) -> None:
    far = tmp_path / "far away"
    far.mkdir()
    (far / "wind.nc").write_text("north\n")
    (far / "hidden").write_text("not asked for\n")
    inputs = {"wind": {"source": str(far / "wind.nc"), "as": "in/wind.nc"}, "copied": {"source": str(far / "wind.nc"),
              "as": "copy.nc", "mode": "copy"}, "staged": {"source": str(far / "wind.nc"), "as": "staged.nc",
              "mode": "stage"}}  # fmt: skip
    script = (
        f"cat in/wind.nc copy.nc staged.nc; echo x >> in/wind.nc || echo refused; cat '{far}/hidden' || echo unseen"
    )
    record = run(tmp_path, config(), script, model={"inputs": inputs})
    assert said(record) == "north\n" * 3 + "refused\nunseen\n"
    assert (far / "wind.nc").read_text() == "north\n"


def test_many_inputs_of_one_directory_are_one_mount(tmp_path: Path, config: Config) -> None:
    far = tmp_path / "far"
    far.mkdir()
    for number in range(40):
        (far / f"{number:02}.nc").write_text(f"{number}\n")
    inputs = {"all": {"source": f"{far}/*.nc"}}
    with seen(tmp_path, config(), f"cat *.nc | wc -l; {WAIT}", model={"inputs": inputs}) as found:
        assert {(m["Source"], m["RW"]) for m in found["Mounts"]} == {(str(far), False), (f"{tmp_path}/out/r", True)}
    assert (tmp_path / "out/r/logs/stdout.log").read_text().strip() == "40"


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        ("/:/host", "the whole machine"),
        ("/etc:/host/etc", "belongs to this machine's system"),
        ("/var:/host/var", "holds /var/run"),
        ("/etc/ssl:/ssl:rw", "lies in /etc"),
        ("/proc/1:/p", "lies in /proc"),
        ("/var/run/docker.sock:/docker.sock", "is a socket"),
    ],
)
def test_dangerous_mounts_need_an_explicit_word(tmp_path: Path, config: Config, volume: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        run(tmp_path, config(volumes=[volume]))
    assert "backend.allow_dangerous_mounts=true" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_dangerous_mount_that_was_asked_for_is_made(tmp_path: Path, config: Config) -> None:
    backend = config(volumes=["/etc:/host/etc:ro"], allow_dangerous_mounts=True)
    assert said(run(tmp_path, backend, "test -e /host/etc/hostname && echo there")) == "there\n"


def test_reading_one_thing_of_the_system_is_everyday(tmp_path: Path, config: Config) -> None:
    assert run(tmp_path, config(volumes=["/etc/hostname:/name:ro"]), "cat /name")["state"] == "succeeded"


# ---- secrets


def test_a_secret_is_in_the_container_and_nowhere_else_of_ours(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "very hidden")
    backend = config(env_vars={"API_TOKEN": "${secret:TOKEN}"})
    with seen(tmp_path, backend, f"echo ${{#API_TOKEN}}; {WAIT}") as found:
        assert "very hidden" not in json.dumps(found["Config"]["Labels"])
        assert _holders(tmp_path, "very hidden") == []
        assert _process_lists("very hidden") == []
    assert (tmp_path / "out/r/logs/stdout.log").read_text() == "11\n"
    assert _holders(tmp_path, "very hidden") == []


def test_a_secret_file_is_in_memory_and_not_even_in_the_engine(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "very hidden")
    backend = config(env_vars={"API_TOKEN": "${secret:TOKEN}", "PLAIN": "x"}, secrets="file", user="1234:1234")
    script = f"cat $API_TOKEN_FILE; echo; echo ${{API_TOKEN-unset}} $PLAIN; ls -l /run/secrets >&2; {WAIT}"
    with seen(tmp_path, backend, script) as found:
        until(lambda: (tmp_path / "out/r/logs/stdout.log").read_text().endswith("unset x\n"))
        assert "very hidden" not in json.dumps(found)
        assert list(Path("/dev/shm").glob("rompy-hydra-*")) == []
    assert (tmp_path / "out/r/logs/stdout.log").read_text() == "very hidden\nunset x\n"


def test_a_secret_in_a_build_argument_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    backend = DockerConfig(
        dockerfile="Dockerfile", build_context=tmp_path, build_args={"KEY": "${secret:TOKEN}"}, cpu=None
    )
    with pytest.raises(ConfigError, match="docker history"):
        run(tmp_path, backend)


def _holders(directory: Path, text: str) -> list[Path]:
    return [p for p in directory.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def _process_lists(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:  # it has ended
                continue
    return found


# ---- the seed's way in


def test_the_seed_s_backend_class_answers_a_bool(tmp_path: Path, config: Config) -> None:
    for code, answer in ((0, True), (3, False)):
        model_run = ModelRun(f"r{code}", tmp_path, model={"name": "m", "command": f"exit {code}"})
        assert config().get_backend_class()().run(model_run, config()) is answer

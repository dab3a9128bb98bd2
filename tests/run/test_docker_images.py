"""Images: found, pulled or built; and every reason why that, or the engine itself, is not to be had."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import DockerConfig, ModelRun
from rompy_hydra.cli import main
from rompy_hydra.errors import ConfigError, MissingToolError, RompyHydraError, SiteError
from rompy_hydra.run.docker_build import build_image
from rompy_hydra.run.docker_engine import Engine
from tests.run.docker_support import containers_in, docker, image_id

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("docker")]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert containers_in(tmp_path) == []


@pytest.fixture
def context(tmp_path: Path, tiny_image: str) -> Iterator[Path]:
    """A directory to build in; what was built from it is removed."""
    directory = tmp_path / f"My Model {os.getpid()}"  # its images are ours alone, whoever else tests on this engine
    directory.mkdir()
    (directory / "Dockerfile").write_text(
        f"ARG BASE={tiny_image}\nFROM $BASE\nARG SAY=hello\nCOPY . /model\nRUN echo $SAY > /said\n"
    )
    (directory / "data.txt").write_text("one\n")
    yield directory
    for name in docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"rompy-hydra/my-model-{os.getpid()}").split():
        docker("rmi", name, check=False)  # a test run beside this one may have been quicker


def run(tmp_path: Path, backend: DockerConfig, script: str = "cat /model/data.txt /said") -> dict[str, Any]:
    model_run = ModelRun(
        "r", tmp_path / "out", model={"name": "m", "command": script}, backend=backend, on_existing="new"
    )
    model_run.run()
    assert model_run.record is not None
    return {**model_run.record.data, "said": (model_run.record.run_dir / "logs/stdout.log").read_text()}


def built(context: Path, **settings: Any) -> DockerConfig:
    return DockerConfig(build_context=context, dockerfile="Dockerfile", cpu=None, **settings)


# ---- building


def test_a_changed_copied_file_builds_anew_and_an_unchanged_one_does_not(tmp_path: Path, context: Path) -> None:
    first = run(tmp_path, built(context))
    assert first["said"] == "one\nhello\n"
    image = first["provenance"]["image"]
    assert image["id"] == image_id(image["name"])
    assert image["name"].startswith(f"rompy-hydra/my-model-{os.getpid()}:")
    (context / "data.txt").touch()
    again = run(tmp_path, built(context))
    assert again["provenance"]["image"]["id"] == image["id"]
    assert again["science_id"] == first["science_id"]
    (context / "data.txt").write_text("two\n")
    changed = run(tmp_path, built(context))
    assert changed["said"] == "two\nhello\n"
    assert changed["science_id"] != first["science_id"]


def test_what_dockerignore_names_changes_nothing(tmp_path: Path, context: Path) -> None:
    (context / ".dockerignore").write_text("# results\nruns\n**/*.log\n!keep.log\n")
    (context / "keep.log").write_text("kept\n")
    first = run(tmp_path, built(context), "ls /model")
    assert first["said"].split() == ["Dockerfile", "data.txt", "keep.log"]
    (context / "runs").mkdir()
    (context / "runs" / "x.nc").write_text("x")
    (context / "debug.log").write_text("x")
    assert run(tmp_path, built(context))["provenance"]["image"]["id"] == first["provenance"]["image"]["id"]
    (context / "keep.log").write_text("changed\n")
    assert run(tmp_path, built(context))["provenance"]["image"]["id"] != first["provenance"]["image"]["id"]


def test_a_file_that_becomes_executable_builds_anew(tmp_path: Path, context: Path) -> None:
    first = run(tmp_path, built(context))
    (context / "data.txt").chmod(0o755)
    assert run(tmp_path, built(context))["provenance"]["image"]["name"] != first["provenance"]["image"]["name"]


def test_build_arguments_reach_the_build_and_count(tmp_path: Path, context: Path) -> None:
    plain, other = (run(tmp_path, built(context, build_args=args)) for args in ({}, {"SAY": "a b"}))
    assert other["said"] == "one\na b\n"
    assert plain["provenance"]["image"]["name"] != other["provenance"]["image"]["name"]


def test_another_base_under_the_same_name_builds_anew(tmp_path: Path, context: Path, tiny_image: str) -> None:
    args = {"BASE": f"rompy-test/base-{os.getpid()}"}
    docker("tag", tiny_image, f"rompy-test/base-{os.getpid()}")
    try:
        first = run(tmp_path, built(context, build_args=args))
        docker(
            "build",
            "-q",
            "-t",
            f"rompy-test/base-{os.getpid()}",
            "-",
            stdin=f"FROM {tiny_image}\nRUN echo new > /new\n",
        )
        second = run(tmp_path, built(context, build_args=args), "cat /new")
    finally:
        docker("rmi", "-f", f"rompy-test/base-{os.getpid()}")
    assert second["said"] == "new\n"
    assert first["provenance"]["image"]["id"] != second["provenance"]["image"]["id"]


def test_a_dockerfile_alone_is_built_in_its_own_directory(
    tmp_path: Path, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, DockerConfig(dockerfile=f"{context.name}/Dockerfile", cpu=None))["said"] == "one\nhello\n"


def test_a_dockerfile_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no file .*no/Dockerfile"):
        run(tmp_path, DockerConfig(dockerfile="no/Dockerfile", cpu=None))


def test_a_failed_build_shows_its_last_lines_and_its_log(tmp_path: Path, context: Path) -> None:
    with (context / "Dockerfile").open("a") as file:
        file.write("RUN echo compiling; echo the compiler is missing >&2; exit 9\nRUN echo never\n")
    with pytest.raises(SiteError) as caught:
        run(tmp_path, built(context))
    message = str(caught.value)
    assert "the compiler is missing" in message
    assert "returned a non-zero code: 9" in message
    log = Path(message.rpartition("the whole log: ")[2])
    assert "compiling" in log.read_text()
    assert not (tmp_path / "out").exists()
    assert caught.value.exit_code == 4


def test_runs_that_need_one_image_build_it_once(tmp_path: Path, context: Path) -> None:
    def build(_: int) -> str:
        engine = Engine.connect()
        image, facts = build_image(engine, built(context), tmp_path)
        engine.close()
        return image.id + ("!" if "build_log" in facts else "")

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(build, range(4)))
    assert len({name.rstrip("!") for name in ids}) == 1


def test_a_dry_look_builds_nothing(tmp_path: Path, context: Path) -> None:
    engine = Engine.connect()
    image, facts = build_image(engine, built(context), tmp_path, make=False)
    engine.close()
    assert image.id == ""
    assert docker("images", "-q", facts["name"]) == ""


# ---- availability


def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, *words: str) -> tuple[int, str]:
    """Exit code and message of a run that must not begin."""
    monkeypatch.chdir(tmp_path)
    code = main(["run", "model=command", "backend=docker", "backend.executable=id", "output_dir=out", *words])
    message = capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in message
    return code, message


def test_no_engine_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    code, message = refused(tmp_path, monkeypatch, capsys, "backend.image=a/b")
    assert code == 3
    assert f"no Docker engine at {tmp_path}/none.sock" in message
    assert "export DOCKER_HOST=unix://" in message
    assert "backend=local" in message


def test_a_socket_where_nobody_listens_is_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/deaf.sock")
    code, message = refused(tmp_path, monkeypatch, capsys, "backend.image=a/b")
    assert (code, "nobody answers" in message) == (3, True)


def test_no_permission_names_the_group() -> None:
    def connect() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        Engine.connect()

    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    message = in_a_child(connect)
    assert message.startswith("SiteError: you may not use the Docker engine at /var/run/docker.sock")
    assert "membership in the group" in message


def in_a_child(call: Callable[[], None]) -> str:
    """What a call raises in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            call()
        except RompyHydraError as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        message = said.read()
    os.waitpid(pid, 0)
    return message


def test_without_the_sdk_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "docker", None)
    with pytest.raises(MissingToolError, match="pip install docker"):
        Engine.connect()


class Registry(BaseHTTPRequestHandler):
    """A registry that lets nobody in."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="models"')
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_pull_that_is_denied_says_to_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with registry() as address:
        code, message = refused(tmp_path, monkeypatch, capsys, f"backend.image='{address}/private/model:1'")
    assert code == 4
    assert "cannot be pulled" in message
    assert "no basic auth credentials" in message
    assert "docker login" in message
    assert "backend.dockerfile" in message


def test_an_image_that_nobody_has_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    code, message = refused(tmp_path, monkeypatch, capsys, "backend.image='127.0.0.1:1/no/such/image'")
    assert code == 4
    assert "the image '127.0.0.1:1/no/such/image' is not on the engine" in message


def test_an_image_for_another_platform_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    docker("load", "-i", str(_foreign_image(tmp_path, f"rompy-test/elsewhere-{os.getpid()}:latest")))
    try:
        code, message = refused(tmp_path, monkeypatch, capsys, f"backend.image=rompy-test/elsewhere-{os.getpid()}")
    finally:
        docker("rmi", f"rompy-test/elsewhere-{os.getpid()}")
    assert code == 4
    assert "is for linux/s390x, and the engine" in message
    assert "docker pull --platform linux/" in message


def _foreign_image(tmp_path: Path, name: str) -> Path:
    """An image for another machine, as `docker save` writes one."""
    empty = bytes(10240)  # a tar file of nothing
    config = {
        "architecture": "s390x",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(empty).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"layer.tar": empty}
    files |= {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return tmp_path / "image.tar"


def test_an_engine_that_only_accepts_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        with pytest.raises(SiteError, match="does not answer"):
            Engine.connect(f"unix://{tmp_path}/mute.sock", timeout_s=0.5)

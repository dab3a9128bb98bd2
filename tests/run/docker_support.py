"""What the tests of the Docker backend share: jobs in the tiny image, and the engine seen from outside of our code."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rompy_hydra.run.base import Job
from rompy_hydra.run.docker_container import ContainerSettings
from rompy_hydra.run.docker_engine import engine_address
from rompy_hydra.run.keeping import KeptRun

_ENVIRON = dict(os.environ)  # a test may point DOCKER_HOST elsewhere; the witness stays where it is


def docker(*words: str, check: bool = True, stdin: str | None = None) -> str:
    """The engine's own command line, as a witness."""
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=100, check=False, input=stdin, env=_ENVIRON
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def built(name: str, dockerfile: str) -> Iterator[str]:
    """An image for one test, whoever else tests on this engine."""
    name = f"{name}-{os.getpid()}"
    docker("build", "-q", "-t", name, "-", stdin=dockerfile)
    try:
        yield name
    finally:
        docker("rmi", name)


def image_id(name: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", name)


def inspect(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found


def container_of(running: KeptRun) -> str:
    """The id of the container of a run that goes on."""
    return docker("ps", "-aq", "--filter", f"label=rompy-hydra.token={running._record['job_token']}")


def containers_in(directory: Path) -> list[str]:
    """Every container that has a mount below a directory of a test: what that test left."""
    found = []
    for name in docker("ps", "-aq").split():
        said = docker("inspect", "--format", "{{json .Mounts}}", name, check=False)
        if any(str(m.get("Source", "")).startswith(str(directory)) for m in json.loads(said or "[]")):
            found.append(name)
    return found


def maker(directory: Path, image: str) -> Callable[..., Job]:
    """`make_job` of the contract, for containers of `image`; `container` changes its settings."""

    def make(script: str = "", *, name: str = "run", container: dict[str, Any] | None = None, **changes: Any) -> Job:
        run_dir = directory / name
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "engine": engine_address(),
            "image": image,
            "user": f"{os.getuid()}:{os.getgid()}",
            **(container or {}),
        }
        job: dict[str, Any] = {
            "run_id": name,
            "run_dir": str(run_dir),
            "directory": str(run_dir),
            "argv": ("/bin/sh", "-c", script),
            "environment": {},
            "stdout": str(run_dir / "logs/stdout.log"),
            "stderr": str(run_dir / "logs/stderr.log"),
            "grace_s": 0.3,
            **changes,
        }
        job["settings"] = ContainerSettings(**settings).placed(run_dir=run_dir, directory=Path(job["directory"]))
        return Job(**job)

    return make

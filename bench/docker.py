"""What a run in a container costs, against the docker command: the same container, in turn, alone and four at once.

`python bench/docker.py [N]` (N rounds, 20 without a word).  Starting our driver is not counted; the docker command is
started anew each time, as that is how it is used.  Ratios of one run count, the milliseconds are this machine's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

# The checkout in the place of this directory, where this very file would stand in for the SDK of its name.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

# ruff: noqa: E402
from rompy_hydra.record.outcome import Outcome
from rompy_hydra.run.base import Job
from rompy_hydra.run.docker import DockerExecutor
from rompy_hydra.run.docker_container import ContainerSettings
from rompy_hydra.run.docker_engine import Engine
from rompy_hydra.run.keeping import KeptRun, wait_any
from tests.services.docker_engine import ensure_tiny_image, missing

LIMIT = 1.1
USER = f"{os.getuid()}:{os.getgid()}"


def main() -> int:
    """Measure and print; a limit that is not met is shown, not punished."""
    if (reason := missing()) is not None:
        print(f"skipped: {reason}")
        return 0
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    image = ensure_tiny_image()
    engine = Engine.connect()
    found = engine.image(image)
    assert found is not None
    with tempfile.TemporaryDirectory() as directory, DockerExecutor() as executor:
        top = Path(directory)
        settings = ContainerSettings(engine=engine.address, image=found.id, user=USER)
        for at_once in (1, 4):
            ways: dict[str, Callable[[str, int], None]] = {
                "rompy-hydra": partial(run_ours, executor, settings, top),
                "docker run, same options": partial(run_command, image, top),
                "docker run --rm, no options": partial(run_plain, image),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for way in ways.values():
                way(f"warm-{at_once}", at_once)
            for number in range(rounds):
                for name in sorted(ways, key=lambda name, n=number: hash((name, n))):  # type: ignore[misc]
                    began = time.perf_counter()
                    ways[name](f"{at_once}-{number}", at_once)
                    times[name].append(time.perf_counter() - began)
            base = statistics.median(times["docker run, same options"])
            print(f"{at_once} at once, {rounds} rounds in turn; median of a round, ratio to the same options:")
            for name, seconds in times.items():
                middle = statistics.median(seconds)
                spread = f"{min(seconds) * 1000:.0f}–{max(seconds) * 1000:.0f}"
                print(f"  {name:<28} {middle * 1000:6.0f} ms ({spread})   {middle / base:.2f}")
            ratio = statistics.median(times["rompy-hydra"]) / base
            print(f"  {LIMIT} times the docker command: {'met' if ratio <= LIMIT else 'NOT MET'} ({ratio:.2f})")
    return 0


def run_ours(executor: DockerExecutor, settings: ContainerSettings, top: Path, name: str, at_once: int) -> None:
    """Our executor, from the hand-over to the recorded outcome."""
    runs: list[KeptRun] = []
    for number in range(at_once):
        run_dir = top / f"{name}-{number}"
        (run_dir / "logs").mkdir(parents=True)
        job = Job(
            run_id=run_dir.name,
            run_dir=str(run_dir),
            directory=str(run_dir),
            argv=("/bin/true",),
            stdout=str(run_dir / "logs/stdout.log"),
            stderr=str(run_dir / "logs/stderr.log"),
            settings=settings.placed(run_dir=run_dir, directory=run_dir),
        )
        runs.append(executor.submit(job, {"run_id": job.run_id}))
    waiting = set(runs)
    while waiting:
        waiting -= set(wait_any(list(waiting)))
    outcomes: list[Outcome | None] = [run.wait(0) for run in runs]
    assert all(outcome is not None and outcome.succeeded for outcome in outcomes), outcomes


def run_command(image: str, top: Path, name: str, at_once: int) -> None:
    """The docker command with what we ask for: mount, user, init, limits, logs in files."""
    started = []
    for number in range(at_once):
        run_dir = top / f"cli-{name}-{number}"
        run_dir.mkdir(parents=True)
        words = ["docker", "run", "--rm", "--init", "--user", USER, "--cap-drop", "ALL", "--pids-limit", "4096"]
        words += ["--security-opt", "no-new-privileges:true", "-v", f"{run_dir}:{run_dir}", "-w", str(run_dir)]
        words += ["--log-driver", "local", "--no-healthcheck", "--entrypoint", "/bin/true", image]
        with (run_dir / "out.log").open("wb") as out:
            started.append(subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL))
    assert [process.wait() for process in started] == [0] * at_once


def run_plain(image: str, _: str, at_once: int) -> None:
    """The docker command as one types it."""
    words = ["docker", "run", "--rm", image, "/bin/true"]
    started = [subprocess.Popen(words, stdin=subprocess.DEVNULL) for _ in range(at_once)]
    assert [process.wait() for process in started] == [0] * at_once


if __name__ == "__main__":
    sys.exit(main())

"""What a sweep costs beside what it runs, against the shell and against Hydra, side by side in one run.

    python bench/sweep_runs.py [-n ROUNDS] [--points 1000]

No-op runs, each with its directory, two logs, record and journal, against `xargs -P2` that makes a directory, starts a
shell and writes a log; the whole command counts, from typing it to its last line.  Hydra's basic launcher is timed on
20 jobs of the same configuration, in an app that does nothing (it starts no process for them), and stated per job.
Memory is the driver's own, at two sizes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HYDRA_APP = """\
from functools import partial

import hydra

from rompy_hydra.compose import nodes, resolvers
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.workspace.template import Templates

sources = find_sources()
resolvers.register()
nodes.register_schemas("bench")
templates = Templates(sources.template_roots)
for name in templates:
    nodes.register_template(name, partial(templates.__getitem__, name))


@hydra.main(version_base=None, config_path=str(sources.packaged.conf), config_name="config")
def app(config):
    pass


app()
"""
POINT = ("model=command", "backend.command=true")
XARGS = "seq 1 {points} | xargs -P2 -I{{}} sh -c 'mkdir {{}} && cd {{}} && true > stdout.log 2> stderr.log'"
HYDRA_JOBS = 20


def main() -> int:
    """Measure and print; the exit code is 1 only if a command fails."""
    parser = argparse.ArgumentParser(description="The cost of a sweep's runs.")
    parser.add_argument("-n", "--rounds", type=int, default=5, help="times each is run (default: %(default)s)")
    parser.add_argument("--points", type=int, default=1000, help="no-op runs of a sweep (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-bench-") as folder:
        try:
            return _bench(Path(folder), args.rounds, args.points)
        except subprocess.CalledProcessError as error:
            print(f"`{error.cmd}` failed with exit code {error.returncode}:\n{error.stderr}", file=sys.stderr)
            return 1


def _bench(folder: Path, rounds: int, points: int) -> int:
    app = folder / "app.py"
    app.write_text(HYDRA_APP)
    seconds = _rounds(
        {
            "ours": lambda: _sweep(folder, points),
            "one": lambda: _sweep(folder, 1),
            "xargs": lambda: _timed(folder, "sh", "-c", XARGS.format(points=points)),
            "hydra": lambda: _hydra(folder, app, HYDRA_JOBS),
            "hydra one": lambda: _hydra(folder, app, 1),
        },
        rounds,
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"medians of {rounds} alternating rounds, Python {sys.version.split()[0]}, {os.cpu_count()} cpus\n")
    ratio = statistics.median(o / x for o, x in zip(seconds["ours"], seconds["xargs"], strict=True))
    print(f"{points} no-op runs, rompy-hydra run -m    {median['ours']:6.2f} s, start and planning included")
    print(f"{points} times mkdir + sh + log, xargs -P2 {median['xargs']:6.2f} s")
    print(f"  ratio {ratio:.2f}, wanted at most 2: {'met' if ratio <= 2 else 'NOT MET'}\n")
    per_point = (median["ours"] - median["one"]) / (points - 1)
    per_job = (median["hydra"] - median["hydra one"]) / (HYDRA_JOBS - 1)
    print(f"per run, beyond the first: ours {per_point * 1e3:.2f} ms, Hydra's basic launcher {per_job * 1e3:.0f} ms")
    print(
        f"  {per_job / per_point:.0f} times as fast, wanted 50: {'met' if per_job >= 50 * per_point else 'NOT MET'}\n"
    )
    small, large = _peak_memory(folder, points), _peak_memory(folder, 5 * points)
    growth = (large - small) / (4 * points)
    print(f"memory of the driver: {small / 2**20:.1f} MiB at {points} points, {large / 2**20:.1f} MiB at {5 * points}")
    print(f"  {growth / 1024:.2f} KiB a point, wanted at most 5: {'met' if growth <= 5 * 1024 else 'NOT MET'}")
    return 0


def _rounds(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    for measure in measures.values():
        measure()  # warms the disk cache and writes the byte code
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            seconds[name].append(measure())
    return seconds


def _sweep_command(points: int) -> list[str]:
    return [
        *(sys.executable, "-m", "rompy_hydra", "run", "-m", *POINT),
        *(f"vars.n=range(0,{points})", "hydra.sweep.dir=sweep"),
    ]


def _sweep(folder: Path, points: int) -> float:
    return _timed(folder, *_sweep_command(points))


def _hydra(folder: Path, app: Path, jobs: int) -> float:
    return _timed(folder, sys.executable, str(app), "-m", *POINT, f"vars.n=range(0,{jobs})", "hydra.sweep.dir=multirun")


def _timed(folder: Path, *argv: str) -> float:
    """Seconds of a command in an empty directory; the removal of what it made does not count."""
    place = folder / "place"
    place.mkdir()
    began = time.perf_counter()
    subprocess.run(argv, cwd=place, env=_environment(), capture_output=True, text=True, check=True)
    took = time.perf_counter() - began
    shutil.rmtree(place)
    return took


def _peak_memory(folder: Path, points: int) -> float:
    """The largest resident size of the driver, in bytes."""
    place = folder / "place"
    place.mkdir()
    with subprocess.Popen(
        _sweep_command(points), cwd=place, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    shutil.rmtree(place)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "rompy-hydra run -m", stderr="")
    return usage.ru_maxrss * 1024


def _environment() -> dict[str, str]:
    # byte code is wanted: a machine that forbids it would measure the compiler
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


if __name__ == "__main__":
    sys.exit(main())

"""How fast `check` tries combinations of options, against composing each of them by Hydra, in one run.

python bench/check.py [-n COMBINATIONS]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

from hydra.types import RunMode

from rompy_hydra.compose.check_combinations import QuickComposer
from rompy_hydra.compose.composer import Request
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import SweepPlanner

GROUPS = {
    "model": ("veros_acc", "anuga_dambreak", "command"),
    "resources": ("default", "host"),
    "site": ("laptop", "generic_slurm"),
    "backend": ("local", "docker", "slurm"),
    "postprocess": ("noop", "archive", "analyze", "visualize"),
    "env": ("dev", "development", "hpc", "staging", "production"),
    "experiment": ("strong_wind", None),
}
LIMIT = 0.1


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Combinations of options, quickly and by Hydra.")
    parser.add_argument("-n", "--number", type=int, default=1000, help="combinations (default: %(default)s)")
    number = parser.parse_args().number
    everything = [
        tuple(f"{group}={option}" for group, option in zip(GROUPS, chosen, strict=True) if option)
        for chosen in itertools.product(*GROUPS.values())
    ]
    some = (everything * (1 + number // len(everything)))[:number]
    planner = SweepPlanner(
        Request(overrides=(), sources=find_sources(environ={}, cwd=Path("/")), invocation="x", environ={}),
        cwd=Path("/"),
    )
    quick = QuickComposer(planner.loader, "config", planner.templates, Path("/"))
    quick.symptoms(())
    start = time.process_time()
    for lines in some:
        quick.symptoms(lines)
        quick.findings()
    ours = (time.process_time() - start) / len(some)
    few = some[:: max(1, len(some) // 40)]
    start = time.process_time()
    for lines in few:
        planner.loader.load_configuration("config", [*lines], RunMode.RUN)
    theirs = (time.process_time() - start) / len(few)
    verdict = "" if ours <= LIMIT * theirs else "  NOT MET"
    print(f"{len(some)} combinations: {1000 * ours:.2f} ms each, {ours * len(some):.1f} s of CPU time in all")
    print(f"composed by Hydra, not validated: {1000 * theirs:.1f} ms each; ratio {ours / theirs:.3f}{verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

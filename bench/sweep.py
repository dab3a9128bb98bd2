"""How fast a sweep is planned, against Hydra's own way, side by side in one run, on the shipped conf/.

    python bench/sweep.py [-n ROUNDS] [--calls CALLS] [--stream POINTS]

Planning is everything from the command line to validated plans: design, composition, pydantic, credentials taken out.
Hydra's way is `hydra.compose` once for each point: composition alone, no validation. It is called for CALLS points,
spread over the sweep, and not for all 1,000: the figure for 1,000 is CALLS' mean times 1,000, and the table says so.
Rounds alternate, the medians' ratio is what counts. Each round plans with an empty memory, as a command does.

Then POINTS points stream: what the process needs before and after, and how much of that each point has left behind.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from rompy_hydra.compose.cache import mint
from rompy_hydra.compose.composer import Request, open_loader
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import Sweep, open_sweep
from rompy_hydra.plan.point import Point

POINTS = 1000
WANTED_RATIO = 100.0
WANTED_KB_PER_POINT = 5.0
WARM_POINTS = 10_000


@dataclass(frozen=True)
class Case:
    """A sweep of 1,000 points over some group choices."""

    groups: tuple[str, ...]
    combinations: int
    wanted: float | None = None

    @property
    def overrides(self) -> tuple[str, ...]:
        """What a person types: the groups, a number for each point, and a few values that do not vary."""
        values = math.ceil(POINTS / self.combinations)
        return (
            *self.groups,
            f"model.parameters.wind_stress=range(0,{values})",
            "resources.threads=1",
            "env_vars.OMP_PROC_BIND=true",
        )


CASES = (
    Case(("backend=local,docker",), 2, WANTED_RATIO),
    Case(("backend=local,docker", "site=laptop,generic_slurm"), 4, WANTED_RATIO),
    Case(("env=dev,hpc,staging,production", "backend=local,docker", "site=laptop,generic_slurm"), 16),
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Planning of sweeps against hydra.compose.")
    parser.add_argument(
        "-n", "--rounds", type=int, default=3, help="times each side is measured (default: %(default)s)"
    )
    parser.add_argument("--calls", type=int, default=50, help="calls of hydra.compose in all (default: %(default)s)")
    parser.add_argument("--stream", type=int, default=100_000, help="points of the stream (default: %(default)s)")
    args = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cpus, medians of {args.rounds} alternating rounds\n")
    planning(args.rounds, args.calls)
    streaming(args.stream)
    return 0


# -- (a) planning ----------------------------------------------------------------------------------------------------


def planning(rounds: int, calls: int) -> None:
    """1,000 points, and hydra.compose for some of them."""
    print(f"planning {POINTS:,} points    (hydra.compose: {calls} calls, their mean × {POINTS:,})\n")
    print("combinations  of groups            ours, s   hydra.compose, s    ratio   wanted         fallbacks")
    for case in CASES:
        ours, hydras, fallbacks = [], [], 0
        for number in range(rounds):
            began = time.perf_counter()
            sweep = asked(case.overrides)
            planned = sum(isinstance(point, Point) for point in sweep.points())
            ours.append(time.perf_counter() - began)
            fallbacks = sweep.planner.counts.fallbacks
            assert planned >= POINTS, f"{planned} points are valid"
            hydras.append(seconds_of_hydra(case, max(1, calls // rounds), number) * POINTS)
        mine, theirs = statistics.median(ours), statistics.median(hydras)
        ratio = theirs / mine
        verdict = "" if case.wanted is None else f">= {case.wanted:.0f} {'met' if ratio >= case.wanted else 'NOT MET'}"
        names = ", ".join(group.partition("=")[0] for group in case.groups)
        columns = f"{case.combinations:>12}  {names:<20} {mine:9.2f} {theirs:18.1f} {ratio:8.0f}"
        print(f"{columns}   {verdict:<14} {fallbacks:>9}")


def asked(overrides: Sequence[str]) -> Sweep:
    """A sweep as the command line would open it."""
    request = Request(
        overrides=tuple(overrides), sources=find_sources(environ={}), invocation=mint(), environ=dict[str, str]()
    )
    return open_sweep(request, cwd=Path.cwd())


def seconds_of_hydra(case: Case, calls: int, number: int) -> float:
    """The mean time of hydra.compose for points spread over the sweep, a different set each round."""
    sweep = asked(case.overrides)
    every = [[o.input_line or "" for o in draft.overrides] for draft in sweep.design]
    chosen = every[number :: max(1, len(every) // calls)][:calls]
    open_loader(sweep.planner.request)  # the nodes that conf/ refers to
    with initialize_config_dir(str(sweep.planner.request.sources.packaged.conf), version_base="1.3"):
        compose("config", chosen[0])  # warms what it can keep warm
        began = time.perf_counter()
        for overrides in chosen:
            compose("config", overrides)
        return (time.perf_counter() - began) / len(chosen)


# -- a long stream ---------------------------------------------------------------------------------------------------


def streaming(number: int) -> None:
    """Many points, none of which is kept."""
    points = asked(
        (
            "backend=local,docker",
            f"model.parameters.wind_stress=range(0,{number})",
            "vars.a=1,2,3",
            "run_id='p-${hydra:job.num}'",
        )
    ).points()
    for _ in range(WARM_POINTS):  # every memory of the composer is full
        next(points)
    before = resident_kb()
    began = time.perf_counter()
    count = exhausted(points, number)
    seconds = time.perf_counter() - began
    after = resident_kb()
    growth = (after - before) / count
    verdict = "met" if growth <= WANTED_KB_PER_POINT else "NOT MET"
    print(f"\na stream of {count:,} points: {seconds:.1f} s, {seconds / count * 1e6:.0f} µs a point")
    print(
        f"memory {before / 1024:.0f} MB before, {after / 1024:.0f} MB after: {growth:.3f} KB a point"
        f"   wanted <= {WANTED_KB_PER_POINT:.0f} {verdict}"
    )


def exhausted(points: Iterator[Any], number: int) -> int:
    """How many points came, at most `number`."""
    count = 0
    for _ in points:
        count += 1
        if count == number:
            break
    return count


def resident_kb() -> float:
    """What this process holds in memory now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


if __name__ == "__main__":
    sys.exit(main())

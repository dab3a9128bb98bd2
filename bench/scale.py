"""Sweeps of 100,000 points and more: planning, `status`, the start of a `resume`, memory and bytes on disk.

    python bench/scale.py [--points 100000] [--left 20]        a million: --points 1000000

The points are planned as `run -m` plans them; then the journal is filled as if all but a few had run, and the real
commands are timed on that directory.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAN = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from rompy_hydra.verbs import sweep as cli_sweep
from rompy_hydra.compose.invocation import command_request
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.compose.sweep_plans import open_sweep
sweep = open_sweep(command_request(sys.argv[2:], find_sources(), "config"), cwd=Path.cwd())
drive, _ = cli_sweep.plan_sweep(sweep, Path(sys.argv[1]), Path.cwd())
drive.lease.release()
print(sweep.planner.counts)
"""
COMMAND = ("model=command", "backend.command=true")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Big sweeps.")
    parser.add_argument("--points", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--left", type=int, default=20, help="how many are left to run (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-bench-") as folder:
        return _bench(Path(folder), args.points, args.left)


def _bench(folder: Path, points: int, left: int) -> int:
    sweep = folder / "sweep"
    began = time.perf_counter()
    _run([sys.executable, "-c", PLAN, str(sweep), *COMMAND, f"vars.n=range(0,{points})"], folder)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = (sweep / "plan.jsonl").stat().st_size
    print(f"planning {points} points   {took:8.1f} s, {took / points * 1e3:.2f} ms each, peak memory {peak:.0f} MiB")
    print(f"plan.jsonl              {size / 2**20:8.1f} MiB, {size / points:.0f} bytes each")
    _fill_journal(sweep, points, left)
    size = (sweep / "events.jsonl").stat().st_size
    print(f"events.jsonl            {size / 2**20:8.1f} MiB, {size / points:.0f} bytes each")
    digest, status = sweep / ".digest.json", [sys.executable, "-m", "rompy_hydra", "status", str(sweep)]
    for name, is_kept in (("without a digest", False), ("with a digest", True)):
        times = []
        for _ in range(5):
            if not is_kept:
                digest.unlink(missing_ok=True)  # the last look has left one
            times.append(_timed(status, folder))
        median = statistics.median(times)
        print(f"status, {name:<16}{median:8.2f} s{_verdict(median, 1.0)}")
    (sweep / ".digest.json").unlink()
    took = _timed([sys.executable, "-m", "rompy_hydra", "resume", str(sweep)], folder)
    print(f"resume of the last {left:<5}{took:8.2f} s, without a digest, to its end{_verdict(took, 5.0)}")
    print(_run([sys.executable, "-m", "rompy_hydra", "status", str(sweep)], folder).splitlines()[1])
    return 0


def _verdict(seconds: float, wanted: float) -> str:
    return f", wanted at most {wanted:g} s: {'met' if seconds <= wanted else 'NOT MET'}"


def _fill_journal(sweep: Path, points: int, left: int) -> None:
    with (sweep / "events.jsonl").open("w") as events:
        events.write('{"t":"2026-11-24T06:00:00.000Z","e":"driver","host":"h","boot_id":"b","pid":1,"start_time":1}\n')
        for n in range(points - left):
            state = (
                '"failed","code":1,"reason":"its command ended with exit code 1"'
                if n % 5000 == 7
                else '"succeeded","code":0'
            )
            events.write(
                f'{{"t":"2026-11-24T06:00:00.000Z","e":"start","n":{n},"a":1,"token":"{n:016x}",'
                '"by":{"pid":4194303,"start_time":496973}}\n'
                f'{{"t":"2026-11-24T06:00:00.000Z","e":"end","n":{n},"a":1,"state":{state},'
                '"wall":0.002,"cpu":0.002,"mem":9555968}\n'
            )


def _timed(argv: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(argv, cwd=folder, env=os.environ, capture_output=True, check=False)
    return time.perf_counter() - began


def _run(argv: list[str], folder: Path) -> str:
    done = subprocess.run(argv, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

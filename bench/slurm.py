"""What Slurm sweeps cost beside a job array written by hand, side by side in one run on the Slurm that answers here.

    python bench/slurm.py [--points 200] [--packed 500] [--seconds 0.2]

submit    `run -m backend=slurm --detach` of all points: the whole command, until the jobs are in the queue
drain     the same points from the first submission to the end of the last one, against a hand-written job array of the
          same work in the same environment (`--export=NONE`: a node loads the user's log-in environment for every task,
          which takes as long as the user's profile takes; the time without that is told too); both are told by the
          files that the tasks write, so nobody's polling counts
packed    short runs in few jobs (`sweep.runs_per_job`) against one job each
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

POINT = ("model=command", "backend=slurm", "resources.time_limit=10m")
BY_HAND = """\
#!/bin/sh
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task=1
#SBATCH --time=0-00:10:00
#SBATCH --output=/dev/null
#SBATCH --export={export}
mkdir -p {folder}/$SLURM_ARRAY_TASK_ID && cd {folder}/$SLURM_ARRAY_TASK_ID || exit 4
{{ {work}; }} > stdout.log 2> stderr.log
"""
PATIENCE_S = 900.0


def main() -> int:
    """Measure and print; the exit code is 1 if a command fails or a point is missing."""
    parser = argparse.ArgumentParser(description="The cost of sweeps on Slurm.")
    parser.add_argument("--points", type=int, default=200, help="points of a sweep (default: %(default)s)")
    parser.add_argument("--packed", type=int, default=500, help="short runs to be packed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="work of a point (default: %(default)s)")
    args = parser.parse_args()
    # Not in /tmp by necessity, but where a node sees it: here node and we are one machine.
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-bench-") as folder:
        try:
            return _bench(Path(folder), args.points, args.packed, args.seconds)
        except subprocess.CalledProcessError as error:
            print(f"`{error.cmd}` failed with exit code {error.returncode}:\n{error.stderr}", file=sys.stderr)
            return 1


def _bench(folder: Path, points: int, packed: int, seconds: float) -> int:
    work = f"sleep {seconds}"
    hand, _ = _drained(folder / "hand", points, lambda place: _by_hand(folder, place, points, work, "NONE"))
    bare, _ = _drained(folder / "bare", points, lambda place: _by_hand(folder, place, points, work, "ALL"))
    ours, submit = _drained(folder / "ours", points, lambda place: _ours(folder, place, points, work))
    one_each, _ = _drained(folder / "each", packed, lambda place: _ours(folder, place, packed, "true"))
    in_few, _ = _drained(
        folder / "few", packed, lambda place: _ours(folder, place, packed, "true", f"sweep.runs_per_job={packed // 4}")
    )
    print(f"submit    {points} points: {submit:.2f} s (at most 2) {_met(submit <= 2)}")
    ratio = ours / hand
    both = f"{ours:.1f} s, by hand {hand:.1f} s"
    print(f"drain     {points} points: {both}: {ratio:.2f} x (at most 1.15) {_met(ratio <= 1.15)}")
    print(f"          by hand in the environment of the shell that submits: {bare:.1f} s")
    gain = one_each / in_few
    print(
        f"packed    {packed} short runs: {in_few:.2f} s in 4 jobs, {one_each:.1f} s in one each: "
        f"{gain:.1f} x faster (at least 10) {_met(gain >= 10)}"
    )
    return 0


def _met(is_met: bool) -> str:
    return "" if is_met else "NOT MET"


def _drained(place: Path, points: int, submit: Callable[[Path], None]) -> tuple[float, float]:
    """Seconds from the submission to the end of the last point, and those that the submitting command took."""
    before = time.time()
    submit(place)
    submitted_s = time.time() - before
    deadline = time.monotonic() + PATIENCE_S
    while len(ends := list(place.glob("**/end"))) < points:
        if time.monotonic() > deadline:
            raise SystemExit(f"{points - len(ends)} points have not ended in {PATIENCE_S:.0f} s: {place}")
        time.sleep(0.2)
    return max(end.stat().st_mtime for end in ends) - before, submitted_s


def _by_hand(folder: Path, place: Path, points: int, work: str, export: str) -> None:
    script = folder / "by_hand.sh"
    script.write_text(BY_HAND.format(last=points - 1, folder=place, work=f"{work}; touch end", export=export))
    _run(folder, "sbatch", "--parsable", str(script))


def _ours(folder: Path, place: Path, points: int, work: str, *more: str) -> None:
    command = f"model.command='{work}; touch end'"
    words = [*POINT, command, f"vars.n=range(0,{points})", f"hydra.sweep.dir={place}", *more]
    _run(folder, sys.executable, "-m", "rompy_hydra", "run", "-m", "--detach", *words)


def _run(folder: Path, *argv: str) -> None:
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(argv, cwd=folder, env=environment, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())

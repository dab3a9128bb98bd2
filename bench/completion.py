"""How long a TAB takes, against `import hydra`, side by side in one run.

    python bench/completion.py [-n ROUNDS]

Each round runs every command once; medians and their ratio are shown.  The index is made before the first round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINES = ("rompy-hydra ru", "rompy-hydra run model=", "rompy-hydra run backend.", "rompy-hydra check --")
LIMIT = 1.0


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="A TAB against importing Hydra.")
    parser.add_argument("-n", "--rounds", type=int, default=15, help="times each command is run (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-bench-") as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [str(Path(sys.executable).parent / "rompy-hydra"), "-sc", "query=bash"]
        baseline = [sys.executable, "-c", "import hydra"]

        def seconds(words: list[str], line: str = "") -> float:
            start = time.perf_counter()
            told = {**environment, "COMP_LINE": line, "COMP_POINT": str(len(line))}
            subprocess.run(words, env=told, cwd=folder, capture_output=True, check=True)
            return time.perf_counter() - start

        for line in LINES:
            seconds(command, line)
        times: dict[str, list[float]] = {line: [] for line in ("import hydra", *LINES)}
        for _ in range(rounds):
            times["import hydra"].append(seconds(baseline))
            for line in LINES:
                times[line].append(seconds(command, line))
    reference = statistics.median(times["import hydra"])
    for name, values in times.items():
        middle = statistics.median(values)
        verdict = "" if middle <= LIMIT * reference else "  NOT MET"
        print(f"{name:<28} {1000 * middle:7.1f} ms  ratio {middle / reference:.2f}{verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

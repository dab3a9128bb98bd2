"""How long the command line keeps a person waiting, against Hydra, side by side in one run.

    python bench/startup.py [-n ROUNDS]

Every round runs each command once, so that a busy moment hits all of them; the table shows medians and their ratio,
which is the only thing worth comparing on a noisy machine. A limit that is not met is shown, not punished: the exit
code is 1 only if a command fails.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEAVY = ("hydra", "omegaconf", "pydantic", "docker")
MINIMAL_HYDRA_APP = """\
import hydra


@hydra.main(version_base=None, config_path=None)
def app(config):
    pass


app()
"""


@dataclass(frozen=True)
class Comparison:
    """A command of ours, what it is measured against, and how many times as long it may take."""

    ours: str
    baseline: str
    limit: float


def main() -> int:
    """Measure, print the table, say which heavy modules the light commands import."""
    parser = argparse.ArgumentParser(description="Start-up times against Hydra's.")
    parser.add_argument("-n", "--rounds", type=int, default=15, help="times each command is run (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-bench-") as folder:
        try:
            return _bench(Path(folder), rounds)
        except subprocess.CalledProcessError as error:
            print(f"`{' '.join(error.cmd)}` failed with exit code {error.returncode}:\n{error.stderr}", file=sys.stderr)
            return 1


def _bench(folder: Path, rounds: int) -> int:
    app = folder / "app.py"
    app.write_text(MINIMAL_HYDRA_APP)
    door = _door()
    no_op = [*door, "run", "model=command", "backend.command=true", f"output_dir={folder / 'runs'}"]
    commands = {
        "rompy-hydra --help": [*door, "--help"],
        "rompy-hydra --version": [*door, "--version"],
        "python -c 'import hydra'": [sys.executable, "-c", "import hydra"],
        "a no-op run, composed anew": ["env", "ROMPY_HYDRA_CACHE=off", *no_op],
        "a no-op run, known before": no_op,
        "minimal @hydra.main app": [sys.executable, str(app)],
    }
    comparisons = [
        Comparison("rompy-hydra --help", "python -c 'import hydra'", 1.0),
        Comparison("rompy-hydra --version", "python -c 'import hydra'", 1.0),
        Comparison("a no-op run, composed anew", "minimal @hydra.main app", 1.5),
        Comparison("a no-op run, known before", "minimal @hydra.main app", 1.0),
    ]
    medians = _medians(commands, rounds, folder)
    print(f"medians of {rounds} alternating rounds, Python {sys.version.split()[0]}, {os.cpu_count()} cpus\n")
    print(f"{'command':<26} {'ms':>6}   {'against':<26} {'ms':>6}   {'ratio':>5}  {'limit':>5}")
    for comparison in comparisons:
        ours, baseline = medians[comparison.ours], medians[comparison.baseline]
        ratio = ours / baseline
        verdict = "met" if ratio <= comparison.limit else "NOT MET"
        print(
            f"{comparison.ours:<26} {ours * 1e3:6.0f}   {comparison.baseline:<26} {baseline * 1e3:6.0f}"
            f"   {ratio:5.2f}  {comparison.limit:5.2f}  {verdict}"
        )
    print(f"\nheavy is: {', '.join(HEAVY)}")
    for argument in ("--help", "--version"):
        modules = _imported([*door, argument], folder)
        heavy = [name for name in HEAVY if name in modules]
        print(f"{argument} imports {len(modules)} modules; heavy ones among them: {', '.join(heavy) or 'none'}")
    return 0


def _door() -> list[str]:
    """The installed script, as a person starts it."""
    script = Path(sys.executable).with_name("rompy-hydra")
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "rompy_hydra"]


def _medians(commands: dict[str, list[str]], rounds: int, folder: Path) -> dict[str, float]:
    for argv in commands.values():
        _run(argv, folder)  # warms the disk cache and writes the byte code
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, argv in commands.items():
            began = time.perf_counter()
            _run(argv, folder)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _imported(argv: Sequence[str], folder: Path) -> set[str]:
    """The modules that a command imports, as the interpreter itself reports them."""
    report = _run([argv[0], "-X", "importtime", *argv[1:]], folder)
    return {line.rpartition("|")[2].strip() for line in report.splitlines() if line.startswith("import time:")}


def _run(argv: Sequence[str], folder: Path) -> str:
    # byte code is wanted: a machine that forbids it would measure the compiler
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["XDG_CACHE_HOME"] = str(folder / "cache")
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=True).stderr


if __name__ == "__main__":
    sys.exit(main())

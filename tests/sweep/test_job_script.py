"""The script of a job that drives a sweep, compared as it is; nothing in it can be smuggled in."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from rompy_hydra.errors import ConfigError
from rompy_hydra.sweep.job_script import WRITERS, Request, estimated_time_s, script
from rompy_hydra.verbs.job_flags import KINDS

REQUEST = Request(
    name="sweep 2026/01",
    nodes=2,
    cpus_per_node=16,
    memory_bytes_per_node=32 * 2**30,
    time_s=5400,
    directory="/data/my project",
    log="/data/my project/sweep/driver.log",
    command=["/opt/venv/bin/python", "-m", "rompy_hydra", "resume", "/data/my project/sweep"],
    queue="normal",
    account="ab12",
    setup=["module purge", "module load openmpi"],
)
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf"])
def test_the_script_is_the_golden_one(kind: str) -> None:
    assert script(kind, REQUEST) == (GOLDEN / f"resume.{kind}").read_text()


@pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf"])
def test_the_script_is_sound_for_a_shell(kind: str) -> None:
    hostile = dataclasses.replace(REQUEST, directory="/a'b $(touch x)\n;c", name="$(touch x)\n#PBS -l bad")
    text = script(kind, hostile)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    directives = [line for line in text.splitlines() if line.startswith(("#SBATCH", "#PBS", "#BSUB"))]
    assert sum("bad" in line for line in directives) <= 1  # inside the name, which is one word, or cut off
    assert not any(line.split()[1].startswith("-l") and "bad" in line for line in directives)


def test_a_failing_set_up_line_ends_the_job(tmp_path: Path) -> None:
    request = dataclasses.replace(
        REQUEST, directory=str(tmp_path), log=str(tmp_path / "log"), setup=["false"], command=["touch", "ran"]
    )
    assert subprocess.run(["sh"], input=script("pbs", request), text=True, check=False).returncode == 4
    assert not (tmp_path / "ran").exists()
    good = dataclasses.replace(request, setup=["true"])
    assert subprocess.run(["sh"], input=script("pbs", good), text=True, check=False).returncode == 0
    assert (tmp_path / "ran").exists()


def test_a_queue_that_is_no_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="partition"):
        script("pbs", dataclasses.replace(REQUEST, queue="a\n#PBS -l x"))


def test_the_time_is_what_the_points_need_on_so_many_cpus() -> None:
    assert estimated_time_s(None, 4, None) is None
    assert estimated_time_s(3600, 4, 600) == 900 + 600 + 120


def test_the_flag_names_every_kind_of_script() -> None:
    assert list(KINDS) == sorted(WRITERS)

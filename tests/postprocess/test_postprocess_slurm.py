"""`postprocess … --slurm`: the real Slurm runs it, after the jobs that it has to wait for."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.sweep.commands import Sweeps, until

SLURM = ("backend=slurm", "backend.partition=debug", "resources.memory=100MB")
WITH = ("--slurm", "--with", "backend.partition=debug", "--with", "resources.memory=200MB")
PATIENCE_S = 110.0


def answers(sweeps: Sweeps, path: str) -> dict[str, object]:
    record = sweeps.directory / path / "run.json"
    found: dict[str, object] = json.loads(record.read_text()).get("postprocess", {}) if record.exists() else {}
    return found


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("slurm-postprocess")
def test_it_waits_for_the_jobs_of_a_sweep_that_nobody_drives(tmp_path: Path) -> None:
    place = tmp_path / "it's a place"
    place.mkdir()
    sweeps = Sweeps(place)
    command = 'backend.command="sleep 3; echo ${vars.n} > field"'
    sweeps.run("run", "-m", *SLURM, "model=command", command, "vars.n=1,2", "hydra.sweep.dir=sw", "--detach")
    told = sweeps.run("postprocess", "sw", "processor=archive", "exclude=*.tmp", *WITH)
    assert "waits in the queue" in told.stdout
    until(lambda: all(answers(sweeps, f"sw/{n}") for n in range(2)), PATIENCE_S)
    for number in range(2):
        assert answers(sweeps, f"sw/{number}")["success"] is True
        with tarfile.open(place / "sw" / str(number) / f"{number}.tar.gz") as archive:
            field = archive.extractfile(f"{number}/field")
            assert field is not None
            assert field.read() == f"{number + 1}\n".encode()
    [job] = (place / "postprocess-jobs").iterdir()

    def is_over() -> bool:
        return bool(json.loads(sweeps.run("status", "--json", str(job)).stdout)["state"] == "succeeded")

    until(is_over, PATIENCE_S)
    assert "2 done" in sweeps.run("logs", str(job)).stdout


def test_what_does_not_go_with_it_is_refused(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    for words, says in (
        (["--with", "a=b"], "goes with --slurm"),
        (["--slurm", "--prune"], "not with --prune"),
        (["--slurm", "processor=archiv"], "did you mean 'archive'"),
        (["--slurm", "processor=archive", "include=${a}"], "cannot be handed to Slurm"),
    ):
        assert says in sweeps.run("postprocess", ".", *words, code=2).stderr

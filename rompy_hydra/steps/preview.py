"""What a dry run shows of one run beside its plan: the script that a scheduler would get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.run.slurm import single_script
from rompy_hydra.run.slurm_script import SlurmSettings
from rompy_hydra.steps.jobs import make_job
from rompy_hydra.steps.lookups import Lookups
from rompy_hydra.steps.prepare import prepare
from rompy_hydra.workspace.layout import run_directory

_TOKEN = "by-hand"  # noqa: S105 - in place of the random mark of a submission


def script_of(plan: RunPlan, lookups: Lookups) -> str | None:
    """The job script of a plan for a scheduler, None for other backends; sbatch takes it as it is.

    It is that of the submission but for its mark, which is new each time, and for where Slurm's own words go.
    """
    prepared = prepare(plan, lookups=lookups, make=False)
    if not isinstance(prepared.settings, SlurmSettings):
        return None
    layout = run_directory(plan.output_dir, plan.run_id)
    job = make_job(prepared, layout, {})
    batch = Path(job.run_dir, "logs", f"job-{_TOKEN}")
    settings: SlurmSettings = job.settings
    if settings.output_file is None:  # a job's output cannot go into a directory that only the job will make
        settings = replace(settings, output_file=str(plan.base / f"slurm-{_TOKEN}-%j.out"))
    return single_script(job, settings, batch=batch, token=_TOKEN, note="\n".join(prepared.resources.notes))

"""The path of one run on one screen.

    plan → prepare → workspace → executor → record → postprocess

`prepare` finds everything that can be wrong before anything is written; after the executor has the job, its keeper
owns the record until the run has ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rompy_hydra.errors import SiteError
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.record import store
from rompy_hydra.run.base import Executor, Job, RunningJob
from rompy_hydra.run.planner import Tell
from rompy_hydra.steps.claim import claim_directory, first_record, new_run, write_hydra_files
from rompy_hydra.steps.jobs import fill_workspace, make_job
from rompy_hydra.steps.lookups import Lookups
from rompy_hydra.steps.prepare import Prepared, prepare
from rompy_hydra.steps.processing import postprocess
from rompy_hydra.steps.source import keep_source
from rompy_hydra.workspace.layout import RunLayout
from rompy_hydra.workspace.run_record import RunRecord

Watch = Callable[[str, RunLayout], None]
"""Told what happens: an event (`skipped`; or `starting`, `started`, `ended`) and the run's directory."""


def run(
    plan: RunPlan,
    executor: Executor,
    *,
    target: Callable[[], object] | None = None,
    workspace_dir: Path | None = None,
    watch: Watch = lambda *_: None,
    tell: Tell = lambda _: None,
    detach: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Run one plan to its end and hand back its record.

    `target` is a Python callable that runs instead of a command; `workspace_dir` is a workspace that was generated
    elsewhere; `tell` gets sentences about what takes long before the start (an image is built).  A failed simulation
    is a result (the record's state), an impossible request is an error.

    With `detach` the record is handed back as soon as the run is started (a job: in the queue).  `leave` is asked when
    we are interrupted while a job waits or runs that goes on without us: whether it may.
    """
    lookups = Lookups(tell=tell)
    prepared = prepare(plan, target=target, render=workspace_dir is None, lookups=lookups)
    spec = prepared.spec
    layout, finished = claim_directory(prepared)
    if finished is not None:
        watch("skipped", layout)
        return finished
    if layout.run_dir.name != plan.run_id:  # on_existing=new: files and record know the name that was free
        renamed = plan.renamed(layout.run_dir.name)
        prepared = prepare(renamed, target=target, render=workspace_dir is None, lookups=lookups)
    with new_run(layout, prepared) as record:
        generated = fill_workspace(layout, prepared)
        write_hydra_files(layout, prepared.plan)
        keep_source(layout, prepared)
        watch("starting", layout)
        running = executor.start(make_job(prepared, layout, generated, workspace_dir), record)
    watch("started", layout)
    if detach:
        return RunRecord(layout.run_dir, store.read_record(layout.run_dir))
    wait(running, leave)
    data = retry(prepared, layout, executor, lambda n: make_job(prepared, layout, generated, workspace_dir, attempt=n))
    watch("ended", layout)
    return postprocess(RunRecord(layout.run_dir, data), spec.postprocess.processor, spec.postprocess.options)


def retry(prepared: Prepared, layout: RunLayout, executor: Executor, job_of: Callable[[int], Job]) -> dict[str, Any]:
    """Try a run that ended badly again, as its configuration says; the record of the last attempt."""
    rules = prepared.spec.retry
    data = store.read_record(layout.run_dir)
    if rules.attempts == 1 or not rules.wants(data["state"], data["exit_code"]):
        return data
    if len(data.get("attempts") or []) >= rules.attempts:  # the node has tried again by itself
        return data
    from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential

    again = Retrying(
        stop=stop_after_attempt(rules.attempts),
        wait=wait_exponential(multiplier=rules.wait, max=rules.max_wait),
        retry=retry_if_result(lambda ended: rules.wants(ended["state"], ended["exit_code"])),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    attempts = itertools.count(1)

    def one() -> dict[str, Any]:
        number = next(attempts)
        if number == 1:
            return data  # the one that has ended already
        before = store.read_record(layout.run_dir)
        fill_workspace(layout, prepared)
        wait(executor.start(job_of(number), {**first_record(layout, prepared), "attempts": before["attempts"]}))
        return store.read_record(layout.run_dir)

    ended: dict[str, Any] = again(one)
    return ended


def wait(running: RunningJob, leave: Callable[[], bool] = lambda: False) -> None:
    """Wait for the end; an interruption asks for the end of the run and waits for that.

    One that goes on without us may be left, if `leave` says so.
    """
    try:
        outcome = running.wait()
    except KeyboardInterrupt as interrupt:
        if getattr(running, "goes_on_without_us", False) and leave():
            raise
        running.cancel(str(interrupt) or "interrupted from the keyboard")
        running.wait()
        raise
    if running.record_error and outcome is not None:
        how = f"{outcome.state}: {outcome.reason}"
        raise SiteError(f"the run ended ({how}), but its record could not be written: {running.record_error}")

"""Prepared → Job: the workspace filled, and the plan in the terms of an operating system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rompy_hydra.run.base import Job, SuccessRules
from rompy_hydra.run.plugin import SeedBackendCall
from rompy_hydra.steps.prepare import Prepared
from rompy_hydra.workspace.layout import RunLayout
from rompy_hydra.workspace.placing import place_inputs
from rompy_hydra.workspace.render import write_workspace

CHOOSE_CPUS = (-1,)
"""In place of the numbers of processors: those where least is going on."""


def fill_workspace(layout: RunLayout, prepared: Prepared) -> dict[str, tuple[int, int]]:
    """Write the rendered files and place the inputs; what is there afterwards: name to (bytes, mtime in ns)."""
    generated = write_workspace(layout, prepared.files) if prepared.files else {}
    return generated | place_inputs(layout, prepared.inputs) if prepared.inputs else generated


def make_job(
    prepared: Prepared,
    layout: RunLayout,
    generated: Mapping[str, tuple[int, int]],
    workspace_dir: Path | None = None,
    attempt: int = 1,
    *,
    cpus: tuple[int, ...] | None = CHOOSE_CPUS,
    record_start: bool = True,
) -> Job:
    """The plan in the terms of an operating system; a further attempt has logs of its own and may get more."""
    if cpus == CHOOSE_CPUS:
        is_opaque = isinstance(prepared.target, SeedBackendCall)
        cpus = None if is_opaque else prepared.planner.choose_cpus(prepared.spec.resources, prepared.resources)
    spec, backend = prepared.spec, prepared.spec.backend
    target = prepared.target
    capture = getattr(backend, "capture_output", True)
    limits = [x for x in (backend.timeout, prepared.resources.time_limit) if x is not None]
    longer, larger = spec.retry.factor("time_limit", attempt), spec.retry.factor("memory", attempt)
    memory = prepared.resources.memory
    directory = backend.working_dir or workspace_dir or layout.run_dir
    settings = prepared.settings
    if settings is not None:
        links = [file.name.as_posix() for file in prepared.inputs]
        labels = {"rompy-hydra.run_id": layout.run_dir.name, "rompy-hydra.science_id": prepared.science_id}
        settings = settings.placed(run_dir=layout.run_dir, directory=directory, links=links, labels=labels)
    return Job(
        run_id=layout.run_dir.name,
        run_dir=str(layout.run_dir),
        directory=str(directory),
        argv=prepared.program.argv,
        target=target.placed(layout.run_dir, workspace_dir or layout.run_dir)
        if isinstance(target, SeedBackendCall)
        else target,
        environment=prepared.environment,
        stdout=str(layout.log("stdout", attempt)) if capture else None,
        stderr=str(layout.log("stderr", attempt)) if capture else None,
        timeout_s=min(limits) * longer if limits else None,
        memory_bytes=int(memory * larger) if memory is not None else None,
        cpu_affinity=cpus,
        abort_on=tuple(spec.model.abort_on),
        success=success_rules(prepared),
        clean_failed=spec.on_failure == "remove_outputs",
        generated=generated,
        record_start=record_start,
        check_log=str(layout.log("check")) if layout.flat else None,
        settings=settings,
    )


def success_rules(prepared: Prepared) -> SuccessRules:
    """The model's idea of success, in the executor's terms."""
    rules = prepared.spec.model.success
    return SuccessRules(
        exit_codes=tuple(rules.exit_codes),
        files=tuple(rules.files),
        nonempty=tuple(rules.nonempty),
        log_has=tuple(rules.log_has),
        log_lacks=tuple(rules.log_lacks),
        check=prepared.program.check,
    )

"""The path of one run on one screen.

    plan → prepare → workspace → executor → record → postprocess

`prepare` finds everything that can be wrong before anything is written; after the executor has the job, its keeper
owns the record until the run has ended.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from rompy_hydra.errors import ConfigError, Finding, RecordError, RompyHydraError, SiteError
from rompy_hydra.plan.identity import marked, point_id, science_id
from rompy_hydra.plan.resources import SettledResources, launcher_ranks
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.postprocess import check_options, name_of, process
from rompy_hydra.record import provenance, store
from rompy_hydra.record.liveness import ProcessIdentity
from rompy_hydra.record.states import RunState
from rompy_hydra.redaction import redact
from rompy_hydra.run.base import Executor, Job, RunningJob, SuccessRules
from rompy_hydra.run.command import command_key
from rompy_hydra.run.observe import observe
from rompy_hydra.run.placement import says_cpus
from rompy_hydra.run.planner import Planner, Settings, Tell, planner_for
from rompy_hydra.run.plugin import SeedBackendCall, seed_call
from rompy_hydra.run.program import Machinery, Program
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.inputs import (
    InputFile,
    clashes_with_files,
    find_inputs,
    identify,
    science_part,
    template_names,
)
from rompy_hydra.workspace.layout import RunLayout, run_directory
from rompy_hydra.workspace.placing import place_inputs
from rompy_hydra.workspace.render import RenderedFile, render_workspace, write_workspace
from rompy_hydra.workspace.template import Template, load_template

Watch = Callable[[str, RunLayout], None]
"""Told what happens: an event (`skipped`; or `starting`, `started`, `ended`) and the run's directory."""


Found = TypeVar("Found")
_MOST_KEPT = 1024


class Lookups:
    """What preparing a run finds out beside its plan, found once: the points of a sweep share one, a single run has
    its own.

    `repositories` are named in the records in place of the plan's (which may be a snapshot); `is_shared`: other runs
    are meant to run beside this one, so one that says nothing of CPUs is held to one.
    """

    def __init__(
        self,
        *,
        repositories: Sequence[Path] | None = None,
        is_shared: bool = False,
        tell: Tell = lambda _: None,
    ) -> None:
        self.tell = tell
        self.repositories = tuple(repositories) if repositories is not None else None
        self.is_shared = is_shared
        self.machinery = Machinery()
        self.hashes = FileHashes()
        self._found: dict[Hashable, Any] = {}

    def once(self, find: Callable[[], Found], *key: Hashable) -> Found:
        """What `find` gives, which depends on nothing but `key`; asked again only where a key cannot be kept."""
        try:
            return self._found[key]  # type: ignore[no-any-return]
        except KeyError:
            pass
        except TypeError:  # something in it is a list or a map
            return find()
        if len(self._found) >= _MOST_KEPT:
            self._found.clear()
        found = self._found[key] = find()
        return found


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A record and the directory it lies in."""

    run_dir: Path
    data: dict[str, Any]
    skipped: bool = False

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return RunState(self.data["state"])

    @property
    def succeeded(self) -> bool:
        """Whether the run succeeded."""
        return self.state is RunState.SUCCEEDED

    @property
    def logs(self) -> list[Path]:
        """The log files, where the record lies now (the record names them where they were written)."""
        return [self._log(path) for path in (self.data.get("logs") or {}).values()]

    def _log(self, written: str) -> Path:
        in_logs = Path(written).parent.name == "logs"  # else a point of a sweep, which has them beside its record
        return RunLayout(self.run_dir, flat=not in_logs).logs / Path(written).name

    @property
    def postprocess_failed(self) -> bool:
        """Whether a postprocessor ran and failed; the run's own state is untouched by it."""
        done = self.data.get("postprocess")
        return isinstance(done, dict) and done.get("success") is False


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that is known before the first byte is written."""

    plan: RunPlan
    resources: SettledResources
    program: Program
    target: Callable[[], object] | None
    environment: Mapping[str, str]
    files: list[RenderedFile] = field(default_factory=list)
    inputs: list[InputFile] = field(default_factory=list)
    science_id: str
    provenance: dict[str, Any]
    planner: Planner
    settings: Settings | None = None

    @property
    def spec(self) -> RunSpec:
        """The plan's configuration."""
        return self.plan.spec


def run(
    plan: RunPlan,
    executor: Executor,
    *,
    target: Callable[[], object] | None = None,
    workspace_dir: Path | None = None,
    watch: Watch = lambda *_: None,
    tell: Tell = lambda _: None,
) -> RunRecord:
    """Run one plan to its end and hand back its record.

    `target` is a Python callable that runs instead of a command; `workspace_dir` is a workspace that was generated
    elsewhere; `tell` gets sentences about what takes long before the start (an image is built).  A failed simulation
    is a result (the record's state), an impossible request is an error.
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
        _write_hydra_files(layout, prepared.plan)
        watch("starting", layout)
        running = executor.start(make_job(prepared, layout, generated, workspace_dir), record)
    watch("started", layout)
    wait(running)
    data = retry(prepared, layout, executor, lambda n: make_job(prepared, layout, generated, workspace_dir, attempt=n))
    watch("ended", layout)
    return postprocess(RunRecord(layout.run_dir, data), spec.postprocess.processor, spec.postprocess.options)


def prepare(
    plan: RunPlan,
    *,
    target: Callable[[], object] | None = None,
    render: bool = True,
    lookups: Lookups | None = None,
    make: bool = True,
) -> Prepared:
    """Settle, look up and render in memory; raises before anything is written.

    `make=False`: what a backend would make first (an image that is built or pulled) is only named, for a dry run.
    """
    spec = plan.spec
    lookups = lookups or Lookups()
    processing = spec.postprocess
    lookups.once(
        lambda: check_options(processing.processor, processing.options),
        "postprocess",
        processing.processor,
        _as_key(processing.options),
    )
    target = target or seed_call(plan)
    is_opaque = isinstance(target, SeedBackendCall)  # where it runs, and on how much, is its own affair
    kind = "local" if is_opaque else spec.backend.type
    if target is not None and kind != "local":
        raise _needs_a_command(spec)
    planner = lookups.once(lambda: planner_for(kind, lookups.tell), "planner", kind)
    launcher = _as_key(getattr(spec.backend, "mpiexec", None)), _as_key(spec.site.launcher), kind, planner.key(spec)
    resources = lookups.once(
        lambda: settle(spec) if is_opaque else planner.place(spec, settle(spec)),
        *("resources", is_opaque, spec.resources, spec.model.parallel, launcher),
    )
    env_files = [directory / ".env" for directory in (plan.base, *(r.parent for r in plan.repositories))]
    environment = _environment(spec, resources, launcher, lookups, planner, env_files)
    template = None
    if (directory := plan.template_directory) is not None:
        template = lookups.once(lambda: load_template(directory), "template", directory)
    program = Program(())
    if target is None:
        program = planner.program(spec, resources, environment, lookups.machinery)
    inputs, names = identify_inputs(plan, lookups.hashes)
    files: list[RenderedFile] = []
    if template is not None and render:
        files = render_workspace(template, _template_context(plan, resources, names))
    if inputs and (clashes := clashes_with_files(inputs, (file.path for file in files))):
        raise ConfigError("an input and a file of the template have one name", clashes)
    packages = tuple(spec.model.requires.packages)
    origin = lookups.once(
        lambda: provenance.collect(
            repositories=plan.repositories if lookups.repositories is None else lookups.repositories,
            packages=packages,
            executable=program.executable,
            argv=sys.argv,
        ),
        *("provenance", plan.repositories, packages, program.executable),
    )
    settings = planner.settings(plan, resources, env_files, make=make)
    if settings is not None:
        origin = {**origin, "image": settings.provenance()}
    return Prepared(
        plan=plan,
        resources=resources,
        program=program,
        target=target,
        environment=environment,
        files=files,
        inputs=inputs if render else [],
        science_id=_science_id(plan, template, origin, inputs),
        provenance=origin,
        planner=planner,
        settings=settings,
    )


def _needs_a_command(spec: RunSpec) -> ConfigError:
    return ConfigError(
        f"a Python object cannot run in the backend '{spec.backend.type}', which starts commands",
        [Finding(key="model", rule="is an object with run()", mend="give it a command, or take backend=local")],
    )


def _environment(
    spec: RunSpec,
    resources: SettledResources,
    launcher: Hashable,
    lookups: Lookups,
    planner: Planner,
    env_files: Sequence[Path],
) -> Mapping[str, str]:
    """The environment of a run; points that differ in nothing that matters for it share one."""
    given = (spec.env_vars, spec.model.env_vars, spec.backend.env_vars)
    is_held = lookups.is_shared and not says_cpus(spec.resources, resources)

    def find() -> dict[str, str]:
        asked = resources.as_resources() if is_held else spec.resources
        return planner.environment(spec.model_copy(update={"resources": asked}), resources, env_files)

    return lookups.once(find, "environment", spec.resources, resources, launcher, *map(_as_key, given), *env_files)


def _as_key(value: Any) -> Hashable:
    """A part of a key for `Lookups`: maps and lists of plain values, in their order."""
    if isinstance(value, Mapping):
        return tuple(value.items())
    return tuple(value) if isinstance(value, list) else value


def settle(spec: RunSpec) -> SettledResources:
    """The resources with every derived number; a launcher that says its own number of ranks is believed."""
    asked = spec.resources
    mpiexec = getattr(spec.backend, "mpiexec", None)
    if asked.ranks is None and mpiexec is not None and (said := launcher_ranks(mpiexec)):
        asked = asked.model_copy(update={"ranks": said})
    return asked.settle(spec.model.parallel)


def identify_inputs(plan: RunPlan, hashes: FileHashes) -> tuple[list[InputFile], dict[str, Any]]:
    """The inputs with their identities, and their names in the workspace; all that are missing are told at once."""
    specs = plan.spec.model.inputs
    if not specs:
        return [], {}
    found, findings = find_inputs(specs, base=plan.base, template_dir=plan.template_directory)
    if findings:
        raise ConfigError("the inputs are not as the configuration says", findings)
    return identify(found, hashes), template_names(specs, found)


def fill_workspace(layout: RunLayout, prepared: Prepared) -> dict[str, tuple[int, int]]:
    """Write the rendered files and place the inputs; what is there afterwards: name to (bytes, mtime in ns)."""
    generated = write_workspace(layout, prepared.files) if prepared.files else {}
    return generated | place_inputs(layout, prepared.inputs) if prepared.inputs else generated


def _template_context(plan: RunPlan, resources: SettledResources, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "inputs": inputs,
        "period": plan.spec.period,
        "parameters": plan.parameters,
        "resources": resources.model_dump(),
        "run_id": plan.run_id,
        "model": plan.spec.model.model_dump(),
        "vars": plan.spec.vars,
    }


def _science_id(plan: RunPlan, template: Template | None, origin: Mapping[str, Any], inputs: list[InputFile]) -> str:
    spec = plan.spec
    part = dict(marked(spec, "science"))
    part["model.parameters"] = plan.parameters
    if getattr(spec.backend, command_key(spec.backend), None) is not None:
        part.pop("model.command", None)
    executable = origin.get("executable") or {}
    image = origin.get("image")
    if image is not None and image["id"]:  # the image itself, whatever it is called and wherever it was built
        for name in ("image", "dockerfile", "build_context", "build_args"):
            part.pop(f"backend.{name}", None)
    content = {
        "template": template.sha256 if template is not None else None,
        "inputs": science_part(inputs),
        "executable": executable.get("identity"),
        "packages": {name: origin["packages"].get(name) for name in spec.model.requires.packages},
    }
    if image is not None:
        content |= {"image": image["id"], "packages": {}}  # what is installed here says nothing of what is in there
    return science_id(part, content)


def claim_directory(prepared: Prepared) -> tuple[RunLayout, RunRecord | None]:
    """The directory of the run, made here and now and by us alone; or the finished record that `skip` found."""
    spec = prepared.spec
    layout = run_directory(spec.output_dir, spec.run_id)
    number = 1
    while True:
        if _make(layout.run_dir, prepared):
            return layout, None
        if spec.on_existing == "new":
            number += 1
            layout = run_directory(spec.output_dir, f"{spec.run_id}-{number}")
            continue
        existing = _existing(layout)
        if spec.on_existing == "skip" and existing is not None:
            same = existing.data.get("science_id") == prepared.science_id
            if existing.succeeded and same:
                return layout, RunRecord(layout.run_dir, existing.data, skipped=True)
            why = f"it is {existing.state}" if same else "it is another simulation (its science_id differs)"
            raise ConfigError(_exists(layout, f"and cannot be skipped: {why}"), [_on_existing_finding(spec)])
        if spec.on_existing == "replace" and existing is not None:
            _remove_run(layout, existing)
            continue
        raise ConfigError(_exists(layout, "" if existing else "and is no run of ours"), [_on_existing_finding(spec)])


def _exists(layout: RunLayout, why: str) -> str:
    return f"the run directory {layout.run_dir} exists already {why}".rstrip()


def _on_existing_finding(spec: RunSpec) -> Finding:
    return Finding(
        key="run_id",
        value=spec.run_id,
        rule="its directory exists already",
        mend="choose another run_id, or add on_existing=new, on_existing=replace or on_existing=skip",
    )


def _make(directory: Path, prepared: Prepared) -> bool:
    """Make the run's directory; True if it is ours now.  One that only holds what `generate` makes counts as free."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir()
    except FileExistsError:
        if directory.is_dir() and not directory.is_symlink():
            return _holds_only_generated(directory, {f.path.as_posix() for f in prepared.files})
        raise SiteError(f"{directory} exists and is no directory") from None
    except OSError as error:
        raise SiteError(
            f"the run directory {directory} cannot be made: {error.strerror}; choose another output_dir"
        ) from error
    return True


def _holds_only_generated(directory: Path, generated: set[str]) -> bool:
    for path in directory.rglob("*"):
        relative = path.relative_to(directory).as_posix()
        if path.is_symlink() or (not path.is_dir() and relative not in generated):
            return False
        if path.is_dir() and not any(name.startswith(f"{relative}/") for name in generated):
            return False
    return True


def _existing(layout: RunLayout) -> RunRecord | None:
    if not layout.record.exists():
        return None
    return RunRecord(layout.run_dir, observe(layout.run_dir))


def _remove_run(layout: RunLayout, existing: RunRecord) -> None:
    """Delete one run's own directory; a run that is not over is never deleted."""
    if not existing.state.is_final:
        raise ConfigError(
            f"the run {layout.run_dir} is {existing.state} and cannot be replaced",
            [
                Finding(
                    key="on_existing",
                    value="replace",
                    rule="the run is not over",
                    mend="wait for its end, or cancel it",
                )
            ],
        )
    aside = layout.run_dir.with_name(f".{layout.run_dir.name[:200]}.replaced-{secrets.token_hex(4)}")
    try:
        layout.run_dir.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise SiteError(f"the old run {layout.run_dir} cannot be removed: {error}") from error


@contextmanager
def new_run(layout: RunLayout, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """The record of a run that is about to start; if it does not come to that, nothing half-made is left."""
    record = first_record(layout, prepared)
    try:
        store.write_record(layout.run_dir, record)
        layout.logs.mkdir(exist_ok=True)
        yield record
    except OSError as error:
        _forget(layout)
        raise SiteError(f"{error.filename or layout.run_dir}: {error.strerror}") from error
    except (RompyHydraError, KeyboardInterrupt):
        _forget(layout)
        raise


def _forget(layout: RunLayout) -> None:
    """Take back a run directory, unless a process has run in it."""
    if layout.record.exists() and {"process", "container"} & store.read_record(layout.run_dir).keys():
        return
    shutil.rmtree(layout.run_dir, ignore_errors=True)
    parent = layout.run_dir.parent
    try:
        parent.rmdir()  # only if it is empty: then it was made for this run, or holds nothing to lose
    except OSError:
        return


@lru_cache(maxsize=1)
def _ourselves(pid: int) -> dict[str, Any]:
    return ProcessIdentity.of(pid).to_dict()


def first_record(layout: RunLayout, prepared: Prepared) -> dict[str, Any]:
    """The record of a run that has not been started."""
    plan = prepared.plan
    science = prepared.science_id
    return {
        "schema": store.SCHEMA,
        "schema_version": store.SCHEMA_VERSION,
        "run_id": layout.run_dir.name,
        "science_id": science,
        "point_id": point_id(science, {}),
        "state": RunState.QUEUED.value,
        "exit_code": None,
        "signal": None,
        "reason": RunState.QUEUED.sentence,
        "created_at": store.utc(),
        "started_at": None,
        "ended_at": None,
        "cpu_seconds": None,
        "peak_memory_bytes": None,
        "model": plan.spec.model.name,
        "backend": plan.spec.backend.type,
        "command": provenance.redact_argv(prepared.program.argv),
        "logs": {},
        "overrides": list(plan.overrides),
        "choices": plan.choices,
        "config": plan.config,
        "resources": prepared.resources.model_dump(mode="json"),
        "provenance": prepared.provenance,
        "inputs": [file.entry() for file in prepared.inputs],
        "outputs": [],
        "attempts": [],
        "watcher": {"role": "driver", **_ourselves(os.getpid())},
        "job_token": secrets.token_hex(8),
    }


def _write_hydra_files(layout: RunLayout, plan: RunPlan) -> None:
    if plan.hydra_files:
        layout.hydra.mkdir(exist_ok=True)
        for name, text in plan.hydra_files.items():
            (layout.hydra / name).write_text(text, encoding="utf-8")


def retry(prepared: Prepared, layout: RunLayout, executor: Executor, job_of: Callable[[int], Job]) -> dict[str, Any]:
    """Try a run that ended badly again, as its configuration says; the record of the last attempt."""
    rules = prepared.spec.retry
    data = store.read_record(layout.run_dir)
    if rules.attempts == 1 or not rules.wants(data["state"], data["exit_code"]):
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


CHOOSE_CPUS = (-1,)
"""In place of the numbers of processors: those where least is going on."""


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


def wait(running: RunningJob) -> None:
    """Wait for the end; an interruption asks for the end of the run and waits for that."""
    try:
        outcome = running.wait()
    except KeyboardInterrupt as interrupt:
        running.cancel(str(interrupt) or "interrupted from the keyboard")
        running.wait()
        raise
    if running.record_error and outcome is not None:
        how = f"{outcome.state}: {outcome.reason}"
        raise SiteError(f"the run ended ({how}), but its record could not be written: {running.record_error}")


@dataclass(frozen=True, slots=True)
class _Finished:
    """What a postprocessor sees of a run."""

    run_id: str
    output_dir: Path
    record: dict[str, Any]


def postprocess(record: RunRecord, processor: Any, options: Mapping[str, Any]) -> RunRecord:
    """Process the outputs of a run that succeeded; what comes of it stands in the record, beside the state."""
    return _process(record, processor, options) if record.succeeded else record


def postprocess_again(run_dir: str) -> int:
    """What a process of its own does for a run that has ended: its postprocessor; the answer is the exit code."""
    return int(process_run(Path(run_dir)).postprocess_failed)


def process_run(run_dir: Path, processor: str | None = None, options: Mapping[str, Any] | None = None) -> RunRecord:
    """Process the outputs of a run that has ended, well or not: as its own configuration says, or by another processor.

    Raises `RecordError` for a run that has not ended, `ConfigError` for an unknown processor or option.
    """
    record = RunRecord(run_dir.absolute(), observe(run_dir))
    if not record.state.is_final:
        raise RecordError(f"the run {run_dir} is {record.state.value}; it is processed when it has ended")
    if processor is None:
        told = (record.data.get("config") or {}).get("postprocess") or {}
        processor, options = told.get("processor", "noop"), told.get("options", {})
    check_options(processor, options or {})
    return _process(record, processor, options or {})


def _process(record: RunRecord, processor: Any, options: Mapping[str, Any]) -> RunRecord:
    finished = _Finished(record.run_dir.name, record.run_dir.parent, record.data)
    started = time.monotonic()
    try:
        answer = json.loads(json.dumps(process(processor, finished, options), default=str, skipkeys=True))
    except (RompyHydraError, ValueError, RecursionError) as error:  # what is wrong now was right before the run
        answer = {"success": False, "error": f"{type(error).__name__}: {error}"}
    answer = {"processor": name_of(processor), **answer, "seconds": round(time.monotonic() - started, 3)}
    data = {**record.data, "postprocess": redact(answer)}
    store.write_record(record.run_dir, data)
    return RunRecord(record.run_dir, data)

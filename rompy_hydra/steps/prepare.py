"""plan → Prepared: settle, look up and render in memory; all that can be wrong is found before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.identity import marked, science_id
from rompy_hydra.plan.resources import SettledResources, launcher_ranks
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.postprocess import check_options
from rompy_hydra.record import provenance
from rompy_hydra.run.command import command_key
from rompy_hydra.run.placement import says_cpus
from rompy_hydra.run.planner import Planner, Settings, planner_for
from rompy_hydra.run.plugin import SeedBackendCall, seed_call
from rompy_hydra.run.program import Program
from rompy_hydra.steps.lookups import Lookups, as_key
from rompy_hydra.workspace.hashes import FileHashes
from rompy_hydra.workspace.inputs import (
    InputFile,
    clashes_with_files,
    find_inputs,
    identify,
    science_part,
    template_names,
)
from rompy_hydra.workspace.render import RenderedFile, render_workspace
from rompy_hydra.workspace.template import Template, load_template


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
        as_key(processing.options),
    )
    target = target or seed_call(plan)
    is_opaque = isinstance(target, SeedBackendCall)  # where it runs, and on how much, is its own affair
    kind = "local" if is_opaque else spec.backend.type
    if target is not None and kind != "local":
        raise _needs_a_command(spec)
    planner = lookups.once(lambda: planner_for(kind, lookups.tell), "planner", kind)
    launcher = as_key(getattr(spec.backend, "mpiexec", None)), as_key(spec.site.launcher), kind, planner.key(spec)
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
        files = render_workspace(template, template_context(plan, resources, names))
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
    if plan.reproduced is not None:  # its configuration comes from there, whatever lies here now
        origin = {**origin, "config_repositories": plan.reproduced.provenance.get("config_repositories", [])}
    if template is not None:
        origin = {**origin, "template": {"path": str(template.directory), "sha256": template.sha256}}
    settings = planner.settings(plan, resources, env_files, make=make)
    if settings is not None:
        origin = {**origin, **settings.provenance()}
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

    return lookups.once(find, "environment", spec.resources, resources, launcher, *map(as_key, given), *env_files)


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
    recorded = plan.reproduced.inputs if plan.reproduced is not None else {}
    return identify(found, hashes, recorded), template_names(specs, found)


def template_context(plan: RunPlan, resources: SettledResources, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a template may use."""
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

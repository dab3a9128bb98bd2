"""What a composed configuration must be: the one schema of a run, in pydantic.

    output_dir, run_id, on_existing · model · resources · backend · site · env_vars · postprocess · vars

The bridge validates a composed tree against `RunSpec`; the same classes give the ConfigStore its nodes, the editor its
schemas and the identities their marks (`json_schema_extra={"identity": science | execution | none}`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SerializeAsAny, field_validator
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import (
    BaseBackendConfig,
    Command,
    EnvVars,
    HouseModel,
    Launcher,
    Line,
    Text,
    WholeNumber,
    Word,
    check_text,
)
from rompy_hydra.backends.registry import config_class, known_names, plugin_names
from rompy_hydra.errors import ConfigError, did_you_mean
from rompy_hydra.plan.inputs import InputSpec
from rompy_hydra.plan.names import ModelName, RunId
from rompy_hydra.plan.period import Period
from rompy_hydra.plan.resources import Resources
from rompy_hydra.plan.retry import RetrySpec
from rompy_hydra.plan.sweep_spec import SweepSpec
from rompy_hydra.units.durations import PositiveSeconds
from rompy_hydra.units.sizes import Memory

Identity = Literal["science", "execution", "none"]
OnExisting = Literal["error", "new", "replace", "skip"]
OnFailure = Literal["keep", "remove_outputs"]
Parallel = Literal["serial", "openmp", "mpi", "hybrid"]


def mark(identity: Identity) -> dict[str, Any]:
    """The field's part in the two identities of a run."""
    return {"identity": identity}


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise PydanticCustomError("regex", "is no regular expression: {why}", {"why": str(error)}) from None
    return value


Pattern = Annotated[Text, AfterValidator(_pattern)]


def _below_the_run(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or not value:
        raise PydanticCustomError("pattern", "is a glob pattern below the run directory (not absolute, no '..')")
    return value


Glob = Annotated[Text, AfterValidator(_below_the_run)]


class FrozenModel(HouseModel):
    """Plain data that nobody changes after validation."""

    model_config = ConfigDict(frozen=True)


class SuccessSpec(FrozenModel):
    """What a model calls success; an exit code of 0 alone is not enough."""

    exit_codes: list[WholeNumber] = Field([0], description="Exit codes that may mean success.")
    files: list[Glob] = Field(default_factory=list, description="Patterns that must each match a file.")
    nonempty: list[Glob] = Field(
        default_factory=list, description="Patterns that must each match a file; all matches hold data."
    )
    log_has: list[Pattern] = Field(default_factory=list, description="Regular expressions a log line must match.")
    log_lacks: list[Pattern] = Field(default_factory=list, description="Regular expressions no log line may match.")
    check: Command | None = Field(None, description="A command, run in the run directory, that must exit with 0.")


class Requirements(FrozenModel):
    """What must be installed for a model, and what to type if it is not."""

    packages: list[Text] = Field(
        default_factory=list, description="Python distributions whose versions are part of the science identity."
    )
    install: Text | None = Field(None, description="The command that installs what is missing.")


class ModelSpec(FrozenModel):
    """What runs: a template with its parameters, or just a command."""

    name: ModelName = Field(..., description="Short name, part of the default run_id.", json_schema_extra=mark("none"))
    description: Text | None = Field(None, description="One line for people.", json_schema_extra=mark("none"))
    template: Text | None = Field(
        None, description="Directory below templates/ that generate() renders.", json_schema_extra=mark("science")
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="The template's parameters, typed by its template.yaml.",
        json_schema_extra=mark("science"),
    )
    command: Command | None = Field(
        None, description="Text for a shell or a list of arguments.", json_schema_extra=mark("science")
    )
    parallel: Parallel = Field(
        "serial", description="How the model can use several CPUs.", json_schema_extra=mark("none")
    )
    image: Text | None = Field(
        None, description="Container image that holds the model.", json_schema_extra=mark("none")
    )
    requires: Requirements = Field(
        default_factory=Requirements, description="What must be installed.", json_schema_extra=mark("none")
    )
    success: SuccessSpec = Field(
        default_factory=SuccessSpec, description="What success is.", json_schema_extra=mark("none")
    )
    abort_on: list[Pattern] = Field(
        default_factory=list,
        description="Regular expressions; a log line that matches one ends the run.",
        json_schema_extra=mark("none"),
    )
    env_vars: EnvVars = Field(
        default_factory=dict, description="Variables the model itself needs.", json_schema_extra=mark("science")
    )
    inputs: dict[Text, InputSpec] = Field(
        default_factory=dict,
        description="Files the model reads: name to {source, as, mode, required, identity}.",
        json_schema_extra=mark("none"),
    )


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("no_boolean", "a boolean is not a number")
    return value


class PartitionSpec(FrozenModel):
    """A partition (queue) of a site: what its nodes are, and how long a job may take there."""

    cpus: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="CPUs of one node.", json_schema_extra=mark("none")
    )
    memory: Memory | None = Field(None, description="Memory of one node.", json_schema_extra=mark("none"))
    gpus: Annotated[WholeNumber, Field(ge=0)] | None = Field(
        None, description="GPUs of one node.", json_schema_extra=mark("none")
    )
    nodes: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="How many nodes there are.", json_schema_extra=mark("none")
    )
    time_limit: PositiveSeconds | None = Field(
        None, description="What a job may take there at most.", json_schema_extra=mark("none")
    )


class SiteSpec(FrozenModel):
    """What a place is where runs run: its scheduler, its nodes, how a node is made ready, what an hour costs."""

    name: Text = Field("here", description="Name of the site, recorded.", json_schema_extra=mark("none"))
    hosts: list[Text] = Field(
        default_factory=list,
        description="Names of its machines, as `login*.cluster.org`; on one of them the site is chosen by itself.",
        json_schema_extra=mark("none"),
    )
    scheduler: Literal["none", "slurm", "pbs", "lsf"] = Field(
        "none", description="What its jobs are handed to.", json_schema_extra=mark("none")
    )
    launcher: Launcher | None = Field(
        None, description="MPI launcher where the backend names none.", json_schema_extra=mark("none")
    )
    node_launcher: list[Text] | None = Field(
        None,
        description="How a command is started on a node of an allocation; {host}, {cpus} and {index} are filled in.",
        json_schema_extra=mark("none"),
    )
    partition: Word | None = Field(None, description="Default partition.", json_schema_extra=mark("none"))
    partitions: dict[Text, PartitionSpec] = Field(
        default_factory=dict,
        description="Its partitions: {cpus, memory, gpus, nodes, time_limit}; a request is held against them.",
        json_schema_extra=mark("none"),
    )
    account: Word | None = Field(None, description="Default account.", json_schema_extra=mark("none"))
    qos: Word | None = Field(None, description="Default quality of service.", json_schema_extra=mark("none"))
    mail_user: Word | None = Field(None, description="Who gets the mail.", json_schema_extra=mark("none"))
    purge: bool = Field(
        True, description="Whether `module purge` comes before the modules.", json_schema_extra=mark("none")
    )
    modules: list[Word] = Field(
        default_factory=list, description="Modules that every job loads.", json_schema_extra=mark("none")
    )
    module_init: Text | None = Field(
        None, description="File that defines `module` for /bin/sh, if not found.", json_schema_extra=mark("none")
    )
    setup: list[Line] = Field(
        default_factory=list,
        description="Lines of shell that make a node ready, after the modules; one that fails ends the job.",
        json_schema_extra=mark("none"),
    )
    shell: Word = Field("/bin/sh", description="The shell of job scripts.", json_schema_extra=mark("none"))
    scratch: Text | None = Field(None, description="Directory for big files.", json_schema_extra=mark("none"))
    project: Text | None = Field(None, description="Directory that stays.", json_schema_extra=mark("none"))
    max_array_size: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="Tasks of a job array at most (null: the scheduler is asked).", json_schema_extra=mark("none")
    )
    charge_rate: Annotated[float, BeforeValidator(_no_boolean), Field(ge=0)] | None = Field(
        None, description="What one core-hour costs.", json_schema_extra=mark("none")
    )
    charge_unit: Text = Field(
        "units", description="In what it is counted, as `SU` or `EUR`.", json_schema_extra=mark("none")
    )


class PostprocessSpec(FrozenModel):
    """What happens to the outputs after a run."""

    processor: Text = Field("noop", description="Name of the postprocessor.", json_schema_extra=mark("none"))
    options: dict[str, Any] = Field(default_factory=dict, description="Its options.", json_schema_extra=mark("none"))


def _backend(value: object) -> object:
    if isinstance(value, BaseBackendConfig):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("backend", "a backend is a mapping with a 'type'")
    kind = value.get("type")
    if not isinstance(kind, str):
        raise PydanticCustomError(
            "backend_type", "the backend has no type; known: {known}", {"known": ", ".join(known_names())}
        )
    try:
        cls = config_class(kind)
    except ConfigError as error:
        raise PydanticCustomError("backend_type", "{why}", {"why": _why_no_backend(kind, error)}) from None
    return cls.model_validate(value)


def _why_no_backend(kind: str, error: ConfigError) -> str:
    if kind not in (*known_names(), *plugin_names()):
        return f"there is no backend type '{kind}'; {did_you_mean(kind, known_names())}"
    return "; ".join(finding.rule for finding in error.findings)  # a plug-in that cannot be used, and why


def _no_period_if_nothing_is_said(value: object) -> object:
    if isinstance(value, dict) and all(value.get(key) is None for key in ("start", "end", "duration", "interval")):
        return None
    return value


class RunSpec(FrozenModel):
    """One run, whole.  Every key of a composed configuration is a field of this tree."""

    run_id: RunId = Field(..., description="Name of the run and of its directory.", json_schema_extra=mark("none"))
    output_dir: Annotated[Path, BeforeValidator(check_text)] = Field(
        Path("runs"), description="Directory that holds the runs.", json_schema_extra=mark("none")
    )
    on_existing: OnExisting = Field(
        "error",
        description="If the run's directory exists: error, new (next free name), replace, or skip if it succeeded.",
        json_schema_extra=mark("none"),
    )
    on_failure: OnFailure = Field(
        "keep",
        description="What becomes of the files that a run made which did not succeed: keep or remove_outputs.",
        json_schema_extra=mark("none"),
    )
    model: ModelSpec = Field(..., description="What runs.")
    resources: Resources = Field(default_factory=Resources, description="How much it may use.")
    backend: Annotated[SerializeAsAny[BaseBackendConfig], BeforeValidator(_backend)] = Field(
        ..., description="Where it runs."
    )
    period: Annotated[Period | None, BeforeValidator(_no_period_if_nothing_is_said)] = Field(
        None,
        description="The time that is simulated, UTC: {start, end or duration, interval, calendar}.",
        json_schema_extra=mark("science"),
    )
    retry: RetrySpec = Field(default_factory=RetrySpec, description="When a failed run is tried again.")
    site: SiteSpec = Field(default_factory=SiteSpec, description="What the place is.")
    postprocess: PostprocessSpec = Field(default_factory=PostprocessSpec, description="What happens afterwards.")
    sweep: SweepSpec = Field(
        default_factory=SweepSpec, description="The points of a sweep (-m) and how they are driven."
    )
    env_vars: EnvVars = Field(
        default_factory=dict,
        description="Variables for whatever runs, on every backend.",
        json_schema_extra=mark("none"),
    )
    vars: dict[str, Any] = Field(
        default_factory=dict,
        description="Your own values, for interpolation and templates.",
        json_schema_extra=mark("science"),
    )

    @field_validator("output_dir")
    @classmethod
    def _no_nul_and_expand_home(cls, value: Path) -> Path:
        return value.expanduser()

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
    Text,
    WholeNumber,
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


class SiteSpec(FrozenModel):
    """What a place is where runs run."""

    name: Text = Field("here", description="Name of the site, recorded.", json_schema_extra=mark("none"))
    launcher: Launcher | None = Field(
        None, description="MPI launcher where the backend names none.", json_schema_extra=mark("none")
    )
    partition: Text | None = Field(None, description="Default partition.", json_schema_extra=mark("none"))
    account: Text | None = Field(None, description="Default account.", json_schema_extra=mark("none"))
    qos: Text | None = Field(None, description="Default quality of service.", json_schema_extra=mark("none"))


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

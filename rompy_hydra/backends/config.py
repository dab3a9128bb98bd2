"""Where a run runs, as validated data: `BaseBackendConfig` and its children (the seed's public names).

One coercion policy for Python, files and the command line:

* text is never made from a number or a boolean (`env_vars: {N: 4}` in a file is refused with "quote it"; for a
  text field on the command line the bridge hands over the characters that were typed);
* a number may be written as numeric text (`"4"`, as it comes from an environment variable);
* a boolean is never a number, and only `true`/`false` are booleans;
* unknown fields are refused with the nearest known one.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from rompy_hydra.errors import did_you_mean
from rompy_hydra.redaction import redact
from rompy_hydra.units.durations import parse_duration, parse_slurm_time
from rompy_hydra.units.sizes import parse_memory

if TYPE_CHECKING:
    from typing import Self

_BUILTIN_ERRORS = frozenset(get_args(ErrorType))
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_VOLUME_MODES = frozenset({"ro", "rw", "z", "Z", "cached", "delegated", "consistent", "nocopy"}) | {
    f"{propagation}" for r in ("", "r") for propagation in (f"{r}shared", f"{r}slave", f"{r}private")
}
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+\Z")
_IMAGE = re.compile(
    r"(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d+)?)/)?"  # registry
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"  # repository
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"  # tag
    r"(?:@sha256:[0-9a-f]{64})?\Z"  # digest
)


def _mark(identity: str) -> dict[str, Any]:
    """The field's part in the two identities: `science`, `execution` or `none` (`plan/identity.py`)."""
    return {"identity": identity}


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("no_boolean", "a boolean is not a number")
    return value


def check_text(value: object) -> object:
    """Text, and only text: what a YAML file or Python hands over as a number is refused with the mend."""
    if isinstance(value, (bool, int, float)):
        shown = str(value).lower() if isinstance(value, bool) else value
        raise PydanticCustomError("quote_it", "{shown} is not text; quote it: '{shown}'", {"shown": f"{shown}"})
    if isinstance(value, str) and "\0" in value:
        raise PydanticCustomError("nul", "text must not hold a NUL character")
    return value


def _env_name(name: str) -> str:
    if not _ENV_NAME.match(name):
        raise PydanticCustomError(
            "env_name", "'{name}' is no name of an environment variable (letters, digits, _)", {"name": name}
        )
    return name


def _timeout_seconds(value: object) -> object:
    if value is None or isinstance(value, bool):
        return _no_bool(value)
    seconds = parse_duration(value).total_seconds()
    if not math.isfinite(seconds) or seconds != int(seconds):
        raise PydanticCustomError("whole_seconds", "must be whole seconds")
    return int(seconds)


def _memory_text(value: object) -> object:
    if value is not None:
        parse_memory(value)
    return value


def _command(value: object) -> object:
    """A non-empty shell text, or a non-empty list of arguments."""
    if isinstance(value, str):
        check_text(value)
        if not value.strip():
            raise PydanticCustomError("empty_command", "must not be empty; leave it out (null) for the model's own")
    elif isinstance(value, (list, tuple)):
        if not value or not isinstance(value[0], str) or not value[0].strip():
            raise PydanticCustomError("empty_command", "a command list must start with the program's name")
        for part in value:
            check_text(part)
        return list(value)
    return value


def _launcher(value: object) -> object:
    checked = _command(value)
    if isinstance(checked, str):
        try:
            shlex.split(checked)
        except ValueError as error:
            raise PydanticCustomError("quoting", "cannot be split into words: {why}", {"why": str(error)}) from None
    return checked


BackendClass = type[Any]  # a name of its own: inside the classes, `type` is a field
Text = Annotated[StrictStr, BeforeValidator(check_text)]
EnvVars = dict[Annotated[StrictStr, AfterValidator(_env_name)], Text]
Command = Annotated[StrictStr | list[StrictStr], BeforeValidator(_command)]
Launcher = Annotated[StrictStr | list[StrictStr], BeforeValidator(_launcher)]
WholeNumber = Annotated[int, BeforeValidator(_no_bool)]
_TIMEOUT_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 60, "maximum": 86400}, {"type": "string"}]}


class HouseModel(BaseModel):
    """What all our pydantic classes share: unknown fields are refused with a hint, inputs stay out of errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    @model_validator(mode="wrap")
    @classmethod
    def _hint_at_unknown_fields(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            if not any(p["type"] == "extra_forbidden" and len(p["loc"]) == 1 for p in problems):
                raise
            raise ValidationError.from_exception_data(error.title, [cls._with_hint(p) for p in problems]) from None

    @classmethod
    def _with_hint(cls, problem: ErrorDetails) -> InitErrorDetails:
        kind: Any = problem["type"]
        if kind == "extra_forbidden" and len(problem["loc"]) == 1:
            known = [field.alias or name for name, field in cls.model_fields.items()]
            hint = did_you_mean(str(problem["loc"][0]), known)
            kind = PydanticCustomError("extra_forbidden", "there is no such field; {hint}", {"hint": hint})
        elif kind not in _BUILTIN_ERRORS:
            kind = PydanticCustomError(kind, _message_template(problem["msg"]), problem.get("ctx"))
        details: InitErrorDetails = {"type": kind, "loc": problem["loc"], "input": problem["input"]}
        if isinstance(kind, str) and "ctx" in problem:
            details["ctx"] = problem["ctx"]
        return details

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            yield name, redact(value, name or "")


def _message_template(message: str) -> Any:
    return message  # pydantic asks for a literal; a message that was rendered already holds no placeholders


class BaseBackendConfig(HouseModel):
    """What every backend has.  Assignment validates the whole; a refused one leaves the object as it was."""

    type: str = Field("base", description="Which backend this is.")
    timeout: Annotated[int, Field(ge=60, le=86400)] | None = Field(
        None,
        description="Wall-clock limit in seconds, 60 to 86400, or a duration such as 2h; null: no limit by us.",
        json_schema_extra=_mark("none"),
    )
    env_vars: EnvVars = Field(
        default_factory=dict,
        description="Variables added to the run's environment; text to text.",
        json_schema_extra=_mark("none"),
    )
    working_dir: Path | None = Field(
        None,
        description="Where the command runs, if not in the run's own directory; must exist.",
        json_schema_extra=_mark("none"),
    )
    check_paths: Literal["submit_host", "run_host"] = Field(
        "submit_host",
        description="Where host paths must exist: here and now, or only on the machine that runs.",
        json_schema_extra=_mark("none"),
    )

    _backend: ClassVar[str] = ""

    @field_validator("timeout", mode="before")
    @classmethod
    def _parse_timeout(cls, value: object) -> object:
        return _timeout_seconds(value)

    @field_validator("working_dir", mode="before")
    @classmethod
    def _parse_working_dir(cls, value: object) -> object:
        return check_text(value)

    @model_validator(mode="after")
    def _directories_exist(self) -> Self:
        if self.working_dir is not None and self.check_paths == "submit_host" and not self.working_dir.is_dir():
            raise PydanticCustomError(
                "directory", "working_dir {path} is no existing directory", {"path": str(self.working_dir)}
            )
        return self

    def validate(self) -> bool:  # type: ignore[override]  # the seed's name; pydantic's class method of old is gone
        """Whether the configuration as it stands now still holds (paths may have gone since)."""
        try:
            type(self).model_validate(self.model_dump())
        except ValidationError:
            return False
        return True

    def get_backend_class(self) -> BackendClass:
        """The class that runs this configuration: `get_backend_class()().run(model_run, config) -> bool`."""
        raise NotImplementedError(f"{type(self).__name__} names no backend class; override get_backend_class()")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).model_fields or type(self).model_config.get("frozen"):
            super().__setattr__(name, value)
            return
        checked = type(self).model_validate({**self._given(), name: value})
        object.__setattr__(self, "__dict__", checked.__dict__)
        object.__setattr__(self, "__pydantic_fields_set__", self.__pydantic_fields_set__ | {name})

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}


class LocalConfig(BaseBackendConfig):
    """A process on this machine."""

    type: Literal["local"] = "local"
    command: Command | None = Field(
        None,
        description="Replaces the model's own command: text for a shell, or a list of arguments.",
        json_schema_extra=_mark("science"),
    )
    shell: StrictBool = Field(
        True,
        description="Whether a text command goes through /bin/sh or is split into words.",
        json_schema_extra=_mark("science"),
    )
    capture_output: StrictBool = Field(
        True,
        description="Keep stdout and stderr in log files; false leaves them to the terminal.",
        json_schema_extra=_mark("none"),
    )
    stream_output: StrictBool = Field(
        False, description="Show the output while it runs, too.", json_schema_extra=_mark("none")
    )
    mpiexec: Launcher | None = Field(
        None,
        description="The MPI launcher, as `mpirun -np 16`; without a number the run's ranks are added.",
        json_schema_extra=_mark("execution"),
    )

    def get_backend_class(self) -> BackendClass:
        """`rompy_hydra.run.LocalRunBackend`."""
        from rompy_hydra.run import LocalRunBackend

        return LocalRunBackend


class DockerConfig(BaseBackendConfig):
    """A container on a Docker engine; exactly one of `image` and `dockerfile`."""

    type: Literal["docker"] = "docker"
    image: Text | None = Field(
        None, description="Image name, `name[:tag][@sha256:digest]`.", json_schema_extra=_mark("science")
    )
    dockerfile: Path | None = Field(
        None, description="Dockerfile to build the image from.", json_schema_extra=_mark("science")
    )
    build_context: Path | None = Field(
        None, description="Directory to build in (default: the Dockerfile's).", json_schema_extra=_mark("science")
    )
    build_args: EnvVars = Field(
        default_factory=dict, description="Build arguments, text to text.", json_schema_extra=_mark("science")
    )
    executable: Command | None = Field(
        None,
        description="Replaces the model's own command inside the container.",
        json_schema_extra=_mark("science"),
    )
    mpiexec: Launcher | None = Field(
        None, description="The MPI launcher inside the container.", json_schema_extra=_mark("execution")
    )
    cpu: Annotated[float, BeforeValidator(_no_bool), Field(ge=1, le=128)] | None = Field(
        1, description="CPUs, 1 to 128; 1.5 is allowed; null: no limit.", json_schema_extra=_mark("execution")
    )
    memory: (
        Annotated[
            StrictStr | int,
            BeforeValidator(_memory_text),
            WithJsonSchema(
                {
                    "anyOf": [
                        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtT]([iI]?[bB])?|[bB])?\s*$"},
                        {"type": "integer"},
                    ]
                }
            ),
        ]
        | None
    ) = Field(None, description="Memory limit: `512m`, `1.5g`, `2gb`, or bytes.", json_schema_extra=_mark("execution"))
    user: Text | None = Field(
        None, description="User in the container (default: the caller's).", json_schema_extra=_mark("none")
    )
    volumes: list[Text] = Field(
        default_factory=list,
        description="Mounts, `host:container[:mode]`; host paths must exist; a named volume is `volume:NAME`.",
        json_schema_extra=_mark("none"),
    )
    network: Text | None = Field(None, description="Docker network.", json_schema_extra=_mark("none"))
    remove_container: StrictBool = Field(
        True, description="Remove the container after the run.", json_schema_extra=_mark("none")
    )
    stream_output: StrictBool = Field(
        False, description="Show the output while it runs, too.", json_schema_extra=_mark("none")
    )

    @field_validator("image")
    @classmethod
    def _image_is_a_reference(cls, value: str | None) -> str | None:
        if value is not None and not _IMAGE.match(value):
            raise PydanticCustomError("image", "'{image}' is no image name (name[:tag][@sha256:…])", {"image": value})
        return value

    @field_validator("volumes")
    @classmethod
    def _volumes_are_mounts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        must_exist = info.data.get("check_paths", "submit_host") == "submit_host"
        return [parse_volume(volume, must_exist=must_exist) for volume in value]

    @model_validator(mode="after")
    def _one_source_of_the_image(self) -> Self:
        if (self.image is None) == (self.dockerfile is None):
            given = "neither" if self.image is None else "both"
            raise PydanticCustomError(
                "image_xor_dockerfile",
                "Either image or dockerfile must be provided, and not both ({given} given)",
                {"given": given},
            )
        if self.check_paths == "submit_host":
            if self.dockerfile is not None and not self.dockerfile.is_file():
                raise PydanticCustomError("dockerfile", "dockerfile {path} is no file", {"path": str(self.dockerfile)})
            if self.build_context is not None and not self.build_context.is_dir():
                raise PydanticCustomError(
                    "build_context", "build_context {path} is no directory", {"path": str(self.build_context)}
                )
        return self

    def get_backend_class(self) -> BackendClass:
        """`rompy_hydra.run.DockerRunBackend`."""
        from rompy_hydra.run import DockerRunBackend

        return DockerRunBackend


def parse_volume(volume: str, *, must_exist: bool) -> str:
    """A mount `host:container[:mode]` with an absolute host path, or `volume:NAME:container[:mode]`.

    Raises a pydantic error: wrong number of parts, unknown mode, relative container path, missing host path.
    """
    named = volume.startswith("volume:")
    parts = (volume.removeprefix("volume:") if named else volume).split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise PydanticCustomError("volume", "'{volume}' is not of the form host:container[:mode]", {"volume": volume})
    host, container, *mode = parts
    if not PurePosixPath(container).is_absolute():
        raise PydanticCustomError(
            "volume", "'{volume}': the container path {path} must be absolute", {"volume": volume, "path": container}
        )
    modes = mode[0].split(",") if mode else []
    for word in modes:
        if word not in _VOLUME_MODES:
            raise PydanticCustomError(
                "volume",
                "'{volume}': unknown mode '{word}' (ro, rw, z, Z, …)",
                {"volume": volume, "word": word},
            )
    if named:
        if not _VOLUME_NAME.match(host):
            raise PydanticCustomError("volume", "'{name}' is no name of a volume", {"name": host})
        return volume
    path = Path(host).expanduser()
    path = path if path.is_absolute() else Path.cwd() / path
    if must_exist and not path.exists():
        raise PydanticCustomError(
            "volume",
            "'{volume}': host path {path} does not exist (a named volume is written volume:NAME:…)",
            {"volume": volume, "path": str(path)},
        )
    return ":".join([str(path), container, *mode])


class SlurmConfig(BaseBackendConfig):
    """A job of the Slurm workload manager (sbatch(1) names the fields)."""

    type: Literal["slurm"] = "slurm"
    queue: Text | None = Field(None, description="Queue; another name for partition.", json_schema_extra=_mark("none"))
    partition: Text | None = Field(None, description="Partition.", json_schema_extra=_mark("none"))
    account: Text | None = Field(None, description="Account to charge.", json_schema_extra=_mark("none"))
    qos: Text | None = Field(None, description="Quality of service.", json_schema_extra=_mark("none"))
    reservation: Text | None = Field(None, description="Reservation.", json_schema_extra=_mark("none"))
    constraint: Text | None = Field(None, description="Node features.", json_schema_extra=_mark("none"))
    nodes: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="Number of nodes.", json_schema_extra=_mark("execution")
    )
    ntasks: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="Number of tasks (MPI ranks).", json_schema_extra=_mark("execution")
    )
    cpus_per_task: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        None, description="CPUs of each task.", json_schema_extra=_mark("execution")
    )
    memory: Annotated[StrictStr | int, BeforeValidator(_memory_text)] | None = Field(
        None, description="Memory of the whole run.", json_schema_extra=_mark("execution")
    )
    gres: Text | None = Field(None, description="Generic resources, as `gpu:2`.", json_schema_extra=_mark("execution"))
    time_limit: Text | None = Field(
        None,
        description="Time limit of the job: `2:00:00`, `1-12:00:00`, `90m`; a bare number is refused as ambiguous.",
        json_schema_extra=_mark("none"),
    )
    command: Command | None = Field(
        None, description="Replaces the model's own command.", json_schema_extra=_mark("science")
    )
    mpiexec: Launcher | None = Field(
        None, description="Launcher inside the allocation (`srun`, `mpirun`).", json_schema_extra=_mark("execution")
    )

    @field_validator("time_limit", mode="before")
    @classmethod
    def _unambiguous_time(cls, value: object) -> object:
        if value is not None:
            try:
                parse_slurm_time(value)
            except ValueError as error:
                raise PydanticCustomError("time_limit", "{why}", {"why": str(error)}) from None
        return value

    @field_validator("queue", "partition", "account", "qos", "reservation", "constraint", "gres")
    @classmethod
    def _one_plain_line(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or re.search(r"[\s\x00-\x1f\x7f]", value)):
            raise PydanticCustomError("directive", "must be one word without blanks or line ends")
        return value

    @model_validator(mode="after")
    def _queue_is_partition(self) -> Self:
        if self.queue and self.partition and self.queue != self.partition:
            raise PydanticCustomError(
                "queue_partition",
                "queue ({queue}) and partition ({partition}) are two names for one thing; give one",
                {"queue": self.queue, "partition": self.partition},
            )
        return self

    def get_backend_class(self) -> BackendClass:
        """`rompy_hydra.run.SlurmRunBackend`."""
        from rompy_hydra.run import SlurmRunBackend

        return SlurmRunBackend

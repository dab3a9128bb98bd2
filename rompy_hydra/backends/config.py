"""Where a run runs, as validated data: `BaseBackendConfig` and its children (the seed's public names).

One coercion policy for Python, files and the command line:

* text is never made from a number or a boolean (`env_vars: {N: 4}` in a file is refused with "quote it"; for a
  text field on the command line the bridge hands over the characters that were typed);
* a number may be written as numeric text (`"4"`, as it comes from an environment variable);
* a boolean is never a number, and only `true`/`false` are booleans;
* unknown fields are refused with the nearest known one.

What looks like a credential is in no `repr`, `str`, dump or error of these classes; the attributes hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticKnownError
from pydantic_core.core_schema import ErrorType

from rompy_hydra.backends import forms
from rompy_hydra.backends.forms import fits
from rompy_hydra.errors import did_you_mean
from rompy_hydra.redaction import REDACTED, looks_like_credential, redact, redact_text
from rompy_hydra.units.durations import parse_duration, parse_slurm_time
from rompy_hydra.units.sizes import MINIMUM_MEMORY, parse_memory

if TYPE_CHECKING:
    from typing import Self

_UNKNOWN_FIELD = "Extra inputs are not permitted"
_BUILTIN_ERRORS = frozenset(get_args(ErrorType))


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


# -- the kinds of fields -----------------------------------------------------------------------------------------


def _env_name(name: str) -> str:
    if not name:
        raise PydanticCustomError("env_name", "Environment variable keys cannot be empty")
    if not fits(forms.ENV_NAME, name):
        raise PydanticCustomError(
            "env_name",
            "'{name}' is no name of an environment variable (letters, digits, _; no digit first)",
            {"name": name},
        )
    return name


def _env_value(value: object) -> object:
    if value is None:
        raise PydanticCustomError("env_value", "has no value (null); is the variable that it is read from set?")
    return check_text(value)


def _no_placeholder(values: dict[str, str]) -> dict[str, str]:
    """A dump with credentials taken out must not come back as if it were whole."""
    for name, value in values.items():
        if value == REDACTED and looks_like_credential(name):
            raise PydanticCustomError(
                "redacted", "the value of {name} was taken out; give it again, or ${{secret:{name}}}", {"name": name}
            )
    return values


def _command(value: object) -> object:
    """A non-empty shell text, or a non-empty list of arguments."""
    if isinstance(value, str):
        check_text(value)
        if not value.strip():
            raise PydanticCustomError("empty_command", "must not be empty; leave it out (null) for the model's own")
        _no_placeholder_in(value)
    elif isinstance(value, (list, tuple)):
        if not value or not isinstance(value[0], str) or not value[0].strip():
            raise PydanticCustomError("empty_command", "a command list must start with the program's name")
        for part in value:
            check_text(part)
        return list(value)
    else:
        check_text(value)
    return value


def _no_placeholder_in(command: str) -> None:
    if REDACTED in command and redact_text(plain := command.replace(REDACTED, "x")) != plain:
        raise PydanticCustomError(
            "redacted", "a credential was taken out of it ({mark}); give it again", {"mark": REDACTED}
        )


def _launcher(value: object) -> object:
    if isinstance(value, str) and not value:
        return None  # ROMPY's way to say that there is none
    checked = _command(value)
    if isinstance(checked, str) and not fits(forms.LAUNCHER, checked):
        raise PydanticCustomError("quoting", "cannot be split into words: close the quotes, escape no end")
    return checked


def _timeout_seconds(value: object) -> object:
    if value is None or isinstance(value, (bool, int)):
        return _no_bool(value)
    if isinstance(value, str) and fits(forms.TIMEOUT, value):
        return int(parse_duration(value).total_seconds())
    seconds = parse_duration(value).total_seconds()
    if seconds != int(seconds):
        raise PydanticCustomError("whole_seconds", "must be whole seconds")
    if isinstance(value, str) and 60 <= seconds <= 86400:
        raise PydanticCustomError("timeout", "write seconds (3600), or as '90m', '2h', '1h30m' or '1:30:00'")
    return int(seconds)


def _memory(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    parse_memory(value)
    if isinstance(value, str) and not fits(forms.MEMORY, value):
        raise PydanticCustomError("memory", "write it as '512m', '1.5g' or '2gb', with three decimals at most")
    return value


def _cpu(value: object) -> object:
    if value is None or _no_bool(value) is None:
        return None
    if isinstance(value, str):
        if not fits(forms.CPU, value):
            raise PydanticCustomError("cpu", "must be a number between 1 and 128")
        return float(value) if "." in value else int(value)
    if isinstance(value, (int, float)):
        if not value >= 1:  # NaN too
            raise PydanticKnownError("greater_than_equal", {"ge": 1})
        if value > 128:
            raise PydanticKnownError("less_than_equal", {"le": 128})
    return value


def _count(pattern: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if isinstance(value, str):
            if not fits(pattern, value):
                raise PydanticCustomError("count", "must be a whole number in the allowed range, written in digits")
            return int(value)
        return _no_bool(value)

    return check


def _form(pattern: str, message: str) -> AfterValidator:
    """Text of one form; `{value}` stands for the text in the message."""

    def check(value: str) -> str:
        if not fits(pattern, value):
            raise PydanticCustomError("form", message, {"value": value})
        return value

    return AfterValidator(check)


def _text_schema(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


def _path(value: object) -> object:
    check_text(value)
    if value == "":
        raise PydanticCustomError("path", "must not be empty; leave it out (null) for the default")
    return value


BackendClass = type[Any]  # a name of its own: inside the classes, `type` is a field
Text = Annotated[StrictStr, BeforeValidator(check_text), WithJsonSchema({"type": "string", "pattern": forms.TEXT})]
EnvVars = Annotated[
    dict[Annotated[StrictStr, AfterValidator(_env_name)], Annotated[StrictStr, BeforeValidator(_env_value)]],
    AfterValidator(_no_placeholder),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": forms.ENV_NAME},
            "additionalProperties": {"type": "string", "pattern": forms.TEXT},
        }
    ),
]
_WORDS_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "prefixItems": [{"type": "string", "pattern": forms.NOT_BLANK}],
    "items": {"type": "string", "pattern": forms.TEXT},
}
Command = Annotated[
    StrictStr | list[StrictStr],
    BeforeValidator(_command),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": forms.NOT_BLANK}, _WORDS_SCHEMA]}),
]
Launcher = Annotated[
    StrictStr | list[StrictStr] | None,
    BeforeValidator(_launcher),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": forms.LAUNCHER}, _WORDS_SCHEMA, {"type": "null"}]}),
]
WholeNumber = Annotated[int, BeforeValidator(_no_bool)]
HostPath = Annotated[
    Path, BeforeValidator(_path), WithJsonSchema({"type": "string", "format": "path", "pattern": forms.PATH})
]
Cpu = Annotated[
    int | float,
    BeforeValidator(_cpu),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 1, "maximum": 128}, {"type": "string", "pattern": forms.CPU}]}
    ),
]
MemoryText = Annotated[
    StrictStr | int,
    BeforeValidator(_memory),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": forms.MEMORY, "maxLength": 64},
                {"type": "integer", "minimum": MINIMUM_MEMORY},
            ]
        }
    ),
]
Word = Annotated[Text, _form(forms.WORD, "must be one word without blanks or line ends"), _text_schema(forms.WORD)]
Line = Annotated[
    Text, _form(forms.LINE, "must be one line without control characters, and not blank"), _text_schema(forms.LINE)
]
Image = Annotated[
    Text,
    Field(max_length=512),
    _form(forms.IMAGE, "'{value}' is no image name (name[:tag][@sha256:…], the name in small letters)"),
    _text_schema(forms.IMAGE, maxLength=512),
]
Dockerfile = Annotated[Path, BeforeValidator(_path), _text_schema(forms.DOCKERFILE, format="path")]
User = Annotated[Text, _form(forms.USER, "must be a user: `name`, `uid` or `uid:gid`"), _text_schema(forms.USER)]
Network = Annotated[Text, _form(forms.NETWORK, "must be the name of a network"), _text_schema(forms.NETWORK)]
Volume = Annotated[StrictStr, BeforeValidator(check_text), _text_schema(forms.VOLUME)]
Capability = Annotated[
    Text,
    _form(forms.CAPABILITY, "must be the name of a Linux capability, as `SYS_PTRACE`"),
    _text_schema(forms.CAPABILITY),
]
MailType = Annotated[
    Text, _form(forms.MAIL_TYPE, "must be of sbatch's mail types, as `END,FAIL`"), _text_schema(forms.MAIL_TYPE)
]
Option = Annotated[
    Text, _form(forms.OPTION, "must be one option of sbatch, as `--exclusive`"), _text_schema(forms.OPTION)
]


def _count_schema(pattern: str, most: int) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": most}, {"type": "string", "pattern": pattern}]}
    )


Nodes = Annotated[
    int, BeforeValidator(_count(forms.UP_TO_100)), Field(ge=1, le=100), _count_schema(forms.UP_TO_100, 100)
]
PidsLimit = Annotated[
    int,
    BeforeValidator(_count(forms.UP_TO_A_MILLION)),
    Field(ge=1, le=1_000_000),
    _count_schema(forms.UP_TO_A_MILLION, 1_000_000),
]
Tasks = Annotated[
    int,
    BeforeValidator(_count(forms.UP_TO_A_MILLION)),
    Field(ge=1, le=1_000_000),
    _count_schema(forms.UP_TO_A_MILLION, 1_000_000),
]
CpusPerTask = Annotated[
    int, BeforeValidator(_count(forms.UP_TO_128)), Field(ge=1, le=128), _count_schema(forms.UP_TO_128, 128)
]
Gpus = Annotated[
    int,
    BeforeValidator(_count(forms.UP_TO_A_MILLION)),
    Field(ge=0, le=1_000_000),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 1_000_000},
                {"type": "string", "pattern": forms.UP_TO_A_MILLION},
            ]
        }
    ),
]
VariableName = Annotated[Text, AfterValidator(_env_name), _text_schema(forms.ENV_NAME)]
Signal = Annotated[
    Text,
    _form(forms.SIGNAL, "must be a signal and seconds before the limit, as `USR1@300`"),
    _text_schema(forms.SIGNAL),
]
Timeout = Annotated[
    int,
    BeforeValidator(_timeout_seconds),
    Field(ge=60, le=86400),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 60, "maximum": 86400},
                {"type": "string", "pattern": forms.TIMEOUT},
            ]
        }
    ),
]


# -- what all classes share --------------------------------------------------------------------------------------


class HouseModel(BaseModel):
    """What all our pydantic classes share: unknown fields are refused with a hint, credentials stay out of errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    @model_validator(mode="wrap")
    @classmethod
    def _say_it_better(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            raise ValidationError.from_exception_data(
                error.title, [cls._better(p) for p in problems], hide_input=True
            ) from None

    @classmethod
    def _better(cls, problem: ErrorDetails) -> InitErrorDetails:
        kind: Any = problem["type"]
        location, context = problem["loc"], problem.get("ctx")
        is_credential = any(isinstance(part, str) and looks_like_credential(part) for part in location)
        if kind == "extra_forbidden" and len(location) == 1 and problem["msg"] == _UNKNOWN_FIELD:
            hint = did_you_mean(str(location[0]), cls.model_fields)
            kind = PydanticCustomError(
                "extra_forbidden", f"{_UNKNOWN_FIELD}: there is no such field; {{hint}}", {"hint": hint}
            )
        elif kind not in _BUILTIN_ERRORS or problem["msg"].startswith(f"{_UNKNOWN_FIELD}: "):
            message = problem["msg"]
            if is_credential and context:
                for shown in map(str, context.values()):
                    message = message.replace(shown, REDACTED) if shown and shown not in location else message
                context = None
            kind = PydanticCustomError(kind, _rendered(message), context)
        details: InitErrorDetails = {"type": kind, "loc": location, "input": _without_secrets(problem, is_credential)}
        if isinstance(kind, str) and context is not None:
            details["ctx"] = context
        return details

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            yield name, self._shown_field(name or "", value)

    @classmethod
    def _shown_field(cls, name: str, value: Any) -> Any:
        """A field as it may be shown; the words of a closed list are no credentials, whatever the field is called."""
        field = cls.model_fields.get(name)
        is_word = field is not None and get_origin(field.annotation) is Literal
        return value if is_word else _shown(value, name)


def _rendered(message: str) -> Any:
    return message  # pydantic asks for a literal; a message that was rendered already holds no placeholders


def _without_secrets(problem: ErrorDetails, is_credential: bool) -> Any:
    return REDACTED if is_credential else _shown(problem["input"], str(problem["loc"][-1]) if problem["loc"] else "")


def _shown(value: Any, key: str) -> Any:
    """A value as it may be shown: credentials by their key, and inside of commands, are gone."""
    return _clean_texts(redact(value, key))


def _clean_texts(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: _clean_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean_texts(inner) for inner in value]
    return value


class BaseBackendConfig(HouseModel):
    """What every backend has.  Assignment validates the whole; a refused one leaves the object as it was.

    A class of your own needs no `type`: the name of its entry point is its type.
    """

    type: Text = Field("", description="Which backend this is.")
    timeout: Timeout | None = Field(
        None,
        description="Wall-clock limit in seconds, 60 to 86400, or a duration such as 2h; null: no limit by us.",
        json_schema_extra=_mark("none"),
    )
    env_vars: EnvVars = Field(
        default_factory=dict,
        description="Variables added to the run's environment; text to text.",
        json_schema_extra=_mark("none"),
    )
    check_paths: Literal["submit_host", "run_host"] = Field(
        "submit_host",
        description="Where host paths must exist: here and now, or only on the machine that runs.",
        json_schema_extra=_mark("none"),
    )
    working_dir: HostPath | None = Field(
        None,
        description="Where the command runs, if not in the run's own directory; must exist.",
        json_schema_extra=_mark("none"),
    )

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Refuse the base itself: it says nothing of where a run would run."""
        if cls is BaseBackendConfig:
            raise TypeError(
                "Can't instantiate abstract class BaseBackendConfig: take LocalConfig, DockerConfig, SlurmConfig"
                " or a class of your own that inherits from it"
            )
        return super().__new__(cls)

    @model_validator(mode="before")
    @classmethod
    def _know_your_type(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "type" not in data and not cls.has_type_of_its_own():
            return {**data, "type": cls._type_names()[0]}
        return data

    @field_validator("type")
    @classmethod
    def _type_is_the_entry_point_s_name(cls, value: str) -> str:
        if not cls.has_type_of_its_own() and value not in (names := cls._type_names()):
            raise PydanticKnownError("literal_error", {"expected": " or ".join(f"'{name}'" for name in names)})
        return value

    @classmethod
    def has_type_of_its_own(cls) -> bool:
        """Whether the class says its type itself; else its entry point does."""
        return cls.model_fields["type"].annotation is not str or bool(cls.model_fields["type"].default)

    @classmethod
    def _type_names(cls) -> list[str]:
        """The names it is registered under, or what its own name suggests."""
        from rompy_hydra.backends.registry import names_of_class

        return names_of_class(cls) or [cls.__name__.removesuffix("Config").removesuffix("Backend").lower()]

    @field_validator("working_dir")
    @classmethod
    def _directory_exists(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None or not _checks_here(info):
            return value
        path = _absolute(value)
        if not path.exists():
            raise PydanticCustomError("directory", "Working directory does not exist: {path}", {"path": str(value)})
        if not path.is_dir():
            raise PydanticCustomError("directory", "Working directory is not a directory: {path}", {"path": str(value)})
        return path

    @model_serializer(mode="wrap")
    def _dump_without_secrets(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        return {name: self._shown_field(name, value) for name, value in dumped.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic's schema; the type of a class without a `type` field is the name of its entry point."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        if "type" in properties and not cls.has_type_of_its_own() and cls is not BaseBackendConfig:
            names = cls._type_names()
            told = {"const": names[0]} if len(names) == 1 else {"enum": names}
            properties["type"] = {
                **told,
                "default": names[0],
                "description": "Which backend this is.",
                "title": "Type",
                "type": "string",
            }
        return schema

    def validate(self) -> bool:  # type: ignore[override]  # the seed's name; pydantic's class method of old is gone
        """Whether the configuration as it stands now still holds (paths may have gone since)."""
        try:
            type(self).model_validate(self._given())
        except ValidationError:
            return False
        return True

    def get_backend_class(self) -> BackendClass:
        """The class that runs this configuration: `get_backend_class()().run(model_run, config) -> bool`."""
        from rompy_hydra.backends.registry import backend_class

        return backend_class(self.type)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).model_fields or type(self).model_config.get("frozen"):
            super().__setattr__(name, value)
            return
        checked = type(self).model_validate({**self._given(), name: value})
        object.__setattr__(self, "__dict__", checked.__dict__)
        object.__setattr__(self, "__pydantic_fields_set__", self.__pydantic_fields_set__ | {name})

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}


def _checks_here(info: ValidationInfo) -> bool:
    return bool(info.data.get("check_paths", "submit_host") == "submit_host")


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    return path if path.is_absolute() else Path.cwd() / path


# -- the built-in backends ---------------------------------------------------------------------------------------


class LocalConfig(BaseBackendConfig):
    """A process on this machine."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "local",
                    "timeout": 7200,
                    "env_vars": {"OMP_NUM_THREADS": "4"},
                    "command": "python run_model.py",
                }
            ]
        }
    )

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
    mpiexec: Launcher = Field(
        None,
        description="The MPI launcher, as `mpirun -np 16`; without a number the run's ranks are added.",
        json_schema_extra=_mark("execution"),
    )

    def get_backend_class(self) -> BackendClass:
        """`rompy_hydra.run.LocalRunBackend`."""
        from rompy_hydra.run import LocalRunBackend

        return LocalRunBackend


def _image_or_dockerfile(schema: dict[str, Any]) -> None:
    """Exactly one of the two is given and not null."""
    schema["oneOf"] = [
        {"required": [name], "properties": {name: {"type": "string"}}} for name in ("image", "dockerfile")
    ]
    schema["examples"] = [
        {"type": "docker", "image": "swan:latest", "cpu": 4, "memory": "2g", "timeout": 7200},
        {"type": "docker", "dockerfile": "Dockerfile", "cpu": 2, "build_args": {"VERSION": "1.0"}, "mpiexec": "mpirun"},
    ]


class DockerConfig(BaseBackendConfig):
    """A container on a Docker engine; exactly one of `image` and `dockerfile`."""

    model_config = ConfigDict(json_schema_extra=_image_or_dockerfile)

    type: Literal["docker"] = "docker"
    image: Image | None = Field(
        None, description="Image name, `name[:tag][@sha256:digest]`.", json_schema_extra=_mark("science")
    )
    build_context: HostPath | None = Field(
        None,
        description="Directory to build in (default: the Dockerfile's); must exist.",
        json_schema_extra=_mark("science"),
    )
    dockerfile: Dockerfile | None = Field(
        None,
        description="Dockerfile to build the image from, relative to the build context.",
        json_schema_extra=_mark("science"),
    )
    build_args: EnvVars = Field(
        default_factory=dict, description="Build arguments, text to text.", json_schema_extra=_mark("science")
    )
    executable: Command | None = Field(
        None,
        description="Replaces the model's own command inside the container.",
        json_schema_extra=_mark("science"),
    )
    mpiexec: Launcher = Field(
        None, description="The MPI launcher inside the container.", json_schema_extra=_mark("execution")
    )
    cpu: Cpu | None = Field(
        1, description="CPUs, 1 to 128; 1.5 is allowed; null: no limit.", json_schema_extra=_mark("execution")
    )
    memory: MemoryText | None = Field(
        None, description="Memory limit: `512m`, `1.5g`, `2gb`, or bytes.", json_schema_extra=_mark("execution")
    )
    user: User | None = Field(
        None, description="User in the container (default: the caller's).", json_schema_extra=_mark("none")
    )
    volumes: list[Volume] = Field(
        default_factory=list,
        description="Mounts, `host:container[:mode]`, read-only unless the mode has `rw`; host paths must exist; a"
        " named volume is `volume:NAME:…`.",
        json_schema_extra=_mark("none"),
    )
    network: Network | None = Field(None, description="Docker network.", json_schema_extra=_mark("none"))
    remove_container: StrictBool = Field(
        True, description="Remove the container after the run.", json_schema_extra=_mark("none")
    )
    stream_output: StrictBool = Field(
        False, description="Show the output while it runs, too.", json_schema_extra=_mark("none")
    )
    shm_size: MemoryText | None = Field(
        None,
        description="Size of /dev/shm (default: the engine's, and up to 1g where there is a launcher).",
        json_schema_extra=_mark("none"),
    )
    pids_limit: PidsLimit | None = Field(
        None, description="Processes and threads at most (default: 4096).", json_schema_extra=_mark("none")
    )
    read_only: StrictBool = Field(
        False,
        description="Nothing but the mounts, and /tmp in memory, can be written to.",
        json_schema_extra=_mark("none"),
    )
    capabilities: list[Capability] = Field(
        default_factory=list,
        description="Linux capabilities to keep, as `SYS_PTRACE`; without a word there are none.",
        json_schema_extra=_mark("none"),
    )
    allow_dangerous_mounts: StrictBool = Field(
        False,
        description="Mount `/`, `/etc`, the engine's socket and their like if they are asked for.",
        json_schema_extra=_mark("none"),
    )
    secrets: Literal["env", "file"] = Field(
        "env",
        description="How `${secret:NAME}` gets in: as a variable, which the engine keeps with the container; or as a"
        " file in memory, whose path is in the variable with `_FILE` added.",
        json_schema_extra=_mark("none"),
    )

    @field_validator("build_context")
    @classmethod
    def _context_exists(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None or not _checks_here(info):
            return value
        path = _absolute(value)
        if not path.exists():
            raise PydanticCustomError(
                "build_context", "Build context directory does not exist: {path}", {"path": str(value)}
            )
        if not path.is_dir():
            raise PydanticCustomError(
                "build_context", "Build context must be a directory: {path}", {"path": str(value)}
            )
        return path

    @field_validator("dockerfile")
    @classmethod
    def _dockerfile_in_its_context(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        if value.is_absolute():
            raise PydanticCustomError(
                "dockerfile",
                "Dockerfile path must be relative to build context: {path}; write build_context={parent} and"
                " dockerfile={name}",
                {"path": str(value), "parent": str(value.parent), "name": value.name},
            )
        context = info.data.get("build_context")
        if context is not None and _checks_here(info) and not (context / value).is_file():
            raise PydanticCustomError("dockerfile", "Dockerfile does not exist: {path}", {"path": str(context / value)})
        return value

    @field_validator("volumes")
    @classmethod
    def _volumes_are_mounts(cls, value: list[str], info: ValidationInfo) -> list[str]:
        return [parse_volume(volume, must_exist=_checks_here(info)) for volume in value]

    @model_validator(mode="after")
    def _one_source_of_the_image(self) -> Self:
        if self.image is None and self.dockerfile is None:
            raise PydanticCustomError(
                "image_or_dockerfile",
                "Either 'image' or 'dockerfile' must be provided (not both): image=NAME:TAG, or dockerfile=PATH",
            )
        if self.image is not None and self.dockerfile is not None:
            raise PydanticCustomError(
                "image_or_dockerfile", "Cannot specify both 'image' and 'dockerfile': leave one out (null)"
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
    if not fits(forms.VOLUME, volume):
        _refuse_volume(volume)
    host, rest = volume.split(":", 1)
    if host == "volume" and not rest.startswith("/"):
        return volume
    path = _absolute(Path(host))
    if must_exist and not path.exists():
        raise PydanticCustomError(
            "volume",
            "Host path does not exist: {path} (of '{volume}'; a named volume is written volume:NAME:…)",
            {"volume": volume, "path": str(path)},
        )
    return f"{path}:{rest}"


def _refuse_volume(volume: str) -> NoReturn:
    """Say which part is wrong."""
    named = volume.startswith("volume:") and not volume.startswith("volume:/")
    parts = volume.removeprefix("volume:").split(":") if named else volume.split(":")

    def refuse(why: str) -> NoReturn:
        raise PydanticCustomError("volume", "'{volume}': {why}", {"volume": volume, "why": why})

    if len(parts) == 1:
        refuse("Volume mount must contain ':' separator: host:container[:mode]")
    if len(parts) > 3 or not all(parts):
        refuse("is not of the form host:container[:mode]")
    if not parts[1].startswith("/"):
        refuse(f"the container path {parts[1]} must be absolute")
    known = [mode for kind in forms.MODE_KINDS for mode in kind] + [forms.NO_COPY] * named
    given = parts[2].split(",") if len(parts) == 3 else []
    for word in given:
        if word not in known:
            refuse(f"there is no mode '{word}'; {did_you_mean(word, known, limit=20)}")
    if any(sum(word in kind for word in given) > 1 for kind in forms.MODE_KINDS) or given.count(forms.NO_COPY) > 1:
        refuse(f"the modes {parts[2]} contradict or repeat each other")
    if named and not fits(f"^{forms.VOLUME_NAME}{forms.END}", parts[0]):
        refuse(f"'{parts[0]}' is no name of a volume")
    refuse(f"the container path {parts[1]} must be below '/', without '.' and '..'")


def _time_limit(value: object) -> object:
    """Text with one reading; what Slurm and a clock read differently is refused with both readings."""
    if value is not None:
        try:
            parse_slurm_time(value)
        except ValueError as error:
            raise PydanticCustomError("time_limit", "{why}", {"why": str(error)}) from None
        if not isinstance(value, str) or not fits(forms.TIME_LIMIT, value):
            raise PydanticCustomError(
                "time_limit", "write HH:MM:SS ('2:00:00'), D-HH:MM:SS ('1-12:00:00') or a number with a unit ('90m')"
            )
    return value


TimeLimit = Annotated[StrictStr, BeforeValidator(_time_limit), _text_schema(forms.TIME_LIMIT)]


class SlurmConfig(BaseBackendConfig):
    """A job of the Slurm workload manager (sbatch(1) names the fields)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "slurm", "queue": "general", "nodes": 1, "ntasks": 4, "time_limit": "02:00:00"}]
        }
    )

    type: Literal["slurm"] = "slurm"
    queue: Word | None = Field(
        None, description="Queue; the other name of partition, which it wins over.", json_schema_extra=_mark("none")
    )
    partition: Word | None = Field(None, description="Partition.", json_schema_extra=_mark("none"))
    account: Word | None = Field(None, description="Account to charge.", json_schema_extra=_mark("none"))
    qos: Word | None = Field(None, description="Quality of service.", json_schema_extra=_mark("none"))
    reservation: Word | None = Field(None, description="Reservation.", json_schema_extra=_mark("none"))
    constraint: Word | None = Field(None, description="Node features.", json_schema_extra=_mark("none"))
    nodes: Nodes | None = Field(None, description="Number of nodes, 1 to 100.", json_schema_extra=_mark("execution"))
    ntasks: Tasks | None = Field(None, description="Number of tasks (MPI ranks).", json_schema_extra=_mark("execution"))
    cpus_per_task: CpusPerTask | None = Field(
        None, description="CPUs of each task, 1 to 128.", json_schema_extra=_mark("execution")
    )
    memory: MemoryText | None = Field(
        None, description="Memory of the whole run.", json_schema_extra=_mark("execution")
    )
    gres: Word | None = Field(None, description="Generic resources, as `gpu:2`.", json_schema_extra=_mark("execution"))
    gpus: Gpus | None = Field(
        None, description="GPUs of the whole run (`--gpus`).", json_schema_extra=_mark("execution")
    )
    ntasks_per_node: Tasks | None = Field(
        None, description="Tasks on one node, at most.", json_schema_extra=_mark("execution")
    )
    exclusive: StrictBool = Field(
        False, description="Whole nodes, shared with nobody.", json_schema_extra=_mark("none")
    )
    signal: Signal | None = Field(
        None,
        description="Signal that the run gets before the job's time limit, as `USR1@300` (seconds before): USR1, USR2"
        " are handed on and the run goes on, TERM ends it.",
        json_schema_extra=_mark("none"),
    )
    export: list[VariableName] = Field(
        default_factory=list,
        description="Variables of the submitting shell that the run gets; of all others it sees nothing.",
        json_schema_extra=_mark("none"),
    )
    time_limit: TimeLimit | None = Field(
        None,
        description="Time limit of the job: `2:00:00`, `1-12:00:00`, `90m`; a bare number is refused as ambiguous.",
        json_schema_extra=_mark("none"),
    )
    command: Command | None = Field(
        None, description="Replaces the model's own command.", json_schema_extra=_mark("science")
    )
    mpiexec: Launcher = Field(
        None, description="Launcher inside the allocation (`srun`, `mpirun`).", json_schema_extra=_mark("execution")
    )
    job_name: Line | None = Field(None, description="Name of the job in the queue.", json_schema_extra=_mark("none"))
    output_file: Line | None = Field(
        None, description="Where the job's own stdout goes, with sbatch's patterns.", json_schema_extra=_mark("none")
    )
    error_file: Line | None = Field(
        None, description="Where the job's own stderr goes, with sbatch's patterns.", json_schema_extra=_mark("none")
    )
    mail_type: MailType | None = Field(
        None, description="When Slurm sends mail, as `END,FAIL`.", json_schema_extra=_mark("none")
    )
    mail_user: Word | None = Field(None, description="Who gets the mail.", json_schema_extra=_mark("none"))
    additional_options: list[Option] = Field(
        default_factory=list, description="Further options of sbatch, one each.", json_schema_extra=_mark("none")
    )

    def get_backend_class(self) -> BackendClass:
        """`rompy_hydra.run.SlurmRunBackend`."""
        from rompy_hydra.run import SlurmRunBackend

        return SlurmRunBackend


BackendConfig = Union[LocalConfig, DockerConfig, SlurmConfig]  # noqa: UP007  # ROMPY's name, a typing.Union there
__all__ = ["BackendConfig", "BaseBackendConfig", "DockerConfig", "HouseModel", "LocalConfig", "SlurmConfig"]

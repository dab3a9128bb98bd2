"""A model template: `templates/NAME/template.yaml` (typed parameters, base config) and `workspace/` (the files).

templates/veros_acc/
  template.yaml      parameters: {NAME: {type, default, units, bounds…}}   model: {command, success, …}
  workspace/         rendered (`*.j2`, Jinja2 with strict undefined) or copied byte for byte
  include/           what the `*.j2` files may include or import; never copied (optional)
  inputs/            example inputs, named `template:inputs/NAME` in `model.inputs` (optional)
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import HouseModel, Text, WholeNumber, check_text
from rompy_hydra.backends.loading import load_one
from rompy_hydra.errors import ConfigError, Finding, SiteError, did_you_mean
from rompy_hydra.units.durations import parse_duration

ParameterType = Literal["float", "int", "str", "bool", "duration", "path", "choice", "list", "any"]

_NUMBERS = frozenset({"float", "int", "duration"})
_PARAMETER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_NOT_CONTENT = frozenset({"__pycache__", ".ipynb_checkpoints", ".DS_Store"})
"""Names that tools leave beside a template's files; they are not part of it."""


def _plain_number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("no_boolean", "a boolean is not a number")
    return value


def _seconds(value: object) -> object:
    return value if value is None else parse_duration(_plain_number(value)).total_seconds()


class ParameterSpec(HouseModel):
    """One typed parameter of a template, as `template.yaml` declares it."""

    model_config = ConfigDict(frozen=True)

    type: ParameterType = Field(..., description="`duration` values become seconds.")
    default: Any = Field(..., description="The default; null needs `optional: true`.")
    description: Text = Field("", description="One line for people.")
    units: Text | None = Field(None, description="Physical units, for people.")
    optional: StrictBool = Field(False, description="Whether null is allowed.")
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    pattern: Text | None = None
    options: list[Any] | None = Field(None, description="The values of a `choice`.")
    items: ParameterType | None = Field(None, description="The type of a list's items.")

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> ParameterSpec:
        bounds = [name for name in ("gt", "ge", "lt", "le") if getattr(self, name) is not None]
        rules = (
            (
                bool(bounds) and self.type not in _NUMBERS,
                f"the bound {', '.join(bounds)} needs a number or a duration",
            ),
            (self.pattern is not None and self.type != "str", "a pattern needs the type str"),
            (self.options is not None and self.type != "choice", "options need the type choice"),
            (self.type == "choice" and not self.options, "the type choice needs options"),
            (self.items is not None and self.type != "list", "items need the type list"),
            (self.items in ("choice", "list"), "a list's items are of a plain type"),
        )
        for broken, rule in rules:
            if broken:
                raise PydanticCustomError("parameter", "{rule} (the type is {type})", {"rule": rule, "type": self.type})
        return self

    def annotation(self) -> Any:
        """The pydantic type of the parameter's value."""
        bounds = {k: v for k in ("gt", "ge", "lt", "le") if (v := getattr(self, k)) is not None}
        if self.type == "choice":
            kind: Any = Literal[tuple(self.options or ())]
        elif self.type == "list":
            kind = list[_ANNOTATIONS[self.items or "any"]]  # type: ignore[misc]  # built at run time
        elif self.type == "str":
            kind = Annotated[Text, Field(pattern=self.pattern)]
        else:
            kind = _ANNOTATIONS[self.type]
        if bounds:
            kind = Annotated[kind, Field(**bounds)]
        return kind | None if self.optional else kind


_ANNOTATIONS: dict[str, Any] = {
    "float": Annotated[float, BeforeValidator(_plain_number), Field(allow_inf_nan=False)],
    "int": WholeNumber,
    "str": Text,
    "bool": StrictBool,
    "duration": Annotated[float, BeforeValidator(_seconds)],
    "path": Annotated[Path, BeforeValidator(check_text)],
    "any": Any,
}


class TemplateFile(HouseModel):
    """The content of `template.yaml`."""

    description: Text = ""
    parameters: dict[str, ParameterSpec] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Template:
    """One template as found on disk."""

    name: str
    directory: Path
    description: str
    parameters: dict[str, ParameterSpec]
    base: dict[str, Any]

    @property
    def declaration(self) -> Path:
        """The file that declares it."""
        return self.directory / "template.yaml"

    @property
    def defaults(self) -> dict[str, Any]:
        """The `model:` part of a configuration that this template stands for."""
        return {
            "name": self.name,
            **self.base,
            "template": self.name,
            "parameters": {name: spec.default for name, spec in self.parameters.items()},
        }

    @cached_property
    def parameters_model(self) -> type[BaseModel]:
        """The pydantic class that types the parameters."""
        fields: dict[str, Any] = {
            name: (
                spec.annotation(),
                Field(spec.default, description=spec.description, validate_default=True),
            )
            for name, spec in self.parameters.items()
        }
        return create_model(f"{self.name}_parameters", __base__=_Parameters, **fields)

    @property
    def workspace(self) -> Path:
        """The directory of the files that become a run's workspace."""
        return self.directory / "workspace"

    @property
    def include(self) -> Path:
        """The directory of what the rendered files may include or import."""
        return self.directory / "include"

    @cached_property
    def files(self) -> list[Path]:
        """The files of `workspace/`, sorted, relative to it.

        Raises `ConfigError` for what is neither a file nor a directory: a broken link, a pipe.
        """
        return sorted(_files_below(self.workspace))

    @cached_property
    def sha256(self) -> str:
        """Identity of the template's content: name, executable bit and bytes of every file it is made from."""
        digest = hashlib.sha256()
        for root in (self.workspace, self.include):
            for relative in sorted(_files_below(root)):
                path = root / relative
                try:
                    with path.open("rb") as file:
                        status = os.fstat(file.fileno())
                        head = f"{root.name}/{relative.as_posix()}\0{status.st_mode & stat.S_IXUSR}\0{status.st_size}\0"
                        digest.update(head.encode("utf-8", "surrogateescape"))
                        digest.update(hashlib.file_digest(file, "sha256").digest())
                except OSError as error:
                    raise SiteError(f"cannot read the template file {path}: {error.strerror}") from error
        return digest.hexdigest()


class _Parameters(HouseModel):
    """The base of every template's parameters; a name may begin with `model_`."""

    model_config = ConfigDict(protected_namespaces=())


def _files_below(root: Path) -> Iterator[Path]:
    """Every file below `root`, relative to it; links to files count as files."""
    if not root.is_dir():
        return

    def refuse(error: OSError) -> None:
        raise SiteError(f"cannot read the template directory {error.filename}: {error.strerror}") from error

    for directory, subdirectories, names in os.walk(root, onerror=refuse, followlinks=False):
        subdirectories[:] = [name for name in subdirectories if name not in _NOT_CONTENT]
        links = [name for name in subdirectories if Path(directory, name).is_symlink()]
        for name in [*names, *links]:
            if name in _NOT_CONTENT:
                continue
            path = Path(directory, name)
            if not path.is_file():
                what = "a link to a directory or to nothing" if path.is_symlink() else "no regular file"
                raise ConfigError(
                    "a template holds what cannot become a file of a run",
                    [Finding(key="model.template", rule=f"{path} is {what}", mend="replace it by a file")],
                )
            yield path.relative_to(root)


def load_template(directory: Path) -> Template:
    """Read `directory/template.yaml`; every fault is named with the file."""
    path = directory / "template.yaml"
    data = load_one(path)
    try:
        content = TemplateFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            f"{path} is no valid template",
            [
                Finding(key=".".join(map(str, e["loc"])), rule=e["msg"], where=str(path))
                for e in error.errors(include_input=False, include_url=False)
            ],
        ) from None
    template = Template(directory.name, directory, content.description, content.parameters, content.model)
    _check_parameters(template)
    return template


def _check_parameters(template: Template) -> None:
    """Names that can be parameters, and defaults that keep their own rules."""
    where = str(template.declaration)
    findings = [
        Finding(
            key=f"parameters.{name}",
            rule="is no name for a parameter",
            where=where,
            mend="use letters, digits and '_', and no name that pydantic keeps for itself",
        )
        for name in template.parameters
        if not _PARAMETER_NAME.match(name) or hasattr(_Parameters, name)
    ]
    if not findings:
        later = {k for k, spec in template.parameters.items() if isinstance(spec.default, str) and "${" in spec.default}
        try:
            template.parameters_model()
        except ValidationError as error:
            findings = [
                Finding(
                    key=".".join(["parameters", str(e["loc"][0]), "default"]),
                    value=repr(template.parameters[str(e["loc"][0])].default),
                    rule=e["msg"],
                    where=where,
                )
                for e in error.errors(include_input=False, include_url=False)
                if e["loc"][0] not in later  # an interpolation has no value yet
            ]
    if findings:
        raise ConfigError(f"{where} is no valid template", findings)


def find_templates(roots: list[Path]) -> dict[str, Path]:
    """Name → directory of every template; the first root that has a name wins."""
    found: dict[str, Path] = {}
    for root in roots:
        if root.is_dir():
            for declaration in sorted(root.glob("*/template.yaml")):
                found.setdefault(declaration.parent.name, declaration.parent)
    return found


class Templates(Mapping[str, Template]):
    """Every template below some roots, each read when it is asked for."""

    def __init__(self, roots: list[Path]) -> None:
        self.directories = find_templates(roots)
        self._read: dict[str, Template] = {}

    def __getitem__(self, name: str) -> Template:
        if name not in self._read:
            self._read[name] = load_template(self.directories[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.directories)

    def __len__(self) -> int:
        return len(self.directories)


def get_template(name: str, roots: list[Path]) -> Template:
    """One template by its name; `ConfigError` lists the known ones."""
    found = find_templates(roots)
    if name not in found:
        raise ConfigError(
            f"there is no template '{name}'",
            [
                Finding(
                    key="model.template",
                    value=repr(name),
                    rule="no such template",
                    mend=did_you_mean(name, found),
                )
            ],
        )
    return load_template(found[name])

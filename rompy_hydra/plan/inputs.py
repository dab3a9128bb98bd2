"""What a model wants to find in its workspace: `inputs: {NAME: {source, as, mode, required, identity}}`, as written.

No I/O: `workspace.inputs` finds the files, takes their identities and puts them into the run directory.  Names in the
workspace and identities of what was found go into `science_id`; no field of `InputSpec` does.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr
from pydantic_core import PydanticCustomError

from rompy_hydra.backends.config import HouseModel, Text, check_text

Mode = Literal["link", "hardlink", "copy", "reflink", "stage"]
"""How an input gets into a workspace; see `InputSpec.mode`."""

TEMPLATE_PREFIX = "template:"
_PINNED = re.compile(r"sha256:[0-9a-f]{64}\Z")
_IDENTITIES = ("stat", "fast", "sha256")


def _sources(value: object) -> object:
    for part in value if isinstance(value, (list, tuple)) else [value]:
        check_text(part)
        if isinstance(part, str) and not part.removeprefix(TEMPLATE_PREFIX).strip():
            raise PydanticCustomError("source", "must not be empty")
    if isinstance(value, (list, tuple)) and not value:
        raise PydanticCustomError("source", "must name at least one file")
    return value


def _workspace_name(value: str) -> str:
    parts = value.removesuffix("/").split("/")
    if value.startswith("/") or ".." in parts or any(not part.strip() for part in parts):
        raise PydanticCustomError("workspace_name", "is a name in the run directory (not absolute, no '..', not empty)")
    return value


def _identity(value: str) -> str:
    if value not in _IDENTITIES and not _PINNED.match(value):
        raise PydanticCustomError(
            "input_identity",
            "is {known}, or a pinned value 'sha256:' and 64 hexadecimal digits in lower case",
            {"known": ", ".join(_IDENTITIES)},
        )
    return value


class InputSpec(HouseModel):
    """One input of a model, as it is configured."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    source: Annotated[StrictStr | list[StrictStr], BeforeValidator(_sources)] = Field(
        ...,
        description="A file or directory, a glob pattern ('**' goes into directories) or a list of these. Relative "
        "ones start where the command was typed, those after 'template:' in the template's own directory.",
        json_schema_extra={"identity": "none"},
    )
    as_name: Annotated[Text, AfterValidator(_workspace_name)] | None = Field(
        None,
        alias="as",
        description="Its name in the workspace. For a pattern, a list, or if it ends with '/': the directory that its "
        "files lie in. Without it every file keeps its own name.",
        json_schema_extra={"identity": "none"},
    )
    mode: Mode = Field(
        "link",
        description="link: a symbolic link to the file itself. hardlink: a second name, on the same file system. copy: "
        "the run's own copy, which it may change. reflink: a copy that shares its blocks until one is changed (btrfs, "
        "XFS). stage: copied once beside the runs, where all of them link to it.",
        json_schema_extra={"identity": "none"},
    )
    required: StrictBool = Field(
        True, description="Whether the run cannot do without it.", json_schema_extra={"identity": "none"}
    )
    identity: Annotated[Text, AfterValidator(_identity)] = Field(
        "stat",
        description="What tells it from another. stat: path, size and time of change. fast: size and a hash of its "
        "first, middle and last megabyte. sha256: the whole content. Or the value 'sha256:…' that it must have.",
        json_schema_extra={"identity": "none"},
    )

    @property
    def sources(self) -> tuple[str, ...]:
        """The source as one or several."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def pinned(self) -> str | None:
        """The identity that the content must have, if one is given."""
        return self.identity if self.identity not in _IDENTITIES else None

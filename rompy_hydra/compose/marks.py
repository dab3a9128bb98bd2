"""Which part of a run's identity a key has: science, execution or none, as the fields of the schema are marked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from rompy_hydra.backends.config import BaseBackendConfig
from rompy_hydra.backends.registry import config_class
from rompy_hydra.compose.nodes import alternatives
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.spec import RunSpec

_INPUTS = ("model", "inputs")


def mark_of(path: Sequence[str], backend: str | None) -> str:
    """The mark of a key; `backend` is the type that was chosen.

    An input counts by its content, which a key cannot tell: it is science, because another file may be.
    """
    if tuple(path[:2]) == _INPUTS:
        return "science"
    return _mark(tuple(path), backend)


@cache
def _mark(path: tuple[str, ...], backend: str | None) -> str:
    kinds: list[type[BaseModel]] = [RunSpec]
    for part in path:
        found = next((kind.model_fields[part] for kind in kinds if part in kind.model_fields), None)
        if found is None:
            return "none"
        extra: Any = found.json_schema_extra
        if isinstance(extra, dict) and "identity" in extra:
            return str(extra["identity"])
        kinds = [k for k in alternatives(found.annotation) if isinstance(k, type) and issubclass(k, BaseModel)]
        if BaseBackendConfig in kinds or part == "backend":
            kinds = _backend(backend)
    return "none"


def _backend(name: str | None) -> list[type[BaseModel]]:
    try:
        return [config_class(str(name))]
    except ConfigError:  # a plug-in that cannot be used: composing says so
        return [BaseBackendConfig]

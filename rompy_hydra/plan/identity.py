"""The two identities of a run: what decides skip and resume (`science_id`), and what names a point (`point_id`).

Each field of the schema carries its mark (`json_schema_extra={"identity": …}`):

* `science`: model parameters, template content, command, image, … a change makes a new run;
* `execution`: ranks, threads, cpus, memory, …: in `point_id` only where swept;
* `none`: limits, queue, account, paths, retry, logging, names, host: in neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_origin

from pydantic import BaseModel

ID_LENGTH = 16


def science_id(plan_part: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over the science-marked values of a plan and the identities of its content.

    `content` names what lies outside of the configuration: template, inputs, executable or image, package versions.
    """
    return _digest({"plan": plan_part, "content": content})


def point_id(science: str, execution: Mapping[str, Any], repeat: int = 0) -> str:
    """The identity of a sweep's point: its science, the swept execution keys, the repeat."""
    return _digest({"science": science, "execution": execution, "repeat": repeat})


def marked(model: BaseModel, mark: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every field of `model` that carries `mark`, nested models included."""
    for name, has_mark in _places(type(model), mark):
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from marked(value, mark, f"{prefix}{name}.")
        elif has_mark:
            yield f"{prefix}{name}", value


_PLAIN = (dict, list, tuple, Literal)


@cache
def parts_with(cls: type[BaseModel], mark: str) -> frozenset[str]:
    """The fields of a model in or below which something may carry the mark."""
    return frozenset(name for name, _ in _places(cls, mark))


@cache  # a sweep asks for every point
def _places(cls: type[BaseModel], mark: str) -> tuple[tuple[str, bool], ...]:
    """The fields that carry the mark, or may hold a model with one that does."""
    found = []
    for name, field in cls.model_fields.items():
        extra: Any = field.json_schema_extra
        kind: Any = field.annotation
        has_mark = isinstance(extra, dict) and extra.get("identity") == mark
        # A model may be one of a class derived from this one, with marks of its own; so may what a union holds.
        holds_no_model = (isinstance(kind, type) and not issubclass(kind, BaseModel)) or get_origin(kind) in _PLAIN
        if has_mark or not holds_no_model:
            found.append((name, has_mark))
    return tuple(found)


def unmarked(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the leaf fields of `cls` without a mark (there must be none)."""
    for name, field in cls.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            extra = field.json_schema_extra
            if not (isinstance(extra, dict) and "identity" in extra):
                yield from unmarked(kind, f"{prefix}{name}.")
        elif not (isinstance(field.json_schema_extra, dict) and "identity" in field.json_schema_extra):
            yield f"{prefix}{name}"


def _digest(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]

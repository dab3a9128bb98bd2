"""A configuration to begin with: the example of a configuration class, or its required fields with stand-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from rompy_hydra.backends.config import BaseBackendConfig

STAND_IN = "CHANGE_ME"


def starting_point(cls: type[BaseBackendConfig], backend_type: str) -> dict[str, Any]:
    """The fields that a first configuration should say, `type` first."""
    schema = cls.model_json_schema()
    examples = [example for example in schema.get("examples", []) if isinstance(example, dict)]
    said = (
        examples[0]
        if examples
        else {name: _stand_in(schema["properties"][name]) for name in schema.get("required", [])}
    )
    in_order = [name for name in cls.model_fields if name in said and name != "type"]
    return {"type": backend_type, **{name: said[name] for name in in_order}}


def starting_text(cls: type[BaseBackendConfig], backend_type: str) -> str:
    """The same as YAML; the fields that it does not say follow as comments, with their defaults and descriptions."""
    said = starting_point(cls, backend_type)
    lines = [f"# {line}".rstrip() for line in (cls.__doc__ or "").strip().splitlines()[:1]]
    for name, value in said.items():
        lines += [*_comment(cls, name), _yaml({name: value})]
    lines.append("\n# Fields that are left at their defaults:")
    for name, field in cls.model_fields.items():
        if name not in said:
            default = field.get_default(call_default_factory=True, validated_data={})
            lines += ["", *_comment(cls, name), *(f"# {line}" for line in _yaml({name: default}).splitlines())]
    return "\n".join(lines) + "\n"


def _comment(cls: type[BaseBackendConfig], name: str) -> list[str]:
    field = cls.model_fields.get(name)
    return [f"# {field.description}"] if field is not None and field.description and name != "type" else []


def _yaml(data: dict[str, Any]) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000)).rstrip("\n")


def _stand_in(schema: dict[str, Any]) -> Any:
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("examples") or schema.get("enum"):
        return (schema.get("examples") or schema["enum"])[0]
    if "anyOf" in schema:
        return _stand_in(schema["anyOf"][0])
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
    kinds: dict[Any, Any] = {"integer": least, "number": least, "boolean": False, "array": [], "object": {}}
    return kinds.get(schema.get("type"), STAND_IN)

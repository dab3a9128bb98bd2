"""The JSON schema of backend configurations: of one type, or of all registered ones, told apart by `type`.

The verdict of a JSON schema validator and pydantic's are the same, but for what only a machine can know (whether a path
exists): `tests/backends/test_schema.py` lists the exceptions and tries random configurations.
"""

from __future__ import annotations

from typing import Any

from rompy_hydra.backends.registry import Backend, backends, config_class

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(backend_type: str) -> dict[str, Any]:
    """The schema of one backend type; `ConfigError` lists the known ones."""
    return {"$schema": DIALECT, **config_class(backend_type).model_json_schema()}


def schema_of_all() -> dict[str, Any]:
    """The schema of a configuration of any registered backend: its `type` says which, so it is required here."""
    usable, _ = backends()
    definitions: dict[str, Any] = {}
    for name, backend in sorted(usable.items()):
        definitions |= _definitions(name, backend)
    mapping = {name: f"#/$defs/{_title(name)}" for name in sorted(usable)}
    return {
        "$schema": DIALECT,
        "title": "BackendConfig",
        "description": "Where a run runs: the configuration of one backend, named by its type.",
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": sorted(usable)}},
        "oneOf": [{"$ref": reference} for reference in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
        "$defs": definitions,
    }


def _title(name: str) -> str:
    return f"{name}_backend"


def _definitions(name: str, backend: Backend) -> dict[str, Any]:
    """The schema of one type, its own definitions under names that no other type uses."""
    prefix = f"{_title(name)}."
    schema = backend.config().model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    own = schema.pop("$defs", {})
    properties = {**schema.get("properties", {})}
    properties["type"] = {**properties.get("type", {}), "const": name}
    properties["type"].pop("enum", None)
    schema = {**schema, "properties": properties, "required": sorted({*schema.get("required", []), "type"})}
    return {_title(name): schema, **{f"{prefix}{key}": value for key, value in own.items()}}

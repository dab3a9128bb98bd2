"""JSON Schemas of the files that people write, for editors: made of the pydantic models that validate them.

    RunSpec, the backends, the templates of a repository → schemas() → .schemas/*.json, .vscode/settings.json

They are looser than the models: a file is a part of a configuration, so nothing is required, and `${…}` or `???` may
stand wherever a value may.  A template's parameters are known where a defaults list names it.  Draft 7, which the YAML
language servers read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rompy_hydra.backends.registry import backends
from rompy_hydra.compose.check_files import SWEEP_DIRECTORIES, SourceFile, is_header, read_files
from rompy_hydra.compose.sources import Sources
from rompy_hydra.errors import ConfigError, Finding, RompyHydraError
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.workspace.template import ParameterSpec, Template, TemplateFile, find_templates, load_template

DIRECTORY = ".schemas"
SETTINGS = ".vscode/settings.json"
ROOT = "root"
TEMPLATE = "template"
GROUPS = ("model", "resources", "backend", "site", "postprocess")
"""Groups whose options are one part of a run; those of the others (`env`, `experiment`) may set anything."""

_DRAFT = "http://json-schema.org/draft-07/schema#"
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_LEFT_OUT = ("required", "title", "identity", "discriminator", "oneOf", "examples", "format")
_INTERPOLATION = {
    "type": "string",
    "pattern": r"\$\{|^\?\?\?$",
    "description": "An interpolation, ${key} or ${resolver:…}; or ???, which must be given on the command line.",
}
_ENTRY = r"^(optional +)?(override +)?(optional +)?/?[\w./-]+(@[\w.:]+)?$"
_DEFAULTS = {
    "description": "What this file is put together from, in this order; the later wins. `_self_` is the file itself.",
    "type": "array",
    "items": {
        "anyOf": [
            {
                "description": "`_self_`, an option of this group, or /GROUP/OPTION (/packaged/…: the shipped one).",
                "type": "string",
            },
            {
                "description": "`GROUP: OPTION`, or `override /GROUP: OPTION` for a group that another file has.",
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "propertyNames": {"pattern": _ENTRY},
                "additionalProperties": {
                    "anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "string"}}]
                },
            },
        ]
    },
}
_HYDRA = {"description": "Hydra's own part: run.dir, sweep.dir, job.env_set, … (docs/hydra.md)", "type": "object"}

Schema = dict[str, Any]


def schemas(sources: Sources) -> dict[str, Schema]:
    """Name → schema: `root`, one for each group of parts, and `template` for a `template.yaml`."""
    templates = _templates(sources)
    options = _templates_of_options(sources, templates)
    definitions = _definitions(templates)
    root = _object(RunSpec, definitions)
    root["properties"] |= {part: _value({"$ref": f"#/definitions/{part}"}) for part in GROUPS}
    for part in GROUPS:
        root["properties"][part]["description"] = RunSpec.model_fields[part].description
    root["properties"] |= {"defaults": _DEFAULTS, "hydra": _HYDRA}
    root["allOf"] = list(_parameters_by_choice(options))
    found = {ROOT: _file(root, definitions, "A root configuration, an environment, an experiment or a sweep.")}
    for part in GROUPS:
        own = json.loads(json.dumps(definitions[part]))
        own["properties"]["defaults"] = _DEFAULTS
        if part == "model":
            own["allOf"] = list(_parameters_by_inclusion(options, templates))
        found[part] = _file(own, definitions, f"An option of the group {part}.")
    declaration = _object(TemplateFile, definitions)
    declaration["properties"]["model"] = {"$ref": "#/definitions/model"}
    found[TEMPLATE] = _file(declaration, definitions, "What a model template declares.")
    return found


def _templates(sources: Sources) -> dict[str, Template]:
    found = {}
    for name, directory in sorted(find_templates(sources.template_roots).items()):
        try:
            found[name] = load_template(directory)
        except RompyHydraError:  # `check` tells; the others have their schemas all the same
            continue
    return found


# -- definitions -------------------------------------------------------------------------------------------------------


def _definitions(templates: Mapping[str, Template]) -> dict[str, Schema]:
    definitions: dict[str, Schema] = {"interpolation": _INTERPOLATION}
    for part in GROUPS:
        definitions[part] = _backend(definitions) if part == "backend" else _of_field(part, definitions)
    for name, template in templates.items():
        definitions[f"parameters.{name}"] = {
            "description": f"The parameters of {name}. {template.description}".strip(),
            "type": "object",
            "additionalProperties": False,
            "properties": {key: _parameter(spec) for key, spec in template.parameters.items()},
        }
    return definitions


def _of_field(part: str, definitions: dict[str, Schema]) -> Schema:
    cls = RunSpec.model_fields[part].annotation
    assert isinstance(cls, type)
    assert issubclass(cls, BaseModel)
    return _object(cls, definitions)


def _object(cls: type[BaseModel], definitions: dict[str, Schema]) -> Schema:
    """The schema of a class; what it refers to goes into `definitions`."""
    schema = cls.model_json_schema(ref_template="#/definitions/{model}", by_alias=True)
    for name, definition in schema.pop("$defs", {}).items():
        if name not in definitions:
            definitions[name] = {}  # it may refer to itself
            definitions[name] = _as_written(name, _loose(definition))
    return _as_written(cls.__name__, _loose(schema))


def _loose(schema: Any) -> Any:
    """Without what a part of a configuration need not have, and with `${…}` wherever a value is."""
    if isinstance(schema, list):
        return [_loose(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    out: Schema = {}
    for key, value in schema.items():
        if key in _LEFT_OUT:
            continue
        if key == "properties":
            out[key] = {name: _value(_loose(inner)) for name, inner in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = _value(_loose(value))
        elif key in ("default", "const", "enum", "propertyNames"):
            out[key] = value
        else:
            out[_BOUNDS.get(str(key), str(key))] = _loose(value)
    return out


def _value(schema: Schema) -> Schema:
    """A place where a value may stand; what people are told of it stands outside, where editors look."""
    told: Schema = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    if not schema:
        return told
    kinds = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    return {**told, "anyOf": [*kinds, {"$ref": "#/definitions/interpolation"}]}


def _as_written(name: str, schema: Schema) -> Schema:
    """What the validators of some classes take besides: short forms that a model does not show."""
    properties = schema.get("properties", {})
    text, anything = {"type": "string"}, {"description": "Values: a list, or one text in the grammar of sweeps."}
    if name == "Dimension":
        pair = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        return {"anyOf": [schema, pair], "description": schema.get("description", "")}
    if name == "SweepSpec":
        for field, short in (("zip", {"type": "array", "items": text}), ("exclude", text), ("table", text)):
            properties[field]["anyOf"].append(short)
    if name == "DesignPart":
        properties["table"]["anyOf"].append(text)
        for field in ("grid", "zip"):
            told = properties[field].get("description")
            properties[field] = {"description": told, "type": ["object", "null"], "additionalProperties": anything}
    if name == "SamplesSpec":
        properties["over"]["anyOf"].append({"type": "object"})  # maps in maps make dotted keys
    return schema


def _backend(definitions: dict[str, Schema]) -> Schema:
    """Every key of every backend; which of them belong together is known where a `type` or a defaults list says it."""
    usable, _ = backends()
    properties: dict[str, Schema] = {}
    keys: dict[str, list[str]] = {}
    for name, backend in sorted(usable.items()):
        own = _object(backend.config(), definitions)
        keys[name] = list(own["properties"])
        for key, schema in own["properties"].items():
            if key == "type":
                continue
            known = properties.setdefault(key, {**schema, "anyOf": []})
            known["anyOf"] += [kind for kind in schema.get("anyOf", [{}]) if kind not in known["anyOf"]]
    told = {"description": "Which backend.", "enum": sorted(usable)}
    return {
        "description": "Where a run runs.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"type": _value(told), **properties},
        "allOf": [_only_keys_of(name, names) for name, names in keys.items()],
    }


def _only_keys_of(name: str, keys: Sequence[str]) -> Schema:
    included = {"enum": [f"/schema/backend/{name}", f"/packaged/backend/{name}"]}
    by_type = {"properties": {"type": {"const": name}}, "required": ["type"]}
    by_list = {"properties": {"defaults": {"contains": included}}, "required": ["defaults"]}
    return {"if": {"anyOf": [by_type, by_list]}, "then": {"propertyNames": {"enum": [*keys, "defaults"]}}}


# -- parameters of templates -------------------------------------------------------------------------------------------


def _parameter(spec: ParameterSpec) -> Schema:
    bounds = {_BOUNDS[k]: v for k in _BOUNDS if (v := getattr(spec, k)) is not None}
    kinds = [_kind(spec.type, bounds)]
    if spec.type == "choice":
        kinds = [{"enum": list(spec.options or ())}]
    if spec.type == "list":
        kinds = [{"type": "array", "items": _value(_kind(spec.items or "any", {}))}]
    if spec.type == "str" and spec.pattern:
        kinds = [{"type": "string", "pattern": spec.pattern}]
    if spec.optional:
        kinds.append({"type": "null"})
    units = f" In {spec.units}." if spec.units else ""
    told = f"{spec.description.rstrip('.')}.{units}" if spec.description else units.strip()
    is_anything = any(kind == {} for kind in kinds)
    value: Schema = {} if is_anything else {"anyOf": [*kinds, {"$ref": "#/definitions/interpolation"}]}
    return {"description": told, "default": spec.default, **value}


def _kind(name: str, bounds: Schema) -> Schema:
    if name == "duration":
        number = {"type": "number", **bounds}
        return {
            "anyOf": [number, {"type": "string", "minLength": 1}],
            "description": "Seconds, or text as 10d, 36h, PT6H.",
        }
    plain = {"float": "number", "int": "integer", "str": "string", "bool": "boolean", "path": "string"}
    return {"type": plain[name], **bounds} if name in plain else {}


def _parameters_by_inclusion(options: Mapping[str, str], templates: Mapping[str, Template]) -> Iterator[Schema]:
    """In an option of `model` that includes a template, or an option that does."""
    for name in templates:
        including = [f"/template/{name}"]
        including += [path for option, of in options.items() if of == name for path in _names_of(option)]
        yield {
            "if": {"properties": {"defaults": {"contains": {"enum": including}}}, "required": ["defaults"]},
            "then": {"properties": {"parameters": {"$ref": f"#/definitions/parameters.{name}"}}},
        }


def _names_of(option: str) -> list[str]:
    return [option, f"/model/{option}", f"/packaged/model/{option}"]


def _parameters_by_choice(options: Mapping[str, str]) -> Iterator[Schema]:
    """In a file that chooses a model, the parameters of its template."""
    for option, template in options.items():
        choices = [{"type": "object", "required": [key], "properties": {key: {"const": option}}} for key in _CHOOSING]
        parameters = {"parameters": {"$ref": f"#/definitions/parameters.{template}"}}
        yield {
            "if": {"properties": {"defaults": {"contains": {"anyOf": choices}}}, "required": ["defaults"]},
            "then": {"properties": {"model": {"properties": parameters}}},
        }


_CHOOSING = ("override /model", "override model", "model", "/model")


def _templates_of_options(sources: Sources, templates: Mapping[str, Template]) -> dict[str, str]:
    """Option of `model` → the template that it includes, by itself or over another option."""
    lists: dict[str, list[Any]] = {}
    for repository in reversed(sources.repositories):
        for file in read_files(repository.conf / "model", []) if (repository.conf / "model").is_dir() else ():
            lists[file.config_path] = file.content.get("defaults") or []
            if repository.is_packaged:
                lists[f"packaged/{file.config_path}"] = lists[file.config_path]
    found: dict[str, str] = {}
    for option in sorted(lists):
        template = _template_of(option, lists, set())
        if template in templates and "/" not in option:
            found[option] = template
    return found


def _template_of(option: str, lists: Mapping[str, list[Any]], seen: set[str]) -> str:
    if option in seen or option not in lists:
        return ""
    for entry in lists[option]:
        if not isinstance(entry, str):
            continue
        if entry.startswith("/template/"):
            return entry.removeprefix("/template/")
        inner = entry.removeprefix("/model/").replace("/packaged/model/", "packaged/")
        if found := _template_of(inner, lists, {*seen, option}):
            return found
    return ""


def _file(schema: Schema, definitions: Mapping[str, Schema], description: str) -> Schema:
    """A schema by itself, with the definitions that it needs."""
    needed: dict[str, Schema] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = definitions[name]
            waiting += _references(definitions[name])
    return {"$schema": _DRAFT, **schema, "description": description, "definitions": dict(sorted(needed.items()))}


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix("#/definitions/")
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


# -- the files of a repository -----------------------------------------------------------------------------------------


def schema_of(relative: str, header: str | None) -> str | None:
    """The schema of a file by its place in a repository and its `# @package`; None for one that has none."""
    parts = relative.split("/")
    if parts[0] == "templates":
        return TEMPLATE if len(parts) == 3 and parts[2] == "template.yaml" else None
    if parts[0] in SWEEP_DIRECTORIES:
        return ROOT
    group = "/".join(parts[1:-1])
    if header == "_global_" or (header is None and not group):
        return ROOT
    package = header.removeprefix("_global_.") if header is not None else group.replace("/", ".")
    return package if package in GROUPS else None


def editor_files(root: Path, sources: Sources) -> dict[str, str]:
    """What `schema --write` puts into a repository: relative path → content.

    Raises `ConfigError` where settings of the editor are there that cannot be read.
    """
    found = {f"{DIRECTORY}/{name}.json": _text(schema) for name, schema in schemas(sources).items()}
    return {**found, SETTINGS: _settings(root)}


def _text(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _settings(root: Path) -> str:
    path = root / SETTINGS
    settings: dict[str, Any] = {}
    if path.exists():
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            entry = json.dumps(_mapping(root))
            mend = f'add it by hand: "yaml.schemas": {entry}'
            rule = "is no plain JSON (comments?), so nothing can be added to it"
            raise ConfigError(
                f"{path} cannot be changed", [Finding("yaml.schemas", rule, where=str(path), mend=mend)]
            ) from None
    others = {key: v for key, v in settings.get("yaml.schemas", {}).items() if f"{DIRECTORY}/" not in key}
    return _text({**settings, "yaml.schemas": {**_mapping(root), **others}})


def _mapping(root: Path) -> dict[str, list[str]]:
    """Schema → patterns of the files that it is for, by what lies in the repository."""
    names = [ROOT, *GROUPS, TEMPLATE]
    patterns: dict[str, list[str]] = {name: [] for name in names}
    patterns[ROOT] += ["conf/*.yaml", "conf/env/**/*.yaml", "conf/experiment/**/*.yaml"]
    patterns[ROOT] += [f"{directory}/*.yaml" for directory in SWEEP_DIRECTORIES if (root / directory).is_dir()]
    patterns[TEMPLATE].append("templates/*/template.yaml")
    for part in GROUPS:
        patterns[part].append(f"conf/{part}/**/*.yaml")
    usual = {*GROUPS, "env", "experiment", ""}
    for file in read_files(root / "conf", []) if (root / "conf").is_dir() else ():
        schema = schema_of(f"conf/{file.config_path}.yaml", header_of(file))
        if file.group.partition("/")[0] not in usual and schema is not None:
            patterns[schema].append(f"conf/{file.config_path}.yaml")
    return {f"./{DIRECTORY}/{name}.json": sorted(set(found)) for name, found in patterns.items()}


def header_of(file: SourceFile) -> str | None:
    """What the `# @package` line of a file says."""
    first = next((line for line in file.text.splitlines() if line.strip()), "")
    return first.split()[-1] if is_header(first) else None

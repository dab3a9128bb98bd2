"""The nodes that the bridge puts into Hydra's ConfigStore: keys, defaults and nesting from pydantic, leaves untyped.

    /schema/run              every root key
    /schema/model            every key of `model`
    /schema/backend/TYPE     every key of a backend, plug-ins included (their options: plugin_source)
    /template/NAME           what a model template stands for

Open maps (`env_vars`, `parameters` of no template, `vars`, …) take new keys without `+`; everything else is closed.
Leaves stay untyped: types, coercion and rules are pydantic's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rompy_hydra.backends.registry import config_class, known_names, plugin_names
from rompy_hydra.plan.period import Period
from rompy_hydra.plan.resources import Resources
from rompy_hydra.plan.spec import ModelSpec, PostprocessSpec, RunSpec, SiteSpec
from rompy_hydra.workspace.template import Template

GROUPS_FILLED_BY_FILES = ("model", "backend", "resources", "site", "postprocess")
PROVIDER = "rompy_hydra"


class _Recipe:
    """Stands in the ConfigStore for a node that is made when Hydra asks for it.

    `ConfigStore.load` hands out `deepcopy(node)`.  Every composition also copies the whole store, as part of its
    sources: that copy (`memo` then knows what was copied before) keeps the recipe.
    """

    def __init__(self, make: Callable[[], DictConfig]) -> None:
        self._make = make

    def __deepcopy__(self, memo: dict[int, Any]) -> DictConfig | _Recipe:
        return self if memo else self._make()


def register_schemas(invocation: str) -> None:
    """One node per pydantic class; `invocation` is part of the default run_id, a fixed value minted outside."""

    def root() -> dict[str, Any]:
        keys = {k: v for k, v in defaults_of(RunSpec).items() if k not in GROUPS_FILLED_BY_FILES}
        return {**keys, "run_id": f"${{model.name}}-{invocation}"}

    _store("schema", "run", "_global_", lambda: _node(root(), RunSpec))
    for group, cls in (
        ("model", ModelSpec),
        ("site", SiteSpec),
        ("postprocess", PostprocessSpec),
    ):
        _store("schema", group, f"_global_.{group}", lambda cls=cls: _node(defaults_of(cls), cls))  # type: ignore[misc]
    _store("schema", "resources", "_global_.resources", lambda: _node(_resources(), Resources))
    for name in {*known_names(), *plugin_names()}:
        _store("schema/backend", name, "_global_.backend", partial(_backend_node, name))
    _forget_plugins_that_are_gone()


def _forget_plugins_that_are_gone() -> None:
    """The store outlives a composition; packages come and go."""
    group = ConfigStore.instance().repo["schema"]["backend"]
    for name in set(group) - {f"{name}.yaml" for name in (*known_names(), *plugin_names())}:
        del group[name]


def register_template(name: str, load: Callable[[], Template]) -> None:
    """The node of one model template: the `model:` it stands for."""

    def make() -> DictConfig:
        return _node(_merged(defaults_of(ModelSpec), load().defaults), ModelSpec)

    _store("template", name, "_global_.model", make)


def _resources() -> dict[str, Any]:
    # Whoever says `tasks` has said `ranks`, also for those that interpolate it.
    return {**defaults_of(Resources), "ranks": "${.tasks}", "tasks": None}


def _backend_node(name: str) -> DictConfig:
    cls = config_class(name)
    return _node({**defaults_of(cls), "type": name}, cls)


def defaults_of(cls: type[BaseModel]) -> dict[str, Any]:
    """A class's keys with their defaults as plain data; a required one is `???`."""
    return {name: _plain(field) for name, field in cls.model_fields.items()}


def _plain(field: FieldInfo) -> Any:
    kind = field.annotation
    if kind == Period | None:
        return {**defaults_of(Period), "start": None}  # keys to set one by one; nothing said is no period
    if isinstance(kind, type) and issubclass(kind, BaseModel) and not field.is_required():
        return defaults_of(kind)  # without making one: that would build its validators
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "???"
    return str(value) if isinstance(value, PurePath) else value


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _node(content: dict[str, Any], cls: type[BaseModel]) -> DictConfig:
    node = OmegaConf.create(content)
    for path in open_maps(cls):
        part = OmegaConf.select(node, path)
        # A template's parameters are declared, so its map is closed: a typo is found by its key.
        if isinstance(part, DictConfig) and not (path == "parameters" and len(part)):
            OmegaConf.set_struct(part, value=False)
    return node


def _store(group: str, name: str, package: str, make: Callable[[], DictConfig]) -> None:
    # Past ConfigStore.store(), which would make and copy every node at once, whether it is asked for or not.
    place = ConfigStore.instance().repo
    for part in group.split("/"):
        place = place.setdefault(part, {})
    file_name = f"{name}.yaml"
    node: Any = _Recipe(make)
    place[file_name] = ConfigNode(name=file_name, node=node, group=group, package=package, provider=PROVIDER)


def open_maps(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of the fields of `cls` that are maps with free keys."""
    for name, field in cls.model_fields.items():
        path = f"{prefix}{name}"
        for kind in alternatives(field.annotation):
            if get_origin(kind) is dict or kind is dict:
                yield path
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from open_maps(kind, f"{path}.")


def alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, with `Annotated` taken off."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin is Union or origin is UnionType:
        for member in get_args(annotation):
            yield from alternatives(member)
    else:
        yield annotation


def map_value(annotation: Any) -> Any:
    """The value type of a `dict[...]` annotation."""
    arguments = get_args(annotation)
    return arguments[1] if len(arguments) == 2 else Any

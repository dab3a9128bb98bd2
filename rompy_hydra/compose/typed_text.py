"""The characters that were typed: a scalar on the command line that is meant for a text field stays text.

Hydra's grammar reads `run_id=001` as the number 1 and `env_vars.V=1.10` as 1.1.  Where the schema says text, the
override's own characters are put back, in maps and lists too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, get_args, get_origin

from antlr4 import CommonTokenStream, InputStream  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, Transformer
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser
from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel

from rompy_hydra.backends.registry import config_class
from rompy_hydra.compose.nodes import alternatives, map_value
from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.workspace.template import Template

ENV_SET = "hydra.job.env_set"


class _TextVisitor(HydraOverrideVisitor):
    """Hydra's visitor, but a bare scalar is its characters."""

    def visitPrimitive(self, ctx: Any) -> Any:  # noqa: N802  # the visitor's protocol
        value = super().visitPrimitive(ctx)
        if value is None or isinstance(value, (QuotedString, str)):
            return value
        return ctx.getText().strip()


def put_typed_text_back(config: DictConfig, overrides: list[Override], templates: Mapping[str, Template]) -> None:
    """Give text fields that an override set the characters that were typed.  Changes `config` in place."""
    for override in overrides:
        key = override.key_or_group
        if override.is_delete() or override.is_hydra_override() or not override.input_line:
            continue
        kinds = kinds_at(key.split("."), config, templates)
        value = override.value()
        if kinds and not isinstance(value, str):
            _put(config, key.split("."), value, _parse_as_text(override.input_line), kinds)


def put_typed_variables_back(hydra: DictConfig, overrides: list[Override]) -> None:
    """The same for the environment variables of `hydra.job.env_set`.  Changes `hydra`, Hydra's own part, in place."""
    for override in overrides:
        key = override.key_or_group
        if (key != ENV_SET and not key.startswith(f"{ENV_SET}.")) or override.is_delete() or not override.input_line:
            continue
        kinds = [dict[str, str] if key == ENV_SET else str]
        _put(hydra, key.split(".")[1:], override.value(), _parse_as_text(override.input_line), kinds)


def typed_choices(line: str) -> list[str] | None:
    """The values of `key=a,b,c` as override texts, each in the characters that were typed; None for anything else.

    (Hydra's own way writes the parsed value: `001,1.10` would become the points 1 and 1.1.)
    """
    try:
        override = _parse_override_as_text(line)
    except (HydraException, ValueError):  # a cast in it, which wants the number
        return None
    choices = override._value  # noqa: SLF001  # value() would lose the quotes
    if not isinstance(choices, ChoiceSweep) or not choices.simple_form or "(" in line:
        return None
    return [str(Transformer.str(choice)) for choice in choices.list]


def _put(config: Any, path: list[str], value: Any, text: Any, kinds: list[Any]) -> None:
    """Walk value and text side by side; where the schema wants text and the value is none, set the text."""
    if isinstance(value, dict) and isinstance(text, dict):
        for (key, inner), other in zip(value.items(), text.values(), strict=True):
            _put(config, [*path, str(key)], inner, other, _step(kinds, str(key)))
    elif isinstance(value, list) and isinstance(text, list):
        for number, (inner, other) in enumerate(zip(value, text, strict=True)):
            _put(config, [*path, str(number)], inner, other, _step(kinds, str(number)))
    elif isinstance(value, (bool, int, float)) and isinstance(text, str) and wants_text(kinds):
        parent = config
        for part in path[:-1]:
            parent = parent[int(part)] if OmegaConf.is_list(parent) else parent[part]
        parent[int(path[-1]) if OmegaConf.is_list(parent) else path[-1]] = text


def typed_text(override: Override) -> Any:
    """The value of an override with its characters in the place of numbers and booleans."""
    line = override.input_line or ""
    text = line.partition("=")[2]
    # a number or a boolean that is no cast is what stands behind the sign
    is_bare = isinstance(override.value(), (bool, int, float)) and "(" not in text
    return text.strip() if is_bare else _parse_as_text(line)


def _parse_as_text(line: str) -> Any:
    return _parse_override_as_text(line).value()


def _parse_override_as_text(line: str) -> Override:
    listener = HydraErrorListener()
    lexer = OverrideLexer(InputStream(line))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    parser = OverrideParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    override = _TextVisitor(create_functions()).visit(parser.override())  # type: ignore[no-untyped-call]  # generated code
    assert isinstance(override, Override)
    return override


def wants_text(kinds: list[Any]) -> bool:
    """Whether text is what a field takes, and no number or boolean."""
    plain = [k for k in kinds if isinstance(k, type)]
    takes_text = any(issubclass(k, (str, PurePath)) for k in plain)
    return takes_text and not any(issubclass(k, (int, float)) for k in plain)


def kinds_at(parts: list[str], config: DictConfig, templates: Mapping[str, Template]) -> list[Any]:
    """What the schema takes at a key: the members of its type; nothing for a key that it does not know."""
    kinds: list[Any] = [RunSpec]
    for depth, part in enumerate(parts):
        kinds = _step(kinds, part)
        here = parts[: depth + 1]
        if here == ["backend"]:
            kinds = _backend_class(config)
        elif here == ["model", "parameters"]:
            name = OmegaConf.select(config, "model.template", throw_on_missing=False)
            if name in templates:
                kinds = [templates[name].parameters_model]
    return kinds


def _backend_class(config: DictConfig) -> list[Any]:
    kind = OmegaConf.select(config, "backend.type", throw_on_missing=False)
    try:
        return [config_class(str(kind))]
    except ConfigError:  # the bridge reports it with its place
        return []


def _step(kinds: list[Any], part: str) -> list[Any]:
    out: list[Any] = []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(part)
            if field is not None:
                out += alternatives(field.annotation)
        elif get_origin(kind) is dict:
            out += alternatives(map_value(kind))
        elif get_origin(kind) is list:
            out += alternatives(get_args(kind)[0])
    return out

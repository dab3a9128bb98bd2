"""Which line set this: the winner of every value, as `file:line`, an override, or the model's own default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.defaults_list import DefaultsList
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.compose.loader import HYDRA_PROVIDER, Loader
from rompy_hydra.compose.nodes import PROVIDER
from rompy_hydra.compose.search_path import PackagedSource, RepositorySource
from rompy_hydra.compose.tree import child
from rompy_hydra.redaction import redact_override

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FILE_SCHEMES = (RepositorySource.scheme(), PackagedSource.scheme(), "file")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who set a value."""

    where: str  # `file:line`, `override 'x=1'`, `default of model.name`


class Provenance:
    """Answers `origin(key)` for one composition; files are read only when somebody asks."""

    def __init__(
        self, loader: Loader, config_name: str, parsed: Sequence[Override], templates: dict[str, Path]
    ) -> None:
        self._loader = loader
        self._config_name = config_name
        self._parsed = list(parsed)
        self._templates = templates
        self._list: DefaultsList | None = None
        self._trees: dict[Path, yaml.Node | None] = {}

    def origin(self, key: str) -> Origin:
        """Who set `key` (dotted) last."""
        for override in reversed(self._parsed):
            name = override.key_or_group
            if override.is_delete() or self._is_group(name):
                continue
            if key == name or key.startswith(f"{name}.") or name.startswith(f"{key}."):
                return Origin(f"the override '{redact_override(override.input_line or name)}'")
        parts = key.split(".")
        for layer in reversed(self._defaults()):
            where = self._position(layer, parts)
            if where:
                return Origin(where)
        return Origin(f"the default of {key}")

    def chooser(self, group: str) -> str:
        """Who chose the option of `group`: an override, or the line of a defaults list."""
        for override in reversed(self._parsed):
            if override.key_or_group == group:
                return f"the override '{redact_override(override.input_line or group)}'"
        found = self.defaults_list()
        choice = found.overrides.override_metadata.get(group) if found is not None else None
        parent = choice.containing_config_path if choice is not None else None
        path = self.file_of(parent) if parent else None
        if path is None:
            return f"the defaults list of {parent or self._config_name}"
        return f"{path}:{_line_of_choice(self._tree(path), group)}"

    def unset_mandatory(self, config_paths: set[str]) -> list[tuple[str, str]]:
        """(key, place) of every `???` in these options that nobody set afterwards."""
        found: list[tuple[str, str]] = []
        for layer in self._defaults():
            if layer.config_path not in config_paths or (path := self.file_of(layer.config_path)) is None:
                continue
            for inner, line in _mandatory(self._tree(path), []):
                key = ".".join([*(p for p in (layer.package or "").split(".") if p), *inner])
                if self.origin(key).where == f"{path}:{line}":
                    found.append((key, f"{path}:{line}"))
        return found

    def defaults_list(self) -> DefaultsList | None:
        """Hydra's own answer to what was composed, in which order; None if the composition itself failed."""
        if self._list is None:
            lines = [o.input_line for o in self._parsed if o.input_line]
            try:
                self._list = self._loader.compute_defaults_list(self._config_name, lines, RunMode.MULTIRUN)
            except (HydraException, OmegaConfBaseException):
                return None  # that finding stands on its own, layers cannot be named
        return self._list

    def _is_group(self, name: str) -> bool:
        return bool(self._loader.found.group_exists(name))

    def _defaults(self) -> list[ResultDefault]:
        found = self.defaults_list()
        return list(found.defaults) if found is not None else []

    def _position(self, layer: ResultDefault, parts: list[str]) -> str | None:
        package = [p for p in (layer.package or "").split(".") if p]
        if layer.config_path is None or parts[: len(package)] != package:
            return None
        inner = parts[len(package) :]
        if layer.config_path.startswith("template/"):
            return self._template_position(layer.config_path, inner)
        path = self.file_of(layer.config_path)
        if path is None:
            return self._node_position(layer.config_path, inner)
        if not inner and not layer.is_self:
            return f"{path}:1"
        return _line(path, self._tree(path), inner)

    def _node_position(self, config_path: str, inner: list[str]) -> str | None:
        """A node that somebody else put into Hydra's ConfigStore, if it leads there."""
        result = self._loader.found.load_config(config_path)
        if result is None or result.provider in (PROVIDER, HYDRA_PROVIDER):
            return None
        node: Any = result.config
        for part in inner:
            if (node := child(node, part)) is None:
                return None
        return f"the node '{config_path}' of {result.provider or 'nobody'} in Hydra's ConfigStore"

    def _template_position(self, config_path: str, inner: list[str]) -> str | None:
        name = config_path.partition("/")[2].removesuffix(".yaml")
        if name not in self._templates:
            return None
        path = self._templates[name] / "template.yaml"
        if inner[:1] == ["parameters"]:
            return _line(path, self._tree(path), [*inner[:2], "default"]) or _line(path, self._tree(path), inner[:2])
        return _line(path, self._tree(path), ["model", *inner])

    def file_of(self, config_path: str) -> Path | None:
        """The file that answers to a config path, None for a node of the ConfigStore."""
        result = self._loader.found.load_config(config_path)
        if result is None or result.provider == PROVIDER:
            return None
        scheme, _, location = result.path.partition("://")
        if scheme not in _FILE_SCHEMES:
            return None
        relative = config_path.removeprefix("packaged/") if result.provider == "packaged" else config_path
        path = Path(location)
        if path.is_dir():
            path = path / relative
        return path if path.suffix in (".yaml", ".yml") else path.with_name(path.name + ".yaml")

    def _tree(self, path: Path) -> yaml.Node | None:
        if path not in self._trees:
            self._trees[path] = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        return self._trees[path]


def _line_of_choice(tree: yaml.Node | None, group: str) -> int:
    """The line of a defaults list that says `override GROUP: option`; 1 if it cannot be told."""
    for key_node, value_node in tree.value if isinstance(tree, yaml.MappingNode) else []:
        if key_node.value != "defaults" or not isinstance(value_node, yaml.SequenceNode):
            continue
        for item in value_node.value:
            name = item.value[0][0].value if isinstance(item, yaml.MappingNode) and item.value else ""
            if name.split(" ")[-1].lstrip("/") == group:
                return int(item.start_mark.line) + 1
    return 1


def _mandatory(node: yaml.Node | None, parts: list[str]) -> Iterator[tuple[list[str], int]]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            inner = [*parts, str(key_node.value)]
            if isinstance(value_node, yaml.ScalarNode) and value_node.value == "???":
                yield inner, key_node.start_mark.line + 1
            else:
                yield from _mandatory(value_node, inner)


def _line(path: Path, node: yaml.Node | None, parts: list[str]) -> str | None:
    """`file:line` of the deepest key on the way of `parts`, None if the file does not lead there."""
    line: int | None = None
    for part in parts:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == part:
                    line, node = key_node.start_mark.line + 1, value_node
                    break
            else:
                return None
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        elif line is not None and isinstance(node, yaml.ScalarNode) and "${" in node.value:
            break  # an interpolation that stands for a whole tree
        else:
            return None
    return f"{path}:{line}" if line is not None else None

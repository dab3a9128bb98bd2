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
from rompy_hydra.errors import Finding
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
            if where := self.position(layer, parts):  # a layer that says both names was read by the new one
                return Origin(where)
        return Origin(f"the default of {key}")

    def renamed(self) -> list[Finding]:
        """A finding for each old name of a key that was met, with its place."""
        found = []
        for path, name, detail in self._loader.renamed_in:
            if path is None:  # `name` is today's, and `detail` the override
                old, new, where = _key_of(detail), name, f"the override '{redact_override(detail)}'"
            else:
                old, new = name, self._loader.renamings.new_name(name) or name
                where = self._place_of_old(path, old.removeprefix(f"{detail}.") if detail else old)
            found.append(Finding(old, f"is called {new} now", where=where, mend=f"write {new}"))
        return list(dict.fromkeys(found))

    def _place_of_old(self, config_path: str, key: str) -> str:
        """Where a file says an old name: as a key, or in an interpolation."""
        file = self.file_of(config_path)
        if file is None:
            return config_path
        return _line(file, self._tree(file), key.split(".")) or _line_of_text(file, key.rpartition(".")[2])

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

    def place_of_choice(self, config_path: str, group: str) -> str | None:
        """The line of an option's defaults list that chooses from a group; None if it cannot be told."""
        path = self.file_of(config_path)
        return f"{path}:{_line_of_choice(self._tree(path), group)}" if path is not None else None

    def place_of_option(self, group: str, option: str) -> str | None:
        """The line of the defaults list that names an option which is not there (nothing was composed then)."""
        asked = [f"{o.key_or_group}/{o.value()}" for o in self._parsed if self._is_group(o.key_or_group)]
        waiting, seen = [self._config_name, *asked], set[str]()
        while waiting:
            config_path = waiting.pop(0)
            path = self.file_of(config_path) if config_path not in seen else None
            seen.add(config_path)
            if path is None:
                continue
            for name, value, line in _defaults_in(self._tree(path), config_path.rpartition("/")[0]):
                if (name, value) == (group, option):
                    return f"{path}:{line}"
                waiting.append(f"{name}/{value}" if name else value)
        return None

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

    @property
    def loader(self) -> Loader:
        """Who composed."""
        return self._loader

    @property
    def config_name(self) -> str:
        """The root configuration."""
        return self._config_name

    def layers(self) -> list[ResultDefault]:
        """What was merged, in its order; nothing if the composition itself failed."""
        return self._defaults()

    def position(self, layer: ResultDefault, parts: Sequence[str]) -> str | None:
        """Where a layer says a key, under today's name or one it had; None where it says nothing of it."""
        olds = self._loader.renamings.old_names(".".join(parts))
        for way in [list(parts), *(old.split(".") for old in olds)]:
            if where := self._position(layer, way):
                return where
        return None

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


def line_in(path: Path, parts: Sequence[str]) -> str | None:
    """`file:line` of a key in a file that need not be part of any composition."""
    try:
        tree = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return _line(path, tree, list(parts))


def _key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _line_of_text(path: Path, word: str) -> str:
    """The first line of a file that holds a word: that of an interpolation, whose keys are none of the file's."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return f"{path}:{next((n for n, line in enumerate(lines, 1) if word in line), 1)}"


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


def _defaults_in(tree: yaml.Node | None, group: str) -> Iterator[tuple[str, str, int]]:
    """(group, option, line) of each entry in a defaults list; `group` is that of the file."""
    for key_node, value_node in tree.value if isinstance(tree, yaml.MappingNode) else []:
        if key_node.value != "defaults" or not isinstance(value_node, yaml.SequenceNode):
            continue
        for item in value_node.value:
            line = item.start_mark.line + 1
            if isinstance(item, yaml.MappingNode) and item.value:
                name, option = item.value[0][0].value.split(" ")[-1].partition("@")[0], item.value[0][1].value
                if isinstance(option, str):
                    yield name.lstrip("/") if name.startswith("/") or not group else f"{group}/{name}", option, line
            elif isinstance(item, yaml.ScalarNode) and item.value != "_self_":
                name, _, option = item.value.partition("@")[0].rpartition("/")
                yield name.lstrip("/") if item.value.startswith("/") else f"{group}/{name}".strip("/"), option, line


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
            for key_node, value_node in _entries(node):
                if _key_text(key_node) == part:
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


def _key_text(node: yaml.Node) -> str:
    """A key as its text is in a dotted key: `yes` is True."""
    if node.tag == "tag:yaml.org,2002:bool":
        return str(node.value.lower() in ("yes", "true", "on"))
    return str(node.value)


def _entries(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a map: its own, then those that a `<<` brings in."""
    merged: list[yaml.Node] = []
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
        else:
            yield key_node, value_node
    for other in merged:
        if isinstance(other, yaml.MappingNode):
            yield from _entries(other)

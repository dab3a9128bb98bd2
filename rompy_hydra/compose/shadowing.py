"""Which files answer to the name of an option, in the order they are asked: the first does, the others are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.plugins.config_source import ConfigSource

from rompy_hydra.backends.loading import Loader
from rompy_hydra.compose.plugin_source import PluginSource
from rompy_hydra.compose.provenance import line_in

_FILES = ("rompy-conf", "file", "pkg")


class Shadowing:
    """Asks the sources of one composition."""

    def __init__(self, sources: Sequence[ConfigSource]) -> None:
        self._sources = [s for s in sources if is_file_source(s) or isinstance(s, PluginSource)]
        self._files: dict[str, list[str]] = {}
        self._content: dict[str, Any] = {}

    def files(self, config_path: str) -> list[str]:
        """The files (or who else) that have an option, the one that answers first."""
        if config_path not in self._files:
            self._files[config_path] = [
                _named(source, config_path)
                for source in self._sources
                if source.available() and source.is_config(config_path)
            ]
        return self._files[config_path]

    def hidden_values(self, config_path: str, path: Sequence[str] | None) -> list[tuple[str, Any]]:
        """(file:line, value) of what hidden files of the same name say of a key below the option's package."""
        found = []
        for file in self.files(config_path)[1:] if path is not None else ():
            value = self._read(file)
            for part in path or ():
                value = value.get(part, _NOTHING) if isinstance(value, dict) else _NOTHING
            if value is not _NOTHING and not isinstance(value, dict):
                found.append((line_in(Path(file), list(path or ())) or file, value))
        return found

    def _read(self, file: str) -> Any:
        if file not in self._content:
            try:
                self._content[file] = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506  # safe
            except (OSError, ValueError, yaml.YAMLError):  # nobody reads it: it need not be sound
                self._content[file] = None
        return self._content[file]


def is_file_source(source: ConfigSource) -> bool:
    """Whether a source has its options in files, a repository of ours or an entry of `hydra.searchpath`."""
    return source.scheme() in _FILES


_NOTHING = object()


def _named(source: ConfigSource, config_path: str) -> str:
    name = config_path if config_path.endswith((".yaml", ".yml")) else f"{config_path}.yaml"
    if isinstance(source, PluginSource):
        return f"the plug-in {config_path.rpartition('/')[2]}"
    if source.scheme() == "pkg":
        return f"pkg://{source.path}/{name}"
    return str(Path(source.path) / name)

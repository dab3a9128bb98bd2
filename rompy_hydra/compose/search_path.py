"""The search path: the user's repositories, then the packaged one, which also answers to `/packaged/GROUP/OPTION`.

An option of the user's shadows a packaged one of the same name and can extend it:

    # conf/backend/local.yaml of the user's
    defaults: [/packaged/backend/local, _self_]

(including itself by its own name would be an endless recursion in Hydra).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf

from rompy_hydra.backends.loading import Loader
from rompy_hydra.backends.registry import plugin_names
from rompy_hydra.compose.plugin_source import PluginSource
from rompy_hydra.compose.sources import Sources

PREFIX = "packaged"


class _Shared(set[str]):
    """A set that a copy of its owner keeps sharing (Hydra deep-copies the sources for every composition)."""

    def __deepcopy__(self, memo: object) -> _Shared:
        return self


class RepositorySource(FileConfigSource):
    """The options of one repository: Hydra's file source, read by libyaml (OmegaConf's own reader is pure Python).

    `mandatory` names the options read so far that hold a `???`: a merge lets such a value lose to a default below it,
    so the composer looks for them itself.
    """

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self.mandatory = _Shared()

    @staticmethod
    def scheme() -> str:
        """URL scheme of these entries of the search path."""
        return "rompy-conf"

    def load_config(self, config_path: str) -> ConfigResult:
        """One option; raises as Hydra's file source does, and libyaml's error with the file's name in it."""
        full_path = (Path(self.path) / self._normalize_file_name(config_path)).resolve()
        if not full_path.exists():
            raise ConfigLoadError(f"Config not found : {full_path}")
        text = full_path.read_text(encoding="utf-8")
        if "???" in text:
            self.mandatory.add(config_path)
        return ConfigResult(
            config=_as_omegaconf(text, str(full_path)),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=ConfigSource._get_header_dict(text[:512]),  # noqa: SLF001  # Hydra's own reading of `# @package`
        )


def _as_omegaconf(text: str, name: str) -> DictConfig | ListConfig:
    stream = io.StringIO(text)
    stream.name = name  # libyaml's errors then say which file
    content = yaml.load(stream, Loader=Loader)  # noqa: S506  # a SafeLoader of ours
    if content is None:
        return OmegaConf.create()
    if isinstance(content, str):
        content = {content: None}
    if not isinstance(content, (dict, list)):
        raise ValueError(f"{name} holds neither a mapping nor a list")
    return OmegaConf.create(content)


class PackagedSource(ConfigSource):
    """The packaged options under the prefix `packaged/`, each in the package it has without the prefix."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self._files = RepositorySource(provider=provider, path=self.path)

    @staticmethod
    def scheme() -> str:
        """URL scheme of these entries of the search path."""
        return "rompy-packaged"

    def load_config(self, config_path: str) -> ConfigResult:
        """A packaged option; its package is that of the group it stands for, unless its own header says otherwise."""
        inner = self._inner(config_path)
        result = self._files.load_config(inner)
        group = inner.rpartition("/")[0]
        result.header.setdefault("package", None)
        if result.header["package"] is None and group:
            result.header["package"] = "_global_." + group.replace("/", ".")
        return result

    def available(self) -> bool:
        """Whether the directory is there."""
        return self._files.available()

    def is_group(self, config_path: str) -> bool:
        """Whether `packaged/GROUP` is a group."""
        return self._is_ours(config_path) and self._files.is_group(self._inner(config_path))

    def is_config(self, config_path: str) -> bool:
        """Whether `packaged/GROUP/OPTION` is an option."""
        return self._is_ours(config_path) and self._files.is_config(self._inner(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What lies in `packaged/…`."""
        if not self._is_ours(config_path):
            return []
        return self._files.list(self._inner(config_path), results_filter)

    @staticmethod
    def _is_ours(config_path: str) -> bool:
        return config_path == PREFIX or config_path.startswith(PREFIX + "/")

    @staticmethod
    def _inner(config_path: str) -> str:
        return config_path.removeprefix(PREFIX).lstrip("/")


def build_search_path(sources: Sources) -> ConfigSearchPathImpl:
    """Hydra's search path of one invocation; search-path plugins of others are asked as Hydra asks them."""
    plugins = Plugins.instance()
    plugins.register(RepositorySource)
    plugins.register(PackagedSource)
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    for number, repository in enumerate(sources.users):
        search_path.append(f"user{number or ''}", f"{RepositorySource.scheme()}://{repository.conf}")
    if plugin_names():
        plugins.register(PluginSource)
        search_path.append("plugins", f"{PluginSource.scheme()}://")  # first: one that replaces a built-in has its name
    search_path.append("main", f"{RepositorySource.scheme()}://{sources.packaged.conf}")
    search_path.append(PREFIX, f"{PackagedSource.scheme()}://{sources.packaged.conf}")
    for plugin in plugins.discover(SearchPathPlugin):
        maker: Any = plugin
        maker().manipulate_search_path(search_path)
    search_path.append("schema", "structured://")
    return search_path

"""Hydra's configuration loader as our adapter uses it: it remembers what it read while it composed.

Nobody then parses the overrides a second time, reads the defaults list again only to know which layer set a key of
Hydra's own, or asks a repository that does not know the entries of `hydra.searchpath`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from rompy_hydra.compose.deprecation import renamings_of
from rompy_hydra.compose.hydra_keys import OPEN_MAPS
from rompy_hydra.compose.search_path import RepositorySource
from rompy_hydra.compose.tree import child, ends

HYDRA_PROVIDER = "hydra"
_SEARCH_PATH_PROVIDER = "hydra.searchpath"


class Loader(ConfigLoaderImpl):
    """`parsed` overrides, the repository `found` (with `hydra.searchpath`), and who else speaks for Hydra's part.

    `renamed_in` tells which old names of keys were met: (config path, key, package), or (None, key, override).
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.parsed: list[Override] = []
        self.found: IConfigRepository = self.repository
        self.hydra_keys: list[str] = []
        self.composed: DictConfig | None = None
        prefix = f"{RepositorySource.scheme()}://"
        paths = [entry.path for entry in config_search_path.get_path() if (entry.path or "").startswith(prefix)]
        self.renamings = renamings_of(Path(path.removeprefix(prefix)) for path in paths)
        self.renamed_in: dict[tuple[str | None, str, str], None] = {}

    @property
    def absent_sources(self) -> list[ConfigSource]:
        """Entries of `hydra.searchpath` that are not there."""
        named = (s for s in self.found.get_sources() if s.provider.startswith(_SEARCH_PATH_PROVIDER))
        return [source for source in named if not source.available()]

    def sources_of(self, config_name: str, overrides: Sequence[str]) -> list[ConfigSource]:
        """The sources in the order they are asked, with those of `hydra.searchpath`; nothing is composed."""
        with suppress(HydraException, OSError, ValueError, yaml.YAMLError):  # what is wrong is told by composing
            self._parse_overrides_and_create_caching_repo(config_name, list(overrides))
        return list(self.found.get_sources())

    def today(self, override: Override) -> Override:
        """An override of a key that was renamed, of its new name; noted in `renamed_in`."""
        renamed = self.renamings.of_override(override)
        if renamed is not override:
            self.renamed_in[None, renamed.key_or_group, override.input_line or override.key_or_group] = None
        return renamed

    def todays_key(self, key: str) -> str:
        """The name that a key has today; noted in `renamed_in` where it is another."""
        new = self.renamings.new_name(key) if self.renamings else None
        if new is None:
            return key
        self.renamed_in[None, new, key] = None
        return new

    def _parse_overrides_and_create_caching_repo(self, config_name: str | None, overrides: list[str]) -> Any:
        parsed, self.found = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        self.parsed = [self.today(override) for override in parsed] if self.renamings else parsed
        return self.parsed, self.found

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: list[Override], repo: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an entry that is not there: a finding of ours, not a warning
            super()._process_config_searchpath(config_name, parsed_overrides, repo)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.hydra_keys = []
        self.composed = super()._compose_config_from_defaults_list(defaults, repo)
        for key in OPEN_MAPS:
            part: Any = self.composed
            for name in key.split("."):
                part = child(part, name)
            if isinstance(part, DictConfig):
                OmegaConf.set_struct(part, value=False)
        return self.composed

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        result = super()._load_single_config(default, repo)
        if result.provider != HYDRA_PROVIDER and (node := child(result.config, "hydra")) is not None:
            self.hydra_keys += ends(node, "hydra")
        if self.renamings and isinstance(result.config, DictConfig):
            config, old_names = self.renamings.of_layer(result.config)
            if old_names:
                result = replace(result, config=config)
                self.renamed_in.update({(default.config_path, old, default.package or ""): None for old in old_names})
        return result

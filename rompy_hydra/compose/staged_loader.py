"""Hydra's loader in two stages, for many compositions of one command (composer → sweep composer).

Stage one composes a combination of group choices: Hydra's own code, once for each combination.  Stage two copies that
tree and applies the values: Hydra's own code again.  Files and nodes are read once, so that an edit in the middle of a
sweep changes none of its points.
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra import __version__, version
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.conf import ConfigSourceInfo
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString, ValueType
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.compose.loader import HYDRA_PROVIDER, Loader
from rompy_hydra.compose.tree import copied

SEARCH_PATH = "hydra.searchpath"
_HYDRA_LAYERS = "hydra/"
_KEPT_CHOICES = 32
_KEPT_OVERRIDES = 4096


# `key=value` where the value is one token of Hydra's grammar that nobody can read in two ways
_SIMPLE = re.compile(
    r"(?P<key>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)="
    r"(?:(?P<int>[+-]?(?:0|[1-9]\d*))"
    r"|(?P<float>[+-]?(?:0|[1-9]\d*)(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+))"
    r"|(?P<text>[A-Za-z_][\w-]*)"
    r"|'(?P<quoted>[^'\\]*)')",
    re.ASCII,
)
_KEYWORDS: dict[str, Any] = {"null": None, "true": True, "false": False, "inf": math.inf, "nan": math.nan}


def read_simple(line: str) -> Override | None:
    """An override of the simplest kind, as Hydra's parser reads it; None for any other (its parser takes 0.1 ms)."""
    match = _SIMPLE.fullmatch(line)
    if match is None:
        return None
    kind = match.lastgroup
    assert kind is not None
    text = match[kind]
    value: Any = text
    if kind == "int":
        value = int(text)
    elif kind == "float":
        value = float(text)
    elif kind == "quoted":
        value = QuotedString(text=text, quote=Quote.single)
    elif text.lower() in _KEYWORDS:
        value = _KEYWORDS[text.lower()]
    return Override(OverrideType.CHANGE, match["key"], ValueType.ELEMENT, value, None, line)


@dataclass(slots=True)
class Choice:
    """One combination of group choices, composed; no value is set yet.  Never changed: a copy of `tree` is."""

    tree: DictConfig
    defaults: DefaultsList
    hydra_keys: list[str]


@dataclass
class _MergedLayers(ResultDefault):
    """The first layers of every composition (Hydra's own), merged: stands for them in a defaults list."""

    tree: DictConfig = field(default_factory=lambda: OmegaConf.create({}))
    hydra_keys: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Stage:
    """What compositions with one search path share: every file read, every combination composed."""

    repository: CachingConfigRepository
    groups: dict[str, bool] = field(default_factory=dict)
    choices: dict[tuple[Any, ...], Choice] = field(default_factory=dict)
    prefixes: dict[tuple[Any, ...], _MergedLayers] = field(default_factory=dict)

    def chooses(self, override: Override) -> bool:
        name = override.key_or_group
        if name not in self.groups:
            self.groups[name] = bool(self.repository.group_exists(name))
        return self.groups[name] and not isinstance(override.value(), dict)


class StagedLoader(Loader):
    """Gives what `Loader` gives; the second composition with the same group choices costs a copy."""

    def __init__(self, config_search_path: ConfigSearchPath, config_name: str | None) -> None:
        super().__init__(config_search_path)
        self._config_name = config_name
        self._parser = OverridesParser.create(config_loader=self)  # `glob` asks for options
        self._known_overrides: dict[str, Override] = {}
        self._stages: dict[tuple[str, ...], _Stage] = {}
        self._stage: _Stage | None = None

    def parse(self, line: str) -> Override:
        """One override as Hydra reads it; raises what Hydra raises."""
        known = self._known_overrides.get(line)
        if known is None:
            if len(self._known_overrides) >= _KEPT_OVERRIDES:
                self._known_overrides.clear()  # a sweep over numbers never asks twice
            known = read_simple(line)
            if known is None:
                (known,) = self._parser.parse_overrides([line])
            known = self.today(known)
            self._known_overrides[line] = known
        return known

    def look(self, lines: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
        """The tree of some group choices, no value set, and what they choose.  To be looked at, never changed."""
        parsed, _ = self._parse_overrides_and_create_caching_repo(self._config_name, list(lines))
        stage = self._stage_of(parsed)
        choice = self._choice(stage, _split(stage, parsed)[0], skip_missing=False)
        return choice.tree, choice.defaults.overrides.known_choices

    def chooses(self, override: Override, search_path: Sequence[Override] = ()) -> bool:
        """Whether Hydra takes an override for a group choice; `search_path` are the overrides that extend that."""
        return self._stage_of(search_path).chooses(override)

    def _stage_of(self, parsed: Sequence[Override]) -> _Stage:
        lines = tuple(o.input_line or "" for o in parsed if o.get_key_element() == SEARCH_PATH)
        if lines not in self._stages:
            self._stages.clear()  # one search path for a whole sweep, as a rule
            _, repository = super()._parse_overrides_and_create_caching_repo(self._config_name, list(lines))
            self._stages[lines] = _Stage(repository)
        return self._stages[lines]

    def _parse_overrides_and_create_caching_repo(self, config_name: str | None, overrides: list[str]) -> Any:
        if config_name != self._config_name:
            return super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        parsed = [self.parse(line) for line in overrides]
        self._stage = self._stage_of(parsed)
        self.parsed, self.found = parsed, self._stage.repository
        return self.parsed, self.found

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        if config_name != self._config_name:
            return super()._load_configuration_impl(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        self.ensure_main_config_source_available()
        parsed, _ = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(overrides=parsed, run_mode=run_mode, from_shell=from_shell)
        stage = self._stage_of(parsed)
        groups, values = _split(stage, parsed)
        choice = self._choice(stage, groups, skip_missing=run_mode == RunMode.MULTIRUN)
        self.hydra_keys = list(choice.hydra_keys)
        self.composed = copied(choice.tree)
        return self._finish(self.composed, choice, parsed, values)

    def _choice(self, stage: _Stage, groups: list[Override], *, skip_missing: bool) -> Choice:
        key = (skip_missing, *(o.input_line for o in groups))
        if key not in stage.choices:
            defaults = create_defaults_list(
                repo=stage.repository,
                config_name=self._config_name,
                overrides_list=groups,
                prepend_hydra=True,
                skip_missing=skip_missing,
            )
            tree = self._compose_config_from_defaults_list(defaults=defaults.defaults, repo=stage.repository)
            while len(stage.choices) >= _KEPT_CHOICES:
                del stage.choices[next(iter(stage.choices))]
            stage.choices[key] = Choice(tree, defaults, self.hydra_keys)
        return stage.choices[key]

    def compute_defaults_list(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> DefaultsList:
        """What was composed, in which order; known already where the same groups were composed before."""
        if config_name != self._config_name:
            return super().compute_defaults_list(config_name, overrides, run_mode)
        parsed, _ = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        stage = self._stage_of(parsed)
        groups, _ = _split(stage, parsed)
        known = stage.choices.get((run_mode == RunMode.MULTIRUN, *(o.input_line for o in groups)))
        known = known or stage.choices.get((False, *(o.input_line for o in groups)))
        if known is not None:
            return known.defaults
        return super().compute_defaults_list(config_name, overrides, run_mode)

    # -- Hydra's `_load_configuration_impl` from the composed tree on, statement by statement -------------------------

    def _finish(
        self, tree: DictConfig, choice: Choice, parsed: Sequence[Override], values: list[Override]
    ) -> DictConfig:
        OmegaConf.set_struct(tree, value=True)
        OmegaConf.set_readonly(tree.hydra, value=False)
        self._apply_overrides_to_config(values, tree)
        app_overrides = []
        for override in parsed:
            if override.is_hydra_override():
                tree.hydra.overrides.hydra.append(override.input_line)
            else:
                tree.hydra.overrides.task.append(override.input_line)
                app_overrides.append(override)
        hydra: Any = tree.hydra
        with open_dict(hydra):
            hydra.runtime.choices.update(choice.defaults.overrides.known_choices)
            for name in hydra.job.env_copy:
                hydra.job.env_set[name] = os.environ[name]
        hydra.runtime.version = __version__
        hydra.runtime.version_base = version.getbase()
        hydra.runtime.cwd = os.getcwd()  # noqa: PTH109  # Hydra's own statement
        hydra.runtime.config_sources = [
            ConfigSourceInfo(path=x.path, schema=x.scheme(), provider=x.provider) for x in self.found.get_sources()
        ]
        if "name" not in hydra.job:
            hydra.job.name = JobRuntime().get("name")
        how = hydra.job.config.override_dirname
        hydra.job.override_dirname = get_overrides_dirname(
            overrides=app_overrides, kv_sep=how.kv_sep, item_sep=how.item_sep, exclude_keys=how.exclude_keys
        )
        hydra.job.config_name = self._config_name
        return tree

    # -- Hydra's merge: of copies of what was read, and with its own layers (always the first) merged once ------------

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        number = next((n for n, d in enumerate(defaults) if not _is_hydras(d)), len(defaults))
        try:
            first = self._hydras_layers(defaults[:number], repo)
        except OmegaConfBaseException:
            return super()._compose_config_from_defaults_list(defaults, repo)  # fails again, with Hydra's words
        return super()._compose_config_from_defaults_list([first, *defaults[number:]], repo)

    def _hydras_layers(self, defaults: list[ResultDefault], repo: IConfigRepository) -> _MergedLayers:
        assert self._stage is not None
        key = tuple((d.config_path, d.package, d.primary) for d in defaults)
        if key not in self._stage.prefixes:
            self.hydra_keys = []
            tree = OmegaConf.create()
            with flag_override(tree, "no_deepcopy_set_nodes", values=True):
                for default in defaults:
                    tree.merge_with(self._load_single_config(default, repo).config)
            self._stage.prefixes[key] = _MergedLayers(tree=tree, hydra_keys=self.hydra_keys)
        return self._stage.prefixes[key]

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        """A copy of what was read: the merge moves nodes out of it."""
        if isinstance(default, _MergedLayers):
            self.hydra_keys += default.hydra_keys
            return ConfigResult(provider=HYDRA_PROVIDER, path="", config=copied(default.tree), header={})
        result = super()._load_single_config(default, repo)
        assert default.config_path is not None
        cached = repo.load_config(default.config_path)
        if cached is not None and result.config is cached.config:
            result = copy.copy(result)
            result.config = copied(result.config)
        return result


def _split(stage: _Stage, parsed: Sequence[Override]) -> tuple[list[Override], list[Override]]:
    """(group choices, values), as Hydra tells them apart; what asks for a sweep is neither."""
    groups: list[Override] = []
    values: list[Override] = []
    for override in parsed:
        if not override.is_sweep_override():
            (groups if stage.chooses(override) else values).append(override)
    return groups, values


def _is_hydras(default: ResultDefault) -> bool:
    return (default.config_path or "").startswith(_HYDRA_LAYERS)

"""One configuration from repositories and overrides, by Hydra, with every finding of a command, not the first only.

The good case is one call of Hydra's own loader.  Only if that refuses is each override held against the groups, their
options and the tree, the wrong ones are taken out and named, and the rest is composed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from rompy_hydra.backends.loading import finding_of_yaml_error
from rompy_hydra.compose import nodes, resolvers
from rompy_hydra.compose.provenance import Provenance
from rompy_hydra.compose.search_path import PREFIX, RepositorySource, build_search_path
from rompy_hydra.compose.sources import Sources
from rompy_hydra.compose.tree import child, children, is_branch, is_missing, leaves, written
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.redaction import looks_like_credential, redact, redact_override
from rompy_hydra.workspace.template import Templates

CONFIG_NAME = "config"
# Hydra refuses by more than its own exceptions: bare ValueErrors and asserts, and endless recursion for a config that
# includes itself.
_REFUSALS = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    OSError,
    ValueError,
    AssertionError,
    RecursionError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one invocation asks for; `invocation` was minted once, outside of composing."""

    overrides: tuple[str, ...]
    sources: Sources
    invocation: str
    environ: Mapping[str, str]
    config_name: str = CONFIG_NAME


@dataclass(kw_only=True)
class Composition:
    """A composed tree, what was chosen, who set what, and what was wrong with the request."""

    request: Request
    config: DictConfig
    hydra: DictConfig
    parsed: list[Override]
    provenance: Provenance
    templates: Templates
    findings: list[Finding] = field(default_factory=list)

    @property
    def choices(self) -> dict[str, str | None]:
        """Group → option, without Hydra's own groups."""
        chosen = self.hydra.runtime.choices
        return {str(k): chosen[k] for k in sorted(chosen, key=str) if not str(k).startswith("hydra/")}

    def raw(self, key: str) -> Any:
        """The value of a dotted key as it is written (an interpolation stays one); None if there is none."""
        node: Any = self.config
        for part in key.split("."):
            if (node := child(node, part)) is None:
                return None
        return written(node)

    def resolve(self) -> dict[str, Any]:
        """The tree as plain data.  A leaf that cannot be resolved or is missing becomes a finding and is left out."""
        try:
            plain = OmegaConf.to_container(self.config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException:
            plain = self._resolve_leaf_by_leaf(self.config, "")
        return plain  # type: ignore[return-value]  # the root of a configuration is a mapping

    def _resolve_leaf_by_leaf(self, container: DictConfig | ListConfig, prefix: str) -> Any:
        out: dict[str | int, Any] = {}
        for key, node in children(container):
            path = f"{prefix}{key}"
            try:
                if is_branch(node):
                    out[key] = self._resolve_leaf_by_leaf(node, f"{path}.")
                    continue
                if is_missing(node):
                    raise MissingMandatoryValue(path)
                value = container[key]  # type: ignore[index]  # an index of a list, or a key of a map
                out[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            except OmegaConfBaseException as error:
                self.findings.append(self._finding_of_leaf(path, node, error))
        return list(out.values()) if isinstance(container, ListConfig) else out

    def _finding_of_leaf(self, path: str, node: Any, error: OmegaConfBaseException) -> Finding:
        where = self.provenance.origin(path).where
        if isinstance(error, MissingMandatoryValue):
            return Finding(key=path, value="???", rule="must be given", where=where, mend=f"add {path}=VALUE")
        expression = str(written(node))
        cause = (error.msg or str(error)).splitlines()[0]
        missing = re.search(r"Interpolation key '([^']*)' not found", cause)
        mend = None
        if missing:
            mend = did_you_mean(missing[1], leaves(self.config))
        variable = re.search(r"Environment variable '([^']*)' not found", cause)
        if variable:
            mend = f"set {variable[1]}, or give a default: ${{oc.env:{variable[1]},DEFAULT}}"
        return Finding(key=path, value=expression, rule=f"cannot be resolved: {cause}", where=where, mend=mend)


def compose(request: Request) -> Composition:
    """Compose a request.

    Wrong overrides are taken out and stand in `findings`; raises `ConfigError` where nothing at all can be
    composed (a malformed file, a missing config).
    """
    version.setbase("1.3")
    setup_globals()
    resolvers.register()
    nodes.register_schemas(request.invocation)
    templates = Templates(request.sources.template_roots)
    for name in templates:
        nodes.register_template(name, partial(templates.__getitem__, name))
    return _Composer(request, _Loader(build_search_path(request.sources)), templates).compose()


class _Loader(ConfigLoaderImpl):
    """Hydra's loader; remembers the overrides it parsed, so that nobody parses them again."""

    parsed: list[Override]

    def _parse_overrides_and_create_caching_repo(self, config_name: str | None, overrides: list[str]) -> Any:
        answer = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        self.parsed = answer[0]
        return answer


class _Composer:
    """One composition; holds what its steps share."""

    def __init__(self, request: Request, loader: _Loader, templates: Templates) -> None:
        self.request = request
        self.loader = loader
        self.templates = templates
        self.findings: list[Finding] = []

    def compose(self) -> Composition:
        overrides = list(self.request.overrides)
        try:
            config = self._load_with_env(overrides)
            parsed = self.loader.parsed
        except _REFUSALS as error:
            config, parsed = self._compose_what_is_good(error)
        hydra: DictConfig = config.hydra
        resolvers.register_hydra(hydra)
        provenance = self._provenance(parsed)
        bare = _without_hydra(config)
        self._find_mandatory(provenance, bare)
        return Composition(
            request=self.request,
            config=bare,
            hydra=hydra,
            parsed=parsed,
            provenance=provenance,
            templates=self.templates,
            findings=self.findings,
        )

    def _provenance(self, parsed: Sequence[Override]) -> Provenance:
        return Provenance(self.loader, self.request.config_name, parsed, self.templates.directories)

    def _find_mandatory(self, provenance: Provenance, config: DictConfig) -> None:
        """A `???` over a default of ours loses in OmegaConf's merge: the user meant it all the same."""
        sources = self.loader.repository.get_sources()
        paths = {p for s in sources if isinstance(s, RepositorySource) for p in s.mandatory}
        for key, where in provenance.unset_mandatory(paths) if paths else []:
            if not OmegaConf.is_missing(_parent_of(config, key), key.rpartition(".")[2]):
                self.findings.append(
                    Finding(key=key, value="???", rule="must be given", where=where, mend=f"add {key}=VALUE")
                )

    def _load_with_env(self, overrides: list[str]) -> DictConfig:
        """`ROMPY_ENV` picks the environment where neither the command line nor an experiment does.

        (An interpolation in the defaults list would do, but Hydra forbids `override /backend` below one.)
        """
        config = self._load(overrides)
        wanted = self.request.environ.get(resolvers.ENV_VARIABLE)
        chosen = config.hydra.runtime.choices.get("env")
        if not wanted or wanted == chosen or chosen != resolvers.DEFAULT_ENV:
            return config
        if any(text.lstrip("+").startswith("env=") for text in overrides):
            return config
        return self._load([f"env={wanted}", *overrides])

    def _load(self, overrides: list[str]) -> DictConfig:
        return self.loader.load_configuration(
            self.request.config_name, overrides, RunMode.RUN, validate_sweep_overrides=True
        )

    def _compose_what_is_good(self, first: Exception) -> tuple[DictConfig, list[Override]]:
        parsed = [o for text in self.request.overrides if (o := self._parse(text)) is not None]
        groups = [o for o in parsed if self._is_group_override(o)]
        values = [o for o in parsed if o not in groups]
        # A misspelt group looks like a value; it is told apart below, when the tree's own keys are known.
        good = [o for o in groups if self._option_exists(o)]
        config = self._load_or_raise(good, first)
        good += [o for o in values if self._key_fits(o, config)]
        if not self.findings:
            raise self._translate(first)
        order = {id(o): n for n, o in enumerate(parsed)}
        good.sort(key=lambda o: order[id(o)])
        return self._load_or_raise(good, first), good

    def _load_or_raise(self, overrides: Sequence[Override], first: Exception) -> DictConfig:
        try:
            return self._load_with_env([o.input_line or "" for o in overrides])
        except _REFUSALS as error:
            translated = self._translate(error)
            raise ConfigError(translated.headline, [*self.findings, *translated.findings]) from first

    def _parse(self, text: str) -> Override | None:
        shown = redact_override(text)
        try:
            override = OverridesParser.create().parse_override(text)
            if not override.key_or_group:
                raise HydraException("there is no key before '='")
        except (OverrideParseException, HydraException) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            key = re.match(r"[+~]*([A-Za-z0-9_./@:-]*)", text)
            self.findings.append(
                Finding(
                    key=key[1] if key else text,
                    value=None,
                    rule=f"is no override: {_grammar_message(lines, text)}",
                    where=f"the override '{shown}'",
                    mend=_quoted(shown) if "=" in text else "write key=value",
                )
            )
            return None
        if override.is_sweep_override():
            self.findings.append(
                Finding(
                    key=override.key_or_group,
                    value=_value_text(override),
                    rule="several values ask for a sweep",
                    where=f"the override '{shown}'",
                    mend="add -m for a sweep; write [a,b] for a list, or quote the text: '\"a,b\"'",
                )
            )
            return None
        return override

    def _is_group_override(self, override: Override) -> bool:
        return bool(self.loader.repository.group_exists(override.key_or_group))

    def _option_exists(self, override: Override) -> bool:
        group, value = override.key_or_group, override.value()
        if value is None or override.is_delete():
            return True
        wanted = value if isinstance(value, list) else [value]
        options = self.loader.repository.get_group_options(group)
        missing = [str(v) for v in wanted if str(v) not in options]
        for name in missing:
            self.findings.append(
                Finding(
                    key=group,
                    value=repr(name),
                    rule=f"there is no option '{name}' in the group '{group}'",
                    where=f"the override '{override.input_line}'",
                    mend=did_you_mean(name, options),
                )
            )
        return not missing

    def _key_fits(self, override: Override, config: DictConfig) -> bool:
        key = override.key_or_group
        node: Any = config
        parts = key.split(".")
        for depth, part in enumerate(parts):
            parent = ".".join(parts[:depth])
            if not is_branch(node):
                return self._unknown_key(override, parent, [], closed_by_leaf=True)
            if (found := child(node, part)) is not None:
                node = found
                continue
            if isinstance(node, ListConfig) or (OmegaConf.is_struct(node) and not override.is_add()):
                return self._unknown_key(override, parent, [str(key) for key, _ in children(node)])
            return True
        return True

    def _unknown_key(
        self, override: Override, parent: str, siblings: list[str], *, closed_by_leaf: bool = False
    ) -> bool:
        key = override.key_or_group
        typo = key[len(parent) + 1 if parent else 0 :].split(".")[0].split("/")[0]
        prefix = f"{parent}." if parent else ""
        if closed_by_leaf:
            rule, mend = f"'{parent}' is a value and has no keys below it", None
        else:
            known = siblings
            if not parent:
                known = sorted(set(siblings) - {"hydra"} | set(self._groups()))
            rule = f"there is no {'group or key' if not parent else 'key'} '{typo}'" + (
                f" in {parent}" if parent else ""
            )
            mend = did_you_mean(f"{prefix}{typo}", [f"{prefix}{name}" for name in known])
        self.findings.append(
            Finding(
                key=key,
                value=_value_text(override),
                rule=rule,
                where=f"the override '{redact_override(override.input_line or key)}'",
                mend=mend,
            )
        )
        return False

    def _groups(self) -> list[str]:
        found = self.loader.repository.get_group_options("", results_filter=None)
        return [g for g in found if self.loader.repository.group_exists(g) and g not in (PREFIX, "schema", "template")]

    def _translate(self, error: Exception) -> ConfigError:
        """Hydra's, OmegaConf's and libyaml's refusals in our words."""
        if isinstance(error, yaml.YAMLError):
            mark = getattr(error, "problem_mark", None)
            name = mark.name if mark is not None else "a configuration file"
            return ConfigError(f"{name} is malformed", [finding_of_yaml_error(error, name)])
        if isinstance(error, MissingConfigException):
            return self._missing_config(error)
        if isinstance(error, RecursionError):
            return ConfigError(
                "the configuration includes itself",
                [
                    Finding(
                        key="defaults",
                        rule="endless recursion",
                        mend="extend a packaged option by '/packaged/GROUP/OPTION'",
                    )
                ],
            )
        if isinstance(error, OSError):
            return ConfigError(f"cannot read {error.filename}: {error.strerror}")
        cause = error.__cause__ if error.__cause__ is not None else error
        key = getattr(cause, "full_key", None)
        lines = [line for line in str(error if str(error) else cause).splitlines() if line.strip()]
        message = lines[0] if lines else type(error).__name__
        duplicate = re.search(r"found duplicate key (\S+)", str(error))
        if duplicate:
            message = f"the key {duplicate[1]} stands twice"
        where = None
        if key:
            where = self._provenance([]).origin(str(key)).where
        return ConfigError(
            "the configuration cannot be composed",
            [Finding(key=str(key or ""), rule=message, where=where, mend=lines[1] if len(lines) > 1 else None)],
        )

    def _missing_config(self, error: MissingConfigException) -> ConfigError:
        first = str(error).splitlines()[0]
        parent = re.match(r"In '([^']*)': (.*)", first)
        missing = error.missing_cfg_file or ""
        group, _, option = missing.rpartition("/")
        if parent is None and not group:
            configs = [
                str(s.path) for s in self.loader.repository.get_sources() if s.provider not in ("hydra", "schema")
            ]
            return ConfigError(
                f"there is no configuration '{missing or self.request.config_name}'",
                [
                    Finding(
                        key="--config-name", value=missing, rule="no such file", mend="looked in " + ", ".join(configs)
                    )
                ],
            )
        options = error.options or (self.loader.repository.get_group_options(group) if group else [])
        where = None
        if parent is not None:
            path = self._provenance([]).file_of(parent[1])
            where = str(path) if path is not None else parent[1]
        if group == "env" and self.request.environ.get(resolvers.ENV_VARIABLE) == option:
            where = f"the environment variable {resolvers.ENV_VARIABLE}={option}"
        return ConfigError(
            f"there is no option '{option}' in the group '{group}'",
            [
                Finding(
                    key=group or "defaults",
                    value=repr(option),
                    rule=parent[2] if parent is not None and not options else f"there is no option '{option}'",
                    where=where,
                    mend=did_you_mean(option, options) or None,
                )
            ],
        )


def _quoted(text: str) -> str:
    """How an override with a value that the grammar cannot read is typed in a shell: in quotes inside quotes."""
    key, _, value = text.partition("=")
    escaped = value.strip("'\"").replace('"', '\\"')
    return f"write key=value, and quote what is not a plain word: '{key}=\"{escaped}\"'"


def _parent_of(config: DictConfig, key: str) -> Any:
    parent = key.rpartition(".")[0]
    return OmegaConf.select(config, parent) if parent else config


def _without_hydra(config: DictConfig) -> DictConfig:
    """The tree without Hydra's own part (which keeps its parent, so that its interpolations still resolve)."""
    with open_dict(config):
        del config["hydra"]
    return config


def _value_text(override: Override) -> str | None:
    line = override.input_line or ""
    if "=" not in line:
        return None
    text = line.partition("=")[2]
    return "***" if looks_like_credential(override.key_or_group) else str(redact(text))


def _grammar_message(lines: list[str], text: str) -> str:
    for line in lines:
        if line.startswith("Error parsing override"):
            continue
        if line.startswith("See https"):
            continue
        return line
    return f"'{text}'"

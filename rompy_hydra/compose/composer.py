"""One configuration from repositories and overrides, by Hydra, with every finding of a command, not the first only.

The good case is one call of Hydra's own loader.  Only if that refuses is each override held against the groups, their
options and the tree, the wrong ones are taken out and named, and the rest is composed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from rompy_hydra.backends.loading import finding_of_yaml_error
from rompy_hydra.compose import hydra_keys, nodes, resolvers
from rompy_hydra.compose.loader import Loader
from rompy_hydra.compose.provenance import Provenance
from rompy_hydra.compose.search_path import PREFIX, RepositorySource, build_search_path
from rompy_hydra.compose.sources import Sources
from rompy_hydra.compose.tree import child, children, is_branch, is_missing, leaves, put_below, written
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.redaction import looks_like_credential, redact, redact_override
from rompy_hydra.workspace.template import Templates

CONFIG_NAME = "config"
JOB_NAME = "rompy_hydra"
INNER_GROUPS = (PREFIX, "schema", "template")  # to be extended by options, not chosen on a command line
# Hydra refuses by more than its own exceptions: bare ValueErrors and asserts, and endless recursion for a config that
# includes itself.
REFUSALS = (
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
    """What one invocation asks for; `invocation` was minted once, outside of composing.

    `point` is the number of a point of a sweep, None for a single run.
    """

    overrides: tuple[str, ...]
    sources: Sources
    invocation: str
    environ: Mapping[str, str]
    config_name: str = CONFIG_NAME
    point: int | None = None


@dataclass(kw_only=True)
class Composition:
    """A composed tree, what was chosen, who set what, and what was wrong with the request.

    `hydra` is Hydra's own part, `hydra_set` its keys and groups that somebody set: an override, a file or a node.
    """

    request: Request
    config: DictConfig
    hydra: DictConfig
    parsed: list[Override]
    provenance: Provenance
    templates: Templates
    hydra_set: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    @property
    def renamed(self) -> list[Finding]:
        """Old names of keys that the command, or a file that it reads, still says."""
        return self.provenance.renamed()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong so far."""
        return not self.findings

    def sets(self, name: str) -> bool:
        """Whether somebody set a key of Hydra's (`hydra.job_logging`) or one below it, or chose from its group."""
        names = (name, name.replace(".", "/"))
        return any(key in names or key.startswith(f"{name}.") for key in self.hydra_set)

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

    def resolve_part(self, key: str) -> Any:
        """One map of the tree as plain data; with findings as `resolve` has them."""
        return self._resolve_leaf_by_leaf(self.config[key], f"{key}.")

    def resolve_hydra(self, key: str) -> dict[str, Any]:
        """A map of Hydra's own part (`job.env_set`) as plain data; with findings as `resolve` has them."""
        found: dict[str, Any] = self._resolve_leaf_by_leaf(OmegaConf.select(self.hydra, key), f"hydra.{key}.")
        return found

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
        if cause == "Recursive interpolation detected":
            mend = f"it reads itself in the end, see 'rompy-hydra explain {path}'"
        resolver = re.search(r"Unsupported interpolation type (\S+)", cause)
        if resolver:
            cause = f"there is no resolver '{resolver[1]}'"
            mend = did_you_mean(resolver[1], resolvers.known())
        variable = re.search(r"Environment variable '([^']*)' not found", cause)
        if variable:
            mend = f"set {variable[1]}, or give a default: ${{oc.env:{variable[1]},DEFAULT}}"
        return Finding(key=path, value=expression, rule=f"cannot be resolved: {cause}", where=where, mend=mend)


def wrong(findings: Sequence[Finding]) -> ConfigError:
    """The error of a configuration that composes, with all that is wrong with it."""
    places = "one place" if len(findings) == 1 else f"{len(findings)} places"
    return ConfigError(f"the configuration is wrong in {places}:", findings)


def compose(request: Request) -> Composition:
    """Compose a request.

    Wrong overrides are taken out and stand in `findings`; raises `ConfigError` where nothing at all can be
    composed (a malformed file, a missing config).
    """
    return compose_with(request, *open_loader(request))


def line_of_environment(environ: Mapping[str, str], chosen: str | None, overrides: Sequence[str]) -> str | None:
    """The override that `ROMPY_ENV` stands for, where `chosen` is only what nobody chose; None if there is none."""
    wanted = environ.get(resolvers.ENV_VARIABLE)
    if not wanted or wanted == chosen or chosen != resolvers.DEFAULT_ENV:
        return None
    return None if any(text.lstrip("+").startswith("env=") for text in overrides) else f"env={wanted}"


def compose_with(request: Request, loader: Loader, templates: Templates) -> Composition:
    """The same by a loader that is there already (one that composes many requests of a command)."""
    return _Composer(request, loader, templates).compose()


def open_loader(request: Request) -> tuple[Loader, Templates]:
    """A loader that knows the repositories, schemas, templates and resolvers of a request."""
    templates = fill_store(request.sources, request.invocation)
    return Loader(build_search_path(request.sources)), templates


def fill_store(sources: Sources, invocation: str) -> Templates:
    """Make schemas, templates and resolvers known to Hydra and OmegaConf."""
    version.setbase("1.3")
    setup_globals()
    JobRuntime.instance().set("name", JOB_NAME)
    resolvers.register()
    nodes.register_schemas(invocation)
    templates = Templates(sources.template_roots)
    for name in templates:
        nodes.register_template(name, partial(templates.__getitem__, name))
    return templates


class _Composer:
    """One composition; holds what its steps share."""

    def __init__(self, request: Request, loader: Loader, templates: Templates) -> None:
        self.request = request
        self.loader = loader
        self.templates = templates
        self.findings: list[Finding] = []
        self.absent_variables: list[str] = []

    @property
    def _sweeping(self) -> bool:
        return self.request.point is not None

    def compose(self) -> Composition:
        overrides = list(self.request.overrides)
        try:
            config = self._load_with_env(overrides)
            parsed = self.loader.parsed
        except REFUSALS as error:
            config, parsed = self._compose_what_is_good(error)
        hydra: DictConfig = config.hydra
        self._fill_in(hydra, parsed)
        resolvers.register_hydra(hydra)
        provenance = self._provenance(parsed)
        hydra_set = _set_by_somebody(hydra, parsed, self.loader.hydra_keys)
        self._find_in_hydra(hydra, hydra_set, provenance)
        self._find_mandatory(provenance, config)
        return Composition(
            request=self.request,
            config=_without_hydra(config),
            hydra=hydra,
            parsed=parsed,
            provenance=provenance,
            templates=self.templates,
            hydra_set=hydra_set,
            findings=self.findings,
        )

    def _fill_in(self, hydra: DictConfig, parsed: Sequence[Override]) -> None:
        """What Hydra fills in, as it does; but no credential stands in the overrides that it keeps."""
        if self.request.point is not None:
            hydra.mode = RunMode.MULTIRUN
            hydra.job.num = self.request.point
            hydra.job.id = str(self.request.point)
        shown = {line: redact_override(line) for o in parsed if (line := o.input_line)}
        if all(line == text for line, text in shown.items()):
            return
        for lines in (hydra.overrides.task, hydra.overrides.hydra):
            for number, node in children(lines):
                lines[number] = shown.get(written(node), written(node))
        how = hydra.job.config.override_dirname
        ours = [replace(o, input_line=shown[o.input_line or ""]) for o in parsed if not o.is_hydra_override()]
        hydra.job.override_dirname = get_overrides_dirname(ours, how.exclude_keys, how.item_sep, how.kv_sep)

    def _find_in_hydra(self, hydra: DictConfig, names: Sequence[str], provenance: Provenance) -> None:
        """What is refused of Hydra's own part, and what it names that is not there."""
        if not names:
            return

        def where(name: str) -> str:
            is_group = "/" in name or name == "hydra"
            return provenance.chooser(name) if is_group else provenance.origin(name).where

        found = hydra_keys.refusals(names, partial(_hydra_value, hydra), where, sweeping=self._sweeping)
        self.findings += found
        for source in self.loader.absent_sources:
            self.findings.append(
                Finding(
                    key="hydra.searchpath",
                    value=source.path,
                    rule="is not there",
                    where=where("hydra.searchpath"),
                    mend="name a directory, or a module as pkg://module",
                )
            )
        for variable in self.absent_variables:
            self.findings.append(
                Finding(
                    key="hydra.job.env_copy",
                    value=variable,
                    rule=f"the environment variable {variable} is not set",
                    where=where("hydra.job.env_copy"),
                    mend=f"set {variable}, or leave it out",
                )
            )

    def _provenance(self, parsed: Sequence[Override]) -> Provenance:
        return Provenance(self.loader, self.request.config_name, parsed, self.templates.directories)

    def _find_mandatory(self, provenance: Provenance, config: DictConfig) -> None:
        """A `???` over a default of ours loses in OmegaConf's merge: the user meant it all the same."""
        sources = self.loader.found.get_sources()
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
        added = line_of_environment(self.request.environ, config.hydra.runtime.choices.get("env"), overrides)
        return config if added is None else self._load([added, *overrides])

    def _load(self, overrides: list[str]) -> DictConfig:
        try:
            return self._load_as_it_is(overrides)
        except KeyError:
            # Hydra trips over the first variable of `hydra.job.env_copy` that is not set: note all, copy the others.
            wanted = list(self.loader.composed.hydra.job.env_copy) if self.loader.composed is not None else []
            self.absent_variables = [name for name in wanted if name not in os.environ]
            if not self.absent_variables:
                raise
        config = self._load_as_it_is(
            [*overrides, f"hydra.job.env_copy=[{','.join(name for name in wanted if name in os.environ)}]"]
        )
        self.loader.parsed = self.loader.parsed[:-1]
        return config

    def _load_as_it_is(self, overrides: list[str]) -> DictConfig:
        return self.loader.load_configuration(
            self.request.config_name, overrides, RunMode.RUN, validate_sweep_overrides=True
        )

    def _compose_what_is_good(self, first: Exception) -> tuple[DictConfig, list[Override]]:
        parsed = [
            o
            for text in self.request.overrides
            if (o := self._parse(text)) is not None and not self._is_refused_of_hydra(o)
        ]
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
        except REFUSALS as error:
            translated = self._translate(error)
            raise ConfigError(translated.headline, [*self.findings, *translated.findings]) from first

    def _parse(self, text: str) -> Override | None:
        shown = redact_override(text)
        try:
            override = self.loader.today(OverridesParser.create().parse_override(text))
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

    def _is_refused_of_hydra(self, override: Override) -> bool:
        name = override.key_or_group
        if not hydra_keys.is_hydras(name):
            return False
        where = f"the override '{redact_override(override.input_line or name)}'"
        if override.is_delete() and not hydra_keys.may_be_deleted(name):
            self.findings.append(Finding(key=name, rule="cannot be taken away", where=where, mend="leave it as it is"))
            return True
        if hydra_keys.word_of(name) is None:
            return False  # it may be misspelt, or hold several keys
        found = list(hydra_keys.refusals([name], lambda _: override.value(), lambda _: where, sweeping=self._sweeping))
        self.findings += found
        return bool(found)

    def _is_group_override(self, override: Override) -> bool:
        return bool(self.loader.found.group_exists(override.key_or_group))

    def _option_exists(self, override: Override) -> bool:
        group, value = override.key_or_group, override.value()
        if override.is_delete():
            return True
        if value is None:
            known = ", ".join(self.loader.found.get_group_options(group))
            self.findings.append(
                Finding(
                    key=group,
                    value="null",
                    rule="null is no option of a group",
                    where=f"the override '{override.input_line}'",
                    mend=f"choose one of {known}; or leave the group out: '~{group}'",
                )
            )
            return False
        wanted = value if isinstance(value, list) else [value]
        options = self.loader.found.get_group_options(group)
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
                return self._unknown_key(override, parent, [], config, closed_by_leaf=True)
            if (found := child(node, part)) is not None:
                node = found
                continue
            if isinstance(node, ListConfig) or (OmegaConf.is_struct(node) and not override.is_add()):
                return self._unknown_key(override, parent, [str(key) for key, _ in children(node)], config)
            return True
        return True

    def _unknown_key(
        self, override: Override, parent: str, siblings: list[str], config: DictConfig, *, closed_by_leaf: bool = False
    ) -> bool:
        key = override.key_or_group
        if "/" in key and hydra_keys.is_hydras(key):
            return self._unknown_group_of_hydra(override)
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
            mend = did_you_mean(typo, known, prefix=prefix, elsewhere=namesakes(config, key[len(prefix) :]))
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

    def _unknown_group_of_hydra(self, override: Override) -> bool:
        group = override.key_or_group
        known = [f"hydra/{name}" for name in self.loader.found.get_group_options("hydra", ObjectType.GROUP)]
        where = f"the override '{override.input_line}'"
        rule = f"there is no group '{group}' with options in it"
        self.findings.append(Finding(key=group, rule=rule, where=where, mend=did_you_mean(group, known)))
        return False

    def _groups(self) -> list[str]:
        found = self.loader.found.get_group_options("", results_filter=None)
        return [g for g in found if self.loader.found.group_exists(g) and g not in INNER_GROUPS]

    def _translate(self, error: Exception) -> ConfigError:
        """Hydra's, OmegaConf's and libyaml's refusals in our words."""
        if isinstance(error, yaml.YAMLError):
            mark = getattr(error, "problem_mark", None)
            name = mark.name if mark is not None else "a configuration file"
            finding = finding_of_yaml_error(error, name)
            if "cannot start any token" in finding.rule:
                finding = replace(finding, mend="indent with blanks, not tabs; quote what begins with @, ` or %")
            return ConfigError(f"{name} is malformed", [finding])
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
            configs = [str(s.path) for s in self.loader.found.get_sources() if s.provider not in ("hydra", "schema")]
            return ConfigError(
                f"there is no configuration '{missing or self.request.config_name}'",
                [
                    Finding(
                        key="--config-name", value=missing, rule="no such file", mend="looked in " + ", ".join(configs)
                    )
                ],
            )
        options = error.options or (self.loader.found.get_group_options(group) if group else [])
        where = None
        if parent is not None:
            path = self._provenance([]).file_of(parent[1])
            where = str(path) if path is not None else parent[1]
            where = self._provenance(self.loader.parsed).place_of_option(group, option) or where
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


def _set_by_somebody(hydra: DictConfig, parsed: Sequence[Override], of_layers: Sequence[str]) -> tuple[str, ...]:
    """Hydra's groups whose option somebody chose, then its keys that an override or a layer sets."""
    chosen = hydra.runtime.choices
    groups = [g for g, default in hydra_keys.DEFAULT_CHOICES.items() if chosen.get(g) != default]
    keys: list[str] = []
    for override in parsed:
        name = override.key_or_group
        if "/" in name and hydra_keys.is_hydras(name):
            groups.append(name)
        elif hydra_keys.is_hydras(name):
            value = override.value()
            keys += _ends_of(value, name) if isinstance(value, dict) and name != "hydra" else [name]
    return tuple(dict.fromkeys([*groups, *keys, *of_layers]))


def _ends_of(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _ends_of(inner, f"{path}.{key}")
    else:
        yield path


def _hydra_value(hydra: DictConfig, name: str) -> Any:
    """What a key of Hydra's is set to, as it is written, or which option of a group is chosen."""
    if "/" in name:
        return hydra.runtime.choices.get(name)
    node: Any = hydra
    for part in name.split(".")[1:]:
        if (node := child(node, part)) is None:
            return None
    value = written(node)
    return value.name if isinstance(value, Enum) else value


def _parent_of(config: DictConfig, key: str) -> Any:
    parent = key.rpartition(".")[0]
    return OmegaConf.select(config, parent) if parent else config


def _without_hydra(config: DictConfig) -> DictConfig:
    """The tree without Hydra's own part, which sees both: its interpolations point to the tree and to itself."""
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    put_below(config, "hydra", hydra)
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


def namesakes(config: DictConfig, rest: str) -> list[str]:
    """The same key in other parts of the tree: whoever writes `backend.command` may want `model.command`."""
    first = rest.split(".", maxsplit=1)[0]
    return [
        f"{name}.{rest}"
        for name, part in children(config)
        if name != "hydra" and isinstance(part, DictConfig) and child(part, first) is not None
    ]

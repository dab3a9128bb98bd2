"""Combinations of options, each composed and validated in a millisecond or two, so that thousands can be tried.

    choices → Hydra's defaults list → layers as plain maps, merged → resolved → RunSpec → a *symptom*, or nothing

Only whether something is wrong is asked here, and by which symptom; what it is, and where, is told by a whole
composition (`composer`, `bridge`) of one combination of each symptom.  What is not understood (`Unsure`) is composed
whole, too.  Templates are rendered in memory with what is right.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list as hydras_defaults
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import GroupDefault, InputDefault, ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from rompy_hydra.compose.composer import REFUSALS
from rompy_hydra.compose.staged_loader import StagedLoader
from rompy_hydra.errors import ConfigError, Finding, RompyHydraError
from rompy_hydra.plan.inputs import TEMPLATE_PREFIX
from rompy_hydra.plan.resources import Resources
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.postprocess import check_options
from rompy_hydra.steps.prepare import settle, template_context
from rompy_hydra.workspace.inputs import find_inputs, template_names
from rompy_hydra.workspace.render import render_workspace
from rompy_hydra.workspace.template import Template, Templates

Choice = tuple[str, ...]
"""Overrides that choose options, as they are typed."""

_REFERENCE = re.compile(r"\$\{(\.*)([A-Za-z_][\w-]*(?:\.[\w-]+)*)\}")
_CALL = re.compile(r"\$\{([A-Za-z_][\w.]*):([^${}]*)\}")
_MISSING = "???"
_ATTEMPTS = 4


class Unsure(Exception):  # noqa: N818  # no error: the combination takes the other way
    """A combination that must be composed whole."""


def all_combinations(groups: Mapping[str, Sequence[str | None]]) -> Iterator[dict[str, str | None]]:
    """Every way to choose one option from each group."""
    for chosen in itertools.product(*groups.values()):
        yield dict(zip(groups, chosen, strict=True))


def pairwise(groups: Mapping[str, Sequence[str | None]]) -> Iterator[dict[str, str | None]]:
    """A few combinations in which every two options of two groups meet."""
    open_pairs = {((g, a), (h, b)) for g, h in itertools.combinations(groups, 2) for a in groups[g] for b in groups[h]}
    order = sorted(groups, key=lambda g: -len(groups[g]))
    place = {g: n for n, g in enumerate(groups)}

    def pair(one: tuple[str, str | None], other: tuple[str, str | None]) -> Any:
        return (one, other) if place[one[0]] < place[other[0]] else (other, one)

    while open_pairs:
        first = min(open_pairs, key=str)
        chosen: dict[str, str | None] = dict(first)
        for group in order:
            if group not in chosen:
                here = list(chosen.items())
                chosen[group] = max(
                    groups[group],
                    key=lambda o, g=group: sum(pair((g, o), c) in open_pairs for c in here),  # type: ignore[misc]
                )
        yield {group: chosen[group] for group in groups}
        open_pairs -= {pair(a, b) for a, b in itertools.combinations(chosen.items(), 2)}


class _LazyMap:
    """What interpolations in defaults lists may read; Hydra makes it for every list, and hardly one reads it."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)

    def __getitem__(self, name: str) -> Any:
        return self._make()[name]


@contextmanager
def _quick_defaults() -> Iterator[None]:
    """Four fifths of the time that Hydra takes for a defaults list go into that map."""
    make = hydras_defaults._create_interpolation_map  # noqa: SLF001

    def lazily(overrides: Any, defaults: list[InputDefault], self_added: bool) -> Any:  # Hydra's signature
        if any(isinstance(d, GroupDefault) and d.is_interpolation() for d in defaults):
            return make(overrides, defaults, self_added)
        return _LazyMap(lambda: make(overrides, defaults, self_added))

    hydras_defaults._create_interpolation_map = lazily  # type: ignore[assignment]  # noqa: SLF001
    try:
        yield
    finally:
        hydras_defaults._create_interpolation_map = make  # noqa: SLF001


class QuickComposer:
    """Composes combinations of one root configuration; `symptoms` says what is wrong with one, then `findings`."""

    def __init__(self, loader: StagedLoader, config_name: str, templates: Templates, cwd: Path) -> None:
        self._loader = loader
        self._name = config_name
        self._templates = templates
        self._cwd = cwd
        self._layers: dict[tuple[Any, ...], tuple[str, dict[Any, Any]]] = {}
        self._calls: dict[str, Any] = {}
        self._known: dict[str, list[Finding]] = {}
        self.plain: dict[Any, Any] = {}
        self._last: list[tuple[str, dict[Any, Any]]] = []
        self._spec: RunSpec | None = None
        self._parameters: dict[str, Any] = {}

    def symptoms(self, lines: Choice) -> list[Any]:
        """What is wrong with a combination, in a form that is the same for the same cause; nothing for a sound one.

        Raises `Unsure`.
        """
        self._spec = None
        layers = self._layers_of([self._loader.parse(line) for line in lines])
        self._last = layers
        tree: dict[Any, Any] = {}
        for _, content in layers:
            _merge(tree, content)
        tree.pop("hydra", None)
        found: list[Any] = []
        self.plain = _Resolution(tree, self._call, found).all()
        found += self._against_the_schema(layers)
        return found

    def findings(self) -> tuple[list[Finding], list[Finding]]:
        """What is wrong beyond the schema with the last combination: with its values, and with its template's files.

        Wrong values are left out for it, so that nothing hides behind them.
        """
        spec = self._spec
        if spec is None:
            return [], []
        values = [
            *self._once(f"{spec.resources!r} {spec.model.parallel}", lambda: _of_error(lambda: settle(spec))),
            *self._once(
                f"postprocess {spec.postprocess!r}",
                lambda: _of_error(lambda: check_options(spec.postprocess.processor, spec.postprocess.options)),
            ),
        ]
        name = spec.model.template
        if name is None or name not in self._templates:
            return values, []
        directory = self._templates[name].directory
        values += self._once(f"inputs {name} {spec.model.inputs!r}", lambda: self._missing_inputs(spec, directory))
        used = f"{spec.resources!r} {spec.model!r} {spec.vars!r} {spec.period!r} {self._parameters!r}"
        return values, self._once(used, lambda: _of_error(lambda: self._render(spec, self._templates[name])))

    def _render(self, spec: RunSpec, template: Template) -> None:
        plan = RunPlan(spec=spec, base=self._cwd, parameters=self._parameters, template_directory=template.directory)
        try:
            resources = settle(spec)
        except ConfigError:  # told by itself
            resources = Resources().settle(spec.model.parallel)
        found, _ = find_inputs(spec.model.inputs, base=self._cwd, template_dir=template.directory)
        names: dict[str, Any] = template_names(spec.model.inputs, found)
        render_workspace(template, template_context(plan, resources, {k: v or k for k, v in names.items()}))

    def _missing_inputs(self, spec: RunSpec, directory: Path) -> list[Finding]:
        """What a template says that it brings with it; other inputs are known where the run runs."""
        _, findings = find_inputs(spec.model.inputs, base=self._cwd, template_dir=directory)
        return [f for f in findings if (f.value or "").strip("'").startswith(TEMPLATE_PREFIX)]

    def _once(self, key: str, find: Callable[[], list[Finding]]) -> list[Finding]:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]

    @property
    def template(self) -> str | None:
        """The template of the last combination."""
        return self._spec.model.template if self._spec is not None else None

    def setter(self, key: str) -> str:
        """The layer that set a key last, of the last combination."""
        return _setter(key.split("."), self._last)

    def _layers_of(self, parsed: Sequence[Override]) -> list[tuple[str, dict[Any, Any]]]:
        _, repo = self._loader._parse_overrides_and_create_caching_repo(self._name, [])  # noqa: SLF001  # as Loader does
        try:
            with _quick_defaults():
                found = create_defaults_list(
                    repo=repo,
                    config_name=self._name,
                    overrides_list=list(parsed),
                    prepend_hydra=False,
                    skip_missing=False,
                )
        except REFUSALS as error:
            raise Unsure(str(error)) from None
        return [self._layer(default, repo) for default in found.defaults]

    def _layer(self, default: ResultDefault, repo: Any) -> tuple[str, dict[Any, Any]]:
        key = (default.config_path, default.package)
        if key not in self._layers:
            try:
                config: Any = self._loader._load_single_config(default, repo).config  # noqa: SLF001
            except (*REFUSALS, ConfigError) as error:
                raise Unsure(str(error)) from None
            if not isinstance(config, DictConfig):
                raise Unsure("a layer that is no map")
            content: Any = OmegaConf.to_container(config)
            self._layers[key] = (default.config_path or "", content)
        return self._layers[key]

    def _call(self, text: str) -> Any:
        """What a resolver gives; asked once, since all are constant within one command."""
        if text not in self._calls:
            if text.startswith("${hydra:"):
                raise Unsure("Hydra's own part")
            node = OmegaConf.create({"x": text})
            try:
                value = node.x
            except OmegaConfBaseException:
                raise _UnresolvedError(text) from None
            self._calls[text] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        return self._calls[text]

    def _against_the_schema(self, layers: Sequence[tuple[str, dict[Any, Any]]]) -> Iterator[Any]:
        """Each rule that is broken; what breaks one is then left out, so that the rest can be tried."""
        for attempt in range(_ATTEMPTS):
            try:
                self._spec = RunSpec.model_validate(self.plain)
                break
            except ValidationError as error:
                for item in error.errors(include_url=False, include_input=False, include_context=False):
                    if attempt == 0:
                        yield _symptom(item["loc"], item["msg"], layers)
                    _leave_out(self.plain, item["loc"])
        model = self.plain.get("model")
        name = model.get("template") if isinstance(model, dict) else None
        if not isinstance(name, str) or not isinstance(model, dict):
            return
        if name not in self._templates:
            yield _symptom(("model", "template"), name, layers)
            return
        parameters = dict(model.get("parameters") or {})
        for attempt in range(_ATTEMPTS):
            try:
                checked = self._templates[name].parameters_model.model_validate(parameters)
                self._parameters = checked.model_dump(mode="json")
                return
            except ValidationError as error:
                for item in error.errors(include_url=False, include_input=False, include_context=False):
                    if attempt == 0:
                        yield _symptom(("model", "parameters", *item["loc"]), item["msg"], layers)
                    _leave_out(parameters, item["loc"])
            except ConfigError as error:
                yield ("model", "template"), str(error), ""
                return


def _leave_out(plain: Any, location: Sequence[Any]) -> None:
    """Take away what a location means: the labels of unions in it are no keys."""
    parent, last = None, None
    node = plain
    for part in location:
        is_there = (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        if is_there:
            parent, last, node = node, part, node[part]
    if parent is not None:
        del parent[last]


def _of_error(do: Callable[[], object]) -> list[Finding]:
    try:
        do()
    except ConfigError as error:
        return list(error.findings) or [Finding(key="", rule=error.headline)]
    except RompyHydraError as error:
        return [Finding(key="", rule=str(error))]
    return []


class _UnresolvedError(Exception):
    """An interpolation that leads nowhere."""


def _symptom(location: Sequence[Any], message: str, layers: Sequence[tuple[str, dict[Any, Any]]]) -> Any:
    return tuple(location), message, _setter(location, layers)


def _setter(location: Sequence[Any], layers: Sequence[tuple[str, dict[Any, Any]]]) -> str:
    """The layer that set a key last."""
    depth, found = 0, ""
    for path, content in layers:
        node: Any = content
        here = 0
        for part in location:
            if isinstance(node, dict) and part in node:
                node, here = node[part], here + 1
        if here >= depth and here:
            depth, found = here, path
    return found


def _merge(into: dict[Any, Any], layer: Mapping[Any, Any]) -> None:
    """As OmegaConf merges maps: a later value wins, lists are taken whole."""
    for key, value in layer.items():
        old = into.get(key)
        if isinstance(value, dict):
            if isinstance(old, str) and "${" in old:
                raise Unsure("a map over an interpolation")
            target = into[key] = dict(old) if isinstance(old, dict) else {}
            _merge(target, value)
        else:  # `???` too: who writes it over a default means it (OmegaConf keeps the default, the composer does not)
            into[key] = value


class _Resolution:
    """The interpolations of one tree; what cannot be resolved is left out, and noted."""

    def __init__(self, tree: dict[Any, Any], call: Any, found: list[Any]) -> None:
        self._tree = tree
        self._call = call
        self._found = found
        self._busy: set[tuple[Any, ...]] = set()

    def all(self) -> dict[Any, Any]:
        out: dict[Any, Any] = self._node(self._tree, ())
        return out

    def _node(self, node: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(node, dict):
            return {k: v for k, inner in node.items() if (v := self._node(inner, (*path, k))) is not _NOTHING}
        if isinstance(node, list):
            return [v for n, inner in enumerate(node) if (v := self._node(inner, (*path, n))) is not _NOTHING]
        if isinstance(node, str):
            if "${" in node:
                return self._text(node, path)
            if node == _MISSING:
                self._found.append((path, _MISSING, ""))
                return _NOTHING
        return node

    def _text(self, text: str, path: tuple[Any, ...]) -> Any:
        if "\\" in text:
            raise Unsure("an escaped interpolation")
        if path in self._busy:
            raise _UnresolvedError("a circle")
        self._busy.add(path)
        try:
            return self._value(text, path)
        except _UnresolvedError as error:
            self._found.append((path, text, str(error)))
            return _NOTHING
        finally:
            self._busy.discard(path)

    def _value(self, text: str, path: tuple[Any, ...]) -> Any:
        if (match := _REFERENCE.fullmatch(text)) is not None:
            return self._read(match, path)
        if (call := _CALL.fullmatch(text)) is not None:
            return text if call[1] == "secret" else self._call(text)
        out = _REFERENCE.sub(lambda match: _as_text(self._read(match, path)), text)
        out = _CALL.sub(lambda m: m[0] if m[1] == "secret" else _as_text(self._call(m[0])), out)
        if "${" in out.replace("${secret:", ""):
            if "${" in _CALL.sub("", out):
                raise Unsure("an interpolation in another")
            return self._call(out)
        return out

    def _read(self, match: re.Match[str], path: tuple[Any, ...]) -> Any:
        dots, names = len(match[1]), match[2].split(".")
        if dots > len(path):
            raise _UnresolvedError(match[0])
        here = path[: len(path) - dots] if dots else ()
        node: Any = self._tree
        for part in here:
            node = node[part]
        for part in names:
            if isinstance(node, str) and "${" in node:
                raise Unsure("a way through an interpolation")
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                raise _UnresolvedError(match[0])
            here = (*here, part)
        if node == _MISSING:
            raise _UnresolvedError(match[0])
        value = self._node(node, here)
        if value is _NOTHING:
            raise _UnresolvedError(match[0])
        return value


_NOTHING = object()


def _as_text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise Unsure("a map or a list in a text")
    return str(value)

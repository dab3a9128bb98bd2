"""From a command line with `-m` to a stream of validated points (street door → this → sweep).

    open_sweep(request, cwd=…)   reads `sweep:` and the command line; raises with every finding
    sweep.points()               Point or InvalidPoint, one after the other; nothing is kept of them

Each plan is the one that the single run of the same overrides has (`bridge.to_plan`): only what differs between points
is validated again, the rest is shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from rompy_hydra.backends.complaints import rules_by_key
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.compiled_tree import concatenation
from rompy_hydra.compose.composer import Composition, Request, compose_with, line_of_environment, open_loader, wrong
from rompy_hydra.compose.deprecation import in_todays_names
from rompy_hydra.compose.design_samples import samples_axis
from rompy_hydra.compose.design_table import table_axis
from rompy_hydra.compose.designs import Axis, Design, Draft, grammar_axis, make_design
from rompy_hydra.compose.hydra_job import job_environment, run_directory, settle
from rompy_hydra.compose.staged_loader import StagedLoader
from rompy_hydra.compose.sweep_composer import ComposedPoint, Counts, SweepComposer
from rompy_hydra.compose.tree import child, is_branch, leaves
from rompy_hydra.compose.typed_text import kinds_at, wants_text
from rompy_hydra.errors import ConfigError, Finding, did_you_mean
from rompy_hydra.plan.conditions import Condition, ConditionError
from rompy_hydra.plan.point import InvalidPoint, Point
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.plan.sweep_spec import SamplesSpec, SweepSpec, TableSpec
from rompy_hydra.redaction import redact, redact_override

_SUBDIR = "hydra.sweep.subdir"
_OF_THE_SWEEP = re.compile(r"(?:\+{0,2}|~)sweep\.")
_DECIDING = ("backend.type", "model.template")
_KEPT_TEXTS = 4096


@dataclass(slots=True)
class _Composed:
    """A composition as the sweep composer sees it; `unset` are keys that a point must give."""

    composition: Composition
    unset: tuple[str, ...]

    @property
    def config(self) -> DictConfig:
        return self.composition.config

    @property
    def hydra(self) -> DictConfig:
        return self.composition.hydra

    @property
    def is_sound(self) -> bool:
        return self.composition.is_sound


@dataclass(slots=True)
class _Shared:
    """What the plans of one base have in common."""

    reason: str | None  # why each plan must be made alone
    environment: Mapping[str, str]
    choices: dict[str, str | None]
    subdir: str | None
    parts: dict[str, BaseModel] = field(default_factory=dict)  # validated, of the base's own content
    parameters: dict[str, Any] | None = None
    shown: dict[str, Any] = field(default_factory=dict)  # the base's own content, free of credentials


class SweepPlanner:
    """Turns overrides into plans; `counts` tells how."""

    def __init__(self, request: Request, *, cwd: Path) -> None:
        loader, self.templates = open_loader(request)
        self.request = request
        self.cwd = cwd
        self.loader = StagedLoader(loader.config_search_path, request.config_name)
        self.composer = SweepComposer(
            self.loader,
            self._compose,
            self._look,
            deciding_keys=_DECIDING,
            takes_text=self._takes_text,
            binds_hydra=True,
        )
        self._repositories = tuple(r.conf for r in request.sources.repositories)
        self._output_dirs: dict[Path, Path] = {}
        self._shown_overrides: dict[str, str] = {}

    @property
    def counts(self) -> Counts:
        """How many points went the fast way, and why others did not."""
        return self.composer.counts

    def compose(self, lines: Sequence[str], number: int | None = 0) -> Composition:
        """One composition by Hydra, text as it was typed."""
        request = replace(self.request, overrides=tuple(lines), point=number)
        composition = compose_with(request, self.loader, self.templates)
        settle(composition, self.cwd)
        return composition

    def _compose(self, lines: Sequence[str], number: int) -> _Composed:
        composition = self.compose(lines, number)
        is_incomplete = all(f.value == "???" for f in composition.findings)
        return _Composed(composition, tuple(f.key for f in composition.findings) if is_incomplete else ())

    def _look(self, lines: Sequence[str]) -> DictConfig:
        tree, chosen = self.loader.look(lines)
        added = line_of_environment(self.request.environ, chosen.get("env"), lines)
        return tree if added is None else self.loader.look([added, *lines])[0]

    def _takes_text(self, composed: _Composed, key: str) -> bool:
        return wants_text(kinds_at(key.split("."), composed.config, self.templates))

    # -- one point ---------------------------------------------------------------------------------------------------

    def composed(self, overrides: Sequence[str | Override], number: int) -> ComposedPoint:
        """One point, not validated yet."""
        return self.composer.point(overrides, number)

    def plain(self, point: ComposedPoint) -> dict[Any, Any] | None:
        """Its resolved content; None where that cannot be had (its plan will say why)."""
        try:
            return point.config
        except Exception:  # noqa: BLE001  # whatever Hydra or OmegaConf raised is told with its place by the plan
            return None

    def plan(self, point: ComposedPoint, lines: Sequence[str]) -> RunPlan:
        """Its plan.  Raises `ConfigError` with every finding."""
        reason = None
        if point.base is not None:
            reason = self._shared(point).reason or "the configuration has a shape of its own"
            if self._shared(point).reason is None and (plan := self._fast_plan(point, lines)) is not None:
                return plan
        try:
            plan = self._plan_alone(point, lines)
        except ConfigError:
            self.counts.is_refused_after_all(point)
            raise
        if reason is not None:
            self.counts.is_aside_after_all(point, reason)
        return plan

    def _plan_alone(self, point: ComposedPoint, lines: Sequence[str]) -> RunPlan:
        composed = point.composed
        if isinstance(composed, _Composed):
            composition = composed.composition
        else:
            self.counts.compositions += 1
            composition = self.compose(lines, point.number)
        # a point has no `.hydra/` of its own: the sweep has one
        return to_plan(composition, cwd=self.cwd).model_copy(update={"hydra_files": {}})

    def subdir(self, point: ComposedPoint, lines: Sequence[str]) -> str | None:
        """`hydra.sweep.subdir` where somebody chose one.  Raises `ConfigError` where it cannot be resolved."""
        if point.base is not None:
            text = self._shared(point).subdir
            if text is None or (found := self._simple_subdir(text, point)) is not None:
                return None if text is None else found
        composed = point.composed
        composition = composed.composition if isinstance(composed, _Composed) else self.compose(lines, point.number)
        if not composition.sets(_SUBDIR):
            return None
        try:
            return str(composition.hydra.sweep.subdir)
        except OmegaConfBaseException as error:
            rule = f"cannot be resolved: {(error.msg or str(error)).splitlines()[0]}"
            where = composition.provenance.origin(_SUBDIR).where
            raise wrong([Finding(key=_SUBDIR, rule=rule, where=where)]) from error

    @staticmethod
    def _simple_subdir(text: str, point: ComposedPoint) -> str | None:
        """Text with plain keys in it; None for anything else."""
        parts = concatenation(text)
        if parts is None:
            return None
        out = []
        for is_key, part in parts:
            value: Any = part
            if is_key and part in ("hydra.job.num", "hydra.job.id"):
                value = point.number
            elif is_key and part == "hydra.job.override_dirname":
                value = point.override_dirname(redact_override)
            elif is_key:
                value = point.plain
                for name in part.split("."):
                    value = value.get(name) if isinstance(value, dict) else None
                if value is None or isinstance(value, (dict, list)):
                    return None
            out.append(str(value))
        return "".join(out)

    def _shared(self, point: ComposedPoint) -> _Shared:
        assert point.base is not None
        kept = point.base.kept
        if "plans" not in kept:
            composed = point.base.composed
            assert isinstance(composed, _Composed)
            kept["plans"] = self._what_is_shared(composed.composition)
        shared: _Shared = kept["plans"]
        return shared

    def _what_is_shared(self, composition: Composition) -> _Shared:
        trial = replace(composition, findings=[])
        reason = None
        variables = child(child(composition.hydra, "job"), "env_set")
        if is_branch(variables) and any("${" in str(v) for v in OmegaConf.to_container(variables).values()):  # type: ignore[union-attr]
            reason = "hydra.job.env_set holds interpolations"
        environment = {} if reason else job_environment(trial)
        if run_directory(trial, self.cwd) is not None or trial.findings:
            reason = "hydra.run.dir is set"
        subdir = None
        if composition.sets(_SUBDIR):
            subdir = str(composition.hydra.sweep._get_node("subdir")._value())  # noqa: SLF001  # as it is written
        return _Shared(reason, environment, composition.choices, subdir)

    def _fast_plan(self, point: ComposedPoint, lines: Sequence[str]) -> RunPlan | None:
        """The plan; None where the long way must say what is wrong."""
        base, plain = point.base, point.plain
        assert base is not None
        assert plain is not None
        shared = self._shared(point)
        if not point.is_complete:
            return None
        own = base.tree.plain
        if not shared.shown:
            shared.shown = redact(own)
        try:
            spec = RunSpec.model_validate(
                {k: shared.parts.get(k, v) if v is own.get(k) else v for k, v in plain.items()}
            )
            parameters = self._parameters(spec, plain["model"], own["model"], shared)
        except (ValidationError, KeyError):
            return None
        for key, value in plain.items():
            if value is own.get(key) and key not in shared.parts and isinstance(part := getattr(spec, key), BaseModel):
                shared.parts[key] = part
        output_dir = self._output_dirs.get(spec.output_dir)
        if output_dir is None:
            if len(self._output_dirs) >= _KEPT_TEXTS:
                self._output_dirs.clear()
            output_dir = self._output_dirs[spec.output_dir] = self.cwd / spec.output_dir
        variables = {**shared.environment, **spec.env_vars}
        spec = spec.model_copy(update={"output_dir": output_dir, "env_vars": variables})
        template = self.templates[spec.model.template] if spec.model.template else None
        return RunPlan(
            spec=spec,
            base=self.cwd,
            parameters=parameters,
            template_directory=template.directory if template else None,
            config={
                **_shown(plain, own, shared.shown),
                "run_id": spec.run_id,
                "output_dir": str(output_dir),
                "env_vars": redact(variables, "env_vars"),
            },
            overrides=tuple(map(self._shown_override, lines)),
            choices=shared.choices,
            repositories=self._repositories,
        )

    def _parameters(self, spec: RunSpec, model: Any, own: Any, shared: _Shared) -> dict[str, Any]:
        given = model["parameters"]
        is_own = given is own["parameters"]
        if is_own and shared.parameters is not None:
            return shared.parameters
        name = spec.model.template
        if name is None:
            parameters = dict(given or {})
        else:
            parameters = self.templates[name].parameters_model.model_validate(given or {}).model_dump(mode="json")
        if is_own:
            shared.parameters = parameters
        return parameters

    def _shown_override(self, line: str) -> str:
        shown = self._shown_overrides.get(line)
        if shown is None:
            if len(self._shown_overrides) >= _KEPT_TEXTS:
                self._shown_overrides.clear()
            shown = self._shown_overrides[line] = redact_override(line)
        return shown


def _shown(content: Mapping[Any, Any], own: Mapping[Any, Any], shown: Mapping[Any, Any]) -> dict[Any, Any]:
    """`redact(content)`, where `shown` is `redact(own)`: what is the same is not looked at again."""
    out = {}
    for key, value in content.items():
        before = own.get(key)
        if value is before and key in own:
            out[key] = shown[key]
        elif isinstance(value, dict) and isinstance(before, dict):
            out[key] = _shown(value, before, shown[key])
        else:
            out[key] = redact(value, str(key))
    return out


def plan_points(
    drafts: Iterable[Draft | Sequence[str]], planner: SweepPlanner, *, exclude: Iterable[str] = ()
) -> Iterator[Point | InvalidPoint]:
    """The points of some drafts, or of lists of overrides; those that are left out have no number."""
    conditions = [Condition(text) for text in exclude]
    number = 0
    for entry in drafts:
        draft = entry if isinstance(entry, Draft) else Draft(())
        asked: Sequence[str | Override] = draft.overrides if isinstance(entry, Draft) else entry
        lines = tuple(o if isinstance(o, str) else o.input_line or "" for o in asked)
        composed = planner.composed(asked, number)
        about: dict[str, Any] = {"name": draft.name or str(number), "swept": draft.swept, "repeat": draft.repeat}
        try:
            if conditions and _is_left_out(planner.plain(composed), composed.choices, conditions):
                continue
            if draft.findings:
                raise wrong(draft.findings)
            plan = planner.plan(composed, lines)
            subdir = planner.subdir(composed, lines)
        except ConfigError as error:
            overrides = tuple(map(redact_override, lines))
            yield InvalidPoint(number=number, overrides=overrides, error=placed(error, draft), **about)
        else:
            yield Point(number=number, overrides=plan.overrides, plan=plan, subdir=subdir, **about)
        number += 1


def _is_left_out(plain: Any, choices: Mapping[str, Any], conditions: Sequence[Condition]) -> bool:
    if plain is None:
        return False  # it is wrong, and its plan says why

    def value(key: str) -> Any:
        """The value of a key; a group stands for its option."""
        here = plain
        for part in key.split("."):
            if not isinstance(here, dict) or part not in here:
                if key in choices:
                    return choices[key]
                raise KeyError(key)
            here = here[part]
        return choices.get(key) if isinstance(here, dict) and key in choices else here

    for condition in conditions:
        try:
            if condition.holds(value):
                return True
        except ConditionError as error:
            raise wrong([Finding(key="sweep.exclude", value=repr(condition.text), rule=str(error))]) from error
    return False


def placed(error: ConfigError, draft: Draft) -> ConfigError:
    """The same, with the row of the table for what the row said."""
    if draft.where is None:
        return error
    own = {o.key_or_group: f"the override '{redact_override(o.input_line or '')}'" for o in draft.overrides}
    findings = [
        replace(f, where=f"{draft.where} ({f.where})") if f.where is not None and f.where in own.values() else f
        for f in error.findings
    ]
    placed = ConfigError(error.headline, findings)
    placed.__cause__ = error.__cause__
    return placed


# -- a whole sweep ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep that was asked for: its policy, its design, and who plans it."""

    spec: SweepSpec
    design: Design
    planner: SweepPlanner
    composition: Composition  # of the first point's choices: what `.hydra/` of the sweep holds

    def points(self) -> Iterator[Point | InvalidPoint]:
        """Every point, planned."""
        return plan_points(self.design, self.planner, exclude=self.spec.exclude)


def drafts_of(sweep: Sweep) -> Iterator[tuple[int, Draft, ConfigError | None]]:
    """(number, point, what is wrong with leaving it out) of every point that is not left out, not planned."""
    conditions = [Condition(text) for text in sweep.spec.exclude]
    number = 0
    for draft in sweep.design:
        error = None
        try:
            composed = sweep.planner.composed(draft.overrides, number) if conditions else None
            plain = sweep.planner.plain(composed) if composed is not None else None
            if composed is not None and _is_left_out(plain, composed.choices, conditions):
                continue
        except ConfigError as problem:
            error = problem
        yield number, draft, error
        number += 1


def open_sweep(request: Request, *, cwd: Path) -> Sweep:
    """The sweep that a command line asks for.  Raises `ConfigError` with every finding."""
    planner = SweepPlanner(request, cwd=cwd)
    ours = [line for line in request.overrides if _OF_THE_SWEEP.match(line)]
    parsed = _parsed([line for line in request.overrides if not _OF_THE_SWEEP.match(line)], planner)
    composition = _compose_first(planner, parsed, ours)
    spec = _sweep_spec(composition, planner.loader.todays_key)
    if composition.sets("hydra.sweeper.params"):
        params = composition.resolve_hydra("sweeper").get("params") or {}
        parsed = [*_parsed([f"{key}={value}" for key, value in params.items()], planner), *parsed]
    design = make_design(parsed, spec, parse=planner.loader.parse, parts=_Parts(planner, composition, parsed))
    return Sweep(spec=spec, design=design, planner=planner, composition=composition)


def _parsed(lines: Sequence[str], planner: SweepPlanner) -> list[Override]:
    parsed, refused = [], []
    for line in lines:
        try:
            parsed.append(planner.loader.parse(line))
        except HydraException:
            refused.append(line)
    if refused:
        raise wrong(planner.compose(refused).findings)  # the composer says what is wrong with each
    return parsed


def _compose_first(planner: SweepPlanner, parsed: Sequence[Override], ours: Sequence[str]) -> Composition:
    """What the points have in common, with the first value of each axis where that can be composed."""
    fixed = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
    firsts = [line for o in parsed if (line := _first(o, planner)) is not None]
    try:
        composition = planner.compose([*firsts, *ours])
    except ConfigError as error:
        if firsts == fixed:
            raise
        try:
            composition = planner.compose([*fixed, *ours])
        except ConfigError:
            raise error from None
    about_the_sweep = [f for f in composition.findings if f.key == "sweep" or f.key.startswith("sweep.")]
    if about_the_sweep:
        raise wrong(about_the_sweep)
    return composition


def _first(override: Override, planner: SweepPlanner) -> str | None:
    if not override.is_sweep_override():
        return override.input_line
    if override.is_interval_sweep():
        return None
    try:
        alternative = next(iter(grammar_axis(override, planner.loader.parse)), None)
    except ConfigError:  # told where the design is made, with whatever else is wrong with it
        return None
    return alternative.overrides[0].input_line if alternative is not None else None


def _sweep_spec(composition: Composition, todays_key: Callable[[str], str]) -> SweepSpec:
    node = child(composition.config, "sweep")
    if node is None:
        return SweepSpec()
    known = len(composition.findings)
    plain = composition.resolve_part("sweep")
    findings = composition.findings[known:]
    if findings:
        raise wrong(findings)
    try:
        return SweepSpec.model_validate(in_todays_names(plain, todays_key))
    except ValidationError as error:
        raise wrong(_findings_of_the_spec(error, composition)) from None


def _findings_of_the_spec(error: ValidationError, composition: Composition) -> list[Finding]:
    def key_of(location: Sequence[int | str]) -> str:
        # `list[any]` and `str` in a location are members of a union and no keys
        parts = [str(part) for part in location if part != "str" and not str(part).startswith("list[")]
        return ".".join(["sweep", *parts])

    return [
        Finding(key=key, rule=rule, where=composition.provenance.origin(key).where)
        for key, rule in rules_by_key(error, key_of).items()
    ]


class _Parts:
    """Makes axes of tables and samples, with what the first composition knows of keys."""

    def __init__(self, planner: SweepPlanner, composition: Composition, parsed: Sequence[Override]) -> None:
        self._planner = planner
        self._composition = composition
        self._sweeps_groups = any(o.is_sweep_override() and self._is_group(o.key_or_group) for o in parsed)

    def table(self, spec: TableSpec, pinned: frozenset[str]) -> Axis:
        """The rows of a file."""
        return table_axis(
            spec,
            cwd=self._planner.cwd,
            parse=self._planner.loader.parse,
            kinds=self._kinds,
            unknown=self._unknown,
            pinned=pinned,
            today=self._planner.loader.todays_key,
        )

    def samples(self, spec: SamplesSpec, pinned: frozenset[str]) -> Axis | None:
        """Points drawn from a space; None if no key is left to vary."""
        return samples_axis(spec, parse=self._planner.loader.parse, pinned=pinned)

    def _is_group(self, key: str) -> bool:
        return bool(self._planner.loader.found.group_exists(key))

    def _kinds(self, key: str) -> Sequence[Any]:
        if self._is_group(key):
            return [str]
        return kinds_at(key.split("."), self._composition.config, self._planner.templates)

    def _unknown(self, key: str, columns: Sequence[str]) -> Finding | None:
        if key.startswith(("hydra.", "hydra/", "sweep.")):
            return Finding(key=key, rule="cannot be a column: it is not of one point", mend="give it as an override")
        bare = key.lstrip("+").partition("@")[0]
        if key.startswith("+") or self._is_group(bare):
            return None
        if self._sweeps_groups or any(self._is_group(column) for column in columns):
            return None  # another choice may know it; each point is told
        config = self._composition.config
        node: Any = config
        for depth, part in enumerate(parts := key.split(".")):
            found = child(node, part)
            if found is None and isinstance(node, DictConfig) and is_branch(node) and not OmegaConf.is_struct(node):
                return None
            if found is None:
                known = (
                    [*leaves(config), *self._groups()] if depth or "." in key else [*map(str, config), *self._groups()]
                )
                parent = ".".join(parts[:depth])
                rule = f"there is no {'key' if depth else 'group or key'} '{part}'" + (f" in {parent}" if depth else "")
                return Finding(key=key, rule=rule, mend=did_you_mean(key, known))
            node = found
        return None

    def _groups(self) -> list[str]:
        loader = self._planner.loader
        return [name for name in loader.list_groups("") if name not in ("hydra", "packaged", "schema", "template")]

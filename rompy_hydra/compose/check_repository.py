"""`check`: every option, template, combination and sweep of a repository, composed, validated and rendered in memory.

    files read one by one  →  what cannot be read is left out (check_repair)
    root configurations    →  combinations, quickly (check_combinations), one of each symptom composed whole
    sweeps                 →  their points (sweep_plans)
                           →  Report: each cause once, with its file and line

Nothing is written but a temporary directory, and nothing is run.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository, IConfigRepository

from rompy_hydra.check.faults import Fault, Faults, Report
from rompy_hydra.compose.bridge import located, to_plan
from rompy_hydra.compose.check_combinations import QuickComposer, Unsure, all_combinations, pairwise
from rompy_hydra.compose.check_defaults import Inclusions, read_defaults
from rompy_hydra.compose.check_faults import Translator, code_of, code_of_rendering
from rompy_hydra.compose.check_files import SWEEP_DIRECTORIES, SourceFile, faults_in, faults_in_text, read_files
from rompy_hydra.compose.check_repair import Repaired, repair
from rompy_hydra.compose.composer import CONFIG_NAME, INNER_GROUPS, Request, fill_store
from rompy_hydra.compose.deprecation import FILE_NAME as RENAMED_KEYS
from rompy_hydra.compose.editor_schema import DIRECTORY, editor_files
from rompy_hydra.compose.provenance import Provenance
from rompy_hydra.compose.search_path import build_search_path
from rompy_hydra.compose.sources import Repository, Sources
from rompy_hydra.compose.sweep_plans import SweepPlanner, open_sweep
from rompy_hydra.errors import ConfigError, Finding, RompyHydraError
from rompy_hydra.plan.point import InvalidPoint
from rompy_hydra.repository.files import differing
from rompy_hydra.workspace.jinja_reading import Uses, read_template_files, uses_in_text
from rompy_hydra.workspace.template import Template, find_templates, load_template

BOUND = 2000
MOST_POINTS = 10_000
_PRESETS = ("env", "experiment")
"""Groups whose options are there to be chosen on a command line."""

_READS = {
    "parameters": re.compile(r"\$\{(?:model|\.+)?\.?parameters(?:\.([A-Za-z_]\w*))?\b"),
    "vars": re.compile(r"\$\{\.*vars(?:\.([A-Za-z_][\w-]*))?\b"),
}
_CODES = {"resources": "RH207", "model.inputs": "RH406"}
"""What is wrong beyond the schema, by the part of the configuration."""

_INVOCATION = "check"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is to be checked; `packaged`: every packaged option takes part, and not only those that are chosen."""

    sources: Sources
    cwd: Path
    bound: int = BOUND
    packaged: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def check_repository(scope: Scope) -> Report:
    """Everything that is wrong; nothing is raised for what stands in a repository."""
    with tempfile.TemporaryDirectory(prefix="rompy-hydra-check-") as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Hydra warns of has a code here
        return _Check(scope, Path(directory)).report()


class _Check:
    """One check; holds what its steps share."""

    def __init__(self, scope: Scope, directory: Path) -> None:
        self.scope = scope
        self.directory = directory
        self.faults = Faults()
        self.is_packaged = not scope.sources.users
        self.targets = scope.sources.users or scope.sources.repositories
        self.files: dict[Path, list[SourceFile]] = {}
        self.sweep_files: dict[Path, list[SourceFile]] = {}
        self.templates: dict[str, Template] = {}
        self.broken_templates: set[str] = set()
        self.uses: dict[str, Uses] = {}
        self.combinations = self.possible = self.sweeps = self.points = 0
        self.strategy = "all"
        self.sweep_chosen: set[str] = set()

    def report(self) -> Report:
        """All steps, one after the other."""
        self._read()
        self._read_templates()
        inclusions = self._read_defaults()
        repaired = self._repair(inclusions)
        roots = list(self._roots(inclusions))
        for name, sources in roots:
            self._check_root(name, repaired, sources, inclusions)
        self._find_unused(inclusions)
        self._find_old_schemas()
        options = sum(bool(f.group) for files in self.files.values() for f in files)
        return Report(
            faults=tuple(self.faults),
            files=sum(map(len, [*self.files.values(), *self.sweep_files.values()])),
            options=options,
            templates=len(self.templates) + len(self.broken_templates),
            combinations=self.combinations,
            possible=self.possible,
            strategy=self.strategy,
            sweeps=self.sweeps,
            points=self.points,
        )

    # -- files by themselves -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        fill_store(self.scope.sources, _INVOCATION)
        for repository in self.targets:
            self.files[repository.conf] = self._read_directory(repository.conf)
            for name in SWEEP_DIRECTORIES:
                beside = repository.conf.parent / name
                if beside.is_dir() and beside != repository.conf:
                    self.sweep_files[beside] = self._read_directory(beside)

    def _read_directory(self, directory: Path) -> list[SourceFile]:
        faults: list[Fault] = []
        files = read_files(directory, faults)
        for file in files:
            faults += faults_in(file, self.scope.environ)
        self.faults.add(*faults)
        return files

    def _read_templates(self) -> None:
        roots = [repository.templates for repository in self.targets]
        for name, directory in find_templates(roots).items():
            for path in sorted(directory.rglob("*")):
                if path.is_file() and path.name != "template.yaml":
                    self.faults.add(*faults_in_text(path))
            for path in sorted(directory.rglob("*")):
                if path.is_symlink() and not path.is_file():
                    self.faults.add(Fault("RH004", path, 1, "", "is a link to a directory or to nothing"))
                    self.broken_templates.add(name)
            declaration = SourceFile(directory / "template.yaml", name)
            faults: list[Fault] = []
            for file in read_files(directory, faults):
                if file.config_path == "template":
                    declaration = file
            faults = [f for f in faults if f.path == declaration.path]
            self.faults.add(*faults)
            if faults:
                self.broken_templates.add(name)
                continue
            self.faults.add(*self._faults_of_declaration(declaration))
            if name in self.broken_templates:
                continue
            try:
                self.templates[name] = load_template(directory)
            except RompyHydraError as error:
                self.broken_templates.add(name)
                self._note_declaration(declaration, error)
                continue
            found, self.uses[name] = read_template_files(self.templates[name])
            uses_in_text(declaration.text, self.uses[name], _READS)
            self.faults.add(*found)

    def _faults_of_declaration(self, file: SourceFile) -> Iterator[Fault]:
        for fault in faults_in(file, self.scope.environ):
            if not fault.key.startswith("parameters.") or fault.code != "RH701":
                yield fault  # a parameter may be called `token`, and have a description

    def _note_declaration(self, file: SourceFile, error: RompyHydraError) -> None:
        for finding in getattr(error, "findings", ()):
            line = file.line_of(*finding.key.split("."))
            self.faults.add(Fault("RH401", file.path, line, finding.key, finding.rule, finding.mend))
        if not getattr(error, "findings", ()):
            self.faults.add(Fault("RH401", file.path, 1, "", str(error)))

    # -- defaults lists ------------------------------------------------------------------------------------------------

    def _visible(self) -> Iterator[SourceFile]:
        """The files that answer: the first of each name, packaged ones behind them."""
        seen: dict[str, Path] = {}
        for repository in self.targets:
            for file in self.files[repository.conf]:
                if file.config_path in seen:
                    rule = f"is hidden by {seen[file.config_path]}"
                    self.faults.add(Fault("RH604", file.path, 1, file.config_path, rule))
                else:
                    seen[file.config_path] = file.path
                    yield file
        if not self.is_packaged:
            for file in read_files(self.scope.sources.packaged.conf, []):
                if file.config_path not in seen:
                    yield file

    def _read_defaults(self) -> Inclusions:
        visible = [*self._visible(), *(f for files in self.sweep_files.values() for f in files)]
        self.visible = visible
        inclusions = read_defaults(visible, self._repository())
        ours = {f.path for files in [*self.files.values(), *self.sweep_files.values()] for f in files}
        self.faults.add(*(fault for fault in inclusions.faults if fault.path in ours))
        return inclusions

    def _repository(self) -> IConfigRepository:
        return ConfigRepository(build_search_path(self._with_sweeps(self.scope.sources)))

    def _with_sweeps(self, sources: Sources) -> Sources:
        extra = tuple(Repository(conf, "sweeps") for conf in self.sweep_files)
        return replace(sources, repositories=(*extra, *sources.repositories)) if extra else sources

    def _repair(self, inclusions: Inclusions) -> Repaired:
        by_path = {f.config_path: f for f in self.visible}
        wrong = {by_path[name].path: numbers for name, numbers in inclusions.wrong.items()}
        heads = [(f.path, f.line) for f in self.faults if f.code == "RH104"]
        tables = [f.path for f in self.faults if f.code == "RH802" and f.path.name == RENAMED_KEYS]
        self.repaired_lists = {*wrong, *(path for path, _ in heads)}
        self.broken = {f.path for f in self.visible if f.is_broken}
        files = {**self.files, **self.sweep_files}
        sources = self._with_sweeps(self.scope.sources)
        return repair(sources, files, wrong, heads, tables, self.broken_templates, self.directory)

    # -- root configurations -------------------------------------------------------------------------------------------

    def _roots(self, inclusions: Inclusions) -> Iterator[tuple[str, bool]]:
        """Each root configuration, and whether its combinations are to be tried."""
        included = {path for inside in inclusions.includes.values() for path in inside}
        yield CONFIG_NAME, True
        seen = {CONFIG_NAME}
        for files in [*self.files.values(), *self.sweep_files.values()]:
            for file in files:
                if file.group or file.is_broken or file.config_path in seen or file.config_path in included:
                    continue
                seen.add(file.config_path)
                if file.defaults()[1] is None:
                    rule = "is no root configuration (it has no defaults list), and no other one includes it"
                    self.faults.add(Fault("RH601", file.path, 1, file.config_path, rule))
                else:
                    yield file.config_path, False

    def _check_root(self, name: str, repaired: Repaired, has_combinations: bool, inclusions: Inclusions) -> None:
        request = Request(
            overrides=(),
            sources=repaired.sources,
            invocation=_INVOCATION,
            environ=self.scope.environ,
            config_name=name,
        )
        root = _Root(self, request, repaired, inclusions)
        if root.opens() and has_combinations:
            root.check_options()
        root.check_sweeps(with_options=has_combinations)

    # -- what is not used ----------------------------------------------------------------------------------------------

    def _find_unused(self, inclusions: Inclusions) -> None:
        ours = [f for f in self.visible if not f.is_broken and any(f in files for files in self.files.values())]
        if not self.is_packaged:
            for file in ours:
                self._find_unchosen(file, inclusions)
        used_templates = {p.removeprefix("template/") for p in inclusions.chosen if p.startswith("template/")}
        named = {
            str(f.content.get("model", {}).get("template")) for f in ours if isinstance(f.content.get("model"), dict)
        }
        named |= {str(f.content.get("template")) for f in ours if f.group == "model"}
        texts = [f.text for f in self.visible]
        for name, template in self.templates.items():
            if name not in used_templates | named:
                rule = f"no option includes '/template/{name}'"
                self.faults.add(Fault("RH603", template.declaration, 1, name, rule, f"add conf/model/{name}.yaml"))
            uses = self.uses[name]
            for text in texts:
                uses_in_text(text, uses, _READS)
            self._find_unread_parameters(template, uses)
        beside = [f for files in self.sweep_files.values() for f in files if not f.is_broken]
        self._find_unread_vars([*ours, *beside], texts)

    def _find_old_schemas(self) -> None:
        """Schemas for editors that `schema --write` put there, for another version or other templates."""
        for repository in self.targets:
            root = repository.conf.parent
            if not (root / DIRECTORY).is_dir():
                continue
            with suppress(ConfigError):  # settings of an editor that are no plain JSON are theirs
                sources = Sources((repository, self.scope.sources.packaged))
                files = {name: text.encode() for name, text in editor_files(root, sources).items()}
                old = [name for name in differing(root, files) if name.startswith(f"{DIRECTORY}/")]
                if old:
                    rule = f"is not that of this version and these templates ({len(old)} of the schemas)"
                    self.faults.add(Fault("RH901", root / old[0], 1, "", rule, "rompy-hydra schema --write"))

    def _find_unchosen(self, file: SourceFile, inclusions: Inclusions) -> None:
        group, path = file.group, file.config_path
        if not group or group.partition("/")[0] in (*INNER_GROUPS, "hydra") or path in inclusions.chosen:
            return
        if group not in inclusions.groups:
            rule = f"nothing can choose it: the group '{group}' is in no defaults list"
            mend = f"add '- {group}: {file.option}' to the list of a root configuration"
            self.faults.add(Fault("RH601", file.path, 1, path, rule, mend))
        elif path not in self.sweep_chosen and group not in _PRESETS:
            rule = "is chosen by no defaults list, experiment or sweep: only a command line may"
            self.faults.add(Fault("RH602", file.path, 1, path, rule))

    def _find_unread_parameters(self, template: Template, uses: Uses) -> None:
        if uses.parameters is None:
            return
        file = next(f for f in read_files(template.directory, []) if f.config_path == "template")
        for name in template.parameters:
            if name not in uses.parameters:
                line = file.line_of("parameters", name)
                rule = "no file of the template, and no interpolation, reads it"
                self.faults.add(Fault("RH405", template.declaration, line, f"parameters.{name}", rule))

    def _find_unread_vars(self, files: Iterable[SourceFile], texts: Sequence[str]) -> None:
        reads = Uses()
        for text in texts:
            uses_in_text(text, reads, _READS)
        for uses in self.uses.values():
            if uses.vars is None:
                reads.vars = None
            for name in uses.vars or ():
                reads.add("vars", name)
        if reads.vars is None:
            return
        for file in files:
            content = file.content.get("vars")
            if not isinstance(content, dict) or file.group in INNER_GROUPS:
                continue
            for name in content:
                if str(name) not in reads.vars:
                    rule = "no interpolation and no template reads it"
                    line = file.line_of("vars", str(name))
                    self.faults.add(Fault("RH202", file.path, line, f"vars.{name}", rule, f"${{vars.{name}}} reads it"))


class _Root:
    """One root configuration: its options, their combinations, its sweeps."""

    def __init__(self, check: _Check, request: Request, repaired: Repaired, inclusions: Inclusions) -> None:
        self.check = check
        self.request = request
        self.inclusions = inclusions
        self.planner = SweepPlanner(request, cwd=check.scope.cwd)
        self.quick = QuickComposer(self.planner.loader, request.config_name, self.planner.templates, check.scope.cwd)
        self.translator = Translator(
            faults=check.faults,
            repaired=repaired,
            files=check.visible,
            ours={f.path for files in [*check.files.values(), *check.sweep_files.values()] for f in files}
            | {t.declaration for t in check.templates.values()},
            root=request.config_name,
            overrides=inclusions.overrides,
            broken=check.broken,
            repaired_lists=check.repaired_lists,
            broken_templates=check.broken_templates,
        )
        self.faults_of_symptom: dict[Any, list[Fault]] = {}
        self.single: set[Any] = set()
        self.hits: dict[Fault, int] = {}
        self.base: dict[str, Any] = {}

    def opens(self) -> bool:
        """Whether it can be composed at all."""
        try:
            _, chosen = self.planner.loader.look([])
        except Exception as error:  # noqa: BLE001  # Hydra refuses by exceptions of many kinds; the composer tells
            self._note_refusal((), error)
            return False
        self.base = {g: o for g, o in chosen.items() if not g.startswith(("hydra/", "packaged/", "schema/"))}
        self.translator.base = self.base
        return True

    def _note_refusal(self, lines: tuple[str, ...], error: Exception) -> None:
        try:
            self.planner.compose(lines, None)
        except ConfigError as refused:
            self.check.faults.add(*self.translator.of_error(refused, lines))
        else:
            self.check.faults.add(*self.translator.of_error(ConfigError(str(error)), lines))

    # -- options and their combinations --------------------------------------------------------------------------------

    def check_options(self) -> None:
        """Each option by itself, then combinations."""
        groups = {group: self._options(group) for group in self.base}
        tried: dict[tuple[str, ...], bool] = {}
        for lines in self._singles(groups):
            if lines not in tried:
                tried[lines] = self._try(lines, is_single=True)
        unusable = {line for lines, is_composed in tried.items() if not is_composed for line in lines}
        for group, options in groups.items():
            groups[group] = [o for o in options if f"{group}={o}" not in unusable]
        possible = math.prod(map(len, groups.values()))
        is_small = possible <= self.check.scope.bound
        for combination in all_combinations(groups) if is_small else pairwise(groups):
            lines = self._lines(combination)
            if lines not in tried:
                tried[lines] = self._try(lines, is_single=len(lines) < 2)
        self.check.possible += possible
        self.check.combinations += len(tried)
        self.check.strategy = self.check.strategy if is_small else "pairwise"
        for fault, hits in self.hits.items():
            self.check.faults.count(fault, hits, len(tried))
        self.check.faults.add(*self.translator.of_renamed(self._provenance().renamed()))

    def _provenance(self) -> Provenance:
        return Provenance(self.planner.loader, self.request.config_name, [], self.planner.templates.directories)

    def _options(self, group: str) -> list[str | None]:
        """The options of a group that take part: the repository's own, and those that it chooses."""
        broken = {f.config_path for f in self.check.visible if f.is_broken}
        options: list[str | None] = [self.base[group]]
        for option in self.planner.loader.found.get_group_options(group):
            path = f"{group}/{option}"
            is_ours = any(f.config_path == path for f in self._own_files())
            is_asked = self.check.is_packaged or self.check.scope.packaged
            if path not in broken and option not in options and (is_ours or is_asked or self._is_chosen(path)):
                options.append(option)
        return options

    def _own_files(self) -> Iterator[SourceFile]:
        for files in self.check.files.values():
            yield from files

    def _is_chosen(self, path: str) -> bool:
        group, _, option = path.rpartition("/")
        own = {f.config_path for f in self._own_files()}
        return any(option in self.inclusions.overrides.get(name, {}).get(group, ()) for name in own)

    def _singles(self, groups: Mapping[str, Sequence[str | None]]) -> Iterator[tuple[str, ...]]:
        yield ()
        for group, options in groups.items():
            for option in options[1:]:
                yield (f"{group}={option}",)
        for file in self.check.visible:
            is_left = file.group and file.group not in self.base and any(file is f for f in self._own_files())
            if is_left and not file.is_broken and file.group.partition("/")[0] not in (*INNER_GROUPS, "hydra"):
                yield from self._with_parent(file)

    def _with_parent(self, file: SourceFile) -> Iterator[tuple[str, ...]]:
        """An option of a group that the root does not have: below the option that brings the group, or added."""
        parents = [f for f in self.check.visible if self._brings(f, file.group)]
        for parent in parents[:1]:
            yield (f"{parent.group}={parent.option}", f"{file.group}={file.option}")
        if not parents and file.config_path not in self.inclusions.chosen:
            yield (f"+{file.group}={file.option}",)

    def _brings(self, file: SourceFile, group: str) -> bool:
        inside = self.inclusions.includes.get(file.config_path, {})
        return file.group in self.base and any(path.rpartition("/")[0] == group for path in inside)

    def _lines(self, combination: Mapping[str, str | None]) -> tuple[str, ...]:
        """What one types for a combination; a group that another of its options pins is left to that."""
        chosen = {g: o for g, o in combination.items() if o is not None and o != self.base[g]}
        pinned = {p for g, o in chosen.items() for p in self.inclusions.pins(f"{g}/{o}")}
        return tuple(f"{g}={o}" for g, o in chosen.items() if g not in pinned)

    def _try(self, lines: tuple[str, ...], *, is_single: bool) -> bool:
        """Compose, validate and render one combination; False if it cannot be composed at all."""
        try:
            symptoms = self.quick.symptoms(lines)
        except Unsure:
            return self._try_whole(lines, is_single=is_single)
        new = [symptom for symptom in symptoms if repr(symptom) not in self.faults_of_symptom]
        for symptom in new:
            self._explain(symptom, repr(symptom), lines, is_single=is_single)
        for symptom in symptoms:
            self._count(self.faults_of_symptom[repr(symptom)])
        if new:
            self.quick.symptoms(lines)  # it is the last one again
        if self.quick.template in self.check.broken_templates:
            return True  # what a broken template would have said of the model is not known
        of_values, of_files = self.quick.findings()
        for finding in of_files:
            self._count(self.translator.of_file(code_of_rendering(finding), finding, lines))
        setters = [self.quick.setter(finding.key) for finding in of_values]
        for finding, setter in zip(of_values, setters, strict=True):
            self._count(self._of_value(finding, setter, lines, is_single=is_single))
        return True

    def _of_value(self, finding: Finding, setter: str, lines: tuple[str, ...], *, is_single: bool) -> list[Fault]:
        """A finding beyond the schema, with its place: that is looked for once for each finding and its options."""
        key = repr((finding, setter))
        if key not in self.faults_of_symptom:
            lines = self._fewest(lines, lambda _: finding in self.quick.findings()[0])
            composition = self.planner.compose(lines, None)
            (placed,) = located(ConfigError("", [finding]), composition).findings
            code = next((c for part, c in _CODES.items() if finding.key.startswith(part)), code_of(finding))
            found = list(self.translator.of_finding(code, placed, lines, is_single=is_single))
            if is_single:
                self.check.faults.add(*found)
            self.faults_of_symptom[key] = found
        return self.faults_of_symptom[key]

    def _count(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.hits[fault] = self.hits.get(fault, 0) + 1

    def _fewest(self, lines: tuple[str, ...], is_there: Callable[[list[Any]], bool]) -> tuple[str, ...]:
        """The options that are needed to meet something."""
        for line in lines if len(lines) > 1 else ():
            fewer = tuple(other for other in lines if other != line)
            with suppress(Unsure):
                if is_there(self.quick.symptoms(fewer)):
                    lines = fewer
        return lines

    def _explain(self, symptom: Any, key: str, lines: tuple[str, ...], *, is_single: bool) -> None:
        lines = self._fewest(lines, lambda symptoms: symptom in symptoms)
        found = self._whole(lines, is_single=is_single)
        self.faults_of_symptom[key] = [fault for fault in found if _is_of(fault, symptom[0])]
        if is_single:
            self.check.faults.add(*found)

    def _try_whole(self, lines: tuple[str, ...], *, is_single: bool) -> bool:
        found = self._whole(lines, is_single=is_single)
        self._count(found)
        if is_single:
            self.check.faults.add(*found)
        return self.was_composed

    def _whole(self, lines: tuple[str, ...], *, is_single: bool) -> list[Fault]:
        """What a whole composition says of a combination."""
        self.was_composed = False
        try:
            composition = self.planner.compose(lines, None)
            self.was_composed = True
            self.translator.template = composition.raw("model.template")
            to_plan(composition, cwd=self.check.scope.cwd)
        except ConfigError as error:
            return list(self.translator.of_error(error, lines, is_single=is_single))
        return []

    # -- sweeps --------------------------------------------------------------------------------------------------------

    def check_sweeps(self, *, with_options: bool) -> None:
        """The points of the root's own sweep, and of those that options bring."""
        own = next((f for f in self.check.visible if f.config_path == self.request.config_name), None)
        if own is not None and _has_sweep(own):
            self._check_sweep(own, ())
        for file in self.check.visible if with_options else ():
            is_ours = any(file is f for f in self._own_files())
            if is_ours and file.group in self.base and _has_sweep(file):
                self._check_sweep(file, (f"{file.group}={file.option}",))

    def _check_sweep(self, file: SourceFile, lines: tuple[str, ...]) -> None:
        self._note_chosen(file)
        self.check.sweeps += 1
        translator = self.translator.of_sweep(file)
        try:
            sweep = open_sweep(replace(self.request, overrides=lines), cwd=self._root_of(file))
            total, wrong = 0, []
            for point in sweep.points():
                total += 1
                if isinstance(point, InvalidPoint):
                    wrong.append(point)
                if total >= MOST_POINTS:
                    break
        except ConfigError as error:
            self.check.faults.add(*translator.of_error(error, lines))
            return
        except RompyHydraError as error:  # a table that needs a package which is not here
            self.check.faults.add(Fault("RH503", file.path, file.line_of("sweep"), "sweep", str(error)))
            return
        self.check.points += total
        self.check.faults.add(*translator.of_renamed(sweep.composition.renamed))
        if not total:
            line = file.line_of("sweep", "exclude")
            self.check.faults.add(Fault("RH504", file.path, line, "sweep.exclude", "leaves out every point"))
        if sweep.spec.on_invalid == "skip" and len(wrong) < total:
            return
        counted: dict[Fault, int] = {}
        for point in wrong:
            translator.template = self._template_of(point, sweep.composition.raw("model.template"))
            for fault in translator.of_error(point.error, lines):
                counted[fault] = counted.get(fault, 0) + 1
        for fault, hits in counted.items():
            self.check.faults.count(fault, hits, total)

    def _template_of(self, point: InvalidPoint, usual: str | None) -> str | None:
        """The template of a point that could not be planned."""
        option = point.swept.get("model")
        inside = self.inclusions.includes.get(f"model/{option}", {}) if option is not None else {}
        return next((path.removeprefix("template/") for path in inside if path.startswith("template/")), usual)

    def _root_of(self, file: SourceFile) -> Path:
        """Where the commands of a repository are typed: relative tables start there."""
        directories = [*self.check.files, *self.check.sweep_files]
        return next((d.parent for d in directories if file.path.is_relative_to(d)), self.check.scope.cwd)

    def _note_chosen(self, file: SourceFile) -> None:
        """The options that a design varies over."""

        def walk(node: Any) -> None:
            if isinstance(node, list):
                for inner in node:
                    walk(inner)
            elif isinstance(node, dict):
                for key, value in node.items():
                    values = value if isinstance(value, list) else str(value).split(",")
                    self.check.sweep_chosen.update(f"{key}/{str(v).strip()}" for v in values)
                    walk(value)

        walk(file.content.get("sweep"))


def _has_sweep(file: SourceFile) -> bool:
    sweep = file.content.get("sweep")
    if not isinstance(sweep, dict):
        return False
    return any(sweep.get(part) for part in ("design", "table", "samples", "zip", "exclude"))


def _is_of(fault: Fault, location: Sequence[Any]) -> bool:
    """Whether a fault's key is what a symptom's location means: the labels of unions stand in that one only."""
    parts = iter(map(str, location))
    return all(part in parts for part in fault.key.split("."))

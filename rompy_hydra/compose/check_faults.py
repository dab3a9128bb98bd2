"""What a composition complains about, as faults of a repository: a code, a file and a line of its own for each cause.

    Finding (key, rule, where it was set) → Translator → Fault

Consequences of another fault are dropped: a value that only repeats a wrong one, whatever depends on what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from rompy_hydra.check.faults import Fault, Faults
from rompy_hydra.compose.check_files import SourceFile
from rompy_hydra.compose.check_repair import Repaired
from rompy_hydra.errors import ConfigError, Finding

_PLACE = re.compile(r"(?P<path>/.*?\.[A-Za-z0-9]+):(?P<line>\d+)(?::\d+)?(?=$|[ ,])")
_OVERRIDE = re.compile(r"the override '(?P<line>.*)'$", re.DOTALL)
_DEFAULT = re.compile(r"the default of (?P<key>.*)$")
_READS = re.compile(r"\$\{\.*([A-Za-z_][\w.-]*)\}")
_OF_LEFT_OUT = frozenset({"RH201", "RH205", "RH301", "RH502"})
_INTERPOLATION = frozenset({"RH301", "RH302", "RH303", "RH304"})


def code_of(finding: Finding) -> str:
    """The code of what a composition complains about."""
    rule = finding.rule
    if finding.key.split(".", maxsplit=1)[0] == "sweep":
        return "RH503"
    if rule.startswith("cannot be resolved"):
        causes = {"Unsupported interpolation type": "RH302", "Environment variable": "RH304", "key '": "RH301"}
        return next((code for cause, code in causes.items() if cause in rule), "RH303")
    if finding.value == "???":
        return "RH204" if (finding.where or "").startswith("the default of ") else "RH205"
    if (
        "Extra inputs" in rule
        or "no such field" in rule
        or rule.startswith(("there is no key", "there is no group or key"))
    ):
        return "RH201"
    if "does not exist: " in rule:
        return "RH206"
    if "not valid YAML" in rule:
        return "RH001"
    if "endless recursion" in rule:
        return "RH103"
    return "RH204" if finding.key else "RH105"


def code_of_rendering(finding: Finding) -> str:
    """The code of what is wrong with a file of a template."""
    if finding.rule.startswith("template syntax") or "is not UTF-8" in finding.rule:
        return "RH402"
    is_name = "uses a name that does not exist" in finding.rule or finding.rule.startswith("is included, but")
    return "RH403" if is_name else "RH404"


@dataclass(kw_only=True)
class Translator:
    """Knows the files of a repository, and what is known to be wrong with them."""

    faults: Faults
    repaired: Repaired
    files: Sequence[SourceFile]  # those that answer
    ours: Collection[Path]
    root: str
    overrides: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    broken: Collection[Path] = ()
    repaired_lists: Collection[Path] = ()
    broken_templates: Collection[str] = ()
    base: Mapping[str, str | None] = field(default_factory=dict)
    sweep: SourceFile | None = None
    template: str | None = None  # of the combination in question

    def of_sweep(self, file: SourceFile) -> Translator:
        """The same for the points of a file's sweep: what its design sets stands in that file."""
        return replace(self, sweep=file)

    def of_error(self, error: ConfigError, lines: Sequence[str], *, is_single: bool = True) -> Iterator[Fault]:
        """The faults that an error tells."""
        findings = list(error.findings) or [Finding(key="", rule=error.headline)]
        wrong = {f.key for f in findings}
        for finding in findings:
            if _is_consequence(finding, wrong - {finding.key}):
                continue
            yield from self.of_finding(code_of(finding), finding, lines, is_single=is_single)

    def of_renamed(self, findings: Iterable[Finding]) -> Iterator[Fault]:
        """Old names of keys, in files of ours."""
        for finding in findings:
            yield from self.of_finding("RH801", finding, ())

    def of_file(self, code: str, finding: Finding, lines: Sequence[str]) -> Iterator[Fault]:
        """What rendering finds; what reading the file has found already is not told again."""
        where = self.repaired.original(finding.where or "")
        key = "" if finding.key == "model.template" else finding.key
        place = _PLACE.search(where)
        path, line = (Path(place["path"]), int(place["line"])) if place is not None else (Path(where or self.root), 1)
        if any(self.faults.has(path, line, known) for known in ("RH402", "RH403") if known != code):
            return
        if self.faults.has(path, line, code) and not self.faults.has(path, line, code, key):
            return
        message = self.repaired.original(f"{key}: {finding.rule}" if key else finding.rule)
        yield Fault(code, path, line, key, message, finding.mend, example=" ".join(lines))

    def of_finding(
        self, code: str, finding: Finding, lines: Sequence[str], *, is_single: bool = True
    ) -> Iterator[Fault]:
        """One finding, unless it follows from something that is known."""
        where = self.repaired.original(finding.where or "")
        path, line = self._place(finding.key, where, lines)
        if path in self.broken or (path in self.repaired_lists and (code in _OF_LEFT_OUT or "default of" in where)):
            return
        if self.template in self.broken_templates and finding.key.startswith("model"):
            return
        if any(self.faults.has(path, line, known) for known in _INTERPOLATION - {code}):
            return
        if path not in self.ours:
            moved = self._nearest_of_ours(lines)
            if moved is None:
                return
            path, line = moved, 1
        value = "" if finding.value is None else f" = {self.repaired.original(finding.value)}"
        message = self.repaired.original(f"{finding.key}{value}: {finding.rule}" if finding.key else finding.rule)
        mend = self.repaired.original(finding.mend) if finding.mend else None
        if not is_single and not self.faults.has(path, line, code, finding.key):
            code = "RH502" if code in ("RH201", "RH301") else "RH501"
        yield Fault(code, path, line, finding.key, message, mend, example=" ".join(lines))

    def _place(self, key: str, where: str, lines: Sequence[str]) -> tuple[Path, int]:
        if (place := _PLACE.search(where)) is not None:
            return Path(place["path"]), int(place["line"])
        if (override := _OVERRIDE.search(where)) is not None:
            if self.sweep is not None and override["line"] not in lines:
                return self._in_sweep(override["line"].partition("=")[0].lstrip("+~"))
            if (file := self._option_of(override["line"])) is not None:
                return file.path, 1
        if self.sweep is not None and key.split(".", maxsplit=1)[0] == "sweep":
            return self._in_sweep(key)
        if (default := _DEFAULT.search(where)) is not None:
            group = default["key"].split(".")[0]
            if (chooser := self._overrider(group, lines)) is not None:
                return chooser
            if (file := self._chosen(group, lines)) is not None:
                return file.path, 1
        path = Path(where)
        file = next((f for f in self.files if f.path == path), None)
        if file is not None:
            return path, file.line_of(*key.split("."))
        if where.startswith("/") and path.exists():
            return path, 1
        return self._root_file(), 1

    def _in_sweep(self, key: str) -> tuple[Path, int]:
        assert self.sweep is not None
        for path, node in _mapping_keys(self.sweep.tree, ()):
            if path[:1] == ("sweep",) and node.value.lstrip("+~") == key:
                return self.sweep.path, int(node.start_mark.line) + 1
        parts = [int(p) if p.isdigit() else p for p in key.split(".")]
        return self.sweep.path, self.sweep.line_of(*(parts if parts[0] == "sweep" else ["sweep"]))

    def _option_of(self, line: str) -> SourceFile | None:
        group, _, option = line.lstrip("+~").partition("=")
        return next((f for f in self.files if f.config_path == f"{group}/{option}"), None)

    def _overrider(self, group: str, lines: Sequence[str]) -> tuple[Path, int] | None:
        """The line of a chosen option's defaults list that chooses from another group."""
        if any(line.lstrip("+").startswith(f"{group}=") for line in lines):
            return None
        for line in reversed(lines):
            file = self._option_of(line)
            if file is not None and group in self.overrides.get(file.config_path, {}):
                entries = [e for e in file.entries() if e.text.strip("{}").partition(":")[0].endswith(f"/{group}")]
                return file.path, entries[0].line if entries else 1
        return None

    def _chosen(self, group: str, lines: Sequence[str]) -> SourceFile | None:
        given = [line for line in lines if line.lstrip("+").startswith(f"{group}=")]
        return self._option_of(given[-1] if given else f"{group}={self.base.get(group)}")

    def _root_file(self) -> Path:
        return next((f.path for f in self.files if f.config_path == self.root), Path(self.root))

    def _nearest_of_ours(self, lines: Sequence[str]) -> Path | None:
        """The file of ours that leads to a packaged one: of the options in question, or the root."""
        for line in reversed(lines):
            if (file := self._option_of(line)) is not None and file.path in self.ours:
                return file.path
        if self.sweep is not None:
            return self.sweep.path
        for group in ("model", *self.base):
            if (file := self._chosen(group, lines)) is not None and file.path in self.ours:
                return file.path
        return next((f.path for f in self.files if f.config_path == self.root and f.path in self.ours), None)


def _is_consequence(finding: Finding, wrong: Collection[str]) -> bool:
    """Whether a value only repeats another one that is wrong."""
    text = finding.value or ""
    if "${" not in text or "Recursive interpolation" in finding.rule:
        return False
    read = [match[1] for match in _READS.finditer(text)]
    return any(key == r or key.startswith(f"{r}.") or key.endswith(f".{r}") for r in read for key in wrong)


def _mapping_keys(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], yaml.ScalarNode]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key
            yield from _mapping_keys(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _mapping_keys(value, path)

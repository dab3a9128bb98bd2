"""A repository's YAML files, each read by itself: what is wrong with one is found whatever the others are.

    conf/**.yaml → read_files → SourceFile (text, YAML nodes with their lines) → faults_in

Nothing is composed here; `check_repository` does that, with what could not be read left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from rompy_hydra.backends.loading import Loader as YamlLoader
from rompy_hydra.check.faults import Fault
from rompy_hydra.compose.deprecation import FILE_NAME as RENAMED_KEYS
from rompy_hydra.compose.deprecation import read_table
from rompy_hydra.errors import ConfigError, did_you_mean
from rompy_hydra.redaction import looks_like_credential, says_how

SWEEP_DIRECTORIES = ("multirun_examples", "sweeps")
"""Directories beside `conf/` whose files are root configurations of sweeps."""

_SUFFIXES = (".yml", ".YAML", ".YML", ".yaml~")
_SPECIAL = (RENAMED_KEYS,)
_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.-]*)\s*:")
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,{}:]+?)\s*\}")
_HEADER = re.compile(r"^\s*#+\s*(?:@\s*p\w*\b|package[ :=]+[\w.]+\s*$)", re.IGNORECASE)
_GOOD_HEADER = re.compile(r"^\s*#\s*@package +\S+\s*$")
# Values that are credentials whatever their key is called.
_TOKENS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|"
    r"\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|\b[a-z][a-z0-9+.-]*://[^\s/:@$]+:[^\s/:@${}<>]+@"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a defaults list as it is written."""

    node: yaml.Node
    text: str  # the whole item, on one line

    @property
    def line(self) -> int:
        """Its line."""
        return int(self.node.start_mark.line) + 1


@dataclass(eq=False)
class SourceFile:
    """One file of options; `tree` is None where it cannot be read, or is empty."""

    path: Path
    config_path: str
    text: str = ""
    tree: yaml.MappingNode | None = None
    content: dict[Any, Any] = field(default_factory=dict)
    is_broken: bool = False

    @property
    def group(self) -> str:
        """The group that it is an option of; nothing for a root configuration."""
        return self.config_path.rpartition("/")[0]

    @property
    def option(self) -> str:
        """Its name in its group."""
        return self.config_path.rpartition("/")[2]

    def line_of(self, *path: str | int) -> int:
        """The line of a key, or of the nearest thing around it."""
        node: yaml.Node | None = self.tree
        line = 1
        for part in path:
            found = None
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if str(k.value) == str(part)), None)
                if pair is not None:
                    line, found = int(pair[0].start_mark.line) + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                found = node.value[part]
                line = int(found.start_mark.line) + 1
            if found is None:
                break
            node = found
        return line

    def malformed(self) -> Iterator[yaml.ScalarNode]:
        """Values whose interpolation is none: nothing with them in it can be composed."""
        for _, node in self.scalars():
            if "${" in node.value and _grammar_error(node.value) is not None:
                yield node

    def defaults(self) -> tuple[yaml.Node | None, yaml.Node | None]:
        """The key and the value of the defaults list."""
        for key, value in self.tree.value if self.tree is not None else ():
            if key.value == "defaults":
                return key, value
        return None, None

    def entries(self) -> list[Entry]:
        """The items of the defaults list."""
        _, value = self.defaults()
        if not isinstance(value, yaml.SequenceNode):
            return []
        return [Entry(node, self._between(node)) for node in value.value]

    def _between(self, node: yaml.Node) -> str:
        """What is written between the marks of a node, without comments."""
        text = self.text[node.start_mark.index : node.end_mark.index]
        return " ".join(re.sub(r"(?m)(^|\s)#.*$", "", text).split())

    def scalars(self) -> Iterator[tuple[tuple[str | int, ...], yaml.ScalarNode]]:
        """Every value below the keys, the defaults list left out."""
        for key, value in self.tree.value if self.tree is not None else ():
            if key.value != "defaults":
                yield from _scalars(value, (str(key.value),))


def _scalars(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _scalars(value, (*path, number))


def read_files(conf: Path, faults: list[Fault]) -> list[SourceFile]:
    """Every option below a directory; what cannot be read becomes a fault and a broken file."""
    files = []
    for path in sorted(conf.rglob("*")):
        relative = path.relative_to(conf)
        if any(part.startswith(".") or part == "__pycache__" for part in relative.parts) or path.is_dir():
            continue
        if relative.as_posix() in _SPECIAL:
            faults += _faults_of_table(path)
        elif path.name.endswith(_SUFFIXES) and not path.name.endswith("~"):
            mend = f"rename it to {path.with_suffix('.yaml').name}"
            faults.append(Fault("RH003", path, 1, "", "is never read: the name of an option ends in .yaml", mend))
        elif path.suffix == ".yaml":
            files.append(_read(path, relative.with_suffix("").as_posix(), faults))
    return files


def _faults_of_table(path: Path) -> Iterator[Fault]:
    try:
        read_table(path)
    except ConfigError as error:
        for finding in error.findings:
            line = (finding.where or "").removeprefix(f"{path}:").partition(":")[0]
            yield Fault("RH802", path, int(line) if line.isdigit() else 1, finding.key, finding.rule, finding.mend)
        if not error.findings:
            yield Fault("RH802", path, 1, "", error.headline)


def _read(path: Path, config_path: str, faults: list[Fault]) -> SourceFile:
    file = SourceFile(path, config_path)

    def broken(code: str, line: int, message: str, mend: str | None = None) -> SourceFile:
        faults.append(Fault(code, path, line, "", message, mend))
        file.is_broken, file.tree, file.content = True, None, {}
        return file

    try:
        raw = path.read_bytes()
        file.text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return broken("RH001", line, f"byte {error.start} is no UTF-8 text", "save the file as UTF-8")
    except OSError as error:
        return broken("RH004", 1, f"cannot be read: {error.strerror}")
    try:
        tree: Any = yaml.compose(file.text, Loader=YamlLoader)
        content = yaml.load(file.text, Loader=YamlLoader)  # noqa: S506  # a SafeLoader of ours
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = min(mark.line + 1, len(file.text.splitlines())) if mark else 1
        return broken("RH001", line, f"not valid YAML: {problem}")
    except (ValueError, RecursionError) as error:
        return broken("RH001", 1, f"not valid YAML: {str(error) or type(error).__name__}")
    if tree is None or content is None:
        return file
    if not isinstance(tree, yaml.MappingNode):
        kind = "a list" if isinstance(content, list) else f"the text '{_short(str(content))}'"
        return broken("RH002", int(tree.start_mark.line) + 1, f"holds {kind}, no mapping", "write 'key: value' lines")
    file.tree, file.content = tree, content
    return file


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def faults_in(file: SourceFile, environ: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong with a file's head, its interpolations and its literals."""
    yield from _faults_of_head(file)
    for path, node in file.scalars():
        key, line = ".".join(map(str, path)), int(node.start_mark.line) + 1
        yield from _faults_of_literal(file.path, line, key, path, node)
        if "${" in node.value:
            yield from faults_of_interpolation(file.path, line, key, node.value, environ)


def _faults_of_head(file: SourceFile) -> Iterator[Fault]:
    is_head = True
    for number, line in enumerate(file.text.splitlines(), 1):
        if _HEADER.match(line):
            if not _GOOD_HEADER.match(line):
                mend = "write '# @package _global_', or the package that is meant"
                yield Fault("RH104", file.path, number, "", f"'{line.strip()}' has no effect", mend)
            elif not is_head:
                rule = f"'{line.strip()}' has no effect: it is not at the head of the file"
                yield Fault("RH104", file.path, number, "", rule, "move it to the first line")
        if line.strip() and not re.match(r"\s*#\s*@", line):
            is_head = False


def is_header(line: str) -> bool:
    """Whether a line is a `# @package` line that Hydra understands."""
    return _GOOD_HEADER.match(line) is not None


def faults_of_interpolation(path: Path, line: int, key: str, text: str, environ: Mapping[str, str]) -> Iterator[Fault]:
    """Resolvers that nobody brings, malformed text, and variables that are not set here."""
    if (cause := _grammar_error(text)) is not None:
        yield Fault("RH303", path, line, key, f"'{_short(text)}' is no interpolation: {cause}")
        return
    for name in dict.fromkeys(_RESOLVER.findall(text)):
        if not OmegaConf.has_resolver(name):
            known = [n for n in _resolvers() if not n.startswith("_")]
            yield Fault("RH302", path, line, key, f"there is no resolver '{name}'", did_you_mean(name, known))
    for name in dict.fromkeys(_VARIABLE.findall(text)):
        if name not in environ:
            rule = f"the environment variable {name} is not set here, and no default is given"
            yield Fault("RH304", path, line, key, rule, f"write ${{oc.env:{name},DEFAULT}}")


def _grammar_error(text: str) -> str | None:
    try:
        parse(text)
    except GrammarParseError as error:
        return str(error).splitlines()[0]
    return None


def _resolvers() -> list[str]:
    from omegaconf.base import Container  # noqa: F401  # its module makes the registry
    from omegaconf.basecontainer import BaseContainer

    return sorted(BaseContainer._resolvers)  # noqa: SLF001  # OmegaConf lists them nowhere


def _faults_of_literal(
    path: Path, line: int, key: str, parts: tuple[str | int, ...], node: yaml.ScalarNode
) -> Iterator[Fault]:
    name = next((part for part in reversed(parts) if isinstance(part, str)), "")
    is_empty = node.value in ("", "null", "~", "???", "true", "false") or node.tag == "tag:yaml.org,2002:null"
    mend = "write ${secret:NAME}, and give the credential a new value"
    if not is_empty and "${" not in node.value and looks_like_credential(name) and not says_how(name, node.value):
        yield Fault("RH701", path, line, key, "holds what looks like a credential, in clear text", mend)
    elif _TOKENS.search(node.value):
        yield Fault("RH701", path, line, key, "its value looks like a credential, in clear text", mend)


def faults_in_text(path: Path) -> Iterator[Fault]:
    """Credentials in a file that is no YAML: one of a template."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for number, line in enumerate(lines, 1):
        if _TOKENS.search(line):
            rule = "what looks like a credential, in clear text"
            yield Fault("RH701", path, number, "", rule, "read it from a variable, and give it a new value")

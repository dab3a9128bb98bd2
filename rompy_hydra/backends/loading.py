"""One loader for the YAML and JSON files that people write: positions in every error, numbers as people mean them.

file → read_documents (data and lines) → check_document (a verdict each) → load_configs (backend configurations)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rompy_hydra.backends.complaints import path_in, rules_by_key
from rompy_hydra.errors import ConfigError, Finding, SiteError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from rompy_hydra.backends.config import BaseBackendConfig

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(_BaseLoader):  # type: ignore[misc]  # the base is chosen at run time: libyaml's where it is there
    """YAML as OmegaConf reads it: `1e3` is a number, a duplicate key is an error, dates stay text."""


def _no_duplicate_keys(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                "while reading a mapping", node.start_mark, f"found the key '{key}' twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep=True))


Loader.add_constructor("tag:yaml.org,2002:map", _no_duplicate_keys)
Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _BaseLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
        |\.[0-9_]+(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+0123456789."),
)


def load_documents(path: Path) -> list[Any]:
    """Every document of a YAML or JSON file as plain data.

    Raises `ConfigError` with file, line and column for malformed text, `SiteError` for an unreadable file.
    """
    return parse_documents(read_text(path), str(path))


def load_one(path: Path) -> dict[str, Any]:
    """The one mapping a file must hold."""
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        what = f"{len(documents)} documents" if len(documents) != 1 else type(documents[0]).__name__
        raise ConfigError(
            f"{path} must hold one mapping",
            [Finding(key="", rule=f"holds {what}", where=str(path), mend="write 'key: value' lines")],
        )
    return documents[0]


def read_text(path: Path) -> str:
    """A text file, UTF-8; missing, unreadable or undecodable ones are named."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", [Finding(key="", rule="missing file", where=str(path))]) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a directory, not a file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text",
            [Finding(key="", rule=f"byte {error.start} cannot be decoded", where=str(path))],
        ) from None
    except OSError as error:
        raise SiteError(f"cannot read {path}: {error.strerror}") from error


def parse_documents(text: str, name: str) -> list[Any]:
    """Every document in YAML or JSON text; `name` stands in the errors."""
    try:
        return [document for document in yaml.load_all(text, Loader=Loader) if document is not None]
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is malformed", [finding_of_yaml_error(error, name)]) from None


def finding_of_yaml_error(error: yaml.YAMLError, name: str) -> Finding:
    """What libyaml found, as file, line and column and a sentence."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    return Finding(key="", rule=f"not valid YAML: {problem}" + (f" ({context})" if context else ""), where=where)


# -- backend configurations --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: plain data, and the YAML node that knows its lines."""

    name: str
    number: int
    data: Any
    node: yaml.Node | None = None

    def where(self, path: Sequence[str | int] = ()) -> str:
        """`FILE:LINE` of a key, or of the nearest thing around it; with the document's number from the second on."""
        line = _line_of(self.node, path)
        place = f"{self.name}:{line}" if line else self.name
        return place if self.number == 1 else f"{place} (document {self.number})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one document: a configuration, or findings."""

    name: str
    number: int
    type: str | None
    config: BaseBackendConfig | None = None
    findings: tuple[Finding, ...] = field(default=())


def load_configs(path: str | Path, backend_type: str | None = None) -> list[BaseBackendConfig]:
    """The configuration of every document of a YAML or JSON file, each with its `type:` or without.

    Without one, `backend_type` says it, or else the keys do (`image` makes it docker; a tie is local).  Raises
    `ConfigError` with every finding of every document: file, line, document, key, rule.
    """
    verdicts = list(check_file(Path(path), backend_type))
    findings = [finding for verdict in verdicts for finding in verdict.findings]
    if findings:
        raise ConfigError(f"{path} holds no valid configuration", findings)
    return [verdict.config for verdict in verdicts if verdict.config is not None]


def load_config(path: str | Path, backend_type: str | None = None) -> BaseBackendConfig:
    """The one configuration of a file; `ConfigError` where it holds several."""
    configs = load_configs(path, backend_type)
    if len(configs) != 1:
        raise ConfigError(
            f"{path} holds {len(configs)} configurations",
            [Finding(key="", rule="one is wanted", where=str(path), mend="use load_configs, or split the file")],
        )
    return configs[0]


def check_file(path: Path, backend_type: str | None = None) -> Iterator[Verdict]:
    """A verdict for each document of a file; a malformed rest, an empty file and an unreadable one get theirs too."""
    number = 0
    try:
        for document in read_documents(path):
            number = document.number
            yield check_document(document, backend_type)
    except (ConfigError, SiteError) as error:
        findings = getattr(error, "findings", ()) or (Finding(key="", rule=str(error), where=str(path)),)
        yield Verdict(str(path), number + 1, None, findings=tuple(findings))
        return
    if number == 0:
        finding = Finding(key="", rule="holds no configuration", where=str(path), mend="see: backends create TYPE")
        yield Verdict(str(path), 1, None, findings=(finding,))


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a YAML or JSON file with their lines.

    Raises `ConfigError` for malformed text where it is reached: what stands before it has been given out.
    """
    text = read_text(path)
    if path.suffix == ".json":
        yield _json_document(text, str(path))
        return
    loader: Any = Loader(text)
    number = 0
    try:
        while loader.check_node():
            node = loader.get_node()
            data = loader.construct_document(node)
            if data is not None:
                number += 1
                yield Document(str(path), number, data, node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is malformed", [finding_of_yaml_error(error, str(path))]) from None
    finally:
        loader.dispose()


def check_document(document: Document, backend_type: str | None = None) -> Verdict:
    """Whether one document is a backend configuration, with a finding for each rule that it breaks."""
    from pydantic import ValidationError

    from rompy_hydra.backends.registry import config_class

    kind: str | None = None
    try:
        kind = _type_of(document, backend_type)
        config = config_class(kind).model_validate({**document.data, "type": kind})
    except ConfigError as error:
        findings = tuple(
            Finding(f.key.removeprefix("backend."), f.rule, f.value, f.where or document.where(["type"]), f.mend)
            for f in error.findings
        )
        return Verdict(document.name, document.number, kind, findings=findings)
    except ValidationError as error:
        return Verdict(document.name, document.number, kind, findings=tuple(_findings(error, document)))
    return Verdict(document.name, document.number, kind, config)


def _type_of(document: Document, asked: str | None) -> str:
    data = document.data
    if not isinstance(data, dict):
        what = f"holds a {type(data).__name__}, not a mapping"
        raise ConfigError("no mapping", [Finding("", what, where=document.where(), mend="write 'key: value' lines")])
    if "defaults" in data and "type" not in data:
        rule = "is an option of a config group (it has a defaults list) and no whole configuration"
        mend = "rompy-hydra run --cfg job composes it"
        raise ConfigError("a group option", [Finding("defaults", rule, where=document.where(["defaults"]), mend=mend)])
    said = data.get("type")
    if said is not None and not isinstance(said, str):
        rule = "the type is the name of a backend, in quotes if it looks like a number"
        raise ConfigError("no type", [Finding("type", rule, repr(said), document.where(["type"]))])
    if said is not None and asked is not None and said != asked:
        raise ConfigError(
            "another type", [Finding("type", f"'{asked}' was asked for", repr(said), document.where(["type"]))]
        )
    return said or asked or _type_by_keys(data)


def _type_by_keys(data: Mapping[Any, Any]) -> str:
    """The built-in backend that knows most of the keys; local before the others."""
    from rompy_hydra.backends.config import DockerConfig, LocalConfig, SlurmConfig

    known: dict[str, type[BaseBackendConfig]] = {"local": LocalConfig, "docker": DockerConfig, "slurm": SlurmConfig}
    return max(known, key=lambda name: sum(key in known[name].model_fields for key in data))


def _findings(error: ValidationError, document: Document) -> Iterator[Finding]:
    for path, rule in rules_by_key(error, lambda location: path_in(document.data, location)).items():
        yield Finding(".".join(map(str, path)), rule, where=document.where(path))


def _line_of(node: yaml.Node | None, path: Sequence[str | int]) -> int | None:
    if node is None:
        return None
    line: int = node.start_mark.line + 1
    for part in path:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if str(key.value) == str(part)), None)
            if pair is not None:
                line, found = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line


def _json_document(text: str, name: str) -> Document:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ConfigError(f"{name} is malformed", [Finding(key, "the key stands twice", where=name)])
            seen.add(key)
        return dict(pairs)

    def no_number(word: str) -> Any:
        raise ConfigError(f"{name} is malformed", [Finding("", f"{word} is no JSON", where=name)])

    try:
        data = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_number)
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        raise ConfigError(f"{name} is malformed", [Finding("", f"not valid JSON: {error.msg}", where=where)]) from None
    except RecursionError:
        raise ConfigError(f"{name} is malformed", [Finding("", "is nested too deeply", where=name)]) from None
    try:
        node = yaml.compose(text.replace("\t", " "), Loader=Loader)  # for the lines; a raw tab in JSON is a blank
    except (yaml.YAMLError, RecursionError):
        node = None
    return Document(name, 1, data, node)

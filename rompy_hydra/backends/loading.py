"""One loader for the YAML and JSON files that people write: positions in every error, numbers as people mean them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from rompy_hydra.errors import ConfigError, Finding, SiteError

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

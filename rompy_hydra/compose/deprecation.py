"""Keys that were renamed: the old name goes on working, in files, overrides and sweeps, and is told with its place.

    RENAMED (ours) and conf/renamed_keys.yaml (a repository's own: `old.key: new.key`) → Renamings
    loader                → the layers of a composition and its overrides, in today's names
    Provenance.renamed()  → a finding for each old name that was met: its replacement, its file:line or override

Names are dotted and a whole branch may be renamed (`model.params: model.parameters`).  Each layer is renamed by itself,
before it is merged, so that what wins over what stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from rompy_hydra.backends.loading import Loader as YamlLoader
from rompy_hydra.backends.loading import finding_of_yaml_error
from rompy_hydra.compose.tree import child, children, copied, is_branch, written
from rompy_hydra.errors import ConfigError, Finding

FILE_NAME = "renamed_keys.yaml"

RENAMED: Mapping[str, str] = {}
"""Old key → new key, of our own schema; an entry stays for at least two releases."""

_KEY = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*\Z")
_DOTTED = re.compile(r"(?<![\w.'\"])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w'\"])")
_REFERENCE = re.compile(r"\$\{(?P<dots>\.*)(?P<key>[A-Za-z_][\w.-]*)\}")


class Renamings:
    """The table of one command, ours and that of every repository; each name leads to its last replacement."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self.table = {old: _last(old, table) for old in table}
        self._by_length = sorted(self.table, key=len, reverse=True)

    def __bool__(self) -> bool:
        return bool(self.table)

    def new_name(self, key: str) -> str | None:
        """Today's name of a key; None if it has not changed."""
        found = self._entry(key)
        return None if found is None else self.table[found] + key[len(found) :]

    def old_names(self, key: str) -> Iterator[str]:
        """What a key was called."""
        for old, new in self.table.items():
            if key == new or key.startswith(f"{new}."):
                yield old + key[len(new) :]

    def of_override(self, override: Override) -> Override:
        """The same override of the key that there is today."""
        new = self.new_name(override.key_or_group) if self.table else None
        return override if new is None else replace(override, key_or_group=new)

    def of_layer(self, config: DictConfig) -> tuple[DictConfig, list[str]]:
        """A layer, its keys standing where they are in the whole tree, in today's names; and the old ones in it."""
        met = [old for old in self._by_length if _stands(config, old)]
        referred = list(self._references(config)) if self.table else []
        if not met and not referred:
            return config, []
        config = copied(config)
        for old in met:
            if _stands(config, old):  # a longer name below it may have taken all that stood there
                _move(config, old, self.table[old])
        self._rewrite(config, [])
        return config, list(dict.fromkeys([*met, *referred]))

    def _entry(self, key: str) -> str | None:
        return next((old for old in self._by_length if key == old or key.startswith(f"{old}.")), None)

    def _references(self, node: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        """The old names that interpolations of a layer read."""
        for key, inner in children(node):
            here = (*path, str(key))
            if is_branch(inner):
                yield from self._references(inner, here)
            elif isinstance(text := written(inner), str) and "${" in text:
                for match in _REFERENCE.finditer(text):
                    if (name := _absolute(match, here)) is not None and (old := self._entry(name)) is not None:
                        yield old

    def _rewrite(self, node: DictConfig | ListConfig, path: list[str]) -> None:
        for key, inner in children(node):
            here = [*path, str(key)]
            if is_branch(inner):
                self._rewrite(inner, here)
            elif isinstance(text := written(inner), str) and "${" in text:
                changed = _REFERENCE.sub(lambda match, at=tuple(here): self._reference(match, at), text)  # type: ignore[misc]
                if changed != text:
                    node[key] = changed  # type: ignore[index]  # an index of a list, or a key of a map

    def _reference(self, match: re.Match[str], path: tuple[str, ...]) -> str:
        name = _absolute(match, path)
        new = self.new_name(name) if name is not None else None
        return match[0] if new is None else f"${{{new}}}"


def in_todays_names(sweep: Any, today: Callable[[str], str]) -> Any:
    """The content of `sweep:` with today's names of the keys that it varies, zips and compares."""
    if not isinstance(sweep, dict):
        return sweep
    return {part: _of_part(part, value, today) for part, value in sweep.items()}


def _of_part(part: str, value: Any, today: Callable[[str], str]) -> Any:
    if part in ("grid", "zip", "over") and isinstance(value, dict):
        return {today(key) if isinstance(key, str) else key: inner for key, inner in value.items()}
    if part == "zip" and isinstance(value, list):
        lists = [_of_part(part, v, today) if isinstance(v, list) else v for v in value]
        return [today(v) if isinstance(v, str) else v for v in lists]
    if part == "exclude":
        texts = value if isinstance(value, list) else [value]
        return [_DOTTED.sub(lambda match: today(match[0]), t) if isinstance(t, str) else t for t in texts]
    if part == "samples":
        return in_todays_names(value, today)
    if part in ("design", "union") and isinstance(value, list):
        return [_of_part(part, v, today) if isinstance(v, list) else in_todays_names(v, today) for v in value]
    return value


def renamings_of(directories: Iterable[Path]) -> Renamings:
    """Our table and those of some repositories; the first that names a key decides.

    Raises `ConfigError` for a table that is none.
    """
    table: dict[str, str] = {}
    for directory in directories:
        for old, new in read_table(directory / FILE_NAME).items():
            table.setdefault(old, new)
    return Renamings({**table, **{old: new for old, new in RENAMED.items() if old not in table}})


def read_table(path: Path) -> dict[str, str]:
    """The table of a repository; none if it has no such file.  Raises `ConfigError` with the lines that are wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    try:
        tree = yaml.compose(text, Loader=YamlLoader)
        content = yaml.load(text, Loader=YamlLoader)  # noqa: S506  # a SafeLoader of ours
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is malformed", [finding_of_yaml_error(error, str(path))]) from None
    if content is None:
        return {}
    table: dict[str, str] = {}
    if not isinstance(tree, yaml.MappingNode):
        rule = "is a table of 'old.key: new.key' lines"
        raise ConfigError(f"{path} is no table", [Finding(FILE_NAME, rule, where=f"{path}:1")])
    lines = {str(key.value): key.start_mark.line + 1 for key, _ in tree.value}
    findings = []
    for old, new in content.items():
        if (why := _why_no_entry(old, new, content)) is None:
            table[old] = new
        else:
            findings.append(Finding(str(old), why, repr(new), f"{path}:{lines.get(str(old), 1)}"))
    if findings:
        raise ConfigError(f"{path} is wrong", findings)
    return table


def _why_no_entry(old: object, new: object, table: Mapping[Any, Any]) -> str | None:
    if not isinstance(old, str) or not _KEY.match(old) or not isinstance(new, str) or not _KEY.match(new):
        return "an entry is 'old.key: new.key'"
    if new == old or new.startswith(f"{old}.") or old.startswith(f"{new}."):
        return "one of the two names holds the other"
    return "leads back to itself" if _last(old, table) is old else None


def _last(old: str, table: Mapping[str, str]) -> str:
    """The end of a chain of names; `old` itself for one that runs in a circle."""
    name = old
    for _ in table:
        name = table.get(name, name)
        if name == old:
            return old
    return name


def _stands(config: Any, key: str) -> bool:
    part, _, rest = key.partition(".")
    node = child(config, part) if isinstance(config, DictConfig) else None
    return node is not None and (not rest or _stands(node, rest))


def _move(config: DictConfig, old: str, new: str) -> None:
    """What stands at `old` goes to `new`; what a layer says of `new` already wins there."""
    *way, name = old.split(".")
    parents: list[Any] = [config]
    for part in way:
        parents.append(child(parents[-1], part))
    content = written(child(parents[-1], name))  # an interpolation stays one
    for parent, part in zip(reversed(parents), (name, *reversed(way)), strict=True):
        del parent[part]
        if len(parent):
            break  # else nothing but the old name stood there
    *way, name = new.split(".")
    for part in way:
        inner = child(config, part)
        if not isinstance(inner, DictConfig) or not is_branch(inner):
            config[part] = {}
        config = child(config, part)
    there = child(config, name)
    if isinstance(there, DictConfig) and is_branch(there) and isinstance(content, dict):
        config[name] = OmegaConf.merge(content, there)
    elif there is None:
        config[name] = content


def _absolute(match: re.Match[str], path: tuple[str, ...]) -> str | None:
    """The dotted key that an interpolation at `path` reads; None if it leads out of the tree."""
    dots = len(match["dots"])
    if dots > len(path):
        return None
    return ".".join([*(path[: len(path) - dots] if dots else ()), match["key"]])

"""Shell completion: what a TAB offers, from an index that needs no Hydra; the scripts for bash, zsh and fish.

    the line, up to the cursor → verbs, flags         a table, and the parsers of the verbs
                               → groups and options   what lies in the repositories
                               → keys and values      an index of a composed tree, made by Hydra once (completion_tree)

The index is kept beside the other caches and made anew when a file of the repositories, our code or an installed
package changes.  A TAB that finds it takes less time than importing Hydra.  Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from rompy_hydra import __version__
from rompy_hydra.compose import cache
from rompy_hydra.compose.hydra_keys import FLAGS, word_of
from rompy_hydra.compose.sources import Sources, find_sources
from rompy_hydra.errors import RompyHydraError, UsageError, did_you_mean
from rompy_hydra.redaction import looks_like_credential

PROGRAM = "rompy-hydra"
SHELLS = ("bash", "zsh", "fish")
INNER = ("packaged", "schema", "template")  # to be extended by options, not chosen on a command line
TAKE_OVERRIDES = ("run", "explain", "diff")
SUBVERBS = {"backends": ("list", "validate", "schema", "create"), "postprocessors": ("list",)}
FORMAT = 1
_TASKS = ("install", "uninstall", "query")
_KEPT_TREES = 32
# Flags that take a value, and which; an empty tuple leaves it to the shell (a file name).
_VALUES: dict[str, tuple[str, ...]] = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--config-dir": (),
    "--config-path": (),
    "--config-name": (),
    "--package": (),
    "--rev": (),
}

Verbs = Mapping[str, tuple[str, str]]
"""Verb → its room, what it does: the table of the street door."""


def answer(words: Sequence[str], *, verbs: Verbs, environ: Mapping[str, str]) -> str:
    """What to print for `-sc TASK=SHELL`.  Raises `UsageError` where the task or the shell is unknown.

    A query finds the line in `COMP_LINE` (up to `COMP_POINT`); nothing that goes wrong while it is answered is told: a
    person is typing.
    """
    task, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if task not in _TASKS:
        raise UsageError(f"write -sc install=SHELL, uninstall=SHELL or query=SHELL ({', '.join(SHELLS)})")
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for the shell '{shell}'; {did_you_mean(shell, SHELLS)}")
    if task == "query":
        return ("\n" if shell == "fish" else " ").join(candidates(_typed(environ), verbs=verbs, environ=environ)) + "\n"
    from rompy_hydra.compose.completion_tree import script

    return script(task, shell)


def candidates(line: str, *, verbs: Verbs, environ: Mapping[str, str]) -> list[str]:
    """What the last word of a command line may become; empty where the shell's own completion (files) is better."""
    words = line.split()
    word = "" if not words or line[-1:].isspace() else words.pop()
    if len(words) < 2:
        return [verb for verb in verbs if verb.startswith(word)] if words else []
    verb = words[1]
    if verb not in verbs:
        return []
    if len(words) == 2 and verb in SUBVERBS:
        return [name for name in SUBVERBS[verb] if name.startswith(word)]
    typed = _Typed.read(words[2:])
    if verb == "run" and typed.open_flag is not None:
        return [value for value in _VALUES[typed.open_flag] if value.startswith(word)]
    if word.startswith("-"):
        flags = _flags_of_run() if verb == "run" else _flags_of(verb, verbs[verb][0], words[2:])
        return sorted(name for name in flags if name.startswith(word))
    if verb not in TAKE_OVERRIDES:
        return []
    with suppress(RompyHydraError, OSError):
        return sorted({text for text in _overrides(typed, word, environ) if may_be_shown(text)})
    return []


@dataclass(frozen=True, kw_only=True)
class _Typed:
    """What stands before the word that is completed."""

    overrides: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    multirun: bool
    open_flag: str | None  # the last word, if it is a flag that waits for its value

    @classmethod
    def read(cls, words: Sequence[str]) -> _Typed:
        long = {short: names[0] for flag in FLAGS for names in [flag.name.split(", ")] for short in names}
        overrides: list[str] = []
        values: dict[str, list[str]] = {}
        multirun = False
        open_flag: str | None = None
        for word in words:
            if open_flag is not None:
                values.setdefault(open_flag, []).append(word)
                open_flag = None
            elif word.startswith("-"):
                name, _, value = word.partition("=")
                multirun = multirun or long.get(name) == "--multirun"
                if value:
                    values.setdefault(long.get(name, name), []).append(value)
                elif long.get(name) in _VALUES:
                    open_flag = long[name]
            else:
                overrides.append(word)
        return cls(
            overrides=tuple(overrides),
            values={name: tuple(v) for name, v in values.items()},
            multirun=multirun,
            open_flag=open_flag,
        )


def may_be_shown(text: str) -> bool:
    """Nothing that is refused, no credential, and no value that the shell would take for several."""
    key, _, value = text.lstrip("+~").partition("=")
    word = word_of(key.rstrip("./")) if key not in ("hydra", "hydra.", "hydra/") else None
    refused = key.partition("/")[0].rstrip("=") in INNER or (word is not None and not word.honoured)
    broken = any(character.isspace() for character in text)
    return not (refused or broken or (value and looks_like_credential(key)))


def _typed(environ: Mapping[str, str]) -> str:
    line = environ.get("COMP_LINE", "")
    point = environ.get("COMP_POINT", "")
    return line[: int(point)] if point.isdigit() else line


# -- flags -------------------------------------------------------------------------------------------------------------


def _flags_of_run() -> Iterator[str]:
    for flag in FLAGS:
        if flag.honoured and flag.name.startswith("-"):
            yield flag.name.split(", ")[0]
    yield from ("--dry-run", "--detach")


class _Seen(Exception):  # noqa: N818  # no error: the parser has told what it knows
    """The flags of a verb's parser."""

    def __init__(self, flags: list[str]) -> None:
        super().__init__()
        self.flags = flags


def _flags_of(verb: str, room: str, words: Sequence[str]) -> list[str]:
    """The flags that a verb's own parser knows: the verb makes one before it does anything else."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def parse_known_args(self, *_: object, **__: object) -> NoReturn:
            raise _Seen([name for action in self._actions for name in action.option_strings if name[:2] == "--"])

        parse_known_intermixed_args = parse_known_args
        parse_intermixed_args = parse_known_args

        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

    if verb in SUBVERBS and words[0] not in SUBVERBS[verb]:
        return []
    try:
        function: Callable[..., int] = getattr(import_module(f"rompy_hydra.verbs.{room}"), verb)
        function([*words[:1], "--help"] if verb in SUBVERBS else ["--help"], lambda name, _: Parser(prog=name))
    except _Seen as seen:
        return seen.flags
    except (RompyHydraError, ImportError, AttributeError, SystemExit):
        return []
    return []


# -- groups, options, keys ---------------------------------------------------------------------------------------------


def _overrides(typed: _Typed, word: str, environ: Mapping[str, str]) -> Iterator[str]:
    if (files := _files(word)) is not None:
        yield from files
        return
    path = typed.values.get("--config-path", (None,))[-1]
    sources = find_sources(typed.values.get("--config-dir", ()), config_path=path, environ=environ, may_fetch=False)
    name = typed.values.get("--config-name", ("config",))[-1].removesuffix(".yaml")
    index = _Index(sources, name, environ)
    sign = word[0] if word[:1] in ("+", "~") else ""
    bare = word[len(sign) :]
    group, is_choice, _ = bare.partition("=")
    if is_choice and (options := index.options(group)):
        yield from (f"{sign}{group}={option}" for option in options if f"{group}={option}".startswith(bare))
        return
    if not is_choice:
        parent = bare.rpartition("/")[0]
        for inner in index.subgroups(parent):
            full = f"{parent}/{inner}" if parent else inner
            if full.startswith(bare):
                yield sign + full + index.ending(full, is_deletion=sign == "~")
    if not sign:
        chosen = [o for o in typed.overrides if _is_choice(o, index)]
        yield from _keys(index.tree(chosen, multirun=typed.multirun), bare)


def _is_choice(override: str, index: _Index) -> bool:
    """Whether it changes which keys there are; a value of a key that is there does not."""
    group, is_set, _ = override.lstrip("+~").partition("=")
    return override[:1] in ("+", "~") or (bool(is_set) and bool(index.options(group)))


def _files(word: str) -> list[str] | None:
    """The files that `key=./na` may become; None for a value that is no path."""
    key, is_set, start = word.partition("=")
    if not is_set or not start.startswith((".", "/")):
        return None
    directory, _, begin = start.rpartition("/")
    if os.path.isdir(start) and not start.endswith("/"):
        directory, begin = start, ""
    place = directory or ("/" if start.startswith("/") else ".")
    names = sorted(os.listdir(place)) if os.path.isdir(place) else []
    prefix = f"{directory}/" if directory or start.startswith("/") else ""
    return [f"{key}={prefix}{name}" for name in names if name.startswith(begin)]


def _keys(tree: Any, word: str) -> Iterator[str]:
    """The keys of a tree that begin with a word, or the value of a whole one."""
    if word[-1:] in (".", "="):
        node = _at(tree, word[:-1])
        if isinstance(node, dict):
            yield from (f"{word}{key}{_ending(inner)}" for key, inner in node.items())
        elif node is not None and word[-1:] == "=":
            yield f"{word}{node}"
        return
    parent, dot, begin = word.rpartition(".")
    node = _at(tree, parent) if dot else tree
    if isinstance(node, dict) and "=" not in word:
        yield from (f"{parent}{dot}{key}{_ending(v)}" for key, v in node.items() if key.startswith(begin))
    elif "=" in word:
        key, _, value = word.partition("=")
        known = _at(tree, key)
        if isinstance(known, str) and known.startswith(value):
            yield f"{key}={known}"


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return None
        tree = tree[part]
    return tree


def _ending(node: Any) -> str:
    return "." if isinstance(node, dict) else "="


class _Index:
    """What can be chosen and set in some repositories.

    The options of files are looked up where they lie; the rest (Hydra's own groups, those of plug-ins, trees of keys)
    is kept in a file, which Hydra makes when it is needed and not there.
    """

    def __init__(self, sources: Sources, config_name: str, environ: Mapping[str, str]) -> None:
        self._sources = sources
        self._name = config_name
        self._environ = environ
        self._content: dict[str, Any] | None = None
        self._listed: dict[str, tuple[list[str], list[str]]] = {}

    def options(self, group: str) -> list[str]:
        """The options of a group."""
        found = set(self._list(group)[0]) if group else set()
        return sorted(found | set(self._others("options", group)))

    def subgroups(self, group: str) -> list[str]:
        """The groups in a group, or all at the top."""
        found = set(self._list(group)[1])
        return sorted(found | set(self._others("groups", group)))

    def ending(self, group: str, *, is_deletion: bool) -> str:
        """What comes after a group's name."""
        options, inner = self.options(group), self.subgroups(group)
        if not inner:
            return "=" if options and not is_deletion else ""
        return "" if options else "/"

    def tree(self, chosen: Sequence[str], *, multirun: bool) -> Any:
        """Keys and values after some choices."""
        key = json.dumps([multirun, *chosen])
        trees = self._stored()["trees"]
        if key not in trees:
            from rompy_hydra.compose.completion_tree import tree_of

            tree = tree_of(self._sources, self._name, chosen, self._environ, multirun=multirun)
            while len(trees) >= _KEPT_TREES:
                del trees[next(iter(trees))]
            trees[key] = tree
            self._store()
        return trees[key]

    def _list(self, group: str) -> tuple[list[str], list[str]]:
        if group not in self._listed:
            options: set[str] = set()
            groups: set[str] = set()
            for repository in self._sources.repositories:
                with suppress(OSError), os.scandir(os.path.join(repository.conf, *group.split("/"))) as entries:
                    for entry in entries:
                        if entry.name.endswith(".yaml"):
                            options.add(entry.name.removesuffix(".yaml"))
                        elif entry.is_dir() and not entry.name.startswith((".", "__")):
                            groups.add(entry.name)
            self._listed[group] = (sorted(options), sorted(groups))
        return self._listed[group]

    def _others(self, kind: str, group: str) -> list[str]:
        found: list[str] = self._stored()[kind].get(group, [])
        return found

    def _stored(self) -> dict[str, Any]:
        if self._content is None:
            self._key = {
                "format": FORMAT,
                "version": __version__,
                "python": sys.executable,
                "repositories": [[str(r.conf), str(r.templates)] for r in self._sources.repositories],
                "config_name": self._name,
                "env": self._environ.get("ROMPY_ENV"),
                "user": os.geteuid(),
            }
            self._state = self._look()
            self._content = self._read()
        if self._content is None:
            from rompy_hydra.compose.completion_tree import groups_beside_files

            options, groups = groups_beside_files(self._sources, self._name, self._environ)
            self._content = {"options": options, "groups": groups, "trees": {}}
            self._store()
        return self._content

    def _look(self) -> list[Any]:
        state: list[cache.Stat] = []
        for repository in self._sources.repositories:
            for top in (repository.conf, repository.templates):
                cache.look_below(str(top), state)
        state += [cache.installed_in(directory or ".") for directory in dict.fromkeys(sys.path)]
        return [*state, cache.our_own_code()]

    def _path(self) -> str | None:
        directory = cache.cache_directory(self._environ, "completion")
        name = zlib.crc32(json.dumps(self._key, sort_keys=True).encode(errors="surrogateescape"))
        return None if directory is None else os.path.join(directory, f"{name:08x}.json")

    def _read(self) -> dict[str, Any] | None:
        path = self._path()
        if path is None:
            return None
        with suppress(OSError, ValueError, KeyError, TypeError):
            entry = cache.read_own_file(path)
            if entry["key"] == self._key and entry["state"] == self._state:
                return {name: dict(entry[name]) for name in ("options", "groups", "trees")}
        return None

    def _store(self) -> None:
        path = self._path()
        if path is not None and self._content is not None:
            with suppress(OSError, ValueError):  # a full or read-only disk: the next TAB asks Hydra again
                cache.write_own_file(path, json.dumps({"key": self._key, "state": self._state, **self._content}))

"""Shell completion as Hydra has it (`-sc install=bash`, `uninstall=`, `query=`): its plug-ins behind our loader.

The scripts that `install` prints are Hydra's, under names of ours (those of another Hydra application in the same shell
stay its own); a query also knows our verbs and flags.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.completion_plugin import DefaultCompletionPlugin

from rompy_hydra.compose.composer import CONFIG_NAME, INNER_GROUPS, REFUSALS, open_loader
from rompy_hydra.compose.hydra_keys import FLAGS, word_of
from rompy_hydra.compose.invocation import command_request
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.errors import RompyHydraError, UsageError, did_you_mean
from rompy_hydra.redaction import looks_like_credential

PROGRAM = "rompy-hydra"
SHELLS = ("bash", "zsh", "fish")
_TASKS = ("install", "uninstall", "query")
# Flags that take a value, and which; an empty tuple leaves it to the shell (a file name).
_VALUES: dict[str, tuple[str, ...]] = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--config-dir": (),
    "--config-path": (),
    "--config-name": (),
    "--package": (),
}


def answer(words: Sequence[str], *, verbs: Sequence[str], environ: Mapping[str, str]) -> str:
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
    plugin = _Fish(_NO_LOADER) if shell == "fish" else _Bash(_NO_LOADER)
    printed = io.StringIO()
    with redirect_stdout(printed):
        plugin.install() if task == "install" else plugin.uninstall()
    script = printed.getvalue().replace("hydra_bash_", "rompy_hydra_bash_").replace("hydra_fish_", "rompy_hydra_fish_")
    if task == "uninstall" and shell != "fish":
        script = f"complete -r {PROGRAM} 2> /dev/null\n{script}"
    return script


def candidates(line: str, *, verbs: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """What the last word of a command line may become; empty where the shell's own completion (files) is better."""
    words = line.split()
    word = "" if not words or line[-1:].isspace() else words.pop()
    if len(words) < 2:
        return [verb for verb in verbs if verb.startswith(word)] if words else []
    if words[1] != "run":
        return []
    typed = _Typed.read(words[2:])
    if typed.open_flag is not None:
        return [value for value in _VALUES[typed.open_flag] if value.startswith(word)]
    if word.startswith("-"):
        return sorted(name for name in _flag_names() if name.startswith(word))
    try:
        found = _overrides(typed, word, environ)
    except (RompyHydraError, *REFUSALS, SystemExit, KeyError):
        return []
    return [text for text in found if _may_be_shown(text)]


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


def _overrides(typed: _Typed, word: str, environ: Mapping[str, str]) -> list[str]:
    path = typed.values.get("--config-path", (None,))[-1]
    sources = find_sources(typed.values.get("--config-dir", ()), config_path=path, environ=environ)
    name = typed.values.get("--config-name", (CONFIG_NAME,))[-1]
    request = command_request(typed.overrides, sources, name, environ=environ)
    loader, _ = open_loader(request)
    line = " ".join([*(["-m"] if typed.multirun else []), *typed.overrides, word])
    with redirect_stderr(io.StringIO()):  # Hydra reads the line by a parser that complains in the person's terminal
        found: list[str] = DefaultCompletionPlugin(loader)._query(request.config_name, line)  # noqa: SLF001  # as `query`
    return found


def _may_be_shown(text: str) -> bool:
    """Nothing that is refused, no credential, and no value that the shell would take for several."""
    key, _, value = text.lstrip("+~").partition("=")
    word = word_of(key.rstrip("./")) if key not in ("hydra", "hydra.", "hydra/") else None
    refused = key.partition("/")[0] in INNER_GROUPS or (word is not None and not word.honoured)
    broken = any(character.isspace() for character in text)
    return not (refused or broken or (value and looks_like_credential(key)))


def _flag_names() -> Iterator[str]:
    for flag in FLAGS:
        if flag.honoured and flag.name.startswith("-"):
            yield flag.name.split(", ")[0]


def _typed(environ: Mapping[str, str]) -> str:
    line = environ.get("COMP_LINE", "")
    point = environ.get("COMP_POINT", "")
    return line[: int(point)] if point.isdigit() else line


_NO_LOADER: ConfigLoader = None  # type: ignore[assignment]  # scripts are printed without one


class _Bash(BashCompletion):
    """Hydra's script, for our command however it was started."""

    @staticmethod
    def _get_exec() -> str:
        return PROGRAM


class _Fish(FishCompletion):
    """The same for fish."""

    @staticmethod
    def _get_exec() -> list[tuple[str, str]]:
        return [(PROGRAM, "")]

    @staticmethod
    def _get_uninstall_exec() -> str:
        return PROGRAM

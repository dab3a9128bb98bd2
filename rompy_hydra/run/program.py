"""Where a run's programs are, before anything is started: the command, its launcher, the check of its result."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from rompy_hydra.errors import MissingToolError, did_you_mean
from rompy_hydra.plan.resources import SettledResources
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.run.command import SHELL, command_words, launcher_words, own_words

_SIMPLE_SHELL_TEXT = re.compile(r"[^|&;<>()$`\\\"'*?\[\]#~=%!{}\n]+\Z")
_SHELL_BUILTINS = frozenset(
    [
        ".",
        ":",
        "[",
        "alias",
        "bg",
        "break",
        "cd",
        "command",
        "continue",
        "echo",
        "eval",
        "exec",
        "exit",
        "export",
        "false",
        "fg",
        "getopts",
        "hash",
        "jobs",
        "kill",
        "local",
        "newgrp",
        "printf",
        "pwd",
        "read",
        "readonly",
        "return",
        "set",
        "shift",
        "test",
        "times",
        "trap",
        "true",
        "type",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "wait",
    ]  # a list of forty lines says no more
)


@dataclass(frozen=True, slots=True)
class Program:
    """What a run executes: `argv` with its launcher, `check` of its result, the program's own file if it is known."""

    argv: tuple[str, ...]
    check: tuple[str, ...] = ()
    executable: Path | None = None


class Machinery:
    """What is installed on this machine, asked once for each thing: the points of a sweep share one."""

    def __init__(self) -> None:
        self.which = cache(lambda word, path: shutil.which(word, path=path))
        self.is_installed = cache(_is_installed)
        self.lacks = cache(_lacks)


def find_run_program(
    spec: RunSpec,
    resources: SettledResources,
    environment: Mapping[str, str],
    machinery: Machinery | None = None,
) -> Program:
    """Everything that a local run executes, looked up on the PATH of its environment.

    A model that is Python (`command: [python, …]` with `requires.packages`) gets the interpreter that has its packages:
    ours, or the first on the PATH.  Raises `MissingToolError` with what to install, `ConfigError` for no command.
    """
    machinery = machinery or Machinery()
    path = environment["PATH"]
    install = spec.model.requires.install
    words = own_words(spec)
    is_models_own = getattr(spec.backend, "command", None) is None
    if is_models_own:
        words = _with_python(words, spec, path, machinery)
    mend = f"type: {install}" if install and is_models_own else None
    executable = find_program(words, path=path, install=mend, machinery=machinery)
    launcher = launcher_words(spec, resources)
    if launcher:
        mend = "install an MPI library with its launcher, or set backend.mpiexec"
        find_program(launcher, path=path, install=mend, machinery=machinery)
    rules = spec.model.success
    check = _with_python(command_words(rules.check), spec, path, machinery) if rules.check is not None else ()
    return Program((*launcher, *words), check, executable)


def _with_python(words: tuple[str, ...], spec: RunSpec, path: str, machinery: Machinery) -> tuple[str, ...]:
    packages = spec.model.requires.packages
    if words[0] not in ("python", "python3") or not packages:
        return words
    if all(machinery.is_installed(name) for name in packages):
        return (sys.executable, *words[1:])
    found = machinery.which(words[0], path)
    if found is not None and not machinery.lacks(found, tuple(packages)):
        return (found, *words[1:])
    install = spec.model.requires.install or f"pip install {' '.join(packages)}"
    needed = ", ".join(packages)
    raise MissingToolError(f"the model '{spec.model.name}' needs {needed}, which is not installed; type: {install}")


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _lacks(python: str, packages: Sequence[str]) -> bool:
    code = "import sys, importlib.metadata as m; [m.version(p) for p in sys.argv[1:]]"
    try:
        asked = subprocess.run([python, "-c", code, *packages], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return asked.returncode != 0


def find_program(
    argv: Sequence[str], *, path: str, install: str | None, machinery: Machinery | None = None
) -> Path | None:
    """Where the program of `argv` is, None if only the shell can tell or it will be generated.

    Raises `MissingToolError` with what to install where it is certain that there is none.
    """
    word = argv[0]
    if word == SHELL and list(argv[1:2]) == ["-c"]:
        inner = shell_program(argv[2])
        if inner is None:
            return Path(SHELL)
        word = inner
    if "/" in word and not Path(word).is_absolute():
        return None  # below the run directory; the executor looks when it is there
    found = machinery.which(word, path) if machinery is not None else shutil.which(word, path=path)
    if found:
        return Path(found)
    if word == "python":  # a machine with python3 only: the one that runs us
        return Path(sys.executable)
    mend = install or did_you_mean(word, _programs(path)) or "install it, or give its full path"
    raise MissingToolError(f"the program '{word}' is not installed here (looked on PATH): {mend}")


def shell_program(text: str) -> str | None:
    """The program that a plain shell text starts, None if the text is more than a plain command."""
    if not _SIMPLE_SHELL_TEXT.match(text):
        return None
    words = text.split()
    return None if words[0] in _SHELL_BUILTINS else words[0]


def _programs(path: str) -> set[str]:
    names: set[str] = set()
    for directory in path.split(os.pathsep):
        try:
            names.update(entry.name for entry in Path(directory or ".").iterdir())
        except OSError:  # a PATH entry that is not there is no news
            continue
    return names

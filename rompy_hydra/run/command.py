"""From a plan to the words that are executed: argv, launcher, environment, and where the program is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from rompy_hydra.backends.config import LocalConfig
from rompy_hydra.errors import ConfigError, Finding, MissingToolError, did_you_mean
from rompy_hydra.plan.resources import SettledResources, launcher_argv, thread_variables
from rompy_hydra.plan.spec import RunSpec

SHELL = "/bin/sh"
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
    ]
)


def run_argv(spec: RunSpec, resources: SettledResources) -> tuple[str, ...]:
    """The words of a local run: the backend's command or the model's, under a launcher where there are ranks.

    Raises `ConfigError` where neither gives a command, or where a launcher is needed and none is known.
    """
    backend = spec.backend
    command = getattr(backend, "command", None) or spec.model.command
    if command is None:
        raise ConfigError(
            f"there is nothing to run: neither the backend nor the model '{spec.model.name}' has a command",
            [
                Finding(
                    key="backend.command",
                    rule="no command",
                    mend="add backend.command='my_program --option' (or set model.command)",
                )
            ],
        )
    shell = not isinstance(backend, LocalConfig) or backend.shell
    return (*_launcher(spec, resources), *command_words(command, shell=shell))


def command_words(command: str | Sequence[str], *, shell: bool = True) -> tuple[str, ...]:
    """Text through a shell, or split into words; a list as it is."""
    if not isinstance(command, str):
        return tuple(command)
    if shell:
        return (SHELL, "-c", command)
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(
            "the command cannot be split into words",
            [Finding(key="backend.command", value=repr(command), rule=str(error), mend="close the quotes")],
        ) from None


def _launcher(spec: RunSpec, resources: SettledResources) -> list[str]:
    mpiexec = getattr(spec.backend, "mpiexec", None)
    if mpiexec is None and resources.ranks == 1:
        return []
    launcher = mpiexec if mpiexec is not None else spec.site.launcher
    if launcher is None:
        raise ConfigError(
            f"{resources.ranks} ranks need a launcher",
            [Finding(key="backend.mpiexec", rule="no launcher", mend="set backend.mpiexec=mpirun (or site.launcher)")],
        )
    return launcher_argv(launcher, resources.ranks)


def child_environment(
    spec: RunSpec, resources: SettledResources, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The whole environment of a local run: ours, the thread variables, then run, model and backend; later wins.

    `${secret:NAME}` is resolved here, and only here.  Raises `ConfigError` that names every missing secret.
    """
    env = dict(environ)
    env["PATH"] = os.pathsep.join(filter(None, [env.get("PATH") or os.defpath, sysconfig.get_path("scripts")]))
    asked = spec.resources
    if asked.ranks or asked.threads or asked.cpus:
        env |= thread_variables(resources.threads)
    if os.geteuid() == 0 and resources.ranks > 1:  # Open MPI refuses root unless told twice
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    for variables in (spec.env_vars, spec.model.env_vars, spec.backend.env_vars):
        env |= variables
    return resolve_secrets(
        env, {k for v in (spec.env_vars, spec.model.env_vars, spec.backend.env_vars) for k in v}, environ
    )


_SECRET = re.compile(r"\$\{secret:([A-Za-z_][A-Za-z0-9_]*)\}")


def resolve_secrets(env: dict[str, str], keys: set[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Replace `${secret:NAME}` in the variables `keys`: by the value of `NAME`, or what the file `NAME_FILE` holds."""
    findings: list[Finding] = []

    def value_of(key: str, name: str) -> str:
        if name in environ:
            return environ[name]
        if f"{name}_FILE" in environ:
            try:
                return Path(environ[f"{name}_FILE"]).read_text(encoding="utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                rule = f"cannot read the file of secret {name}: {error}"
                findings.append(Finding(key=f"env_vars.{key}", rule=rule))
                return ""
        findings.append(
            Finding(
                key=f"env_vars.{key}",
                value=f"${{secret:{name}}}",
                rule=f"the secret {name} is not set",
                mend=f"set the environment variable {name}, or {name}_FILE to a file that holds it",
            )
        )
        return ""

    out = dict(env)
    for key in keys & env.keys():
        out[key] = _SECRET.sub(lambda match, key=key: value_of(key, match[1]), env[key])  # type: ignore[misc]
    if findings:
        raise ConfigError("secrets are missing", findings)
    return out


def find_program(argv: Sequence[str], *, path: str, install: str | None) -> Path | None:
    """Where the program of `argv` is, None if only the shell can tell or it will be generated.

    Raises `MissingToolError` with what to install where it is certain that there is none.
    """
    word = argv[0]
    if word == SHELL and list(argv[1:2]) == ["-c"]:
        inner = shell_program(argv[2])
        if inner is None:
            return Path(SHELL)
        word = inner
    if "/" in word and not os.path.isabs(word):
        return None  # below the run directory; the executor looks when it is there
    found = shutil.which(word, path=path)
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
            names.update(os.listdir(directory or "."))
        except OSError:  # a PATH entry that is not there is no news
            continue
    return names

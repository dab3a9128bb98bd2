"""From a plan to the words that are executed: command, launcher, environment."""

from __future__ import annotations

import os
import shlex
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from rompy_hydra.backends.config import BaseBackendConfig, LocalConfig
from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.resources import SettledResources, launcher_argv
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.run.placement import placement_variables
from rompy_hydra.run.secret_values import resolve_secrets

SHELL = "/bin/sh"


def own_words(spec: RunSpec) -> tuple[str, ...]:
    """The words of the program itself: the backend's command or the model's, without a launcher.

    Raises `ConfigError` where neither gives a command.
    """
    backend = spec.backend
    key = command_key(backend)
    command = getattr(backend, key, None) or spec.model.command
    if command is None:
        raise ConfigError(
            f"there is nothing to run: neither the backend nor the model '{spec.model.name}' has a command",
            [
                Finding(
                    key=f"backend.{key}",
                    rule="no command",
                    mend=f"add backend.{key}='my_program --option' (or set model.command)",
                )
            ],
        )
    return command_words(command, shell=not isinstance(backend, LocalConfig) or backend.shell)


def command_key(backend: BaseBackendConfig) -> str:
    """The key of a backend that replaces the model's own command."""
    return "executable" if "executable" in type(backend).model_fields else "command"


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


def launcher_words(spec: RunSpec, resources: SettledResources) -> list[str]:
    """The launcher with its number of ranks, empty where there is one rank and nobody asks for a launcher.

    Raises `ConfigError` where one is needed and none is known.
    """
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
    spec: RunSpec,
    resources: SettledResources,
    environ: Mapping[str, str] = os.environ,
    env_files: Sequence[Path] = (),
) -> dict[str, str]:
    """The whole environment of a local run: ours, what holds it in place, then run, model and backend; later wins.

    `${secret:NAME}` is resolved here, and only here (`env_files`: the `.env` files that may hold it).  Raises
    `ConfigError` that names every missing secret.
    """
    env = dict(environ)
    env["PATH"] = os.pathsep.join(filter(None, [env.get("PATH") or os.defpath, sysconfig.get_path("scripts")]))
    launcher = launcher_words(spec, resources)
    env |= placement_variables(spec.resources, resources, launcher=launcher, environ=environ)
    given = {**spec.env_vars, **spec.model.env_vars, **spec.backend.env_vars}
    return env | resolve_secrets(given, environ=environ, env_files=env_files)

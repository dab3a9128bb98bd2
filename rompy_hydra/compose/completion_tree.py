"""What the index of shell completion holds, by Hydra: groups that no repository's files have, trees of keys, scripts.

Imported only when the index is made anew, or a script is printed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.fish_completion import FishCompletion
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rompy_hydra.compose.completion import INNER, PROGRAM
from rompy_hydra.compose.composer import REFUSALS, open_loader
from rompy_hydra.compose.invocation import command_request
from rompy_hydra.compose.loader import Loader
from rompy_hydra.compose.sources import Sources
from rompy_hydra.compose.tree import children, is_branch
from rompy_hydra.errors import RompyHydraError
from rompy_hydra.redaction import looks_like_credential


def groups_beside_files(
    sources: Sources, config_name: str, environ: Mapping[str, str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Group → options, group → groups in it: Hydra's own, those of plug-ins and of the ConfigStore."""
    loader, _ = open_loader(command_request((), sources, config_name, environ=environ))
    options: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    waiting = [""]
    while waiting:
        group = waiting.pop()
        inner = loader.get_group_options(group, ObjectType.GROUP)
        found = loader.get_group_options(group, ObjectType.CONFIG) if group else []
        inner = [name for name in inner if group or name not in INNER]
        if inner:
            groups[group] = inner
        if found:
            options[group] = found
        waiting += [f"{group}/{name}" if group else name for name in inner]
    return options, groups


def tree_of(
    sources: Sources, config_name: str, chosen: Sequence[str], environ: Mapping[str, str], *, multirun: bool
) -> Any:
    """Key → tree or value, as text, of what some choices compose to; nothing of what cannot be composed."""
    request = command_request(chosen, sources, config_name, environ=environ)
    try:
        loader, _ = open_loader(request)
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        with redirect_stderr(io.StringIO()):  # Hydra's parser complains in the person's terminal
            config = _load(loader, request.config_name, [*request.overrides], mode)
    except (RompyHydraError, *REFUSALS, SystemExit, KeyError):
        return {}
    return _plain(config, "")


def _load(loader: Loader, name: str, lines: list[str], mode: RunMode) -> Any:
    return loader.load_configuration(name, lines, mode)


def _plain(node: Any, path: str) -> Any:
    out: dict[str, Any] = {}
    for key, inner in children(node):
        here = f"{path}{key}"
        if is_branch(inner):
            out[str(key)] = _plain(inner, f"{here}.")
        else:
            out[str(key)] = None if looks_like_credential(here) else _text(node, key)
    return out


def _text(parent: Any, key: str | int) -> str | None:
    try:
        value = parent[key]
    except (OmegaConfBaseException, *REFUSALS):
        return None
    if value is None or OmegaConf.is_config(value):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- scripts -----------------------------------------------------------------------------------------------------------


def script(task: str, shell: str) -> str:
    """What `install` or `uninstall` prints: Hydra's script, under names of ours.

    (Those of another Hydra application in the same shell stay its own.)
    """
    plugin = _Fish(_NO_LOADER) if shell == "fish" else _Bash(_NO_LOADER)
    printed = io.StringIO()
    with redirect_stdout(printed):
        plugin.install() if task == "install" else plugin.uninstall()
    text = printed.getvalue().replace("hydra_bash_", "rompy_hydra_bash_").replace("hydra_fish_", "rompy_hydra_fish_")
    if task == "uninstall" and shell != "fish":
        text = f"complete -r {PROGRAM} 2> /dev/null\n{text}"
    return text


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

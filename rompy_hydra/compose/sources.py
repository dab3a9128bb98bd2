"""Where configuration comes from: the user's repositories in the order given, the packaged one last.

A repository is a directory with `conf/` (config groups) and, beside it, `templates/`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rompy_hydra.errors import ConfigError, Finding, did_you_mean

CONFIG_PATH_VARIABLE = "ROMPY_HYDRA_CONFIG_PATH"
_PACKAGE = Path(__file__).resolve().parent.parent


def packaged_dir(kind: str) -> Path:
    """The shipped `conf` or `templates`: inside the package in a wheel, beside it in a checkout.

    Raises `ConfigError` where neither is there (a broken installation).
    """
    for candidate in (_PACKAGE / kind, _PACKAGE.parent / kind):
        if candidate.is_dir():
            return candidate
    raise ConfigError(f"the packaged '{kind}' directory is missing beside {_PACKAGE}; install rompy-hydra again")


@dataclass(frozen=True, slots=True)
class Repository:
    """One place that config options and templates come from."""

    conf: Path
    origin: str  # how it was named: an option, a variable, the current directory, "packaged"

    @property
    def templates(self) -> Path:
        """Its templates (the directory may be missing)."""
        return self.conf.parent / "templates"

    @property
    def is_packaged(self) -> bool:
        """Whether it is the shipped one."""
        return self.origin == "packaged"


@dataclass(frozen=True, slots=True)
class Sources:
    """The repositories in search order; the packaged one is last."""

    repositories: tuple[Repository, ...]

    @property
    def users(self) -> tuple[Repository, ...]:
        """All but the packaged one."""
        return tuple(r for r in self.repositories if not r.is_packaged)

    @property
    def packaged(self) -> Repository:
        """The shipped one."""
        return self.repositories[-1]

    @property
    def template_roots(self) -> list[Path]:
        """Where templates are looked for, in order."""
        return [r.templates for r in self.repositories]


def find_sources(
    config_dirs: Sequence[str] = (),
    *,
    config_path: str | None = None,
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
) -> Sources:
    """The repositories of one invocation.

    `--config-path`, `--config-dir` (several: in the order given), then `ROMPY_HYDRA_CONFIG_PATH` (`:` between
    several), then `./conf` if the current directory has one that answers to one of our groups.  A named one that is
    not there is an error.
    """
    cwd = cwd or Path.cwd()
    packaged = Repository(packaged_dir("conf").resolve(), "packaged")
    named = [(config_path, "--config-path")] if config_path is not None else []
    named += [(name, "--config-dir") for name in config_dirs]
    named += [(name, CONFIG_PATH_VARIABLE) for name in environ.get(CONFIG_PATH_VARIABLE, "").split(":") if name]
    found: list[Repository] = []
    for name, origin in named:
        found.append(Repository(_conf_of(name, origin, cwd), origin))
    local = cwd / "conf"
    if local.is_dir() and _holds_our_groups(local, packaged.conf):
        found.append(Repository(local.resolve(), "current directory"))
    unique: list[Repository] = []
    for repository in [*found, packaged]:
        is_packaged_by_another_name = repository.conf == packaged.conf and not repository.is_packaged
        if not is_packaged_by_another_name and all(repository.conf != other.conf for other in unique):
            unique.append(repository)
    return Sources(tuple(unique))


def _conf_of(name: str, origin: str, cwd: Path) -> Path:
    directory = cwd / Path(name).expanduser()
    if not directory.is_dir():
        raise ConfigError(
            f"config directory {name} does not exist",
            [Finding(key=origin, value=name, rule=f"{directory} is no directory", mend=_mend(name, directory))],
        )
    return (directory / "conf" if (directory / "conf").is_dir() else directory).resolve()


def _mend(name: str, directory: Path) -> str | None:
    if "://" in name:
        return f"a repository is a directory; for more options from elsewhere: hydra.searchpath=[{name}]"
    if directory.is_file():
        return f"name the directory; the file is picked by --config-name {directory.stem}"
    siblings = [p.name for p in directory.parent.glob("*") if p.is_dir()] if directory.parent.is_dir() else []
    return did_you_mean(directory.name, siblings) or None


def _holds_our_groups(conf: Path, packaged: Path) -> bool:
    groups = {p.name for p in packaged.iterdir() if p.is_dir()}
    return any((conf / group).is_dir() for group in groups) or (conf / "config.yaml").is_file()

"""Where configuration comes from: the user's repositories in the order given, the packaged one last.

A repository is a directory with `conf/` (config groups) and, beside it, `templates/`; or one as it was at a revision.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.errors import ConfigError, Finding, did_you_mean

if TYPE_CHECKING:
    from rompy_hydra.compose.revisions import Revision

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
    revision: Revision | None = None  # the commit that it was laid out from

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
    revision: str | None = None,
    may_fetch: bool = True,
) -> Sources:
    """The repositories of one invocation.

    `--config-path`, `--config-dir` (several: in the order given), then `ROMPY_HYDRA_CONFIG_PATH` (`:` between
    several), then `./conf` if the current directory has one that answers to one of our groups.  A named one that is
    not there, or holds no options, is an error.

    With a `revision` (`--rev`) all of them are taken as they were then; a URL that names its own keeps that.
    `may_fetch` says whether the network may be asked.
    """
    cwd = cwd or Path.cwd()
    packaged = Repository(packaged_dir("conf").resolve(), "packaged")
    named = [(config_path, "--config-path")] if config_path is not None else []
    named += [(name, "--config-dir") for name in config_dirs]
    named += [(name, CONFIG_PATH_VARIABLE) for name in _names(environ.get(CONFIG_PATH_VARIABLE, ""))]
    found: list[Repository] = []
    for name, origin in named:
        if name.startswith("git+"):
            from rompy_hydra.compose.revisions import open_url  # here: most commands ask for no revision

            conf, commit = open_url(name, revision=revision, environ=environ, may_fetch=may_fetch)
            found.append(Repository(conf, origin, commit))
        else:
            found.append(_at(revision, Repository(_conf_of(name, origin, cwd), origin), environ))
    local = cwd / "conf"
    if local.is_dir() and _holds_our_groups(local, packaged.conf):
        found.append(_at(revision, Repository(local.resolve(), "current directory"), environ))
    if revision is not None and not found:
        mend = "go to your repository, or name it: --config-dir DIR"
        raise ConfigError(
            "there is no revision to compose from", [Finding("--rev", "needs a repository", revision, mend=mend)]
        )
    unique: list[Repository] = []
    for repository in [*found, packaged]:
        is_packaged_by_another_name = repository.conf == packaged.conf and not repository.is_packaged
        if not is_packaged_by_another_name and all(repository.conf != other.conf for other in unique):
            unique.append(repository)
    return Sources(tuple(unique))


def _names(text: str) -> list[str]:
    """The names in a list with `:` between them; a URL stays whole."""
    return [name for name in re.split(r":(?!//|\d+/)", text) if name]


def _at(revision: str | None, repository: Repository, environ: Mapping[str, str]) -> Repository:
    if revision is None:
        return repository
    from rompy_hydra.compose.revisions import open_work_tree

    conf, commit = open_work_tree(repository.conf, revision, environ=environ)
    return Repository(conf, repository.origin, commit)


def _conf_of(name: str, origin: str, cwd: Path) -> Path:
    directory = cwd / Path(name).expanduser()
    if not directory.is_dir():
        raise ConfigError(
            f"config directory {name} does not exist",
            [Finding(key=origin, value=name, rule=f"{directory} is no directory", mend=_mend(name, directory))],
        )
    if (directory / "conf").is_dir():
        return (directory / "conf").resolve()
    is_root = (directory / ".git").exists() or any(directory.glob("templates/*/template.yaml"))
    if not _holds_our_groups(directory, packaged_dir("conf")) and (is_root or not _holds_options(directory)):
        inner = sorted(path.parent for path in directory.glob("*/conf") if path.is_dir())
        mend = (
            f"did you mean '{inner[0]}'?" if inner else "a repository has conf/GROUP/OPTION.yaml; name that directory"
        )
        raise ConfigError(
            f"config directory {name} holds no options",
            [Finding(key=origin, value=name, rule=f"{directory} has no conf/, and is none", mend=mend)],
        )
    return directory.resolve()


def _holds_options(directory: Path, depth: int = 2) -> bool:
    """Whether a directory can be a `conf` itself: options, in groups or not; a directory of repositories is none."""
    try:
        entries = [entry for entry in os.scandir(directory) if not entry.name.startswith(".")]
    except OSError:
        return True  # reading it will tell
    if any(entry.name.endswith((".yaml", ".yml")) for entry in entries):
        return True
    groups = [Path(entry.path) for entry in entries if entry.is_dir()]
    return depth > 0 and any(_holds_options(g, depth - 1) for g in groups if not (g / "conf").is_dir())


def _mend(name: str, directory: Path) -> str | None:
    if "://" in name:
        return (
            f"a repository is a directory, or git+URL@REV; for more options from elsewhere: hydra.searchpath=[{name}]"
        )
    if directory.is_file():
        return f"name the directory; the file is picked by --config-name {directory.stem}"
    siblings = [p.name for p in directory.parent.glob("*") if p.is_dir()] if directory.parent.is_dir() else []
    return did_you_mean(directory.name, siblings) or None


def _holds_our_groups(conf: Path, packaged: Path) -> bool:
    groups = {p.name for p in packaged.iterdir() if p.is_dir()}
    return any((conf / group).is_dir() for group in groups) or (conf / "config.yaml").is_file()

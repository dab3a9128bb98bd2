"""Where a run came from: revisions of configuration and code, versions, machine, executable."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rompy_hydra.redaction import redact_override

CORE_PACKAGES = ("rompy-hydra", "hydra-core", "omegaconf", "pydantic", "jinja2")
REVISION_FILE = ".rompy-hydra-revision.json"
"""Stands above a tree that was laid out from a commit: `commit` and `url` (compose/revisions.py writes it)."""
_GIT_TIMEOUT_S = 20


def collect(
    *, repositories: Iterable[Path], packages: Sequence[str], executable: Path | None, argv: Sequence[str]
) -> dict[str, Any]:
    """The provenance of a run as plain data."""
    return {
        "config_repositories": [{"path": str(path), **git_state(path)} for path in repositories],
        "code": {"path": str(_package_directory()), **git_state(_package_directory())},
        "packages": versions((*CORE_PACKAGES, *packages)),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": machine(),
        "argv": redact_argv(argv),
        "executable": executable_identity(executable) if executable is not None else None,
    }


def redact_argv(argv: Sequence[str]) -> list[str]:
    """A command line as it may be saved."""
    return [redact_override(word) for word in argv]


def _package_directory() -> Path:
    return Path(__file__).resolve().parent.parent


@lru_cache(maxsize=64)
def git_toplevel(directory: Path) -> Path | None:
    """The top of the work tree that holds a directory; None outside of git, and for what was laid out from a commit."""
    if _laid_out(directory) is not None:
        return None
    return next((d for d in (directory, *directory.parents) if (d / ".git").exists()), None)


@lru_cache(maxsize=64)
def _laid_out(directory: Path) -> tuple[str, str] | None:
    """(commit, repository) of a tree that was laid out from a commit; None for any other."""
    marker = next((d / REVISION_FILE for d in (directory, *directory.parents) if (d / REVISION_FILE).is_file()), None)
    if marker is None:
        return None
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        return str(content["commit"]), str(content["url"])
    except (OSError, ValueError, KeyError):
        return None


def git_state(directory: Path) -> dict[str, Any]:
    """Commit and dirty state of the work tree that holds `directory`; both None outside of git.

    A directory that git ignores or does not track (a package installed inside somebody's checkout) is outside.  A tree
    that was laid out from a commit (`--rev`) is clean by its making; `repository` says where that commit is.
    """
    if (found := _laid_out(directory)) is not None:
        return {"commit": found[0], "dirty": False, "repository": found[1]}
    top = git_toplevel(directory)
    return dict(_status(top)) if top is not None and not _is_installed(directory) else {"commit": None, "dirty": None}


def _is_installed(directory: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(directory.parts))


def prefetch(directories: Iterable[Path]) -> None:
    """Ask git about these directories now; `collect` takes the answers later, while other work went on."""
    if not _asked:
        atexit.register(_stop_asking)
    for directory in (*directories, _package_directory()):
        top = git_toplevel(directory)
        if top is not None and not _is_installed(directory) and top not in _asked:
            _asked[top] = _ask(top)


_asked: dict[Path, subprocess.Popen[bytes] | OSError] = {}


def _stop_asking() -> None:
    """Of a run that was refused nobody takes the answers."""
    while _asked:
        _, asked = _asked.popitem()
        if not isinstance(asked, OSError):
            asked.kill()
            asked.communicate()


def _ask(top: Path) -> subprocess.Popen[bytes] | OSError:
    try:
        return subprocess.Popen(
            ["git", "-C", str(top), "status", "--porcelain=v2", "--branch", "--no-renames"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except OSError as error:  # no git here: said in the record
        return error


@lru_cache(maxsize=64)
def _status(top: Path) -> dict[str, Any]:
    asked = _asked.pop(top, None) or _ask(top)
    if isinstance(asked, OSError):
        return {"commit": None, "dirty": None, "note": f"git gave no answer: {asked}"}
    try:
        answer = asked.communicate(timeout=_GIT_TIMEOUT_S)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        asked.kill()
        asked.communicate()
        return {"commit": None, "dirty": None, "note": f"git gave no answer within {_GIT_TIMEOUT_S} s"}
    if asked.returncode != 0:
        return {"commit": None, "dirty": None, "note": f"git status ended with {asked.returncode}"}
    oid = re.search(r"^# branch\.oid ([0-9a-f]+)$", answer, re.MULTILINE)
    dirty = any(line and not line.startswith("#") for line in answer.splitlines())
    return {"commit": oid[1] if oid else None, "dirty": dirty}


@lru_cache(maxsize=256)
def version_of(package: str) -> str | None:
    """The installed version of a Python distribution, None if it is not installed here."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Package → version; None for what is not installed here."""
    return {package: version_of(package) for package in packages}


@lru_cache(maxsize=1)
def machine() -> dict[str, Any]:
    """Host name, system and CPU model of this machine."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu_model": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def _cpu_model() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model", "cpu model"):
                    return value.strip()
    except OSError:
        pass  # not Linux, or no /proc: the machine's own word must do
    return platform.processor() or platform.machine()


@lru_cache(maxsize=64)
def executable_identity(path: Path) -> dict[str, Any]:
    """Resolved path, size and sha256 of an executable, and the identity that goes into the science id.

    For a script the interpreter's directory (`#!/home/me/.venv/bin/python`) is left out of the identity: the same
    tool installed elsewhere is the same tool.
    """
    resolved = path.resolve()
    try:
        data = resolved.read_bytes()
    except OSError as error:
        return {"path": str(resolved), "sha256": None, "identity": None, "note": str(error.strerror)}
    digest = hashlib.sha256(data).hexdigest()
    return {"path": str(resolved), "bytes": len(data), "sha256": digest, "identity": _place_free(data, digest)}


def _place_free(data: bytes, digest: str) -> str:
    if not data.startswith(b"#!"):
        return digest
    # A console script whose path is too long for one line hides its interpreter behind /bin/sh and `exec`.
    text = re.sub(rb"\A#![^\n]*\n(?:'''exec' [^\n]*\n' '''\n)?", b"", data)
    return hashlib.sha256(text).hexdigest()

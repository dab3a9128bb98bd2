"""Plans of commands that were composed and validated before: the same command again need not import Hydra.

    overrides, repositories, environment → recall → RunPlan      (stdlib and pydantic only)
                                         → compose, to_plan → keep

An entry is used only if nothing that composing looked at has changed: the command, the directory, every file of the
repositories (by path, times, size, inode), the variables that were read, the installed packages, our own code.  The
values are validated again, so paths that are gone are found.  What is no pure function of these things (a resolver
such as `now` or `host.cpus`), and whatever holds a credential, is never kept.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra import __version__
from rompy_hydra.compose.site_choice import with_site
from rompy_hydra.compose.sources import Sources
from rompy_hydra.redaction import REDACTED, looks_like_credential, redact, redact_override, redact_text

if TYPE_CHECKING:
    from rompy_hydra.compose.composer import Composition
    from rompy_hydra.plan.run_plan import RunPlan

SWITCH_VARIABLE = "ROMPY_HYDRA_CACHE"
FORMAT = 1
_KEPT_AT_MOST = 64
_LARGEST_BYTES = 1 << 20
_FILES_AT_MOST = 5000
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_VARIABLE_PREFIXES = ("ROMPY_", "HYDRA_", "XDG_")
_VARIABLES = ("HOME", "USER")
# What these give depends on nothing but the key (`hydra` reads this composition; `oc.env` is watched).
_PURE_RESOLVERS = frozenset(
    {
        *("oc.env", "oc.select", "oc.decode", "oc.create", "oc.deprecated", "oc.dict.keys", "oc.dict.values"),
        *("hydra", "secret", "rompy.min", "rompy.max", "rompy.mul", "rompy.floordiv"),
    }
)
_HARMLESS_OF_HYDRA = frozenset({"hydra.run", "hydra.run.dir"})
_STEADY_OF_HYDRA = ("runtime.", "job.")
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0/o, 1/l/i: read aloud and typed again

Stat = list[str | int]


def mint() -> str:
    """The identity of this invocation: UTC time and four random characters, `20261124T061502Z-k3f9`."""
    letters = [_ALPHABET[byte % 31] for byte in os.urandom(32) if byte < 248][:4]  # 248 = 8 × 31: no letter is favoured
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{''.join(letters)}"


def plan_of_command(
    overrides: Sequence[str],
    sources: Sources,
    config_name: str,
    *,
    cwd: Path,
    environ: Mapping[str, str] = os.environ,
) -> tuple[RunPlan, Composition | None]:
    """The plan that a command line asks for, and the composition that it comes from (None: it was known).

    Raises as `compose_command` and `to_plan` do.
    """
    overrides = with_site(overrides, sources, environ)
    command = Command(overrides, sources, config_name, cwd=cwd, environ=environ)
    if (plan := command.recall()) is not None:
        return plan, None
    from rompy_hydra.compose.bridge import to_plan
    from rompy_hydra.compose.invocation import compose_command

    with command.watching():
        composition = compose_command(overrides, sources, config_name, environ=environ)
        plan = to_plan(composition, cwd=cwd)
    command.keep(plan, composition)
    return plan, composition


class Command:
    """One command line, and what its plan depends on."""

    def __init__(
        self, overrides: Sequence[str], sources: Sources, config_name: str, *, cwd: Path, environ: Mapping[str, str]
    ) -> None:
        self._environ = environ
        self._sources = sources
        self._began = time.time()
        self._key: dict[str, Any] = {
            "format": FORMAT,
            "version": __version__,
            "python": [sys.version, sys.executable],
            "overrides": list(overrides),
            "config_name": config_name,
            "repositories": [[str(repository.conf), repository.origin] for repository in sources.repositories],
            "cwd": str(cwd),
            "user": os.geteuid(),
            "variables": _fixed_variables(environ),
        }
        self._directory = cache_directory(environ)
        name = zlib.crc32(json.dumps(self._key, sort_keys=True).encode(errors="surrogateescape"))
        self._path = None if self._directory is None else os.path.join(self._directory, f"{name:08x}.json")
        self._state: list[Stat] | None = None
        self._called: set[str] = set()
        self._read: dict[str, str | None] = {}

    def recall(self) -> RunPlan | None:
        """The plan of the same command under the same conditions, with an identity of its own; None: not known."""
        if self._path is None:
            return None
        try:
            entry = read_own_file(self._path)
            if entry["key"] != self._key or any(self._environ.get(n) != v for n, v in entry["read"].items()):
                return None
            if entry["state"] != self._look():
                return None
            text: str = entry["plan"].replace(entry["invocation"], mint())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        from rompy_hydra.plan.run_plan import RunPlan

        try:
            return RunPlan.model_validate_json(text)
        except ValueError:
            return None  # a path is gone, a plug-in too: composing says it with its place

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note which resolvers are called and which variables they read, while something is composed."""
        if self._path is None:
            yield
            return
        self._look()
        from omegaconf.base import Container
        from omegaconf.basecontainer import BaseContainer

        command = self

        class Watched(dict[str, Any]):
            def __getitem__(self, name: str) -> Any:
                resolver = super().__getitem__(name)

                def call(root: Container, parent: Container, node: Any, args: Any, args_str: Any) -> Any:
                    command._note(name, args, node)
                    return resolver(root, parent, node, args, args_str)

                return call

        before = BaseContainer._resolvers
        BaseContainer._resolvers = Watched(before)
        try:
            yield
        finally:
            BaseContainer._resolvers = dict(BaseContainer._resolvers.items())

    def keep(self, plan: RunPlan, composition: Composition) -> None:
        """Keep a plan for the next time, unless it holds a credential or depends on more than we can see."""
        if self._path is None or self._state is None or not self._may_be_kept(composition):
            return
        try:
            data = plan.model_dump(mode="json", by_alias=True)
            text = json.dumps(data)
            if REDACTED in text or _without_credentials(data) != data or len(text) > _LARGEST_BYTES:
                return
            if type(plan).model_validate_json(text) != plan:
                return
        except (ValueError, TypeError, RecursionError):
            return  # something in it has no form in JSON that comes back
        entry = {
            "key": self._key,
            "read": self._read,
            "state": self._state,
            "invocation": composition.request.invocation,
            "plan": text,
        }
        try:
            write_own_file(self._path, json.dumps(entry))
        except (OSError, ValueError):
            return  # a full or read-only disk: the next command composes again

    def _may_be_kept(self, composition: Composition) -> bool:
        overrides = [str(text) for text in self._key["overrides"]]
        return (
            self._called <= _PURE_RESOLVERS
            and not composition.renamed  # each command that says an old name is to be told
            and set(composition.hydra_set) <= _HARMLESS_OF_HYDRA
            and "now:" not in str(composition.hydra.run._get_node("dir"))
            and not any(map(looks_like_credential, self._read))
            and all(redact_override(text) == text for text in overrides)
            and not any(_is_too_fresh(stat, self._began) for stat in self._state or ())
        )

    def _note(self, name: str, args: Sequence[Any], node: Any) -> None:
        first = str(args[0]) if args else ""
        if name == "now" and node is not None and str(node._get_full_key(None)).startswith("hydra."):
            return  # Hydra's own default directories, looked at while they are merged; none of them is ours
        if name == "hydra" and not first.startswith(_STEADY_OF_HYDRA):
            name = f"hydra:{first}"
        self._called.add(name)
        if name == "oc.env":
            self._read[first] = self._environ.get(first)

    def _look(self) -> list[Stat] | None:
        """The state of every file that composing may look at, taken before it does; None: they are too many."""
        if self._state is None:
            state: list[Stat] = []
            for repository in self._sources.repositories:
                for top in (repository.conf, repository.templates):
                    look_below(str(top), state)
            if len(state) > _FILES_AT_MOST:
                return None
            state += [installed_in(directory or ".") for directory in dict.fromkeys(sys.path)]
            state.append(our_own_code())
            self._state = state
        return self._state


def _fixed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(environ.items())
        if (name in _VARIABLES or name.startswith(_VARIABLE_PREFIXES)) and not looks_like_credential(name)
    }


def cache_directory(environ: Mapping[str, str], kind: str = "plans") -> str | None:
    """Where we keep what can be made again; None if that is not wanted, or there is no place."""
    base = environ.get("XDG_CACHE_HOME") or (os.path.join(environ["HOME"], ".cache") if environ.get("HOME") else "")
    if not os.path.isabs(base) or environ.get(SWITCH_VARIABLE, "").lower() in ("off", "0", "no", "false"):
        return None
    return os.path.join(base, "rompy-hydra", kind)


def look_below(top: str, state: list[Stat]) -> None:
    """Every file and directory below, links followed; one that leads back up ends at the limit."""
    folders = [top]
    while folders and len(state) <= _FILES_AT_MOST:
        folder = folders.pop()
        _add_stat(folder, state)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.path)
            else:
                _add_stat(entry.path, state)


def _add_stat(path: str, state: list[Stat]) -> None:
    try:
        info = os.stat(path)
    except OSError:
        state.append([path, -1, -1, -1, -1])
        return
    state.append([path, info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino])


def installed_in(directory: str) -> Stat:
    """One line for the packages that a directory of the path says are installed in it."""
    names, latest = [], 0
    try:
        with os.scandir(directory) as found:
            for entry in found:
                if entry.name.endswith((".dist-info", ".egg-info")):
                    names.append(entry.name)
                    latest = max(latest, entry.stat().st_mtime_ns)
    except OSError:
        return [directory, -1, -1, -1, -1]
    return [directory, latest, latest, len(names), zlib.crc32("\n".join(sorted(names)).encode(errors="replace"))]


def our_own_code() -> Stat:
    """One line for all modules of ours: in a checkout they change without a new version."""
    count, size, latest = 0, 0, 0
    folders = [_PACKAGE]
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.name.endswith(".py"):
                    info = entry.stat()
                    count, size, latest = count + 1, size + info.st_size, max(latest, info.st_mtime_ns)
                elif entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)
    return [_PACKAGE, latest, latest, size, count]


def _is_too_fresh(stat: Stat, began: float) -> bool:
    """Whether a file could change once more without showing it: its last change is younger than its clock's tick."""
    _, modified, changed, *_ = stat
    last = max(int(modified), int(changed))
    tick_s = 2.0 if last % 1_000_000 == 0 else 0.05  # whole milliseconds: a clock that is no finer
    return last / 1e9 > began - tick_s


def _without_credentials(data: Any) -> Any:
    return _clean(redact(data))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def read_own_file(path: str) -> dict[str, Any]:
    """A JSON file that nobody else could have written."""
    with open(path, encoding="utf-8") as file:
        info = os.fstat(file.fileno())
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise ValueError("somebody else could have written it")
        entry = json.load(file)
    if not isinstance(entry, dict):
        raise ValueError("no entry")
    return entry


def write_own_file(path: str, text: str) -> None:
    """Write it aside, then in place, for nobody else to write; the oldest beside it go."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    aside = f"{path}.{os.getpid()}"
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    except OSError:
        os.unlink(aside)
        raise
    _forget_the_oldest(directory)


def _forget_the_oldest(directory: str) -> None:
    with os.scandir(directory) as found:
        files = sorted((entry.stat().st_mtime_ns, entry.path) for entry in found if entry.is_file())
    for _, path in files[:-_KEPT_AT_MOST]:
        try:
            os.unlink(path)
        except OSError:
            continue  # another command of ours was quicker

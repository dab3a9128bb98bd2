"""Which backends exist: the built-in ones, registered in code, and the plug-ins, by the names of their entry points.

A plug-in is up to two entry points of one name: `…run` gives the class that runs, `…config` the configuration class.
One of them is enough.  A plug-in may take the place of a built-in of its name; two packages with one name are an error
for whoever asks for that name; a plug-in that cannot be imported is told with its package and cause, and harms nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from rompy_hydra.backends import discovery
from rompy_hydra.backends.discovery import BrokenPluginError, Entry
from rompy_hydra.errors import ConfigError, Finding, did_you_mean

if TYPE_CHECKING:
    from rompy_hydra.backends.config import BaseBackendConfig

_BUILT_IN = {
    "local": ("LocalConfig", "LocalRunBackend"),
    "docker": ("DockerConfig", "DockerRunBackend"),
    "slurm": ("SlurmConfig", "SlurmRunBackend"),
}
BUILT_IN_PACKAGE = "rompy-hydra"
Seen = Literal["config", "run", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backend that can be used: its name, its two classes, and who brings it."""

    name: str
    package: str
    config: Callable[[], type[BaseBackendConfig]]
    run: Callable[[], type[Any]]
    replaces_built_in: bool = False

    @property
    def is_built_in(self) -> bool:
        """Whether it is one of ours."""
        return self.package == BUILT_IN_PACKAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A name that cannot be used as its package means it, and why."""

    name: str
    packages: tuple[str, ...]
    cause: str
    is_conflict: bool = False


def backend_types() -> list[str]:
    """The names that `type:` may have.  Plug-ins are imported to tell them from ROMPY's model configurations."""
    return sorted(backends()[0])


def known_names() -> list[str]:
    """The names to hint at: as `backend_types`, but nothing is imported."""
    return sorted({*_BUILT_IN, *(entry.name for entry in discovery.entries("run"))})


def plugin_names() -> list[str]:
    """The names under which plug-ins may be registered, built-in names among them; nothing is imported."""
    return sorted({entry.name for kind in ("run", "config") for entry in discovery.entries(kind)})


def is_replaced(name: str) -> bool | None:
    """Whether a plug-in takes the place of the built-in of that name; None for a name that is no built-in's."""
    if name not in _BUILT_IN:
        return None
    found, _ = _look_up(name)
    return found is not None and found.replaces_built_in


def backends() -> tuple[dict[str, Backend], list[Problem]]:
    """Every backend that can be used, by name, and every plug-in that cannot."""
    usable: dict[str, Backend] = {}
    problems: list[Problem] = []
    for name in sorted({*_BUILT_IN, *plugin_names()}):
        found, wrong = _look_up(name)
        problems += wrong
        if found is not None:
            usable[name] = found
    return usable, problems


def find(backend_type: str) -> Backend:
    """One backend; `ConfigError` says why there is none, and lists the known ones."""
    found, problems = _look_up(backend_type)
    conflict = next((p for p in problems if p.is_conflict), None)
    if found is not None and conflict is None:
        for problem in problems:
            _warn(problem.name, f"{problem.cause}; {found.package}'s '{found.name}' is used")
        return found
    if problems:
        worst = conflict or problems[0]
        raise ConfigError(
            f"the backend '{backend_type}' cannot be used",
            [
                Finding(
                    key="backend.type",
                    value=repr(backend_type),
                    rule=worst.cause,
                    mend=f"uninstall one of {' and '.join(worst.packages)}"
                    if worst.is_conflict
                    else f"mend or uninstall {worst.packages[0]}",
                )
            ],
        )
    raise ConfigError(
        f"there is no backend '{backend_type}'",
        [
            Finding(
                key="backend.type",
                value=repr(backend_type),
                rule="no such backend",
                mend=did_you_mean(str(backend_type), known_names()),
            )
        ],
    )


def config_class(backend_type: str) -> type[BaseBackendConfig]:
    """The configuration class of a backend type; `ConfigError` lists the known ones."""
    return find(backend_type).config()


def backend_class(backend_type: str) -> type[Any]:
    """The class that runs a backend type: `run(model_run, config) -> bool`; `ConfigError` lists the known ones."""
    return find(backend_type).run()


def get_available_backends() -> dict[str, type[Any]]:
    """Name → backend class (`run(model_run, config) -> bool`) of every backend that can be used.

    Plug-ins that cannot are left out with a warning in the log of `rompy_hydra.backends`; `backends` lists them.
    """
    usable, problems = backends()
    classes: dict[str, type[Any]] = {}
    for name, backend in usable.items():
        try:
            classes[name] = backend.run()
        except ConfigError as error:
            problems.append(Problem(name=name, packages=(backend.package,), cause=str(error)))
    for problem in problems:
        _warn(problem.name, problem.cause)
    return classes


@lru_cache(maxsize=128)
def _warn(name: str, cause: str) -> None:
    """Once for each: a registry is asked often."""
    import logging

    logging.getLogger(__name__).warning("the backend plug-in '%s' is left out: %s", name, cause)


def names_of_class(cls: type[Any]) -> list[str]:
    """The names under which a configuration class is registered, found without importing anything new."""
    import sys

    names = []
    for entry in discovery.entries("config"):
        module = sys.modules.get(entry.point.module)
        if module is not None and _attribute(module, entry.point.attr) is cls:
            names.append(entry.name)
    return sorted(set(names))


def _attribute(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


# -- one name ----------------------------------------------------------------------------------------------------


def _look_up(name: str) -> tuple[Backend | None, list[Problem]]:
    built_in = _built_in(name) if name in _BUILT_IN else None
    entries = discovery.entries_named(name, "config", "run")
    if not entries:
        return built_in, []
    good, problems = _sorted_out(name, entries)
    packages = sorted({entry.origin for entry, _, _ in good})
    if len(packages) > 1:
        cause = f"two plug-ins register the backend '{name}': {' and '.join(packages)}"
        return None, [*problems, Problem(name=name, packages=tuple(packages), cause=cause, is_conflict=True)]
    if not good:
        return built_in, problems
    return _plugin(name, packages[0], {seen: found for _, seen, found in good}, built_in), problems


def _sorted_out(name: str, entries: Iterable[Entry]) -> tuple[list[tuple[Entry, Seen, Any]], list[Problem]]:
    """The entries that make a backend, loaded; and those that cannot be.

    A half-broken plug-in is a broken one: its other half does not stay in use.
    """
    good: list[tuple[Entry, Seen, Any]] = []
    problems: list[Problem] = []
    for entry in entries:
        try:
            found = entry.load()
        except BrokenPluginError as error:
            problems.append(Problem(name=name, packages=(entry.origin,), cause=str(error)))
            continue
        seen = _what_it_is(entry, found)
        if seen != "other":
            good.append((entry, seen, found))
        elif entry.kind == "run":
            cause = f"{entry.value} of the package {entry.origin} has no method run(model_run, config)"
            problems.append(Problem(name=name, packages=(entry.origin,), cause=cause))
    if (config := _only_a_config_without_a_backend(good)) is not None:
        cause = f"{config.value} of the package {config.origin} names no backend class (get_backend_class, or `…run`)"
        problems.append(Problem(name=name, packages=(config.origin,), cause=cause))
    broken = {problem.packages[0] for problem in problems}
    return [item for item in good if item[0].origin not in broken], problems


def _only_a_config_without_a_backend(good: list[tuple[Entry, Seen, Any]]) -> Entry | None:
    from rompy_hydra.backends.config import BaseBackendConfig

    for entry, seen, found in good:
        has_run = any(other.origin == entry.origin and kind == "run" for other, kind, _ in good)
        inherited = BaseBackendConfig.get_backend_class
        if seen == "config" and not has_run and found.get_backend_class is inherited:
            return entry
    return None


def _what_it_is(entry: Entry, found: Any) -> Seen:
    """`rompy.config` holds ROMPY's *model* configurations too: they are told apart by their base class."""
    from rompy_hydra.backends.config import BaseBackendConfig

    if entry.kind == "run":
        return "run" if callable(getattr(found, "run", None)) else "other"
    return "config" if isinstance(found, type) and issubclass(found, BaseBackendConfig) else "other"


def _built_in(name: str) -> Backend:
    config_name, run_name = _BUILT_IN[name]

    def config() -> type[BaseBackendConfig]:
        import rompy_hydra.backends.config as classes

        found: type[BaseBackendConfig] = getattr(classes, config_name)
        return found

    def run() -> type[Any]:
        from rompy_hydra import run as backends

        found: type[Any] = getattr(backends, run_name)
        return found

    return Backend(name=name, package=BUILT_IN_PACKAGE, config=config, run=run)


def _plugin(name: str, package: str, found: dict[Seen, Any], built_in: Backend | None) -> Backend:
    if "config" in found:
        config = _named(found["config"], name)
    elif built_in is not None:
        config = _configured_as(built_in.config(), name, found["run"])
    else:
        from rompy_hydra.backends.config import BaseBackendConfig

        config = _configured_as(BaseBackendConfig, name, found["run"])

    def run() -> type[Any]:
        if "run" in found:
            return found["run"]  # type: ignore[no-any-return]  # whatever the entry point names
        # Nothing but its class decides: no field needs a value for that.
        return config.model_construct(type=name).get_backend_class()

    return Backend(name=name, package=package, config=lambda: config, run=run, replaces_built_in=built_in is not None)


@lru_cache(maxsize=128)
def _named(cls: type[BaseBackendConfig], name: str) -> type[BaseBackendConfig]:
    """The class; or, if it calls its type otherwise than its entry point, a child of it with the right one."""
    field = cls.model_fields["type"]
    if field.default == name or not cls.has_type_of_its_own() or name in get_args(field.annotation):
        return cls
    return _child(cls, name, {})


@lru_cache(maxsize=128)
def _configured_as(cls: type[BaseBackendConfig], name: str, run_class: type[Any]) -> type[BaseBackendConfig]:
    """A configuration class for a plug-in that brings none."""
    members = {
        "__doc__": f"What every backend has; {run_class.__qualname__} brings no configuration of its own.",
        "get_backend_class": lambda _: run_class,
    }
    return _child(cls, name, members)


def _child(cls: type[BaseBackendConfig], name: str, members: dict[str, Any]) -> type[BaseBackendConfig]:
    words = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
    body = {"__module__": __name__, "__annotations__": {"type": Literal[name]}, "type": name, **members}
    metaclass: Any = type(cls)
    child: type[BaseBackendConfig] = metaclass(f"{words}Config", (cls,), body)
    return child

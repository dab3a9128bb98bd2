"""Which backends exist: the built-in ones, registered in code.  Discovery costs nothing until it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import ConfigError, Finding, did_you_mean

if TYPE_CHECKING:
    from rompy_hydra.backends.config import BaseBackendConfig

_BUILT_IN = {"local": "LocalConfig", "docker": "DockerConfig", "slurm": "SlurmConfig"}


def backend_types() -> list[str]:
    """The names that `type:` may have."""
    return sorted(_BUILT_IN)


def config_class(backend_type: str) -> type[BaseBackendConfig]:
    """The configuration class of a backend type; `ConfigError` lists the known ones."""
    if backend_type not in _BUILT_IN:
        raise ConfigError(
            f"there is no backend '{backend_type}'",
            [
                Finding(
                    key="backend.type",
                    value=repr(backend_type),
                    rule="no such backend",
                    mend=did_you_mean(str(backend_type), backend_types()),
                )
            ],
        )
    import rompy_hydra.backends.config as classes

    found: type[BaseBackendConfig] = getattr(classes, _BUILT_IN[backend_type])
    return found


def get_available_backends() -> dict[str, type[Any]]:
    """Name → backend class (`run(model_run, config) -> bool`) of every backend there is."""
    from rompy_hydra import run

    return {name: getattr(run, f"{name.capitalize()}RunBackend") for name in _BUILT_IN}

"""The seed's public names: backend configurations and the registry (looked up lazily)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rompy_hydra.backends.config import BackendConfig, BaseBackendConfig, DockerConfig, LocalConfig, SlurmConfig
    from rompy_hydra.backends.loading import load_config, load_configs
    from rompy_hydra.backends.registry import get_available_backends

_HOMES = {
    "BackendConfig": "config",
    "BaseBackendConfig": "config",
    "LocalConfig": "config",
    "DockerConfig": "config",
    "SlurmConfig": "config",
    "get_available_backends": "registry",
    "load_config": "loading",
    "load_configs": "loading",
}

__all__ = [
    "BackendConfig",
    "BaseBackendConfig",
    "DockerConfig",
    "LocalConfig",
    "SlurmConfig",
    "get_available_backends",
    "load_config",
    "load_configs",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"rompy_hydra.backends.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rompy_hydra.backends' has no attribute {name!r}")

"""Executors: a `Job` goes in, an `Outcome` comes out; each foreign tool in one file, imported lazily.

The seed's backend classes are looked up here too: `LocalRunBackend`, `DockerRunBackend`, `SlurmRunBackend`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rompy_hydra.run.seed_backends import DockerRunBackend, LocalRunBackend, SlurmRunBackend

__all__ = ["DockerRunBackend", "LocalRunBackend", "SlurmRunBackend"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from rompy_hydra.run import seed_backends

        return getattr(seed_backends, name)
    raise AttributeError(f"module 'rompy_hydra.run' has no attribute {name!r}")

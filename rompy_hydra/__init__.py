"""rompy_hydra: declarative configuration for simulation runs.

Importing does no work: the public names are looked up when they are first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ModelRun": "rompy_hydra.model",
    "RunPlan": "rompy_hydra.plan.run_plan",
    "RunState": "rompy_hydra.record.states",
    "Outcome": "rompy_hydra.record.outcome",
    "LocalConfig": "rompy_hydra.backends.config",
    "DockerConfig": "rompy_hydra.backends.config",
    "SlurmConfig": "rompy_hydra.backends.config",
    "RompyHydraError": "rompy_hydra.errors",
    "collect": "rompy_hydra.collection",
}

if TYPE_CHECKING:
    from rompy_hydra.backends.config import DockerConfig, LocalConfig, SlurmConfig
    from rompy_hydra.collection import collect
    from rompy_hydra.errors import RompyHydraError
    from rompy_hydra.model import ModelRun
    from rompy_hydra.plan.run_plan import RunPlan
    from rompy_hydra.record.outcome import Outcome
    from rompy_hydra.record.states import RunState

__all__ = [
    "DockerConfig",
    "LocalConfig",
    "ModelRun",
    "Outcome",
    "RompyHydraError",
    "RunPlan",
    "RunState",
    "SlurmConfig",
    "__version__",
    "collect",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rompy_hydra' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

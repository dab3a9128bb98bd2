"""The adapter for seed-style backends: a class with `run(model_run, config) -> bool` as a job of the local executor.

    plan → SeedBackendCall (this) → Job.target → keeper → child process: run(model_run, config) → Outcome

The class runs in a child process of its own, so it can be killed, timed out, measured and logged like any program:
True is success, False or an exception is failure with its reason.  What it does in there is its own affair: to a dry
run it is opaque.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rompy_hydra.backends.config import BaseBackendConfig, DockerConfig, LocalConfig, SlurmConfig
from rompy_hydra.errors import ConfigError, Finding, RompyHydraError
from rompy_hydra.plan.run_plan import RunPlan

LOG_LEVEL_VARIABLE = "LOG_LEVEL"


def seed_backend(config: BaseBackendConfig) -> Any:
    """The foreign class that runs a configuration; None where one of our own executors does.

    Raises `ConfigError` where the configuration cannot name its class.
    """
    if type(config) in (LocalConfig, DockerConfig, SlurmConfig):
        return None
    from rompy_hydra.run import seed_backends

    try:
        found = config.get_backend_class()
    except RompyHydraError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the backend '{config.type}' has no class that runs it",
            [
                Finding(
                    key="backend.type",
                    value=repr(config.type),
                    rule=f"{type(config).__qualname__}.get_backend_class(): {type(error).__name__}: {error}",
                    mend=f"mend or reinstall the package that brings {type(config).__module__}",
                )
            ],
        ) from error
    return None if found in seed_backends.OURS else found


def executor_of(config: BaseBackendConfig) -> str:
    """The type whose executor runs a configuration: its own, or local for the class of a plug-in."""
    return config.type if seed_backend(config) is None else "local"


class SeedBackendCall:
    """The call of a seed-style backend, for `Job.target`; it happens in the run's child process.

    `model_run` is what the backend gets to see of the run: the caller's `ModelRun`, or one made from `plan`.
    """

    def __init__(self, backend: Any, plan: RunPlan, model_run: Any = None, workspace: Path | None = None) -> None:
        self.__qualname__ = f"{_name(backend)}.run"  # named in the reason of a failure
        self._backend = backend
        self._plan = plan
        self._model_run = model_run
        self._workspace = workspace

    def placed(self, run_dir: Path, workspace: Path) -> SeedBackendCall:
        """The same call for the directory that the run got, its workspace filled."""
        from rompy_hydra.model import ModelRun

        run = self._model_run if self._model_run is not None else ModelRun.from_plan(self._plan)
        return SeedBackendCall(self._backend, self._plan, run.placed(run_dir, workspace), workspace)

    def __call__(self) -> object:
        """Run it; what comes back is falsy if the run failed."""
        _log_to_stderr()
        backend = self._backend() if isinstance(self._backend, type) else self._backend
        options = {"workspace_dir": str(self._workspace)} if _takes(backend.run, "workspace_dir") else {}
        answer = backend.run(self._model_run, self._plan.spec.backend, **options)
        return _NoAnswer() if answer is None else answer


def seed_call(plan: RunPlan, model_run: Any = None) -> SeedBackendCall | None:
    """The call that runs a plan whose backend is seed-style; None where one of our own executors runs it."""
    backend = seed_backend(plan.spec.backend)
    return None if backend is None else SeedBackendCall(backend, plan, model_run)


class _NoAnswer:
    """Stands for a None where True or False was promised."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "None, where a backend answers True or False"


def _name(backend: Any) -> str:
    return str(getattr(backend, "__qualname__", type(backend).__qualname__))


def _takes(method: Callable[..., Any], parameter: str) -> bool:
    import inspect

    try:
        return parameter in inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


def _log_to_stderr() -> None:
    """What the backend logs goes to the run's stderr log, from INFO on or from what LOG_LEVEL says.

    We are in the child: the handlers that the driver had are not ours to write to.
    """
    import logging

    root = logging.getLogger()
    level = logging.getLevelName(os.environ.get(LOG_LEVEL_VARIABLE, "").upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(level if isinstance(level, int) else min(root.level or logging.INFO, logging.INFO))

"""The seed's backend classes over the workflow: `LocalRunBackend().run(model_run, config) -> bool`."""

from __future__ import annotations

import os
from typing import Any, ClassVar


class _OurBackend:
    """One method, the seed's: run a model under a configuration and answer a bool."""

    type: ClassVar[str] = ""

    def run(self, model_run: Any, config: Any, workspace_dir: str | os.PathLike[str] | None = None) -> bool:
        """Run `model_run` as `config` says.

        It is a `ModelRun`, or anything with `run_id` and `output_dir`; what its `generate()` answers is then the
        workspace, and without a command its `config.run(model_run)` is called in a child process.  The record tells
        more than the bool.  Raises `ValueError` for what is no run at all, and what `ModelRun.run` raises.
        """
        from rompy_hydra.model import ModelRun

        if model_run is None:
            raise ValueError("model_run cannot be None: give a ModelRun")
        if not isinstance(model_run, ModelRun):
            if not hasattr(model_run, "run_id"):
                raise ValueError(f"model_run must have a run_id attribute, and {type(model_run).__name__} has none")
            model_run, workspace_dir = _as_model_run(model_run, config, workspace_dir)
        return bool(model_run.run(backend=config, workspace_dir=workspace_dir))


def _as_model_run(foreign: Any, config: Any, workspace_dir: Any) -> tuple[Any, Any]:
    """A stranger's run object as one of ours, and the workspace that it generated."""
    from rompy_hydra.model import ModelRun

    if workspace_dir is None and callable(generate := getattr(foreign, "generate", None)):
        made = generate()
        workspace_dir = made if isinstance(made, (str, os.PathLike)) and os.path.isdir(made) else None  # noqa: PTH112
    model = None
    if getattr(config, "command", None) is None and callable(getattr(getattr(foreign, "config", None), "run", None)):
        model = _RunOfConfig(foreign)
    run = ModelRun(run_id=str(foreign.run_id), output_dir=str(foreign.output_dir), model=model, on_existing="new")
    return run, workspace_dir


class _RunOfConfig:
    """ROMPY's way to run without a command: `model_run.config.run(model_run)`."""

    def __init__(self, foreign: Any) -> None:
        self._foreign = foreign

    def run(self) -> object:
        """Called in the run's child process."""
        return self._foreign.config.run(self._foreign)


class LocalRunBackend(_OurBackend):
    """Runs on this machine."""

    type = "local"


class DockerRunBackend(_OurBackend):
    """Runs in a container."""

    type = "docker"


class SlurmRunBackend(_OurBackend):
    """Runs as a batch job."""

    type = "slurm"


OURS: frozenset[type[Any]] = frozenset({LocalRunBackend, DockerRunBackend, SlurmRunBackend})
__all__ = ["OURS", "DockerRunBackend", "LocalRunBackend", "SlurmRunBackend"]

"""The seed's backend classes over the workflow: `LocalRunBackend().run(model_run, config) -> bool`."""

from __future__ import annotations

from typing import Any, ClassVar


class _SeedBackend:
    """One method, the seed's: run a model under a configuration and answer a bool."""

    type: ClassVar[str] = ""

    def run(self, model_run: Any, config: Any, workspace_dir: str | None = None) -> bool:
        """Run `model_run` (a `ModelRun`, or anything with `run_id` and `output_dir`) as `config` says."""
        from rompy_hydra.model import ModelRun

        if not isinstance(model_run, ModelRun):
            model_run = ModelRun(run_id=str(model_run.run_id), output_dir=str(model_run.output_dir), on_existing="new")
        return bool(model_run.run(backend=config, workspace_dir=workspace_dir))


class LocalRunBackend(_SeedBackend):
    """Runs on this machine."""

    type = "local"


class DockerRunBackend(_SeedBackend):
    """Runs in a container."""

    type = "docker"


class SlurmRunBackend(_SeedBackend):
    """Runs as a batch job."""

    type = "slurm"


__all__ = ["DockerRunBackend", "LocalRunBackend", "SlurmRunBackend"]

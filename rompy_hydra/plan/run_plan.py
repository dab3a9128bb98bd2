"""`RunPlan`: one run as it is intended, validated and frozen; it knows nothing of Hydra and does no I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from rompy_hydra.backends.config import HouseModel
from rompy_hydra.plan.spec import RunSpec


class Reproduced(HouseModel):
    """What a plan that was made from the record of an earlier run knows of it.

    `run_id`, `science_id` and `provenance` are the record's; `inputs`: name in the workspace → (identity, sample);
    `confs` and `diffs` are the earlier run's snapshot; `overrides` were given on top, and `left_out` of
    the recorded ones mean nothing with them.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    directory: Path
    science_id: str
    provenance: dict[str, Any]
    inputs: dict[str, tuple[str, str]] = Field(default_factory=dict)
    confs: tuple[Path, ...] = ()
    diffs: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class RunPlan(HouseModel):
    """What the bridge hands to the workflow.

    `spec` is the validated configuration, `parameters` the template's parameters in their types, `config` the
    resolved tree free of secrets (for the record), `hydra_files` the texts of `.hydra/`.  `reproduced` tells of the run
    whose record it was made from.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    spec: RunSpec
    parameters: dict[str, Any] = Field(default_factory=dict)
    base: Path  # where relative inputs start: the directory the command was typed in
    template_directory: Path | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    choices: dict[str, str | None] = Field(default_factory=dict)
    repositories: tuple[Path, ...] = ()
    hydra_files: dict[str, str] = Field(default_factory=dict)
    config_name: str = "config"
    reproduced: Reproduced | None = None

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.spec.run_id

    @property
    def output_dir(self) -> Path:
        """The directory that holds the run's own."""
        return self.spec.output_dir

    def placed(self, output_dir: Path, run_id: str) -> RunPlan:
        """The same plan in another directory, under another name."""
        spec = self.spec.model_copy(update={"run_id": run_id, "output_dir": output_dir})
        config = {**self.config, "run_id": run_id, "output_dir": str(output_dir)}
        return self.model_copy(update={"spec": spec, "config": config})

    def renamed(self, run_id: str) -> RunPlan:
        """The same plan under another name."""
        spec = self.spec.model_copy(update={"run_id": run_id})
        return self.model_copy(update={"spec": spec, "config": {**self.config, "run_id": run_id}})

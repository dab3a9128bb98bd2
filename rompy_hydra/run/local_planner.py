"""The local backend, asked before anything is written: this machine's CPUs, our environment, programs on its PATH."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

from rompy_hydra.plan.resources import Resources, SettledResources
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.run.command import child_environment
from rompy_hydra.run.placement import choose_cpus, place
from rompy_hydra.run.program import Machinery, Program, find_run_program


class LocalPlanner:
    """A process of this machine; nothing about it takes so long that it would have to be told."""

    def __init__(self, *, tell: Callable[[str], None] | None = None) -> None:
        del tell

    def key(self, _spec: RunSpec) -> Hashable:
        """Nothing beside what every backend has."""
        return ()

    def place(self, spec: RunSpec, settled: SettledResources) -> SettledResources:
        """One node, with a note for everything of which this machine has less."""
        return place(spec.resources, settled)

    def environment(self, spec: RunSpec, resources: SettledResources, env_files: Sequence[Path]) -> dict[str, str]:
        """Ours, what holds the run in place, then the variables of run, model and backend."""
        return child_environment(spec, resources, env_files=env_files)

    def program(
        self, spec: RunSpec, resources: SettledResources, environment: Mapping[str, str], machinery: Machinery
    ) -> Program:
        """Looked up on the PATH of its environment."""
        return find_run_program(spec, resources, environment, machinery)

    def settings(
        self, _plan: RunPlan, _resources: SettledResources, _env_files: Sequence[Path], *, make: bool = True
    ) -> None:
        """A process has none."""

    def choose_cpus(self, asked: Resources, settled: SettledResources) -> tuple[int, ...] | None:
        """Those where least is going on."""
        return choose_cpus(asked, settled)

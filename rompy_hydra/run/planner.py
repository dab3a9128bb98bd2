"""What the path of a run asks of one backend before anything is written: can it be done, with what, and what is it.

    RunSpec + settled resources  →  Planner  →  resources as they can be had, environment, program, settings of the job

One class for each backend (`local_planner`, `docker_planner`); one object of it serves all runs of an invocation, so it
asks its engine or its machine once for each thing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

from rompy_hydra.errors import SiteError
from rompy_hydra.plan.resources import Resources, SettledResources
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.run.base import Executor
from rompy_hydra.run.program import Machinery, Program


class Settings(Protocol):
    """What only the executor of one backend reads in a job."""

    def placed(
        self, *, run_dir: Path, directory: Path, links: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> Settings:
        """The same for one run: its directory, where its command runs, its linked inputs, who it is."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What the record keeps of where the program comes from: of an image, its name and its id."""
        ...


class Planner(Protocol):
    """A backend, asked before anything is written; whatever cannot be done raises here."""

    def key(self, spec: RunSpec) -> Hashable:
        """What of the backend's configuration the answers depend on."""
        ...

    def place(self, spec: RunSpec, settled: SettledResources) -> SettledResources:
        """The resources as they can be had, with a note for everything of which there is less."""
        ...

    def environment(self, spec: RunSpec, resources: SettledResources, env_files: Sequence[Path]) -> dict[str, str]:
        """The whole environment of the run."""
        ...

    def program(
        self, spec: RunSpec, resources: SettledResources, environment: Mapping[str, str], machinery: Machinery
    ) -> Program:
        """What is executed."""
        ...

    def settings(
        self, plan: RunPlan, resources: SettledResources, env_files: Sequence[Path], *, make: bool = True
    ) -> Settings | None:
        """What only the executor of this backend reads.  `make=False`: nothing is pulled or built for it."""
        ...

    def choose_cpus(self, asked: Resources, settled: SettledResources) -> tuple[int, ...] | None:
        """The CPUs of this machine that the run is bound to; None: that is not ours to say."""
        ...


_PLANNERS = {
    "local": "local_planner:LocalPlanner",
    "docker": "docker_planner:DockerPlanner",
    "slurm": "slurm_planner:SlurmPlanner",
}
_EXECUTORS = {"local": "local:LocalExecutor", "docker": "docker:DockerExecutor", "slurm": "slurm:SlurmExecutor"}


Tell = Callable[[str], None]
"""Gets a sentence about something that takes long."""


def planner_for(backend: str, tell: Tell = lambda _: None) -> Planner:
    """The planner of a type of backend; `SiteError` where this version cannot run it."""
    planner: Planner = _look_up(_PLANNERS, backend)(tell=tell)
    return planner


class OpenExecutor(Executor, Protocol):
    """An executor that is let go in the end; what runs, runs on."""

    def warm(self, count: int = 1) -> None:
        """Have ready what takes a moment, while other work is done."""
        ...

    def close(self) -> None:
        """Let go."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_executor(backend: str, *, stream_output: bool = False, tell: Tell | None = None) -> OpenExecutor:
    """The executor of a type of backend; a type of somebody else's runs as a callable on this machine.

    `tell` gets sentences about what becomes of a job in a queue.
    """
    more = {"tell": tell} if backend == "slurm" and tell is not None else {}
    executor: OpenExecutor = _look_up(_EXECUTORS, backend if backend in _EXECUTORS else "local")(
        stream_output=stream_output, **more
    )
    return executor


def _look_up(table: Mapping[str, str], backend: str) -> Any:
    if backend not in table:
        raise SiteError(
            f"the backend '{backend}' can be composed and validated, but this version cannot run it yet; "
            "add backend=local to run on this machine"
        )
    module, name = table[backend].split(":")
    return getattr(import_module(f"rompy_hydra.run.{module}"), name)

"""How a sweep is to be driven, settled for the machine it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rompy_hydra.plan.sweep_spec import SweepSpec
from rompy_hydra.run.placement import Machine
from rompy_hydra.sweep.arrays import RunsPerJob
from rompy_hydra.sweep.packing import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """The part of `sweep.*` that says how points are driven; None is not said."""

    jobs: int | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    timing: bool = False
    max_failures: int | None = None
    skip_invalid: bool = False
    max_in_queue: int | None = None
    runs_per_job: RunsPerJob = 1
    runs_at_once: int = 1
    job_time_s: float = 600.0
    max_core_hours: float | None = None

    @classmethod
    def of(cls, spec: SweepSpec) -> SweepSettings:
        """As a configuration says it."""
        return cls(
            jobs=spec.jobs,
            cpus=spec.cpus,
            memory_bytes=spec.memory,
            timing=spec.timing,
            max_failures=spec.failures_allowed,
            skip_invalid=spec.on_invalid == "skip",
            max_in_queue=spec.max_in_queue,
            runs_per_job=spec.runs_per_job,
            runs_at_once=spec.runs_at_once,
            job_time_s=spec.job_time,
            max_core_hours=spec.max_core_hours,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `sweep.json`."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SweepSettings:
        """The reverse of `to_dict`."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})

    def budget(self, machine: Machine | None = None) -> Budget:
        """What all points may use together: what was said, else what this machine lets us have."""
        machine = machine or Machine.here()
        jobs = 1 if self.timing else self.jobs
        cpus = self.cpus or max(len(machine.cpus), jobs or 0)  # more jobs than CPUs: they were asked for by number
        cores = machine.cores if cpus <= len(machine.cpus) else ()
        return Budget(cpus=cpus, memory_bytes=self.memory_bytes or machine.memory_bytes, jobs=jobs, cpu_cores=cores)

"""How a sweep is to be driven, settled for the machine it runs on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rompy_hydra.run.placement import Machine
from rompy_hydra.sweep.packing import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSettings:
    """`sweep.*` of a configuration; None is not said."""

    jobs: int | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    timing: bool = False
    max_failures: int | None = None
    skip_invalid: bool = False

    def budget(self, machine: Machine | None = None) -> Budget:
        """What all points may use together: what was said, else what this machine lets us have."""
        machine = machine or Machine.here()
        cpus = self.cpus or len(machine.cpus)
        jobs = 1 if self.timing else self.jobs
        if jobs is not None and self.cpus is None:
            cpus = max(cpus, jobs)  # more jobs at once than CPUs: they were asked for by number
        cores = machine.cores if cpus <= len(machine.cpus) else ()
        return Budget(cpus=cpus, memory_bytes=self.memory_bytes or machine.memory_bytes, jobs=jobs, cpu_cores=cores)


def machine_load() -> float:
    """How many processes wanted a CPU during the last minute."""
    return os.getloadavg()[0]

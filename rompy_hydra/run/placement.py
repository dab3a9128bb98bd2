"""Where a local run goes on this one machine: which CPUs and GPUs it gets, and what an MPI launcher is told of it.

asked + settled resources → place (can it be here?) → placement_variables (its environment) → choose_cpus (its CPUs)
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.resources import Resources, SettledResources, thread_variables
from rompy_hydra.run.processes import all_pids
from rompy_hydra.units.sizes import format_memory

# Open MPI up to 4 reads the first name of each pair, from 5 on the second (tried: 4.1.4 and 5.0.11).  Left alone it
# binds each of one or two ranks to a core, counted from core 0 of the machine, and breaks out of the CPUs that we gave:
# two runs side by side, or the threads of a rank, would share one core.
_UNBOUND = {"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"}
# It refuses more ranks than the machine has cores (not CPUs), where MPICH just starts them.
_OVERSUBSCRIBED = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
_PLACING_OPTIONS = (
    *("bind", "map", "rank", "rf", "cpu", "use-hwthread", "nooversubscribe", "npernode", "pernode", "host"),
    *("machinefile", "hwloc_", "rmaps_"),
)
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine lets us have; `all_cpus` also counts the CPUs that we may not use."""

    cpus: tuple[int, ...]
    all_cpus: int
    memory_bytes: int
    root: Path = Path("/")

    @classmethod
    def here(cls) -> Machine:
        """The one that we run on."""
        return cls(
            cpus=tuple(sorted(os.sched_getaffinity(0))),
            all_cpus=os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )

    @property
    def cores(self) -> tuple[tuple[int, ...], ...]:
        """Our CPUs, those that share a core together."""
        return _cores(self.cpus, self.root)

    def visible_gpus(self, environ: Mapping[str, str]) -> dict[str, list[str]]:
        """Variable → the devices that it may name: what it names already, else all NVIDIA or AMD ones here."""
        found = {
            "CUDA_VISIBLE_DEVICES": len(list(self.root.glob("dev/nvidia[0-9]*"))),
            "ROCR_VISIBLE_DEVICES": sum(
                path.read_text().strip() != "0" for path in self.root.glob("sys/class/kfd/kfd/topology/nodes/*/gpu_id")
            ),
        }
        return {
            name: [word for word in environ[name].split(",") if word]
            if name in environ
            else [str(number) for number in range(count)]
            for name, count in found.items()
        }


@lru_cache(maxsize=4)
def _cores(cpus: tuple[int, ...], root: Path) -> tuple[tuple[int, ...], ...]:
    groups: dict[str, list[int]] = {}
    for cpu in cpus:
        try:
            core = (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:  # a kernel that does not tell: each CPU counts as a core
            core = f"cpu {cpu}"
        groups.setdefault(core, []).append(cpu)
    return tuple(tuple(group) for group in groups.values())


def place(
    asked: Resources,
    settled: SettledResources,
    *,
    machine: Machine | None = None,
    environ: Mapping[str, str] = os.environ,
) -> SettledResources:
    """The resources as one machine can give them: one node, with a note for everything of which there is less.

    Fewer CPUs, less memory or fewer GPUs than asked for do not stop a run: a preset for a bigger machine can be tried
    on a small one.

    Raises:
        ConfigError: where the ranks are to lie on several nodes.
    """
    if settled.nodes is not None and settled.nodes > 1:
        raise ConfigError("this backend is one machine, these resources ask for more", [_too_many(asked, settled)])
    machine = machine or Machine.here()
    # CPUs that are not there cannot stay idle, which is all that the algebra has to note.
    notes = [] if settled.cpus > len(machine.cpus) else [*settled.notes]
    notes += _shortages(settled, machine, environ)
    return settled.model_copy(update={"nodes": 1, "ranks_per_node": settled.ranks, "notes": tuple(notes)})


def _too_many(asked: Resources, settled: SettledResources) -> Finding:
    elsewhere = "or run on a cluster: backend=slurm"
    if asked.nodes is not None:
        return Finding(
            key="resources.nodes",
            value=str(asked.nodes),
            rule="there is one node, this machine",
            mend=f"set resources.nodes to 1 or null, {elsewhere}",
        )
    return Finding(
        key="resources.ranks_per_node",
        value=str(asked.ranks_per_node),
        rule=f"ranks={settled.ranks} need {settled.nodes} nodes then, and there is one, this machine",
        mend=f"set resources.ranks_per_node to null or at least {settled.ranks}, {elsewhere}",
    )


def _shortages(settled: SettledResources, machine: Machine, environ: Mapping[str, str]) -> list[str]:
    notes = []
    have, ranks, threads = len(machine.cpus), settled.ranks, settled.threads
    if settled.cpus > have:
        shared = f": {ranks} ranks x {threads} threads share them, and take longer" if ranks * threads > have else ""
        notes.append(f"cpus={settled.cpus}, but this machine lets us have {have}{shared}")
    if settled.memory is not None and settled.memory > machine.memory_bytes:
        asked, there = format_memory(settled.memory), format_memory(machine.memory_bytes)
        notes.append(f"memory={asked}, but this machine has {there}: the limit cannot be reached")
    if settled.gpus:
        seen = max(map(len, machine.visible_gpus(environ).values()))
        if seen < settled.gpus:
            notes.append(f"gpus={settled.gpus}, but {seen or 'no'} NVIDIA or AMD GPUs are visible here")
    return notes


def says_cpus(asked: Resources, settled: SettledResources) -> bool:
    """Whether anybody said how many CPUs the run is to use; if not, all of ours are the run's to share."""
    return bool(asked.ranks or asked.threads or asked.cpus) or settled.cpus > 1


def placement_variables(
    asked: Resources,
    settled: SettledResources,
    *,
    launcher: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    machine: Machine | None = None,
    is_root: bool | None = None,
) -> dict[str, str]:
    """The environment variables that hold a run to its threads, CPUs and GPUs, under `launcher` or without one.

    What MPI is told yields to what `environ` says already, and to a launcher with options of its own for placing.
    """
    machine = machine or Machine.here()
    out = thread_variables(settled.threads) if says_cpus(asked, settled) else {}
    if settled.gpus is not None:
        visible = machine.visible_gpus(environ)
        # An empty variable hides every device; where there is none to count, only 0 needs saying.
        out |= {n: ",".join(visible[n][: settled.gpus]) for n in _GPU_VARIABLES if visible[n] or settled.gpus == 0}
    told: dict[str, str] = {}
    if launcher and (os.geteuid() == 0 if is_root is None else is_root):
        told |= _AS_ROOT  # it refuses root unless told twice
    if not _places_itself(launcher):
        # One thread a rank on the whole machine: there its binding is right, and good for speed.
        has_all = settled.threads == 1 and settled.cpus >= machine.all_cpus
        if not has_all and (launcher or says_cpus(asked, settled)):  # a command may start mpirun itself
            told |= _UNBOUND
        if launcher and settled.ranks > len(machine.cores):
            told |= _OVERSUBSCRIBED
    return out | {name: value for name, value in told.items() if name not in environ}


def _places_itself(launcher: Sequence[str]) -> bool:
    """Whether a launcher has options that say where ranks go: `--bind-to`, `--map-by`, `-rf`, `--mca hwloc_...`."""
    options = [word.lstrip("-") for word in launcher if word.startswith(("-", "hwloc_", "rmaps_"))]
    return any(option.startswith(_PLACING_OPTIONS) for option in options)


_turns = itertools.count()


def choose_cpus(
    asked: Resources, settled: SettledResources, *, machine: Machine | None = None
) -> tuple[int, ...] | None:
    """The CPUs of a run that says how many it wants; None, all of ours, where nothing was said or all are wanted.

    Cores on which the fewest other processes are bound come first, so that runs side by side keep out of each other's
    way; a second CPU of a core comes last.
    """
    machine = machine or Machine.here()
    wanted = settled.cpus
    if not says_cpus(asked, settled) or wanted >= len(machine.cpus):
        return None
    cores = machine.cores
    load = _bound_processes(machine)
    first = (os.getpid() + next(_turns) * wanted) % len(cores)  # runs that start at the same moment see nobody yet
    turned = cores[first:] + cores[:first]
    order = sorted(turned, key=lambda core: round(sum(load[cpu] for cpu in core), 6))
    by_thread = itertools.zip_longest(*order)
    return tuple(sorted([cpu for cpus in by_thread for cpu in cpus if cpu is not None][:wanted]))


def _bound_processes(machine: Machine) -> Mapping[int, float]:
    """How many processes are bound to each CPU; one that may use several counts in parts."""
    load: dict[int, float] = defaultdict(float)
    for pid in all_pids():
        try:
            cpus = os.sched_getaffinity(pid)
            if len(cpus) >= machine.all_cpus or os.getsid(pid) == 0:  # free to go anywhere; the kernel's own
                continue
        except OSError:  # it has ended
            continue
        for cpu in cpus:
            load[cpu] += 1 / len(cpus)
    return load

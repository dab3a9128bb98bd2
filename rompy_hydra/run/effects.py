"""What every field of `resources` does on every backend: the table of `docs/resources.md`.

`tests/run/test_effects.py` holds it to its word, cell by cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effect:
    """One cell: what happens, or that nothing does and why; `key` is the backend's own key that takes the value."""

    sentence: str
    is_none: bool = False
    key: str | None = None

    def __str__(self) -> str:
        return f"none: {self.sentence}" if self.is_none else self.sentence


def _none(why: str) -> Effect:
    return Effect(why, is_none=True)


def _handed_over(key: str, more: str = "") -> Effect:
    return Effect(f"handed over as `backend.{key}`{more}", key=key)


EFFECTS: Mapping[str, Mapping[str, Effect]] = {
    "ranks": {
        "local": Effect(
            "the launcher (`backend.mpiexec`, else `site.launcher`) gets `-n RANKS`, unless it says the number itself; "
            "more ranks than cores are started all the same, with a note in the record"
        ),
        "docker": Effect("the same for the launcher inside the image"),
        "slurm": _handed_over("ntasks", ": `--ntasks`; the launcher inside the job gets `-n RANKS`"),
    },
    "threads": {
        "local": Effect(
            "`OMP_NUM_THREADS` and the like of OpenBLAS, MKL, BLIS, Accelerate, NumExpr, Numba, Julia and Rayon; they "
            "are set to `threads` as soon as `ranks`, `threads` or `cpus` is said"
        ),
        "docker": Effect("the same variables, inside the container"),
        "slurm": _handed_over(
            "cpus_per_task", ": `--cpus-per-task`; and the same variables, in the job, as soon as anything is said"
        ),
    },
    "cpus": {
        "local": Effect(
            "all processes of the run are bound to the same set of that many CPUs, on cores where the fewest others "
            "are bound; if the machine has fewer, the run may use them all and a note stands in the record"
        ),
        "docker": _handed_over(
            "cpu",
            ": that much processor time per second of the run, on any CPU; if the engine has fewer, the run may use "
            "them all and a note stands in the record",
        ),
        "slurm": Effect(
            "`--cpus-per-task`: the CPUs divided by the ranks; those of a serial model that stay idle, too"
        ),
    },
    "ranks_per_node": {
        "local": _none("there is one node, this machine, so a number below `ranks` is an error"),
        "docker": _none("a container is on one machine, so a number below `ranks` is an error"),
        "slurm": _handed_over("ntasks_per_node", ": `--ntasks-per-node`, and `--nodes` follows"),
    },
    "nodes": {
        "local": _none("there is one node, this machine, so more are an error"),
        "docker": _none("a container is on one machine, so more are an error"),
        "slurm": _handed_over("nodes", ": `--nodes`"),
    },
    "memory": {
        "local": Effect(
            "the memory of all processes of the run together is watched (what they share counts once); above the limit "
            "all are ended, and the state is `out_of_memory` with used and given in the reason"
        ),
        "docker": _handed_over(
            "memory",
            ": a limit of the kernel, without swap beside it; what goes above it is killed, and the state is "
            "`out_of_memory`",
        ),
        "slurm": _handed_over(
            "memory",
            ": `--mem` (divided by the nodes; without `nodes`, `--mem-per-cpu`); where Slurm ends a job that takes "
            "more, the state is `out_of_memory`",
        ),
    },
    "gpus": {
        "local": Effect(
            "`CUDA_VISIBLE_DEVICES` and `ROCR_VISIBLE_DEVICES` name that many of the devices that we may use, from the "
            "first on, and are empty for 0; if fewer are visible, a note stands in the record"
        ),
        "docker": _none("containers get no GPUs, which is noted in the record"),
        "slurm": _handed_over("gpus", ": `--gpus`; 0 asks for none"),
    },
    "time_limit": {
        "local": Effect(
            "after that time all processes of the run are ended (TERM, ten seconds, KILL), and the state is "
            "`timed_out`; if `backend.timeout` is shorter, that counts"
        ),
        "docker": Effect(
            "after that time the container is stopped (the image's own signal or TERM, ten seconds, KILL), and the "
            "state is `timed_out`; if `backend.timeout` is shorter, that counts"
        ),
        "slurm": Effect(
            "`--time` of the job, and after that time on the node the run is ended (TERM, ten seconds, KILL), and the "
            "state is `timed_out`; the time in the queue counts for nothing; `backend.timeout` or "
            "`backend.time_limit` count if they are shorter"
        ),
    },
}


def effects_table() -> str:
    """The table as Markdown: a row for each field, a column for each backend."""
    backends = list(next(iter(EFFECTS.values())))
    rows = [["`resources.`", *backends], ["---"] * (1 + len(backends))]
    rows += [[f"`{field}`", *(str(cells[name]) for name in backends)] for field, cells in EFFECTS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

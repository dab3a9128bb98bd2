"""What every field of `resources` does on every backend: the table of `docs/resources.md`.

`tests/run/test_effects.py` holds it to its word, cell by cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NOT_RUN_YET = ("slurm",)
"""Backends that compose and validate, but that this version cannot run."""


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
        "slurm": _handed_over("ntasks"),
    },
    "threads": {
        "local": Effect(
            "`OMP_NUM_THREADS` and the like of OpenBLAS, MKL, BLIS, Accelerate, NumExpr, Numba, Julia and Rayon; they "
            "are set to `threads` as soon as `ranks`, `threads` or `cpus` is said"
        ),
        "docker": Effect("the same variables, inside the container"),
        "slurm": _handed_over("cpus_per_task"),
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
        "slurm": _none("`ranks` and `threads` are handed over, so say these"),
    },
    "ranks_per_node": {
        "local": _none("there is one node, this machine, so a number below `ranks` is an error"),
        "docker": _none("a container is on one machine, so a number below `ranks` is an error"),
        "slurm": _none("say `nodes`"),
    },
    "nodes": {
        "local": _none("there is one node, this machine, so more are an error"),
        "docker": _none("a container is on one machine, so more are an error"),
        "slurm": _handed_over("nodes"),
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
        "slurm": _handed_over("memory"),
    },
    "gpus": {
        "local": Effect(
            "`CUDA_VISIBLE_DEVICES` and `ROCR_VISIBLE_DEVICES` name that many of the devices that we may use, from the "
            "first on, and are empty for 0; if fewer are visible, a note stands in the record"
        ),
        "docker": _none("containers get no GPUs, which is noted in the record"),
        "slurm": _none("set `backend.gres=gpu:N`"),
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
        "slurm": _none("set `backend.time_limit`"),
    },
}


def effects_table() -> str:
    """The table as Markdown: a row for each field, a column for each backend."""
    backends = list(next(iter(EFFECTS.values())))
    heads = [f"{name} (not run by this version)" if name in NOT_RUN_YET else name for name in backends]
    rows = [["`resources.`", *heads], ["---"] * (1 + len(heads))]
    rows += [[f"`{field}`", *(str(cells[name]) for name in backends)] for field, cells in EFFECTS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

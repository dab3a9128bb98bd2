"""How much a run may use: what is asked for becomes one consistent set of numbers for every backend.

`ranks` (MPI processes) x `threads` (of each rank) = `cpus`. Whoever composes says as much of it as they like;
`Resources.settle` derives the rest from the way the model is parallel, or says everything that contradicts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.units.durations import PositiveSeconds
from rompy_hydra.units.sizes import Memory

Parallel = Literal["serial", "openmp", "mpi", "hybrid"]
"""How a model uses several CPUs: not at all, by threads, by MPI ranks, or by ranks of several threads."""


def _refuse_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is a boolean, not a number: give a whole number")
    return value


def _tasks_in_schema(schema: JsonDict) -> None:
    properties = schema["properties"]
    assert isinstance(properties, dict)
    ranks = properties["ranks"]
    assert isinstance(ranks, dict)
    properties["tasks"] = {
        **ranks,
        "title": "Tasks",
        "description": "Another name of ranks, as schedulers say it.",
    }


_Count = Annotated[int, Field(ge=1), BeforeValidator(_refuse_boolean)]
_CountFromZero = Annotated[int, Field(ge=0), BeforeValidator(_refuse_boolean)]
_EXECUTION: JsonDict = {"identity": "execution"}
_FROZEN = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class Resources(BaseModel):
    """The resources that are asked for; None leaves a field to the others, the model and the backend."""

    model_config = ConfigDict(**_FROZEN, json_schema_extra=_tasks_in_schema)

    ranks: _Count | None = Field(
        None, description="MPI processes of the whole run (alias: tasks).", json_schema_extra=_EXECUTION
    )
    threads: _Count | None = Field(None, description="Threads of each rank.", json_schema_extra=_EXECUTION)
    cpus: _Count | None = Field(
        None,
        description="CPUs of the whole run: ranks x threads. Alone, model.parallel says what they become.",
        json_schema_extra=_EXECUTION,
    )
    ranks_per_node: _Count | None = Field(
        None, description="MPI processes on one node, at most.", json_schema_extra=_EXECUTION
    )
    nodes: _Count | None = Field(
        None,
        description="Nodes of the whole run: ranks / ranks_per_node, rounded up.",
        json_schema_extra=_EXECUTION,
    )
    memory: Memory | None = Field(
        None,
        description="Memory of the whole run: bytes, or text in binary units such as '1.5g'. None: no limit.",
        json_schema_extra=_EXECUTION,
    )
    gpus: _CountFromZero | None = Field(None, description="GPUs of the whole run.", json_schema_extra=_EXECUTION)
    time_limit: PositiveSeconds | None = Field(
        None,
        description="Longest running time: seconds, '90m', '36h', '1:00:00', '1-12:00:00', 'PT36H'. "
        "None: no limit of ours.",
        json_schema_extra={"identity": "none"},
    )

    @model_validator(mode="before")
    @classmethod
    def _tasks_are_ranks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "tasks" not in values:
            return values
        renamed = {key: value for key, value in values.items() if key != "tasks"}
        ranks, tasks = renamed.get("ranks"), values["tasks"]
        if ranks is not None and tasks is not None and str(ranks) != str(tasks):
            raise ValueError(f"ranks={ranks} and its other name tasks={tasks} differ: give one of them")
        return {**renamed, "ranks": tasks if ranks is None else ranks}

    def settle(self, parallel: Parallel) -> SettledResources:
        """Derive every number that was not said, for a model that is `parallel` in this way.

        Without `nodes` and `ranks_per_node`, several ranks leave both None: the scheduler places them. A
        serial model leaves all CPUs but one of `cpus` idle, which is a note and no error: one preset serves
        every model.

        Raises:
            ConfigError: with a finding for everything that contradicts.
        """
        findings = self._against_model(parallel)
        ranks, threads = self._divided(parallel)
        if ranks is None or threads is None:
            rule = f"cpus={self.cpus} alone does not say how a hybrid model divides them"
            findings.append(_finding("cpus", rule, "set resources.ranks or resources.threads as well"))
        elif (self.ranks and self.threads) or not findings:
            findings += self._against_product(parallel, self.ranks or ranks, self.threads or threads)
        if ranks is not None:
            findings += self._against_nodes(parallel, self.ranks or ranks)
        if findings or ranks is None or threads is None:
            raise ConfigError("the resources contradict each other or the model", findings)
        nodes, ranks_per_node = self._placed(ranks)
        cpus = self.cpus or ranks * threads
        idle = cpus - ranks * threads
        return SettledResources(
            parallel=parallel,
            ranks=ranks,
            threads=threads,
            cpus=cpus,
            ranks_per_node=ranks_per_node,
            nodes=nodes,
            memory=self.memory,
            gpus=self.gpus,
            time_limit=self.time_limit,
            notes=(f"cpus={cpus} are reserved, but a serial model uses 1: {idle} stay idle",) if idle else (),
        )

    def _against_model(self, parallel: Parallel) -> list[Finding]:
        findings = []
        if parallel in ("serial", "openmp") and (self.ranks or 1) > 1:
            rule = f"ranks={self.ranks}, but this model has one process (parallel: {parallel})"
            findings.append(_finding("ranks", rule, "set resources.ranks to 1 or null"))
        if parallel in ("serial", "mpi") and (self.threads or 1) > 1:
            rule = f"threads={self.threads}, but this model has one thread a process (parallel: {parallel})"
            hybrid = ", or the model's parallel to hybrid" if parallel == "mpi" else ""
            findings.append(_finding("threads", rule, f"set resources.threads to 1 or null{hybrid}"))
        return findings

    def _divided(self, parallel: Parallel) -> tuple[int | None, int | None]:
        """Ranks and threads as far as the fields say them; whether they fit is checked afterwards."""
        if parallel == "serial":
            return 1, 1
        if parallel == "openmp":
            return 1, self.threads or self.cpus or 1
        filled = self.nodes * self.ranks_per_node if self.nodes and self.ranks_per_node else None
        if parallel == "mpi":
            return self.ranks or self.cpus or filled or 1, 1
        ranks, threads, cpus = self.ranks, self.threads, self.cpus or 1
        if ranks is None and (threads is None or self.cpus is None):
            ranks = filled
        if ranks is None and threads is None and cpus > 1:
            return None, None
        ranks = ranks or max(1, cpus // (threads or 1))
        return ranks, threads or max(1, cpus // ranks)

    def _against_product(self, parallel: Parallel, ranks: int, threads: int) -> list[Finding]:
        product = ranks * threads
        if self.cpus in (None, product) or (parallel == "serial" and product == 1):
            return []
        rule = f"ranks={ranks} x threads={threads} = {product}, but cpus={self.cpus}"
        others = {"openmp": "threads", "mpi": "ranks"}.get(parallel, "ranks or threads")
        return [_finding("cpus", rule, f"set resources.cpus to {product} or null, or change {others}")]

    def _against_nodes(self, parallel: Parallel, ranks: int) -> list[Finding]:
        nodes, most = self.nodes, self.ranks_per_node
        if nodes is None:
            return []
        if nodes > ranks:
            rule = f"nodes={nodes}, but there are only ranks={ranks} to put on them"
            more = ", or ask for more ranks" if parallel in ("mpi", "hybrid") else ""
            return [_finding("nodes", rule, f"set resources.nodes to at most {ranks} or null{more}")]
        if most is not None and ranks > nodes * most:
            rule = f"nodes={nodes} x ranks_per_node={most} hold {nodes * most} ranks, but ranks={ranks}"
            fits = f"set resources.nodes to {_divided_up(ranks, most)} or null"
            return [_finding("nodes", rule, f"{fits}, or ranks_per_node to {_divided_up(ranks, nodes)}")]
        return []

    def _placed(self, ranks: int) -> tuple[int | None, int | None]:
        nodes, most = self.nodes, self.ranks_per_node
        if most is not None:
            return nodes or _divided_up(ranks, most), min(most, ranks)
        if nodes is None and ranks > 1:
            return None, None
        return nodes or 1, _divided_up(ranks, nodes or 1)


class SettledResources(BaseModel):
    """Resources with every derivable number filled in, as every backend reads them."""

    model_config = _FROZEN

    parallel: Parallel = Field(description="How the model uses its CPUs.")
    ranks: int = Field(description="MPI processes of the whole run.")
    threads: int = Field(description="Threads of each rank.")
    cpus: int = Field(description="CPUs reserved for the whole run; those in use are ranks x threads.")
    ranks_per_node: int | None = Field(description="MPI processes on one node, at most. None: the scheduler decides.")
    nodes: int | None = Field(description="Nodes of the whole run. None: the scheduler decides.")
    memory: int | None = Field(description="Memory of the whole run in bytes. None: no limit of ours.")
    gpus: int | None = Field(description="GPUs of the whole run. None: not said.")
    time_limit: float | None = Field(description="Longest running time in seconds. None: no limit of ours.")
    notes: tuple[str, ...] = Field((), description="What a person should know, such as CPUs that stay idle.")

    def as_resources(self) -> Resources:
        """The same numbers as a request; settling it for the same `parallel` gives this again."""
        return Resources.model_validate(self.model_dump(exclude={"parallel", "notes"}))


_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "JULIA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def thread_variables(threads: int) -> dict[str, str]:
    """The environment variables that hold OpenMP and the numerical libraries to `threads` a process, from 1.

    Raises:
        ValueError: for less than one thread.
    """
    if threads < 1:
        raise ValueError(f"{threads} threads are too few: give 1 or more")
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def launcher_argv(mpiexec: str | Sequence[str], ranks: int) -> list[str]:
    """The launcher as arguments that start `ranks` processes: `-n RANKS` is added unless it says a number.

    Text is split as a POSIX shell splits it, a list is taken as it is, so that its paths may hold spaces. The
    flags read are those of Open MPI's and MPICH's `mpirun` and `mpiexec` (`-n -np --n --np -c`) and of `srun`
    (`-n --ntasks`; its `-c` is CPUs per task).

    Raises:
        ConfigError: for an empty or unreadable launcher, a number that is none, two numbers, or not `ranks`.
    """
    if ranks < 1:
        raise ValueError(f"{ranks} ranks are too few: give 1 or more")
    argv = _launcher_words(mpiexec)
    said = _said_ranks(argv)
    if said is None:
        return [*argv, "-n", str(ranks)]
    if said != ranks:
        raise _launcher_error(
            shlex.join(argv),
            f"starts {said} ranks, but resources.ranks={ranks}",
            f"set resources.ranks={said}, or leave the number out here; '-n {ranks}' is then added",
        )
    return argv


def launcher_ranks(mpiexec: str | Sequence[str]) -> int | None:
    """The number of processes that a launcher says itself (16 in `mpirun -np 16`), None if it says none.

    Where nobody gave `resources.ranks`, this is it.

    Raises:
        ConfigError: as `launcher_argv`.
    """
    return _said_ranks(_launcher_words(mpiexec))


_LAUNCHER = re.compile(r"mpirun|mpiexec|orterun|prterun|srun$")
_RANK_FLAGS = frozenset({"-n", "-np", "--n", "--np", "-c"})
_SRUN_FLAGS = frozenset({"-n", "--ntasks"})


def _launcher_words(mpiexec: str | Sequence[str]) -> list[str]:
    try:
        argv = shlex.split(mpiexec) if isinstance(mpiexec, str) else list(mpiexec)
    except ValueError as error:
        unreadable = f"cannot be split into words: {error}"
        raise _launcher_error(str(mpiexec), unreadable, "close its quotes, or give a list") from None
    if not argv or not argv[0].strip():
        mend = "give text such as 'mpirun -np 4' or a list of words, or leave it out (null)"
        raise _launcher_error(str(mpiexec), "names no program", mend)
    return argv


def _said_ranks(argv: list[str]) -> int | None:
    names = [PurePath(word).name for word in argv]
    launcher = next((place for place, name in enumerate(names) if _LAUNCHER.match(name)), 0)  # after env, numactl
    srun = names[launcher] == "srun"
    flags = _SRUN_FLAGS if srun else _RANK_FLAGS
    said = []
    for position, word in enumerate(argv[launcher + 1 :], start=launcher + 1):
        flag, equals, value = word.partition("=")
        if srun and re.fullmatch(r"-n[0-9]+", word):
            said.append((word, word[2:]))
        elif flag in flags:
            following = argv[position + 1] if position + 1 < len(argv) else ""
            said.append((word, value if equals else following))
    if not said:
        return None
    if len(said) > 1:
        flags_said = " and ".join(flag for flag, _ in said)
        raise _launcher_error(shlex.join(argv), f"says its number of ranks twice, by {flags_said}", "leave one of them")
    flag, number = said[0]
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", number):
        wrong = f"has '{number}' after {flag}, which is not a number of ranks"
        raise _launcher_error(
            shlex.join(argv), wrong, "write the number, or leave the flag out and set resources.ranks"
        )
    return int(number)


def _launcher_error(launcher: str, rule: str, mend: str) -> ConfigError:
    finding = Finding(key="mpiexec", value=launcher, rule=rule, mend=mend)
    return ConfigError("the MPI launcher cannot be used", [finding])


def _finding(field: str, rule: str, mend: str) -> Finding:
    return Finding(key=f"resources.{field}", rule=rule, mend=mend)


def _divided_up(number: int, parts: int) -> int:
    return -(-number // parts)

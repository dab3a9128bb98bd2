"""An allocation that somebody else has made: which nodes we may use, and how a command is started on one of them.

    environment (of Slurm, PBS, LSF)  →  Allocation  →  nodes with their CPUs, words in front of a command

So sites without Slurm are served without an executor of their own: `rompy-hydra resume SWEEP` inside a job packs the
remaining points onto its nodes.  Pure but for the host files that PBS and LSF write.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from rompy_hydra.errors import ConfigError, Finding, SiteError

Kind = Literal["slurm", "pbs", "lsf"]

_LAUNCHERS: dict[Kind, tuple[str, ...]] = {
    # --overlap: steps are not made to wait for each other, we count the CPUs ourselves; --mem=0: none is kept for one.
    "slurm": (
        "srun", "--overlap", "--quiet", "--input=none", "--nodes=1", "--ntasks=1", "--cpus-per-task={cpus}", "--mem=0",
        "--nodelist={host}",
    ),
    "pbs": ("ssh", "-tt", "-q", "-o", "BatchMode=yes", "{host}"),
    "lsf": ("blaunch", "{host}"),
}  # fmt: skip
_BY_A_SHELL = frozenset({"ssh", "rsh", "blaunch", "pbs_tmrsh"})
"""Launchers that hand one line of text to a shell over there."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of an allocation."""

    name: str
    cpus: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a scheduler has given us."""

    kind: Kind
    job_id: str
    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> int:
        """The CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    def __str__(self) -> str:
        nodes = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        return f"{self.kind} job {self.job_id}: {nodes}, {self.cpus} CPUs"

    def launcher(self, words: Sequence[str] | None = None) -> tuple[str, ...]:
        """The words that start a command on a node: those of the site, else what the scheduler brings along."""
        return tuple(words or _LAUNCHERS[self.kind])


def find_allocation(environ: Mapping[str, str]) -> Allocation | None:
    """The allocation that we are in; None outside of one.  SiteError where what describes it cannot be read."""
    if environ.get("SLURM_JOB_ID"):
        return _slurm(environ)
    if environ.get("PBS_NODEFILE"):
        return _pbs(environ)
    if environ.get("LSB_JOBID") and (environ.get("LSB_MCPU_HOSTS") or environ.get("LSB_DJOB_HOSTFILE")):
        return _lsf(environ)
    return None


def on_node(launcher: Sequence[str], node: Node, command: Sequence[str], *, cpus: int, index: int = 0) -> list[str]:
    """The command line that starts a command on a node; `{host}`, `{cpus}` and `{index}` are filled in."""
    filled = {"host": node.name, "cpus": str(cpus), "index": str(index)}
    try:
        words = [word.format(**filled) for word in launcher]
    except (KeyError, IndexError, ValueError) as error:
        finding = Finding(
            key="site.node_launcher",
            value=shlex.join(launcher),
            rule=f"holds a placeholder that is none ({error})",
            mend="{host}, {cpus} and {index} are known",
        )
        raise ConfigError("commands cannot be started on the nodes", [finding]) from error
    if PurePath(words[0]).name in _BY_A_SHELL:
        return [*words, shlex.join(command)]
    return [*words, *command]


def _slurm(environ: Mapping[str, str]) -> Allocation:
    names = list(expand_hosts(environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or ""))
    counts = list(_cpus_per_node(environ.get("SLURM_JOB_CPUS_PER_NODE") or environ.get("SLURM_CPUS_ON_NODE") or ""))
    if not names or not counts:
        raise SiteError("SLURM_JOB_ID is set, but SLURM_JOB_NODELIST and SLURM_JOB_CPUS_PER_NODE do not tell the nodes")
    counts += [counts[-1]] * (len(names) - len(counts))
    nodes = tuple(Node(name, cpus) for name, cpus in zip(names, counts, strict=False))
    return Allocation("slurm", environ["SLURM_JOB_ID"], nodes)


def _pbs(environ: Mapping[str, str]) -> Allocation:
    hosts = Counter(_host_lines(environ["PBS_NODEFILE"]))
    # A line for each MPI process of a chunk; where a chunk has one process of many CPUs, only NCPUS tells.
    said = _number(environ.get("NCPUS")) or _number(environ.get("PBS_NUM_PPN")) or 1
    nodes = tuple(Node(host, max(lines, said)) for host, lines in hosts.items())
    return Allocation("pbs", environ.get("PBS_JOBID", "?"), nodes)


def _lsf(environ: Mapping[str, str]) -> Allocation:
    words = (environ.get("LSB_MCPU_HOSTS") or "").split()
    if words and len(words) % 2 == 0 and all(word.isdigit() for word in words[1::2]):
        slots = {host: int(count) for host, count in zip(words[::2], words[1::2], strict=True)}
    elif environ.get("LSB_DJOB_HOSTFILE"):
        slots = Counter(_host_lines(environ["LSB_DJOB_HOSTFILE"]))
    else:
        raise SiteError(f"LSB_MCPU_HOSTS does not tell the hosts of this LSF job: {' '.join(words)}")
    return Allocation("lsf", environ["LSB_JOBID"], tuple(Node(host, count) for host, count in slots.items()))


def _host_lines(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise SiteError(f"the list of this job's hosts cannot be read: {path}: {error.strerror}") from error
    if not any(lines):
        raise SiteError(f"the list of this job's hosts is empty: {path}")
    return [line for line in lines if line]


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and int(text) > 0 else None


def _cpus_per_node(text: str) -> Iterator[int]:
    """`16(x2),8` → 16, 16, 8."""
    for part in filter(None, text.split(",")):
        if not (found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)):
            raise SiteError(f"SLURM_JOB_CPUS_PER_NODE cannot be read: {text}")
        yield from itertools.repeat(int(found[1]), int(found[2] or 1))


def expand_hosts(text: str) -> Iterator[str]:
    """A list of hosts as Slurm shortens it: `n[01-03,7],gpu1` → n01, n02, n03, n7, gpu1."""
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        yield from _expand(part)


def _expand(part: str) -> Iterator[str]:
    found = re.match(r"([^\[]*)\[([^\]]*)\](.*)\Z", part, re.DOTALL)
    if not found:
        yield part
        return
    head, ranges, tail = found.groups()
    for piece in ranges.split(","):
        first, _, last = piece.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise SiteError(f"a list of hosts cannot be read: {part}")
        for number in range(int(first), int(last or first) + 1):
            for rest in _expand(tail) if tail else ("",):
                yield f"{head}{number:0{len(first)}d}{rest}"


def here() -> str:
    """The name of this machine, as lists of hosts may have it: without its domain."""
    return os.uname().nodename.partition(".")[0]

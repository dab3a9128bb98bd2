"""The script of a job that drives a sweep inside its own allocation, for Slurm, PBS and LSF: text, nothing else.

what is left of a sweep  →  Request  →  text for sbatch, qsub or bsub  →  `rompy-hydra resume` on its nodes
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.units.durations import format_slurm_time

_MARGIN_S = 120
"""For the start of the driver, and for the last run to be recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the job asks for, and what it does.

    `setup` are lines for the shell (modules); `command` is what drives the sweep; `directory` is where it was planned.
    """

    name: str
    nodes: int
    cpus_per_node: int
    memory_bytes_per_node: int | None
    time_s: float | None
    directory: str
    log: str
    command: Sequence[str]
    queue: str | None = None
    account: str | None = None
    setup: Sequence[str] = ()


def estimated_time_s(core_seconds: float | None, cpus: int, longest_s: float | None) -> float | None:
    """How long the points that are left take at most on so many CPUs; None: one of them has no time limit."""
    if core_seconds is None:
        return None
    # Packing leaves gaps: the last run may start when all others have ended.
    return math.ceil(core_seconds / max(1, cpus) + (longest_s or 0.0) + _MARGIN_S)


def script(kind: str, request: Request) -> str:
    """The text for one kind of scheduler."""
    return "\n".join(["#!/bin/sh", *WRITERS[kind](request), *_body(request)]) + "\n"


def _body(request: Request) -> list[str]:
    return [
        "",
        f"exec >> {shlex.quote(request.log)} 2>&1 || exit 4",
        *(f"{line} || exit 4" if "\n" not in line else line for line in request.setup),
        f"cd {shlex.quote(request.directory)} || exit 4",
        f"exec {shlex.join(request.command)}",
    ]


def _slurm(request: Request) -> list[str]:
    lines = [
        f"--job-name={_name(request.name, 64)}",
        f"--nodes={request.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={request.cpus_per_node}",
    ]
    if request.memory_bytes_per_node is not None:
        lines.append(f"--mem={_mib(request.memory_bytes_per_node)}M")
    if request.time_s is not None:
        lines.append(f"--time={format_slurm_time(request.time_s)}")
    lines += _plain("--partition=", request.queue, "site.partition") + _plain("--account=", request.account, "account")
    return [f"#SBATCH {line}" for line in [*lines, "--output=/dev/null"]]


def _pbs(request: Request) -> list[str]:
    select = f"{request.nodes}:ncpus={request.cpus_per_node}:mpiprocs={request.cpus_per_node}"
    if request.memory_bytes_per_node is not None:
        select += f":mem={_mib(request.memory_bytes_per_node)}mb"
    lines = [f"-N {_name(request.name, 15)}", f"-l select={select}", "-l place=scatter"]
    if request.time_s is not None:
        lines.append(f"-l walltime={_clock(request.time_s)}")
    lines += _plain("-q ", request.queue, "site.partition") + _plain("-A ", request.account, "site.account")
    return [f"#PBS {line}" for line in [*lines, "-j oe"]]


def _lsf(request: Request) -> list[str]:
    lines = [
        f"-J {_name(request.name, 64)}",
        f"-n {request.nodes * request.cpus_per_node}",
        f'-R "span[ptile={request.cpus_per_node}]"',
    ]
    if request.memory_bytes_per_node is not None:
        lines.append(f"-M {_mib(request.memory_bytes_per_node)}MB")
    if request.time_s is not None:
        minutes = math.ceil(request.time_s / 60)
        lines.append(f"-W {minutes // 60}:{minutes % 60:02d}")
    lines += _plain("-q ", request.queue, "site.partition") + _plain("-P ", request.account, "site.account")
    return [f"#BSUB {line}" for line in [*lines, "-o /dev/null"]]


WRITERS: dict[str, Callable[[Request], list[str]]] = {"slurm": _slurm, "pbs": _pbs, "lsf": _lsf}


def _name(text: str, longest: int) -> str:
    """A name that every scheduler takes: letters, digits, `-` and `_`, a letter first."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")
    return (plain if plain[:1].isalpha() else f"s-{plain}")[:longest]


def _plain(option: str, value: str | None, key: str) -> list[str]:
    if value is None:
        return []
    if not re.fullmatch(r"[\w.@+:/,-]+", value):
        raise ConfigError("the job script cannot be written", [Finding(key, "is no single word", value=value)])
    return [f"{option}{value}"]


def _mib(size: int) -> int:
    return math.ceil(size / 2**20)


def _clock(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"

"""The resolvers a configuration may use; each is constant within one invocation.

| resolver | gives |
|---|---|
| `${host.cpus:}` | CPUs this process may use (affinity and cgroup quota respected), at least 1 |
| `${host.memory_gb:}` | memory this process may use, whole GiB, rounded down |
| `${host.memory:}` | the same as text for `resources.memory`, as `15g` |
| `${host.name:}` | host name |
| `${rompy.min:a,b,…}`, `${rompy.max:a,b,…}`, `${rompy.mul:a,b,…}`, `${rompy.floordiv:a,b}` | arithmetic on numbers |
| `${secret:NAME}` | stays this very text everywhere; resolved into the child's environment only |
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

DEFAULT_ENV = "dev"
ENV_VARIABLE = "ROMPY_ENV"


def register() -> None:
    """Make the resolvers known to OmegaConf."""
    fixed: dict[str, Callable[..., Any]] = {
        "host.cpus": host_cpus,
        "host.memory_gb": lambda: host_memory_bytes() // 2**30,
        "host.memory": lambda: f"{max(1, host_memory_bytes() // 2**30)}g",
        "host.name": socket.gethostname,
        "rompy.min": lambda *numbers: min(numbers),
        "rompy.max": lambda *numbers: max(numbers),
        "rompy.mul": lambda *numbers: math.prod(numbers),
        "rompy.floordiv": lambda a, b: a // b,
        "secret": lambda name: f"${{secret:{name}}}",
    }
    for name, function in fixed.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def known() -> list[str]:
    """The names of all resolvers, OmegaConf's own and those of plug-ins among them."""
    return sorted(BaseContainer._resolvers)  # noqa: SLF001  # it tells of one by its name only


def register_hydra(hydra: DictConfig) -> None:
    """`${hydra:KEY}` reads Hydra's own part of this composition (Hydra itself keeps it in a global)."""
    OmegaConf.register_new_resolver("hydra", lambda key: OmegaConf.select(hydra, key), replace=True)


def host_cpus(root: Path = Path("/")) -> int:
    """CPUs this process may use: its affinity, and the quota of its control group (v2 or v1)."""
    cpus = len(os.sched_getaffinity(0))
    quota = _cgroup_quota(root)
    return max(1, min(cpus, math.floor(quota))) if quota else cpus


def host_memory_bytes(root: Path = Path("/")) -> int:
    """Memory this process may use, in bytes: the machine's, or the limit of its control group if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [total]
    for relative in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limits += _numbers(root / relative)
    for directory in _own_cgroups(root):
        limits += _numbers(directory / "memory.max")
    return min(limits)


def _cgroup_quota(root: Path) -> float | None:
    quotas: list[float] = []
    for directory in [root / "sys/fs/cgroup", *_own_cgroups(root)]:
        words = _words(directory / "cpu.max")
        if len(words) == 2 and words[0].isdigit():
            quotas.append(int(words[0]) / int(words[1]))
    v1 = root / "sys/fs/cgroup/cpu"
    quota, period = _numbers(v1 / "cpu.cfs_quota_us"), _numbers(v1 / "cpu.cfs_period_us")
    if quota and period:
        quotas.append(quota[0] / period[0])
    return min(quotas, default=None)


def _own_cgroups(root: Path) -> list[Path]:
    """The directories of this process's control group (v2) and of the groups above it."""
    directories: list[Path] = []
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, _, path = line.partition("::")
        if hierarchy == "0" and path.strip("/"):
            parts = path.strip("/").split("/")
            directories += [root / "sys/fs/cgroup" / "/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return directories


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # absent on this kernel: there is no such limit
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in _words(path)[:1] if word.isdigit() and int(word) < 2**60]

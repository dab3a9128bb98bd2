"""CPUs and memory of the host, with the limits of control groups respected."""

from __future__ import annotations

import os
from pathlib import Path

from rompy_hydra.compose.resolvers import host_cpus, host_memory_bytes


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_control_group_cpus_are_those_of_the_affinity(tmp_path: Path) -> None:
    assert host_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_a_cpu_quota_of_version_2_is_respected(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "100000 100000\n")
    assert host_cpus(tmp_path) == 1


def test_a_fraction_of_a_cpu_still_counts_as_one(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert host_cpus(tmp_path) == 1


def test_a_cpu_quota_of_version_1_is_respected(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert host_cpus(tmp_path) == 1


def test_an_unlimited_quota_is_no_limit(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert host_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_the_memory_limit_of_our_own_group_or_one_above_counts(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/user.slice/run.scope\n")
    write(tmp_path, "sys/fs/cgroup/user.slice/memory.max", str(2**30))
    write(tmp_path, "sys/fs/cgroup/user.slice/run.scope/memory.max", "max\n")
    assert host_memory_bytes(tmp_path) == 2**30


def test_without_a_limit_memory_is_the_machine_s(tmp_path: Path) -> None:
    assert host_memory_bytes(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

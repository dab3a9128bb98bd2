"""Where a local run goes, decided for machines that are not this one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.errors import ConfigError
from rompy_hydra.plan.resources import Parallel, Resources, SettledResources
from rompy_hydra.run.placement import Machine, choose_cpus, place, placement_variables

GIB = 1024**3
UNBOUND = {"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"}
OVERSUBSCRIBED = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def machine(root: Path, cpus: int, *, ours: range | None = None, threads_per_core: int = 1) -> Machine:
    """A machine whose CPUs 0, 1, ... share cores in pairs (0 with 1, 2 with 3), if there are two threads per core."""
    for cpu in range(cpus):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        core = cpu - cpu % threads_per_core
        (topology / "thread_siblings_list").write_text(f"{core}-{core + threads_per_core - 1}\n")
    return Machine(cpus=tuple(ours or range(cpus)), all_cpus=cpus, memory_bytes=8 * GIB, root=root)


def resources(parallel: Parallel, **fields: Any) -> tuple[Resources, SettledResources]:
    asked = Resources.model_validate(fields)
    return asked, asked.settle(parallel)


def told(here: Machine, *launcher: str, environ: dict[str, str] | None = None, **fields: Any) -> dict[str, str]:
    """What MPI is told, without what is for root."""
    variables = placement_variables(
        *resources(fields.pop("parallel", "mpi"), **fields), launcher=launcher, environ=environ or {}, machine=here
    )
    return {k: v for k, v in variables.items() if k.startswith(("OMPI_MCA", "PRTE"))}


def test_a_run_on_one_machine_has_one_node(tmp_path: Path) -> None:
    placed = place(*resources("mpi", ranks=4), machine=machine(tmp_path, 8), environ={})
    assert (placed.nodes, placed.ranks_per_node, placed.notes) == (1, 4, ())


def test_ranks_on_several_nodes_are_refused(tmp_path: Path) -> None:
    for fields in ({"ranks": 4, "nodes": 2}, {"ranks": 4, "ranks_per_node": 2}, {"nodes": 2, "ranks_per_node": 2}):
        with pytest.raises(ConfigError, match="one machine"):
            place(*resources("mpi", **fields), machine=machine(tmp_path / str(fields), 8), environ={})


def test_a_preset_for_a_big_machine_is_noted_on_a_small_one(tmp_path: Path) -> None:
    small = machine(tmp_path, 2)
    assert place(*resources("serial", cpus=16, memory="32g"), machine=small, environ={}).notes == (
        "cpus=16, but this machine lets us have 2",
        "memory=32 GiB, but this machine has 8 GiB: the limit cannot be reached",
    )
    assert place(*resources("openmp", cpus=16), machine=small, environ={}).notes == (
        "cpus=16, but this machine lets us have 2: 1 ranks x 16 threads share them, and take longer",
    )


def test_idle_cpus_that_are_there_stay_noted(tmp_path: Path) -> None:
    placed = place(*resources("serial", cpus=4), machine=machine(tmp_path, 8), environ={})
    assert placed.notes == ("cpus=4 are reserved, but a serial model uses 1: 3 stay idle",)


def test_a_run_that_says_nothing_is_not_bound(tmp_path: Path) -> None:
    here = machine(tmp_path, 8)
    assert choose_cpus(*resources("mpi"), machine=here) is None
    assert choose_cpus(*resources("mpi", cpus=8), machine=here) is None
    assert placement_variables(*resources("mpi"), environ={}, machine=here) == {}


def test_each_rank_gets_a_core_before_two_share_one(tmp_path: Path) -> None:
    here = machine(tmp_path, 8, threads_per_core=2)
    four = choose_cpus(*resources("mpi", ranks=4), machine=here)
    assert four is not None
    assert {cpu // 2 for cpu in four} == {0, 1, 2, 3}
    six = choose_cpus(*resources("mpi", ranks=6), machine=here)
    assert six is not None
    assert len(six) == 6


def test_a_run_stays_on_the_cpus_that_we_may_use(tmp_path: Path) -> None:
    chosen = choose_cpus(*resources("mpi", ranks=2), machine=machine(tmp_path, 8, ours=range(4, 8)))
    assert chosen is not None
    assert set(chosen) < set(range(4, 8))


def test_runs_of_one_process_take_turns(tmp_path: Path) -> None:
    # Far above the CPUs of this machine, where nothing is bound.
    here = machine(tmp_path, 1024, ours=range(1000, 1008))
    chosen = [choose_cpus(*resources("mpi", ranks=2), machine=here) for _ in range(4)]
    assert sorted(cpu for cpus in chosen if cpus for cpu in cpus) == list(range(1000, 1008))


def test_a_machine_that_tells_no_topology_has_a_core_for_each_cpu(tmp_path: Path) -> None:
    here = Machine(cpus=(0, 1, 2), all_cpus=3, memory_bytes=GIB, root=tmp_path)
    assert here.cores == ((0,), (1,), (2,))


def test_open_mpi_binds_nothing_but_a_run_with_the_whole_machine(tmp_path: Path) -> None:
    here = machine(tmp_path, 8)
    assert told(here, "mpirun", ranks=4) == UNBOUND
    assert told(here, "mpirun", parallel="hybrid", ranks=4, threads=2) == UNBOUND
    assert told(here, "mpirun") == UNBOUND
    assert told(here, "mpirun", ranks=8) == {}
    half = Machine(cpus=(0, 1, 2, 3), all_cpus=8, memory_bytes=GIB, root=tmp_path)
    assert told(half, "mpirun", ranks=4) == UNBOUND


def test_a_command_that_starts_mpirun_itself_is_told_too(tmp_path: Path) -> None:
    assert told(machine(tmp_path, 8), parallel="serial", cpus=4) == UNBOUND


def test_more_ranks_than_cores_are_allowed(tmp_path: Path) -> None:
    here = machine(tmp_path, 8, threads_per_core=2)
    assert told(here, "mpirun", ranks=4) == UNBOUND
    assert told(here, "mpirun", ranks=5) == UNBOUND | OVERSUBSCRIBED
    assert told(here, "mpirun", ranks=9) == OVERSUBSCRIBED


@pytest.mark.parametrize(
    "option", ["--bind-to core", "-bind-to core", "--map-by socket", "--rankfile r", "--mca hwloc_base_cpu_list 0,1"]
)
def test_a_launcher_that_says_where_ranks_go_is_left_alone(option: str, tmp_path: Path) -> None:
    assert told(machine(tmp_path, 8), "mpirun", *option.split(), "-n", "2", ranks=2) == {}


def test_other_options_of_a_launcher_change_nothing(tmp_path: Path) -> None:
    here = machine(tmp_path, 8)
    assert told(here, "mpirun", "--mca", "btl", "tcp,self", "--oversubscribe", "-n", "2", ranks=2) == UNBOUND


def test_what_the_shell_says_to_mpi_wins(tmp_path: Path) -> None:
    environ = {"OMPI_MCA_hwloc_base_binding_policy": "socket"}
    assert told(machine(tmp_path, 8), "mpirun", ranks=2, environ=environ).keys() == {
        "PRTE_MCA_hwloc_default_binding_policy"
    }


def test_only_root_is_excused_and_only_to_a_launcher(tmp_path: Path) -> None:
    here = machine(tmp_path, 8)
    asked = resources("mpi", ranks=2)
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in placement_variables(*asked, launcher=["mpirun"], environ={}, machine=here)) == (
        os.geteuid() == 0
    )
    assert "OMPI_ALLOW_RUN_AS_ROOT" not in placement_variables(*asked, environ={}, machine=here)


def gpus(here: Machine, count: int, environ: dict[str, str]) -> dict[str, str]:
    return placement_variables(*resources("serial", gpus=count), environ=environ, machine=here)


def test_gpus_are_those_that_the_machine_has(tmp_path: Path) -> None:
    here = machine(tmp_path, 1)
    assert gpus(here, 1, {}) == {}
    assert gpus(here, 0, {}) == {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert gpus(here, 1, {}) == {"CUDA_VISIBLE_DEVICES": "0"}
    assert gpus(here, 4, {}) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert gpus(here, 1, {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}) == {"CUDA_VISIBLE_DEVICES": "GPU-a"}


def test_amd_gpus_are_counted_without_the_processor_among_them(tmp_path: Path) -> None:
    for number, identity in enumerate(["0", "4711", "4712"]):
        node = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number}"
        node.mkdir(parents=True)
        (node / "gpu_id").write_text(f"{identity}\n")
    assert gpus(machine(tmp_path, 1), 2, {}) == {"ROCR_VISIBLE_DEVICES": "0,1"}


def test_missing_gpus_are_noted(tmp_path: Path) -> None:
    placed = place(*resources("serial", gpus=2), machine=machine(tmp_path, 1), environ={})
    assert placed.notes == ("gpus=2, but no NVIDIA or AMD GPUs are visible here",)

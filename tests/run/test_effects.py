"""The table of `docs/resources.md` is true: every cell is read from inside a run, or from what a backend is handed.

A cell of the local backend has a check here (`@reads`); a field or a backend without one fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra import DockerConfig, LocalConfig, ModelRun, SlurmConfig
from rompy_hydra.backends.registry import backend_types
from rompy_hydra.cli import main
from rompy_hydra.compose.bridge import to_plan
from rompy_hydra.compose.invocation import compose_command
from rompy_hydra.compose.sources import find_sources
from rompy_hydra.errors import ConfigError, SiteError
from rompy_hydra.plan.resources import Resources, thread_variables
from rompy_hydra.plan.run_plan import RunPlan
from rompy_hydra.record.states import RunState
from rompy_hydra.run.effects import EFFECTS, effects_table
from rompy_hydra.workspace.run_record import RunRecord
from tests.services.docker_engine import ensure_tiny_image

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "resources.md"
MARKERS = ("<!-- effects of resources: made from rompy_hydra/run/effects.py -->\n", "<!-- end of effects -->\n")

# What a run writes down of itself; with an argument, as one of several MPI ranks.
LOOK = """
import json, os, sys
seen = {"cpus": sorted(os.sched_getaffinity(0)), "variables": dict(os.environ), "rank": 0, "size": 1}
if sys.argv[1:]:
    from mpi4py import MPI
    seen |= {"rank": MPI.COMM_WORLD.rank, "size": MPI.COMM_WORLD.size}
with open(f"seen-{seen['rank']}.json", "w") as file:
    json.dump(seen, file)
"""
GRAB = "import sys, time\nheld = b'x' * (int(sys.argv[1]) << 20)\ntime.sleep(60)\n"
GRAB_TWICE = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]]) for _ in range(2)]
for child in children:
    child.wait()
"""
MPIRUN = LocalConfig(mpiexec="mpirun")


def run(
    directory: Path, *command: str, backend: LocalConfig | None = None, parallel: str = "serial", **resources: Any
) -> RunRecord:
    """A command through the whole workflow."""
    model = {"name": "look", "command": [sys.executable, "-c", *command], "parallel": parallel}
    started = ModelRun("r", directory, model=model, backend=backend, on_existing="new", resources=resources)
    started.run()
    assert started.record is not None
    return started.record


def look(directory: Path, *, mpi: bool = False, **settings: Any) -> tuple[list[dict[str, Any]], RunRecord]:
    """What each rank of a run saw, and the record."""
    record = run(directory, LOOK, *(["mpi"] if mpi else []), **settings)
    assert record.succeeded, record.data["reason"]
    return [json.loads(path.read_text()) for path in sorted(record.run_dir.glob("seen-*.json"))], record


def refusal(directory: Path, **settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        look(directory / "refused", **settings)
    assert not (directory / "refused").exists()
    return caught.value


def composed(*overrides: str) -> RunPlan:
    environ: dict[str, str] = {}
    command = ["model=command", "model.command=true", *overrides]
    return to_plan(compose_command(command, find_sources([], environ=environ), environ=environ), cwd=Path("/"))


# ---- one check for each cell of a backend that runs

Check = Callable[[Path, pytest.MonkeyPatch], None]
CHECKS: dict[tuple[str, str], tuple[Check, list[pytest.MarkDecorator]]] = {}
DOCKER = (pytest.mark.docker, pytest.mark.xdist_group("docker"))
SLURM = (pytest.mark.slurm,)


def reads(field: str, *marks: pytest.MarkDecorator, backend: str = "local") -> Callable[[Check], Check]:
    """Makes a function the check of a cell."""

    def register(check: Check) -> Check:
        CHECKS[backend, field] = check, list(marks)
        return check

    return register


@reads("ranks", pytest.mark.anuga)
def ranks_are_the_size_of_the_world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = look(directory, mpi=True, parallel="mpi", ranks=2, backend=MPIRUN)
    assert [(rank["rank"], rank["size"]) for rank in seen] == [(0, 2), (1, 2)]


@reads("threads")
def threads_are_the_variables_of_the_libraries(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (seen,), _ = look(directory, parallel="openmp", threads=3)
    assert seen["variables"].items() >= thread_variables(3).items()


@reads("cpus")
def cpus_are_the_processors_it_may_run_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (seen,), _ = look(directory, cpus=1)
    assert len(seen["cpus"]) == 1
    (seen,), record = look(directory, cpus=4096)
    assert seen["cpus"] == sorted(os.sched_getaffinity(0))
    assert "cpus=4096, but this machine lets us have" in record.data["resources"]["notes"][0]


@reads("ranks_per_node")
def ranks_per_node_changes_nothing_and_must_hold_all(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sees_nothing_of(directory, "ranks_per_node", 1)
    found = refusal(directory, parallel="mpi", ranks=4, ranks_per_node=2, backend=MPIRUN).findings[0]
    assert (found.key, found.value) == ("resources.ranks_per_node", "2")
    assert found.mend == "set resources.ranks_per_node to null or at least 4, or run on a cluster: backend=slurm"


@reads("nodes")
def nodes_changes_nothing_and_must_be_one(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sees_nothing_of(directory, "nodes", 1)
    found = refusal(directory, parallel="mpi", ranks=4, nodes=2, backend=MPIRUN).findings[0]
    assert (found.key, found.value) == ("resources.nodes", "2")
    assert found.mend == "set resources.nodes to 1 or null, or run on a cluster: backend=slurm"


@reads("memory")
def memory_ends_the_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_out_of_memory(run(directory, GRAB, "300", memory="100m"), "100.0 MiB")


@reads("gpus")
def gpus_are_the_devices_it_may_see(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    (none,), _ = look(directory, gpus=0)
    (two,), quiet = look(directory, gpus=2)
    (four,), noted = look(directory, gpus=4)
    assert [one["variables"]["CUDA_VISIBLE_DEVICES"] for one in (none, two, four)] == ["", "3,5", "3,5,7"]
    assert none["variables"]["ROCR_VISIBLE_DEVICES"] == ""
    assert quiet.data["resources"]["notes"] == []
    assert noted.data["resources"]["notes"] == ["gpus=4, but 3 NVIDIA or AMD GPUs are visible here"]


@reads("time_limit")
def time_limit_ends_the_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = LocalConfig(timeout=3600)
    record = run(directory, "import time\ntime.sleep(60)", backend=shorter, time_limit=1)
    assert record.state is RunState.TIMED_OUT
    assert record.data["reason"].startswith("it ran longer than its time limit of 1 s")
    assert record.data["wall_seconds"] < 30


# ---- the same in containers of a tiny image: its shell is what looks

TELL = "env; echo memory $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null)"
FAKE_MPIRUN = '#!/bin/sh\necho launched: "$@"\nwhile [ "$1" = -n ]; do shift 2; done\nexec "$@"\n'


def in_a_container(
    directory: Path, command: str, *, parallel: str = "serial", docker: dict[str, Any] | None = None, **resources: Any
) -> tuple[str, RunRecord]:
    """What a run says of itself, and its record; the backend as `conf/backend/docker.yaml` fills it in."""
    model = {"name": "look", "command": ["/bin/sh", "-c", command], "parallel": parallel}
    handed = {"cpu": resources.get("cpus"), "memory": resources.get("memory"), **(docker or {})}
    backend = DockerConfig(image=ensure_tiny_image(), **handed)
    started = ModelRun("r", directory, model=model, backend=backend, on_existing="new", resources=resources)
    started.run()
    assert started.record is not None
    return (started.record.run_dir / "logs" / "stdout.log").read_text(), started.record


@reads("ranks", *DOCKER, backend="docker")
def ranks_are_told_to_the_launcher_inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "mpirun").write_text(FAKE_MPIRUN)
    (directory / "mpirun").chmod(0o755)
    inside = {"mpiexec": f"{directory}/bin/mpirun", "volumes": [f"{directory}:{directory}/bin"]}
    said, _ = in_a_container(directory, "echo ran", parallel="mpi", ranks=2, docker=inside)
    assert said == "launched: -n 2 /bin/sh -c echo ran\nran\n"


@reads("threads", *DOCKER, backend="docker")
def threads_are_the_variables_inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    said, _ = in_a_container(directory, TELL, parallel="openmp", threads=2)
    assert {f"{name}={value}" for name, value in thread_variables(2).items()} <= set(said.splitlines())
    assert "OMP_NUM_THREADS" not in in_a_container(directory, TELL)[0]


@reads("cpus", *DOCKER, backend="docker")
def cpus_are_the_time_it_may_take(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hands_over("docker", "cpus") == {"cpu": 2}
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2> /dev/null"
    assert in_a_container(directory, quota, cpus=1)[0].split()[0] == "100000"
    assert in_a_container(directory, quota)[0].split()[0] in ("-1", "max")
    _, record = in_a_container(directory, quota, parallel="openmp", cpus=64)
    assert "cpus=64, but this machine lets us have" in record.data["resources"]["notes"][0]


@reads("ranks_per_node", *DOCKER, backend="docker")
def ranks_per_node_changes_nothing_inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hands_over("docker", "ranks_per_node") == {}
    with pytest.raises(ConfigError, match="one machine"):
        in_a_container(directory, "true", parallel="mpi", ranks=4, ranks_per_node=2, docker={"mpiexec": "mpirun"})


@reads("nodes", *DOCKER, backend="docker")
def nodes_changes_nothing_inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hands_over("docker", "nodes") == {}
    with pytest.raises(ConfigError, match="one machine"):
        in_a_container(directory, "true", parallel="mpi", ranks=4, nodes=2, docker={"mpiexec": "mpirun"})


@reads("memory", *DOCKER, backend="docker")
def memory_is_the_kernel_s_limit(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hands_over("docker", "memory") == {"memory": "256m"}
    said, _ = in_a_container(directory, TELL, memory="64m")
    assert f"memory {64 << 20}" in said
    grab = "x=x; while :; do x=$x$x; done"
    _, record = in_a_container(directory, grab, memory="32m")
    assert record.state is RunState.OUT_OF_MEMORY
    assert "32.0 MiB" in record.data["reason"]


@reads("gpus", *DOCKER, backend="docker")
def gpus_change_nothing_inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hands_over("docker", "gpus") == {}
    _, record = in_a_container(directory, "true", gpus=2)
    assert "gpus: containers get none" in record.data["resources"]["notes"]


@reads("time_limit", *DOCKER, backend="docker")
def time_limit_stops_the_container(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record = in_a_container(directory, "sleep 60", time_limit=1, docker={"timeout": 3600})
    assert record.state is RunState.TIMED_OUT
    assert record.data["reason"].startswith("it ran longer than its time limit of 1 s")


# ---- the same in jobs of Slurm: what the job was given, as the controller and the job itself see it

ALLOCATED = "env; scontrol show job $SLURM_JOB_ID"


def in_a_job(
    directory: Path,
    command: str = ALLOCATED,
    *,
    parallel: str = "serial",
    slurm: dict[str, Any] | None = None,
    **asked: Any,
) -> tuple[str, RunRecord]:
    """What a job says of itself, and its record; the backend as `conf/backend/slurm.yaml` fills it in."""
    model = {"name": "look", "command": ["/bin/sh", "-c", command], "parallel": parallel}
    kinds = {"ntasks": "ranks", "cpus_per_task": "threads", "ntasks_per_node": "ranks_per_node"}
    handed = {key: asked.get(kinds.get(key, key)) for key in ("nodes", "memory", "gpus", *kinds)}
    backend = SlurmConfig(**{**handed, **(slurm or {})})
    started = ModelRun("r", directory, model=model, backend=backend, on_existing="new", resources=asked)
    started.run()
    assert started.record is not None
    return (started.record.run_dir / "logs" / "stdout.log").read_text(), started.record


def fake_launcher(directory: Path) -> dict[str, Any]:
    (directory / "mpirun").write_text(FAKE_MPIRUN)
    (directory / "mpirun").chmod(0o755)
    return {"mpiexec": f"{directory}/mpirun"}


@reads("ranks", *SLURM, backend="slurm")
def ranks_are_the_tasks_of_the_job(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = in_a_job(directory, parallel="mpi", ranks=2, slurm=fake_launcher(directory))
    assert said.startswith("launched: -n 2 ")
    assert "SLURM_NTASKS=2\n" in said
    assert "NumCPUs=2 NumTasks=2 " in said


@reads("threads", *SLURM, backend="slurm")
def threads_are_the_cpus_of_a_task(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    said, _ = in_a_job(directory, parallel="openmp", threads=3)
    assert {f"{name}={value}" for name, value in thread_variables(3).items()} <= set(said.splitlines())
    assert "NumCPUs=3 NumTasks=1 CPUs/Task=3 " in said


@reads("cpus", *SLURM, backend="slurm")
def cpus_are_those_of_the_job(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, record = in_a_job(directory, cpus=4)
    assert "NumCPUs=4 NumTasks=1 CPUs/Task=4 " in said
    assert record.data["slurm"]["cpus"] == 4
    assert "3 stay idle" in record.data["resources"]["notes"][0]


@reads("ranks_per_node", *SLURM, backend="slurm")
def ranks_per_node_are_the_tasks_of_a_node(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = in_a_job(directory, parallel="mpi", ranks=2, ranks_per_node=2, slurm=fake_launcher(directory))
    assert "SLURM_NTASKS_PER_NODE=2\n" in said
    assert "NumNodes=1 " in said


@reads("nodes", *SLURM, backend="slurm")
def nodes_are_those_of_the_job(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = in_a_job(directory, parallel="mpi", ranks=2, nodes=1, slurm=fake_launcher(directory))
    assert "SLURM_NNODES=1\n" in said
    monkeypatch.chdir(directory)  # the cluster has one, so a job of two only waits
    two = ["backend=slurm", "resources.nodes=2", "resources.ranks=2", "model.parallel=mpi", "backend.mpiexec=srun"]
    assert main(["run", "--detach", "model=command", "model.command=true", "run_id=two", *two]) == 0
    job_id = json.loads(Path("runs/two/run.json").read_text())["slurm"]["job_id"]
    asked = subprocess.run(["scontrol", "show", "job", str(job_id)], capture_output=True, text=True, check=True).stdout
    assert "NumNodes=2" in asked
    assert main(["cancel", "runs/two"]) == 0


@reads("memory", *SLURM, backend="slurm")
def memory_is_that_of_the_job(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = in_a_job(directory, memory="300m")
    assert "MinMemoryNode=300M" in said
    eat = "x=x; while :; do x=$x$x; [ ${#x} -lt 100000000 ] || sleep 20; done"
    _, record = in_a_job(directory, eat, memory="30m")
    assert record.state is RunState.OUT_OF_MEMORY
    assert "exceeded memory limit" in record.data["reason"]


@reads("gpus", *SLURM, backend="slurm")
def gpus_are_asked_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = in_a_job(directory, gpus=0)
    assert "gres/gpu" not in said
    with pytest.raises(SiteError, match=r"(?i)gres|node configuration"):  # the cluster has none
        in_a_job(directory, gpus=2)


@reads("time_limit", *SLURM, backend="slurm")
def time_limit_ends_the_job(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, record = in_a_job(directory, f"{ALLOCATED}; sleep 60", time_limit=2)
    assert record.state is RunState.TIMED_OUT
    assert record.data["reason"].startswith("it ran longer than its time limit of 2 s")
    assert "TimeLimit=00:01:00 " in said  # Slurm counts minutes


def sees_nothing_of(directory: Path, field: str, value: int) -> bool:
    """Whether a run sees the same with the field as without it, but for the names of the run itself."""
    (without,), _ = look(directory)
    said: dict[str, Any] = {field: value}
    (seen,), _ = look(directory, **said)
    for one in (without, seen):
        one["variables"] = {k: v for k, v in one["variables"].items() if not k.startswith(("ROMPY_", "PYTEST_"))}
    return without == seen


def assert_out_of_memory(record: RunRecord, asked: str) -> None:
    """Ended as it should be, and the record tells what was asked and what was used."""
    assert record.state is RunState.OUT_OF_MEMORY
    assert f"more than the {asked} it was given" in record.data["reason"]
    assert record.data["peak_memory_bytes"] > record.data["resources"]["memory"]


# ---- the other backends: what the composed configuration hands over

SAID = {
    "ranks": "2",
    "threads": "2",
    "cpus": "2",
    "ranks_per_node": "2",
    "nodes": "2",
    "memory": "256m",
    "gpus": "2",
    "time_limit": "10m",
}


def hands_over(backend: str, field: str) -> dict[str, Any]:
    """The keys of the backend that a field changes."""
    without = composed(f"backend={backend}").spec.backend.model_dump()
    said = composed(f"backend={backend}", f"resources.{field}={SAID[field]}").spec.backend.model_dump()
    return {key: value for key, value in said.items() if value != without[key]}


def cells() -> Iterator[Any]:
    for field, effects in EFFECTS.items():
        for backend in effects:
            _, marks = CHECKS.get((backend, field), (None, []))
            yield pytest.param(backend, field, id=f"{backend}-{field}", marks=marks)


@pytest.mark.parametrize(("backend", "field"), list(cells()))
def test_a_cell_of_the_table_is_true(backend: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    effect = EFFECTS[field][backend]
    if backend == "slurm":
        monkeypatch.chdir(tmp_path)
        assert hands_over(backend, field).keys() >= ({effect.key} if effect.key else set())
    assert (backend, field) in CHECKS, f"write a check: @reads('{field}', backend='{backend}')"
    CHECKS[backend, field][0](tmp_path, monkeypatch)


def test_the_table_has_every_field_and_every_backend() -> None:
    assert list(EFFECTS) == list(Resources.model_fields)
    for field, effects in EFFECTS.items():
        assert sorted(effects) == backend_types(), field


def test_the_document_holds_the_table() -> None:
    begin, end = MARKERS
    shown = DOCUMENT.read_text().partition(begin)[2].partition(end)[0]
    assert shown == effects_table(), f"put this between the markers of docs/resources.md:\n\n{effects_table()}"


# ---- memory is that of the whole tree


def test_memory_of_two_children_counts_together(tmp_path: Path) -> None:
    record = run(tmp_path, GRAB_TWICE, GRAB, "80", memory="150m")
    assert_out_of_memory(record, "150.0 MiB")


def test_two_children_below_the_limit_together_are_left_alone(tmp_path: Path) -> None:
    done = GRAB.replace("60", "0.3")
    record = run(tmp_path, GRAB_TWICE, done, "20", memory="300m")
    assert record.succeeded


@pytest.mark.anuga
def test_memory_of_mpi_ranks_counts_together(tmp_path: Path) -> None:
    record = run(tmp_path, GRAB, "120", parallel="mpi", ranks=2, memory="200m", backend=MPIRUN)
    assert_out_of_memory(record, "200.0 MiB")


# ---- MPI stays where the run is


@pytest.fixture
def last_cpu() -> Iterator[int]:
    """We may use the last CPU only, as under `taskset`; Open MPI would go to the first."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    yield max(cpus)
    os.sched_setaffinity(0, cpus)


@pytest.mark.anuga
def test_a_rank_stays_on_the_cpus_that_we_may_use(tmp_path: Path, last_cpu: int) -> None:
    (rank,), _ = look(tmp_path, mpi=True, parallel="mpi", backend=MPIRUN)
    assert rank["cpus"] == [last_cpu]


@pytest.mark.anuga
def test_the_threads_of_a_rank_do_not_share_one_core(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    (rank,), _ = look(tmp_path, mpi=True, parallel="hybrid", ranks=1, threads=2, backend=MPIRUN)
    assert len(rank["cpus"]) == 2


@pytest.mark.anuga
def test_more_ranks_than_cores_run_and_are_noted(tmp_path: Path) -> None:
    ranks = (os.cpu_count() or 1) + 1
    if ranks > 9:
        pytest.skip(f"would start {ranks} ranks")
    seen, record = look(tmp_path, mpi=True, parallel="mpi", ranks=ranks, backend=MPIRUN)
    assert [rank["size"] for rank in seen] == [ranks] * ranks
    assert f"{ranks} ranks x 1 threads share them, and take longer" in record.data["resources"]["notes"][0]


@pytest.mark.anuga
def test_a_launcher_that_binds_is_left_to_it(tmp_path: Path) -> None:
    backend = LocalConfig(mpiexec="mpirun --bind-to core")
    (rank,), _ = look(tmp_path, mpi=True, parallel="hybrid", threads=2, backend=backend)
    assert len(rank["cpus"]) == 1


@pytest.mark.anuga
def test_one_rank_under_a_launcher_starts_as_any_user(tmp_path: Path) -> None:
    (rank,), _ = look(tmp_path, mpi=True, backend=MPIRUN)
    assert rank["size"] == 1


def test_a_run_keeps_out_of_the_way_of_bound_processes(tmp_path: Path) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        pytest.skip("needs two CPUs")
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(16)]
    try:
        for sleeper in sleepers:
            os.sched_setaffinity(sleeper.pid, {first})
        (seen,), _ = look(tmp_path, cpus=1)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
    assert seen["cpus"] != [first]


# ---- from the command line


def test_tasks_is_another_name_of_ranks_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert composed("resources.tasks=2").spec.resources == composed("resources.ranks=2").spec.resources
    assert getattr(composed("backend=slurm", "resources.tasks=2").spec.backend, "ntasks", None) == 2
    with pytest.raises(ConfigError, match="ranks=3 and its other name tasks=2 differ: give one of them"):
        composed("resources.tasks=2", "resources.ranks=3")
    with pytest.raises(ConfigError, match=r"did you mean 'resources\.tasks'"):
        composed("resources.taks=2")


def test_a_file_may_say_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "resources").mkdir(parents=True)
    (tmp_path / "conf" / "resources" / "four.yaml").write_text("defaults: [/schema/resources, _self_]\ntasks: 4\n")
    monkeypatch.chdir(tmp_path)
    assert composed("resources=four").spec.resources.ranks == 4


def test_the_command_line_binds_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"'{sys.executable} {tmp_path}/look.py'"
    (tmp_path / "look.py").write_text(LOOK)
    words = ["run", "model=command", f"backend.command={command}", "output_dir=out", "model.parallel=openmp"]
    assert main([*words, "run_id=one", "resources.cpus=1"]) == 0
    assert main([*words, "run_id=all", "resources=host"]) == 0
    one, everything = (json.loads((tmp_path / f"out/{name}/seen-0.json").read_text()) for name in ("one", "all"))
    assert (len(one["cpus"]), one["variables"]["OMP_NUM_THREADS"]) == (1, "1")
    assert int(everything["variables"]["OMP_NUM_THREADS"]) == len(everything["cpus"])

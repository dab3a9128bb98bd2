"""The algebra of resources: ranks x threads = cpus, and the launcher that is never doubled."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rompy_hydra.errors import ConfigError, Finding
from rompy_hydra.plan.resources import (
    Parallel,
    Resources,
    SettledResources,
    launcher_argv,
    launcher_ranks,
    thread_variables,
)

KINDS: list[Parallel] = ["serial", "openmp", "mpi", "hybrid"]
counts = st.none() | st.integers(1, 64)
requests = st.builds(Resources, ranks=counts, threads=counts, cpus=counts, ranks_per_node=counts, nodes=counts)


def settled(parallel: Parallel, **fields: Any) -> SettledResources:
    return Resources.model_validate(fields).settle(parallel)


def findings(parallel: Parallel, **fields: Any) -> dict[str, Finding]:
    with pytest.raises(ConfigError) as caught:
        settled(parallel, **fields)
    return {finding.key.removeprefix("resources."): finding for finding in caught.value.findings}


@pytest.mark.parametrize(
    ("parallel", "asked", "ranks", "threads", "cpus"),
    [
        ("serial", {}, 1, 1, 1),
        ("openmp", {}, 1, 1, 1),
        ("mpi", {}, 1, 1, 1),
        ("hybrid", {}, 1, 1, 1),
        ("openmp", {"cpus": 4}, 1, 4, 4),
        ("openmp", {"threads": 4}, 1, 4, 4),
        ("mpi", {"cpus": 4}, 4, 1, 4),
        ("mpi", {"ranks": 4}, 4, 1, 4),
        ("mpi", {"nodes": 2, "ranks_per_node": 8}, 16, 1, 16),
        ("hybrid", {"ranks": 2, "threads": 4}, 2, 4, 8),
        ("hybrid", {"ranks": 2, "cpus": 8}, 2, 4, 8),
        ("hybrid", {"threads": 2, "cpus": 8}, 4, 2, 8),
        ("hybrid", {"ranks": 2}, 2, 1, 2),
        ("hybrid", {"threads": 2}, 1, 2, 2),
        ("hybrid", {"cpus": 1}, 1, 1, 1),
        ("hybrid", {"nodes": 2, "ranks_per_node": 4, "cpus": 16}, 8, 2, 16),
        ("hybrid", {"nodes": 2, "ranks_per_node": 4, "threads": 3}, 8, 3, 24),
    ],
)
def test_what_is_said_decides_the_rest(
    parallel: Parallel, asked: dict[str, Any], ranks: int, threads: int, cpus: int
) -> None:
    result = settled(parallel, **asked)
    assert (result.ranks, result.threads, result.cpus) == (ranks, threads, cpus)
    assert result.notes == ()


def test_a_serial_model_leaves_the_cpus_of_a_preset_idle_and_says_so() -> None:
    result = settled("serial", cpus=16)
    assert (result.ranks, result.threads, result.cpus) == (1, 1, 16)
    assert result.notes == ("cpus=16 are reserved, but a serial model uses 1: 15 stay idle",)


def test_a_serial_model_refuses_ranks_and_threads_together() -> None:
    found = findings("serial", ranks=2, threads=3)
    assert found.keys() == {"ranks", "threads"}
    assert found["ranks"].mend == "set resources.ranks to 1 or null"


def test_an_openmp_model_refuses_ranks() -> None:
    assert "ranks=2, but this model has one process (parallel: openmp)" in findings("openmp", ranks=2)["ranks"].rule


def test_an_mpi_model_refuses_threads_and_names_hybrid() -> None:
    assert "parallel to hybrid" in str(findings("mpi", threads=2)["threads"].mend)


def test_a_hybrid_model_with_cpus_alone_asks_how_to_divide_them() -> None:
    assert "ranks or resources.threads" in str(findings("hybrid", cpus=8)["cpus"].mend)


def test_a_product_that_does_not_fit_names_all_three_and_the_mend() -> None:
    found = findings("hybrid", ranks=2, threads=2, cpus=5)["cpus"]
    assert found.rule == "ranks=2 x threads=2 = 4, but cpus=5"
    assert found.mend == "set resources.cpus to 4 or null, or change ranks or threads"


@pytest.mark.parametrize("asked", [{"ranks": 3, "cpus": 16}, {"threads": 3, "cpus": 16}, {"threads": 8, "cpus": 4}])
def test_cpus_that_do_not_divide_are_refused(asked: dict[str, Any]) -> None:
    assert "cpus" in findings("hybrid", **asked)


def test_several_contradictions_come_together() -> None:
    found = findings("openmp", ranks=2, threads=2, cpus=5, nodes=3)
    assert found.keys() == {"ranks", "cpus", "nodes"}


@pytest.mark.parametrize(
    ("asked", "nodes", "ranks_per_node"),
    [
        ({"ranks": 1}, 1, 1),
        ({"ranks": 8}, None, None),
        ({"ranks": 8, "ranks_per_node": 3}, 3, 3),
        ({"ranks": 8, "ranks_per_node": 64}, 1, 8),
        ({"ranks": 8, "nodes": 2}, 2, 4),
        ({"ranks": 4, "nodes": 3}, 3, 2),
        ({"ranks": 8, "nodes": 2, "ranks_per_node": 64}, 2, 8),
    ],
)
def test_nodes_are_derived_or_left_to_the_scheduler(
    asked: dict[str, Any], nodes: int | None, ranks_per_node: int | None
) -> None:
    result = settled("mpi", **asked)
    assert (result.nodes, result.ranks_per_node) == (nodes, ranks_per_node)


def test_ranks_that_do_not_fit_on_the_nodes_are_refused() -> None:
    assert findings("mpi", ranks=9, nodes=2, ranks_per_node=4)["nodes"].mend == (
        "set resources.nodes to 3 or null, or ranks_per_node to 5"
    )


def test_more_nodes_than_ranks_are_refused() -> None:
    assert "only ranks=2" in findings("mpi", ranks=2, nodes=3)["nodes"].rule
    assert "only ranks=1" in findings("serial", nodes=2)["nodes"].rule


def test_memory_gpus_and_time_pass_through() -> None:
    result = settled("serial", memory="2g", gpus=0, time_limit="1:00:00")
    assert (result.memory, result.gpus, result.time_limit) == (2 * 1024**3, 0, 3600.0)
    assert (settled("serial").memory, settled("serial").gpus, settled("serial").time_limit) == (
        None,
        None,
        None,
    )


def test_tasks_is_another_name_of_ranks() -> None:
    assert Resources.model_validate({"tasks": "4"}) == Resources(ranks=4)
    assert Resources.model_validate({"tasks": 4, "ranks": None}).ranks == 4
    assert Resources.model_validate({"tasks": None, "ranks": 4}).ranks == 4
    assert Resources.model_validate({"tasks": 4, "ranks": "4"}).ranks == 4
    with pytest.raises(ValidationError, match="ranks=5 and its other name tasks=4 differ"):
        Resources.model_validate({"tasks": 4, "ranks": 5})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ranks", True),
        ("ranks", 0),
        ("ranks", 1.5),
        ("ranks", "many"),
        ("threads", -1),
        ("gpus", -1),
        ("gpus", False),
        ("memory", True),
        ("memory", 4),
        ("time_limit", 0),
        ("time_limit", True),
        ("time_limit", "P1M"),
        ("cpu", 4),
    ],
)
def test_a_bad_value_or_an_unknown_field_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Resources.model_validate({field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


def test_numbers_may_be_numeric_text() -> None:
    assert Resources.model_validate({"ranks": "4", "memory": "1073741824", "time_limit": "60"}) == Resources(
        ranks=4, memory=1024**3, time_limit=60
    )


def test_resources_are_frozen_and_survive_json() -> None:
    asked = Resources.model_validate({"tasks": 4, "memory": "1.5g", "time_limit": "90m"})
    with pytest.raises(ValidationError, match="frozen"):
        asked.ranks = 2
    assert Resources.model_validate_json(asked.model_dump_json()) == asked
    result = asked.settle("mpi")
    assert SettledResources.model_validate_json(result.model_dump_json()) == result


def test_the_schema_carries_the_identity_of_every_field() -> None:
    properties = Resources.model_json_schema()["properties"]
    marks = {name: field["identity"] for name, field in properties.items()}
    assert marks.pop("time_limit") == "none"
    assert set(marks) == {"ranks", "tasks", "threads", "cpus", "ranks_per_node", "nodes", "memory", "gpus"}
    assert set(marks.values()) == {"execution"}
    assert all(field["description"] for field in properties.values())


def test_the_schema_takes_the_alias_and_knows_the_bounds() -> None:
    schema = Resources.model_json_schema()
    jsonschema.validate({"tasks": 4, "memory": "2g", "time_limit": "1:00:00", "gpus": 0, "nodes": None}, schema)
    for bad in ({"ranks": 0}, {"cpu": 4}, {"gpus": -1}, {"time_limit": 0}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


@given(st.sampled_from(KINDS), requests)
def test_settling_is_consistent_and_keeps_what_was_said(parallel: Parallel, asked: Resources) -> None:
    try:
        result = asked.settle(parallel)
    except ConfigError:
        return
    assert result.cpus == result.ranks * result.threads or (parallel == "serial" and result.notes)
    assert result.ranks == 1 or parallel in ("mpi", "hybrid")
    assert result.threads == 1 or parallel in ("openmp", "hybrid")
    assert asked.ranks in (None, result.ranks)
    assert asked.threads in (None, result.threads)
    assert asked.cpus in (None, result.cpus)
    assert asked.nodes in (None, result.nodes)
    assert (result.nodes is None) == (result.ranks_per_node is None)
    if result.nodes is not None and result.ranks_per_node is not None:
        assert result.nodes <= result.ranks <= result.nodes * result.ranks_per_node
        assert result.ranks_per_node <= (asked.ranks_per_node or result.ranks)
    if asked.nodes is None and asked.ranks_per_node is not None:
        assert result.nodes == -(-result.ranks // asked.ranks_per_node)


@given(st.sampled_from(KINDS), requests)
def test_every_refusal_says_what_is_wrong_and_the_mend(parallel: Parallel, asked: Resources) -> None:
    refused = None
    try:
        asked.settle(parallel)
    except ConfigError as error:
        refused = error.findings
    assert refused is None or (refused and all(finding.rule and finding.mend for finding in refused))


@given(st.sampled_from(KINDS), requests)
def test_settling_twice_changes_nothing(parallel: Parallel, asked: Resources) -> None:
    try:
        result = asked.settle(parallel)
    except ConfigError:
        return
    assert result.as_resources().settle(parallel) == result


@given(st.integers(1, 64), st.integers(1, 64))
def test_any_two_of_three_give_the_third(ranks: int, threads: int) -> None:
    whole = settled("hybrid", ranks=ranks, threads=threads)
    assert settled("hybrid", ranks=ranks, cpus=ranks * threads) == whole
    assert settled("hybrid", threads=threads, cpus=ranks * threads) == whole
    assert settled("hybrid", ranks=ranks, threads=threads, cpus=ranks * threads) == whole


def test_the_thread_variables_hold_every_library_to_one_number() -> None:
    variables = thread_variables(3)
    assert {
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    } <= variables.keys()
    assert set(variables.values()) == {"3"}
    with pytest.raises(ValueError, match="too few"):
        thread_variables(0)


@pytest.mark.parametrize(
    ("mpiexec", "argv"),
    [
        ("mpirun", ["mpirun", "-n", "4"]),
        ("mpirun -np 4", ["mpirun", "-np", "4"]),
        ("mpirun --np=4 --oversubscribe", ["mpirun", "--np=4", "--oversubscribe"]),
        ("/usr/bin/mpiexec.hydra -n 4", ["/usr/bin/mpiexec.hydra", "-n", "4"]),
        ("mpirun -c 4", ["mpirun", "-c", "4"]),
        ("srun", ["srun", "-n", "4"]),
        ("srun -n4", ["srun", "-n4"]),
        ("srun --ntasks=4", ["srun", "--ntasks=4"]),
        ("srun --ntasks 4", ["srun", "--ntasks", "4"]),
        ("srun -c 2", ["srun", "-c", "2", "-n", "4"]),
        ("srun --ntasks-per-node=2", ["srun", "--ntasks-per-node=2", "-n", "4"]),
        ("mpirun --map-by ppr:2:node", ["mpirun", "--map-by", "ppr:2:node", "-n", "4"]),
        ("numactl -c 0 mpirun", ["numactl", "-c", "0", "mpirun", "-n", "4"]),
        ("env A=1 srun -c 2", ["env", "A=1", "srun", "-c", "2", "-n", "4"]),
        ("'/opt/my mpi/mpirun' -np 4", ["/opt/my mpi/mpirun", "-np", "4"]),
        (["/opt/my mpi/mpirun"], ["/opt/my mpi/mpirun", "-n", "4"]),
        (("/opt/my mpi/mpirun", "-n", "4"), ["/opt/my mpi/mpirun", "-n", "4"]),
    ],
)
def test_the_launcher_says_its_ranks_exactly_once(mpiexec: Any, argv: list[str]) -> None:
    assert launcher_argv(mpiexec, 4) == argv


@given(st.sampled_from(["mpirun", "mpiexec -np 7", "srun -n7", "srun -c 3", "mpirun --bind-to core"]))
def test_a_launcher_that_is_complete_is_left_alone(mpiexec: Any) -> None:
    assert launcher_argv(launcher_argv(mpiexec, 7), 7) == launcher_argv(mpiexec, 7)


def test_the_seeds_launcher_says_the_ranks() -> None:
    assert launcher_ranks("mpirun -np 16") == 16
    assert launcher_ranks("mpirun") is None
    assert launcher_ranks("srun -c 4") is None


def test_a_launcher_that_contradicts_the_ranks_is_refused_naming_both() -> None:
    with pytest.raises(ConfigError, match=r"starts 16 ranks, but resources.ranks=4") as caught:
        launcher_argv("mpirun -np 16", 4)
    assert "'-n 4' is then added" in str(caught.value)


@pytest.mark.parametrize(
    ("mpiexec", "says"),
    [
        ("", "names no program"),
        ("   ", "names no program"),
        ([], "names no program"),
        (["", "-n", "2"], "names no program"),
        ("mpirun 'x", "cannot be split"),
        ("mpirun -np", "not a number of ranks"),
        ("mpirun -np $SLURM_NTASKS", "not a number of ranks"),
        ("mpirun -np 0", "not a number of ranks"),
        ("mpirun -n 4 -np 4", "twice, by -n and -np"),
    ],
)
def test_a_launcher_that_cannot_be_used_is_refused_with_a_reason(mpiexec: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        launcher_argv(mpiexec, 4)


def test_a_launcher_needs_a_rank() -> None:
    with pytest.raises(ValueError, match="too few"):
        launcher_argv("mpirun", 0)

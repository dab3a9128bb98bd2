"""The nodes of an allocation are read from what Slurm, PBS and LSF tell a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from rompy_hydra.errors import ConfigError, SiteError
from rompy_hydra.sweep.allocation import Allocation, Node, expand_hosts, find_allocation, on_node


def test_outside_of_a_job_there_is_no_allocation() -> None:
    assert find_allocation({"PATH": "/bin", "SLURM_CONF": "/etc/slurm/slurm.conf"}) is None


def test_slurm_tells_its_nodes_in_short() -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[08-10],g1", "SLURM_JOB_CPUS_PER_NODE": "16(x3),4"}
    found = find_allocation(environ)
    assert found is not None
    assert found.nodes == (Node("n08", 16), Node("n09", 16), Node("n10", 16), Node("g1", 4))
    assert str(found) == "slurm job 7: 4 nodes, 52 CPUs"


def test_pbs_tells_a_line_for_each_process(tmp_path: Path) -> None:
    hosts = tmp_path / "nodes"
    hosts.write_text("a\na\nb\nb\n")
    found = find_allocation({"PBS_JOBID": "12.server", "PBS_NODEFILE": str(hosts)})
    assert found == Allocation("pbs", "12.server", (Node("a", 2), Node("b", 2)))


def test_pbs_with_one_process_of_many_cpus_tells_them_apart_from_its_file(tmp_path: Path) -> None:
    hosts = tmp_path / "nodes"
    hosts.write_text("a\nb\n")
    found = find_allocation({"PBS_JOBID": "12", "PBS_NODEFILE": str(hosts), "NCPUS": "16"})
    assert found is not None
    assert found.nodes == (Node("a", 16), Node("b", 16))


def test_lsf_tells_hosts_and_slots(tmp_path: Path) -> None:
    found = find_allocation({"LSB_JOBID": "3", "LSB_MCPU_HOSTS": "hostA 4 hostB 2"})
    assert found == Allocation("lsf", "3", (Node("hostA", 4), Node("hostB", 2)))
    hosts = tmp_path / "hosts"
    hosts.write_text("hostA\nhostA\nhostB\n")
    found = find_allocation({"LSB_JOBID": "3", "LSB_DJOB_HOSTFILE": str(hosts)})
    assert found == Allocation("lsf", "3", (Node("hostA", 2), Node("hostB", 1)))


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_JOB_ID": "7"},
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[a-b]", "SLURM_JOB_CPUS_PER_NODE": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_CPUS_PER_NODE": "many"},
        {"PBS_NODEFILE": "/no/such/file"},
        {"LSB_JOBID": "3", "LSB_MCPU_HOSTS": "hostA four"},
    ],
)
def test_what_cannot_be_read_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(SiteError):
        find_allocation(environ)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n1,n2", ["n1", "n2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("r[1-2]n[1-2].x", ["r1n1.x", "r1n2.x", "r2n1.x", "r2n2.x"]),
        ("a[1,3-4],b", ["a1", "a3", "a4", "b"]),
        ("", []),
    ],
)
def test_lists_of_hosts_are_expanded(text: str, hosts: list[str]) -> None:
    assert list(expand_hosts(text)) == hosts


def test_a_launcher_that_goes_through_a_shell_gets_one_quoted_text() -> None:
    node = Node("n1", 4)
    command = ["sh", "/a dir/shim", "$(touch x)"]
    assert on_node(("ssh", "{host}"), node, command, cpus=2) == ["ssh", "n1", "sh '/a dir/shim' '$(touch x)'"]
    assert on_node(("srun", "-w", "{host}", "-c{cpus}"), node, command, cpus=2) == ["srun", "-w", "n1", "-c2", *command]
    assert on_node(("pbsdsh", "-n", "{index}", "--"), node, command, cpus=2, index=3)[:4] == ["pbsdsh", "-n", "3", "--"]


def test_an_unknown_placeholder_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="node_launcher") as caught:
        on_node(("ssh", "{nodename}"), Node("n1", 1), ["true"], cpus=1)
    assert "{host}, {cpus} and {index}" in str(caught.value)


def test_the_site_chooses_its_launcher() -> None:
    allocation = Allocation("pbs", "1", (Node("a", 1),))
    assert allocation.launcher(["pbsdsh", "-n", "{index}"])[0] == "pbsdsh"
    assert allocation.launcher()[0] == "ssh"

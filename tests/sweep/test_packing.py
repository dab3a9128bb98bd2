"""Packing: nothing is given twice, nobody waits for ever, and what can never fit is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hypothesis
from hypothesis import strategies as st

from rompy_hydra.sweep.packing import Budget, Need, Packer

GIB = 2**30


def budget(cpus: int, *, memory: int | None = None, jobs: int | None = None) -> Budget:
    return Budget(cpus=cpus, memory_bytes=memory, jobs=jobs, cpu_cores=tuple((n,) for n in range(cpus)))


needs = st.builds(
    Need,
    cpus=st.integers(1, 8),
    memory_bytes=st.none() | st.integers(1, 8 * GIB),
    bound=st.booleans(),
)


@dataclass
class Running:
    number: int
    need: Need
    cpus: tuple[int, ...] | None
    left: int


class Machine:
    """Runs needs as a packer says, each for as many turns as its length."""

    def __init__(self, packer: Packer) -> None:
        self.packer = packer
        self.running: list[Running] = []
        self.order: list[int] = []
        self.overtaken: dict[int, int] = {}

    def run(self, work: Sequence[tuple[Need, int]]) -> None:
        waiting = list(enumerate(work))
        while waiting or self.running:
            while (place := self.packer.choose([need for _, (need, _) in waiting])) is not None:
                for earlier, _ in waiting[:place]:
                    self.overtaken[earlier] = self.overtaken.get(earlier, 0) + 1
                number, (need, length) = waiting.pop(place)
                cpus = self.packer.take(need)
                self.check(need, cpus)
                self.running.append(Running(number, need, cpus, length))
                self.order.append(number)
            assert self.running, "something waits and nothing runs"
            shortest = min(entry.left for entry in self.running)
            for entry in self.running:
                entry.left -= shortest
            for entry in [e for e in self.running if e.left == 0]:
                self.running.remove(entry)
                self.packer.give_back(entry.need, entry.cpus)

    def check(self, need: Need, cpus: tuple[int, ...] | None) -> None:
        limits = self.packer.budget
        held = {cpu for entry in self.running for cpu in (entry.cpus or ())}
        if need.bound:
            assert cpus is not None
            assert len(cpus) == need.cpus
            assert not set(cpus) & held
        else:
            assert cpus is None
        needs = [need, *(entry.need for entry in self.running)]
        assert sum(n.cpus for n in needs) <= limits.cpus
        assert limits.memory_bytes is None or sum(n.memory_bytes or 0 for n in needs) <= limits.memory_bytes
        assert limits.jobs is None or len(needs) <= limits.jobs


@hypothesis.given(
    work=st.lists(st.tuples(needs, st.integers(1, 50)), max_size=60),
    limits=st.builds(
        budget, st.integers(8, 16), memory=st.none() | st.just(8 * GIB), jobs=st.none() | st.integers(1, 9)
    ),
)
def test_everything_runs_within_the_budget_and_processors_are_never_shared(
    work: list[tuple[Need, int]], limits: Budget
) -> None:
    packer = Packer(limits)
    Machine(packer).run(work)
    assert (packer.running, packer.cpus_used, packer.memory_used) == (0, 0, 0)


@hypothesis.given(small=st.integers(20, 200), length=st.integers(1, 9))
def test_a_big_point_is_not_overtaken_for_ever(small: int, length: int) -> None:
    packer = Packer(budget(4))
    machine = Machine(packer)
    machine.run([(Need(1), 5), (Need(4), 5), *[(Need(1), 1 + n % length) for n in range(small)]])
    assert machine.overtaken[1] <= 8
    assert machine.order.index(1) <= 9


def test_small_points_fill_the_room_beside_a_waiting_big_one() -> None:
    packer = Packer(budget(4))
    packer.take(Need(2))
    assert packer.choose([Need(4), Need(3), Need(2)]) == 2


def test_whole_cores_are_given_before_halves() -> None:
    packer = Packer(Budget(cpus=4, cpu_cores=((0, 2), (1, 3))))
    assert packer.take(Need(2, bound=True)) == (0, 2)
    assert packer.take(Need(2, bound=True)) == (1, 3)


def test_nobody_is_bound_where_more_cpus_are_asked_for_than_there_are() -> None:
    packer = Packer(Budget(cpus=8, cpu_cores=()))
    assert packer.take(Need(2, bound=True)) is None


def test_a_point_that_can_never_fit_is_told_with_its_key_and_a_mend() -> None:
    limits = budget(4, memory=2 * GIB)
    finding = limits.why_never(Need(8))
    assert finding is not None
    assert (finding.key, finding.value) == ("resources.cpus", "8")
    assert "sweep.cpus=8" in str(finding)
    finding = limits.why_never(Need(1, 4 * GIB))
    assert finding is not None
    assert finding.key == "resources.memory"
    assert limits.why_never(Need(4, 2 * GIB)) is None

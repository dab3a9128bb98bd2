"""Points become as few job arrays as a site allows; every point is in exactly one task."""

from __future__ import annotations

import collections
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rompy_hydra.sweep.arrays import Array, Member, Packing, plan_arrays, task_ranges


def members(count: int, key: str = "a", limit_s: float | None = 60.0) -> list[Member]:
    return [Member(number, key, limit_s) for number in range(count)]


def points(arrays: list[Array]) -> list[int]:
    return list(itertools.chain.from_iterable(array.points for array in arrays))


def test_ten_thousand_points_at_the_usual_largest_array_are_ten_arrays() -> None:
    arrays, held = plan_arrays(members(10_000), Packing(max_array_size=1001))
    assert len(arrays) == 10
    assert max(len(array.tasks) for array in arrays) <= 1001
    assert points(arrays) == list(range(10_000))
    assert held == []


def test_ten_thousand_packed_points_are_one_array() -> None:
    (array,), held = plan_arrays(members(10_000), Packing(max_array_size=1001, runs_per_job=100))
    assert len(array.tasks) == 100
    assert {len(task) for task in array.tasks} == {100}
    assert array.limit_s == 6000
    assert held == []


def test_points_that_ask_for_the_same_share_an_array_wherever_they_stand() -> None:
    mixed = [Member(n, "big" if n % 3 == 0 else "small", 60.0) for n in range(10)]
    big, small = plan_arrays(mixed, Packing())[0]
    assert list(big.points) == [0, 3, 6, 9]
    assert list(small.points) == [1, 2, 4, 5, 7, 8]


def test_different_time_limits_are_different_arrays() -> None:
    arrays, _ = plan_arrays([Member(0, "a", 60.0), Member(1, "a", 120.0), Member(2, "a", 60.0)], Packing())
    assert [list(array.points) for array in arrays] == [[0, 2], [1]]
    assert [array.limit_s for array in arrays] == [60, 120]


def test_what_finds_no_room_in_the_queue_waits_in_its_order() -> None:
    waiting = [Member(n, "ab"[n % 2], 60.0) for n in range(10)]
    arrays, held = plan_arrays(waiting, Packing(runs_per_job=2), room=2)
    assert sum(len(array.tasks) for array in arrays) == 2
    assert [m.number for m in held] == sorted(m.number for m in held)
    assert sorted([*points(arrays), *(m.number for m in held)]) == list(range(10))


def test_without_room_nothing_is_submitted() -> None:
    arrays, held = plan_arrays(members(3), Packing(), room=0)
    assert arrays == []
    assert [m.number for m in held] == [0, 1, 2]


def test_a_packed_job_never_needs_more_time_than_the_site_gives() -> None:
    (array,), _ = plan_arrays(members(100, limit_s=3600.0), Packing(runs_per_job=50, longest_s=4 * 3600))
    assert max(map(len, array.tasks)) == 4
    assert array.limit_s == 4 * 3600


def test_side_by_side_points_share_the_time_of_a_task() -> None:
    (array,), _ = plan_arrays(members(16, limit_s=600.0), Packing(runs_per_job=8, at_once=4))
    assert len(array.tasks) == 2
    assert array.limit_s == 1200


@pytest.mark.parametrize(
    ("estimate_s", "limit_s", "runs"),
    [(6.0, 60.0, 100), (None, 60.0, 10), (None, None, 1), (1e-9, 60.0, 200), (3600.0, None, 1)],
)
def test_auto_packs_by_what_runs_take_else_by_their_limit(
    estimate_s: float | None, limit_s: float | None, runs: int
) -> None:
    waiting = [Member(n, "a", limit_s, estimate_s) for n in range(200)]
    (array,), _ = plan_arrays(waiting, Packing(runs_per_job="auto", job_time_s=600))
    assert max(map(len, array.tasks)) == runs


def test_tasks_are_as_even_as_they_can_be() -> None:
    (array,), _ = plan_arrays(members(10), Packing(runs_per_job=4))
    assert [len(task) for task in array.tasks] == [4, 3, 3]


@given(
    keys=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 60.0, 600.0])), max_size=200),
    runs=st.one_of(st.integers(1, 20), st.just("auto")),
    largest=st.integers(1, 30),
    room=st.one_of(st.none(), st.integers(0, 40)),
    longest=st.one_of(st.none(), st.floats(60, 5000)),
    at_once=st.integers(1, 4),
)
def test_every_point_is_in_exactly_one_task_or_held_back(
    keys: list[tuple[str, float | None]],
    runs: int,
    largest: int,
    room: int | None,
    longest: float | None,
    at_once: int,
) -> None:
    waiting = [Member(number, key, limit) for number, (key, limit) in enumerate(keys)]
    packing = Packing(runs_per_job=runs, max_array_size=largest, longest_s=longest, at_once=at_once)
    arrays, held = plan_arrays(waiting, packing, room=room)
    assert collections.Counter([*points(arrays), *(m.number for m in held)]) == collections.Counter(range(len(keys)))
    assert all(1 <= len(array.tasks) <= largest and all(array.tasks) for array in arrays)
    tasks = sum(len(array.tasks) for array in arrays)
    assert room is None or tasks <= room
    assert not held or (room is not None and tasks == room)
    by_number = dict(enumerate(waiting))
    for array in arrays:
        assert {by_number[n].key for n in array.points} == {array.key}
        limits = {by_number[n].limit_s for n in array.points}
        assert len(limits) == 1
        if (limit := limits.pop()) is not None and array.limit_s is not None:
            assert array.limit_s >= limit
            assert longest is None or array.limit_s <= max(longest, limit)
    groups = collections.Counter((m.key, m.limit_s) for m in waiting)
    if room is None and runs == 1:
        assert len(arrays) == sum(math.ceil(n / largest) for n in groups.values())


@pytest.mark.parametrize(
    ("tasks", "text"),
    [([0], "0"), ([0, 1, 2, 3, 7, 9, 10], "0-3,7,9-10"), ([5, 3, 3, 4], "3-5"), ([], "")],
)
def test_task_numbers_are_written_as_ranges(tasks: list[int], text: str) -> None:
    assert task_ranges(tasks) == text

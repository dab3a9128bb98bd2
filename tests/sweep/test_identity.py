"""The identity of a point: its science, what of its execution varies, the repeat."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rompy_hydra.plan.identity import parts_with
from rompy_hydra.plan.spec import RunSpec
from rompy_hydra.sweeping.planning import point_identity


def identity(
    swept: dict[str, Any],
    *,
    repeat: int = 0,
    choices: dict[str, str] | None = None,
    science: str = "s",
    **settings: Any,
) -> str:
    spec = RunSpec.model_validate(
        {"run_id": "r", "model": {"name": "m"}, "backend": {"type": "local"}, "output_dir": Path("o"), **settings}
    )
    point: Any = SimpleNamespace(swept=swept, repeat=repeat, plan=SimpleNamespace(choices=choices or {}))
    prepared: Any = SimpleNamespace(spec=spec, science_id=science)
    return point_identity(point, prepared)


def test_what_carries_no_execution_mark_is_passed_over() -> None:
    assert {"resources", "backend"} <= parts_with(RunSpec, "execution")
    assert "vars" not in parts_with(RunSpec, "execution")


def test_swept_resources_tell_points_apart_and_unswept_ones_do_not() -> None:
    swept = {"resources.threads": 1}
    assert identity(swept, resources={"threads": 1}) != identity(swept, resources={"threads": 2})
    other = {"vars.x": 1}
    assert identity(other, resources={"threads": 1}) == identity(other, resources={"threads": 2})


def test_repeats_and_sciences_are_points_of_their_own() -> None:
    assert len({identity({}), identity({}, repeat=1), identity({}, science="t")}) == 3


@pytest.mark.parametrize("swept", [{"backend": "local"}, {"env": "hpc"}])
def test_a_swept_group_counts_with_all_that_it_may_set(swept: dict[str, str]) -> None:
    one = identity(swept, choices=swept)
    other = identity(
        swept, choices=swept, backend={"type": "slurm"}, resources={"threads": 2 if "env" in swept else None}
    )
    assert one != other


def test_limits_are_in_no_identity() -> None:
    swept = {"resources.time_limit": 1}
    assert identity(swept, resources={"time_limit": 60}) == identity(swept, resources={"time_limit": 120})

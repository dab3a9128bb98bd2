"""What runs cost: asked, held and used, with waits and failed attempts apart; and a bound before anything starts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rompy_hydra.sweep.cost import Bound, Cost, cost_of_event, cost_of_points, cost_of_record, cost_of_sweep
from rompy_hydra.sweep.layout import SweepLayout
from tests.sweep.commands import Sweeps

HOUR = 3600.0


def record(**more: Any) -> dict[str, Any]:
    return {"resources": {"cpus": 4, "time_limit": HOUR}, "attempts": [], **more}


def attempt(**more: Any) -> dict[str, Any]:
    return {"state": "succeeded", "wall_seconds": 100.0, "cpu_seconds": 350.0, **more}


def test_a_record_tells_what_was_asked_held_and_used() -> None:
    cost = cost_of_record(record(attempts=[attempt()]))
    assert cost == Cost(
        attempts=1, asked_core_seconds=4 * HOUR, held_core_seconds=400, used_core_seconds=350, failed_core_seconds=0
    )


def test_failed_attempts_stand_apart() -> None:
    cost = cost_of_record(record(attempts=[attempt(state="failed"), attempt(state="timed_out"), attempt()]))
    assert cost.attempts == 3
    assert cost.held_core_seconds == 1200
    assert cost.failed_core_seconds == 800


def test_an_allocation_larger_than_asked_for_is_what_is_held_and_charged() -> None:
    slurm = {"cpus": 16, "submitted_at": "2026-01-01T00:00:00Z"}
    cost = cost_of_record(record(attempts=[attempt(slurm=slurm, started_at="2026-01-01T00:05:00Z")]), rate=0.5)
    assert cost.held_core_seconds == 1600
    assert cost.queue_seconds == 300
    assert cost.charge == pytest.approx(1600 / HOUR * 0.5)


def test_clocks_that_differ_make_no_negative_wait() -> None:
    slurm = {"submitted_at": "2026-01-01T00:00:10Z"}
    assert cost_of_record(record(attempts=[attempt(slurm=slurm, started_at="2026-01-01T00:00:00Z")])).queue_seconds == 0


def test_without_a_time_limit_nobody_knows_what_was_asked() -> None:
    cost = cost_of_record({"resources": {"cpus": 1}, "attempts": [attempt()]})
    assert cost.asked_core_seconds is None
    assert (cost + Cost(asked_core_seconds=5)).asked_core_seconds is None
    assert cost.to_dict()["asked_core_hours"] is None


def test_the_journal_tells_the_same_as_the_record() -> None:
    event = {"state": "failed", "wall": 100.0, "cpu": 350.0, "cores": 4, "asked": 4 * HOUR, "wait": 7}
    cost = cost_of_event(event)
    assert cost.failed_core_seconds == cost.held_core_seconds == 400
    assert cost.queue_seconds == 7
    assert cost.asked_core_seconds == 4 * HOUR


def test_a_sweep_knows_its_cost_from_its_journal(sweeps: Sweeps) -> None:
    words = sweeps.sweep("exit ${vars.n}", "vars.n=0,1", "resources.time_limit=10m")
    sweeps.run(*words, code=1)
    layout = SweepLayout(sweeps.path)
    points = cost_of_points(layout)
    assert set(points) == {0, 1}
    assert points[0].failed_core_seconds == 0
    assert points[1].failed_core_seconds == pytest.approx(points[1].held_core_seconds)
    whole = cost_of_sweep(layout)
    assert whole.asked_core_seconds == 2 * 600
    assert whole.held_core_seconds == pytest.approx(sum(c.held_core_seconds for c in points.values()))
    (layout.digest).unlink(missing_ok=True)
    assert cost_of_sweep(layout) == whole
    told = json.loads(sweeps.run("status", "--json", "sw").stdout)
    assert told["cost"]["attempts"] == 2
    assert told["cost"]["asked_core_hours"] == pytest.approx(1200 / HOUR, abs=1e-6)
    assert "cost" in sweeps.run("status", "sw").stdout


def test_a_bound_is_known_before_the_start_and_none_without_limits() -> None:
    bound = Bound()
    bound.add(4 * HOUR)
    assert bound.text() == "at most 4 (cpus × time limit)"
    assert bound.why_too_much(None) is None
    assert bound.why_too_much(4) is None
    finding = bound.why_too_much(3.9)
    assert finding is not None
    assert "up to 4 core-hours" in finding.rule
    bound.add(None)
    finding = bound.why_too_much(1000)
    assert finding is not None
    assert "no time limit" in finding.rule


@pytest.mark.parametrize("dry", [False, True])
def test_a_sweep_that_may_cost_too_much_is_not_started(sweeps: Sweeps, dry: bool) -> None:
    words = sweeps.sweep(sweeps.append("x"), "vars.n=1,2,3", "resources.time_limit=1h", "sweep.max_core_hours=2.5")
    done = sweeps.run(*words, *(["--dry-run"] if dry else []), code=2)
    assert "up to 3 core-hours" in done.stderr
    assert not sweeps.path.exists()
    assert not sweeps.ran()
    assert ("at most 3 " in done.stdout) is dry


def test_the_bound_counts_every_attempt_that_may_be_made(sweeps: Sweeps) -> None:
    words = sweeps.sweep("true", "resources.time_limit=1h", "retry.attempts=3", "retry.scale.time_limit=2", "vars.n=1")
    assert "core-hours   at most 7 " in sweeps.run(*words, "--dry-run").stdout

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rompy_hydra.report.advice import Advice
from rompy_hydra.report.facts import Reader, SweepFacts
from rompy_hydra.report.sweep_page import advised_studies
from rompy_hydra.sweep.layout import SweepLayout
from tests.report.made import MACHINE, MadePoint, amdahl_points, make_sweep


def facts_of(tmp_path: Path, points: list[MadePoint], **how: Any) -> SweepFacts:
    return Reader(SweepLayout(make_sweep(tmp_path / "sw", points, **how))).read()


def advice_of(tmp_path: Path, points: list[MadePoint], **how: Any) -> Advice:
    (one,) = advised_studies(facts_of(tmp_path, points, **how))
    return one.advice


def test_the_fastest_setting_that_is_worth_its_cpus_is_recommended(tmp_path: Path) -> None:
    advice = advice_of(tmp_path, amdahl_points(0.05))
    # efficiencies of Amdahl's law with 5 %: 1, .952, .870, .741, .571
    assert advice.setting is not None
    assert advice.setting.cpus == 8
    assert advice.overrides == "resources.ranks=8 resources.threads=1 resources.memory=432m"  # 360 MiB and a fifth
    assert "at an efficiency of 74%" in advice.sentence
    assert "16 CPUs (16 ranks) takes 10.9 s" in advice.sentence


def test_where_no_more_cpus_are_worth_it_the_base_is_kept(tmp_path: Path) -> None:
    advice = advice_of(tmp_path, amdahl_points(0.6))
    assert advice.setting is not None
    assert advice.setting.cpus == 1
    assert "none is worth them" in advice.sentence


def change(**fields: Any) -> Callable[[list[MadePoint]], None]:
    def apply(points: list[MadePoint]) -> None:
        for name, value in fields.items():
            setattr(points[3], name, value)

    return apply


def everywhere(**fields: Any) -> Callable[[list[MadePoint]], None]:
    def apply(points: list[MadePoint]) -> None:
        for point in points:
            for name, value in fields.items():
                setattr(point, name, value)

    return apply


def once_only(points: list[MadePoint]) -> None:
    del points[5:]


def same_speed(points: list[MadePoint]) -> None:
    for number, point in enumerate(points):
        point.wall_s = 10 + 0.1 * (number % 4)


SLURM = {"host": "n1", "cpu_model": "Example CPU", "exclusive": False}
AGAINST: list[tuple[str, Callable[[list[MadePoint]], None], dict[str, Any], str]] = [
    ("one repeat", once_only, {}, "only one repeat of 1 CPU, 2 CPUs (2 ranks), 4 CPUs (4 ranks) and 2 more"),
    ("a failed point", change(state="failed"), {}, "1 of its 15 points did not succeed"),
    ("one that runs", change(state="running"), {}, "1 of its 15 points has not ended yet"),
    ("one that waits", change(state="queued"), {}, "1 of its 15 points has not ended yet"),
    (
        "other CPUs",
        change(machine={**MACHINE, "cpu_model": "Other"}),
        {},
        "different CPU models (Example CPU 3 GHz, Other)",
    ),
    ("unknown CPUs", change(machine={}), {}, "the CPU model of 1 point is not known"),
    ("no timing mode", everywhere(), {"timing": False}, "not measured alone on their CPUs (sweep.timing=true)"),
    ("company", everywhere(after_s=0.0), {}, "15 of its points shared their node with others of the sweep"),
    ("a shared node", everywhere(backend="slurm", slurm=SLURM), {}, "the nodes may have been shared"),
    (
        "too few CPUs",
        everywhere(machine={**MACHINE, "cpus": 8}),
        {},
        "16 CPUs were asked for on a machine that has fewer",
    ),
    ("noise", change(wall_s=40.0), {}, "the repeats differ too much: those of 8 CPUs (8 ranks)"),
    ("no speed-up", same_speed, {}, "no speed-up: no setting is faster than 1 CPU"),
]


@pytest.mark.parametrize(
    ("change_points", "how", "reason"), [case[1:] for case in AGAINST], ids=[case[0] for case in AGAINST]
)
def test_without_evidence_nothing_is_recommended(
    change_points: Callable[[list[MadePoint]], None], how: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    points = amdahl_points(0.05)
    change_points(points)
    advice = advice_of(tmp_path, points, **how)
    assert advice.setting is None
    assert advice.overrides == ""
    assert any(reason in one for one in advice.reasons), advice.reasons
    assert advice.sentence.startswith("No evidence: ")


def test_exclusive_nodes_are_evidence_without_the_timing_mode(tmp_path: Path) -> None:
    points = amdahl_points(0.05)
    everywhere(backend="slurm", slurm={**SLURM, "exclusive": True})(points)
    assert advice_of(tmp_path, points, timing=False).setting is not None


def test_points_that_were_left_out_spoil_nothing(tmp_path: Path) -> None:
    left_out = MadePoint({"resources.ranks": 32}, None, "invalid", cpus=32, has_record=False)
    assert advice_of(tmp_path, [*amdahl_points(0.05), left_out]).setting is not None

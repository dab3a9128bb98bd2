from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.optimize import curve_fit

from rompy_hydra.report.scaling import Sample, fit_amdahl, student_95, studies_of

CPUS = (1, 2, 4, 8, 16)


def law(cpus: float, serial: float, one: float = 100.0) -> float:
    return one * (serial + (1 - serial) / cpus)


def sample(cpus: int, wall: float, number: int = 0, **swept: object) -> Sample:
    return Sample(number, {"resources.ranks": cpus, **swept}, cpus, cpus, 1, wall)


@pytest.mark.parametrize("serial", [0.0, 0.01, 0.05, 0.3, 1 - 1e-9])
def test_a_known_serial_part_is_found_exactly_without_noise(serial: float) -> None:
    fit = fit_amdahl([(p, law(p, serial)) for p in CPUS])
    assert fit is not None
    assert fit.serial == pytest.approx(serial, abs=1e-9)
    assert fit.one_cpu_s == pytest.approx(100)
    assert fit.high - fit.low < 1e-6


def test_the_fit_and_its_interval_are_those_of_scipy() -> None:
    rng = random.Random(3)
    samples = [(p, law(p, 0.08) * rng.gauss(1, 0.03)) for p in CPUS for _ in range(4)]
    fit = fit_amdahl(samples)
    assert fit is not None
    cpus, walls = np.array(samples).T
    sigma = np.array([np.median(walls[cpus == p]) for p in cpus])
    (one, serial), cov = curve_fit(lambda p, t, s: t * (s + (1 - s) / p), cpus, walls, (100, 0.1), sigma=sigma)
    assert (fit.one_cpu_s, fit.serial) == pytest.approx((one, serial), rel=1e-5)
    margin = student_95(len(samples) - 2) * np.sqrt(cov[1, 1])
    assert (fit.low, fit.high) == pytest.approx((serial - margin, serial + margin), rel=1e-4)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(7)
    inside = 0
    for _ in range(400):
        fit = fit_amdahl([(p, law(p, 0.1) * rng.gauss(1, 0.02)) for p in CPUS for _ in range(3)])
        assert fit is not None
        inside += fit.low <= 0.1 <= fit.high
    assert 0.9 <= inside / 400 <= 0.99


@pytest.mark.parametrize("freedom", [1, 2, 5, 13, 30, 31, 60, 1000])
def test_students_quantiles_are_those_of_scipy(freedom: int) -> None:
    from scipy.stats import t

    assert student_95(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=2e-3)


def test_two_numbers_of_cpus_or_a_slow_down_have_no_fit() -> None:
    assert fit_amdahl([(1, 10.0), (2, 6.0), (2, 6.1)]) is None
    assert fit_amdahl([(1, 10.0), (2, 11.0), (4, 12.0)]) is None


def test_speedup_and_efficiency_are_those_of_the_medians() -> None:
    (study,) = studies_of(
        sample(p, wall) for p, walls in {2: (10, 12, 11), 4: (6, 5, 7), 8: (4, 4, 4)}.items() for wall in walls
    )
    two, four, eight = study.settings
    assert study.base is two
    assert [study.speedup(s) for s in (two, four, eight)] == pytest.approx([1, 11 / 6, 11 / 4])
    assert [study.efficiency(s) for s in (two, four, eight)] == pytest.approx([1, 11 / 6 / 2, 11 / 4 / 4])
    assert study.speedup_spread(four) == pytest.approx((11 / 7, 11 / 5))


def test_what_else_varies_makes_studies_of_their_own() -> None:
    samples = [sample(p, law(p, s), number=10 * n + p, resolution=s) for n, s in enumerate((0.1, 0.2)) for p in CPUS]
    studies = studies_of([*samples, sample(1, 5, 99, resolution="one setting only")])
    assert [study.title for study in studies] == ["resolution=0.1", "resolution=0.2"]
    assert [study.lines[0].fit.serial for study in studies if study.lines[0].fit] == pytest.approx([0.1, 0.2])


def test_ranks_and_threads_are_lines_of_their_own_that_share_their_base() -> None:
    ranks = [sample(p, law(p, 0.1)) for p in CPUS]
    threads = [Sample(0, {"resources.threads": p}, p, 1, p, law(p, 0.2)) for p in (2, 4)]
    (study,) = studies_of([*ranks, *threads])
    assert [(line.title, [s.cpus for s in line.settings]) for line in study.lines] == [
        ("ranks", [1, 2, 4, 8, 16]),
        ("threads", [1, 2, 4]),
    ]
    assert study.lines[1].fit is not None
    assert study.lines[1].fit.serial == pytest.approx(0.2)


def test_a_hybrid_grid_has_a_line_for_each_number_of_threads() -> None:
    (study,) = studies_of(Sample(0, {}, r * t, r, t, 10 / (r * t)) for r in (1, 2, 4) for t in (1, 2))
    assert [line.title for line in study.lines] == ["ranks", "ranks of 2 threads"]

"""What the values of a field are like: extremes, mean, spread, percentiles, and how many are missing.

With values x_i, weights w_i (cell sizes; every time counts alike) and n values that are not missing:

- mean: Σ w_i x_i / Σ w_i; std: sqrt(Σ w_i (x_i - mean)² / Σ w_i), of the population, not of a sample.  Both are put
  together block by block by the update of Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.
- min, max, percentiles: of the values, not weighted.  Percentiles interpolate linearly between the ordered values
  (Hyndman and Fan 1996, type 7, NumPy's default).  A field of more than `EXACT_VALUES` values is counted into 65,536
  equal bins between its minimum and maximum instead; each percentile is then right within the width of a bin.
- missing: the part of all values that are missing (land, dry cells), 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rompy_hydra.postprocess.analysis.fields import BLOCK_VALUES, Field

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Floats

EXACT_VALUES = 4 * 2**20
_BINS = 65_536
STATISTICS = ("min", "max", "mean", "std", "missing")


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Of one field; NaN where all of it is missing."""

    field: Field
    count: int
    min: float
    max: float
    mean: float
    std: float
    missing: float
    percentiles: tuple[float, ...]
    begin: str = ""
    end: str = ""


def summarise(field: Field, percentiles: Sequence[float] = (), *, most: int = BLOCK_VALUES) -> Summary:
    """One pass over the field, two where percentiles of a large one are asked for; `most` values are held at once."""
    import numpy as np

    total = count = 0
    low, high = np.inf, -np.inf
    weight = mean = squares = 0.0
    kept: list[Floats] | None = [] if percentiles and np.prod(field.shape) <= EXACT_VALUES else None
    for index, values in field.blocks(most):
        total += values.size
        there = np.isfinite(values)
        found = values[there]
        if kept is not None:
            kept.append(found)
        if not found.size:
            continue
        count += found.size
        low, high = min(low, float(found.min())), max(high, float(found.max()))
        weights = np.broadcast_to(field.weight(index), values.shape)[there]
        here = float(weights.sum())
        if here == 0:
            continue
        here_mean = float(weights @ found) / here
        here_squares = float(weights @ (found - here_mean) ** 2)
        step = here_mean - mean
        squares += here_squares + step * step * weight * here / (weight + here)
        weight += here
        mean += step * here / weight
    nothing = float("nan")
    if count == 0:
        told = tuple(nothing for _ in percentiles)
    elif kept is not None:
        told = tuple(float(value) for value in np.percentile(np.concatenate(kept), percentiles))
    else:
        told = tuple(_binned(field, percentiles, low, high, count, most)) if percentiles else ()
    time = field.time
    return Summary(
        field=field,
        count=count,
        min=low if count else nothing,
        max=high if count else nothing,
        mean=mean if weight else nothing,
        std=float(np.sqrt(max(squares, 0.0) / weight)) if weight else nothing,
        missing=1 - count / total if total else 1.0,
        percentiles=told,
        begin=time.text(0) if time is not None and len(time) else "",
        end=time.text(len(time) - 1) if time is not None and len(time) else "",
    )


def _binned(
    field: Field, percentiles: Sequence[float], low: float, high: float, count: int, most: int
) -> Iterator[float]:
    import numpy as np

    if low == high:
        yield from (low for _ in percentiles)
        return
    counts = np.zeros(_BINS, dtype=np.int64)
    for _, values in field.blocks(most):
        counts += np.histogram(values[np.isfinite(values)], bins=_BINS, range=(low, high))[0]
    edges = np.linspace(low, high, _BINS + 1)
    reached = np.concatenate([[0], np.cumsum(counts)])
    for percentile in percentiles:
        yield float(np.interp(percentile / 100 * count, reached, edges))


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A field through time: the weighted mean over space, and the extremes, at each time."""

    mean: Floats
    low: Floats
    high: Floats


def course_of(field: Field, *, most: int = BLOCK_VALUES) -> Course:
    """The course of a field that has a time axis."""
    import numpy as np

    length = len(field.axes[0])
    sums, weights = np.zeros(length), np.zeros(length)
    low, high = np.full(length, np.inf), np.full(length, -np.inf)
    space = tuple(range(1, len(field.axes)))
    for index, values in field.blocks(most):
        there = np.isfinite(values)
        weight = np.where(there, np.broadcast_to(field.weight(index), values.shape), 0.0)
        sums[index[0]] += (weight * np.where(there, values, 0.0)).sum(axis=space)
        weights[index[0]] += weight.sum(axis=space)
        low[index[0]] = np.minimum(low[index[0]], np.where(there, values, np.inf).min(axis=space))
        high[index[0]] = np.maximum(high[index[0]], np.where(there, values, -np.inf).max(axis=space))
    nothing = weights == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(nothing, np.nan, sums / weights)
    return Course(mean, np.where(nothing, np.nan, low), np.where(nothing, np.nan, high))

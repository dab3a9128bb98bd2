"""How well results agree with a reference: observations, or another run.

With n pairs of model m_i and reference o_i, means m̄ and ō:

- bias: m̄ - ō
- rmse: sqrt(Σ (m_i - o_i)² / n)
- correlation: Σ (m_i - m̄)(o_i - ō) / sqrt(Σ (m_i - m̄)² Σ (o_i - ō)²) (Pearson)
- scatter_index: rmse / |ō| (Zambresky 1989, WAM validation; with the bias in it)
- skill: 1 - Σ (m_i - o_i)² / Σ (|m_i - ō| + |o_i - ō|)², Willmott's index of agreement (Willmott 1981,
  doi:10.1080/02723646.1981.10642213), from 0 to 1

A figure that is not defined (one pair, no variance, ō = 0) is missing, not zero.  Two runs are compared value by value,
not weighted by cell sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.analysis.fields import BLOCK_VALUES, Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rompy_hydra.postprocess.analysis.fields import Floats

FIGURES = ("n", "bias", "rmse", "correlation", "scatter_index", "skill")
Pairs = Callable[[], Iterable[tuple["Floats", "Floats"]]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The figures; NaN is not defined."""

    n: int
    bias: float
    rmse: float
    correlation: float
    scatter_index: float
    skill: float


def agreement(pairs: Pairs) -> Agreement:
    """Over blocks of pairs, read twice: for the means, then for what depends on them."""
    import numpy as np

    count, sums = 0, np.zeros(2)
    for model, reference in pairs():
        there = np.isfinite(model) & np.isfinite(reference)
        count += int(there.sum())
        sums += model[there].sum(), reference[there].sum()
    nothing = float("nan")
    if count == 0:
        return Agreement(0, nothing, nothing, nothing, nothing, nothing)
    mean_m, mean_o = (float(value) for value in sums / count)
    squares = together = spread_m = spread_o = potential = 0.0
    for model, reference in pairs():
        there = np.isfinite(model) & np.isfinite(reference)
        m, o = model[there], reference[there]
        squares += float(np.sum((m - o) ** 2))
        together += float(np.sum((m - mean_m) * (o - mean_o)))
        spread_m += float(np.sum((m - mean_m) ** 2))
        spread_o += float(np.sum((o - mean_o) ** 2))
        potential += float(np.sum((np.abs(m - mean_o) + np.abs(o - mean_o)) ** 2))
    rmse = (squares / count) ** 0.5
    product = (spread_m * spread_o) ** 0.5
    return Agreement(
        n=count,
        bias=mean_m - mean_o,
        rmse=rmse,
        correlation=together / product if count > 1 and product > 0 else nothing,
        scatter_index=rmse / abs(mean_o) if mean_o else nothing,
        skill=1 - squares / potential if potential > 0 else nothing,
    )


def of_fields(field: Field, other: Field, *, most: int = BLOCK_VALUES) -> Agreement:
    """Two fields on the same axes; `NothingToProcessError` says in what they differ."""
    import numpy as np

    if field.shape != other.shape:
        raise NothingToProcessError(
            f"'{field.name}' has the shape {field.shape} here and {other.shape} in the reference"
        )
    for mine, theirs in zip(field.axes, other.axes, strict=True):
        if not np.allclose(mine.values, theirs.values, rtol=1e-6, atol=1e-9, equal_nan=True):
            raise NothingToProcessError(f"'{field.name}' has other values on its axis '{mine.name}' in the reference")
    order = _order_of_triangles(field, other)

    def blocks() -> Iterable[tuple[Floats, Floats]]:
        for index, values in field.blocks(most):
            if order is None:
                yield values, other.part(index)
            else:
                yield values, other.part((*index[:-1], slice(None)))[..., order[index[-1]]]

    return agreement(blocks)


def _order_of_triangles(field: Field, other: Field) -> NDArray[np.int64] | None:
    """Which triangle of the other mesh is each of this one's, by their centres: ranks write them in their own order."""
    import numpy as np

    if field.mesh is None or other.mesh is None:
        return None
    mine, theirs = (np.round(np.stack(mesh.centres), 6) for mesh in (field.mesh, other.mesh))
    if np.array_equal(mine, theirs):
        return None
    my_order, their_order = np.lexsort(mine), np.lexsort(theirs)
    if not np.allclose(mine[:, my_order], theirs[:, their_order], atol=1e-5):
        raise NothingToProcessError(f"the triangles of '{field.name}' are others in the reference")
    found = np.empty(len(my_order), dtype=np.int64)
    found[my_order] = their_order
    return found


def of_series(seconds: Floats, model: Floats, when: Floats, observed: Floats) -> Agreement:
    """A series against observations: the model is interpolated linearly to their times, never beyond its own."""
    import numpy as np

    there = np.isfinite(model)
    if not there.any():
        return agreement(list)
    at = np.interp(when, seconds[there], model[there], left=np.nan, right=np.nan)
    return agreement(lambda: [(at, observed)])

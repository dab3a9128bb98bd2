"""Points drawn from a space: Latin hypercube, Sobol sequence, or independent random numbers.

The same seed gives the same points.  Numbers are rounded to 12 significant digits: that is what is written into an
override, so a point is the same whether it is composed here or typed again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rompy_hydra.compose.designs import Alternative, Parse, setting
from rompy_hydra.errors import MissingToolError
from rompy_hydra.plan.sweep_spec import Dimension, SamplesSpec

_BATCH = 1024  # a power of two: a Sobol sequence is balanced in such blocks


@dataclass(frozen=True)
class SamplesAxis:
    """Points of one space; drawn again, the same ones, each time."""

    spec: SamplesSpec
    dimensions: Mapping[str, Dimension]
    parse: Parse

    def __iter__(self) -> Iterator[Alternative]:
        items = tuple(self.dimensions.items())
        for row in unit_samples(self.spec, len(items)):
            yield Alternative(
                tuple(
                    setting(key, scaled(u, dimension), self.parse)
                    for u, (key, dimension) in zip(row, items, strict=True)
                )
            )

    def count(self) -> int:
        """How many there are."""
        return self.spec.n or 0


def samples_axis(spec: SamplesSpec, *, parse: Parse, pinned: frozenset[str]) -> SamplesAxis | None:
    """The samples over the keys that nothing else gives; None if that leaves no key.

    Raises `MissingToolError` where a method needs SciPy and that is not installed.
    """
    dimensions = {key: dimension for key, dimension in spec.over.items() if key not in pinned}
    if not dimensions:
        return None
    if spec.method != "random":
        _qmc()
    return SamplesAxis(spec, dimensions, parse)


def unit_samples(spec: SamplesSpec, dimensions: int) -> Iterator[Sequence[float]]:
    """Rows of numbers in [0, 1)."""
    number = spec.n or 0
    if spec.method == "random":
        source = random.Random(spec.seed)  # noqa: S311  # no secret
        for _ in range(number):
            yield [source.random() for _ in range(dimensions)]
        return
    qmc = _qmc()
    import numpy as np

    generator = np.random.default_rng(spec.seed)
    if spec.method == "lhs":
        yield from qmc.LatinHypercube(dimensions, **{_seed_word(qmc): generator}).random(number).tolist()
        return
    engine = qmc.Sobol(dimensions, **{_seed_word(qmc): generator})
    left = number
    while left > 0:
        for row in engine.random(min(_BATCH, 2 ** math.ceil(math.log2(left)))).tolist()[:left]:
            yield row
            left -= 1


def _qmc() -> Any:
    try:
        from scipy.stats import qmc
    except ImportError:
        raise MissingToolError(
            "drawing samples needs SciPy, which is not installed; type: pip install 'rompy-hydra[analysis]',"
            " or use sweep.samples.method=random"
        ) from None
    return qmc


def _seed_word(qmc: Any) -> str:
    import inspect

    return "rng" if "rng" in inspect.signature(qmc.LatinHypercube).parameters else "seed"  # SciPy before 1.15


def scaled(u: float, dimension: Dimension) -> Any:
    """A number in [0, 1) as a value of a dimension."""
    if dimension.choices is not None:
        return dimension.choices[min(int(u * len(dimension.choices)), len(dimension.choices) - 1)]
    assert dimension.low is not None
    assert dimension.high is not None
    low, high = dimension.low, dimension.high
    if dimension.type == "int":
        low, high = low - 0.5, high + 0.5
    if dimension.scale == "log":
        low = max(low, 0.5) if dimension.type == "int" else low
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    if dimension.type == "int":
        return max(int(dimension.low), min(int(dimension.high), math.floor(value + 0.5)))
    return float(f"{value:.12g}")

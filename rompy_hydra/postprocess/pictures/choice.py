"""What is worth drawing: the variables that people look at first, and none that is the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Field

# In the order in which they are looked at; a name counts, or the beginning of a standard name.
_FIRST = (
    "depth", "stage", "speed", "hs", "swh", "sea_surface_wave_significant_height", "eta", "zeta", "ssh",
    "sea_surface_height", "tp", "temp", "sea_water_potential_temperature", "sea_water_temperature", "psi", "salt",
    "sea_water_salinity", "u", "vsf_depth", "v", "wet_area", "vsf_iso", "surface_taux", "trans", "w", "elevation",
    "surface_tauy", "bolus_depth",
)  # fmt: skip
_LAST = ("xmomentum", "ymomentum", "friction", "zarea", "bolus_iso", "elevation_range")
_LAST_RANK = 2000
_ROUNDING = 1e-9  # relative
MAXIMA = ("depth", "speed", "hs", "swh")
"""Of which the greatest value at each place is worth a map: what was flooded, how strong it was."""


def rank(field: Field) -> tuple[int, str]:
    """The smaller the earlier."""
    name = field.name.lower().rpartition(".")[2]
    if name in _LAST:
        return _LAST_RANK + _LAST.index(name), field.name
    for number, known in enumerate(_FIRST):
        if name == known or (len(known) > 8 and field.standard_name.startswith(known)):
            return number, field.name
    return 1000, field.name


def worth_drawing(fields: Sequence[Field], most: int | None) -> tuple[list[Field], list[Field]]:
    """The first `most` in that order, those of `_LAST` never (None: all that were asked for); and what shows nothing.

    A field that is missing or the same everywhere shows nothing.  No more is read than is needed to know that.
    """
    found: list[Field] = []
    flat: list[Field] = []
    ordered = sorted(fields, key=rank)
    if most is not None:
        ordered = [field for field in ordered if rank(field)[0] < _LAST_RANK] or ordered
    for field in ordered:
        if most is not None and len(found) == most:
            break
        (found if varies(field) else flat).append(field)
    return found, flat


def varies(field: Field) -> bool:
    """Whether two of its values differ, by more than rounding."""
    import numpy as np

    low, high = np.inf, -np.inf
    for _, values in field.blocks():
        there = values[np.isfinite(values)]
        if there.size:
            low, high = min(low, float(there.min())), max(high, float(there.max()))
            if high - low > _ROUNDING * max(abs(low), abs(high)):
                return True
    return False


def told_apart(fields: Sequence[Field]) -> list[Field]:
    """The fields, with the variable's name in the titles that several of them share."""
    titles = [field.title for field in fields]
    return [
        replace(f, long_name=f"{f.title} ({f.name})") if titles.count(f.title) > 1 and f.title != f.name else f
        for f in fields
    ]


def spread_out(length: int, most: int) -> list[int]:
    """Up to `most` positions of a series, evenly, with the first and the last."""
    if length <= most:
        return list(range(length))
    return sorted({round(number * (length - 1) / (most - 1)) for number in range(most)})

"""Series of a field at points: in the triangle a point lies in, or in the nearest cell that is not land.

On degrees "nearest" is the great-circle distance (haversine formula, Sinnott 1984), on metres the straight one.  Of a
field with layers the one nearest to `level` is taken, by default the one at the surface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.analysis.fields import Axis, Field

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Floats

_CELLS_TRIED = 64
EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """A point, and the series of a field there; `x`, `y` is the middle of the cell that was taken."""

    name: str
    field: Field
    asked: tuple[float, float]
    x: float
    y: float
    distance: float
    distance_units: str
    level: str
    values: Floats


def can_be_sampled(field: Field) -> bool:
    """Whether a field has times, places, and nothing else but layers."""
    return field.time is not None and len(field.time) > 0 and field.has_plane


def sample(
    field: Field, points: Mapping[str, tuple[float, float]], level: float | None = None, notes: list[str] | None = None
) -> list[Station]:
    """The series at points.  Without `notes` a point on no triangle, or with no water near it, is an error."""
    found = []
    for name, point in points.items():
        try:
            found.append(_sample(field, name, point, level))
        except NothingToProcessError as error:
            if notes is None:
                raise
            notes.append(str(error))
    return found


def _sample(field: Field, name: str, point: tuple[float, float], level: float | None) -> Station:
    import numpy as np

    layer, told = _layer(field, level)
    if field.mesh is not None:
        cell = field.mesh.triangle_at(*point)
        if cell is None:
            x, y = field.mesh.x, field.mesh.y
            raise NothingToProcessError(
                f"the point '{name}' ({point[0]:g}, {point[1]:g}) lies outside of the mesh of {field.file},"
                f" which goes from ({x.min():g}, {y.min():g}) to ({x.max():g}, {y.max():g})"
            )
        centre_x, centre_y = field.mesh.centres
        values = field.read(**{field.axes[-1].name: cell}, **layer)
        return Station(name, field, point, float(centre_x[cell]), float(centre_y[cell]), 0.0, "m", told, values)
    x, y, on_sphere = places(field)
    distances = _distances(x, y, point, on_sphere=on_sphere)
    order = np.argsort(distances, axis=None, kind="stable")[:_CELLS_TRIED]
    north, east = _last_two(field)
    units = "km" if on_sphere else field.axes[east].units
    for flat in order:
        row, column = (int(n) for n in np.unravel_index(flat, distances.shape))
        values = field.read(**{field.axes[north].name: row, field.axes[east].name: column}, **layer)
        if np.isfinite(values).any():
            place = (float(x[row, column]), float(y[row, column]))
            return Station(name, field, point, *place, float(distances[row, column]), units, told, values)
    raise NothingToProcessError(
        f"'{field.name}' has no values near the point '{name}' ({point[0]:g}, {point[1]:g}): is it on land?"
        f" The grid goes from ({np.nanmin(x):g}, {np.nanmin(y):g}) to ({np.nanmax(x):g}, {np.nanmax(y):g})"
    )


def _layer(field: Field, level: float | None) -> tuple[dict[str, int], str]:
    position = field.axis("depth")
    if position is None:
        return {}, ""
    axis: Axis = field.axes[position]
    chosen = axis.surface if level is None else axis.nearest(level)
    return {axis.name: chosen}, f"{axis.values[chosen]:g} {axis.units}".strip()


def _last_two(field: Field) -> tuple[int, int]:
    found = field.horizontal
    return found if found is not None else (len(field.axes) - 2, len(field.axes) - 1)


def places(field: Field) -> tuple[Floats, Floats, bool]:
    """Two-dimensional coordinates of the cells, and whether they are degrees."""
    import numpy as np

    if field.lon_lat is not None:
        return (*field.lon_lat, True)
    north, east = _last_two(field)
    x, y = np.meshgrid(field.axes[east].values, field.axes[north].values)
    return x, y, field.axes[north].kind == "lat"


def _distances(x: Floats, y: Floats, point: tuple[float, float], *, on_sphere: bool) -> Floats:
    import numpy as np

    if not on_sphere:
        flat: Floats = np.nan_to_num(np.hypot(x - point[0], y - point[1]), nan=np.inf)
        return flat
    lon, lat, lon0, lat0 = (np.deg2rad(value) for value in (x, y, point[0], point[1]))
    half = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin((lon - lon0) / 2) ** 2
    found: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
    return np.nan_to_num(found, nan=np.inf)


def usual_points(field: Field) -> dict[str, tuple[float, float]]:
    """Where to look when nobody says: a quarter, half and three quarters of the way east along the middle."""
    import numpy as np

    x, y = (field.mesh.x, field.mesh.y) if field.mesh is not None else places(field)[:2]
    west, east = float(np.nanmin(x)), float(np.nanmax(x))
    middle = (float(np.nanmin(y)) + float(np.nanmax(y))) / 2
    parts: Sequence[tuple[str, float]] = (("west", 0.25), ("centre", 0.5), ("east", 0.75))
    return {name: (west + part * (east - west), middle) for name, part in parts}

"""ANUGA's `.sww` files → fields on triangles: values at the centroids, with depth and speed; one file or one per rank.

ANUGA writes water levels as `stage` (m above its datum), `elevation` of the bed, and momenta, which are depth times
velocity (m²/s).  The names and units are those of the ANUGA user manual, chapter "Conserved quantities"; the file says
nothing of them.  What belongs to water is missing (NaN) where the depth is not above `dry_depth_m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.analysis.fields import Axis, Field, Index, Mesh

if TYPE_CHECKING:
    import xarray as xr

    from rompy_hydra.postprocess.analysis.fields import Floats

_OF_A_RANK = re.compile(r"(.+)_P(\d+)_(\d+)\.sww\Z")
_TIME = "number_of_timesteps"
_NEEDED = ("x", "y", "volumes", "time", "stage", "elevation")


def is_sww(dataset: xr.Dataset) -> bool:
    """Whether a file has the variables of ANUGA."""
    return all(name in dataset.variables for name in _NEEDED)


def grouped(files: Sequence[tuple[Path, xr.Dataset]], top: Path) -> Iterator[tuple[str, list[xr.Dataset]]]:
    """Files with the ranks that belong together: `tide_P2_0.sww`, `tide_P2_1.sww` → `tide.sww`.

    Ranks' files are left out where the merged one is there too; a rank that is missing is an error.
    """
    whole = {path.relative_to(top).as_posix(): dataset for path, dataset in files if not _OF_A_RANK.match(path.name)}
    ranks: dict[tuple[str, int], dict[int, xr.Dataset]] = {}
    for path, dataset in files:
        if match := _OF_A_RANK.match(path.name):
            name = path.with_name(f"{match[1]}.sww").relative_to(top).as_posix()
            ranks.setdefault((name, int(match[2])), {})[int(match[3])] = dataset
    yield from ((name, [dataset]) for name, dataset in whole.items())
    for (name, count), found in ranks.items():
        if name in whole:
            continue
        if missing := sorted(set(range(count)) - found.keys()):
            raise NothingToProcessError(f"{name} was written by {count} ranks; the files of {missing} are missing")
        yield name, [found[number] for number in range(count)]


@dataclass(slots=True)
class _Part:
    """One file: which of its triangles are its own (the others are copies of a neighbour's), and their corners."""

    dataset: xr.Dataset
    own: Any
    corners: Any

    def values(self, name: str, time: slice) -> Floats:
        """A quantity at the centroids of its own triangles: what was written there, else the mean of the corners."""
        import numpy as np

        at_centre = f"{name}_c" in self.dataset.variables
        variable = self.dataset.variables[f"{name}_c" if at_centre else name]
        moves = _TIME in variable.dims
        found = np.asarray((variable[time] if moves else variable).to_numpy(), dtype=np.float64)
        found = found if moves else found[np.newaxis]
        result: Floats = found[:, self.own] if at_centre else found[:, self.corners].mean(axis=2)
        return result

    def moves(self, name: str) -> bool:
        """Whether a quantity changes with time."""
        variables = self.dataset.variables
        return _TIME in variables[f"{name}_c" if f"{name}_c" in variables else name].dims


@dataclass(slots=True)
class _Water:
    """The quantities of all parts; those that do not change are read once."""

    parts: Sequence[_Part]
    dry_depth_m: float
    still: dict[str, Floats] = field(default_factory=dict)

    def get(self, name: str, time: slice, cells: slice) -> Floats:
        """Time × triangles; one time where it does not change."""
        import numpy as np

        if name in self.still:
            return self.still[name][:, cells]
        found = np.concatenate([part.values(name, time) for part in self.parts], axis=1)
        if not self.parts[0].moves(name):
            self.still[name] = found
        return found[:, cells]

    def depth(self, time: slice, cells: slice) -> Floats:
        """Stage above the bed, not below nothing."""
        import numpy as np

        found: Floats = np.maximum(self.get("stage", time, cells) - self.get("elevation", time, cells), 0.0)
        return found

    def wet(self, name: str) -> Callable[[Index], Floats]:
        """A quantity where there is water."""
        import numpy as np

        def part(index: Index) -> Floats:
            depth = self.depth(*index)
            return np.where(depth > self.dry_depth_m, self.get(name, *index), np.nan)

        return part

    def speed(self, index: Index) -> Floats:
        """Momentum by depth, where there is water."""
        import numpy as np

        depth = self.depth(*index)
        momentum = np.hypot(self.get("xmomentum", *index), self.get("ymomentum", *index))
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = np.where(depth > self.dry_depth_m, momentum / depth, np.nan)
        return found


_UNITS: Mapping[str, tuple[str, str, str]] = {
    "stage": ("Water level", "m", "water_surface_height_above_reference_datum"),
    "depth": ("Water depth", "m", "sea_floor_depth_below_sea_surface"),
    "speed": ("Flow speed", "m/s", "sea_water_speed"),
    "xmomentum": ("Momentum along x (depth times velocity)", "m^2/s", ""),
    "ymomentum": ("Momentum along y (depth times velocity)", "m^2/s", ""),
    "elevation": ("Elevation of the bed", "m", "ground_level_altitude"),
    "friction": ("Manning's friction coefficient", "s m-1/3", ""),
    "wet_area": ("Area under water", "m^2", ""),
    "water_volume": ("Volume of water", "m^3", ""),
}


def fields_of(datasets: Sequence[xr.Dataset], file: str, *, dry_depth_m: float) -> list[Field]:
    """Water level, depth, speed, momenta and bed on the triangles; area under water and volume through time."""
    import numpy as np

    parts, mesh = _merged(datasets)
    water = _Water(parts, dry_depth_m)
    dataset = datasets[0]
    start = float(dataset.attrs.get("starttime", 0))
    units = "seconds since 1970-01-01" if start else "s"
    time = Axis("time", "time", np.asarray(dataset.variables["time"].to_numpy(), dtype=float) + start, units, "Time")
    areas = mesh.areas
    cells = Axis("triangle", "cell", np.arange(len(areas), dtype=float))

    def on_triangles(name: str, part: Callable[[Index], Floats], *, moves: bool = True) -> Field:
        long_name, unit, standard = _UNITS.get(name, ("", "", ""))
        axes = (time, cells) if moves else (cells,)
        weights = ((len(axes) - 1, areas),)
        return Field(name, axes, part, unit, long_name, standard, file, mesh, weights, "areas of the triangles")

    def through_time(name: str, of: Callable[[Floats, Floats], Floats]) -> Field:
        long_name, unit, standard = _UNITS[name]

        def part(index: Index) -> Floats:
            rows = range(*index[0].indices(len(time)))
            return np.array([of(water.depth(slice(row, row + 1), slice(None))[0], areas) for row in rows])

        return Field(name, (time,), part, unit, long_name, standard, file)

    found = [
        on_triangles("stage", water.wet("stage")),
        on_triangles("depth", lambda index: water.depth(*index)),
        on_triangles("speed", water.speed),
    ]
    known = set(dataset.variables)
    found += [on_triangles(name, water.wet(name)) for name in ("xmomentum", "ymomentum") if name in known]
    for name in ("elevation", "friction"):
        if name in known and not parts[0].moves(name):
            found.append(on_triangles(name, _still(water, name), moves=False))
        elif name in known:
            found.append(on_triangles(name, _moving(water, name)))
    if "xmomentum" not in known:
        found = [item for item in found if item.name != "speed"]
    found.append(through_time("wet_area", lambda depth, area: area @ (depth > dry_depth_m)))
    found.append(through_time("water_volume", lambda depth, area: area @ depth))
    return found


def _still(water: _Water, name: str) -> Callable[[Index], Floats]:
    return lambda index: water.get(name, slice(None), index[0])[0]


def _moving(water: _Water, name: str) -> Callable[[Index], Floats]:
    return lambda index: water.get(name, *index)


def _merged(datasets: Sequence[xr.Dataset]) -> tuple[list[_Part], Mesh]:
    import numpy as np

    parts: list[_Part] = []
    corners, xs, ys, before = [], [], [], 0
    for dataset in datasets:
        triangles = np.asarray(dataset.variables["volumes"].to_numpy(), dtype=np.int64)
        if "tri_full_flag" in dataset.variables:
            own = np.flatnonzero(np.asarray(dataset.variables["tri_full_flag"].to_numpy()) == 1)
        else:
            own = np.arange(len(triangles))
        parts.append(_Part(dataset, own, triangles[own]))
        corners.append(triangles[own] + before)
        xs.append(np.asarray(dataset.variables["x"].to_numpy(), dtype=float) + float(dataset.attrs.get("xllcorner", 0)))
        ys.append(np.asarray(dataset.variables["y"].to_numpy(), dtype=float) + float(dataset.attrs.get("yllcorner", 0)))
        before += len(xs[-1])
    return parts, Mesh(np.concatenate(xs), np.concatenate(ys), np.concatenate(corners))

"""A field of a model's results: named axes or a mesh, weights for means, values read in blocks of bounded size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis import times

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Index = tuple[slice, ...]
BLOCK_VALUES = 2**20
"""Values that are held at once (8 MiB as float64); a computation needs a few times as much."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """A dimension: `kind` is time, lon, lat, x, y, depth, frequency, direction, cell, or other.

    `edges` (one more than values) are where its cells end, if somebody knows; `calendar` is that of a time axis whose
    units are `… since …`.
    """

    name: str
    kind: str
    values: Floats
    units: str = ""
    long_name: str = ""
    edges: Floats | None = None
    calendar: str = "standard"
    positive: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def text(self, position: int) -> str:
        """One of its values, as people write it."""
        return times.text_of(float(self.values[position]), self.units, self.calendar)

    def nearest(self, value: float) -> int:
        """The position of the value that is nearest."""
        import numpy as np

        distance = np.abs(self.values - value)
        if self.kind == "lon":
            distance = np.abs((self.values - value + 180) % 360 - 180)
        return int(np.argmin(distance))

    @property
    def surface(self) -> int:
        """Of a depth axis: the position nearest to the surface, which is where the value is nearest to zero."""
        import numpy as np

        return int(np.argmin(np.abs(self.values)))


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles: `corners` are three positions in `x` and `y` for each."""

    x: Floats
    y: Floats
    corners: NDArray[np.int64]
    units: str = "m"

    @property
    def centres(self) -> tuple[Floats, Floats]:
        """Where the middle of each triangle is."""
        return self.x[self.corners].mean(axis=1), self.y[self.corners].mean(axis=1)

    @property
    def areas(self) -> Floats:
        """Half the cross product of two sides."""
        import numpy as np

        (x0, x1, x2), (y0, y1, y2) = self.x[self.corners].T, self.y[self.corners].T
        found: Floats = np.abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)) / 2
        return found

    def triangle_at(self, x: float, y: float) -> int | None:
        """The triangle that a point lies in (by barycentric coordinates); None where there is none."""
        import numpy as np

        (x0, x1, x2), (y0, y1, y2) = self.x[self.corners].T, self.y[self.corners].T
        twice = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
        with np.errstate(divide="ignore", invalid="ignore"):
            first = ((y1 - y2) * (x - x2) + (x2 - x1) * (y - y2)) / twice
            second = ((y2 - y0) * (x - x2) + (x0 - x2) * (y - y2)) / twice
        inside = np.flatnonzero((first >= -1e-9) & (second >= -1e-9) & (first + second <= 1 + 1e-9))
        return int(inside[0]) if len(inside) else None


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One variable of the results; `part(index)` reads a block as float64, with NaN where nothing is.

    `weights` are arrays for one axis each (cell widths, areas); the weight of a value is their product.  `lon_lat` are
    two-dimensional coordinates of a curvilinear grid, for the last two axes.
    """

    name: str
    axes: tuple[Axis, ...]
    part: Callable[[Index], Floats]
    units: str = ""
    long_name: str = ""
    standard_name: str = ""
    file: str = ""
    mesh: Mesh | None = None
    weights: tuple[tuple[int, Floats], ...] = ()
    weighting: str = ""
    lon_lat: tuple[Floats, Floats] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def time(self) -> Axis | None:
        """Its time axis: always the first one, if there is one."""
        return self.axes[0] if self.axes and self.axes[0].kind == "time" else None

    def axis(self, *kinds: str) -> int | None:
        """The position of the first axis of one of these kinds."""
        return next((number for number, axis in enumerate(self.axes) if axis.kind in kinds), None)

    @property
    def horizontal(self) -> tuple[int, int] | None:
        """The positions of the axes that go north and east, if it has both."""
        north, east = self.axis("lat", "y"), self.axis("lon", "x")
        return (north, east) if north is not None and east is not None else None

    @property
    def beyond_the_plane(self) -> list[Axis]:
        """The axes that are neither time nor layers nor the plane that is seen from above."""
        if self.mesh is not None:
            plane = {len(self.axes) - 1}
        elif self.lon_lat is not None:
            plane = {len(self.axes) - 2, len(self.axes) - 1}
        else:
            plane = set(self.horizontal or ())
        return [a for n, a in enumerate(self.axes) if n not in plane and a.kind not in ("time", "depth")]

    @property
    def has_plane(self) -> bool:
        """Whether it lies on a plane, apart from time and layers."""
        flat = self.mesh is not None or self.lon_lat is not None or self.horizontal is not None
        return flat and not self.beyond_the_plane

    @property
    def title(self) -> str:
        """What to call it on a picture."""
        return self.long_name or self.standard_name.replace("_", " ") or self.name

    def read(self, **chosen: int | slice) -> Floats:
        """Values at positions of axes, by the axes' names; an axis that is not named is read whole."""
        index = tuple(_slice(chosen.get(axis.name, slice(None))) for axis in self.axes)
        found = self.part(index)
        gone = tuple(n for n, axis in enumerate(self.axes) if isinstance(chosen.get(axis.name), int))
        return found.squeeze(axis=gone)

    def blocks(self, most: int = BLOCK_VALUES) -> Iterator[tuple[Index, Floats]]:
        """All values in order, no more than `most` at a time."""
        for index in split(self.shape, most):
            yield index, self.part(index)

    def weight(self, index: Index) -> Floats | float:
        """The weights of a block, in a shape that goes with it; 1 where every value counts alike."""
        found: Any = 1.0
        for position, values in self.weights:
            shape = [1] * len(self.axes)
            shape[position] = -1
            found = found * values[index[position]].reshape(shape)
        return found  # type: ignore[no-any-return]


def _slice(chosen: int | slice) -> slice:
    return chosen if isinstance(chosen, slice) else slice(chosen, chosen + 1)


def split(shape: Sequence[int], most: int) -> Iterator[Index]:
    """Indices of blocks that cover a shape in order; each holds no more than `most` values (one at least)."""
    if 0 in shape:
        return
    whole = len(shape)
    while whole and math.prod(shape[whole - 1 :]) <= most:
        whole -= 1
    if whole == 0:
        yield tuple(slice(0, length) for length in shape)
        return
    step = max(1, most // math.prod(shape[whole:]))
    rest = tuple(slice(0, length) for length in shape[whole:])
    for outer in itertools.product(*(range(length) for length in shape[: whole - 1])):
        for begin in range(0, shape[whole - 1], step):
            part = slice(begin, min(begin + step, shape[whole - 1]))
            yield (*(slice(n, n + 1) for n in outer), part, *rest)


def joined(fields: Sequence[Field]) -> Field:
    """Fields of files that follow each other in time as one; the time axes are put one after the other."""
    import numpy as np

    first = fields[0]
    if len(fields) == 1:
        return first
    begins = np.cumsum([0, *(len(field.axes[0]) for field in fields)])
    time = replace(first.axes[0], values=np.concatenate([field.axes[0].values for field in fields]))

    def part(index: Index) -> Floats:
        begin, end, _ = index[0].indices(len(time))
        found = []
        for number, field in enumerate(fields):
            low, high = max(begin, begins[number]), min(end, begins[number + 1])
            if low < high:
                found.append(field.part((slice(int(low - begins[number]), int(high - begins[number])), *index[1:])))
        if not found:
            return first.part((slice(0, 0), *index[1:]))
        return np.concatenate(found)

    files = f"{first.file} … {fields[-1].file}"
    return replace(first, axes=(time, *first.axes[1:]), part=part, file=files)

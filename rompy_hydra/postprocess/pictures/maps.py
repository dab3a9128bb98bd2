"""Maps: a field at one time, seen from above, on a regular, a curvilinear or a triangular grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.pictures import style
from rompy_hydra.postprocess.pictures.scene import Look, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rompy_hydra.postprocess.analysis.fields import Field, Floats, Index, Mesh

_LINES = 8
_MANY_CELLS = 5000


def can_be_mapped(field: Field) -> bool:
    """Whether a field lies on a plane, apart from time and layers."""
    plane = field.horizontal
    return field.has_plane and (plane is None or min(len(field.axes[n]) for n in plane) > 1)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A field from above: what was taken of time and layers, in words."""

    field: Field
    values: Floats
    when: str
    level: str

    @property
    def where(self) -> str:
        """`after 10 days, at -14 m`."""
        return ", ".join(part for part in (self.when, self.level and f"at {self.level}") if part)


def layer_of(field: Field, time: int = -1, level: float | None = None) -> Layer:
    """One time and one layer of a field."""
    taken: dict[str, int | slice] = {}
    when = told = ""
    if field.time is not None:
        length = len(field.time)
        position = time if time >= 0 else length + time
        if not 0 <= position < length:
            raise NothingToProcessError(f"'{field.name}' has {length} records; time={time} is none of them")
        taken[field.time.name] = position
        when = field.time.text(position)
        when = when if " since " in field.time.units else f"after {when}"
    depth = field.axis("depth")
    if depth is not None:
        axis = field.axes[depth]
        position = axis.surface if level is None else axis.nearest(level)
        taken[axis.name] = position
        told = f"{axis.values[position]:g} {axis.units}".strip()
    values = field.read(**taken)
    horizontal = field.horizontal
    if field.mesh is None and horizontal is not None and horizontal[0] > horizontal[1]:
        values = values.T
    return Layer(field, values, when, told)


def greatest_of(field: Field) -> Layer:
    """The greatest value at each place over all times, block by block."""
    import numpy as np

    found = np.full(field.shape[1:], -np.inf)
    for index, values in field.blocks():
        inner = index[1:]
        found[inner] = np.maximum(found[inner], np.where(np.isfinite(values), values, -np.inf).max(axis=0))
    found[~np.isfinite(found)] = np.nan
    return Layer(replace(field, long_name=f"Greatest {_small(field.title)}"), found, "", "")


def _small(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def wet_only(field: Field, dry_depth_m: float) -> Field:
    """A depth of water without the dry ground, which is land on a map."""
    import numpy as np

    if field.mesh is None or field.name.rpartition(".")[2] != "depth":
        return field

    def part(index: Index) -> Floats:
        depth = field.part(index)
        return np.where(depth > dry_depth_m, depth, np.nan)

    return replace(field, part=part)


def scene(layer: Layer, look: Look, *, bed: Floats | None = None, suffix: str = "") -> Scene:
    """The map of a layer; `bed` are the heights of the ground on the same mesh, for its contour lines."""
    import numpy as np

    field = layer.field
    scale = style.scale_of(layer.values, field, colormap=look.colormap, signed_colormap=look.signed_colormap)
    title = f"{field.title} {layer.where}".strip()
    there = layer.values[np.isfinite(layer.values)] / scale.factor
    alt = f"Map of {title}: from {there.min():.3g} to {there.max():.3g} {scale.units}".strip()

    def draw() -> Figure:
        west, east, south, north = extent(field)
        ratio = aspect_of(field, south, north)
        figure, axes = style.new_figure(*style.map_size(east - west, (north - south) * ratio), look.dpi)
        drawn = draw_layer(axes, field, layer.values, scale, bed=bed)
        axes.set_aspect(ratio)
        style.set_title(axes, title)
        style.add_colorbar(figure, axes, drawn, style.label_of(style.short(field.title, 40), scale.units), scale.extend)
        return figure

    return Scene("map", f"map_{field.name}{suffix}", title, alt, draw)


def draw_layer(
    axes: Axes, field: Field, values: Floats, scale: style.Scale, *, bed: Floats | None = None, lines: bool = True
) -> Any:
    """Colours, land in grey, contour lines where the field is smooth; the answer takes new values (`set_array`)."""
    import numpy as np

    shown = np.ma.masked_invalid(values / scale.factor)
    common = {"cmap": scale.colormap, "vmin": scale.low, "vmax": scale.high, "rasterized": values.size > _MANY_CELLS}
    axes.set_facecolor(style.LAND)
    if field.mesh is not None:
        drawn = axes.tripcolor(field.mesh.x, field.mesh.y, field.mesh.corners, facecolors=shown, **common)
        if bed is not None:
            _draw_bed(axes, field.mesh, bed)
    else:
        x, y = _corners(field)
        drawn = axes.pcolormesh(
            x, y, shown, shading="flat" if x.shape[-1] == values.shape[1] + 1 else "nearest", **common
        )
        if lines and has_lines(field):
            _draw_lines(axes, field, shown, scale)
    _label(axes, field)
    west, east, south, north = extent(field)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    return drawn


def has_lines(field: Field) -> bool:
    """Whether its contour lines are usual and smooth enough to carry numbers."""
    text = f"{field.long_name} {field.standard_name}".lower()
    return any(
        word in text
        for word in ("streamfunction", "stream function", "temperature", "salinity", "density", "transport")
    )


def _draw_lines(axes: Axes, field: Field, shown: Any, scale: style.Scale) -> None:
    if min(shown.shape) < 2:
        return
    levels = style.contour_levels(scale)
    north, east = field.horizontal or (0, 1)
    place = _corners(field) if field.lon_lat is not None else (field.axes[east].values, field.axes[north].values)
    lines = axes.contour(*place, shown, levels=levels, colors=style.INK, linewidths=0.5, alpha=0.75)
    style.label_lines(axes, lines)


def _draw_bed(axes: Axes, mesh: Mesh, bed: Floats) -> None:
    from matplotlib.ticker import MaxNLocator
    from matplotlib.tri import Triangulation

    heights = at_nodes(mesh, bed)
    low, high = float(heights.min()), float(heights.max())
    if high <= low:
        return
    levels = [v for v in MaxNLocator(_LINES).tick_values(low, high) if low < v < high]
    triangles = Triangulation(mesh.x, mesh.y, mesh.corners)
    lines = axes.tricontour(triangles, heights, levels=levels, colors="#4a4036", linewidths=0.5)
    style.label_lines(axes, lines, units=" m")


def at_nodes(mesh: Mesh, values: Floats) -> Floats:
    """Values of triangles at their corners: the mean of the triangles around, by their areas."""
    import numpy as np

    areas = mesh.areas
    sums, weights = np.zeros(len(mesh.x)), np.zeros(len(mesh.x))
    for corner in range(3):
        np.add.at(sums, mesh.corners[:, corner], values * areas)
        np.add.at(weights, mesh.corners[:, corner], areas)
    found: Floats = np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
    unused = ~np.isfinite(found)
    found[unused] = np.nanmean(found)  # corners of no triangle (a neighbour rank's): nothing is drawn there
    return found


def _corners(field: Field) -> tuple[Any, Any]:
    if field.lon_lat is not None:
        return _filled(field.lon_lat[0]), _filled(field.lon_lat[1])
    assert field.horizontal is not None
    north, east = (field.axes[position] for position in field.horizontal)
    if east.edges is not None and north.edges is not None:
        return east.edges, north.edges
    return east.values, north.values


def _filled(places: Floats) -> Floats:
    """Coordinates that are missing (on land) as those of a neighbour: there is nothing to be seen, but a cell."""
    import numpy as np

    found = np.array(places)
    for axis in (1, 0):
        lines = found if axis == 1 else found.T  # a view: filling it fills `found`
        for line in lines:
            there = np.isfinite(line)
            if there.any() and not there.all():
                line[~there] = np.interp(np.flatnonzero(~there), np.flatnonzero(there), line[there])
    return found


def extent(field: Field) -> tuple[float, float, float, float]:
    """West, east, south, north."""
    import numpy as np

    x, y = (field.mesh.x, field.mesh.y) if field.mesh is not None else _corners(field)
    return float(np.nanmin(x)), float(np.nanmax(x)), float(np.nanmin(y)), float(np.nanmax(y))


def aspect_of(field: Field, south: float, north: float) -> float:
    """How much longer a unit northwards is than one eastwards: 1/cos(latitude) on degrees."""
    import math

    on_sphere = field.lon_lat is not None or field.axis("lat") is not None
    return 1 / max(0.2, math.cos(math.radians((south + north) / 2))) if on_sphere else 1.0


def _label(axes: Axes, field: Field) -> None:
    if field.lon_lat is not None or field.axis("lat") is not None:
        axes.xaxis.set_major_formatter(style.degrees_east)
        axes.yaxis.set_major_formatter(style.degrees_north)
        return
    units = [field.mesh.units] * 2 if field.mesh is not None else ["", ""]
    if field.mesh is None and field.horizontal is not None:
        units = [field.axes[position].units for position in reversed(field.horizontal)]
    axes.set_xlabel(style.label_of("x", units[0]))
    axes.set_ylabel(style.label_of("y", units[1]))

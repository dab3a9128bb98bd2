"""Sections: a field over depth along a line or in the zonal mean; of triangles, the water above its bed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.pictures import style
from rompy_hydra.postprocess.pictures.choice import spread_out
from rompy_hydra.postprocess.pictures.maps import has_lines
from rompy_hydra.postprocess.pictures.scene import Look, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rompy_hydra.postprocess.analysis.fields import Axis, Field, Floats

_POINTS = 2000
_GROWS = 4  # how much thicker than the uppermost layer the lowest must be
_TIMES = 5


def can_be_cut(field: Field) -> bool:
    """Whether a field has layers (of depth, or of anything else such as density) and something to go along."""
    if field.mesh is not None or field.lon_lat is not None or _layers(field) is None:
        return False
    ways = [axis for axis in field.axes if axis.kind in ("lat", "lon", "x", "y") and len(axis) > 1]
    rest = [axis for axis in field.axes if axis.kind not in ("time", "lat", "lon", "x", "y")]
    return bool(ways) and len(rest) == 1


def _layers(field: Field) -> int | None:
    found = field.axis("depth")
    return found if found is not None else field.axis("other")


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Values over layers (rows) and along a way (columns)."""

    field: Field
    values: Floats
    along: Axis
    layers: Axis
    where: str


def cut_of(field: Field, time: int = -1, at: Mapping[Any, float] | None = None) -> Cut:
    """A section at one time: at a longitude or latitude (x or y), else the mean over the way across."""
    import numpy as np

    layers = _layers(field)
    assert layers is not None
    ways = {n: axis for n, axis in enumerate(field.axes) if axis.kind in ("lat", "lon", "x", "y")}
    taken: dict[str, int | slice] = {}
    words = []
    if field.time is not None:
        position = time if time >= 0 else len(field.time) + time
        if not 0 <= position < len(field.time):
            raise NothingToProcessError(f"'{field.name}' has {len(field.time)} records; time={time} is none of them")
        taken[field.time.name] = position
        text = field.time.text(position)
        words.append(text if " since " in field.time.units else f"after {text}")
    mean = False
    if len(ways) == 2:
        kind, value = next(iter(at.items())) if at else ("", 0.0)
        across = next((n for n, axis in ways.items() if axis.kind == kind), None)
        if at and across is None:
            known = ", ".join(axis.kind for axis in ways.values())
            raise NothingToProcessError(f"'{field.name}' has no '{kind}' to be cut at; it has {known}")
        if across is not None:
            position = field.axes[across].nearest(value)
            taken[field.axes[across].name] = position
            place = float(field.axes[across].values[position])
            told = {"lon": style.degrees_east, "lat": style.degrees_north}.get(kind)
            words.append(f"at {told(place) if told else f'{kind} = {place:g} {field.axes[across].units}'}")
        else:
            across = next(n for n, axis in ways.items() if axis.kind in ("lon", "x"))
            mean = True
            words.append("zonal mean" if field.axes[across].kind == "lon" else f"mean over {field.axes[across].name}")
        ways.pop(across)
        across_name = field.axes[across].name
    values = field.read(**taken)
    left = [axis for axis in field.axes if not isinstance(taken.get(axis.name), int)]
    if mean:
        position = [axis.name for axis in left].index(across_name)
        there = np.isfinite(values)
        counts = there.sum(axis=position)
        sums = np.where(there, values, 0.0).sum(axis=position)
        values = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        left.pop(position)
    along = next(iter(ways.values()))
    if left[0] is along:
        values = values.T
    return Cut(field, values, along, field.axes[layers], ", ".join(words))


def scene(cut: Cut, look: Look, suffix: str = "") -> Scene:
    """Colours and contour lines over the section; the ground is grey."""
    import numpy as np

    field, along, layers = cut.field, cut.along, cut.layers
    scale = style.scale_of(cut.values, field, colormap=look.colormap, signed_colormap=look.signed_colormap)
    title = f"{field.title} {cut.where}".strip()
    there = cut.values[np.isfinite(cut.values)] / scale.factor
    alt = f"Section of {title}: from {there.min():.3g} to {there.max():.3g} {scale.units}".strip()

    def draw() -> Figure:
        figure, axes = style.new_figure(7.6, 4.0, look.dpi)
        axes.set_facecolor(style.LAND)
        shown = np.ma.masked_invalid(cut.values / scale.factor)
        common = {"cmap": scale.colormap, "vmin": scale.low, "vmax": scale.high, "rasterized": True}
        if along.edges is not None and layers.edges is not None:
            drawn = axes.pcolormesh(along.edges, layers.edges, shown, shading="flat", **common)
        else:
            drawn = axes.pcolormesh(along.values, layers.values, shown, shading="nearest", **common)
        levels = style.contour_levels(scale)
        if levels and min(shown.shape) > 1 and there.max() > there.min():
            lines = axes.contour(
                along.values, layers.values, shown, levels=levels, colors=style.INK, linewidths=0.5, alpha=0.75
            )
            if has_lines(field):
                style.label_lines(axes, lines)
        formats = {"lon": style.degrees_east, "lat": style.degrees_north}
        if along.kind in formats:
            axes.xaxis.set_major_formatter(formats[along.kind])
        else:
            axes.set_xlabel(style.label_of(along.long_name or along.name, along.units))
        axes.set_ylabel(_layer_label(layers))
        _stretch(axes, layers)
        if layers.positive == "down" or (layers.kind == "other" and "sigma" in layers.name.lower()):
            axes.invert_yaxis()  # the surface, or the lightest water, on top
        style.set_title(axes, title)
        style.add_colorbar(figure, axes, drawn, style.label_of(style.short(field.title, 34), scale.units), scale.extend)
        return figure

    return Scene("section", f"section_{field.name}{suffix}", title, alt, draw)


def _stretch(axes: Axes, layers: Axis) -> None:
    """Give thin layers at the surface room where layers grow downwards: heights go by their square root."""
    import numpy as np
    from matplotlib.ticker import FixedLocator

    edges = layers.edges
    if layers.kind != "depth" or edges is None:
        return
    thickness = np.abs(np.diff(edges))
    top, bottom = (thickness[0], thickness[-1]) if abs(edges[0]) < abs(edges[-1]) else (thickness[-1], thickness[0])
    if bottom < _GROWS * top:
        return
    axes.set_yscale(
        "function",
        functions=(lambda z: np.sign(z) * np.sqrt(np.abs(z)), lambda root: np.sign(root) * root**2),
    )
    low, high = sorted((float(edges[0]), float(edges[-1])))
    deepest = max(abs(low), abs(high))
    power = 10 ** np.floor(np.log10(deepest))
    step = next(step for step in (2, 1, 0.5) if deepest / (step * power) >= 1) * power
    ticks = np.array([0, 0.025, 0.1, 0.25, 0.5, 1]) * step
    ticks = ticks if high > -low else -ticks
    axes.yaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks if low <= tick <= high]))
    axes.set_ylim(low, high)


def _layer_label(layers: Axis) -> str:
    if layers.kind == "depth":
        return style.label_of("Depth" if layers.positive == "down" else "Height", layers.units)
    return style.label_of(layers.long_name or layers.name, layers.units)


def profile_scene(stage: Field, bed: Floats, look: Look, at: Mapping[Any, float] | None = None) -> Scene:
    """The water's surface at a few times above the bed, along a line over the triangles."""
    import numpy as np

    mesh = stage.mesh
    assert mesh is not None
    assert stage.time is not None
    kind, value = next(iter(at.items())) if at else ("y", (float(mesh.y.min()) + float(mesh.y.max())) / 2)
    if kind not in ("x", "y"):
        raise NothingToProcessError(f"a section of {stage.file} lies at an x or a y, not at a {kind}")
    ends = (mesh.x.min(), mesh.x.max()) if kind == "y" else (mesh.y.min(), mesh.y.max())
    way = np.linspace(float(ends[0]), float(ends[1]), _POINTS)
    times = spread_out(len(stage.time), _TIMES)
    title = f"Water level along {kind} = {value:g} m"
    alt = f"Section: {title}, at {', '.join(stage.time.text(n) for n in times)}, above the bed"
    name = stage.time.name

    def draw() -> Figure:
        from matplotlib.tri import Triangulation

        finder = Triangulation(mesh.x, mesh.y, mesh.corners).get_trifinder()
        there = np.full_like(way, value)
        cells = np.asarray(finder(way, there) if kind == "y" else finder(there, way))
        inside = cells >= 0
        if not inside.any():
            raise NothingToProcessError(f"the section at {kind} = {value:g} lies outside of the mesh of {stage.file}")
        met = np.unique(cells[inside])  # each triangle on the way, at its middle: no steps
        middle = mesh.centres[0 if kind == "y" else 1][met]
        order = np.argsort(middle, kind="stable")
        met, middle = met[order], middle[order]
        ground = bed[met]
        figure, axes = style.new_figure(7.6, 3.6, look.dpi)
        levels = [stage.read(**{name: number})[met] for number in times]
        colours = style.colormap_of(look.colormap or "viridis")(np.linspace(0.0, 0.88, len(times)))
        low = float(np.nanmin(ground))
        top = max(float(np.nanmax(ground)), *(float(np.nanmax(level)) for level in levels if np.isfinite(level).any()))
        floor = low - 0.08 * (top - low or 1)
        axes.fill_between(middle, ground, floor, color=style.LAND, linewidth=0)
        axes.plot(middle, ground, color="#6b6255", linewidth=1.0, label="bed")
        for number, level, colour in zip(times, levels, colours, strict=True):
            axes.plot(middle, level, color=colour, linewidth=1.3, label=stage.time.text(number) if stage.time else "")
        axes.set_xlim(way[0], way[-1])
        axes.set_ylim(floor, top + 0.08 * (top - low or 1))
        axes.set_xlabel(style.label_of("x" if kind == "y" else "y", mesh.units))
        axes.set_ylabel(style.label_of("Height", style.pretty_units(stage.units)))
        style.set_title(axes, title)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
        return figure

    return Scene("section", "section_water_level", title, alt, draw)

"""An animation: the map of a field through time, as a GIF (Pillow); the colours mean the same in every picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rompy_hydra.postprocess.pictures import maps, style
from rompy_hydra.postprocess.pictures.choice import spread_out
from rompy_hydra.postprocess.pictures.scene import Look, Scene

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Field, Floats

_PER_SECOND = 5
_DPI = 80
_SAMPLED = 8


def scene(field: Field, look: Look, *, frames: int, level: float | None = None, bed: Floats | None = None) -> Scene:
    """All records, or `frames` of them, evenly."""
    import numpy as np

    time = field.axes[0]
    records = spread_out(len(time), frames)
    some = [maps.layer_of(field, number, level).values.ravel() for number in spread_out(len(time), _SAMPLED)]
    scale = style.scale_of(np.concatenate(some), field, colormap=look.colormap, signed_colormap=look.signed_colormap)
    title = f"{field.title}, {time.text(0)} to {time.text(len(time) - 1)}"
    alt = f"Animation of {title} in {len(records)} pictures: {scale.low:.3g} to {scale.high:.3g} {scale.units}"

    def write(path: Path) -> None:
        from matplotlib.animation import PillowWriter

        west, east, south, north = maps.extent(field)
        ratio = maps.aspect_of(field, south, north)
        figure, axes = style.new_figure(*style.map_size(east - west, (north - south) * ratio, most=6.0), _DPI)
        first = maps.layer_of(field, records[0], level)
        drawn = maps.draw_layer(axes, field, first.values, scale, bed=bed, lines=False)
        axes.set_aspect(ratio)
        style.add_colorbar(figure, axes, drawn, style.label_of(style.short(field.title, 40), scale.units), scale.extend)
        writer = PillowWriter(fps=_PER_SECOND, metadata={})
        with writer.saving(figure, str(path), _DPI):
            for number in records:
                layer = maps.layer_of(field, number, level)
                drawn.set_array(np.ma.masked_invalid(layer.values / scale.factor))
                style.set_title(axes, f"{field.title} {layer.where}")
                writer.grab_frame()

    return Scene("animation", f"animation_{field.name}", title, alt, write=write)

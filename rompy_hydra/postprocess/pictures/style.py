"""matplotlib as we use it: Agg alone, no pyplot, nobody's matplotlibrc; colours, units and sizes of all pictures.

The same data make the same bytes: no dates and no version in the files, fixed ids in SVG, matplotlib's own font.
"""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError, missing_library

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rompy_hydra.postprocess.analysis.fields import Field

LAND = "#d9d5cd"
INK = "#22303c"
_LETTERS_PER_INCH = 11.5
_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.edgecolor": "#6b7680",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": "#6b7680",
    "ytick.color": "#6b7680",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "contour.linewidth": 0.5,
    "contour.negative_linestyle": "dashed",
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-4, 5),
    "legend.frameon": False,
    "image.composite_image": False,
    "svg.hashsalt": "rompy-hydra",
    "svg.fonttype": "path",
    "agg.path.chunksize": 10_000,
}
SERIES = ("#2b6a99", "#d1702f", "#3f8f5b", "#8e5aa8", "#b5485d", "#7a6a4f", "#1f9aa8", "#9a8f1d")
"""Colours of lines, told apart by colour-blind readers in this order too; they also differ in lightness."""


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our settings and leave matplotlib's as they were; whatever a user's matplotlibrc says."""
    _import_quietly()
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def _import_quietly() -> None:
    """Import matplotlib so that it keeps its font list where it has it already, else outside of the user's home."""
    name = "MPLCONFIGDIR"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matplotlib"
    ours = name not in os.environ and not home.is_dir()
    if ours:
        os.environ[name] = str(Path(tempfile.gettempdir()) / f"rompy-hydra-matplotlib-{os.getuid()}")
    try:
        import matplotlib.font_manager  # noqa: F401  # reads or makes the font list
    except ImportError as error:
        raise missing_library(error) from error
    finally:
        if ours:
            os.environ.pop(name, None)


def new_figure(width: float, height: float, dpi: int, *, columns: int = 1) -> tuple[Figure, Axes]:
    """One figure and its (first) axes; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    for column in range(columns):
        figure.add_subplot(1, columns, column + 1)
    return figure, figure.axes[0]


def save(figure: Figure, path: Path) -> None:
    """PNG or SVG by the suffix, without what would differ tomorrow."""
    if path.suffix == ".svg":
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, format="png", metadata={"Software": None})


def map_size(width: float, height: float, *, most: float = 8.0) -> tuple[float, float]:
    """Inches for axes of these proportions, with room for a colour bar, labels and a title."""
    ratio = height / width if width else 1.0
    inner_width = min(6.2, max(2.6, (most - 1.2) / ratio)) if ratio else 6.2
    inner_height = min(most - 1.2, max(1.6, inner_width * ratio))
    return inner_width + 1.9, inner_height + 1.1


@dataclass(frozen=True, slots=True)
class Scale:
    """How values become colours: what they are divided by, the limits, and whether zero is the middle."""

    factor: float
    units: str
    low: float
    high: float
    signed: bool
    extend: str
    colormap: Any


def scale_of(
    values: NDArray[np.float64], field: Field, *, colormap: str | None = None, signed_colormap: str | None = None
) -> Scale:
    """Limits and colours for values: symmetric about zero where their sign means something.

    Where a few values lie far outside of the others (by more than the span of 98 % of them) the colours are spent on
    the others, and the bar has a tip for what is beyond.
    """
    import numpy as np

    found = values[np.isfinite(values)]
    if not found.size:
        raise NothingToProcessError(f"all of '{field.name}' is missing")
    low, high = float(found.min()), float(found.max())
    inner_low, inner_high = (float(value) for value in np.percentile(found, (1, 99)))
    span = inner_high - inner_low
    extend_low, extend_high = 0 < span < inner_low - low, 0 < span < high - inner_high
    low, high = inner_low if extend_low else low, inner_high if extend_high else high
    signed = _is_signed(field, low, high)
    if signed:
        high = max(-low, high)
        low = -high
    if low == high:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    factor, units = units_for(field.units, max(abs(low), abs(high)))
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (extend_low, extend_high), "neither"
    )
    name = (signed_colormap or "RdBu_r") if signed else (colormap or _usual_colormap(field))
    return Scale(factor, units, low / factor, high / factor, signed, extend, colormap_of(name))


def _is_signed(field: Field, low: float, high: float) -> bool:
    """Whether zero is a middle: not of temperatures, whose zero is a convention, and not of the height of the bed."""
    if re.search(r"deg|celsius|kelvin|\AK\Z", field.units, re.IGNORECASE) or field.name == "elevation":
        return False
    return low < 0 < high and min(-low, high) > 0.02 * max(-low, high)


def _usual_colormap(field: Field) -> str:
    if field.name == "elevation":
        return "cividis"
    return "viridis_r" if field.name.endswith("depth") else "viridis"


def colormap_of(name: str) -> Colormap:
    """A colour map by its name; `cmo.NAME` needs the package cmocean."""
    import matplotlib as mpl

    if name.startswith("cmo."):
        try:
            import cmocean
        except ImportError as error:
            raise missing_library(error, extra="colormaps") from error
        found = cmocean.cm.cmap_d.get(name.removeprefix("cmo."))
        if found is None:
            known = ", ".join(sorted(n for n in cmocean.cm.cmap_d if not n.endswith("_r")))
            raise NothingToProcessError(f"cmocean has no colour map '{name}'; it has {known}")
        return found  # type: ignore[no-any-return]
    try:
        return mpl.colormaps[name]
    except KeyError as error:
        raise NothingToProcessError(
            f"matplotlib has no colour map '{name}'; take viridis, cividis, RdBu_r …"
        ) from error


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def pretty_units(units: str) -> str:
    """`m^3/s` → m³/s, `deg C` → °C, `s m-1/3` as it is, `1` → nothing."""
    if units.strip().lower() in ("degc", "deg c", "deg_c", "degree_c", "degrees_c", "celsius", "degree_celsius"):
        return "°C"
    if units.strip() in ("", "1", "-"):
        return ""
    return re.sub(
        r"(?:\^|\*\*)(-?\d)|(?<=[a-zA-Z])(-?\d)(?![\d/.])", lambda m: (m[1] or m[2]).translate(_SUPERSCRIPTS), units
    )


def units_for(units: str, largest: float) -> tuple[float, str]:
    """A factor that makes numbers of one to four digits, and the units that go with it; transports in sverdrups."""
    import math

    if units.replace("**", "^").replace(" ", "") in ("m^3/s", "m3/s", "m3s-1") and largest >= 1e5:
        return 1e6, "Sv"
    if largest == 0 or 1e-2 <= largest < 1e5:
        return 1.0, pretty_units(units)
    power = math.floor(math.log10(largest))
    told = f"10{str(power).translate(_SUPERSCRIPTS)}"
    return 10.0**power, f"{told} {pretty_units(units)}".strip()


def contour_levels(scale: Scale, most: int = 10) -> list[float]:
    """Round values for lines; not zero where the colours change there anyway, since noise about it makes many lines."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(most).tick_values(scale.low, scale.high)
    return [float(v) for v in found if scale.low < v < scale.high and not (scale.signed and abs(v) < 1e-12)]


def label_lines(axes: Axes, lines: Any, units: str = "") -> None:
    """Numbers on contour lines, readable on light and on dark ground."""
    from matplotlib.patheffects import withStroke

    labels = axes.clabel(lines, fontsize=7, fmt=lambda value: f"{value:g}{units}", inline_spacing=2)
    for label in labels or ():
        label.set_path_effects([withStroke(linewidth=1.6, foreground=(1, 1, 1, 0.9))])


def label_of(name: str, units: str) -> str:
    """`Temperature [°C]`."""
    return f"{name} [{units}]" if units else name


def short(text: str, most: int = 70) -> str:
    """A title that fits; matplotlib would read `$` as mathematics."""
    text = " ".join(text.split()).replace("$", r"\$")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def set_title(axes: Axes, text: str) -> None:
    """A title that wraps at the width of the figure, on three lines at most."""
    figure = cast("Figure", axes.figure)
    inches = figure.get_size_inches()[0] / len(figure.axes) - 0.7
    width = max(24, int(inches * _LETTERS_PER_INCH))
    lines = textwrap.wrap(" ".join(text.split()), width, max_lines=3, placeholder=" …")
    axes.set_title("\n".join(lines).replace("$", r"\$"))


def degrees_east(value: float, _: Any = None) -> str:
    """`30°W`."""
    value = (value + 180) % 360 - 180
    side = "E" if 0 < value < 180 else "W" if -180 < value < 0 else ""
    return f"{abs(value):g}°{side}"


def degrees_north(value: float, _: Any = None) -> str:
    """`40°S`."""
    return f"{abs(value):g}°{'N' if value > 0 else 'S' if value < 0 else ''}"


def add_colorbar(figure: Figure, axes: Axes, drawn: Any, label: str, extend: str, *, below: bool = False) -> Any:
    """A bar as long as the axes, whatever their proportions."""
    place = (0.0, -0.3, 1.0, 0.05) if below else (1.03, 0.0, 0.035, 1.0)
    bar_axes = axes.inset_axes(place)
    orientation = "horizontal" if below else "vertical"
    bar = figure.colorbar(drawn, cax=bar_axes, extend=extend, orientation=orientation, label=label)
    bar.outline.set_linewidth(0.5)
    return bar

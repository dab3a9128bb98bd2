"""Lines: a field through time (its mean and extremes, or at points), and spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis import times
from rompy_hydra.postprocess.pictures import style
from rompy_hydra.postprocess.pictures.scene import Look, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rompy_hydra.postprocess.analysis.fields import Axis, Field
    from rompy_hydra.postprocess.analysis.spectra import Spectrum
    from rompy_hydra.postprocess.analysis.stations import Station
    from rompy_hydra.postprocess.analysis.summary import Course


def course_scene(field: Field, course: Course, look: Look) -> Scene:
    """The mean over space through time, and beside it the extremes; a line alone where there is no space."""
    import numpy as np

    time = field.axes[0]
    of_space = len(field.axes) > 1
    title = f"{field.title}{': mean, and range over all cells' if of_space else ''}"
    there = course.mean[np.isfinite(course.mean)]
    span = (np.nanmin(course.low), np.nanmax(course.high)) if of_space else (there.min(), there.max())
    factor, units = style.units_for(field.units, float(max(abs(span[0]), abs(span[1]))))
    alt = f"Time series of {title}: from {there[0] / factor:.3g} to {there[-1] / factor:.3g} {units}".strip()

    def draw() -> Figure:
        figure, axes = style.new_figure(7.6, 3.2, look.dpi, columns=2 if of_space else 1)
        axes.plot(_times(axes, time), course.mean / factor, color=style.SERIES[0], **_marks(len(time)))
        _finish(axes, field, units, f"{field.title}: mean" if of_space else title)
        if of_space:
            beside = figure.axes[1]
            when = _times(beside, time)
            beside.fill_between(when, course.low / factor, course.high / factor, color=style.SERIES[0], alpha=0.25)
            _finish(beside, field, units, "lowest to highest")
            beside.set_ylabel("")
        return figure

    return Scene("timeseries", f"timeseries_{field.name}", title, alt, draw)


def stations_scene(field: Field, stations: Sequence[Station], look: Look) -> Scene:
    """A field at points through time."""
    import numpy as np

    time = field.axes[0]
    title = f"{field.title} at points"
    if stations[0].level:
        title += f", at {stations[0].level}"
    largest = max((float(np.nanmax(np.abs(s.values))) for s in stations if np.isfinite(s.values).any()), default=0.0)
    factor, units = style.units_for(field.units, largest)
    alt = f"Time series of {title}: {', '.join(f'{s.name} ({s.x:.4g}, {s.y:.4g})' for s in stations)}"

    def draw() -> Figure:
        figure, axes = style.new_figure(7.6, 3.2, look.dpi)
        when = _times(axes, time)
        for number, station in enumerate(stations):
            colour = style.SERIES[number % len(style.SERIES)]
            label = style.short(f"{station.name} ({station.x:.4g}, {station.y:.4g})", 30)
            axes.plot(when, station.values / factor, color=colour, label=label, **_marks(len(when)))
        _finish(axes, field, units, title)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
        return figure

    return Scene("timeseries", f"timeseries_{field.name}_points", title, alt, draw)


def spectra_scene(field: Field, found: Sequence[tuple[Station, Spectrum]], look: Look) -> Scene:
    """Variance density over frequency at points; of surface elevation, with Hs and Tp."""
    from rompy_hydra.postprocess.analysis.spectra import is_elevation

    waves = is_elevation(field)
    title = f"Spectrum of {field.title} at points"
    told = [_spectrum_text(station.name, spectrum, field, waves=waves) for station, spectrum in found]
    alt = f"{title}: {'; '.join(told)}"

    def draw() -> Figure:
        figure, axes = style.new_figure(7.6, 3.4, look.dpi)
        for number, ((_, spectrum), text) in enumerate(zip(found, told, strict=True)):
            colour = style.SERIES[number % len(style.SERIES)]
            axes.plot(spectrum.frequency, spectrum.density, color=colour, label=style.short(text, 46), linewidth=1.3)
        axes.set_yscale("log")
        highest = max(float(spectrum.density.max()) for _, spectrum in found)
        lowest = min(float(spectrum.density[spectrum.density > 0].min()) for _, spectrum in found)
        axes.set_ylim(max(lowest, highest * 1e-6), highest * 2)
        axes.set_xlabel("Frequency [Hz]")
        axes.set_ylabel(style.label_of("Density", _density_units(field.units)))
        style.set_title(axes, title)
        axes.grid(visible=True, color="#e4e7ea", linewidth=0.6)
        axes.legend(loc="best", fontsize=8)
        return figure

    return Scene("spectrum", f"spectrum_{field.name}", title, alt, draw)


def written_spectrum_scene(field: Field, spectrum: Spectrum, look: Look, where: str) -> Scene:
    """A wave spectrum that a model wrote, over all directions."""
    title = f"{field.title}{f', {where}' if where else ''}"
    alt = f"Spectrum of {title}: Hs {spectrum.hs:.3g} m, Tp {spectrum.tp:.3g} s"

    def draw() -> Figure:
        figure, axes = style.new_figure(7.6, 3.4, look.dpi)
        label = f"Hs {spectrum.hs:.3g} m, Tp {spectrum.tp:.3g} s"
        axes.fill_between(spectrum.frequency, spectrum.density, color=style.SERIES[0], alpha=0.18, linewidth=0)
        axes.plot(spectrum.frequency, spectrum.density, color=style.SERIES[0], label=label, linewidth=1.3)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Frequency [Hz]")
        axes.set_ylabel("Density [m²/Hz]")
        style.set_title(axes, title)
        axes.legend(loc="upper right", fontsize=8)
        return figure

    return Scene("spectrum", f"spectrum_{field.name}", title, alt, draw)


def _spectrum_text(name: str, spectrum: Spectrum, field: Field, *, waves: bool) -> str:
    if waves:
        return f"{name}: Hs {spectrum.hs:.3g} {field.units or 'm'}, Tp {spectrum.tp:.3g} s"
    return f"{name}: peak at {spectrum.tp:.3g} s"


def _density_units(units: str) -> str:
    plain = style.pretty_units(units)
    return "1/Hz" if not plain else f"{plain}²/Hz" if plain.isalpha() else f"({plain})²/Hz"


def _marks(length: int) -> dict[str, Any]:
    return {"linewidth": 1.4, "marker": "o" if length <= 30 else None, "markersize": 3}


def _times(axes: Axes, time: Axis) -> Any:
    """Dates on the axis where the times are dates of the usual calendar, else numbers with their units."""
    import numpy as np

    dated = times.epoch_seconds(time.values, time.units, time.calendar)
    if dated is not None and time.calendar in ("standard", "gregorian", "proleptic_gregorian"):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(maxticks=9 // len(axes.figure.axes))  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        return np.asarray(dated) / 86400.0
    axes.set_xlabel(style.label_of("Time", time.units))
    return time.values


def _finish(axes: Axes, field: Field, units: str, title: str) -> None:
    axes.set_ylabel(style.label_of(style.short(field.title, 30), units))
    style.set_title(axes, title)
    axes.grid(visible=True, color="#e4e7ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)

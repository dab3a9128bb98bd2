"""What was computed, as rows for tables, as a CF data set, and as flat figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis import compare, spectra, summary

if TYPE_CHECKING:
    import xarray as xr

    from rompy_hydra.postprocess.analysis.fields import Field
    from rompy_hydra.postprocess.analysis.spectra import Spectrum
    from rompy_hydra.postprocess.analysis.stations import Station

Variables = dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]]


@dataclass(slots=True)
class Computed:
    """The results of one analysis; `figure_names` are the last parts of its figures' names."""

    what: str
    figure_names: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    variables: Variables = field(default_factory=dict)
    coords: Variables = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def dataset_of(found: Computed, told: Mapping[str, str]) -> xr.Dataset:
    """The data set with CF's global attributes; no dates, so that the same results make the same bytes."""
    import xarray as xr

    attributes = {"Conventions": "CF-1.11", **found.attributes, **told}
    return xr.Dataset(data_vars=found.variables, coords=found.coords, attrs=attributes)


def _attributes(of: Field, **more: Any) -> dict[str, Any]:
    told = {"units": of.units or "1", "long_name": of.title, **more}
    return {key: value for key, value in told.items() if value}


def of_summaries(found: Sequence[summary.Summary], percentiles: Sequence[float]) -> Computed:
    """One row for each variable."""
    import numpy as np

    done = Computed(what=_count(len(found), "variable"), figure_names=summary.STATISTICS)
    done.attributes = {"title": "Summary of model results", "comment": summary.__doc__ or ""}
    if percentiles:
        told = {"units": "1", "long_name": "percentile"}
        done.coords["percentile"] = (("percentile",), np.array(percentiles, dtype=float), told)
    methods = {"min": "minimum", "max": "maximum", "mean": "mean", "std": "standard_deviation"}
    for item in found:
        of = item.field
        row: dict[str, Any] = {"variable": of.name, "long_name": of.title, "units": of.units, "file": of.file}
        axes = " ".join(f"{axis.name}:" for axis in of.axes)
        for name in summary.STATISTICS:
            value = getattr(item, name)
            row[name] = value
            done.metrics[f"{of.name}.{name}"] = value
            if name == "missing":
                attributes = {"units": "1", "long_name": f"part of {of.title} that is missing"}
            else:
                weighted = of.weighting if name in ("mean", "std") else ""
                method = f"{axes} {methods[name]}" + (f" (comment: weighted by {weighted})" if weighted else "")
                attributes = _attributes(of, cell_methods=method)
            done.variables[f"{of.name}_{name}"] = ((), value, attributes)
        if percentiles:
            attributes = _attributes(of, long_name=f"percentiles of {of.title}")
            done.variables[f"{of.name}_percentile"] = (("percentile",), np.array(item.percentiles), attributes)
            row |= {f"p{p:g}": value for p, value in zip(percentiles, item.percentiles, strict=True)}
        row |= {"count": item.count, "weights": of.weighting or "none", "begin": item.begin, "end": item.end}
        if item.begin:
            span = {"long_name": f"first and last time of {of.title}"}
            done.variables[f"{of.name}_time_range"] = (("bound",), np.array([item.begin, item.end], dtype=object), span)
        done.rows.append(row)
    return done


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _station_coords(stations: Sequence[Station]) -> tuple[Variables, dict[str, int]]:
    """One station dimension for all variables: the cells of different variables differ by half a cell at most."""
    import numpy as np

    first: dict[str, Station] = {}
    for station in stations:
        first.setdefault(station.name, station)
    of = next(iter(first.values())).field
    on_sphere = of.lon_lat is not None or of.axis("lat") is not None
    x, y = ("lon", "lat") if on_sphere else ("x", "y")
    units = ("degrees_east", "degrees_north") if on_sphere else ("m", "m")
    names = {"lon": "longitude", "lat": "latitude", "x": "projection_x_coordinate", "y": "projection_y_coordinate"}
    told = {"long_name": "name of the station", "cf_role": "timeseries_id"}
    coords: Variables = {
        "station": (("station",), np.array(list(first), dtype=object), told),
        x: (("station",), np.array([s.x for s in first.values()]), {"units": units[0], "standard_name": names[x]}),
        y: (("station",), np.array([s.y for s in first.values()]), {"units": units[1], "standard_name": names[y]}),
    }
    return coords, {name: number for number, name in enumerate(first)}


def of_series(found: Sequence[Station], notes: Sequence[str] = ()) -> Computed:
    """A row for each value; in NetCDF station × time, with a time axis for each set of times."""
    import numpy as np

    names = ("series_min", "series_max", "series_mean", "series_last")
    done = Computed(what=f"{_count(len({s.field.name for s in found}), 'variable')} at points", figure_names=names)
    done.notes += notes
    done.attributes = {"title": "Time series at points", "featureType": "timeSeries"}
    done.coords, order = _station_coords(found)
    series: dict[str, Any] = {}
    for station in found:
        of = station.field
        dim = _time_dimension(of, done.coords)
        if of.name not in series:
            series[of.name] = np.full((len(order), len(station.values)), np.nan)
            told = _attributes(
                of, standard_name=of.standard_name, comment=f"at {station.level}" if station.level else ""
            )
            done.variables[of.name] = (("station", dim), series[of.name], told)
        series[of.name][order[station.name]] = station.values
        there = station.values[np.isfinite(station.values)]
        if len(there):
            figures = (there.min(), there.max(), there.mean(), there[-1])
            done.metrics |= {f"{of.name}.{station.name}.{n}": float(v) for n, v in zip(names, figures, strict=True)}
        base = {"variable": of.name, "units": of.units, "station": station.name, "x": station.x, "y": station.y}
        base |= {"level": station.level, "distance": station.distance}
        times = of.axes[0]
        dated = " since " in times.units
        for number, value in enumerate(station.values):
            when = times.text(number) if dated else float(times.values[number])
            done.rows.append({**base, "time": when, "value": float(value)})
    return done


def _time_dimension(of: Field, coords: Variables) -> str:
    import numpy as np

    axis = of.axes[0]
    number = 1
    while True:
        name = "time" if number == 1 else f"time_{number}"
        known = coords.get(name)
        if known is None:
            told = {"units": axis.units or "1", "standard_name": "time", "axis": "T"}
            told |= {"calendar": axis.calendar} if " since " in axis.units else {"long_name": "time in the model"}
            coords[name] = ((name,), axis.values, told)
            return name
        if np.array_equal(known[1], axis.values) and known[2]["units"] == (axis.units or "1"):
            return name
        number += 1


def of_spectra(found: Sequence[tuple[Station, Spectrum]], notes: Sequence[str]) -> Computed:
    """A row for each frequency; in NetCDF station × frequency."""
    import numpy as np

    names = ("m0", "peak_period", "hs", "tp", "tm01", "tm02")
    variables = {station.field.name for station, _ in found}
    what = f"{', '.join(sorted(variables))} at {_count(len({s.name for s, _ in found}), 'point')}"
    done = Computed(what=what, figure_names=names, notes=list(notes))
    done.attributes = {"title": "Spectra of time series at points", "comment": spectra.__doc__ or ""}
    done.coords, order = _station_coords([station for station, _ in found])
    for station, spectrum in found:
        of = station.field
        dim = _frequency_dimension(spectrum.frequency, done.coords)
        waves = spectra.is_elevation(of)
        figures = {"m0": spectrum.m0, "peak_period": spectrum.tp}
        if waves:
            figures |= {"hs": spectrum.hs, "tp": spectrum.tp, "tm01": spectrum.tm01, "tm02": spectrum.tm02}
        done.metrics |= {f"{of.name}.{station.name}.{name}": value for name, value in figures.items()}
        units = f"({of.units or '1'})^2"
        density = f"{of.name}_density" if dim == "frequency" else f"{of.name}_density_{dim.rpartition('_')[2]}"
        _at_station(done, density, ("station", dim), order, station.name, spectrum.density, f"{units} s", of)
        for name, value in figures.items():
            told = {"m0": units, "hs": of.units or "1"}.get(name, "s")
            _at_station(done, f"{of.name}_{name}", ("station",), order, station.name, np.array(value), told, of)
        base = {"variable": of.name, "station": station.name, "x": station.x, "y": station.y, **figures}
        base |= {"samples": spectrum.samples, "segment": spectrum.segment}
        for frequency, value in zip(spectrum.frequency, spectrum.density, strict=True):
            done.rows.append({**base, "frequency": float(frequency), "density": float(value), "units": f"{units}/Hz"})
    return done


_LONG = {
    "m0": "variance of",
    "hs": "significant wave height of",
    "tp": "peak period of",
    "peak_period": "peak period of",
}


def _at_station(
    done: Computed,
    name: str,
    dims: tuple[str, ...],
    order: Mapping[str, int],
    station: str,
    value: Any,
    units: str,
    of: Field,
) -> None:
    import numpy as np

    if name not in done.variables:
        shape = (len(order), *np.shape(value))
        kind = name.removeprefix(f"{of.name}_")
        told: dict[str, Any] = {"units": units, "long_name": f"{_LONG.get(kind, kind)} {of.title}"}
        if kind == "hs":
            told["standard_name"] = "sea_surface_wave_significant_height"
        done.variables[name] = (dims, np.full(shape, np.nan), told)
    done.variables[name][1][order[station]] = value


def _frequency_dimension(values: Any, coords: Variables) -> str:
    import numpy as np

    number = 1
    while True:
        name = "frequency" if number == 1 else f"frequency_{number}"
        if name not in coords:
            coords[name] = ((name,), values, {"units": "Hz", "long_name": "frequency"})
            return name
        if np.array_equal(coords[name][1], values):
            return name
        number += 1


def of_written_spectra(fields: Sequence[Field]) -> Computed:
    """Hs, Tp, Tm01, Tm02 at each time and place of spectra that a model wrote; figures: mean and maximum over all."""
    import itertools

    import numpy as np

    names = ("hs", "tp", "tm01", "tm02")
    ends = tuple(f"{name}_{what}" for name in names for what in ("mean", "max"))
    done = Computed(what=", ".join(of.name for of in fields), figure_names=ends)
    done.attributes = {"title": "Parameters of wave spectra", "comment": spectra.__doc__ or ""}
    for of in fields:
        kept = [axis for axis in of.axes if axis.kind not in ("frequency", "direction")]
        told = spectra.through_wavespectra(of)
        if told is None:
            shape = tuple(len(axis) for axis in kept)
            told = {name: np.full(shape, np.nan) for name in names}
            for place in itertools.product(*(range(length) for length in shape)):
                at = {axis.name: number for axis, number in zip(kept, place, strict=True)}
                spectrum = spectra.integrated(of, at)
                for name in names:
                    told[name][place] = getattr(spectrum, name)
            done.notes.append(f"{of.name}: by our own sums; wavespectra is not installed")
        else:
            done.notes.append(f"{of.name}: by wavespectra")
        dims = tuple(axis.name for axis in kept)
        for axis in kept:
            attributes = {"units": axis.units} if axis.units else {}
            done.coords.setdefault(axis.name, ((axis.name,), axis.values, attributes))
        for name in names:
            units = "m" if name == "hs" else "s"
            done.variables[f"{of.name}_{name}"] = (dims, told[name], {"units": units, "long_name": name})
            if np.isfinite(told[name]).any():
                done.metrics[f"{of.name}.{name}_mean"] = float(np.nanmean(told[name]))
                done.metrics[f"{of.name}.{name}_max"] = float(np.nanmax(told[name]))
        for place in itertools.product(*(range(len(axis)) for axis in kept)):
            row: dict[str, Any] = {"variable": of.name}
            row |= {
                axis.name: axis.text(number) if axis.kind == "time" else float(axis.values[number])
                for axis, number in zip(kept, place, strict=True)
            }
            done.rows.append({**row, **{name: float(told[name][place]) for name in names}})
    return done


def of_agreements(found: Sequence[tuple[Field, str, compare.Agreement]]) -> Computed:
    """A row for each variable and station."""
    import numpy as np

    variables = list(dict.fromkeys(of.name for of, _, _ in found))
    done = Computed(what=_count(len(variables), "variable"), figure_names=compare.FIGURES)
    done.attributes = {"title": "Agreement with a reference", "comment": compare.__doc__ or ""}
    labels = [f"{of.name} {station}".strip() for of, station, _ in found]
    told = {"long_name": "variable and station"}
    done.coords["comparison"] = (("comparison",), np.array(labels, dtype=object), told)
    for of, station, figures in found:
        name = f"{of.name}.{station}" if station else of.name
        values = {figure: getattr(figures, figure) for figure in compare.FIGURES}
        done.metrics |= {f"{name}.{figure}": float(value) for figure, value in values.items()}
        done.rows.append({"variable": of.name, "units": of.units, "station": station, **values})
    for figure in compare.FIGURES:
        values_of_all = np.array([float(getattr(figures, figure)) for _, _, figures in found])
        done.variables[figure] = (("comparison",), values_of_all, {"units": "1", "long_name": figure.replace("_", " ")})
    units = np.array([of.units for of, _, _ in found], dtype=object)
    done.variables["units_of_variable"] = (("comparison",), units, {"long_name": "units of bias and rmse"})
    if any(math.isnan(row["correlation"]) for row in done.rows):
        done.notes.append("some figures are not defined there: no variance, or one pair only")
    return done

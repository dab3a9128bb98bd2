"""Observations from CSV or NetCDF → series at points, to compare results with.

CSV has a column `time` (or date, datetime), a column for each variable by the results' names, and where more than one
place was observed `station`, and `x`, `y` or `lon`, `lat`.  The table of `analysis_type=timeseries` (`variable`,
`station`, `x`, `y`, `time`, `value`) is read too.  Times are dates (UTC where they do not say), or numbers in the units
of the results.  NetCDF has variables over `time`, or `station` and `time`, with their coordinates beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis import times
from rompy_hydra.postprocess.analysis.errors import NothingToProcessError, missing_library
from rompy_hydra.postprocess.analysis.reading import open_dataset

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Floats

_TIME = ("time", "date", "datetime", "timestamp")
_PLACES = (("lon", "lat"), ("longitude", "latitude"), ("x", "y"))


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One variable at one station; `when` is seconds since 1970 if `is_dated`, else in the units of the results."""

    variable: str
    station: str
    place: tuple[float, float] | None
    when: Floats
    values: Floats
    is_dated: bool


def load_observations(path: Path) -> list[Observed]:
    """All series of a file; `NothingToProcessError` says what it lacks."""
    if not path.is_file():
        raise NothingToProcessError(f"the reference {path} is no file")
    return list(_of_table(path) if path.name.endswith((".csv", ".csv.gz", ".txt")) else _of_netcdf(path))


def _of_table(path: Path) -> Iterator[Observed]:
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_library(error) from error
    try:
        table = pd.read_csv(path, comment="#", skipinitialspace=True)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise NothingToProcessError(f"the reference {path} cannot be read as CSV: {error}") from error
    table.columns = [str(name).strip() for name in table.columns]
    lower = {name.lower(): name for name in table.columns}
    time = next((lower[name] for name in _TIME if name in lower), None)
    if time is None:
        raise NothingToProcessError(f"the reference {path} has no column 'time'; it has {', '.join(table.columns)}")
    place = next((tuple(lower[n] for n in pair) for pair in _PLACES if all(n in lower for n in pair)), None)
    station = lower.get("station") or lower.get("name")
    if {"variable", "value"} <= lower.keys():
        groups: Any = ((str(name), "value", part) for name, part in table.groupby(lower["variable"], sort=True))
    else:
        known = {time, station, *(place or ())}
        names = [n for n in table.columns if n not in known and pd.api.types.is_numeric_dtype(table[n])]
        groups = ((name, name, table) for name in names)
    for variable, column, part in groups:
        for name, rows in part.groupby(station, sort=True) if station else [("station", part)]:
            when, is_dated = _times(rows[time], path)
            where = (float(rows[place[0]].iloc[0]), float(rows[place[1]].iloc[0])) if place else None
            values = rows[lower.get("value", column) if column == "value" else column].to_numpy(dtype=float)
            order = when.argsort(kind="stable")
            yield Observed(variable, str(name), where, when[order], values[order], is_dated)


def _times(column: Any, path: Path) -> tuple[Floats, bool]:
    import numpy as np
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=float), False
    try:
        dates = pd.to_datetime(column, utc=True, format="ISO8601")  # with or without minutes, zone, and so on
    except (ValueError, TypeError) as error:
        why = str(error).partition(". ")[0]
        raise NothingToProcessError(f"{path} has times that are no dates such as 2020-01-31T06:00: {why}") from error
    since = (dates - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(seconds=1)
    return np.asarray(since, dtype=float), True


def _of_netcdf(path: Path) -> Iterator[Observed]:
    import numpy as np

    with open_dataset(path) as dataset:
        for key, variable in dataset.variables.items():
            name, dims = str(key), [str(dim) for dim in variable.dims]
            if name in dataset.dims or variable.dtype.kind not in "fiu" or len(dims) not in (1, 2):
                continue
            time = next((dim for dim in dims if _is_time(dataset, dim)), None)
            if time is None:
                continue
            axis = dataset.variables[time]
            units = str(axis.attrs.get("units", ""))
            raw = np.asarray(axis.to_numpy(), dtype=float)
            dated = times.epoch_seconds(raw, units, str(axis.attrs.get("calendar", "standard")))
            values = np.asarray(variable.to_numpy(), dtype=float)
            values = values if len(dims) == 1 else np.moveaxis(values, dims.index(time), -1)
            rest = next((dim for dim in dims if dim != time), None)
            for number, series in enumerate(np.atleast_2d(values)):
                station, place = _station(dataset, rest, number)
                yield Observed(name, station, place, raw if dated is None else dated, series, dated is not None)


def _is_time(dataset: Any, dim: str) -> bool:
    variable = dataset.variables.get(dim)
    return variable is not None and (dim.lower() in _TIME or " since " in str(variable.attrs.get("units", "")))


def _station(dataset: Any, dim: str | None, number: int) -> tuple[str, tuple[float, float] | None]:
    def one(name: str) -> Any:
        variable = dataset.variables.get(name)
        if variable is None or variable.dims not in ((), (dim,)):
            return None
        return variable.to_numpy()[number] if variable.dims else variable.to_numpy()[()]

    told = next((one(name) for name in ("station_name", "station", "name") if one(name) is not None), None)
    name = told.decode() if isinstance(told, bytes) else str(told) if told is not None else f"station{number + 1}"
    for east, north in _PLACES:
        x, y = one(east), one(north)
        if x is not None and y is not None:
            return name, (float(x), float(y))
    return name, None

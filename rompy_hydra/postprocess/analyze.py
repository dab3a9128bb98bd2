"""`analyze`: numbers from a run's results → `analysis_TYPE.nc` (or `.csv`, `.parquet`) and figures in `metrics.json`.

What the figures are and where their formulas come from stands in `analysis.summary`, `.stations`, `.spectra` and
`.compare`.  Their names in `metrics.json`:

    summary      VARIABLE.min .max .mean .std .missing
    timeseries   VARIABLE.STATION.series_min .series_max .series_mean .series_last
    spectral     VARIABLE.STATION.m0 .peak_period, and of surface elevation and wave spectra .hs .tp .tm01 .tm02
    compare      VARIABLE.bias .rmse .correlation .scatter_index .skill .n, or VARIABLE.STATION.… at stations

A second analysis of another type adds its figures; of the same type, it replaces them.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import MissingToolError, SiteError, did_you_mean
from rompy_hydra.postprocess import RunLike
from rompy_hydra.postprocess.analysis import times
from rompy_hydra.postprocess.analysis.errors import NothingToProcessError
from rompy_hydra.postprocess.analysis.results import OURS, result_files
from rompy_hydra.postprocess.config import AnalyzePostprocessorConfig
from rompy_hydra.record.store import RECORD_NAME, load_record

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.compare import Agreement
    from rompy_hydra.postprocess.analysis.fields import Field
    from rompy_hydra.postprocess.analysis.observations import Observed
    from rompy_hydra.postprocess.analysis.tables import Computed

MOST_NOTES = 20
_LIBRARIES = ("xarray", "h5netcdf", "scipy", "cftime")


class AnalyzePostprocessor:
    """Computes summaries, series at points, spectra, or the agreement with observations or another run."""

    options_class = "AnalyzePostprocessorConfig"

    def process(self, model_run: RunLike, **options: Any) -> dict[str, Any]:
        """`{"success": True, "results": FILE, "metrics_file": FILE, "figures": N}`, or `success: False` and why.

        The options are the fields of `AnalyzePostprocessorConfig`.  The run's outputs are only read; what is written
        appears whole or not at all.
        """
        settings = AnalyzePostprocessorConfig(**options)
        directory = Path(model_run.output_dir) / str(model_run.run_id)
        try:
            self.check_tools(options)
            return _analyze(directory, record_of(model_run, directory), settings)
        except (NothingToProcessError, MissingToolError, SiteError) as error:
            return failure(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return failure(f"{where}{error.strerror or error}; nothing was written")

    @staticmethod
    def check_tools(options: Mapping[str, Any]) -> None:
        """`MissingToolError` before anything runs, where a package is not there; nothing is imported."""
        require(_LIBRARIES, "analysis")
        if options.get("output_format") == "parquet":
            require(("pyarrow",), "tables")

    @staticmethod
    def is_still_done(answer: Mapping[str, Any]) -> bool:
        """Whether what an earlier call made is still there."""
        return all(Path(str(answer.get(key))).is_file() for key in ("results", "metrics_file"))


def require(libraries: Sequence[str], extra: str) -> None:
    """`MissingToolError` that names what is not installed, and the extra that brings it."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        plural = "packages" if len(missing) > 1 else "package"
        verb = "are" if len(missing) > 1 else "is"
        raise MissingToolError(
            f"the Python {plural} {', '.join(missing)} {verb} missing: pip install 'rompy-hydra[{extra}]'"
        )


def failure(error: str) -> dict[str, Any]:
    """The answer that says why."""
    return {"success": False, "error": error, "message": error}


def record_of(model_run: RunLike, directory: Path) -> dict[str, Any]:
    """The record, from the run itself or its directory; empty where there is none."""
    record = getattr(model_run, "record", None)
    if isinstance(record, dict):
        return record
    try:
        return load_record(directory)
    except (OSError, ValueError):
        return {}


def chosen(fields: Sequence[Field], patterns: Sequence[str]) -> list[Field]:
    """The fields that fit; without patterns all of them.  Raises where a pattern fits none."""
    if not patterns:
        return list(fields)
    names = [field.name for field in fields]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise NothingToProcessError(f"no variable fits '{pattern}': {did_you_mean(pattern, names, limit=20)}")
    return [field for field in fields if any(fnmatch.fnmatchcase(field.name, pattern) for pattern in patterns)]


def _analyze(directory: Path, record: Mapping[str, Any], settings: AnalyzePostprocessorConfig) -> dict[str, Any]:
    from rompy_hydra.postprocess.analysis import reading, tables, writing

    writing.remove_litter(directory)
    paths = result_files(directory, record, settings.files)
    with reading.opened(paths, top=directory, dry_depth_m=settings.dry_depth) as fields:
        found = _COMPUTE[settings.analysis_type](chosen(fields, settings.variables), settings)
        target = directory / f"{OURS}{settings.analysis_type}{writing.SUFFIXES[settings.output_format]}"
        if settings.output_format == "netcdf":
            told = {
                "source": ", ".join(path.name for path in paths)[:500],
                "run_id": str(record.get("run_id", directory.name)),
            }
            results = writing.write_netcdf(target, tables.dataset_of(found, told), compress=settings.compress)
        else:
            results = writing.write_table(target, found.rows, settings.output_format, compress=settings.compress)
    suffixes = tuple(f".{name}" for name in found.figure_names)
    metrics = writing.write_metrics(
        directory, found.metrics, is_old=lambda name: name.endswith(suffixes), since_s=_started_s(record)
    )
    answer = {
        "success": True,
        "analysis_type": settings.analysis_type,
        "results": str(results),
        "metrics_file": str(metrics),
        "figures": len(found.metrics),
        "message": f"{settings.analysis_type} of {found.what}: {results.name}, {metrics.name}",
    }
    return {**answer, "notes": found.notes[:MOST_NOTES]} if found.notes else answer


def _started_s(record: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record["started_at"])).timestamp()
    except (KeyError, ValueError):
        return 0.0


def _summary(fields: Sequence[Field], settings: AnalyzePostprocessorConfig) -> Computed:
    from rompy_hydra.postprocess.analysis import tables
    from rompy_hydra.postprocess.analysis.summary import summarise

    return tables.of_summaries([summarise(field, settings.percentiles) for field in fields], settings.percentiles)


def _timeseries(fields: Sequence[Field], settings: AnalyzePostprocessorConfig) -> Computed:
    from rompy_hydra.postprocess.analysis import stations, tables

    fit = [field for field in fields if stations.can_be_sampled(field)]
    if not fit:
        raise NothingToProcessError(
            f"none of {_names(fields)} has a time axis and places: there are no series at points"
        )
    found, notes = [], list[str]()
    for field in fit:
        found += stations.sample(field, settings.points or stations.usual_points(field), settings.level, notes)
    if not found:
        raise NothingToProcessError(notes[0])
    return tables.of_series(found, notes)


def _spectral(fields: Sequence[Field], settings: AnalyzePostprocessorConfig) -> Computed:
    from rompy_hydra.postprocess.analysis import reading, spectra, stations, tables

    written = [field for field in fields if spectra.is_spectral(field)]
    if written:
        return tables.of_written_spectra(written)
    fit = [field for field in fields if stations.can_be_sampled(field)]
    elevations = [field for field in fit if spectra.is_elevation(field)]
    series = fit if settings.variables else elevations or fit
    if not series:
        raise NothingToProcessError(
            f"none of {_names(fields)} has a time axis and places: there is no series for a spectrum"
        )
    found, notes = [], list[str]()
    for field in series:
        for station in stations.sample(field, settings.points or stations.usual_points(field), settings.level, notes):
            seconds = reading.seconds_axis(field.axes[0])
            try:
                found.append((station, spectra.welch(seconds, station.values, segment=settings.segment)))
            except NothingToProcessError as error:
                notes.append(f"{field.name} at {station.name}: {error}")
    if not found:
        raise NothingToProcessError(f"no spectrum could be computed: {notes[0]}")
    return tables.of_spectra(found, notes)


def _names(fields: Sequence[Field]) -> str:
    names = [field.name for field in fields]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")


def _compare(fields: Sequence[Field], settings: AnalyzePostprocessorConfig) -> Computed:
    from rompy_hydra.postprocess.analysis import tables

    assert settings.reference is not None
    if settings.reference.is_dir():
        found = list(_with_run(fields, settings, settings.reference))
    else:
        found = list(_with_observations(fields, settings, settings.reference))
    usable = [(name, station, figures) for name, station, figures in found if figures.n]
    if not usable:
        why = "they have no times in common" if found else "it has none of the variables " + _names(fields)
        raise NothingToProcessError(f"nothing can be compared with {settings.reference}: {why}")
    by_name = {field.name: field for field in fields}
    return tables.of_agreements([(by_name[name], station, figures) for name, station, figures in usable])


def _with_run(
    fields: Sequence[Field], settings: AnalyzePostprocessorConfig, directory: Path
) -> Iterator[tuple[str, str, Agreement]]:
    from rompy_hydra.postprocess.analysis import compare, reading

    try:
        record = json.loads((directory / RECORD_NAME).read_bytes())
    except (OSError, ValueError):
        record = {}
    paths = result_files(directory, record, settings.files)
    with reading.opened(paths, top=directory, dry_depth_m=settings.dry_depth) as others:
        by_name = {other.name: other for other in others}
        for field in fields:
            if field.name in by_name:
                yield field.name, "", compare.of_fields(field, by_name[field.name])


def _with_observations(
    fields: Sequence[Field], settings: AnalyzePostprocessorConfig, path: Path
) -> Iterator[tuple[str, str, Agreement]]:
    from rompy_hydra.postprocess.analysis import compare, observations, stations

    by_name = {field.name: field for field in fields}
    for observed in observations.load_observations(path):
        field = by_name.get(observed.variable)
        if field is None or not stations.can_be_sampled(field):
            continue
        place = settings.points.get(observed.station) or observed.place
        if place is None and len(settings.points) == 1:
            place = next(iter(settings.points.values()))
        if place is None:
            raise NothingToProcessError(
                f"{path} does not say where '{observed.station}' is: add columns lon, lat (or x, y),"
                f" or points={{{observed.station}: [x, y]}}"
            )
        station = stations.sample(field, {observed.station: place}, settings.level)[0]
        when = _in_one_time(field, observed, settings)
        yield field.name, observed.station, compare.of_series(when, station.values, observed.when, observed.values)


def _in_one_time(field: Field, observed: Observed, settings: AnalyzePostprocessorConfig) -> Any:
    """The times of the results, counted as those of the observations are."""
    axis = field.axes[0]
    if not observed.is_dated:
        return axis.values
    dated = times.epoch_seconds(axis.values, axis.units, axis.calendar)
    if dated is not None:
        return dated
    length = times.seconds_per_unit(axis.units or "s")
    if settings.time_origin is None or length is None:
        raise NothingToProcessError(
            f"the observations have dates, the times of the results ({axis.units or 'no units'}) do not say since when:"
            " add time_origin=2020-01-01T00:00"
        )
    return axis.values * length + _epoch(settings.time_origin)


def _epoch(text: str) -> float:
    from datetime import UTC

    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise NothingToProcessError(f"time_origin={text} is no date such as 2020-01-01T00:00") from error
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


_COMPUTE = {"summary": _summary, "timeseries": _timeseries, "spectral": _spectral, "compare": _compare}

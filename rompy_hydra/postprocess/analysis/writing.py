"""What was computed → files: NetCDF (CF), CSV, Parquet, `metrics.json`; written aside, then renamed."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis.errors import missing_library
from rompy_hydra.postprocess.analysis.results import OURS
from rompy_hydra.postprocess.products import METRICS_NAME, PICTURES

if TYPE_CHECKING:
    import xarray as xr

_LITTER_S = 3600.0
SUFFIXES = {"netcdf": ".nc", "csv": ".csv", "parquet": ".parquet"}


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path beside the real one, which it replaces when all went well and which is removed when not."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)


def remove_litter(directory: Path) -> None:
    """Remove what a call that was killed left behind, an hour ago or more: files and folders beside the real ones."""
    for path in directory.glob(".*.partial"):
        ours = path.name.startswith((f".{OURS}", f".{PICTURES}", f".{METRICS_NAME}."))
        if ours and time.time() - path.stat().st_mtime > _LITTER_S:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)


def write_netcdf(path: Path, dataset: xr.Dataset, *, compress: bool) -> Path:
    """A data set as NetCDF 4, numbers compressed by deflate (level 4, shuffled) on request."""
    try:
        import h5netcdf  # noqa: F401  # xarray's own message would list engines
    except ImportError as error:
        raise missing_library(error) from error
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        numeric = variable.dtype.kind in "fiu"
        if numeric:
            encoding[name] = {
                "_FillValue": math.nan if variable.dtype.kind == "f" and name not in dataset.coords else None
            }
            if compress and variable.ndim:
                encoding[name] |= {"zlib": True, "complevel": 4, "shuffle": True}
    with written(path) as aside:
        dataset.to_netcdf(aside, engine="h5netcdf", encoding=encoding)
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], form: str, *, compress: bool) -> Path:
    """Rows as CSV (`.csv.gz` if compressed, the same bytes for the same rows) or Parquet (zstd if compressed)."""
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_library(error) from error
    table = pd.DataFrame(list(rows))
    if form == "csv":
        text = table.to_csv(index=False, lineterminator="\n").encode()
        path = path.with_name(f"{path.name}.gz") if compress else path
        with written(path) as aside:
            aside.write_bytes(gzip.compress(text, mtime=0) if compress else text)
        return path
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise missing_library(error, extra="tables") from error
    with written(path) as aside:
        table.to_parquet(aside, engine="pyarrow", index=False, compression="zstd" if compress else None)
    return path


def write_metrics(
    run_dir: Path, metrics: Mapping[str, float], *, is_old: Callable[[str], bool], since_s: float = 0.0
) -> Path:
    """Put figures into `metrics.json`; those of another analysis of the same run stay, those `is_old` names go.

    What was written before `since_s` (when the run started) belongs to an earlier run in this directory.  A figure that
    is not finite is left out: JSON has no word for it.
    """
    path = run_dir / METRICS_NAME
    kept = {name: value for name, value in _before(path, since_s).items() if not is_old(name)}
    told = {**kept, **{name: value for name, value in metrics.items() if math.isfinite(value)}}
    with written(path) as aside:
        aside.write_text(json.dumps(dict(sorted(told.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _before(path: Path, since_s: float) -> dict[str, Any]:
    try:
        if path.stat().st_mtime < since_s:
            return {}
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}

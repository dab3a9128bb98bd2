"""The result files of a run: what it wrote, but for restart files and what was analysed before."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError

SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf", ".sww")
OURS = "analysis_"
"""What the names of our own results begin with."""
_OURS = {f"{OURS}{kind}.nc" for kind in ("summary", "timeseries", "spectral", "compare")}
_NOT_RESULTS = ("*restart*", "*.rst.*", "*_rst.*", "*hotstart*")
_OUR_FOLDERS = (".hydra", ".source", "logs", "pictures")


def result_files(run_dir: Path, record: Mapping[str, Any], patterns: Sequence[str] = ()) -> list[Path]:
    """The NetCDF files that the run made, by name; `patterns` choose among all files of its directory.

    Without patterns the record's list of outputs decides, so that an input that was linked or copied is no result.
    Raises `NothingToProcessError` where there is none.
    """
    if not run_dir.is_dir():
        raise NothingToProcessError(f"{run_dir} is no directory: the run left no results")
    names = sorted({path.relative_to(run_dir).as_posix() for path in _files(run_dir)})
    if patterns:
        found = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        if not found:
            raise NothingToProcessError(f"no file in {run_dir} fits files={', '.join(patterns)}; {_there(names)}")
        return [run_dir / name for name in found]
    made = {str(entry.get("path")) for entry in record.get("outputs") or () if isinstance(entry, Mapping)}
    found = [name for name in names if (not made or name in made) and _is_result(name)]
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise NothingToProcessError(f"the run left no result file ({kinds}) in {run_dir}; {_there(names)}")
    return [run_dir / name for name in found]


def _files(run_dir: Path) -> Iterator[Path]:
    for path in run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path.name not in _OUR_FOLDERS:
                yield from (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
        elif path.is_file() and not path.is_symlink():
            yield path


def _is_result(name: str) -> bool:
    base = name.rpartition("/")[2]
    if base.startswith(".") or base in _OURS or not base.endswith(SUFFIXES):
        return False
    return not any(fnmatch.fnmatchcase(base.lower(), pattern) for pattern in _NOT_RESULTS)


def _there(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"it holds {shown}{f' and {len(names) - 8} more' if len(names) > 8 else ''}" if names else "it is empty"

"""Two NetCDF files compared by what they hold: dimensions, variables, attributes; block by block, so of any size.

Two runs of one model never write the same bytes: `history` and creation times differ, and so may the last digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.errors import MissingToolError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

IGNORED_ATTRIBUTES = frozenset(
    {
        *("history", "nco", "cdo", "cdi", "timestamp", "uuid", "tracking_id", "_ncproperties", "command_line"),
        *("date_created", "creation_date", "creation_time", "created", "date_modified", "date_issued"),
        *("date_metadata_modified", "date_metadata_created", "last_modified", "nco_openmp_thread_number"),
    }
)
"""Attributes that tell when and by what a file was written, in lower case."""

_BLOCK_VALUES = 1 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CLASSIC = (b"CDF\x01", b"CDF\x02")
_CDF5 = b"CDF\x05"
_MISSING = ("_FillValue", "missing_value")


class NotComparable(Exception):  # noqa: N818  # no error of the request: the bytes are compared instead
    """A file that cannot be read as NetCDF."""


def is_netcdf(path: Path) -> bool:
    """By its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:
        return False
    return head == _HDF5 or head[:4] in (*_CLASSIC, _CDF5)


def field_differences(one: Path, other: Path, tolerance: float, homes: tuple[str, str] | None = None) -> Iterator[str]:
    """A sentence for each thing in which `one` differs from `other`; none where they hold the same.

    A field may differ by `tolerance` × the largest magnitude that it has anywhere; a coordinate or a time, whose values
    are far from zero, by `tolerance` × its range.  Missing values must be missing in both.  At most a few dozen
    megabytes are in memory.  `homes` are the directories of the two runs: an attribute may name its own.

    Raises `NotComparable` for a file that is no NetCDF, `MissingToolError` without xarray and its readers.
    """
    with ExitStack() as opened:
        groups = [_groups(path, opened) for path in (one, other)]
        for name in dict.fromkeys([*groups[0], *groups[1]]):
            prefix = "" if name == "/" else f"{name.strip('/')}/"
            pair = [group.get(name) for group in groups]
            if pair[0] is None or pair[1] is None:
                yield f"the group {name} is in one of them only"
            else:
                yield from _in_group(pair[0], pair[1], prefix, tolerance, homes or ("", ""))


def _groups(path: Path, opened: ExitStack) -> Mapping[str, xr.Dataset]:
    """Group → its content, nothing of it in memory."""
    try:
        import xarray
    except ImportError as error:
        raise MissingToolError(
            "comparing NetCDF fields needs xarray: pip install 'rompy-hydra[analysis]' (or leave --tolerance out)"
        ) from error
    with path.open("rb") as file:
        head = file.read(8)
    engine = "h5netcdf" if head == _HDF5 else "netcdf4" if head[:4] == _CDF5 else "scipy"
    names = _group_names(path) if engine == "h5netcdf" else ["/"]
    found: dict[str, xr.Dataset] = {}
    for name in names:
        options: dict[str, Any] = {"group": name} if engine == "h5netcdf" else {}
        if engine == "h5netcdf":
            options["phony_dims"] = "access"
        try:
            dataset = xarray.open_dataset(path, engine=engine, decode_cf=False, cache=False, **options)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotComparable(f"{path} cannot be read as NetCDF: {error}") from error
        found[name] = opened.enter_context(dataset)
    return found


def _group_names(path: Path) -> list[str]:
    try:
        import h5netcdf
    except ImportError as error:
        raise MissingToolError(
            "comparing NetCDF 4 fields needs h5netcdf: pip install 'rompy-hydra[analysis]' (or leave --tolerance out)"
        ) from error

    def below(group: Any) -> Iterator[str]:
        yield group.name
        for inner in group.groups.values():
            yield from below(inner)

    try:
        with h5netcdf.File(path, "r", phony_dims="access") as file:
            return list(below(file))
    except (OSError, ValueError, KeyError) as error:
        raise NotComparable(f"{path} cannot be read as NetCDF: {error}") from error


def _in_group(
    one: xr.Dataset, other: xr.Dataset, prefix: str, tolerance: float, homes: tuple[str, str]
) -> Iterator[str]:
    yield from _attributes(one.attrs, other.attrs, prefix or "the file", homes)
    for name in dict.fromkeys([*map(str, one.variables), *map(str, other.variables)]):
        shown = f"{prefix}{name}"
        if name not in one.variables or name not in other.variables:
            yield f"{shown} is in one of them only"
            continue
        a, b = one.variables[name], other.variables[name]
        yield from _attributes(a.attrs, b.attrs, shown, homes)
        if (a.dims, a.shape, a.dtype.kind) != (b.dims, b.shape, b.dtype.kind):
            yield f"{shown}: {_shape(a)} here, {_shape(b)} there"
        elif (said := _values(a, b, tolerance)) is not None:
            yield f"{shown}: {said}"


def _shape(variable: xr.Variable) -> str:
    sizes = ", ".join(f"{dim}={size}" for dim, size in zip(variable.dims, variable.shape, strict=True))
    return f"{variable.dtype} ({sizes})"


def _attributes(one: Mapping[Any, Any], other: Mapping[Any, Any], owner: str, homes: tuple[str, str]) -> Iterator[str]:
    import numpy as np

    for name in dict.fromkeys([*one, *other]):
        if str(name).lower() in IGNORED_ATTRIBUTES:
            continue
        if name not in one or name not in other:
            yield f"the attribute {name} of {owner} is in one of them only"
            continue
        a, b = (np.asarray(_homeless(d[name], home)) for d, home in ((one, homes[0]), (other, homes[1])))
        is_same = a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))  # noqa: PLR0124  # NaN
        if not is_same:
            yield f"the attribute {name} of {owner}: {_short(one[name])} here, {_short(other[name])} there"


def _homeless(value: Any, home: str) -> Any:
    """A text without the directory that it was written in (a model's log of its own set-up)."""
    return value.replace(home, "RUN") if home and isinstance(value, str) else value


def _short(value: object) -> str:
    text = repr(str(value))
    return text if len(text) <= 60 else f"{text[:59]}…"


def _values(a: xr.Variable, b: xr.Variable, tolerance: float) -> str | None:
    """What is wrong with the values; None where they are within the tolerance."""
    import numpy as np

    is_number = a.dtype.kind in "fiub" and b.dtype.kind in "fiub"
    missing = [*_missing(a), *_missing(b)]
    worst, low, high, magnitude = 0.0, np.inf, -np.inf, 0.0
    other_places = 0
    for block in _blocks(a.shape):
        x, y = np.asarray(a[block].values), np.asarray(b[block].values)
        if not is_number:
            other_places += int(np.sum(np.asarray(x != y)))
            continue
        if tolerance == 0 and x.dtype.kind in "iub" and y.dtype.kind in "iub":
            other_places += int(np.sum(x != y))
            continue
        x, y = _as_numbers(x, missing), _as_numbers(y, missing)
        there = np.isfinite(x) & np.isfinite(y)
        alike = (x == y) | (np.isnan(x) & np.isnan(y))
        other_places += int(np.sum(~there & ~alike))
        if there.any():
            x, y = x[there], y[there]
            worst = max(worst, float(np.max(np.abs(x - y))))
            low = min(low, float(x.min()), float(y.min()))
            high = max(high, float(x.max()), float(y.max()))
            magnitude = max(abs(low), abs(high))
    if other_places:
        what = "missing or not finite in one of them only" if is_number and a.dtype.kind == "f" else "others"
        return f"{other_places} values are {what}"
    scale = (high - low if _is_coordinate(a) else magnitude) or magnitude
    if worst <= tolerance * scale:
        return None
    of_what = "range" if _is_coordinate(a) else "size"
    return f"differs by up to {worst:.3g}, which is {worst / scale:.3g} of its {of_what}"


def _missing(variable: xr.Variable) -> list[Any]:
    return [variable.attrs[name] for name in _MISSING if name in variable.attrs]


def _as_numbers(values: np.ndarray[Any, Any], missing: Sequence[Any]) -> np.ndarray[Any, Any]:
    """As 64-bit floating point numbers, NaN where the file says that there is no value."""
    import numpy as np

    numbers = values.astype(np.float64)
    for mark in missing:
        if np.asarray(mark).dtype.kind in "fiu":
            numbers[np.isin(values, np.asarray(mark))] = np.nan
    return numbers


def _is_coordinate(variable: xr.Variable) -> bool:
    return " since " in str(variable.attrs.get("units", "")) or "axis" in variable.attrs


def _blocks(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Slices that cover an array, each of about a million values, long in the last dimensions."""
    left = _BLOCK_VALUES
    steps: list[int] = []
    for size in reversed(shape):
        step = max(1, min(size, left))
        steps.append(step)
        left = max(1, left // step)
    ranges = [range(0, size, step) for size, step in zip(shape, reversed(steps), strict=True)]
    for starts in itertools.product(*ranges):
        yield tuple(slice(start, start + r.step) for start, r in zip(starts, ranges, strict=True))

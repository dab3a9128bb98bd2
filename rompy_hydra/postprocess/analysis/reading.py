"""Result files → fields, lazily: CF-like NetCDF (Veros, ROMS, SWAN, …) here, ANUGA's `.sww` in `sww`.

Which library reads a file is decided by its first bytes, never by its name: NetCDF 4 by h5netcdf, NetCDF 3 by scipy.
Times stay numbers: a file whose calendar nobody knows can still be drawn.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis import times
from rompy_hydra.postprocess.analysis.errors import NothingToProcessError, missing_library
from rompy_hydra.postprocess.analysis.fields import Axis, Field, Index, joined

if TYPE_CHECKING:
    import xarray as xr

    from rompy_hydra.postprocess.analysis.fields import Floats

_NAMES = {
    "time": {"time", "t", "ocean_time", "times"},
    "lon": {"lon", "longitude"},
    "lat": {"lat", "latitude"},
    "x": {"x", "xc", "easting"},
    "y": {"y", "yc", "northing"},
    "depth": {"depth", "z", "lev", "level", "s_rho", "altitude", "height"},
    "frequency": {"freq", "frequency", "f"},
    "direction": {"dir", "direction", "theta"},
}
_STANDARD_NAMES = {
    "time": "time",
    "longitude": "lon",
    "latitude": "lat",
    "projection_x_coordinate": "x",
    "projection_y_coordinate": "y",
    "depth": "depth",
    "height": "depth",
    "altitude": "depth",
    "sea_surface_wave_frequency": "frequency",
    "wave_frequency": "frequency",
    "sea_surface_wave_from_direction": "direction",
    "sea_surface_wave_to_direction": "direction",
    "sea_surface_wave_direction": "direction",
}
_OF_UNITS = (
    (re.compile(r"degrees?_?(east|E)\Z", re.IGNORECASE), "lon"),
    (re.compile(r"degrees?_?(north|N)\Z", re.IGNORECASE), "lat"),
)
_OF_LETTER = {"T": "time", "X": "x", "Y": "y", "Z": "depth"}


def engine_of(path: Path) -> str:
    """The engine of xarray for a file, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"\x89HDF"):
        return "h5netcdf"
    if head[:4] in (b"CDF\x01", b"CDF\x02"):
        return "scipy"
    if head[:4] == b"CDF\x05":
        return "netcdf4"
    raise NothingToProcessError(f"{path} is no NetCDF file (it begins with {head!r})")


def open_dataset(path: Path) -> xr.Dataset:
    """The file as xarray sees it: nothing is read but names and attributes, nothing is kept that was read."""
    try:
        import xarray as xr

        return xr.open_dataset(path, engine=engine_of(path), decode_times=False, cache=False)
    except ImportError as error:
        raise missing_library(error) from error
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, EOFError) as error:  # cut off or damaged
        why = str(error).partition("\n")[0]
        raise NothingToProcessError(f"{path} cannot be read: {why}") from error


@contextmanager
def opened(paths: Sequence[Path], *, top: Path, dry_depth_m: float = 1e-3) -> Iterator[list[Field]]:
    """The fields of files; those of files that follow each other in time, or hold parts of one mesh, are one.

    Names that several files have for different things become `FILE.NAME`.
    """
    from rompy_hydra.postprocess.analysis import sww

    with ExitStack() as stack:
        ours: list[tuple[str, list[Field]]] = []
        meshes: list[tuple[Path, xr.Dataset]] = []
        for path in paths:
            dataset = stack.enter_context(open_dataset(path))
            if sww.is_sww(dataset):
                meshes.append((path, dataset))
            else:
                ours.append((path.relative_to(top).as_posix(), fields_of(dataset, path.relative_to(top).as_posix())))
        for name, parts in sww.grouped(meshes, top):
            ours.append((name, sww.fields_of(parts, name, dry_depth_m=dry_depth_m)))
        yield named_once(_joined_in_time(ours))


def _joined_in_time(files: Iterable[tuple[str, list[Field]]]) -> list[tuple[str, list[Field]]]:
    groups: dict[tuple[Any, ...], list[tuple[str, list[Field]]]] = {}
    for name, fields in files:
        moving = [field for field in fields if field.time is not None]
        key = tuple((f.name, f.shape[1:], f.axes[0].units) for f in moving) if moving else (name,)
        groups.setdefault(key, []).append((name, fields))
    found = []
    for group in groups.values():
        group.sort(key=_begin)
        if len(group) == 1 or not _follow(group):
            found += group
            continue
        still = [field for field in group[0][1] if field.time is None]
        moving = zip(*([f for f in fields if f.time is not None] for _, fields in group), strict=True)  # type: ignore[assignment]
        found.append((group[0][0], [*(joined(same) for same in moving), *still]))  # type: ignore[arg-type]
    return found


def _begin(item: tuple[str, list[Field]]) -> tuple[float, str]:
    time = next((field.time for field in item[1] if field.time is not None), None)
    return (float(time.values[0]) if time is not None and len(time) else 0.0, item[0])


def _follow(group: Sequence[tuple[str, list[Field]]]) -> bool:
    """Whether each file begins after the one before has ended; else they are, say, members of an ensemble."""
    spans = [next(field.axes[0].values for field in fields if field.time is not None) for _, fields in group]
    if any(len(span) == 0 for span in spans):
        return False
    return all(before[-1] < after[0] for before, after in itertools.pairwise(spans))


def named_once(files: Sequence[tuple[str, list[Field]]]) -> list[Field]:
    """All fields; a name that two files have gets the file's stem in front."""
    seen: dict[str, int] = {}
    for _, fields in files:
        for field in fields:
            seen[field.name] = seen.get(field.name, 0) + 1
    found = []
    for name, fields in files:
        stem = name.rpartition("/")[2].rpartition(".")[0]
        found += [replace(f, name=f"{stem}.{f.name}") if seen[f.name] > 1 else f for f in fields]
    return found


def fields_of(dataset: xr.Dataset, file: str) -> list[Field]:
    """The numeric variables of a file that are not coordinates, bounds or areas."""
    axes = {str(name): _axis(dataset, str(name)) for name in dataset.sizes}
    axes = {name: _with_edges(dataset, axis, axes.values()) for name, axis in axes.items()}
    helpers = _helpers(dataset)
    found = []
    for key, variable in dataset.data_vars.items():
        name = str(key)
        if name in helpers or variable.dtype.kind not in "fiu" or not variable.dims:
            continue
        own = tuple(axes[str(dim)] for dim in variable.dims)
        order = sorted(range(len(own)), key=lambda n, own=own: own[n].kind != "time")  # type: ignore[misc]
        weights, weighting = _weights([own[n] for n in order])
        found.append(
            Field(
                name=name,
                axes=tuple(own[n] for n in order),
                part=_reader(variable.variable, order),
                units=_text(variable.attrs, "units"),
                long_name=_text(variable.attrs, "long_name"),
                standard_name=_text(variable.attrs, "standard_name"),
                file=file,
                weights=weights,
                weighting=weighting,
                lon_lat=_lon_lat(dataset, variable.dims),
            )
        )
    return found


def _reader(variable: xr.Variable, order: Sequence[int]) -> Callable[[Index], Floats]:
    import numpy as np

    def part(index: Index) -> Floats:
        own: list[slice] = [slice(None)] * len(order)
        for position, chosen in zip(order, index, strict=True):
            own[position] = chosen
        found: Floats = np.asarray(variable[tuple(own)].to_numpy(), dtype=np.float64)
        return found.transpose(order)

    return part


def _text(attributes: Mapping[Any, Any], name: str) -> str:
    return str(attributes.get(name, "")).strip()


def _axis(dataset: xr.Dataset, name: str) -> Axis:
    import numpy as np

    variable = dataset.variables.get(name)
    if variable is None or variable.dims != (name,) or variable.dtype.kind not in "fiu":
        return Axis(name, _kind(name, {}), np.arange(dataset.sizes[name], dtype=float))
    attributes = variable.attrs
    return Axis(
        name=name,
        kind=_kind(name, attributes),
        values=np.asarray(variable.to_numpy(), dtype=np.float64),
        units=_text(attributes, "units"),
        long_name=_text(attributes, "long_name"),
        calendar=_text(attributes, "calendar") or "standard",
        positive=_text(attributes, "positive"),
    )


def _kind(name: str, attributes: Mapping[Any, Any]) -> str:
    units, standard = _text(attributes, "units"), _text(attributes, "standard_name")
    if standard in _STANDARD_NAMES:
        return _STANDARD_NAMES[standard]
    for pattern, kind in _OF_UNITS:
        if pattern.match(units):
            return kind
    letter = _OF_LETTER.get(_text(attributes, "axis"))
    if letter:
        return letter
    if _text(attributes, "positive") in ("up", "down"):
        return "depth"
    if " since " in units:
        return "time"
    return next((kind for kind, names in _NAMES.items() if name.lower() in names), "other")


def _with_edges(dataset: xr.Dataset, axis: Axis, others: Iterable[Axis]) -> Axis:
    """The axis with the ends of its cells; none of them beyond the surface, where heights begin with zero."""
    import numpy as np

    found = _edges_of(dataset, axis, others)
    if found.edges is None or found.kind != "depth":
        return found
    if np.all(found.values <= 0):
        return replace(found, edges=np.minimum(found.edges, 0.0))
    return replace(found, edges=np.maximum(found.edges, 0.0)) if np.all(found.values >= 0) else found


def _edges_of(dataset: xr.Dataset, axis: Axis, others: Iterable[Axis]) -> Axis:
    """Where cells end: from CF bounds, else from a staggered axis of the same kind, else halfway between the values.

    A staggered axis (Veros' `zw` for `zt`, `xu` for `xt`) has as many values, each between two of this one's.
    """
    import numpy as np

    values = axis.values
    if axis.kind in ("time", "other", "cell", "direction") or len(values) < 2 or not np.all(np.isfinite(values)):
        return axis
    steps = np.diff(values)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return axis
    variable = dataset.variables.get(axis.name)
    bounds = dataset.variables.get(_text(variable.attrs, "bounds")) if variable is not None else None
    if bounds is not None and bounds.shape == (len(values), 2):
        pairs = np.asarray(bounds.to_numpy(), dtype=float)
        return replace(axis, edges=np.concatenate([pairs[:, 0], pairs[-1:, 1]]))
    for other in others:
        if other is axis or other.kind != axis.kind or len(other) != len(axis) or other.name == axis.name:
            continue
        inner = other.values
        if np.all((inner[:-1] - values[:-1]) * (inner[:-1] - values[1:]) < 0):  # above each value
            begin, end = 2 * values[0] - inner[0], inner[-1]
            if (end - values[-1]) * steps[-1] > 0:
                return replace(axis, edges=np.concatenate([[begin], inner]))
        elif np.all((inner[1:] - values[:-1]) * (inner[1:] - values[1:]) < 0):  # below each value
            return replace(axis, edges=np.concatenate([inner, [2 * values[-1] - inner[-1]]]))
    middle = (values[:-1] + values[1:]) / 2
    return replace(axis, edges=np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]]))


def _helpers(dataset: xr.Dataset) -> set[str]:
    """Variables that only describe others."""
    found: set[str] = set()
    for name, variable in dataset.variables.items():
        found.update(
            word
            for key in ("bounds", "climatology", "grid_mapping", "ancillary_variables")
            for word in _text({**variable.encoding, **variable.attrs}, key).split()
        )
        found.update(re.findall(r"area:\s*(\S+)", _text(variable.attrs, "cell_measures")))
        if "cf_role" in variable.attrs:
            found.add(str(name))
    return found


def _weights(axes: Sequence[Axis]) -> tuple[tuple[tuple[int, Floats], ...], str]:
    """Sizes of cells: on a sphere differences of the sine of latitude times widths in longitude; heights of layers."""
    import numpy as np

    found: list[tuple[int, Floats]] = []
    told: list[str] = []
    for position, axis in enumerate(axes):
        if axis.edges is None or axis.kind not in ("lat", "lon", "x", "y", "depth"):
            continue
        edges = np.clip(axis.edges, -90, 90) if axis.kind == "lat" else axis.edges
        widths = np.diff(np.sin(np.deg2rad(edges))) if axis.kind == "lat" else np.diff(edges)
        found.append((position, np.abs(widths)))
        told.append(
            {"lat": "sine of latitude", "lon": "longitude", "depth": "height of layers"}.get(axis.kind, axis.kind)
        )
    return tuple(found), " x ".join(told)


def _lon_lat(dataset: xr.Dataset, dims: Sequence[Any]) -> tuple[Floats, Floats] | None:
    """Two-dimensional coordinates for the last two dimensions (curvilinear grids)."""
    import numpy as np

    found: dict[str, Floats] = {}
    for name, variable in dataset.variables.items():
        if len(variable.dims) == 2 and tuple(variable.dims) == tuple(dims[-2:]):
            kind = _kind(str(name).lower().partition("_")[0], variable.attrs)
            if kind in ("lon", "lat"):
                found.setdefault(kind, np.asarray(variable.to_numpy(), dtype=np.float64))
    return (found["lon"], found["lat"]) if len(found) == 2 else None


def seconds_axis(axis: Axis) -> Floats:
    """A time axis in seconds; `NothingToProcessError` where its units are no time."""
    length = times.seconds_per_unit(axis.units or "s")
    if length is None:
        raise NothingToProcessError(f"the time axis '{axis.name}' has the units '{axis.units}', which is no time")
    found: Floats = axis.values * length
    return found

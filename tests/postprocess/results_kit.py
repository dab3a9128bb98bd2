"""Result files made by hand: a global grid with layers and land, waves with known Hs and Tp, ANUGA's meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.io import netcdf_file

LAT = np.array([-60.0, -20.0, 20.0, 60.0])
LON = np.arange(0.0, 60.0, 10.0)
DEPTH = np.array([5.0, 20.0, 60.0])


def write_ocean(path: Path, *, begin: int = 0, records: int = 4, engine: str = "h5netcdf") -> xr.Dataset:
    """A grid of 3 layers × 4 × 6 cells with land (missing) in one corner; `temp` (°C), `u` (m/s, signed), `eta` (m)."""
    random = np.random.default_rng(7 + begin)
    shape = (records, len(DEPTH), len(LAT), len(LON))
    temp = 15 + 5 * np.cos(np.deg2rad(LAT))[:, None] - 0.1 * DEPTH[:, None, None] + random.normal(0, 0.5, shape)
    u = random.normal(0, 0.3, shape)
    eta = random.normal(0, 0.2, (records, len(LAT), len(LON)))
    temp[..., 3, 5] = u[..., 3, 5] = np.nan
    eta[..., 3, 5] = np.nan
    dims = ("time", "depth", "lat", "lon")
    dataset = xr.Dataset(
        {
            "temp": (dims, temp, {"units": "deg C", "long_name": "Temperature"}),
            "u": (dims, u, {"units": "m/s", "long_name": "Zonal velocity"}),
            "eta": (("time", "lat", "lon"), eta, {"units": "m", "standard_name": "sea_surface_height_above_geoid"}),
            "flat": (("time", "lat", "lon"), np.full(eta.shape, 35.0), {"units": "g/kg"}),
        },
        coords={
            "time": ("time", begin + 6.0 * np.arange(records), {"units": "hours since 2020-01-01"}),
            "depth": ("depth", DEPTH, {"units": "m", "positive": "down"}),
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
        },
    )
    dataset.to_netcdf(path, engine=engine)  # type: ignore[call-overload]
    return dataset


def jonswap(frequency: Any, hs: float, tp: float, gamma: float = 3.3) -> Any:
    """A JONSWAP spectrum (Hasselmann et al. 1973) scaled to a height."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = np.where(frequency <= 1 / tp, 0.07, 0.09)
        peak = gamma ** np.exp(-((frequency * tp - 1) ** 2) / (2 * sigma**2))
        shape = np.where(frequency > 0, frequency**-5.0 * np.exp(-1.25 * (frequency * tp) ** -4.0) * peak, 0.0)
    step = frequency[1] - frequency[0]
    return shape * (hs / 4) ** 2 / (shape.sum() * step)


def write_waves(path: Path, *, hs: float = 2.0, tp: float = 10.0, dt: float = 0.5, seconds: float = 7200.0) -> Any:
    """Surface elevation of a random sea on a 3 × 3 grid; each place has phases of its own."""
    time = np.arange(0.0, seconds, dt)
    frequency = np.fft.rfftfreq(len(time), dt)
    amplitude = np.sqrt(2 * jonswap(frequency, hs, tp) * frequency[1])
    random = np.random.default_rng(3)
    eta = np.empty((len(time), 3, 3))
    for place in np.ndindex(3, 3):
        phase = np.exp(2j * np.pi * random.random(len(frequency)))
        eta[(slice(None), *place)] = np.fft.irfft(amplitude * phase * len(time) / 2, len(time))
    dataset = xr.Dataset(
        {"eta": (("time", "y", "x"), eta, {"units": "m", "long_name": "Surface elevation"})},
        coords={
            "time": ("time", time, {"units": "s"}),
            "x": ("x", [0.0, 100.0, 200.0], {"units": "m", "axis": "X"}),
            "y": ("y", [0.0, 100.0, 200.0], {"units": "m", "axis": "Y"}),
        },
    )
    dataset.to_netcdf(path, engine="h5netcdf")
    return eta


# A strip of four squares of 10 m, each cut into two triangles; the bed rises eastwards.
CORNERS = [(0, 1, 5), (1, 6, 5), (1, 2, 6), (2, 7, 6), (2, 3, 7), (3, 8, 7), (3, 4, 8), (4, 9, 8)]
NODES_X = np.array([0, 10, 20, 30, 40] * 2, dtype=float)
NODES_Y = np.array([0] * 5 + [10] * 5, dtype=float)
BED = np.array([-2.0, -2.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0])
TIMES = np.array([0.0, 10.0, 20.0, 30.0])
STAGE = np.array([np.maximum(level, BED) for level in (0.0, 0.5, 0.25, 0.0)])
XMOMENTUM = np.where(STAGE > BED, 0.5 + 0.1 * np.arange(8), 0.0)


def write_sww(path: Path, triangles: list[int] | None = None, ghosts: list[int] | None = None) -> None:
    """An ANUGA file of all triangles, or of a rank's own and the copies of its neighbour's (`ghosts`)."""
    chosen = list(range(len(CORNERS))) if triangles is None else [*triangles, *(ghosts or [])]
    with netcdf_file(path, "w", version=2) as file:
        for name, length in (
            ("number_of_points", len(NODES_X)),
            ("number_of_volumes", len(chosen)),
            ("number_of_vertices", 3),
            ("number_of_timesteps", len(TIMES)),
        ):
            file.createDimension(name, length)
        file.starttime = 0
        file.xllcorner, file.yllcorner = 0.0, 0.0

        def put(name: str, kind: str, dims: tuple[str, ...], values: Any) -> None:
            file.createVariable(name, kind, dims)[:] = values

        put("x", "f", ("number_of_points",), NODES_X)
        put("y", "f", ("number_of_points",), NODES_Y)
        put("volumes", "i", ("number_of_volumes", "number_of_vertices"), np.array(CORNERS)[chosen])
        put("elevation", "f", ("number_of_points",), NODES_X / 10 - 2)
        put("elevation_c", "f", ("number_of_volumes",), BED[chosen])
        put("time", "d", ("number_of_timesteps",), TIMES)
        moving = ("number_of_timesteps", "number_of_points")
        put("stage", "f", moving, np.zeros((len(TIMES), len(NODES_X))))
        for name, values in (("stage", STAGE), ("xmomentum", XMOMENTUM), ("ymomentum", 0 * XMOMENTUM)):
            put(f"{name}_c", "f", ("number_of_timesteps", "number_of_volumes"), values[:, chosen])
            if name != "stage":
                put(name, "f", moving, np.zeros((len(TIMES), len(NODES_X))))
        if triangles is not None:
            full = [int(number < len(triangles)) for number in range(len(chosen))]
            put("tri_full_flag", "i", ("number_of_volumes",), full)

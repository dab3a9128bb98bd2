"""Spectra of series at points, and what follows for waves; wave spectra that a model wrote.

Of a series of surface elevation with the one-sided variance density S(f) in m²/Hz:

- S by the averaged periodograms of overlapping Hann windows (Welch 1967, doi:10.1109/TAU.1967.1161901), from
  `scipy.signal.welch` with linear detrending of each segment.  A segment has 256 samples, or the power of two that
  leaves eight overlapping segments where the series is shorter than 1152, or all of a series of fewer than 64.
- m_n = ∫ f^n S(f) df over f > 0 (sum over the bins); m0 is the variance.
- Hs = 4 sqrt(m0) (Longuet-Higgins 1952), Tp = 1/f of the largest S, refined by the parabola through it and its
  neighbours; Tm01 = m0/m1, Tm02 = sqrt(m0/m2) (IAHR list of sea-state parameters 1989).

Of a written spectrum E(f, θ) in m²/Hz/degree (or m²/Hz/radian by its units): m0 = Σ_i Σ_j E Δf_i Δθ_j, and as above.
Where `wavespectra` is installed, the figures of such files come from it (`tail=False`), else from these sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rompy_hydra.postprocess.analysis.errors import NothingToProcessError, missing_library
from rompy_hydra.postprocess.analysis.fields import BLOCK_VALUES, Field

if TYPE_CHECKING:
    from rompy_hydra.postprocess.analysis.fields import Floats

MIN_SAMPLES = 8
_EVEN = 0.02  # relative: steps that differ by more are no even series
_ELEVATION_NAMES = {
    "eta",
    "zeta",
    "ssh",
    "elev",
    "surface_elevation",
    "sea_surface_height",
    "water_level",
    "stage",
    "wsl",
}
_ELEVATION_STANDARD = (
    "sea_surface_height",
    "sea_surface_elevation",
    "water_surface_height",
    "sea_surface_wave_elevation",
)


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """A variance density over frequency (Hz), and its moments."""

    frequency: Floats
    density: Floats
    m0: float
    tp: float
    tm01: float
    tm02: float
    samples: int = 0
    segment: int = 0

    @property
    def hs(self) -> float:
        """Significant height of waves, 4 sqrt(m0), in the units of the series."""
        return float(4 * self.m0**0.5)


def is_elevation(field: Field) -> bool:
    """Whether a field is the elevation of the water's surface, by its standard name or its name."""
    return (
        field.standard_name.startswith(_ELEVATION_STANDARD) or field.name.lower().rpartition(".")[2] in _ELEVATION_NAMES
    )


def is_spectral(field: Field) -> bool:
    """Whether a field is a wave spectrum: it has a frequency axis."""
    return field.axis("frequency") is not None


def welch(seconds: Floats, values: Floats, *, segment: int | None = None) -> Spectrum:
    """The spectrum of an even series; missing values are interpolated, an uneven series is too, both linearly.

    Raises `NothingToProcessError` for fewer than `MIN_SAMPLES` values.
    """
    import numpy as np

    try:
        from scipy import signal
    except ImportError as error:
        raise missing_library(error) from error
    there = np.isfinite(values)
    if there.sum() < MIN_SAMPLES:
        raise NothingToProcessError(
            f"a spectrum needs {MIN_SAMPLES} values or more, this series has {int(there.sum())};"
            " let the model write more often"
        )
    seconds, values = seconds[there], values[there]
    step = float(np.median(np.diff(seconds)))
    if step <= 0:
        raise NothingToProcessError("the times of the series do not increase")
    if np.max(np.abs(np.diff(seconds) / step - 1)) > _EVEN:
        even = np.arange(seconds[0], seconds[-1] + step / 2, step)
        seconds, values = even, np.interp(even, seconds, values)
    length = min(segment or usual_segment(len(values)), len(values))
    frequency, density = signal.welch(values, fs=1 / step, nperseg=length, detrend="linear", scaling="density")
    return of_density(frequency[1:], density[1:], frequency[1], samples=len(values), segment=length)


def usual_segment(samples: int) -> int:
    """How many samples a segment has when nobody says."""
    if samples < 64:
        return samples
    length = 256
    while length > 32 and samples < 4.5 * length:  # nine half-overlapping halves: eight segments
        length //= 2
    return length


def of_density(
    frequency: Floats, density: Floats, widths: Floats | float, *, samples: int = 0, segment: int = 0
) -> Spectrum:
    """Moments and periods of a variance density."""
    import numpy as np

    moments = [float(np.sum(frequency**n * density * widths)) for n in (0, 1, 2)]
    tp = _peak_period(frequency, density)
    nothing = float("nan")
    tm01 = moments[0] / moments[1] if moments[1] > 0 else nothing
    tm02 = (moments[0] / moments[2]) ** 0.5 if moments[2] > 0 else nothing
    return Spectrum(frequency, density, moments[0], tp, tm01, tm02, samples, segment)


def _peak_period(frequency: Floats, density: Floats) -> float:
    import numpy as np

    if not np.any(density > 0):
        return float("nan")
    top = int(np.argmax(density))
    if 0 < top < len(density) - 1:
        x, y = frequency[top - 1 : top + 2], density[top - 1 : top + 2]
        curve = np.polyfit(x - x[1], y / y[1], 2)
        if curve[0] < 0:
            peak = x[1] - curve[1] / (2 * curve[0])
            return float(1 / np.clip(peak, x[0], x[2]))
    return float(1 / frequency[top]) if frequency[top] > 0 else float("nan")


def integrated(field: Field, index: Mapping[str, int]) -> Spectrum:
    """A written spectrum at one time and place, over all directions."""
    import numpy as np

    values = field.read(**index)
    left = [axis for axis in field.axes if axis.name not in index]
    kinds = [axis.kind for axis in left]
    if "direction" in kinds:
        position = kinds.index("direction")
        axis = left[position]
        values = np.nansum(values, axis=position) * _direction_step(axis.values, axis.units, field.units)
    frequency = left[kinds.index("frequency")].values
    return of_density(frequency, np.nan_to_num(values), band_widths(frequency))


def band_widths(frequency: Floats) -> Floats:
    """How wide the band of each frequency is: halfway to its neighbours, the outer ones as far as their inner side."""
    import numpy as np

    if len(frequency) < 2:
        return np.ones_like(frequency)
    found: Floats = np.gradient(frequency)
    return found


def _direction_step(values: Floats, units: str, density_units: str) -> float:
    """The step between directions in what the density is per: degrees, or radians where its units say so."""
    import numpy as np

    if len(values) < 2:
        return 1.0
    step = float(np.abs(np.median(np.diff(np.sort(values)))))
    axis_in_radians = "rad" in units.lower() or float(np.max(np.abs(values))) <= 2 * np.pi + 1e-6
    per_radian = "rad" in density_units.lower()
    if axis_in_radians and not per_radian and "deg" in density_units.lower():
        return float(np.rad2deg(step))
    return float(np.deg2rad(step)) if per_radian and not axis_in_radians else step


def through_wavespectra(field: Field) -> dict[str, Any] | None:
    """Hs, Tp, Tm01, Tm02 of all times and places from `wavespectra`; None where it is not installed."""
    try:
        import wavespectra  # noqa: F401  # registers .spec
        import xarray as xr
    except ImportError:
        return None
    import numpy as np

    names = {"frequency": "freq", "direction": "dir", "time": "time"}
    dims = [names.get(axis.kind, axis.name) for axis in field.axes]
    per_time = math.prod(field.shape[1:])
    step = max(1, BLOCK_VALUES // per_time) if field.time is not None else len(field.axes[0])
    found: dict[str, list[Any]] = {"hs": [], "tp": [], "tm01": [], "tm02": []}
    for begin in range(0, len(field.axes[0]), step):
        some = slice(begin, begin + step)
        coords = {name: axis.values for name, axis in zip(dims, field.axes, strict=True)}
        coords[dims[0]] = coords[dims[0]][some]
        spec = xr.DataArray(field.read(**{field.axes[0].name: some}), dims=dims, coords=coords, name="efth").spec
        for name, value in (
            ("hs", spec.hs(tail=False)),
            ("tp", spec.tp()),
            ("tm01", spec.tm01()),
            ("tm02", spec.tm02()),
        ):
            found[name].append(value.to_numpy())
    whole = field.time is None
    return {name: parts[0] if whole else np.concatenate(parts) for name, parts in found.items()}

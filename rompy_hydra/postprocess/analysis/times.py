"""Times of model output: numbers with units such as `days` or `hours since 2020-01-01`; as text and in seconds."""

from __future__ import annotations

from typing import Any

_SECONDS = {"second": 1.0, "sec": 1.0, "s": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "h": 3600.0, "hr": 3600.0}
_SECONDS |= {"day": 86400.0, "d": 86400.0, "millisecond": 1e-3, "ms": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9}


def seconds_per_unit(units: str) -> float | None:
    """How many seconds one is; None for units that are no time (`months` have no one length)."""
    word = units.partition(" since ")[0].strip().lower()
    return _SECONDS.get(word) or _SECONDS.get(word.removesuffix("s"))


def is_time_unit(units: str) -> bool:
    """Whether these are units of a time axis."""
    return " since " in units or seconds_per_unit(units) is not None


def text_of(value: float, units: str, calendar: str = "standard") -> str:
    """`2020-01-01 06:00` where the units say since when, else `5 days`."""
    if " since " in units:
        date = date_of(value, units, calendar)
        if date is not None:
            return str(date.strftime("%Y-%m-%d %H:%M:%S")).removesuffix(":00")
    one = value == 1 and units in ("days", "hours", "minutes", "seconds")
    return f"{value:g} {units.removesuffix('s') if one else units}".strip()


def date_of(value: float, units: str, calendar: str = "standard") -> Any:
    """The date in the calendar (cftime); None where the units are not understood."""
    import cftime

    try:
        return cftime.num2date(value, units, calendar, only_use_cftime_datetimes=True)
    except (ValueError, OverflowError):
        return None


def epoch_seconds(values: Any, units: str, calendar: str = "standard") -> Any:
    """Times as seconds since 1970 in their own calendar; None where the units do not say since when."""
    import cftime
    import numpy as np

    if " since " not in units:
        return None
    origin = date_of(0.0, units, calendar)
    length = seconds_per_unit(units)
    if origin is None or length is None:
        return None
    begin = cftime.date2num(origin, "seconds since 1970-01-01", calendar)
    return np.asarray(values, dtype=float) * length + float(begin)

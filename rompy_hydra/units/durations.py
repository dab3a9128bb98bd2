"""Lengths of time: what people write becomes one `Duration`, or plain seconds for limits, before planning.

A number is seconds. A day is 86 400 s, since all dates here are UTC; months and years are calendar units and
have no length until `plan.period` adds them to a date.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

_SECOND, _MINUTE, _HOUR, _DAY = 10**6, 60 * 10**6, 3600 * 10**6, 86400 * 10**6
_LONGEST_YEARS = 10**6
_LONGEST_TEXT = 64


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time: whole calendar months plus a fixed part in whole microseconds, both of one sign.

    Read one with `parse_duration`; as a pydantic field it takes whatever that takes, refuses negative ones,
    and is dumped in its ISO 8601 form, which is `str()` too.
    """

    months: int = 0
    microseconds: int = 0

    def __post_init__(self) -> None:
        if self.months * self.microseconds < 0:
            raise ValueError(
                f"a duration of {self.months} months and {self.microseconds / _SECOND:g} s points both ways: "
                "give both parts the same sign"
            )
        if abs(self.months) > 12 * _LONGEST_YEARS or abs(self.microseconds) > 366 * _LONGEST_YEARS * _DAY:
            raise ValueError(f"a duration is at most {_LONGEST_YEARS} years long: give a shorter one")

    @property
    def is_fixed(self) -> bool:
        """Whether the length is the same wherever it starts: no calendar months in it."""
        return self.months == 0

    @property
    def is_negative(self) -> bool:
        """Whether it points back in time."""
        return self.months < 0 or self.microseconds < 0

    def total_seconds(self) -> float:
        """The length in seconds.

        Raises:
            ValueError: if months are part of it; `plan.period.seconds(duration, since=DATE)` knows how long
                those are.
        """
        if not self.is_fixed:
            raise ValueError(
                f"'{self}' has calendar months in it, so its number of seconds depends on where it starts: "
                "write days ('P30D') or hours, or give the date that it starts from"
            )
        return self.microseconds / _SECOND

    def iso(self) -> str:
        """The ISO 8601 form, as files hold it and `parse_duration` reads it: `P1Y6M`, `P1DT12H`, `PT0.5S`."""
        years, months = divmod(abs(self.months), 12)
        days, rest = divmod(abs(self.microseconds), _DAY)
        hours, rest = divmod(rest, _HOUR)
        minutes, rest = divmod(rest, _MINUTE)
        seconds = f"{rest // _SECOND}.{rest % _SECOND:06d}".rstrip("0").rstrip(".")
        date = _joined((years, "Y"), (months, "M"), (days, "D"))
        time = _joined((hours, "H"), (minutes, "M")) + (f"{seconds}S" if rest else "")
        if not date and not time:
            return "PT0S"
        return ("-" if self.is_negative else "") + "P" + date + ("T" + time if time else "")

    __str__ = iso

    def __bool__(self) -> bool:
        return bool(self.months or self.microseconds)

    def __neg__(self) -> Duration:
        return Duration(-self.months, -self.microseconds)

    def __add__(self, other: Duration) -> Duration:
        if not isinstance(other, Duration):
            return NotImplemented
        return Duration(self.months + other.months, self.microseconds + other.microseconds)

    def __mul__(self, times: int) -> Duration:
        if not isinstance(times, int):
            return NotImplemented
        return Duration(self.months * times, self.microseconds * times)

    __rmul__ = __mul__

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            parse_duration,
            serialization=core_schema.plain_serializer_function_ser_schema(
                Duration.iso, return_schema=core_schema.str_schema()
            ),
            # The JSON schema comes from here; the plain function above does all the reading.
            json_schema_input_schema=core_schema.union_schema(
                [core_schema.float_schema(ge=0), core_schema.str_schema(min_length=1)]
            ),
        )


def parse_duration(value: object, *, allow_negative: bool = False) -> Duration:
    """Read a length of time.

    Numbers and numeric text are seconds. Text may also be a clock time (`1:30:00`, `1-12:00:00`), numbers
    with units (`90m`, `1h30m`, `2 days`, `500ms`) or ISO 8601 (`PT36H`, `P2W`, `P1Y6M`; a decimal on the last
    part only). The result is rounded to the microsecond.

    Raises:
        ValueError: for booleans, non-finite numbers, forms with two readings (`5M`, `1:30`), fractions of a
            month, anything unreadable, and negative lengths unless `allow_negative`.
    """
    duration = _read(value)
    if duration.is_negative and not allow_negative:
        raise ValueError(f"duration {_shown(value)} is negative: write it without the minus sign")
    return duration


def parse_seconds(value: object) -> float:
    """Read a fixed length of time as seconds, 0 or more; takes what `parse_duration` takes.

    Raises:
        ValueError: as `parse_duration`, and for calendar months and years, which have no fixed length.
    """
    return parse_duration(value).total_seconds()


def parse_slurm_time(value: object) -> int:
    """Read a scheduler's time limit as whole seconds, rounded up, 1 or more.

    Takes Slurm's `days-hours`, `days-hours:minutes`, `days-hours:minutes:seconds` and
    `hours:minutes:seconds`, and every form of `parse_duration` that has one reading (source: sbatch(1),
    `--time`).

    Raises:
        ValueError: for a bare number (Slurm's minutes, our seconds) and for `30:00` (Slurm's minutes:seconds,
            a clock's hours:minutes), with both readings; for calendar months; for anything not above zero.
    """
    text = value.strip() if isinstance(value, str) else ""
    if _PLAIN.fullmatch(text) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        _refuse_bare_number(value)
    if text.lower() in ("unlimited", "infinite"):
        raise ValueError(f"time limit {value!r} is not a length of time: leave it out (null) for the queue's own limit")
    if match := _DAYS_HOURS.fullmatch(text):
        days, hours, minutes = (int(part or 0) for part in match.groups())
        seconds: float = _clock(value, days, hours, minutes, Fraction(0)).total_seconds()
    else:
        seconds = parse_seconds(value)
    return math.ceil(_above_zero(seconds))


def format_slurm_time(seconds: float) -> str:
    """Write seconds as Slurm's `D-HH:MM:SS`, rounded up to a whole second.

    Raises:
        ValueError: for anything not above zero, since Slurm reads zero as "no limit" (source: sbatch(1),
            `--time`).
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"a time limit of {seconds!r} s cannot be asked of Slurm: it must be above zero and finite")
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02d}:{minutes:02d}:{rest:02d}"


def format_duration(length: float | timedelta | Duration) -> str:
    """Write a length of time, in seconds or as a duration, for people: `3.7 s`, `12 min 05 s`, `2 h 05 min`.

    Two units at most, rounded to the smaller one. A duration with calendar months is written in its ISO form.

    Raises:
        ValueError: for a number that is not finite.
    """
    if isinstance(length, Duration) and not length.is_fixed:
        return length.iso()
    seconds = length if isinstance(length, (int, float)) else length.total_seconds()
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds!r} is not a length of time in seconds: it must be finite")
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if round(seconds, 3) < 1:
        return f"{round(seconds * 1000)} ms" if seconds else "0 s"
    if round(seconds, 1) < 60:
        return f"{round(seconds, 1):g} s"
    if round(seconds) < 3600:
        return "{} min {:02d} s".format(*divmod(round(seconds), 60))
    if round(seconds / 60) < 24 * 60:
        return "{} h {:02d} min".format(*divmod(round(seconds / 60), 60))
    return "{} d {:02d} h".format(*divmod(round(seconds / 3600), 24))


def _above_zero(seconds: float) -> float:
    if seconds == 0:
        raise ValueError("0 s is not a limit: give a length above zero, or leave it out (null) for no limit of ours")
    return seconds


def _longer_than_zero(duration: Duration) -> Duration:
    if not duration:
        raise ValueError("the duration is zero: give one above zero, such as '1h' or 'P1D'")
    return duration


def _seconds_schema(*, above_zero: bool) -> WithJsonSchema:
    number = {"type": "number", "exclusiveMinimum" if above_zero else "minimum": 0}
    schema = {
        "anyOf": [number, {"type": "string", "minLength": 1}],
        "examples": [3600, "1:00:00", "90m", "PT36H"],
    }
    return WithJsonSchema(schema, mode="validation")


PositiveDuration = Annotated[Duration, AfterValidator(_longer_than_zero)]
"""A `Duration` above zero."""

Seconds = Annotated[float, BeforeValidator(parse_seconds), _seconds_schema(above_zero=False)]
"""A fixed length of time in seconds, 0 or more, read by `parse_seconds`."""

PositiveSeconds = Annotated[
    float, BeforeValidator(parse_seconds), AfterValidator(_above_zero), _seconds_schema(above_zero=True)
]
"""A limit in seconds, above zero, read by `parse_seconds`."""

SlurmTime = Annotated[
    int,
    BeforeValidator(parse_slurm_time),
    # Plain seconds would be refused as a bare number when they are read again.
    PlainSerializer(format_slurm_time, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1, "examples": ["2:00:00", "1-00:00:00", "90m"]}),
]
"""A scheduler's time limit in whole seconds, read by `parse_slurm_time` and written as `D-HH:MM:SS`."""


_FORMS = (
    "write seconds (3600), a clock time ('1:00:00', '1-12:00:00'), numbers with units ('90m', '36h', '2d') "
    "or ISO 8601 ('PT36H', 'P1M')"
)
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]+)?)")
_TWO_PARTS = re.compile(r"([0-9]+):([0-9]{1,2})")
_DAYS_HOURS = re.compile(r"([0-9]+)-([0-9]+)(?::([0-9]{1,2}))?")
_ISO = re.compile(
    r"P(?:{n}Y)?(?:{n}M)?(?:{n}W)?(?:{n}D)?(?:T(?:{n}H)?(?:{n}M)?(?:{n}S)?)?".format(n=r"([0-9]+(?:[.,][0-9]+)?)"),
    re.IGNORECASE,
)
_TERM = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")

_MONTHS = {"mo": 1, "month": 1, "months": 1, "y": 12, "year": 12, "years": 12}
_FIXED = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1000),
    **dict.fromkeys(("s", "sec", "second", "seconds"), _SECOND),
    **dict.fromkeys(("m", "min", "minute", "minutes"), _MINUTE),
    **dict.fromkeys(("h", "hr", "hour", "hours"), _HOUR),
    **dict.fromkeys(("d", "day", "days"), _DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * _DAY),
}
_ISO_UNITS = ("y", "mo", "w", "d", "h", "m", "s")


def _read(value: object) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, bool):
        raise ValueError(f"{value} is a boolean, not a duration: {_FORMS}")
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value!r} is not a duration: a number of seconds must be finite")
        return _rounded(value, Fraction(value) * _SECOND)
    if isinstance(value, timedelta):
        return Duration(0, value // timedelta(microseconds=1))
    if isinstance(value, str):
        return _read_text(value)
    raise ValueError(f"{value!r} is a {type(value).__name__}, not a duration: {_FORMS}")


def _read_text(value: str) -> Duration:
    text = value.strip()
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"{_shown(value)} is not a duration: {_FORMS}")
    if text.startswith("-"):
        return -_read_text(text[1:]) if text[1:2] not in ("-", " ") else _unreadable(value)
    if _PLAIN.fullmatch(text):
        # A float first: the exact value of '1e99999999' would fill the memory.
        return _read(float(text)) if "e" in text.lower() else _rounded(value, Fraction(text) * _SECOND)
    if match := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = match.groups()
        return _clock(value, None if days is None else int(days), int(hours), int(minutes), Fraction(seconds))
    if match := _TWO_PARTS.fullmatch(text):
        return _refuse_two_parts(value, *match.groups())
    if match := _ISO.fullmatch(text):
        terms = [(n.replace(",", "."), unit) for n, unit in zip(match.groups(), _ISO_UNITS, strict=True) if n]
        return _unreadable(value) if not terms or text[-1] in "Tt" else _summed(value, terms)
    terms = _TERM.findall(text)
    if not terms or _TERM.sub("", text):
        return _unreadable(value)
    return _summed(value, [(number, _unit(value, number, unit)) for number, unit in terms])


def _unit(value: str, number: str, unit: str) -> str:
    if unit == "M":
        months = f"'P{number}M' for {number} months" if number.isdigit() else "'P1M' for a month"
        raise ValueError(
            f"'M' in duration {value!r} is ambiguous, minutes or months: "
            f"write '{number}m' for {number} minutes or {months}"
        )
    name = unit if len(unit) == 2 else unit.lower()  # 'MS' is months to some and milliseconds to others
    if name not in _FIXED and name not in _MONTHS:
        raise ValueError(f"duration {value!r} has the unknown unit {unit!r}: use ms, s, m, h, d, w, months or years")
    return name


def _summed(value: str, terms: list[tuple[str, str]]) -> Duration:
    sizes = [_FIXED.get(unit, 0) or _MONTHS[unit] * 30 * _DAY for _, unit in terms]
    if sizes != sorted(set(sizes), reverse=True):
        raise ValueError(f"the parts of duration {value!r} are out of order or repeated: give each once, largest first")
    months, microseconds = 0, Fraction(0)
    for position, (number, unit) in enumerate(terms, start=1):
        amount = Fraction(number)
        if "." in number and position < len(terms):
            raise ValueError(f"duration {value!r} has a decimal before its last part: only the last part may have one")
        if unit in _FIXED:
            microseconds += amount * _FIXED[unit]
        elif amount.denominator == 1:
            months += int(amount) * _MONTHS[unit]
        else:
            raise ValueError(f"duration {value!r} has a fraction of a calendar unit: write whole months, or days")
    fixed = _rounded(value, microseconds)
    return Duration(months, fixed.microseconds)


def _clock(value: object, days: int | None, hours: int, minutes: int, seconds: Fraction) -> Duration:
    if minutes > 59 or seconds >= 60 or (days is not None and hours > 23):
        raise ValueError(
            f"{value!r} is not a clock time: minutes and seconds end at 59, hours at 23 if days stand before"
        )
    return _rounded(value, (days or 0) * _DAY + hours * _HOUR + minutes * _MINUTE + seconds * _SECOND)


def _rounded(value: object, microseconds: Fraction | int) -> Duration:
    whole = round(microseconds)
    if whole == 0 and microseconds != 0:
        raise ValueError(f"duration {_shown(value)} is shorter than a microsecond, the finest step: give a longer one")
    return Duration(0, whole)


def _refuse_two_parts(value: object, first: str, second: str) -> Duration:
    as_minutes, as_hours = (
        _joined((int(first), big), (int(second), small)) or f"0{small}" for big, small in ("ms", "hm")
    )
    raise ValueError(f"{value!r} is ambiguous, minutes:seconds or hours:minutes: write '{as_minutes}' or '{as_hours}'")


def _refuse_bare_number(value: object) -> None:
    as_seconds = parse_duration(value)
    clock = ""
    if isinstance(value, int) and value >= 60:
        minutes, seconds = divmod(value, 60)
        clock = f"'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'"
        clock = f". A clock time without quotes in a YAML file arrives as such a number: quote it, {clock}"
    raise ValueError(
        f"{value!r} alone is ambiguous as a scheduler's time limit: write '{value}m' for minutes, as Slurm "
        f"has it ({format_duration(60 * as_seconds)}), or '{value}s' for seconds, as numbers are elsewhere "
        f"({format_duration(as_seconds)}){clock}"
    )


def _unreadable(value: object) -> Duration:
    raise ValueError(f"{value!r} is not a duration: {_FORMS}")


def _joined(*parts: tuple[int, str]) -> str:
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"

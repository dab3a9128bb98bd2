"""When a simulation runs: its `Period` in UTC, in the model's calendar, and the date filters of templates.

Dates of the standard calendar are aware `datetime`s in UTC (Python's calendar: Gregorian also before 1582);
those of `noleap` and `360_day` are `cftime.datetime`s, which have no zone and are UTC as well. The machine's
zone is never read.
"""

from __future__ import annotations

import calendar as gregorian
import importlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal, Protocol, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from rompy_hydra.units.durations import Duration, PositiveDuration, parse_duration

Calendar = Literal["standard", "noleap", "360_day"]
"""The model's calendar, under its CF name: Python's own, 365 days every year, or twelve months of 30 days."""


class Instant(Protocol):
    """A date and time in UTC: an aware `datetime`, or a `cftime.datetime` in another calendar."""

    @property
    def year(self) -> int:
        """1 to 9999, in `noleap` and `360_day` from 0."""

    @property
    def month(self) -> int:
        """1 to 12."""

    @property
    def day(self) -> int:
        """1 to 31, as far as the month goes."""

    @property
    def hour(self) -> int:
        """0 to 23."""

    @property
    def minute(self) -> int:
        """0 to 59."""

    @property
    def second(self) -> int:
        """0 to 59."""

    @property
    def microsecond(self) -> int:
        """0 to 999999."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __le__(self, other: Any, /) -> bool: ...
    def __add__(self, other: timedelta, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...


def parse_date(value: object, calendar: Calendar = "standard") -> Instant:
    """Read a date as UTC; without an offset it is UTC, with one it is converted.

    Takes ISO 8601 (`2023-01-01T00:00:00+01:00`, `20230101T000000Z`), SWAN's `20230101.000000` (also as the
    number that an unquoted one becomes in YAML), WW3's `20230101 000000`, the bare digits
    `YYYYMMDD[HH[MM[SS]]]` (also as a number), `date`, `datetime` and `cftime.datetime`. Fractions of a second
    end at the microsecond.

    Raises:
        ValueError: for other forms, for a day that `calendar` does not have, for a `cftime.datetime` of
            another calendar, and if `calendar` needs cftime and it is not installed.
    """
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return _converted(utc, calendar)
    if isinstance(value, date):
        return _instant(calendar, value.year, value.month, value.day)
    if _is_cftime(value):
        return _converted(cast("Instant", value), calendar)
    if isinstance(value, bool):
        raise ValueError(f"{value} is a boolean, not a date: {_FORMS}")
    if isinstance(value, float):
        text = f"{value:.6f}"
        if float(text) != value:  # also NaN, infinity and numbers with too many digits
            raise ValueError(f"{value!r} is not a date: {_FORMS}")
        return _read_text(text, value, calendar)
    if isinstance(value, (int, str)):
        return _read_text(str(value), value, calendar)
    raise ValueError(f"{value!r} is a {type(value).__name__}, not a date: {_FORMS}")


def iso_date(moment: Instant | str) -> str:
    """Write a date in ISO 8601 as files hold it: `2023-01-01T00:00:00Z`, with microseconds if it has any."""
    return strftime(moment, "%Y-%m-%dT%H:%M:%S.%fZ").replace(".000000Z", "Z")


def strftime(moment: Instant | str, form: str) -> str:
    """Write a date by strftime codes, alike in every calendar, language and C library.

    Codes: `%Y` (four digits) `%y %m %d %j %H %I %M %S %f %p %b %B %F %T %%`, `%a %A` in the standard calendar
    only; `%-d` and its kin drop leading zeros.

    Raises:
        ValueError: for another code.
    """
    instant = _as_instant(moment)
    return _CODE.sub(lambda match: _written(instant, match), form)


def swan_date(moment: Instant | str) -> str:
    """Write a date in SWAN's form `YYYYMMDD.HHMMSS` (source: SWAN user manual, ISO notation, option 1).

    Raises:
        ValueError: for a date with a fraction of a second, which SWAN cannot read.
    """
    return strftime(_whole_seconds(moment, "SWAN"), "%Y%m%d.%H%M%S")


def ww3_date(moment: Instant | str) -> str:
    """Write a date in WAVEWATCH III's form `YYYYMMDD HHMMSS` (source: WAVEWATCH III manual, `ww3_shel.nml`).

    Raises:
        ValueError: for a date with a fraction of a second, which WW3 cannot read.
    """
    return strftime(_whole_seconds(moment, "WW3"), "%Y%m%d %H%M%S")


def add_duration(moment: Instant | str, duration: object) -> Instant:
    """Move a date by a duration, back if that is negative: first the months, by its calendar, then the rest.

    A day that the target month does not have becomes its last one: 31 January + `P1M` is 28 or 29 February.

    Raises:
        ValueError: for an unreadable date or duration, and if the result leaves the years 1 to 9999 (0 to
            9999 in `noleap` and `360_day`).
    """
    instant, length = _as_instant(moment), parse_duration(duration, allow_negative=True)
    calendar = _calendar_of(instant)
    year, month = divmod(instant.year * 12 + instant.month - 1 + length.months, 12)
    day = min(instant.day, _days_in_month(calendar, year, month + 1))
    time = _time_of_day(instant) + timedelta(microseconds=length.microseconds)
    try:
        return _instant(calendar, year, month + 1, day, time)
    except (OverflowError, ValueError):  # the day exists, so it is the year that does not
        raise ValueError(f"{iso_date(instant)} + {length} leaves the years 1 to 9999: use a shorter duration") from None


def seconds(length: Period | Duration | timedelta | float | str, since: Instant | str | None = None) -> int | float:
    """The number of seconds in a period or a duration, an `int` where it is whole (`86400`, not `86400.0`).

    Raises:
        ValueError: for a duration with calendar months and no date `since` that it starts from.
    """
    if isinstance(length, Period):
        duration = length.duration
    else:
        duration = parse_duration(length, allow_negative=True)
        if since is not None:
            duration = _between(_as_instant(since), add_duration(since, duration))
    number = duration.total_seconds()
    return int(number) if number.is_integer() else number


FILTERS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "strftime": strftime,
        "iso": iso_date,
        "swan_date": swan_date,
        "ww3_date": ww3_date,
        "add": add_duration,
        "seconds": seconds,
    }
)
"""The template filters on dates and durations, by the name that they have in a template."""


class _InstantField:
    """Reads a field by `parse_date` in the calendar of the field `calendar`, which must stand before it."""

    def __init__(self, *, optional: bool = False) -> None:
        self.optional = optional

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                iso_date, return_schema=core_schema.str_schema(), when_used="json-unless-none"
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if handler.mode == "serialization":
            return {"type": "string", "format": "date-time"}
        forms = [{"type": "string", "minLength": 8}, {"type": "number", "minimum": 10000101}]
        return {
            "anyOf": [*forms, {"type": "null"}] if self.optional else forms,
            "examples": ["2023-01-01T00:00:00Z", "20230101.000000", "20230101 000000"],
        }

    def _read(self, value: object, info: core_schema.ValidationInfo) -> object:
        if value is None and self.optional:
            return None
        calendar = info.data.get("calendar")
        return value if calendar is None else parse_date(value, calendar)  # a bad calendar is one finding, not three


class _OptionalInput:
    """Lets a field that is always filled after validation be left out or null before it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.nullable_schema(handler(source))


_UNTIL_VALIDATED: Any = None  # a field that is never None afterwards


class Period(BaseModel):
    """The time that a simulation covers: `start` and either `end` or `duration`, in UTC, in its `calendar`.

    Both `end` and `duration` may be given if they agree. Afterwards both are filled, `duration` with the
    elapsed time, so that two ways to write a period are equal; it is derived again when a period is read back
    and so is not written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    calendar: Calendar = Field(
        "standard",
        description="Calendar of the model: standard, noleap or 360_day (CF names).",
        json_schema_extra={"identity": "science"},
    )
    start: Annotated[Instant, _InstantField()] = Field(
        description="First moment, UTC if it has no offset: ISO 8601, 20230101.000000, '20230101 000000'.",
        json_schema_extra={"identity": "science"},
    )
    end: Annotated[Instant, _InstantField(optional=True)] = Field(
        _UNTIL_VALIDATED,
        description="Last moment, after the start, in the same forms. Give this or duration.",
        json_schema_extra={"identity": "science"},
    )
    duration: Annotated[PositiveDuration, _OptionalInput()] = Field(
        _UNTIL_VALIDATED,
        exclude=True,
        description="Length from the start: seconds, '90m', '36h', '2d', '1-12:00:00', ISO 8601; P1M and P1Y "
        "follow the calendar. Give this or end.",
        json_schema_extra={"identity": "science"},
    )
    interval: PositiveDuration | None = Field(
        None,
        description="Step between the period's times, in the forms of duration, such as an output interval.",
        json_schema_extra={"identity": "science"},
    )

    @field_validator("calendar")
    @classmethod
    def _calendar_is_available(cls, value: Calendar) -> Calendar:
        if value != "standard":
            _cftime(value)
        return value

    @model_validator(mode="after")
    def _fill_end_and_duration(self) -> Self:
        start, end, duration = (
            self.start,
            cast("Instant | None", self.end),
            cast("Duration | None", self.duration),
        )
        if end is None and duration is None:
            raise ValueError("the period has no end: give 'end' or 'duration'")
        if end is None:
            end = add_duration(start, duration)
        elif duration is not None and add_duration(start, duration) != end:
            raise ValueError(
                f"the period ends twice: start + {duration} is {iso_date(add_duration(start, duration))}, "
                f"but end is {iso_date(end)}: set one of them to null"
            )
        if not start < end:
            raise ValueError(
                f"the period's end {iso_date(end)} is not after its start {iso_date(start)}: give a later end"
            )
        # Frozen for everybody else; here the object is still being made.
        object.__setattr__(self, "end", end)
        object.__setattr__(self, "duration", _between(start, end))
        self.model_fields_set.add("end")
        return self

    @property
    def steps(self) -> int:
        """How many whole intervals fit into the period.

        Raises:
            ValueError: if the period has no interval.
        """
        interval = self._interval()
        if interval.is_fixed:
            return self.duration.microseconds // interval.microseconds
        return sum(1 for _ in self.times()) - 1

    def times(self) -> Iterator[Instant]:
        """The start and every whole interval after it, up to the end and with it if the intervals fit.

        Each is counted from the start, so that monthly steps from 31 January keep to the ends of the months.

        Raises:
            ValueError: if the period has no interval.
        """
        interval = self._interval()
        return itertools.takewhile(lambda moment: moment <= self.end, _counted(self.start, interval))

    def contains(self, moment: Instant | str) -> bool:
        """Whether a date lies in the period, its start and end included.

        Raises:
            ValueError: if the date does not exist in the period's calendar.
        """
        instant = parse_date(moment, self.calendar)
        return self.start <= instant <= self.end

    def __contains__(self, moment: Instant | str) -> bool:
        return self.contains(moment)

    def _interval(self) -> Duration:
        if self.interval is None:
            raise ValueError("the period has no interval to count its times by: set 'interval', such as '1h'")
        return self.interval


_FORMS = (
    "write '2023-01-01T00:00:00Z', '2023-01-01', SWAN's '20230101.000000' or WW3's '20230101 000000', "
    "with no zone but Z or an offset such as +01:00"
)
_OFFSET = r"(?: ?(?P<offset>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?"
_FRACTION = r"(?:[.,](?P<fraction>[0-9]+))?"
_DATE_FORMS = tuple(
    re.compile(form + _OFFSET, re.IGNORECASE)
    for form in (
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})",
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
        r"[T ](?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})" + _FRACTION + ")?)?",
        r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})",
        r"(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})"
        r"[T .]?(?P<hour>[0-9]{2})(?:(?P<minute>[0-9]{2})(?:(?P<second>[0-9]{2})" + _FRACTION + ")?)?",
    )
)
_CODE = re.compile(r"%(-?)(.?)", re.DOTALL)
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NOLEAP_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _cftime(calendar: str) -> Any:
    try:
        return importlib.import_module("cftime")  # here, not above: an extra, and 40 ms
    except ImportError:
        raise ValueError(
            f"calendar '{calendar}' needs the package cftime, which is not installed: "
            "pip install 'rompy-hydra[calendars]', or use calendar 'standard'"
        ) from None


def _is_cftime(value: object) -> bool:
    module = sys.modules.get("cftime")  # whoever made such a date has imported it
    return module is not None and isinstance(value, module.datetime)


def _calendar_of(moment: Instant) -> Calendar:
    if isinstance(moment, datetime):
        return "standard"
    return cast("Calendar", cast("Any", moment).calendar)


def _as_instant(moment: object) -> Instant:
    if _is_cftime(moment):
        name = str(cast("Any", moment).calendar)
        return parse_date(moment, cast("Calendar", name if name in ("noleap", "360_day") else "standard"))
    return parse_date(moment)


def _converted(moment: Instant, calendar: Calendar) -> Instant:
    theirs = "standard" if isinstance(moment, datetime) else cast("Any", moment).calendar
    # A plain datetime has no other calendar to say that it is in, so its numbers are taken as they are.
    if not isinstance(moment, datetime) and theirs != calendar:
        alike = calendar == "standard" and theirs in ("gregorian", "proleptic_gregorian")
        if not alike:
            raise ValueError(
                f"{moment} is in calendar '{theirs}', but the period's is '{calendar}': "
                "give the date as text, or change 'calendar'"
            )
    return _instant(calendar, moment.year, moment.month, moment.day, _time_of_day(moment))


def _time_of_day(moment: Instant) -> timedelta:
    return timedelta(hours=moment.hour, minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond)


def _between(start: Instant, end: Instant) -> Duration:
    return Duration(0, (end - start) // timedelta(microseconds=1))


def _counted(start: Instant, interval: Duration) -> Iterator[Instant]:
    for count in itertools.count():
        try:
            moment = add_duration(start, interval * count)
        except ValueError:  # past the last year there is, so past every end
            return
        yield moment


def _days_in_month(calendar: Calendar, year: int, month: int) -> int:
    if calendar == "360_day":
        return 30
    if calendar == "noleap":
        return _NOLEAP_DAYS[month - 1]
    return gregorian.monthrange(year, month)[1]


def _read_text(text: str, given: object, calendar: Calendar) -> Instant:
    text = " ".join(text.split())
    match = next((found for form in _DATE_FORMS if (found := form.fullmatch(text))), None)
    if match is None:
        quote = "; an unquoted date in YAML may arrive as another number: quote it" if isinstance(given, int) else ""
        raise ValueError(f"{given!r} is not a date: {_FORMS}{quote}")
    part = match.groupdict()
    fraction = (part.get("fraction") or "").rstrip("0")
    if len(fraction) > 6:
        raise ValueError(f"{given!r} is finer than a microsecond: give at most six decimals")
    hour, minute, second = (int(part.get(name) or 0) for name in ("hour", "minute", "second"))
    microsecond = int(fraction.ljust(6, "0"))
    midnight = (hour, minute, second, microsecond) == (24, 0, 0, 0)  # ISO 8601: the end of the day
    if not midnight and (hour > 23 or minute > 59 or second > 59):
        raise ValueError(f"{given!r} has no such time of day: hours end at 23, minutes and seconds at 59")
    time = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)
    year, month, day = (int(part[name]) for name in ("year", "month", "day"))
    try:
        return _instant(calendar, year, month, day, time - _offset(part["offset"], given))
    except OverflowError:
        raise ValueError(f"{given!r} in UTC leaves the years 1 to 9999: give another date") from None


def _offset(text: str | None, given: object) -> timedelta:
    if text is None or text[0] not in "+-":
        return timedelta(0)
    hours, minutes = int(text[1:3]), int(text[-2:]) if len(text) > 3 else 0
    if hours > 23 or minutes > 59:
        raise ValueError(f"{given!r} has no such offset from UTC: give one like +01:00")
    return timedelta(hours=hours, minutes=minutes) * (-1 if text[0] == "-" else 1)


def _instant(calendar: Calendar, year: int, month: int, day: int, time: timedelta = timedelta(0)) -> Instant:
    shown = f"{year:04d}-{month:02d}-{day:02d}"
    first = 1 if calendar == "standard" else 0
    if not (first <= year <= 9999 and 1 <= month <= 12):
        raise ValueError(f"{shown} is not a date: calendar '{calendar}' has years {first} to 9999 and months 1 to 12")
    last = _days_in_month(calendar, year, month)
    if not 1 <= day <= last:
        raise ValueError(
            f"{shown} does not exist in calendar '{calendar}', where {_MONTHS[month - 1]} {year} has {last} "
            "days: give another day, or the model's own calendar in 'calendar'"
        )
    if calendar == "standard":
        return datetime(year, month, day, tzinfo=UTC) + time
    moment: Instant = _cftime(calendar).datetime(year, month, day, calendar=calendar) + time
    if not first <= moment.year <= 9999:
        raise OverflowError
    return moment


def _whole_seconds(moment: Instant | str, reader: str) -> Instant:
    instant = _as_instant(moment)
    if instant.microsecond:
        raise ValueError(
            f"{iso_date(instant)} has a fraction of a second, which {reader} cannot read: give whole seconds"
        )
    return instant


def _written(moment: Instant, match: re.Match[str]) -> str:
    short, code = match.groups()
    calendar = _calendar_of(moment)
    if code == "F":
        return strftime(moment, "%Y-%m-%d")
    if code == "T":
        return strftime(moment, "%H:%M:%S")
    if code in ("a", "A") and isinstance(moment, datetime):
        name = _WEEKDAYS[moment.weekday()]
        return name if code == "A" else name[:3]
    month = _MONTHS[moment.month - 1]
    texts = {"%": "%", "B": month, "b": month[:3], "p": "AM" if moment.hour < 12 else "PM"}
    if code in texts:
        return texts[code]
    day_of_year = moment.day + sum(_days_in_month(calendar, moment.year, before) for before in range(1, moment.month))
    numbers = {
        "Y": (moment.year, 4),
        "y": (moment.year % 100, 2),
        "m": (moment.month, 2),
        "d": (moment.day, 2),
        "j": (day_of_year, 3),
        "H": (moment.hour, 2),
        "I": ((moment.hour - 1) % 12 + 1, 2),
        "M": (moment.minute, 2),
        "S": (moment.second, 2),
        "f": (moment.microsecond, 6),
    }
    if code not in numbers:
        weekdays = ("a", "A") if calendar == "standard" else ()
        known = " ".join(f"%{name}" for name in (*weekdays, "F", "T", *texts, *numbers))
        raise ValueError(f"strftime code '{match[0]}' is not known in calendar '{calendar}': use one of {known}")
    number, width = numbers[code]
    return str(number) if short else f"{number:0{width}d}"

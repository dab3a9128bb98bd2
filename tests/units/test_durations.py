"""Lengths of time: one reading for each form, and a refusal with both for those that have two."""

import json
import re
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from rompy_hydra.units.durations import (
    Duration,
    PositiveDuration,
    PositiveSeconds,
    Seconds,
    SlurmTime,
    format_duration,
    format_slurm_time,
    parse_duration,
    parse_seconds,
    parse_slurm_time,
)

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (3600, 3600),
        (0.1, 0.1),
        ("90", 90),
        ("1.5", 1.5),
        ("1e3", 1000),
        (timedelta(hours=1, microseconds=1), 3600.000001),
        ("12:00:00", 12 * HOUR),
        ("36:00:00", 36 * HOUR),
        ("0:00:01.5", 1.5),
        ("1-12:00:00", 36 * HOUR),
        ("PT36H", 36 * HOUR),
        ("P1DT12H", 36 * HOUR),
        ("P2W", 14 * DAY),
        ("PT1.5H", 1.5 * HOUR),
        ("PT1,5H", 1.5 * HOUR),
        ("P0.5D", 12 * HOUR),
        ("pt5m", 300),
        ("90m", 5400),
        ("36h", 36 * HOUR),
        ("36H", 36 * HOUR),
        ("2d", 2 * DAY),
        ("45s", 45),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("2 days", 2 * DAY),
        ("1.5 hours", 5400),
        ("2 h 05 min", 7500),
    ],
)
def test_fixed_forms_are_read_as_seconds(written: object, seconds: Any) -> None:
    assert parse_duration(written).is_fixed
    assert parse_seconds(written) == seconds


@pytest.mark.parametrize(
    ("written", "months", "seconds"),
    [
        ("P1M", 1, 0),
        ("P1Y6M", 18, 0),
        ("P1Y", 12, 0),
        ("3 months", 3, 0),
        ("1y", 12, 0),
        ("P1M2DT3H", 1, 2 * DAY + 3 * HOUR),
    ],
)
def test_months_and_years_stay_calendar_units(written: object, months: int, seconds: Any) -> None:
    assert parse_duration(written) == Duration(months, seconds * 10**6)


@pytest.mark.parametrize("written", ["5M", "1h30M", "1.5M"])
def test_a_bare_m_is_refused_with_both_readings(written: object) -> None:
    with pytest.raises(ValueError, match="ambiguous, minutes or months") as caught:
        parse_duration(written)
    assert "m' for" in str(caught.value)
    assert "'P" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "readings"),
    [("1:30", ("'1m30s'", "'1h30m'")), ("30:00", ("'30m'", "'30h'")), ("0:30", ("'30s'", "'30m'"))],
)
def test_two_clock_parts_are_refused_with_both_readings(written: object, readings: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="minutes:seconds or hours:minutes") as caught:
        parse_duration(written)
    assert all(reading in str(caught.value) for reading in readings)


@given(st.integers(0, 10**6), st.integers(0, 59))
def test_both_suggested_readings_can_be_typed(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="ambiguous") as caught:
        parse_duration(f"{first}:{second:02d}")
    as_minutes, as_hours = re.findall(r"write '(.+)' or '(.+)'", str(caught.value))[0]
    assert parse_seconds(as_minutes) == 60 * first + second
    assert parse_seconds(as_hours) == 3600 * first + 60 * second


def test_yaml_makes_seconds_of_an_unquoted_clock_time_and_that_is_right() -> None:
    for written in ("12:00:00", "120:00:00", "1:00:00.5"):
        assert parse_duration(yaml.safe_load(written)) == parse_duration(written)
    assert yaml.safe_load("12:00:00") == 43200  # YAML 1.1's sexagesimal integer


def test_yaml_makes_a_minute_and_a_half_of_an_unquoted_1_30() -> None:
    # The text would be refused as ambiguous; the number is all that reaches us.
    assert yaml.safe_load("1:30") == 90
    assert parse_seconds(yaml.safe_load("1:30")) == 90


@pytest.mark.parametrize("written", ["1-00:00:00", "00:30:00", "PT36H", "90m"])
def test_yaml_leaves_the_other_forms_as_text(written: str) -> None:
    assert yaml.safe_load(written) == written


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (True, "boolean"),
        (None, "NoneType"),
        ([60], "list"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ("1e999999999", "finite"),
        ("inf", "not a duration"),
        ("", "not a duration"),
        ("soon", "not a duration"),
        ("P", "not a duration"),
        ("PT", "not a duration"),
        ("P1DT", "not a duration"),
        ("--1h", "not a duration"),
        ("1h 30", "not a duration"),
        ("٩0m", "not a duration"),
        ("x" * 10**5, "not a duration"),
        ("5 parsecs", "unknown unit 'parsecs'"),
        ("5MS", "unknown unit 'MS'"),
        ("P1.5M", "fraction of a calendar unit"),
        ("P0.5Y", "fraction of a calendar unit"),
        ("PT1.5H30M", "only the last part"),
        ("1.5h30m", "only the last part"),
        ("30m1h", "out of order or repeated"),
        ("1h1h", "out of order or repeated"),
        ("12:60:00", "end at 59"),
        ("1-24:00:00", "hours at 23"),
        (-1, "negative"),
        ("-6h", "negative"),
        (timedelta(seconds=-1), "negative"),
        (1e-9, "shorter than a microsecond"),
        (10**500, "at most 1000000 years"),
        ("P1000001Y", "at most 1000000 years"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_reason(written: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_duration(written)
    assert len(str(caught.value)) < 400


def test_negative_durations_are_read_where_they_are_allowed() -> None:
    assert parse_duration("-P1M", allow_negative=True) == Duration(months=-1)
    assert parse_duration("-1h30m", allow_negative=True) == -parse_duration("90m")
    assert parse_duration(-0.5, allow_negative=True) == Duration(0, -500_000)


def test_months_have_no_number_of_seconds_without_a_date() -> None:
    with pytest.raises(ValueError, match=r"'P1M' has calendar months.*'P30D'"):
        parse_duration("P1M").total_seconds()


def test_a_duration_cannot_point_both_ways() -> None:
    with pytest.raises(ValueError, match="points both ways"):
        Duration(1, -1)


def test_durations_add_and_multiply() -> None:
    assert parse_duration("P1M") + parse_duration("1h") == Duration(1, HOUR * 10**6)
    assert 3 * parse_duration("P1MT1H") == Duration(3, 3 * HOUR * 10**6)
    assert not Duration()
    assert parse_duration(parse_duration("1h")) == parse_duration("1h")


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        (0, "PT0S"),
        ("36h", "P1DT12H"),
        ("P2W", "P14D"),
        (0.5, "PT0.5S"),
        ("P18M", "P1Y6M"),
        (3661, "PT1H1M1S"),
    ],
)
def test_the_iso_form_is_written_to_files(written: object, iso: str) -> None:
    assert parse_duration(written).iso() == str(parse_duration(written)) == iso


months = st.integers(0, 12 * 10**6)
microseconds = st.integers(0, 10**19)
durations = st.builds(lambda m, us, sign: sign * Duration(m, us), months, microseconds, st.sampled_from([1, -1]))


@given(durations)
def test_the_iso_form_reads_back_exactly(duration: Duration) -> None:
    assert parse_duration(duration.iso(), allow_negative=True) == duration


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10**6)))
def test_a_timedelta_is_kept_to_the_microsecond(delta: timedelta) -> None:
    assert parse_duration(delta).microseconds == delta // timedelta(microseconds=1)


@given(st.integers(0, 10**10))
def test_every_fixed_form_of_a_number_of_seconds_agrees(seconds: Any) -> None:
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    for written in (
        str(seconds),
        f"{seconds}s",
        f"{hours}:{m:02d}:{s:02d}",
        f"{days}-{h:02d}:{m:02d}:{s:02d}",
        f"{days}d{h}h{m}m{s}s",
        f"P{days}DT{h}H{m}M{s}S",
        timedelta(seconds=seconds),
    ):
        assert parse_seconds(written) == seconds


@given(st.floats(1e-6, 1e9))
def test_a_number_of_seconds_is_kept_to_the_microsecond(seconds: Any) -> None:
    assert abs(parse_duration(seconds).microseconds - Fraction(seconds) * 10**6) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.12, "120 ms"),
        (0.9996, "1 s"),
        (3.74, "3.7 s"),
        (59.96, "1 min 00 s"),
        (725, "12 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86399, "1 d 00 h"),
        (100 * DAY + 4 * HOUR, "100 d 04 h"),
        (-3.7, "-3.7 s"),
        (timedelta(minutes=2), "2 min 00 s"),
        (Duration(0, 3_700_000), "3.7 s"),
        (Duration(18), "P1Y6M"),
    ],
)
def test_durations_are_shown_for_people(seconds: Any, shown: str) -> None:
    assert format_duration(seconds) == shown


@given(st.floats(0.001, 1e8))
def test_what_is_shown_reads_back_within_its_rounding(seconds: Any) -> None:
    assert parse_seconds(format_duration(seconds)) == pytest.approx(seconds, rel=0.05, abs=0.0006)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_impossible_number_of_seconds_is_not_shown(value: Any) -> None:
    with pytest.raises(ValueError, match="finite"):
        format_duration(value)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("60m", HOUR),
        ("1:00:00", HOUR),
        ("2:00:00", 2 * HOUR),
        ("1-00:00:00", DAY),
        ("PT1H", HOUR),
        ("1-12", 36 * HOUR),
        ("1-12:30", 36 * HOUR + 1800),
        ("1.5s", 2),
        (timedelta(hours=1), HOUR),
    ],
)
def test_a_scheduler_time_with_one_reading_is_taken(written: object, seconds: Any) -> None:
    assert parse_slurm_time(written) == seconds


@pytest.mark.parametrize("written", [60, "60", 60.0, "60.0"])
def test_a_bare_number_in_a_scheduler_time_is_refused_with_both_readings(written: object) -> None:
    with pytest.raises(ValueError, match="ambiguous") as caught:
        parse_slurm_time(written)
    assert "(1 h 00 min)" in str(caught.value)
    assert "(1 min 00 s)" in str(caught.value)


def test_an_unquoted_clock_time_in_a_scheduler_time_is_recognised() -> None:
    with pytest.raises(ValueError, match="quote it, '12:00:00'"):
        parse_slurm_time(yaml.safe_load("12:00:00"))


def test_minutes_seconds_in_a_scheduler_time_are_refused_with_both_readings() -> None:
    with pytest.raises(ValueError, match="write '30m' or '30h'"):
        parse_slurm_time("30:00")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (True, "boolean"),
        (None, "NoneType"),
        (-5, "negative"),
        ("0s", "not a limit"),
        ("0-00:00:00", "not a limit"),
        ("P1M", "calendar months"),
        ("UNLIMITED", "leave it out"),
        ("1-24", "hours at 23"),
        ("tomorrow", "not a duration"),
    ],
)
def test_what_is_no_scheduler_time_is_refused_with_a_reason(written: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_slurm_time(written)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "0-00:00:01"), (0.2, "0-00:00:01"), (3600.5, "0-01:00:01"), (DAY, "1-00:00:00")]
)
def test_a_scheduler_time_is_written_rounded_up(seconds: Any, text: str) -> None:
    assert format_slurm_time(seconds) == text


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_scheduler_time_that_slurm_reads_as_no_limit_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueError, match="above zero and finite"):
        format_slurm_time(seconds)


@given(st.integers(1, 10**9))
def test_a_scheduler_time_reads_back_exactly(seconds: Any) -> None:
    assert parse_slurm_time(format_slurm_time(seconds)) == seconds


@given(st.text() | st.text("0123456789PTYMWDHS.:- mhds") | st.integers() | st.floats() | st.booleans() | st.none())
def test_reading_ends_in_a_duration_or_a_value_error(written: object) -> None:
    for read in (parse_duration, parse_seconds, parse_slurm_time):
        with suppress(ValueError):
            assert read(written) is not None


class Times(BaseModel):
    any: Duration = Duration()
    positive: PositiveDuration | None = None
    seconds: Seconds = 0.0
    limit: PositiveSeconds | None = None
    slurm: SlurmTime | None = None


def test_fields_read_every_form_and_survive_a_dump() -> None:
    times = Times.model_validate({"any": "P1M", "positive": 60, "seconds": "90m", "limit": "PT1H", "slurm": "2:00:00"})
    assert (times.any, times.seconds, times.limit, times.slurm) == (Duration(1), 5400.0, 3600.0, 7200)
    assert json.loads(times.model_dump_json())["any"] == "P1M"
    assert json.loads(times.model_dump_json())["slurm"] == "0-02:00:00"
    assert Times.model_validate_json(times.model_dump_json()) == times
    assert Times.model_validate(times.model_dump()) == times


def test_fields_refuse_together_what_they_cannot_hold() -> None:
    with pytest.raises(ValidationError) as caught:
        Times.model_validate({"any": -1, "positive": 0, "seconds": "P1M", "limit": 0, "slurm": 60})
    assert [error["loc"] for error in caught.value.errors()] == [
        ("any",),
        ("positive",),
        ("seconds",),
        ("limit",),
        ("slurm",),
    ]


def test_the_schema_of_a_duration_is_a_number_or_text() -> None:
    for kind in (Duration, PositiveDuration, Seconds, PositiveSeconds):
        types = {form["type"] for form in TypeAdapter(kind).json_schema()["anyOf"]}
        assert types == {"number", "string"}

"""When a simulation runs: UTC, calendars, date forms, and the template filters."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import cftime
import jinja2
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from rompy_hydra.plan.period import (
    FILTERS,
    Calendar,
    Period,
    add_duration,
    iso_date,
    parse_date,
    seconds,
    strftime,
    swan_date,
    ww3_date,
)
from rompy_hydra.units.durations import Duration

NAIVE = datetime(2023, 3, 26, 2, 30)
NEW_YEAR = datetime(2023, 1, 1, tzinfo=UTC)
YEAR_1000 = datetime(1000, 1, 1)
calendars = st.sampled_from(["standard", "noleap", "360_day"])


@pytest.fixture(params=["Europe/Amsterdam", "America/St_Johns", "UTC"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def period(**fields: Any) -> Period:
    return Period.model_validate(fields)


@pytest.mark.parametrize(
    "written",
    [
        "2023-01-01",
        "2023-01-01T00",
        "2023-01-01T00:00",
        "2023-01-01 00:00:00",
        "2023-01-01T00:00:00.000000000Z",
        "2023-01-01t00:00:00z",
        "2023-01-01 00:00:00 UTC",
        "2023-01-01T02:00:00+02:00",
        "2022-12-31T19:30:00-0430",
        "2022-12-31T24:00:00",
        "20230101",
        "20230101T000000Z",
        "20230101.000000",
        "20230101.0000",
        "20230101 000000",
        "20230101  000000",
        "2023010100",
        "20230101000000",
        20230101,
        20230101000000,
        20230101.0,
        date(2023, 1, 1),
        datetime(2023, 1, 1),
        datetime(2023, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        cftime.datetime(2023, 1, 1, calendar="standard"),
    ],
)
def test_every_form_of_a_date_is_the_same_moment(written: object) -> None:
    assert parse_date(written) == NEW_YEAR
    assert repr(parse_date(written)) == repr(NEW_YEAR)


@pytest.mark.parametrize(
    "written", ["20230101.000000", "20230101.120000", "20230101.123456", "20231231.235959", "20230101 120000"]
)
def test_an_unquoted_swan_or_ww3_date_in_yaml_is_the_same_moment(written: str) -> None:
    assert parse_date(yaml.safe_load(written)) == parse_date(written)


def test_an_unquoted_date_in_yaml_is_the_same_moment() -> None:
    for written in ("2023-01-01", "2023-01-01T00:00:00+02:00", "2023-01-01 06:00:00", "20230101"):
        assert parse_date(yaml.safe_load(written)) == parse_date(written)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (True, "boolean"),
        (None, "NoneType"),
        ([2023], "list"),
        (float("nan"), "not a date"),
        (20230101.1234567, "not a date"),
        (1.5, "not a date"),
        (4161, "quote it"),  # what YAML makes of 00010101
        (-20230101, "not a date"),
        ("tomorrow", "not a date"),
        ("2023", "not a date"),
        ("2023-01", "not a date"),
        ("2023-1-1", "not a date"),
        ("01/02/2023", "not a date"),
        ("20230101.1", "not a date"),
        ("2023-03-26 02:30 Europe/Amsterdam", "no zone but Z or an offset"),
        ("2023-02-30", "February 2023 has 28 days"),
        ("2023-13-01", "months 1 to 12"),
        ("0000-01-01", "years 1 to 9999"),
        ("2023-01-01T25:00", "no such time of day"),
        ("2023-01-01T24:00:01", "no such time of day"),
        ("2023-01-01T23:59:60", "no such time of day"),
        ("2023-01-01T00:00+25:00", "no such offset"),
        ("2023-01-01T00:00:00.0000001", "finer than a microsecond"),
        ("9999-12-31T23:00-02:00", "leaves the years"),
    ],
)
def test_what_is_no_date_is_refused_with_a_reason(written: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_date(written)


@given(st.text() | st.text("0123456789-:.TZ+ ") | st.integers() | st.floats() | st.booleans() | st.none())
def test_reading_a_date_ends_in_a_date_or_a_value_error(written: object) -> None:
    for calendar in ("standard", "noleap", "360_day"):
        with suppress(ValueError):
            assert parse_date(written, calendar) is not None


def test_the_machines_zone_never_matters(machine_zone: str) -> None:
    for written in ("2023-03-26T02:30:00", "20230326.023000", NAIVE):
        assert iso_date(parse_date(written)) == "2023-03-26T02:30:00Z"


def test_a_period_across_a_dst_change_keeps_its_hours(machine_zone: str) -> None:
    for day in ("2023-03-26", "2023-10-29"):  # 23 and 25 hours long in Amsterdam
        hours = period(start=day, duration="P1D", interval="1h")
        assert hours.steps == 24
        assert seconds(hours) == 86400
        assert [strftime(moment, "%H") for moment in hours.times()][:4] == ["00", "01", "02", "03"]
        assert len({iso_date(moment) for moment in hours.times()}) == 25


def test_a_zoned_datetime_is_converted(machine_zone: str) -> None:
    amsterdam = datetime(2023, 10, 29, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Amsterdam"))
    assert iso_date(parse_date(amsterdam)) == "2023-10-29T01:30:00Z"


def test_duration_fills_the_end_and_the_end_fills_the_duration() -> None:
    by_duration = period(start="2023-01-01", duration="P1M")
    by_end = period(start="2023-01-01", end="2023-02-01")
    assert by_duration == by_end
    assert hash(by_duration) == hash(by_end)
    assert by_duration.end == datetime(2023, 2, 1, tzinfo=UTC)
    assert by_end.duration == Duration(0, 31 * 86400 * 10**6)


def test_end_and_duration_may_both_be_given_if_they_agree() -> None:
    assert period(start="2023-01-01", end="2023-02-01", duration="P1M") == period(start="2023-01-01", end="2023-02-01")
    with pytest.raises(ValidationError, match=r"ends twice.*2023-01-31T00:00:00Z.*2023-02-01.*null"):
        period(start="2023-01-01", end="2023-02-01", duration="P30D")


def test_a_null_end_is_not_said() -> None:
    assert period(start="2023-01-01", end=None, duration=3600, interval=None).end == NEW_YEAR + timedelta(hours=1)


def test_a_period_without_an_end_is_refused() -> None:
    with pytest.raises(ValidationError, match="give 'end' or 'duration'"):
        period(start="2023-01-01")


@pytest.mark.parametrize("end", ["2023-01-01", "2022-12-31T23:59:59", "2023-01-01T01:00+02:00"])
def test_an_end_not_after_the_start_is_refused(end: str) -> None:
    with pytest.raises(ValidationError, match="is not after its start"):
        period(start="2023-01-01", end=end)


def test_all_findings_of_a_period_come_together() -> None:
    with pytest.raises(ValidationError) as caught:
        period(start="soon", end="later", duration="5M", interval=0, step="1h")
    assert [error["loc"][0] for error in caught.value.errors()] == [
        "start",
        "end",
        "duration",
        "interval",
        "step",
    ]


def test_an_unknown_calendar_is_one_finding_and_lists_the_known_ones() -> None:
    with pytest.raises(ValidationError) as caught:
        period(start="2023-02-30", end="2023-03-01", calendar="360day")
    (error,) = caught.value.errors()
    assert error["loc"] == ("calendar",)
    assert "'360_day'" in error["msg"]


def test_thirty_february_exists_in_the_360_day_calendar() -> None:
    february = period(start="2023-02-01", end="2023-02-30", calendar="360_day", interval="P1D")
    assert february.steps == 29
    assert february.end == cftime.datetime(2023, 2, 30, calendar="360_day")
    with pytest.raises(ValidationError, match="February 2023 has 30 days"):
        period(start="2023-02-01", end="2023-02-31", calendar="360_day")


def test_leap_days_do_not_exist_in_the_noleap_calendar() -> None:
    year = period(start="2024-01-01", duration="P1Y", calendar="noleap")
    assert seconds(year) == 365 * 86400
    with pytest.raises(ValidationError, match="February 2024 has 28 days"):
        period(start="2024-02-29", duration="P1D", calendar="noleap")


def test_offsets_are_converted_in_every_calendar() -> None:
    moment = parse_date("2023-03-01T00:30+01:00", "360_day")
    assert iso_date(moment) == "2023-02-30T23:30:00Z"


def test_a_date_of_another_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="is in calendar 'noleap', but the period's is '360_day'"):
        parse_date(cftime.datetime(2023, 1, 1, calendar="noleap"), "360_day")


def test_a_missing_cftime_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cftime", None)
    with pytest.raises(ValidationError) as caught:
        period(start="2023-02-30", duration="P1D", calendar="360_day")
    (error,) = caught.value.errors()
    assert "pip install 'rompy-hydra[calendars]'" in error["msg"]
    assert period(start="2023-02-28", duration="P1D").calendar == "standard"


@pytest.mark.parametrize(
    ("start", "duration", "end"),
    [
        ("2023-01-31", "P1M", "2023-02-28T00:00:00Z"),
        ("2024-01-31", "P1M", "2024-02-29T00:00:00Z"),
        ("2024-02-29", "P1Y", "2025-02-28T00:00:00Z"),
        ("2023-01-31T12:00", "P1MT12H", "2023-03-01T00:00:00Z"),
        ("2023-12-15", "P1M", "2024-01-15T00:00:00Z"),
        ("2023-03-31", "-P1M", "2023-02-28T00:00:00Z"),
        ("2023-01-01", "-1s", "2022-12-31T23:59:59Z"),
    ],
)
def test_months_follow_the_calendar_and_end_at_the_last_day(start: str, duration: str, end: str) -> None:
    assert iso_date(add_duration(start, duration)) == end


@pytest.mark.parametrize(
    ("date", "duration"), [("9999-12-31", "P1D"), ("9999-12-01", "P1M"), ("2023-01-01", "-P3000Y")]
)
def test_a_sum_beyond_the_calendars_years_is_refused(date: str, duration: str) -> None:
    with pytest.raises(ValueError, match="leaves the years"):
        add_duration(date, duration)
    with pytest.raises(ValueError, match="leaves the years"):
        add_duration(parse_date(date, "noleap"), duration)


def test_times_are_counted_from_the_start() -> None:
    months = period(start="2023-01-31", duration="P3M", interval="P1M")
    assert [iso_date(moment)[:10] for moment in months.times()] == [
        "2023-01-31",
        "2023-02-28",
        "2023-03-31",
        "2023-04-30",
    ]


def test_times_stop_before_an_end_that_is_no_whole_interval() -> None:
    hours = period(start="2023-01-01", duration="2h30m", interval="1h")
    assert hours.steps == 2
    assert list(hours.times()) == [NEW_YEAR + timedelta(hours=count) for count in range(3)]


def test_times_stop_at_the_end_of_all_years() -> None:
    last = period(start="9999-12-30", end="9999-12-31", interval="P2M")
    assert list(last.times()) == [last.start]


def test_a_period_without_an_interval_has_no_times() -> None:
    day = period(start="2023-01-01", duration="P1D")
    for ask in (lambda: day.steps, day.times):
        with pytest.raises(ValueError, match="set 'interval'"):
            ask()


def test_a_period_contains_its_start_and_its_end() -> None:
    day = period(start="2023-01-01", duration="P1D")
    assert day.contains("2023-01-01")
    assert "2023-01-02" in day
    assert not day.contains("2023-01-02T00:00:01")
    assert day.contains("2023-01-02T01:00+01:00")


def test_a_period_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        period(start="2023-01-01", duration="P1D").end = NEW_YEAR  # type: ignore[misc]


def test_json_holds_dates_with_z() -> None:
    month = period(start="2023-02-30T00:00:00.5", duration="P1M", calendar="360_day", interval="36h")
    assert json.loads(month.model_dump_json()) == {
        "calendar": "360_day",
        "start": "2023-02-30T00:00:00.500000Z",
        "end": "2023-03-30T00:00:00.500000Z",
        "interval": "P1DT12H",
    }


@st.composite
def moments(draw: st.DrawFn, calendar: Calendar) -> Any:
    last_day = 28 if calendar != "360_day" else 30
    day = f"{draw(st.integers(1000, 3000)):04d}-{draw(st.integers(1, 12)):02d}-{draw(st.integers(1, last_day)):02d}"
    part = draw(st.integers(0, 86400 * 10**6 - 1))
    return parse_date(day, calendar) + timedelta(microseconds=part)


@given(st.data(), calendars)
def test_a_period_survives_json_exactly(data: st.DataObject, calendar: Calendar) -> None:
    start, end = data.draw(moments(calendar)), data.draw(moments(calendar))
    assume(start < end)
    interval = data.draw(st.sampled_from([None, "PT6H", "P1M", "P1Y2M3DT4H5M6.7S"]))
    made = period(start=start, end=end, calendar=calendar, interval=interval)
    assert Period.model_validate_json(made.model_dump_json()) == made
    assert Period.model_validate(made.model_dump()) == made
    assert Period.model_validate(made.model_dump(exclude_unset=True)) == made
    assert add_duration(made.start, made.duration) == made.end


@given(st.data(), calendars)
def test_every_date_survives_its_iso_form(data: st.DataObject, calendar: Calendar) -> None:
    moment = data.draw(moments(calendar))
    assert parse_date(iso_date(moment), calendar) == moment


@given(st.data(), calendars, st.integers(0, 600), st.integers(0, 600))
def test_adding_months_keeps_the_order_of_dates(data: st.DataObject, calendar: Calendar, fewer: int, more: int) -> None:
    assume(fewer < more)
    moment = data.draw(moments(calendar))
    earlier, later = add_duration(moment, Duration(fewer)), add_duration(moment, Duration(more))
    assert moment <= earlier < later
    assert later.day <= moment.day


@given(st.data(), calendars, st.integers(1, 24), st.integers(0, 40))
def test_steps_counts_the_times(data: st.DataObject, calendar: Calendar, months: int, count: int) -> None:
    start = data.draw(moments(calendar))
    interval = Duration(months)
    made = period(
        start=start,
        end=add_duration(start, interval * count) + timedelta(hours=1),
        calendar=calendar,
        interval=interval,
    )
    times = list(made.times())
    assert made.steps == count == len(times) - 1
    assert all(one < next_one for one, next_one in pairwise(times))
    assert all(moment in made for moment in times)


@given(st.datetimes(min_value=YEAR_1000, timezones=st.just(UTC)))
def test_strftime_agrees_with_python_in_the_standard_calendar(moment: datetime) -> None:
    form = "%Y %y %m %d %j %H %I %M %S %f %p %b %B %a %A %F %T %%"
    assert strftime(moment, form) == moment.strftime(form)


@given(st.data(), st.sampled_from(["noleap", "360_day"]))
def test_strftime_agrees_with_cftime_in_the_other_calendars(data: st.DataObject, calendar: Calendar) -> None:
    moment = data.draw(moments(calendar))
    form = "%Y %m %d %j %H %I %M %p %b %B %S.%f"  # cftime takes %f at the end only
    assert strftime(moment, form) == moment.strftime(form)


def test_strftime_drops_zeros_on_request_and_knows_its_codes() -> None:
    assert strftime("2023-01-05", "%-d.%-m.%Y") == "5.1.2023"
    with pytest.raises(ValueError, match="'%Q' is not known"):
        strftime("2023-01-05", "%Q")
    with pytest.raises(ValueError, match="'%a' is not known in calendar '360_day'"):
        strftime(parse_date("2023-01-05", "360_day"), "%a")


def test_swan_and_ww3_dates_are_written_and_read_back() -> None:
    moment = parse_date("2023-01-02T03:04:05")
    assert swan_date(moment) == "20230102.030405"
    assert ww3_date(moment) == "20230102 030405"
    assert parse_date(swan_date(moment)) == parse_date(ww3_date(moment)) == moment
    for write in (swan_date, ww3_date):
        with pytest.raises(ValueError, match="fraction of a second"):
            write("2023-01-02T03:04:05.5")


def test_seconds_are_whole_where_they_can_be() -> None:
    assert repr(seconds("90m")) == "5400"
    assert repr(seconds(0.5)) == "0.5"
    assert seconds("-PT1H") == -3600
    assert seconds("P1M", "2024-02-01") == 29 * 86400
    with pytest.raises(ValueError, match="calendar months"):
        seconds("P1M")


def test_the_filters_work_in_a_template() -> None:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters.update(FILTERS)
    template = environment.from_string(
        "{{ p.start | swan_date }} {{ p.end | ww3_date }} {{ p | seconds }} {{ p.interval | seconds }} "
        "{{ p.start | add('-PT6H') | strftime('%Y%m%d%H') }} {{ '2023-01-01' | iso }}"
        "{% for t in p.times() %} {{ t | strftime('%H') }}{% endfor %}"
    )
    day = period(start="2023-01-01", duration="P1D", interval="12h")
    assert template.render(p=day) == (
        "20230101.000000 20230102 000000 86400 43200 2022123118 2023-01-01T00:00:00Z 00 12 00"
    )


def test_the_schema_takes_text_and_numbers_and_needs_a_start() -> None:
    schema = Period.model_json_schema()
    assert schema["required"] == ["start"]
    assert {form["type"] for form in schema["properties"]["end"]["anyOf"]} == {"string", "number", "null"}
    assert all(field["identity"] == "science" for field in schema["properties"].values())
    assert Period.model_json_schema(mode="serialization")["properties"]["end"]["format"] == "date-time"

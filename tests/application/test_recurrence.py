"""Freezes that recur: when they hold, over changes of the clocks too; every test brings its own clock."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agentic_os.governance.recurrence import (
    RecurrenceInvalid,
    occurrences,
    require_cron,
    shortest_gap,
    time_zone,
)

BERLIN = ZoneInfo("Europe/Berlin")
SECOND = timedelta(seconds=1)


def z(text: str) -> datetime:
    """Read an instant of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def spans(cron: str, lasts: timedelta, since: datetime, until: datetime, **step: float) -> list[Any]:
    """Walk through a time and list what holds in it, each once."""
    holds, at, found = occurrences(cron, BERLIN, lasts), since, []
    while at < until:
        occurrence = holds(at)
        if occurrence is not None:
            assert occurrence[0] <= at < occurrence[1]
            found.append(occurrence)
        at += timedelta(**step)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("friday", "start", "until"),
    [
        ("2026-11-20", "2026-11-20T17:00", "2026-11-23T07:00"),  # winter on both sides
        ("2026-07-10", "2026-07-10T16:00", "2026-07-13T06:00"),  # summer on both sides
        ("2026-03-27", "2026-03-27T17:00", "2026-03-30T07:00"),  # the night that lacks an hour is within
        ("2026-10-23", "2026-10-23T16:00", "2026-10-26T06:00"),  # the night that has one twice is within
    ],
)
def test_it_begins_by_the_clock_of_its_zone_and_lasts_by_time(friday: str, start: str, until: str):
    """Each Friday at six in the evening there, for 62 hours whatever the clocks do, its end not included."""
    holds = occurrences("0 18 * * 5", BERLIN, timedelta(hours=62))
    occurrence = (z(start), z(until))
    assert friday == occurrence[0].astimezone(BERLIN).date().isoformat()
    assert [None, occurrence, occurrence, None] == [
        holds(at) for at in (z(start) - SECOND, z(start), z(until) - SECOND, z(until))
    ]


def test_what_begins_in_the_hour_that_is_not_there_begins_after_it():
    """Half past two does not come on that night: it begins at three, and on every other day at half past two."""
    found = spans("30 2 * * *", timedelta(hours=1), z("2026-03-28T00:00"), z("2026-03-31T00:00"), minutes=10)
    assert [z("2026-03-28T01:30"), z("2026-03-29T01:00"), z("2026-03-30T00:30")] == [s for s, _ in found]
    assert {timedelta(hours=1)} == {end - start for start, end in found}


def test_what_begins_in_the_hour_that_comes_twice_begins_once():
    """Half past two comes twice on that night: it begins at the first one, and not again an hour later."""
    found = spans(
        "30 2 * * *", timedelta(minutes=30), z("2026-10-24T00:00"), z("2026-10-27T00:00"), minutes=10
    )
    assert [z("2026-10-24T00:30"), z("2026-10-25T00:30"), z("2026-10-26T01:30")] == [s for s, _ in found]


def test_what_comes_each_hour_comes_in_both_hours():
    """Where the hour is open, each hour that passes counts, be it the second of its name or the next but one."""
    for since, until, hours in (("2026-03-29", "2026-03-30", 23), ("2026-10-25", "2026-10-26", 25)):
        day = [datetime.fromisoformat(d).replace(tzinfo=BERLIN).astimezone(UTC) for d in (since, until)]
        assert hours == len(spans("0 * * * *", timedelta(minutes=10), *day, minutes=10))


def test_days_that_are_too_short_join_two_occurrences():
    """Where the clocks take the hour between two of them, they are one, so that nothing begins in between."""
    lasts = timedelta(hours=23, minutes=30)
    found = spans("0 12 * * *", lasts, z("2026-03-27T11:00"), z("2026-03-31T10:00"), minutes=10)
    assert [
        (z("2026-03-27T11:00"), z("2026-03-28T10:30")),
        (z("2026-03-28T11:00"), z("2026-03-30T09:30")),
        (z("2026-03-29T10:00"), z("2026-03-30T09:30")),
        (z("2026-03-30T10:00"), z("2026-03-31T09:30")),
    ] == found


BY_HAND: dict[str, tuple[Callable[[date], bool], tuple[time, ...]]] = {
    "30 2 * * *": (lambda _: True, (time(2, 30),)),
    "0 18 * * 5": (lambda day: day.isoweekday() == 5, (time(18),)),
    "15 1,3 * * *": (lambda _: True, (time(1, 15), time(3, 15))),
    "45 2 29 3 *": (lambda day: (day.month, day.day) == (3, 29), (time(2, 45),)),
    "0 0 L * *": (lambda day: (day + timedelta(days=1)).day == 1, (time(0),)),
}
"""Expressions, and the days and times that they mean."""


def begins(cron: str, around: datetime) -> list[datetime]:
    """List the begins of the days about an instant without the library; a time that is not there is three o'clock."""
    on, times = BY_HAND[cron]
    days = [around.date() + timedelta(days=n) for n in range(-2, 3)]
    local = [datetime.combine(day, at, BERLIN) for day in days if on(day) for at in times]
    real = [
        at.astimezone(UTC).astimezone(BERLIN).replace(tzinfo=None) == at.replace(tzinfo=None) for at in local
    ]
    return [
        (at if there else at.replace(hour=3, minute=0)).astimezone(UTC)
        for at, there in zip(local, real, strict=True)
    ]


@given(cron=st.sampled_from([*BY_HAND]), hours=st.integers(1, 23), minutes=st.integers(0, 2 * 365 * 24 * 60))
@example(cron="30 2 * * *", hours=1, minutes=(88 * 24 + 1) * 60)
@example(cron="45 2 29 3 *", hours=1, minutes=((365 + 87) * 24 + 1) * 60)
def test_what_holds_is_what_began_last(cron: str, hours: int, minutes: int):
    """Asked at any minute of two years, something holds if and only if something began less than its time ago."""
    at, lasts = z("2025-01-01T00:00") + timedelta(minutes=minutes), timedelta(hours=hours)
    assume(lasts < shortest_gap(cron))
    began = [start for start in begins(cron, at) if start <= at < start + lasts]
    found = occurrences(cron, BERLIN, lasts)(at)
    assert bool(began) == (found is not None)
    assert found is None or (found[0] in began and found[1] >= max(began) + lasts)


@pytest.mark.parametrize(
    ("cron", "gap"),
    [
        ("0 18 * * 5", timedelta(days=7)),
        ("0 18 * * *", timedelta(days=1)),
        ("* * * * *", timedelta(minutes=1)),
        ("0 8,17 * * 1-5", timedelta(hours=9)),
        ("0 20,4 * * 6,0", timedelta(hours=8)),
        ("0 0 1 * *", timedelta(days=28)),
        ("0 0 29 2 *", timedelta(days=4 * 365 + 1)),
        ("0 0 28 2 *", timedelta(days=365)),
        ("30 23,0 1 * *", timedelta(hours=23)),
    ],
)
def test_the_shortest_gap_is_found(cron: str, gap: timedelta):
    """Within a day or from one day to the next, in any month of any year."""
    assert gap == shortest_gap(cron)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("", "five fields"),
        ("@daily", "five fields"),
        ("0 0 * * * *", "five fields"),
        ("0 0 * * " + "1," * 200 + "1", "five fields"),
        ("60 * * * *", "Bad minute"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 0 * *", "Bad day-of-month"),
        ("0 0 * * FRIDAY", "Bad day-of-week"),
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str, words: str):
    """Five fields, each in its range, and a day that comes."""
    with pytest.raises(RecurrenceInvalid, match=words):
        require_cron(cron)


@given(st.lists(st.text("0123456789*/,-#LWMONFRI", min_size=1, max_size=5), min_size=5, max_size=5))
def test_no_text_breaks_the_reader(fields: list[str]):
    """Whatever stands there is read or refused."""
    try:
        require_cron(" ".join(fields))
    except RecurrenceInvalid:
        return
    assert shortest_gap(" ".join(fields)) > timedelta(0)


@pytest.mark.parametrize("name", ["", "Europe", "Mars/Base", "../etc/passwd", "a\0b", "é", "x" * 5000])
def test_an_unknown_time_zone_is_refused(name: str):
    """Only a zone of the database is one, whatever the path or the text would be."""
    with pytest.raises(RecurrenceInvalid, match="is no time zone"):
        time_zone(name)

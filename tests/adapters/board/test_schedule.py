"""Schedules: cron in a time zone, over changes of the clocks, and what was missed."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from agentic_os_board.server.schedule import Schedule, ScheduleInvalid, read_schedule

SPRING, AUTUMN = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
"""The noons before the nights on which the clocks of Berlin change: 2 becomes 3, and 3 becomes 2."""


def berlin(expression: str) -> Schedule:
    return read_schedule(expression, "Europe/Berlin")


def utc(*texts: str) -> list[datetime]:
    return [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts]


@pytest.mark.parametrize(
    ("expression", "start", "wanted"),
    [
        ("30 2 * * *", SPRING, ("2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30")),
        ("30 2 * * *", AUTUMN, ("2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30")),
        ("0 7 * * *", SPRING, ("2026-03-29T05:00", "2026-03-30T05:00", "2026-03-31T05:00")),
        ("0 7 * * *", AUTUMN, ("2026-10-25T06:00", "2026-10-26T06:00", "2026-10-27T06:00")),
        ("0,30 2,3 * * *", SPRING, ("2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00")),
    ],
    ids=["skipped", "repeated", "spring", "autumn", "skipped beside its neighbour"],
)
def test_a_fixed_time_comes_once_a_day(expression: str, start: datetime, wanted: tuple[str, ...]) -> None:
    """A time that the clocks skip must come right after the gap, one that they repeat once, others by the clock."""
    assert utc(*wanted) == berlin(expression).next_times(start, 3)


@pytest.mark.parametrize("start", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("expression", ["*/15 * * * *", "0 * * * *"])
def test_a_time_that_recurs_all_day_goes_by_the_time_that_passes(expression: str, start: datetime) -> None:
    """Every quarter and every hour must stay so, whatever the clocks do."""
    times = berlin(expression).next_times(start, 200)
    step = timedelta(minutes=15 if "15" in expression else 60)
    assert {step} == {later - earlier for earlier, later in pairwise(times)}


@pytest.mark.parametrize("start", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0,30 2,3 * * *", "*/7 * * * *", "15 */2 * * *"])
def test_every_way_to_step_finds_the_same_times(expression: str, start: datetime) -> None:
    """From whatever instant the next time is asked, it must be later, and the one that a longer walk finds."""
    schedule = berlin(expression)
    times = schedule.next_times(start, 50)
    assert sorted(set(times)) == times
    for earlier, later in zip([start, *times], times, strict=False):
        assert schedule.after(earlier) == later
        assert schedule.after(later - timedelta(seconds=1)) == later
    assert schedule.latest(times[0], times[-1], 50) == (times, False)


def test_a_time_of_the_repeated_hour_is_over_in_its_second_half() -> None:
    """Asked while the clocks show an hour for the second time, a time that came in the first must be tomorrow's."""
    (second, wanted) = utc("2026-10-25T01:40", "2026-10-26T01:45")
    assert berlin("45 2 * * *").after(second) == wanted


@pytest.mark.parametrize("gap", [timedelta(hours=2), timedelta(days=3), timedelta(days=400)])
def test_the_newest_of_many_missed_times_are_found(gap: timedelta) -> None:
    """After any downtime exactly the newest must be found, oldest first, and that there were more."""
    schedule, until = berlin("*/5 * * * *"), datetime(2026, 11, 5, 10, 2, tzinfo=UTC)
    times, more = schedule.latest(schedule.after(until - gap), until, 10)
    newest = datetime(2026, 11, 5, 10, tzinfo=UTC)
    assert [newest - timedelta(minutes=5 * back) for back in range(9, -1, -1)] == times
    assert more


def test_rare_times_are_found_however_long_ago() -> None:
    """A time of a leap day must be found after a downtime of years."""
    schedule = read_schedule("0 0 29 2 *", "UTC")
    first = datetime(2020, 2, 29, tzinfo=UTC)
    assert schedule.latest(first, datetime(2026, 1, 1, tzinfo=UTC), 10) == (
        [first, datetime(2024, 2, 29, tzinfo=UTC)],
        False,
    )


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("0 7 * *", "UTC", "five fields"),
        ("0 0 7 * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("0 24 * * *", "UTC", "Bad hour"),
        ("x 7 * * *", "UTC", "Bad minute"),
        ("0 0 31 2 *", "UTC", "is no schedule"),
        ("5-1 0 * * *", "UTC", "Bad minute"),
        ("0 7 * * *", "Europe/Atlantis", "no time zone"),
        ("0 7 * * *", "../../etc/passwd", "no time zone"),
        ("0 7 * * *", "", "no time zone"),
        ("0 7 * * *", "Europe", "no time zone"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(expression: str, zone: str, said: str) -> None:
    """A schedule that cannot be read or never comes must be refused, saying which part."""
    with pytest.raises(ScheduleInvalid, match=said):
        read_schedule(expression, zone)

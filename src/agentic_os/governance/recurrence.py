"""Freezes that recur: a cron expression in a time zone, read once, and when such a freeze holds."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from agentic_os.domain.policy import Occurrence, Occurrences

LONGEST: Final = 200
"""How many characters a cron expression has at most."""

_FIELDS: Final = 5
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_CYCLE: Final = _EPOCH + timedelta(days=28 * 365 + 7)
"""Weekdays and leap years are again as they were, so that no distance between two days is first seen later."""

_MOST: Final = 16
"""How many begins are joined at most; where each ends before the next by the calendar, more than a few never are."""


class RecurrenceInvalid(Exception):
    """A freeze cannot recur as it is written: what is wrong with it."""


def time_zone(name: str) -> ZoneInfo:
    """Find a time zone of the IANA database. Raises RecurrenceInvalid."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as problem:
        raise RecurrenceInvalid(f"{name!r} is no time zone, such as Europe/Berlin or UTC") from problem


def require_cron(text: str) -> None:
    """Refuse what is no cron expression of five fields, and one that never comes. Raises RecurrenceInvalid."""
    if len(text) > LONGEST or len(text.split()) != _FIELDS:
        raise RecurrenceInvalid(
            f"{text[:LONGEST]!r} is not a cron expression of five fields: minute hour day-of-month month day-of-week"
        )
    try:
        next(CronSim(text, _EPOCH))
    except StopIteration:
        raise RecurrenceInvalid(f"{text!r} never comes: no day is like that") from None
    except (CronSimError, ValueError, TypeError) as problem:
        never = " (or a day that never comes)" if "day-of-month" in str(problem) else ""
        raise RecurrenceInvalid(f"{text!r} is no cron expression: {problem}{never}") from problem


def shortest_gap(text: str) -> timedelta:
    """Find the shortest time from one begin to the next by the calendar, which knows no change of the clocks."""
    minute, hour, *days = text.split()
    times = list(_until(f"{minute} {hour} * * *", _EPOCH + _DAY))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    between = timedelta.max
    for earlier, later in pairwise(_until(f"0 0 {' '.join(days)}", _CYCLE)):
        between = min(between, later - earlier)
        if between == _DAY:
            break
    if between < timedelta.max:
        gaps.append(between - (times[-1] - times[0]))
    return min(gaps, default=timedelta.max)


def _until(text: str, end: datetime) -> Iterator[datetime]:
    for at in CronSim(text, _EPOCH - timedelta(seconds=1)):
        if at >= end:
            return
        yield at


def occurrences(text: str, zone: ZoneInfo, lasts: timedelta) -> Occurrences:
    """Make what knows when the freeze holds; the expression and the zone were read before.

    Where a change of the clocks brings two begins so near to each other that one comes before the other's end is
    over, they are one occurrence.
    """

    def occurrence(at: datetime) -> Occurrence | None:
        found: Occurrence | None = None
        # What begins later than that many hours ago has not ended; one or two begins are looked at.
        for local in islice(CronSim(text, (at - lasts).astimezone(zone)), _MOST):
            start = local.astimezone(UTC)
            if start > (at if found is None else found[1]):
                break
            if found is not None:
                found = (found[0], max(found[1], start + lasts))
            elif start + lasts > at:
                found = (start, start + lasts)
        return found

    return occurrence

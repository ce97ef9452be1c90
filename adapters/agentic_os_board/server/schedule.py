"""When a routine is due: a cron expression of five fields, read in a time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_FIELDS = 5
_FIRST_LOOK = timedelta(hours=1)
_WIDER = 8


class ScheduleInvalid(ValueError):
    """The schedule cannot be read, or never comes; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone, both readable.

    Over a change of the clocks it does as Debian's cron: a fixed time that the clocks skip comes right after the gap,
    one that they repeat comes once; an expression whose minute or hour begins with a star goes by the time that passes.
    """

    expression: str
    zone: ZoneInfo

    def after(self, instant: datetime) -> datetime:
        """Tell the first time after the instant, in UTC."""
        return next(self._times(instant))

    def next_times(self, instant: datetime, count: int) -> list[datetime]:
        """List the next times after the instant, in UTC."""
        return list(islice(self._times(instant), count))

    def latest(self, first: datetime, until: datetime, most: int) -> tuple[list[datetime], bool]:
        """List the newest times from `first` to `until`, oldest first; and whether there were more.

        `first` was a time when it was noted, and stays one if the rules of the zone have changed since. Bounded work,
        however long ago it was: this looks back a little, then further, until there is enough.
        """
        look = _FIRST_LOOK
        while True:
            start = max(first, until - look)
            times = [first] if start == first else []
            times += self._until(start, until)
            if len(times) > most or start == first:
                return times[-most:], len(times) > most
            look *= _WIDER

    def local(self, instant: datetime) -> datetime:
        """Tell the time on the clocks of the zone."""
        return instant.astimezone(self.zone)

    def _until(self, start: datetime, until: datetime) -> Iterator[datetime]:
        for at in self._times(start):
            if at > until:
                return
            yield at

    def _times(self, start: datetime) -> Iterator[datetime]:
        last = start
        for local in CronSim(self.expression, start.astimezone(self.zone)):
            at = local.astimezone(UTC)
            # In an hour that the clocks repeat, or right after one that they skip, the same instant may come again.
            if at > last:
                last = at
                yield at


def read_schedule(expression: str, zone: str) -> Schedule:
    """Read a schedule. Raises ScheduleInvalid."""
    try:
        found = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleInvalid(f"{zone!r} is no time zone; write one such as Europe/Berlin or UTC") from None
    if len(expression.split()) != _FIELDS:
        raise ScheduleInvalid(
            "a schedule has five fields: minute, hour, day of month, month, day of week;"
            " '0 7 * * MON-FRI' is seven o'clock on working days"
        )
    schedule = Schedule(" ".join(expression.split()), found)
    try:
        schedule.after(datetime(2000, 1, 1, tzinfo=UTC))
    # A generator turns the library's StopIteration into RuntimeError, or just ends.
    except (CronSimError, StopIteration, RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ScheduleInvalid(f"{expression!r} is no schedule: {str(error) or 'it never comes'}") from None
    return schedule

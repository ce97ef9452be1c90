"""Routines: issues that the board opens by a schedule, each time once, in the name of whoever wrote the routine."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from psycopg.errors import UniqueViolation
from pydantic import AfterValidator, Field, StringConstraints

from .accounts import Account, account_of, require_member
from .database import Connection, Database, Row
from .fields import Body, Labels, Line, Strict, Title, Word
from .issues import open_issue
from .problems import Contradiction, Forbidden, Missing, Unacceptable
from .schedule import Schedule, ScheduleInvalid, read_schedule

MOST_MISSED = 10
ON_TIME = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_REMEMBERED = timedelta(days=90)
_logger = logging.getLogger(__name__)


def _named(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _comes(expression: str) -> str:
    read_schedule(expression, "UTC")
    return expression


def _known(zone: str) -> str:
    read_schedule("0 0 * * *", zone)
    return zone


class Routine(Strict):
    """What a routine opens, and when.

    schedule: cron, five fields, read in `zone`. missed: what becomes of times at which the board did not run: none, the
    newest, or all, at most ten. hourly_limit: how many issues it may open within an hour before it is held.
    title: "{date}" stands for the day on which it was due, in the zone.
    """

    name: Annotated[Word, AfterValidator(_named)]
    schedule: Annotated[Line, StringConstraints(max_length=200), AfterValidator(_comes)]
    zone: Annotated[Line, StringConstraints(max_length=100), AfterValidator(_known)] = "UTC"
    missed: Literal["skip", "one", "all"] = "one"
    hourly_limit: Annotated[int, Field(ge=1, le=60)] = 10
    title: Title
    body: Body = ""
    project: Word = ""
    labels: Labels = Field(default_factory=list)
    priority: Literal["", "low", "medium", "high", "critical"] = ""

    def read(self) -> Schedule:
        """Read the schedule. Raises Unacceptable."""
        return _schedule(self.schedule, self.zone)


@dataclass(frozen=True, slots=True)
class _Due:
    """One time of a routine and what becomes of it."""

    at: datetime
    outcome: str
    detail: str = ""


async def add_routine(tx: Connection, actor: Account, routine: Routine, at: datetime) -> int:
    """Create a routine, active from now on. Raises Contradiction when the name is taken."""
    _require_person(actor)
    fields = routine.model_dump() | {"owner": actor.id, "next_due": routine.read().after(at)}
    cursor = await tx.execute(
        "insert into routines (name, owner, schedule, zone, missed, hourly_limit, title, body, project, labels,"
        " priority, next_due) values (%(name)s, %(owner)s, %(schedule)s, %(zone)s, %(missed)s, %(hourly_limit)s,"
        " %(title)s, %(body)s, %(project)s, %(labels)s, %(priority)s, %(next_due)s)"
        " on conflict (name) do nothing returning id",
        fields,
    )
    if (row := await cursor.fetchone()) is None:
        raise Contradiction(f"a routine named {routine.name!r} exists")
    return int(row["id"])


async def change_routine(tx: Connection, actor: Account, number: int, routine: Routine, at: datetime) -> None:
    """Replace a routine, which is then the actor's: nobody writes what is opened in the name of somebody else."""
    _require_person(actor)
    row = await find_routine(tx, number)
    due = routine.read().after(at) if row["state"] == "active" else None
    fields = routine.model_dump() | {"owner": actor.id, "next_due": due, "id": number}
    try:
        async with tx.transaction():
            await tx.execute(
                "update routines set name = %(name)s, owner = %(owner)s, schedule = %(schedule)s, zone = %(zone)s,"
                " missed = %(missed)s, hourly_limit = %(hourly_limit)s, title = %(title)s, body = %(body)s,"
                " project = %(project)s, labels = %(labels)s, priority = %(priority)s, next_due = %(next_due)s,"
                " updated_at = clock_timestamp() where id = %(id)s",
                fields,
            )
    except UniqueViolation:
        raise Contradiction(f"a routine named {routine.name!r} exists") from None


async def remove_routine(tx: Connection, actor: Account, number: int) -> None:
    """Delete a routine and what is remembered of it, as its owner or an administrator; its issues stay."""
    require_member(actor)
    row = await find_routine(tx, number)
    if not actor.admin and actor.id != row["owner"]:
        raise Forbidden("only a routine's owner or an administrator may delete it; anybody may pause it")
    await tx.execute("delete from routines where id = %s", (number,))


async def pause_routine(tx: Connection, actor: Account, number: int) -> None:
    """Stop opening issues; times that come while it is paused are not made up for."""
    _require_person(actor)
    await find_routine(tx, number)
    await _set_state(tx, number, "paused", f"paused by {actor.name}", None)


async def resume_routine(tx: Connection, actor: Account, number: int, at: datetime) -> None:
    """Go on with the next time from now, also after it was held."""
    _require_person(actor)
    row = await find_routine(tx, number)
    if row["state"] != "active":
        await _set_state(tx, number, "active", "", _schedule_of(row).after(at))


async def run_now(tx: Connection, actor: Account, number: int, at: datetime) -> int:
    """Open the routine's issue at once, whatever its state. Raises Contradiction at its limit."""
    _require_person(actor)
    row = await find_routine(tx, number)
    if await _opened_since(tx, number, at - _HOUR) >= row["hourly_limit"]:
        raise Contradiction(f"it has opened {row['hourly_limit']} issues within an hour, which is its limit")
    due = _Due(at, "opened", f"run by {actor.name}")
    if not await _note(tx, row, due, at, actor):
        raise Contradiction("the routine ran at this very moment")
    return await _open(tx, row, due)


async def find_routine(tx: Connection, number: int) -> Row:
    """Read one routine with its owner's name. Raises Missing."""
    cursor = await tx.execute(
        "select routines.*, accounts.name as owner_name from routines join accounts on accounts.id = owner"
        " where routines.id = %s",
        (number,),
    )
    if (row := await cursor.fetchone()) is None:
        raise Missing(f"there is no routine {number}")
    return row


async def list_routines(tx: Connection) -> Sequence[Row]:
    """List the routines by name, each with what became of its newest time."""
    cursor = await tx.execute(
        "select routines.*, accounts.name as owner_name, last.at as last_at, last.outcome as last_outcome,"
        " last.issue as last_issue from routines join accounts on accounts.id = owner left join lateral"
        " (select * from routine_times where routine = routines.id order by at desc, due desc limit 1) last on true"
        " order by routines.name"
    )
    return await cursor.fetchall()


async def list_times(tx: Connection, number: int, limit: int = 20) -> Sequence[Row]:
    """List what became of a routine's newest times."""
    cursor = await tx.execute(
        "select due, at, outcome, issue, detail from routine_times where routine = %s"
        " order by at desc, due desc limit %s",
        (number, limit),
    )
    return await cursor.fetchall()


def upcoming(row: Row, at: datetime, count: int = 5) -> list[datetime]:
    """Tell the next times of an active routine, in UTC; none of another."""
    if row["state"] != "active":
        return []
    following = _schedule_of(row).next_times(max(row["next_due"], at), count - 1)
    return [row["next_due"], *following]


async def act_on_due(database: Database, at: datetime) -> datetime | None:
    """Act on every routine that is due, one transaction for each; return when the next one is, None when none is."""
    while True:
        async with database.read() as tx:
            cursor = await tx.execute("select min(next_due) as earliest from routines")
            row = await cursor.fetchone()
        earliest = row["earliest"] if row else None
        if earliest is None or earliest > at:
            return earliest
        async with database.write() as tx:
            await _act_on_next(tx, at)


async def _act_on_next(tx: Connection, at: datetime) -> None:
    cursor = await tx.execute(
        "select routines.*, accounts.name as owner_name, deactivated_at is null and role <> 'viewer' as may_open"
        " from routines join accounts on accounts.id = owner where next_due <= %s"
        " order by next_due, routines.id limit 1 for update of routines",
        (at,),
    )
    if (row := await cursor.fetchone()) is None:
        return
    if not row["may_open"]:
        reason = (
            f"held: its owner {row['owner_name']} may open no issues any more; whoever changes it owns it"
        )
        await _set_state(tx, row["id"], "held", reason, None)
        return
    try:
        schedule = _schedule_of(row)
    except Unacceptable as error:
        # A zone may be gone from the machine's database since.
        await _set_state(tx, row["id"], "held", str(error), None)
        return
    await tx.execute("update routines set next_due = %s where id = %s", (schedule.after(at), row["id"]))
    await tx.execute(
        "delete from routine_times where routine = %s and at < %s", (row["id"], at - _REMEMBERED)
    )
    for due in _what_is_due(row, schedule, at):
        if not await _act(tx, row, due, at):
            return


def _what_is_due(row: Row, schedule: Schedule, at: datetime) -> list[_Due]:
    """Decide which of the times since the routine was last looked at are acted on, oldest first."""
    times, more = schedule.latest(row["next_due"], at, MOST_MISSED + 1)
    on_time = [time for time in times if at - time <= ON_TIME]
    late = [time for time in times if at - time > ON_TIME]
    taken = {"skip": 0, "one": 0 if on_time else 1, "all": MOST_MISSED}[row["missed"]]
    opened = late[len(late) - taken :] if taken < len(late) else late
    said = "it came due while the board did not run"
    dues = [_Due(time, "opened", said) for time in opened] + [_Due(time, "opened") for time in on_time]
    if (passed := late[: len(late) - len(opened)]) or more:
        since = row["next_due"].isoformat(timespec="minutes")
        newest = passed[-1] if passed else row["next_due"]
        dues.insert(0, _Due(newest, "missed", f"{said}; this one and those since {since} are let go"))
    return dues


async def _act(tx: Connection, row: Row, due: _Due, at: datetime) -> bool:
    """Act on one time; false when the routine was held instead."""
    if due.outcome == "opened" and await _opened_since(tx, row["id"], at - _HOUR) >= row["hourly_limit"]:
        reason = f"held: it would open more than {row['hourly_limit']} issues within an hour"
        await _note(tx, row, _Due(due.at, "held", reason), at, None)
        await _set_state(tx, row["id"], "held", reason, None)
        _logger.warning("routine %s is %s", row["name"], reason)
        return False
    if await _note(tx, row, due, at, None) and due.outcome == "opened":
        await _open(tx, row, due)
    return True


async def _note(tx: Connection, row: Row, due: _Due, at: datetime, asked_by: Account | None) -> bool:
    """Take a time; false when somebody took it before."""
    cursor = await tx.execute(
        "insert into routine_times (routine, due, at, outcome, asked_by, detail) values (%s, %s, %s, %s, %s, %s)"
        " on conflict do nothing returning routine",
        (row["id"], due.at, at, due.outcome, asked_by.id if asked_by else None, due.detail),
    )
    return await cursor.fetchone() is not None


async def _open(tx: Connection, row: Row, due: _Due) -> int:
    cursor = await tx.execute("select * from accounts where id = %s", (row["owner"],))
    owner = await cursor.fetchone()
    if owner is None or owner["deactivated_at"] is not None or owner["role"] == "viewer":
        raise Contradiction(f"its owner {row['owner_name']} may open no issues any more; change it to own it")
    day = _schedule_of(row).local(due.at).date().isoformat()
    draft: Mapping[str, Any] = {
        "title": row["title"].replace("{date}", day)[:300],
        "body": row["body"],
        "project": row["project"],
        "labels": list(dict.fromkeys([*row["labels"], *priority_label(row["priority"])])),
        "routine": row["name"],
    }
    issue = await open_issue(tx, account_of(owner), draft)
    await tx.execute(
        "update routine_times set issue = %s where routine = %s and due = %s", (issue, row["id"], due.at)
    )
    return issue


def priority_label(priority: str) -> list[str]:
    """Write a priority as the label by which it is known to the backend."""
    return [f"priority:{priority}"] if priority else []


async def _opened_since(tx: Connection, number: int, since: datetime) -> int:
    cursor = await tx.execute(
        "select count(*) as opened from routine_times where routine = %s and outcome = 'opened' and at > %s",
        (number, since),
    )
    row = await cursor.fetchone()
    return int(row["opened"]) if row else 0


async def _set_state(tx: Connection, number: int, state: str, reason: str, due: datetime | None) -> None:
    await tx.execute(
        "update routines set state = %s, reason = %s, next_due = %s, updated_at = clock_timestamp() where id = %s",
        (state, reason, due, number),
    )


def _schedule_of(row: Row) -> Schedule:
    return _schedule(row["schedule"], row["zone"])


def _schedule(expression: str, zone: str) -> Schedule:
    try:
        return read_schedule(expression, zone)
    except ScheduleInvalid as error:
        raise Unacceptable(str(error)) from None


def _require_person(actor: Account) -> None:
    require_member(actor)
    if actor.kind != "person":
        raise Forbidden("routines belong to people: their issues are opened in their name")

"""Appends, written together when they come together: one transaction and one commit for all that wait at once.

An append of one stream that takes nothing from an account can share its transaction with others. While one such
transaction is under way, those that arrive meanwhile gather for the next; alone, an append goes at once. Each has
an outcome of its own: what stops one stops no other, and an error of the whole makes each try by itself.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import psycopg

from agentic_os.application.ports import AccountExhausted, VersionConflict
from agentic_os.postgres.parts import Part
from agentic_os.postgres.pool import Connection, Pool

_ALL: Final = "select outcomes, answers from es.append_all(%s::json, %s::jsonb, %s)"
_LARGEST: Final = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """What es.append said, and the stored answer where it was a replay."""

    name: str
    answer: str | None


@dataclass(slots=True, eq=False)
class _Waiting:
    part: Part
    outcome: asyncio.Future[Outcome]


class Appender:
    """Appends over a pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[_Waiting] = []
        self._sending: asyncio.Task[None] | None = None

    async def append(self, parts: Sequence[Part]) -> Outcome:
        """Append all parts or none. Raises AccountExhausted, and VersionConflict where only a key noticed."""
        if len(parts) > 1 or _may_exhaust(parts[0]):
            async with self._pool.connection() as connection:
                return await append_together(connection, parts)
        waiting = _Waiting(parts[0], asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._sending is None:
            # Its first step comes after whoever else is ready in this turn of the loop, and takes them along.
            self._sending = asyncio.create_task(self._send())
        return await waiting.outcome

    async def _send(self) -> None:
        """Write what waits, group after group; the next one goes before those of the last hear of it."""
        try:
            while self._waiting:
                await self._send_group(self._next_group())
        finally:
            self._sending = None

    def _next_group(self) -> list[_Waiting]:
        """Take those that wait the longest, one of each stream: two of one stream would be at odds.

        They go in the order of their streams, so that two groups wait for each other in one direction only, also
        where the advisory locks do nothing and the keys are all that guards.
        """
        group: dict[str, _Waiting] = {}
        later = []
        for waiting in self._waiting:
            if len(group) < _LARGEST and waiting.part["stream"] not in group:
                group[waiting.part["stream"]] = waiting
            else:
                later.append(waiting)
        self._waiting = later
        return [group[stream] for stream in sorted(group)]

    async def _send_group(self, group: Sequence[_Waiting]) -> None:
        try:
            async with self._pool.connection() as connection:
                outcomes = await _call(connection, [w.part for w in group], together=False)
        except (VersionConflict, psycopg.Error) as problem:
            if len(group) == 1:
                _settle(group[0], problem)
                return
            for waiting in group:
                await self._send_group([waiting])
        except BaseException as problem:
            for waiting in group:
                _settle(waiting, problem)
            if not isinstance(problem, Exception):
                raise
        else:
            for waiting, outcome in zip(group, outcomes, strict=True):
                _settle(waiting, outcome)


def _may_exhaust(part: Part) -> bool:
    """Tell whether an account may refuse it; what only gives back is never refused."""
    movements = part.get("more", {}).get("movements", ())
    return any(m["limit"] is not None or m["reserved"] > 0 or m["spent"] > 0 for m in movements)


def _settle(waiting: _Waiting, result: Outcome | BaseException) -> None:
    if waiting.outcome.done():  # whoever asked was cancelled meanwhile
        return
    if isinstance(result, Outcome):
        waiting.outcome.set_result(result)
    else:
        waiting.outcome.set_exception(result)


async def append_together(connection: Connection, parts: Sequence[Part]) -> Outcome:
    """Append all parts or none, on a connection that may be in a transaction. Raises as Appender.append."""
    try:
        return (await _call(connection, parts, together=True))[0]
    except psycopg.Error as problem:
        match problem.sqlstate:
            case "AO402":
                raise AccountExhausted(problem.diag.message_primary or "") from problem
            case "AO409":
                return Outcome(problem.diag.message_primary or "", None)
            case _:
                raise


async def _call(connection: Connection, parts: Sequence[Part], *, together: bool) -> list[Outcome]:
    streams = orjson.dumps(sorted(part["stream"] for part in parts)).decode()
    values = (streams, orjson.dumps(parts).decode(), together)
    try:
        row = await (await connection.execute(_ALL, values, prepare=True)).fetchone()
    except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected) as problem:
        # Either way somebody else writes there, and nothing of this was stored: look again, then decide again.
        raise VersionConflict from problem
    assert row is not None
    return [Outcome(name, answer) for name, answer in zip(row[0], row[1], strict=True)]

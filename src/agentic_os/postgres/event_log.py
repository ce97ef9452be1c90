"""The event log: load a task in one statement, append a batch in one call, read everything in order."""

import re
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from agentic_os.application.ports import (
    Appended,
    Batch,
    CredentialRevoked,
    Loaded,
    Moment,
    Progress,
    Receipt,
    ReceiptMismatch,
    Recorded,
    VersionConflict,
)
from agentic_os.domain.evolution import evolve
from agentic_os.domain.task import FOLD_VERSION, Task
from agentic_os.postgres import codec
from agentic_os.postgres.appender import Appender
from agentic_os.postgres.parts import parts_of
from agentic_os.postgres.pool import Pool

_LOAD: Final = """
select t.version, t.fold_version, t.state, p.attempt, p.generation, p.seq, p.message, p.at, r.fingerprint, r.answer
from (select %s::text as task_id) asked
left join es.task t on t.task_id = asked.task_id
left join es.progress p on p.task_id = asked.task_id
left join es.receipt r on r.principal = %s and r.route = %s and r.key = %s
"""
_STREAM: Final = """
select e.version, e.payload, e.hash from es.event e
where e.stream_id = %s and e.version > %s order by e.version limit %s
"""
_ALL: Final = """
select e.txid::text, e.position, e.stream_id, e.version, e.payload, e.hash from es.event e
where (e.txid, e.position) > (%s::xid8, %s) and e.txid < pg_snapshot_xmin(pg_current_snapshot())
order by e.txid, e.position limit %s
"""
_CURSOR: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,19})\.([0-9]{1,18})")
_CACHED: Final = 4096
_PAGE: Final = 1000


class CursorInvalid(Exception):
    """The cursor is not one of ours, or the store was restored since it was given out."""


class PostgresEventLog:
    """The event log over a pool of connections in autocommit, as the role that owns nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._appender = Appender(pool)
        # Decoding a task costs as much as deciding on it; a row is decoded again only when its version moved.
        self._decoded: dict[str, Task] = {}
        self._epoch: int | None = None

    async def load(self, task_id: str, receipt: Receipt | None = None) -> Loaded:
        """Read the task, its latest progress and the request's receipt in one statement."""
        key = (receipt.principal, receipt.route, receipt.key) if receipt else ("", "", "")
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_LOAD, (task_id, *key), prepare=True)
            row = await cursor.fetchone()
        assert row is not None
        version, fold_version, state, attempt, generation, seq, message, at, fingerprint, answer = row
        progress = None
        if attempt is not None:
            progress = Progress(attempt=attempt, generation=generation, seq=seq, message=message, at=at)
        if version is None or fold_version != FOLD_VERSION:
            task = await self.refold(task_id)
        else:
            task = self._decode(task_id, version, state)
        return Loaded(task=task, progress=progress, fingerprint=fingerprint, answer=answer)

    def recall(self, task_id: str) -> Loaded | None:
        """Give the task as it was last loaded or appended here."""
        task = self._decoded.get(task_id)
        return None if task is None else Loaded(task=task)

    def _decode(self, task_id: str, version: int, state: str) -> Task:
        cached = self._decoded.get(task_id)
        if cached is not None and cached.version == version:
            return cached
        return self._keep(codec.decode_task(state))

    def _keep(self, task: Task) -> Task:
        if len(self._decoded) >= _CACHED:
            self._decoded.pop(next(iter(self._decoded)))
        self._decoded[task.id] = task
        return task

    async def refold(self, task_id: str) -> Task | None:
        """Fold a task from its events alone."""
        task: Task | None = None
        after = 0
        while True:
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_STREAM, (task_id, after, _PAGE))).fetchall()
            for version, payload, _ in rows:
                task = evolve(task, codec.decode_payload(payload))  # type: ignore[arg-type]
                after = version
            if len(rows) < _PAGE:
                return task

    async def append(self, batch: Batch) -> Appended:
        """Write the batch in one call. Raises as the port says."""
        event_ids, answer, parts = parts_of(batch)
        outcome = await self._appender.append(parts)
        match outcome.name:
            case "appended":
                for change in batch.changes:
                    self._keep(change.after)
                return Appended(answer=answer, replayed=False, event_ids=event_ids)
            case "replayed":
                return Appended(answer=outcome.answer or "", replayed=True)
            case "mismatch":
                raise ReceiptMismatch
            case "credential":
                raise CredentialRevoked
            case _:
                raise VersionConflict

    async def read_stream(self, stream: str, after: int = 0, limit: int = 500) -> Sequence[Recorded]:
        """Read a stream in the order of its versions."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_STREAM, (stream, after, limit))).fetchall()
        return [codec.recorded(stream, version, payload, digest) for version, payload, digest in rows]

    async def replay(self, task_id: str, until: int | None = None) -> AsyncGenerator[Moment, None]:
        """Fold a task from its events, a page at a time; no connection is held while the reader works."""
        task: Task | None = None
        after, wanted = 0, until if until is not None else sys.maxsize
        while after < wanted:
            page = min(_PAGE, wanted - after)
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_STREAM, (task_id, after, page))).fetchall()
            for version, payload, digest in rows:
                task = evolve(task, codec.decode_payload(payload))  # type: ignore[arg-type]
                yield Moment(event=codec.recorded(task_id, version, payload, digest), task=task)
                after = version
            if len(rows) < page:
                return

    async def read_all(self, cursor: str, limit: int = 1000) -> tuple[Sequence[Recorded], str]:
        """Read every stream below the fence: what is still being written is left for the next call."""
        txid, position = await self._position(cursor)
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_ALL, (txid, position, limit))).fetchall()
        if rows:
            txid, position = rows[-1][0], rows[-1][1]
        events = [
            codec.recorded(stream, version, payload, digest)
            for _, _, stream, version, payload, digest in rows
        ]
        return events, f"{self._epoch}.{txid}.{position}"

    async def _position(self, cursor: str) -> tuple[str, int]:
        if self._epoch is None:
            async with self._pool.connection() as connection:
                row = await (await connection.execute("select epoch from es.epoch")).fetchone()
            self._epoch = row[0] if row else 0
        if not cursor:
            return "0", 0
        parts = _CURSOR.fullmatch(cursor)
        if parts is None:
            raise CursorInvalid(f"{cursor!r} is not a cursor")
        if int(parts[1]) != self._epoch:
            raise CursorInvalid("the store was restored since this cursor was given out: begin again")
        return parts[2], int(parts[3])

"""The event log: load a task in one statement, append a batch in one call of es.append, read everything in order."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import psycopg

from agentic_os.application.ports import (
    AccountExhausted,
    Appended,
    Batch,
    CredentialRevoked,
    Loaded,
    Progress,
    Receipt,
    ReceiptMismatch,
    Recorded,
    RegistryChange,
    SeqGuard,
    TaskChange,
    VersionConflict,
)
from agentic_os.clock import new_id
from agentic_os.domain.events import BY_SYSTEM, QUIET, CallbackQuarantined, ResultSubmitted
from agentic_os.domain.task import FOLD_VERSION, Task, evolve
from agentic_os.domain.waiting import deadlines
from agentic_os.postgres import codec
from agentic_os.postgres.pool import Connection, Pool

_LOAD: Final = """
select t.version, t.fold_version, t.state, p.attempt, p.generation, p.seq, p.message, p.at, r.fingerprint, r.answer
from (select %s::text as task_id) asked
left join es.task t on t.task_id = asked.task_id
left join es.progress p on p.task_id = asked.task_id
left join es.receipt r on r.principal = %s and r.route = %s and r.key = %s
"""
_APPEND: Final = "select outcome, answer from es.append(%s::jsonb)"
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
_TASK_STREAM: Final = "task"
_CACHED: Final = 4096
_PAGE: Final = 1000


class CursorInvalid(Exception):
    """The cursor is not one of ours, or the store was restored since it was given out."""


class PostgresEventLog:
    """The event log over a pool of connections in autocommit, as the role that owns nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
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
        event_ids, argument = batch_argument(batch)
        async with self._pool.connection() as connection:
            outcome, answer = await call_append(connection, argument)
        match outcome:
            case "appended":
                for change in batch.changes:
                    self._keep(change.after)
                return Appended(answer=answer_of(batch, event_ids), replayed=False, event_ids=event_ids)
            case "replayed":
                return Appended(answer=answer or "", replayed=True)
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


async def call_append(connection: Connection, argument: str) -> tuple[str, str | None]:
    """Call es.append. Raises AccountExhausted, and VersionConflict where only the primary key noticed."""
    try:
        row = await (await connection.execute(_APPEND, (argument,), prepare=True)).fetchone()
    except psycopg.errors.UniqueViolation as problem:
        raise VersionConflict from problem
    except psycopg.Error as problem:
        if problem.sqlstate == "AO402":
            raise AccountExhausted(problem.diag.message_primary or "") from problem
        raise
    assert row is not None
    return row[0], row[1]


def answer_of(batch: Batch, event_ids: Sequence[str]) -> str:
    """Build the answer that goes with the receipt."""
    return batch.answer(event_ids) if batch.answer else ""


def batch_argument(batch: Batch) -> tuple[list[str], str]:
    """Write a batch as the argument of es.append, and give the ids that its events got."""
    event_ids: list[str] = []
    by_system = replace(batch.envelope, actor="system")

    def written(events: Sequence[codec.AnyEvent]) -> list[dict[str, str]]:
        found = []
        for event in events:
            event_id = new_id()
            event_ids.append(str(event_id))
            envelope = by_system if type(event) in BY_SYSTEM else batch.envelope
            payload = codec.encode_event(event, event_id, envelope)
            found.append({"id": str(event_id), "type": event.type, "payload": payload})
        return found

    document: dict[str, Any] = {
        "streams": [
            *(_task_stream(change, written(change.events), batch) for change in batch.changes),
            *(_registry_stream(change, written(change.events)) for change in batch.registry),
        ]
    }
    moved = [c for c in batch.changes if c.events]
    optional = {
        "stale": [*batch.stale, *(c.after.id for c in moved if {*map(type, c.events)} - QUIET)],
        "deadlines": _deadlines(moved),
        "seq_guard": _seq_guard(batch.seq_guard) if batch.seq_guard else None,
        "movements": [_movement(m) for m in batch.movements],
        "receipt": _receipt(batch.receipt, answer_of(batch, event_ids)) if batch.receipt else None,
        "credential": batch.credential.hex() if batch.credential else None,
        "clears": list(batch.clears),
        "rows": _rows(batch),
    }
    document.update({name: value for name, value in optional.items() if value})
    return event_ids, orjson.dumps(document).decode()


def _task_stream(change: TaskChange, events: list[dict[str, str]], batch: Batch) -> dict[str, Any]:
    stream: dict[str, Any] = {
        "id": change.after.id,
        "kind": _TASK_STREAM,
        "expected": change.before.version if change.before else 0,
        "events": events,
    }
    if events:
        stream["task"] = task_row(change.after, batch.envelope.at.isoformat())
    return stream


def _registry_stream(change: RegistryChange, events: list[dict[str, str]]) -> dict[str, Any]:
    kind = change.stream.partition(":")[0]
    return {"id": change.stream, "kind": kind, "expected": change.expected, "events": events}


def task_row(task: Task, updated_at: str) -> dict[str, Any]:
    """Describe the read-model row of a task."""
    attempt = task.attempt
    return {
        "task_id": task.id,
        "version": task.version,
        "fold_version": FOLD_VERSION,
        "phase": task.phase,
        "project": task.project,
        "title": task.title,
        "executor": attempt.executor if attempt and attempt.is_open else None,
        "priority": task.priority,
        "state": codec.encode_task(task),
        "created_at": task.created_at.isoformat(),
        "updated_at": updated_at,
    }


def deadline_rows(task: Task) -> list[dict[str, str]]:
    """Describe the deadlines of a task."""
    return [
        {"task_id": task.id, "kind": d.kind, "ref": d.ref, "at": d.at.isoformat()} for d in deadlines(task)
    ]


def _deadlines(changes: Sequence[TaskChange]) -> dict[str, list[dict[str, str]]] | None:
    """Say which deadlines come or move, and which go; most changes move one."""
    put: list[dict[str, str]] = []
    drop: list[dict[str, str]] = []
    for change in changes:
        before = deadline_rows(change.before) if change.before else []
        after = deadline_rows(change.after)
        put += [row for row in after if row not in before]
        kept = {(row["kind"], row["ref"]) for row in after}
        drop += [row for row in before if (row["kind"], row["ref"]) not in kept]
    return {"put": put, "drop": drop} if put or drop else None


def _seq_guard(guard: SeqGuard) -> dict[str, Any]:
    return {
        "task_id": guard.task_id,
        "attempt": guard.attempt,
        "generation": guard.generation,
        "seq": guard.seq,
    }


def _rows(batch: Batch) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    events = [(change.after.id, event) for change in batch.changes for event in change.events]
    found = [row for t, e in events if isinstance(e, ResultSubmitted) for row in artifact_rows(t, e)]
    late = [quarantine_row(t, e) for t, e in events if isinstance(e, CallbackQuarantined)]
    if found:
        rows["artifact"] = found
    if late:
        rows["quarantine"] = late
    if batch.progress and batch.changes:
        p = batch.progress
        task_id = batch.changes[0].after.id
        rows["progress"] = [
            {
                "task_id": task_id,
                "attempt": p.attempt,
                "generation": p.generation,
                "seq": p.seq,
                "message": p.message,
                "at": p.at.isoformat(),
            }
        ]
    return rows


def artifact_rows(task_id: str, event: ResultSubmitted) -> list[dict[str, Any]]:
    """Describe the artifacts that came with a result."""
    return [
        {
            "task_id": task_id,
            "name": a.name,
            "version": a.version,
            "digest": a.digest,
            "size": a.size,
            "media_type": a.media_type,
            "attempt": event.attempt,
            "criterion_id": a.criterion_id,
            "step_id": a.step_id,
        }
        for a in event.artifacts
    ]


def quarantine_row(task_id: str, event: CallbackQuarantined) -> dict[str, Any]:
    """Describe what was kept aside."""
    return {
        "id": event.quarantine_id,
        "task_id": task_id,
        "attempt": event.attempt,
        "kind": event.kind,
        "reason": event.reason,
        "at": event.at.isoformat(),
    }


def _movement(movement: Any) -> dict[str, Any]:
    return {
        "account": movement.account,
        "spent": movement.spent,
        "reserved": movement.reserved,
        "limit": movement.limit,
    }


def _receipt(receipt: Receipt, answer: str) -> dict[str, str]:
    return {
        "principal": receipt.principal,
        "route": receipt.route,
        "key": receipt.key,
        "fingerprint": receipt.fingerprint.hex(),
        "answer": answer,
    }

"""A batch as what es.append takes: one part for each stream, the first with all that belongs to the batch."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias

from agentic_os.application.ports import (
    Batch,
    Envelope,
    Movement,
    Progress,
    Receipt,
    RegistryChange,
    TaskChange,
)
from agentic_os.clock import new_id
from agentic_os.domain.events import BY_SYSTEM, QUIET, CallbackQuarantined, QuarantineAdopted, ResultSubmitted
from agentic_os.domain.task import FOLD_VERSION, Task
from agentic_os.domain.waiting import deadlines
from agentic_os.postgres import codec

Part: TypeAlias = dict[str, Any]
"""The parameters of es.append by name, as orjson writes them; what is left out is null."""

_TASK_STREAM: Final = "task"


def parts_of(batch: Batch) -> tuple[list[str], str, list[Part]]:
    """Write a batch as parts; give the ids that its events got, the answer that goes with its receipt, the parts."""
    event_ids: list[str] = []

    def stream(name: str, kind: str, expected: int, events: Sequence[codec.AnyEvent]) -> Part:
        ids = [str(new_id()) for _ in events]
        event_ids.extend(ids)
        return {
            "stream": name,
            "kind": kind,
            "expected": expected,
            "event_ids": ids,
            "types": [event.type for event in events],
            "payloads": [
                codec.encode_event(event, event_id, _envelope_of(event, batch))
                for event, event_id in zip(events, ids, strict=True)
            ],
        }

    parts = [
        stream(c.after.id, _TASK_STREAM, c.before.version if c.before else 0, c.events) for c in batch.changes
    ]
    for part, change in zip(parts, batch.changes, strict=True):
        if change.events:
            part.update(task_columns(change.after, batch.envelope.at))
            part["stale"] = not batch.marked and not QUIET.issuperset(map(type, change.events))
    parts += [stream(c.stream, _kind(c), c.expected, c.events) for c in batch.registry]
    _add_deadlines(parts, batch.changes)
    answer = batch.answer(event_ids) if batch.answer else ""
    _add_conditions(parts[0], batch, answer)
    _add_more(parts[0], batch)
    return event_ids, answer, parts


def _envelope_of(event: codec.AnyEvent, batch: Batch) -> Envelope:
    return replace(batch.envelope, actor="system") if type(event) in BY_SYSTEM else batch.envelope


def _kind(change: RegistryChange) -> str:
    return change.stream.partition(":")[0]


def task_columns(task: Task, updated_at: datetime | str) -> Part:
    """Describe the read-model row of a task, but for its id and version."""
    attempt = task.attempt
    return {
        "fold_version": FOLD_VERSION,
        "phase": task.phase,
        "project": task.project,
        "title": task.title,
        "executor": attempt.executor if attempt and attempt.is_open else None,
        "priority": task.priority,
        "state": codec.encode_task(task),
        "created_at": task.created_at,
        "updated_at": updated_at,
    }


def deadline_rows(task: Task) -> list[dict[str, Any]]:
    """Describe the deadlines of a task."""
    return [{"task_id": task.id, "kind": d.kind, "ref": d.ref, "at": d.at} for d in deadlines(task)]


def _add_deadlines(parts: Sequence[Part], changes: Sequence[TaskChange]) -> None:
    """Say which deadlines come or move, and which go; most changes move one."""
    for part, change in zip(parts, changes, strict=False):
        before = deadlines(change.before) if change.before else ()
        after = deadlines(change.after)
        if before == after:
            continue
        put = [d for d in after if d not in before]
        kept = {(d.kind, d.ref) for d in after}
        drop = [d for d in before if (d.kind, d.ref) not in kept]
        if put:
            last = put.pop()
            part.update(due_kind=last.kind, due_ref=last.ref, due_at=last.at)
        if put or drop:
            task_id = change.after.id
            part["more"] = {
                "deadlines": {
                    "put": [{"task_id": task_id, "kind": d.kind, "ref": d.ref, "at": d.at} for d in put],
                    "drop": [{"task_id": task_id, "kind": d.kind, "ref": d.ref} for d in drop],
                }
            }


def _add_conditions(part: Part, batch: Batch, answer: str) -> None:
    if batch.receipt is not None:
        part.update(_receipt(batch.receipt, answer))
    if batch.credential is not None:
        part["credential"] = _bytea(batch.credential)
    if batch.seq_guard is not None:
        guard = batch.seq_guard
        part.update(attempt=guard.attempt, generation=guard.generation, seq=guard.seq)


def _receipt(receipt: Receipt, answer: str) -> Part:
    return {
        "principal": receipt.principal,
        "route": receipt.route,
        "key": receipt.key,
        "fingerprint": _bytea(receipt.fingerprint),
        "answer": answer,
    }


def _bytea(value: bytes) -> str:
    return "\\x" + value.hex()


def _add_more(part: Part, batch: Batch) -> None:
    more = {
        "movements": [_movement(m) for m in batch.movements],
        "stale": list(batch.stale),
        "clears": list(batch.clears),
        "adopted": [
            e.quarantine_id for c in batch.changes for e in c.events if isinstance(e, QuarantineAdopted)
        ],
        "rows": _rows(batch),
    }
    present = {name: value for name, value in more.items() if value}
    if present:
        part["more"] = {**part.get("more", {}), **present}


def _rows(batch: Batch) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for change in batch.changes:
        for event in change.events:
            if isinstance(event, ResultSubmitted):
                rows.setdefault("artifact", []).extend(artifact_rows(change.after.id, event))
            elif isinstance(event, CallbackQuarantined):
                rows.setdefault("quarantine", []).append(quarantine_row(change.after.id, event))
    if batch.progress and batch.changes:
        rows["progress"] = [_progress_row(batch.changes[0].after.id, batch.progress)]
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
        "at": event.at,
    }


def _progress_row(task_id: str, progress: Progress) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "attempt": progress.attempt,
        "generation": progress.generation,
        "seq": progress.seq,
        "message": progress.message,
        "at": progress.at,
    }


def _movement(movement: Movement) -> dict[str, Any]:
    return {
        "account": movement.account,
        "spent": movement.spent,
        "reserved": movement.reserved,
        "limit": movement.limit,
    }

"""What must not grow with the work: the cost of a long history, of many deadlines at once, of a full callback."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from agentic_os.application.attempt_tokens import AttemptTokens
from agentic_os.application.backend import Backend
from agentic_os.application.handle import change_of
from agentic_os.application.ports import Batch, Envelope, TaskChange
from agentic_os.application.verdicts import admission
from agentic_os.bench.callbacks import begun, executor
from agentic_os.bench.rows import Row, median
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.clock import new_id, now
from agentic_os.domain import commands as c
from agentic_os.domain.task import Task
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases
from agentic_os.worker import Worker

_SHORT, _LONG = 10, 10_000
_BATCH: Final = 250
_FULL: Final = 200


async def growth(databases: Databases, folder: Path, samples: int, deadlines: int) -> list[Row]:
    """Compare the long with the short, taking turns; drain the deadlines with two workers of two servers."""
    key = random.randbytes(32)
    parts = Parts(
        dsn=databases.app,
        server_key=key,
        artifacts=folder / "artifacts",
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://bench",
    )
    async with open_backend(parts) as backend, open_backend(parts) as other:
        name, credential = await executor(backend)
        short, long = [await _task_of(backend, name, credential, n) for n in (_SHORT, _LONG)]
        lean, full = await _callbacks(backend, AttemptTokens(key), name, credential, samples)
        rows = [
            await _loading(backend, short, long, samples),
            Row(
                name=f"callback with {_FULL} tool events, beside one with one",
                value=full,
                limit=lean,
                unit="ms",
                target=3,
                at_most=True,
            ),
        ]
        tasks = [await _overdue(backend, name) for _ in range(deadlines // _BATCH)]
        began = time.perf_counter()
        await asyncio.gather(*(Worker(each).drain_deadlines() for each in (backend, other)))
        took = time.perf_counter() - began
        await _require_each_fired_once(backend, [task_id for batch in tasks for task_id in batch])
        rows.append(
            Row(
                name=f"{deadlines} deadlines at once, two workers",
                value=took,
                unit="s",
                target=20 * deadlines / 10_000,
                at_most=True,
            )
        )
    return rows


async def _alternating(samples: int, *measured: Callable[[], Awaitable[object]]) -> list[float]:
    """Time each in turn, again and again; give the medians, in milliseconds."""
    times: list[list[float]] = [[] for _ in measured]
    for _ in range(samples):
        for index, call in enumerate(measured):
            began = time.perf_counter()
            await call()
            times[index].append((time.perf_counter() - began) * 1000)
    return [median(each) for each in times]


async def _loading(backend: Backend, short: str, long: str, samples: int) -> Row:
    async def load(task_id: str) -> None:
        backend.log._decoded.clear()  # type: ignore[attr-defined]  # noqa: SLF001 - as a server that never saw it
        await backend.log.load(task_id)

    limit, value = await _alternating(samples, lambda: load(short), lambda: load(long))
    name = f"loading a task of {_LONG} events, beside one of {_SHORT}"
    return Row(name=name, value=value, limit=limit, unit="ms", target=2, at_most=True)


async def _task_of(backend: Backend, name: str, credential: str, events: int) -> str:
    """Have a task with so many events, most of them heartbeats."""
    task_id = await begun(backend, name, credential)
    task = (await backend.log.load(task_id)).task
    while task is not None and task.version < events:
        change = change_of(task, [_heartbeat(task, n) for n in range(min(_BATCH, events - task.version))])
        await backend.log.append(Batch(envelope=Envelope(actor=name, at=now()), changes=[change]))
        task = change.after
    return task_id


def _heartbeat(task: Task, number: int) -> c.Heartbeat:
    assert task.attempt is not None
    return c.Heartbeat(
        executor=task.attempt.executor,
        attempt=1,
        seq=task.attempt.seq + number + 1,
        callback_id=str(new_id()),
        at=now(),
        generation=task.attempt.generation,
        last_seq=0,
        note=None,
    )


async def _callbacks(
    backend: Backend, tokens: AttemptTokens, name: str, credential: str, samples: int
) -> list[float]:
    task_id = await begun(backend, name, credential)
    token, seq = tokens.mint(task_id, 1, 1), 1

    async def send(count: int) -> None:
        nonlocal seq
        seq += 1
        event = {"tool": "pytest", "via": "shell", "outcome": "ok", "duration_ms": 5200}
        document = {
            "contract": "aos.execution/1",
            "callback_id": str(new_id()),
            "task_id": task_id,
            "attempt": 1,
            "seq": seq,
            "kind": "tool_event",
            "occurred_at": "2026-01-01T00:00:00Z",
            "body": {"events": [event] * count},
        }
        await backend.callbacks.accept(json.dumps(document).encode(), token)

    return await _alternating(samples, lambda: send(1), lambda: send(_FULL))


async def _overdue(backend: Backend, name: str) -> list[str]:
    """Have a batch of tasks, each with an offer that nobody took in time."""
    changes = [_offered_long_ago(backend, name) for _ in range(_BATCH)]
    await backend.log.append(Batch(envelope=Envelope(actor="bench", at=now()), changes=changes))
    return [change.after.id for change in changes]


def _offered_long_ago(backend: Backend, name: str) -> TaskChange:
    created = c.CreateTask(
        task_id=str(new_id()), title="bench", goal="bench", project="default", requester="bench", at=now()
    )
    new = change_of(None, [created])
    offer = c.OfferAttempt(
        attempt=1,
        executor=name,
        brief={},
        brief_digest="",
        verdict=backend.policy().decide("dispatch", {}),
        facts_digest="",
        ack_deadline=now() - timedelta(minutes=1),
        lease_seconds=60,
    )
    return change_of(None, [created, admission(new.after, backend.policy()), offer])


async def _require_each_fired_once(backend: Backend, tasks: list[str]) -> None:
    for task_id in tasks:
        fired = [e for e in await backend.log.read_stream(task_id) if e.type == "attempt.expired"]
        if len(fired) != 1:
            raise RuntimeError(f"a deadline fired {len(fired)} times")

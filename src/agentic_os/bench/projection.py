"""How many tasks two workers show on a tracker that takes its time."""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg

from agentic_os.application.handle import change_of
from agentic_os.application.ports import Batch, Envelope
from agentic_os.bench.rows import Row, median
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.clock import new_id, now
from agentic_os.control_plane.memory import MemoryControlPlane, MemoryTracker
from agentic_os.domain.commands import CreateTask
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases
from agentic_os.worker import Worker

LATENCY: Final = 0.05
_WORKERS: Final = 2


async def projection(databases: Databases, folder: Path, tasks: int, repeats: int) -> list[Row]:
    """Measure two workers, each with a backend of its own, over tasks that have no issue yet."""
    rates = [await _rate(databases, folder, tasks) for _ in range(repeats)]
    return [
        Row(
            name="tasks shown by two workers, tracker at 50 ms",
            value=median(rates),
            unit="tasks/s",
            target=200,
            at_most=False,
        )
    ]


async def _rate(databases: Databases, folder: Path, tasks: int) -> float:
    tracker = MemoryTracker(latency=LATENCY)
    with psycopg.connect(databases.owner, autocommit=True) as connection:
        connection.execute("delete from es.issue")  # of another tracker in memory, which is gone
        connection.execute("delete from es.stale")
    async with AsyncExitStack() as stack:
        parts = Parts(
            dsn=databases.app,
            server_key=random.randbytes(32),
            artifacts=folder / "artifacts",
            policy=load_governance(None).policy,
            skills=load_definition(None),
            public_url="http://bench",
            control_plane=MemoryControlPlane(tracker),
        )
        backends = [await stack.enter_async_context(open_backend(parts)) for _ in range(_WORKERS)]
        for _ in range(tasks):
            at = now()
            task_id = str(new_id())
            command = CreateTask(
                task_id=task_id, title="bench", goal="bench", project="default", requester="bench", at=at
            )
            change = change_of(None, [command])
            await backends[0].log.append(Batch(envelope=Envelope(actor="bench", at=at), changes=[change]))
        workers = [Worker(backend, resync=timedelta(seconds=60)) for backend in backends]
        began = time.perf_counter()
        await asyncio.gather(*(worker.drain_stale() for worker in workers))
        taken = time.perf_counter() - began
    shown = sum(
        any("note status" in comment.body for comment in issue.comments.values())
        for issue in tracker.issues.values()
    )
    if shown != tasks:
        msg = f"{shown} of {tasks} tasks were shown"
        raise RuntimeError(msg)
    return tasks / taken

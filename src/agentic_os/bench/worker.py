"""The worker's figures: how soon after a commit the tracker hears of it, and what waiting costs."""

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from agentic_os.application.backend import Backend
from agentic_os.application.ports import Principal
from agentic_os.application.tasks import create_task
from agentic_os.bench.rows import Row, percentile
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.clock import new_id, now
from agentic_os.control_plane.memory import MemoryControlPlane
from agentic_os.domain.commands import CreateTask
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases
from agentic_os.postgres.pool import Pool
from agentic_os.worker import Worker


class _Timed(MemoryControlPlane):
    """A tracker that notes when it is first asked about anything."""

    def __init__(self) -> None:
        super().__init__()
        self.called = asyncio.Event()
        self.at = 0.0

    async def ensure_issue(self, draft: Any) -> str:
        self._note()
        return await super().ensure_issue(draft)

    async def observe(self, keys: Sequence[str]) -> Any:
        self._note()
        return await super().observe(keys)

    def _note(self) -> None:
        if not self.called.is_set():
            self.at = time.perf_counter()
            self.called.set()


async def worker(databases: Databases, folder: Path, samples: int) -> list[Row]:
    """Measure an idle worker with a tracker in memory."""
    plane = _Timed()
    parts = Parts(
        dsn=databases.app,
        server_key=random.randbytes(32),
        artifacts=folder / "artifacts",
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://bench",
        control_plane=plane,
    )
    async with open_backend(parts) as backend:
        secret = hashlib.sha256(random.randbytes(32)).digest()
        name = f"bench-{secret.hex()[:8]}"
        await backend.registry.add(Principal(id=name, name=name, kind="executor", roles=("b",)), secret, None)
        working = asyncio.create_task(Worker(backend, resync=timedelta(seconds=1)).run())
        delays = [await _delay(backend, plane) for _ in range(samples)]
        await asyncio.sleep(1.5)
        queries = await _queries_a_look(backend.work._pool)  # type: ignore[attr-defined]  # noqa: SLF001 - to count
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    return [
        Row(
            name="commit to the tracker's first call, p50",
            value=percentile(delays, 0.5),
            unit="ms",
            target=20,
            at_most=True,
        ),
        Row(
            name="commit to the tracker's first call, p99",
            value=percentile(delays, 0.99),
            unit="ms",
            target=200,
            at_most=True,
        ),
        Row(
            name="queries of an idle worker, each look (one a minute)",
            value=queries,
            unit="1",
            target=1,
            at_most=True,
        ),
    ]


async def _delay(backend: Backend, plane: _Timed) -> float:
    plane.called.clear()
    command = CreateTask(
        task_id=str(new_id()), title="bench", goal="bench", project="default", requester="bench", at=now()
    )
    committed = 0.0

    def note(task: Any) -> None:
        nonlocal committed
        committed = time.perf_counter()
        backend.signals.committed(task)

    await create_task(backend.log, command, backend.policy(), receipt=None, committed=note)
    await plane.called.wait()
    delay = (plane.at - committed) * 1000
    await asyncio.sleep(0.02)  # let the pass end, so that the next one starts from rest
    return delay


async def _queries_a_look(pool: Pool, looks: int = 5) -> float:
    """Count what the worker asks of the database while nothing happens, with a look each second."""
    before = pool.lent
    await asyncio.sleep(looks)
    return (pool.lent - before) / looks

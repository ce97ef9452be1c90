"""What an upload costs the server: the most memory that it holds while 100 MB go through, above what it held idle."""

import asyncio
import hashlib
import random
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from agentic_os.application.attempt_tokens import AttemptTokens
from agentic_os.bench.callbacks import begun, executor
from agentic_os.bench.process import served
from agentic_os.bench.rows import Row
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases

_MB: Final = 1_000_000
_SIZE: Final = 100
_PROC: Final = Path("/proc")
_RESET_PEAK: Final = "5"
_TARGET: Final = 40
_LOOK: Final = 0.005


async def uploads(databases: Databases, folder: Path, repeats: int) -> list[Row]:
    """Upload 100 MB with an attempt token; the worst of the repeats counts. Nothing where the system has no /proc."""
    if not (_PROC / "self" / "status").exists():
        return []
    key, artifacts = secrets.token_bytes(32), folder / "artifacts"
    parts = Parts(
        dsn=databases.app,
        server_key=key,
        artifacts=artifacts,
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://bench",
    )
    async with open_backend(parts) as backend:
        task_id = await begun(backend, *await executor(backend))
    token = AttemptTokens(key).mint(task_id, 1, 1)
    wanted = {"app": "backend", "dsn": databases.app, "key": key.hex(), "artifacts": str(artifacts)}
    above = []
    for seed in range(repeats):
        async with served(
            wanted
        ) as process:  # each in a fresh one: what the first leaves would hide in the next
            above.append(await _memory_of_upload(process.pid, process.port, token, seed))
    return [
        Row(
            name=f"upload of {_SIZE} MB, memory above idle",
            value=max(above),
            unit="MB",
            target=_TARGET,
            at_most=True,
        )
    ]


async def _memory_of_upload(pid: int, port: int, token: str, seed: int) -> float:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        (
            await client.get("/api/contracts/callback/v1")
        ).raise_for_status()  # it has answered before, and now idles
        idle = _status(pid, "VmRSS")
        peak = _Peak(pid)
        found = hashlib.sha256()
        for chunk in _generated(seed):
            found.update(chunk)
        answer = await client.put(
            f"/api/artifacts/sha256:{found.hexdigest()}",
            content=_streamed(seed),
            headers={"Authorization": f"Bearer {token}"},
        )
        answer.raise_for_status()
        return (await peak.read() - idle) / _MB


class _Peak:
    """The most memory that a process held since now: the kernel's own mark, or else the highest of many looks."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._highest = 0
        self._looking: asyncio.Task[None] | None = None
        try:
            (_PROC / str(pid) / "clear_refs").write_text(_RESET_PEAK)
        except OSError:
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self._highest = max(self._highest, _status(self._pid, "VmRSS"))
            await asyncio.sleep(_LOOK)

    async def read(self) -> int:
        """Say how many bytes it was."""
        if self._looking is None:
            return _status(self._pid, "VmHWM")
        self._looking.cancel()
        with suppress(asyncio.CancelledError):
            await self._looking
        return self._highest


def _status(pid: int, name: str) -> int:
    """Read one figure of a process, in bytes."""
    text = (_PROC / str(pid) / "status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the system says nothing of {name}")
    return int(found[1]) * 1024


def _generated(seed: int) -> Iterator[bytes]:
    source = random.Random(seed)
    for _ in range(_SIZE):
        yield source.randbytes(_MB)


async def _streamed(seed: int) -> AsyncIterator[bytes]:
    for chunk in _generated(seed):
        yield chunk

"""The whole callback beside an empty POST: HTTP, token, schema, decision, append, read model, receipt."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agentic_os.application.attempt_tokens import AttemptTokens
from agentic_os.application.backend import Backend
from agentic_os.application.callbacks import NO_SKILLS
from agentic_os.application.ports import Principal
from agentic_os.application.tasks import create_task
from agentic_os.bench.load import Load, post, run_load
from agentic_os.bench.process import served
from agentic_os.bench.rows import Row, median, percentile
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.clock import new_id, now
from agentic_os.domain.commands import CreateTask
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases

_CONNECTIONS: Final = 32
_PATH: Final = "/api/executions/callback"
_HOST: Final = "127.0.0.1"


async def callbacks(databases: Databases, folder: Path, seconds: float, repeats: int) -> list[Row]:
    """Drive both servers with 32 connections, taking turns."""
    key = secrets.token_bytes(32)
    wanted = {
        "app": "backend",
        "dsn": databases.app,
        "key": key.hex(),
        "artifacts": str(folder / "artifacts"),
    }
    parts = Parts(
        dsn=databases.app,
        server_key=key,
        artifacts=folder / "artifacts",
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://bench",
    )
    async with open_backend(parts) as backend:
        sources = await _executors(backend, AttemptTokens(key))
    idle = [_heartbeats("x", "x" * 120)] * _CONNECTIONS
    limits, loads = [], []
    async with served({"app": "empty"}) as empty, served(wanted) as whole:
        await run_load(_HOST, whole.port, sources, 0.5)
        for _ in range(repeats):
            limits.append(await run_load(_HOST, empty.port, idle, seconds))
            loads.append(await run_load(_HOST, whole.port, sources, seconds))
    _refuse_refusals(loads)
    latencies = [value for load in loads for value in load.latencies]
    return [
        Row(
            name="callback, whole path, 32 connections, one process",
            value=median([load.rate for load in loads]),
            limit=median([load.rate for load in limits]),
            unit="1/s",
            target=0.35,
        ),
        Row(
            name="callback p99", value=percentile(latencies, 0.99) * 1000, unit="ms", target=50, at_most=True
        ),
    ]


def _refuse_refusals(loads: list[Load]) -> None:
    refused = sum(load.refused for load in loads)
    if refused:
        raise RuntimeError(f"{refused} callbacks were refused: what was measured is not the whole path")


async def _executors(backend: Backend, tokens: AttemptTokens) -> list[Callable[[], bytes]]:
    """Bring a task for each connection to the point where its executor sends heartbeats."""
    name, credential = await executor(backend)
    tasks = [await begun(backend, name, credential) for _ in range(_CONNECTIONS)]
    return [_heartbeats(task_id, tokens.mint(task_id, 1, 1)) for task_id in tasks]


async def executor(backend: Backend) -> tuple[str, str]:
    """Register an executor; return its name and its credential."""
    name, credential = f"bench-{secrets.token_hex(4)}", secrets.token_urlsafe(32)
    principal = Principal(id=name, name=name, kind="executor", roles=("bench",), skills="not-required")
    await backend.registry.add(principal, hashlib.sha256(credential.encode()).digest(), None)
    return name, credential


async def begun(backend: Backend, name: str, credential: str) -> str:
    """Have the executor take a new task, as attempt 1 of token generation 1; return the task's id."""
    command = CreateTask(
        task_id=str(new_id()),
        title="bench",
        goal="bench",
        project="default",
        requester="bench",
        assignee=name,
        at=now(),
    )
    created = await create_task(
        backend.log, command, backend.policy(), receipt=None, committed=lambda _: None
    )
    task = await backend.dispatcher.advance(created.task_id)
    assert task is not None
    assert task.attempt is not None
    body = {
        "brief_digest": task.attempt.brief_digest,
        "skillset_digest": NO_SKILLS,
        "runtime": {"name": "bench"},
    }
    await backend.callbacks.accept(_callback(task.id, 1, 1, "ack", body), credential)
    return task.id


def _heartbeats(task_id: str, token: str) -> Callable[[], bytes]:
    # Written once but for what changes: the generator's work is not what is measured.
    seq, mark = 10**9, str(uuid.UUID(int=0))
    body = _callback(task_id, 1, seq, "heartbeat", {"note": "still at work"}, mark)
    before, _, rest = post(_PATH, body, token).partition(mark.encode())
    between, _, after = rest.partition(str(seq).encode())

    def following() -> bytes:
        nonlocal seq
        seq += 1
        return b"%b00000000-0000-7000-8000-%012x%b%d%b" % (before, seq, between, seq, after)

    return following


def _callback(
    task_id: str,
    attempt: int,
    seq: int,
    kind: str = "heartbeat",
    body: dict[str, Any] | None = None,
    callback_id: str | None = None,
) -> bytes:
    document = {
        "contract": "aos.execution/1",
        "callback_id": callback_id or str(new_id()),
        "task_id": task_id,
        "attempt": attempt,
        "seq": seq,
        "kind": kind,
        "occurred_at": "2026-01-01T00:00:00Z",
        "body": body or {},
    }
    return json.dumps(document).encode()

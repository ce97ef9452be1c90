"""The desk from which the tests of the edges play everybody: people, executors, and the worker's passes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from agentic_os.application.backend import Backend
from agentic_os.application.ports import Principal
from agentic_os.clock import new_id
from agentic_os.contracts.schema import callback_examples
from agentic_os.http.app import create_app
from agentic_os.worker import Worker

NO_SKILLS = "sha256:" + hashlib.sha256(b"").hexdigest()
DOOR = "/api/executions/callback"
PEOPLE = {"ada": "admin", "olga": "operator", "rita": "reviewer", "vera": "viewer"}
"""Name -> role of the people that every desk knows; the token of each is `token(name)`."""

BODIES: dict[str, dict[str, Any]] = {
    name: json.loads(example)["body"] for name, example in callback_examples().items()
}
"""The bodies of the contract's own examples, by name."""


def token(name: str) -> str:
    """Give the credential under which the desk registers somebody."""
    return f"secret-of-{name}"


def digest(content: bytes) -> str:
    """Name bytes as the contract does."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def open_client(backend: Backend) -> httpx.AsyncClient:
    """Speak HTTP to an application over the backend; a fault of the server is an answer, not an exception."""
    transport = httpx.ASGITransport(create_app(backend), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://desk")


@dataclass
class Desk:
    """A backend, the API over it, and the worker, whose passes are run by hand."""

    backend: Backend
    client: httpx.AsyncClient
    dsn: str
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.worker = Worker(self.backend)

    async def staff(self) -> None:
        """Register the people."""
        for name, role in PEOPLE.items():
            await self.register(Principal(id=name, name=name, kind="person", roles=(role,)))

    async def register(self, principal: Principal) -> None:
        """Register somebody under the desk's own credential."""
        secret = hashlib.sha256(token(principal.name).encode()).digest()
        await self.backend.registry.add(principal, secret, None)

    async def executor(self, name: str = "coder", role: str = "developer", **more: Any) -> str:
        """Register an executor; return its credential."""
        more = {"skills": "not-required", "owner": "olga"} | more
        await self.register(Principal(id=name, name=name, kind="executor", roles=(role,), **more))
        return token(name)

    async def work(self) -> None:
        """Do all that the worker would do now."""
        await self.worker.drain_inbox()
        await self.worker.drain_stale()

    async def task(self, **fields: Any) -> str:
        """Ask for a task as an operator, and let the system take it as far as it goes; return its id."""
        body = {"title": "Make the retry limit a setting", "goal": "It is a constant today."} | fields
        made = await self.post("/api/tasks", body, as_="olga")
        assert 201 == made.status_code, made.text
        await self.work()
        return str(made.json()["id"])

    async def get(self, path: str, as_: str = "vera", **options: Any) -> httpx.Response:
        """GET as somebody."""
        return await self.client.get(path, headers=bearer(token(as_)), **options)

    async def show(self, path: str, as_: str = "vera", **options: Any) -> Any:
        """GET what must be there."""
        answer = await self.get(path, as_, **options)
        assert 200 == answer.status_code, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, as_: str, **headers: str) -> httpx.Response:
        """POST JSON as somebody."""
        return await self.client.post(path, json=body, headers=bearer(token(as_)) | headers)

    async def direct(self, task_id: str, text: str, as_: str = "ada") -> dict[str, Any]:
        """Steer a task; return the receipt."""
        answer = await self.post(f"/api/tasks/{task_id}/directives", {"text": text}, as_)
        assert 200 == answer.status_code, answer.text
        await self.work()
        return dict(answer.json())

    async def send(
        self, document: Any, credential: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a callback, as an object or as the bytes themselves."""
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        return await self.client.post(DOOR, content=raw, headers=bearer(credential) | dict(headers or {}))

    async def ack(self, task_id: str, credential: str = token("coder"), seq: int = 1) -> str:
        """Acknowledge the brief on offer; return the attempt token."""
        offer = (await self.client.get(f"/api/tasks/{task_id}/brief", headers=bearer(credential))).json()
        body = {"brief_digest": offer["digest"], "skillset_digest": NO_SKILLS, "runtime": {"name": "test"}}
        answer = await self.send(callback("ack", task_id, offer["attempt"], seq, body), credential)
        assert 202 == answer.status_code, answer.text
        return str(answer.json()["attempt_token"])

    async def submit(
        self, kind: str, task_id: str, attempt_token: str, attempt: int = 1, seq: int = 2, **changes: Any
    ) -> dict[str, Any]:
        """Hand in the contract's example of a plan or a result, and let the system go on; return the answer."""
        document = callback(kind, task_id, attempt, seq, BODIES[kind] | changes)
        answer = await self.send(document, attempt_token)
        assert 202 == answer.status_code, answer.text
        await self.work()
        return dict(answer.json())

    async def planned(self, **fields: Any) -> str:
        """Bring a new task with an executor `coder` to the review of its first plan; return its id."""
        await self.executor()
        task_id = await self.task(mode="plan_first", **fields)
        await self.submit("plan", task_id, await self.ack(task_id))
        return task_id

    async def approve(self, task_id: str, as_: str = "rita") -> None:
        """Approve exactly the plan under review."""
        plan = (await self.show(f"/api/tasks/{task_id}"))["plan"]
        receipt = await self.direct(task_id, f"/approve v{plan['version']}@{plan['digest'][7:15]}", as_)
        assert "done" == receipt["outcome"], receipt

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def execute(self, statement: str, *values: Any) -> None:
        """Change the database behind everybody's back."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            await connection.execute(statement.encode(), values)

    async def stored(self) -> tuple[Any, ...]:
        """Count all that a callback can leave behind."""
        counts = ", ".join(
            f"(select count(*) from es.{table})" for table in ("event", "receipt", "quarantine", "progress")
        )
        return (await self.rows(f"select {counts}"))[0]

    async def events(self, task_id: str) -> list[str]:
        """List the types of a task's events."""
        return [e.type for e in await self.backend.log.read_stream(task_id)]

    async def phase(self, task_id: str) -> str:
        """Look at the phase of a task."""
        return str((await self.show(f"/api/tasks/{task_id}"))["phase"])


def bearer(credential: str) -> dict[str, str]:
    """Make the header that carries a credential."""
    return {"Authorization": f"Bearer {credential}"}


def callback(
    kind: str, task_id: str, attempt: int, seq: int, body: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Compose a callback; the body is the contract's example unless another is given."""
    envelope = {
        "contract": "aos.execution/1",
        "callback_id": str(new_id()),
        "task_id": task_id,
        "attempt": attempt,
        "seq": seq,
        "kind": kind,
        "occurred_at": "2026-11-20T12:00:00Z",
        "body": dict(BODIES[kind] if body is None else body),
    }
    return envelope | more


def assert_problem(
    answer: httpx.Response,
    status: int,
    code: str,
    pointer: str | None = None,
) -> dict[str, Any]:
    """Hold a refusal to RFC 9457 and the contract's members; return it."""
    assert (status, code) == (answer.status_code, answer.json().get("code")), answer.text
    assert "application/problem+json" == answer.headers["content-type"]
    problem = dict(answer.json())
    assert {"type", "title", "status", "code", "detail", "pointer", "retryable", "next"} <= problem.keys()
    assert status == problem["status"]
    assert problem["detail"]
    assert problem["next"], problem
    assert pointer is None or pointer in problem["pointer"], problem
    assert (status == 401) == ("www-authenticate" in answer.headers)
    return problem

"""The API keeps to its own description: what is generated from it is answered as it says, never with a fault."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.conftest import Database, OpenBackend
from tests.desk import DOOR, NO_SKILLS, Desk, bearer, open_client, token

from agentic_os.clock import new_id
from agentic_os.contracts.schema import KINDS
from agentic_os.domain.conditions import Condition
from agentic_os.domain.policy import Obligations, Reviewers, Rule, RuleSet
from agentic_os.http.app import create_app

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
"""Requests are drawn in a thread of their own, while the pool of connections draws its jitter beside it."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
IGNORED = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]
Sending = Callable[[schemathesis.Case], Awaitable[httpx.Response]]


REVIEWED = RuleSet(
    bundle="sha256:test",
    rules=(
        Rule(
            id="reviewed",
            on="task.received",
            when=(Condition(field="task.labels", operator="any_glob", value=["reviewed"]),),
            obligations=Obligations(reviewers=Reviewers(role="qa", by="anyone")),
        ),
    ),
)


@pytest.fixture
async def desk(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open the API under a policy that has some plans reviewed by executors."""
    async with open_test_backend(policy=REVIEWED) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found


@dataclass
class Exploration:
    """What was found so far. answers: how often each status came."""

    loop: asyncio.AbstractEventLoop
    answers: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def explore(self, operation: Any, sending: Sending, mode: GenerationMode, examples: int) -> None:
        """Draw requests for one operation, and send each on the loop that the backend lives on."""
        strategy = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=IGNORED,
        )
        @given(case=strategy)
        def exploring(case: schemathesis.Case) -> None:
            answer = asyncio.run_coroutine_threadsafe(sending(case), self.loop).result()
            self.answers[answer.status_code] += 1
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as found:
                self.faults += [f"{operation.label}: {answer.text[:300]}: {e}" for e in found.exceptions]

        with (
            suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext()
        ):  # all texts are right
            await asyncio.to_thread(exploring)


@dataclass
class Executor:
    """An executor that sends what was generated, most of it in the name of an attempt that is open."""

    desk: Desk
    kinds: Counter[str] = field(default_factory=Counter)
    turns: int = 0
    mode: str = "direct"
    task_id: str = ""
    attempt_token: str = ""
    brief_digest: str = ""
    attempt: int = 1
    digest: str = ""
    seq: int = 0

    async def send(self, case: schemathesis.Case) -> httpx.Response:
        """Send a case as it stands, or with the envelope of the attempt at hand."""
        self.turns += 1
        request = parts(case)
        body = case.body
        if not isinstance(body, dict) or self.turns % 5 == 0:
            return await self.desk.client.request(**request, headers=bearer(token("coder")))
        kind = body.get("kind")
        own = kind in ("ack", "decline")
        fitting = {"plan": "plan_first", "result": "direct", "review": "review"}
        wanted = fitting.get(str(kind), self.mode) if self.turns % 4 else self.mode
        if own or not self.task_id or wanted != self.mode:
            self.mode = wanted
            await self._begin(acked=not own)
        self.seq += 1
        if isinstance(body.get("body"), dict) and self.turns % 3:
            body["body"].pop("artifacts", None)  # generated ones name bytes that nobody holds
        body |= {
            "task_id": self.task_id,
            "attempt": self.attempt,
            "seq": self.seq,
            "callback_id": str(new_id()),
        }
        if kind == "ack" and isinstance(body.get("body"), dict):
            body["body"] |= {"brief_digest": self.brief_digest, "skillset_digest": NO_SKILLS}
        if kind == "review" and isinstance(body.get("body"), dict):
            body["body"] |= {"subject": "plan", "digest": self.digest}
        credential = token("coder") if own else self.attempt_token
        answer = await self.desk.client.post(DOOR, json=body, headers=bearer(credential))
        accepted = answer.status_code == 202
        self.kinds[str(kind)] += accepted
        if own or (accepted and answer.json()["directive"] != "continue"):
            self.task_id = ""
        return answer

    async def _begin(self, *, acked: bool) -> None:
        """Have a new task that is to be done, planned first, or whose plan is to be reviewed."""
        if self.mode == "review":
            await self._begin_review()
            return
        self.attempt = 1
        self.task_id = await self.desk.task(mode=self.mode, assignee="coder")
        brief = await self.desk.show(f"/api/tasks/{self.task_id}/brief")
        self.brief_digest, self.seq = brief["digest"], 1
        self.attempt_token = await self.desk.ack(self.task_id) if acked else ""

    async def _begin_review(self) -> None:
        """Have a plan of the one executor be reviewed by the other."""
        self.task_id = await self.desk.task(mode="plan_first", assignee="coder", labels=["reviewed"])
        await self.desk.submit("plan", self.task_id, await self.desk.ack(self.task_id))
        brief = (await self.desk.show(f"/api/tasks/{self.task_id}/brief"))["brief"]
        self.attempt, self.digest, self.seq = brief["attempt"], brief["review"]["digest"], 1
        self.attempt_token = await self.desk.ack(self.task_id, token("checker"))


def parts(case: schemathesis.Case) -> dict[str, Any]:
    """Write a case as the arguments of a request, without its credential."""
    given_parts = case.as_transport_kwargs(base_url="http://desk")
    wanted = ("method", "url", "params", "json", "data", "content")
    request = {name: given_parts[name] for name in wanted if given_parts.get(name) is not None}
    if isinstance(request.get("data"), bytes):
        request["content"] = request.pop("data")
    return request


def operations(document: dict[str, Any], *paths: str) -> list[Any]:
    """List the operations that are described under these paths."""
    found = [result.ok() for result in from_dict(document).get_all_operations()]
    return [operation for operation in found if operation.path.startswith(paths)]


def for_one_kind(document: dict[str, Any], kind: str) -> Any:
    """Describe the door as if it took callbacks of one kind only."""
    narrowed = deepcopy(document)
    body = narrowed["paths"][DOOR]["post"]["requestBody"]["content"]["application/json"]
    (body["schema"],) = [branch for branch in body["schema"]["oneOf"] if branch["title"] == kind]
    (operation,) = operations(narrowed, DOOR)
    return operation


@pytest.mark.timeout(180)
async def test_whatever_an_executor_sends_is_answered_as_described(desk: Desk):
    """Callbacks generated from the schema, of every kind, and others that break it, meet no undescribed answer."""
    await desk.executor()
    await desk.executor("checker", role="qa")
    document = create_app(desk.backend).openapi()
    executor = Executor(desk)
    exploration = Exploration(asyncio.get_running_loop())
    for kind in KINDS:
        operation = for_one_kind(document, kind)
        await exploration.explore(operation, executor.send, GenerationMode.POSITIVE, 12)
        await exploration.explore(operation, executor.send, GenerationMode.NEGATIVE, 5)
    assert [] == exploration.faults
    assert [] == [kind for kind in KINDS if not executor.kinds[kind]], exploration.answers
    assert {202, 400, 403, 404, 422} <= exploration.answers.keys()


@pytest.mark.timeout(180)
async def test_whatever_a_person_asks_of_tasks_is_answered_as_described(desk: Desk):
    """Requests to the addresses of tasks, well-formed and not, of people who may and may not, are as described."""
    await desk.executor()
    task_id = await desk.task()
    ended = await desk.task(title="Another")
    await desk.submit("result", ended, await desk.ack(ended))
    turns = 0

    async def send(case: schemathesis.Case) -> httpx.Response:
        nonlocal turns
        turns += 1
        if "task_id" in case.path_parameters and turns % 4:
            case.path_parameters["task_id"] = (task_id, ended)[turns % 2]
        caller = ("ada", "olga", "vera", "nobody")[turns % 8 if turns % 8 < 4 else 0]
        return await desk.client.request(**parts(case), headers=bearer(token(caller)))

    exploration = Exploration(asyncio.get_running_loop())
    found = operations(create_app(desk.backend).openapi(), "/api/tasks")
    assert len(found) >= 11
    for operation in found:
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            await exploration.explore(operation, send, mode, 10)
    assert [] == exploration.faults
    assert {200, 201, 401, 403, 404, 422} <= exploration.answers.keys(), exploration.answers

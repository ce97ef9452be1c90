"""The contract's table of problems, row by row: each code is provoked over HTTP, and answered as the table says."""

import base64
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.conftest import Database, OpenBackend, Server
from tests.desk import BODIES, DOOR, NO_SKILLS, Desk, assert_problem, callback, digest, open_client

from agentic_os.application.dispatch import Terms
from agentic_os.application.rates import Rate, Rates
from agentic_os.contracts.callback import MAX_CALLBACK_BYTES
from agentic_os.domain.policy import DecisionPoint, Obligations, RuleSet
from agentic_os.domain.reviews import REVISION_CAP
from agentic_os.http.problems import RETRYABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "contract.md"
TABLE = {
    code: (int(status), what)
    for code, status, what in re.findall(r"^\| `(\w+)` \| (\d+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
}
"""code -> status and what to do, as the reference says it."""

NOBODY = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"
SECRET = b"token: ghp_" + b"a1B2c3D4e5F6" * 3
FOUR_EYES = RuleSet(bundle="sha256:b", rules=(), defaults=Obligations(independent_human=True))
NO_LEASE = Terms(callback_url="http://desk" + DOOR, lease=timedelta(0))

ONE_AT_ONCE = Rates(callbacks=Rate(per_second=1e-6, burst=1), refusals=None)


@dataclass(frozen=True)
class Scene:
    """Everybody at the desk, and how to reach the database past all rights."""

    desk: Desk
    superuser: str

    async def at_work(self, **fields: Any) -> tuple[str, str]:
        """Have an executor acknowledge a new task; the task's id and the attempt token."""
        await self.desk.executor()
        task_id = await self.desk.task(**fields)
        return task_id, await self.desk.ack(task_id)

    async def sent(self, kind: str = "heartbeat", **changes: Any) -> httpx.Response:
        """Send one callback of an executor at work, with changes to its envelope."""
        task_id, attempt_token = await self.at_work()
        return await self.desk.send(callback(kind, task_id, 1, 2) | changes, attempt_token)

    async def acked(self, task_id: str, credential: str, **changes: Any) -> httpx.Response:
        """Send the ack of a task, with changes to its body."""
        body = {"brief_digest": NO_SKILLS, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
        return await self.desk.send(callback("ack", task_id, 1, 1, body | changes), credential)


async def malformed(s: Scene) -> httpx.Response:
    _, attempt_token = await s.at_work()
    return await s.desk.send(b"{", attempt_token)


async def credential_invalid(s: Scene) -> httpx.Response:
    return await s.desk.send(callback("heartbeat", NOBODY, 1, 2), "made-up")


async def token_expired(s: Scene) -> httpx.Response:
    task_id, first = await s.at_work()
    await s.desk.ack(task_id)
    return await s.desk.send(callback("heartbeat", task_id, 1, 2), first)


async def budget_exceeded(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work(budget={"tokens": 10})
    spent = {"input_tokens": 11, "output_tokens": 0}
    await s.desk.send(callback("heartbeat", task_id, 1, 2, usage=spent), attempt_token)
    return await s.desk.send(callback("heartbeat", task_id, 1, 3), attempt_token)


async def scope_denied(s: Scene) -> httpx.Response:
    return await s.sent(task_id=NOBODY)


async def tool_denied(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work(mode="plan_first", tools=["git"])
    steps = [{"id": "s1", "title": "Look", "tools": ["git", "psql"]}]
    return await s.desk.send(
        callback("plan", task_id, 1, 2, BODIES["plan"] | {"steps": steps}), attempt_token
    )


async def replan_cap(s: Scene) -> httpx.Response:
    await s.desk.executor()
    task_id = await s.desk.task(mode="plan_first")
    for number in range(1, REVISION_CAP + 2):
        items = (await s.desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
        responses = [{"item_id": item["id"], "how": "done"} for item in items]
        await s.desk.submit(
            "plan",
            task_id,
            await s.desk.ack(task_id),
            attempt=number,
            summary=f"Try {number}.",
            responds_to=responses,
        )
        await s.desk.direct(task_id, f"/revise v{number}\n- Shorter", as_="rita")
    return await s.desk.post(f"/api/tasks/{task_id}/directives", {"text": "/retry"}, "olga")


async def rate_limited(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work()
    await s.desk.send(callback("heartbeat", task_id, 1, 2), attempt_token)
    return await s.desk.send(callback("heartbeat", task_id, 1, 3), attempt_token)


async def self_review(s: Scene) -> httpx.Response:
    await s.desk.executor(owner="rita")
    task_id = await s.desk.task(mode="plan_first")
    await s.desk.submit("plan", task_id, await s.desk.ack(task_id))
    plan = (await s.desk.show(f"/api/tasks/{task_id}"))["plan"]
    line = f"/approve v{plan['version']}@{plan['digest'][7:15]}"
    return await s.desk.post(f"/api/tasks/{task_id}/directives", {"text": line}, "rita")


async def unknown_task(s: Scene) -> httpx.Response:
    return await s.acked(NOBODY, await s.desk.executor())


async def attempt_superseded(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work()
    await s.desk.direct(task_id, "/cancel")
    return await s.desk.send(callback("heartbeat", task_id, 1, 2), attempt_token)


async def lease_lost(s: Scene) -> httpx.Response:
    return await s.sent()


async def wrong_phase(s: Scene) -> httpx.Response:
    return await s.sent("plan")


async def seq_stale(s: Scene) -> httpx.Response:
    return await s.sent(seq=1)


async def plan_unapproved(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work(mode="plan_first")
    return await s.desk.send(callback("result", task_id, 1, 2), attempt_token)


async def revised(s: Scene, answers: bool) -> httpx.Response:  # noqa: FBT001 - said at both calls
    """Hand the same plan in again after a revision, with or without answers to its items."""
    task_id = await s.desk.planned()
    await s.desk.direct(task_id, "/revise v1\n- Shorter", as_="rita")
    items = (await s.desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    responses = {"responds_to": [{"item_id": item["id"], "how": "done"} for item in items] if answers else []}
    attempt_token = await s.desk.ack(task_id)
    return await s.desk.send(callback("plan", task_id, 2, 2, BODIES["plan"] | responses), attempt_token)


async def plan_unchanged(s: Scene) -> httpx.Response:
    return await revised(s, answers=True)


async def review_items_unanswered(s: Scene) -> httpx.Response:
    return await revised(s, answers=False)


async def brief_mismatch(s: Scene) -> httpx.Response:
    credential = await s.desk.executor()
    return await s.acked(await s.desk.task(), credential, brief_digest=digest(b"another"))


async def skill_drift(s: Scene) -> httpx.Response:
    credential = await s.desk.executor(skills="required")
    task_id = await s.desk.task()
    brief = await s.desk.show(f"/api/tasks/{task_id}/brief")
    return await s.acked(task_id, credential, brief_digest=brief["digest"])


async def too_large(s: Scene) -> httpx.Response:
    return await s.sent(body={"note": "x" * MAX_CALLBACK_BYTES})


async def schema_invalid(s: Scene) -> httpx.Response:
    return await s.sent(seq=False)


async def marker_missing(s: Scene) -> httpx.Response:
    return await s.sent("result", body={"marked_text": "It is done."})


async def section_missing(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work()
    text = f"AOS:RESULT v1 task={task_id} attempt=1\n## Summary\nDone.\nAOS:END"
    return await s.desk.send(callback("result", task_id, 1, 2, {"marked_text": text}), attempt_token)


async def idempotency_mismatch(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work()
    first = callback("heartbeat", task_id, 1, 2)
    await s.desk.send(first, attempt_token)
    return await s.desk.send(first | {"seq": 3}, attempt_token)


async def output_invalid(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work(output_schema={"type": "object", "required": ["count"]})
    body = BODIES["result"] | {"output": {}}
    return await s.desk.send(callback("result", task_id, 1, 2, body), attempt_token)


async def secret_in_artifact(s: Scene) -> httpx.Response:
    artifact = {"name": "log.txt", "media_type": "text/plain", "digest": digest(SECRET), "size": len(SECRET)}
    inline = artifact | {"content_base64": base64.b64encode(SECRET).decode()}
    return await s.sent("result", body=BODIES["result"] | {"artifacts": [inline]})


async def internal(s: Scene) -> httpx.Response:
    credential = await s.desk.executor()
    task_id = await s.desk.task()
    await s.desk.execute("update es.task set version = 99, state = 'broken' where task_id = %s", task_id)
    return await s.acked(task_id, credential)


async def gate_error(s: Scene) -> httpx.Response:
    task_id, attempt_token = await s.at_work()
    with psycopg.connect(s.superuser, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
            (psycopg.conninfo.conninfo_to_dict(s.desk.dsn)["dbname"],),
        )
    return await s.desk.send(callback("heartbeat", task_id, 1, 2), attempt_token)


Play = Callable[[Scene], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Case:
    """How a code is provoked, the place that its pointer must name, and what is in force meanwhile."""

    play: Play
    pointer: str | None = None
    terms: Terms | None = None
    policy: DecisionPoint | None = None
    rates: Rates | None = None


CASES = {
    "malformed": Case(malformed),
    "credential_invalid": Case(credential_invalid),
    "token_expired": Case(token_expired),
    "budget_exceeded": Case(budget_exceeded),
    "scope_denied": Case(scope_denied),
    "tool_denied": Case(tool_denied, "/body/steps/0/tools/1"),
    "self_review": Case(self_review, policy=FOUR_EYES),
    "unknown_task": Case(unknown_task),
    "attempt_superseded": Case(attempt_superseded),
    "lease_lost": Case(lease_lost, terms=NO_LEASE),
    "wrong_phase": Case(wrong_phase),
    "seq_stale": Case(seq_stale, "/seq"),
    "plan_unapproved": Case(plan_unapproved),
    "plan_unchanged": Case(plan_unchanged, "/body"),
    "brief_mismatch": Case(brief_mismatch, "/body/brief_digest"),
    "skill_drift": Case(skill_drift, "/body/skillset_digest"),
    "replan_cap": Case(replan_cap),
    "too_large": Case(too_large),
    "schema_invalid": Case(schema_invalid, "/seq"),
    "marker_missing": Case(marker_missing, "/body/marked_text"),
    "section_missing": Case(section_missing, "/body/marked_text"),
    "review_items_unanswered": Case(review_items_unanswered, "/body/responds_to"),
    "idempotency_mismatch": Case(idempotency_mismatch),
    "output_invalid": Case(output_invalid, "/body/output"),
    "secret_in_artifact": Case(secret_in_artifact, "/body/artifacts/0"),
    "rate_limited": Case(rate_limited, rates=ONE_AT_ONCE),
    "internal": Case(internal),
    "gate_error": Case(gate_error),
}
BY_RECEIPT = {"self_review", "replan_cap"}
"""Codes that answer what a person wrote: a refused directive is a receipt, 200, with the code as its rule."""


def test_every_row_of_the_table_has_a_case():
    """Each code of the table is provoked here, and no other is."""
    assert TABLE.keys() == CASES.keys()


@pytest.mark.parametrize("code", CASES)
async def test_a_row_is_answered_as_the_table_says(
    code: str, open_test_backend: OpenBackend, database: Database, server: Server
):
    """Each code comes with its status, its pointer, whether to send again, and what to do next."""
    case = CASES[code]
    status, what = TABLE[code]
    async with (
        open_test_backend(
            terms=case.terms, policy=case.policy, rates=case.rates or Rates(refusals=None)
        ) as backend,
        open_client(backend) as client,
    ):
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        answer = await case.play(Scene(desk, server.superuser))
        if code in BY_RECEIPT:
            receipt = answer.json()
            assert (200, "refused", code) == (answer.status_code, receipt["outcome"], receipt["rule"])
            assert receipt["message"]
            return
        problem = assert_problem(answer, status, code, case.pointer)
        assert (code in RETRYABLE) == problem["retryable"] == ("same again" in what)
        assert f"urn:agentic-os:problem:{code}" == problem["type"]
        assert (case.pointer is None) == (problem["pointer"] == []), problem

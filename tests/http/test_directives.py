"""Directives over HTTP: the same verbs and receipts as on an issue, by callers whose token must still be valid."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.desk import Desk, assert_problem, callback, token

from agentic_os.cli import main
from agentic_os.cli.client import Client
from agentic_os.domain.directive import VERBS


async def fingerprint(desk: Desk, task_id: str) -> str:
    """Name the plan under review as a directive does."""
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    return f"v{plan['version']}@{plan['digest'][7:15]}"


@pytest.mark.parametrize("verb", sorted(VERBS))
async def test_every_verb_has_a_receipt(desk: Desk, verb: str):
    """Whatever the verb, with nothing behind it, the answer is a receipt that says what became of it."""
    task_id = await desk.planned()
    receipt = await desk.direct(task_id, f"/{verb}")
    assert {"id", "outcome", "rule", "message", "paste"} == receipt.keys()
    assert receipt["message"]
    assert (receipt["outcome"] == "refused") == (receipt["rule"] is not None)


@pytest.mark.parametrize(
    ("text", "as_", "rule", "paste"),
    [
        ("/aprove v1", "rita", "unknown_directive", "/help"),
        ("/approve v1@00000000", "rita", "digest_mismatch", "/approve {plan}"),
        ("/approve v7", "rita", "digest_mismatch", "/approve {plan}"),
        ("/approve LGTM", "rita", "digest_mismatch", "/approve {plan}"),
        ("/approve", "rita", "confirmation_required", "/approve {plan}"),
        ("/approve v1", "rita", "confirmation_required", "/approve {plan}"),
        ("/approve r1@00000000", "rita", "wrong_target", "/approve {plan}"),
        ("/accept", "rita", "wrong_phase", "/status"),
        ("/approve {plan}", "olga", "not_permitted", None),
        ("/revise", "rita", "items_required", None),
        ("/cancel", "rita", "not_permitted", None),
        ("/hold\n/cancel", "ada", "one_directive", None),
        ("/mode", "olga", "only_stricter", "/mode plan_first"),
        ("/priority", "olga", "unknown_priority", "/priority critical"),
        ("/default on", "rita", "unknown_directive", "/default off"),
        ("/reassign @nobody", "olga", "unknown_executor", "/reassign @NAME or role:ROLE"),
        ("/note", "olga", "note_length", None),
        ("/note " + "x" * 2001, "olga", "note_length", None),
        ("/retry", "olga", "wrong_phase", None),
    ],
)
async def test_a_refusal_says_its_rule_and_what_to_write(
    desk: Desk, text: str, as_: str, rule: str, paste: str | None
):
    """Each refusal names what refused, and where a line would have done, that line."""
    task_id = await desk.planned()
    plan = await fingerprint(desk, task_id)
    before = await desk.events(task_id)
    receipt = await desk.direct(task_id, text.format(plan=plan) if "{" in text else text, as_)
    expected = paste.format(plan=plan) if paste else None
    assert ("refused", rule, expected) == (receipt["outcome"], receipt["rule"], receipt["paste"]), receipt
    assert before == await desk.events(task_id)


@pytest.mark.parametrize(
    "text", ["/approve \x00", "/note a\x00b", "/hold \U0001f600\u202e", "/cancel \u2028/approve", "\r/why"]
)
async def test_no_text_is_a_fault(desk: Desk, text: str):
    """Characters that databases and terminals stumble over lead to a receipt or a problem, never to a fault."""
    task_id = await desk.planned()
    answer = await desk.post(f"/api/tasks/{task_id}/directives", {"text": text}, "ada")
    assert answer.status_code in (200, 422), answer.text


async def test_who_may_not_direct_at_all_gets_a_problem(desk: Desk):
    """A viewer, an executor and a stranger are no operators: that is an answer of its own, and no receipt."""
    task_id = await desk.planned()
    path = f"/api/tasks/{task_id}/directives"
    assert_problem(await desk.post(path, {"text": "/cancel"}, "vera"), 403, "scope_denied")
    assert_problem(await desk.post(path, {"text": "/cancel"}, "coder"), 403, "scope_denied")
    assert_problem(await desk.post(path, {"text": "/cancel"}, "nobody"), 401, "credential_invalid")
    assert_problem(await desk.post(path, {"text": "Hello."}, "olga"), 422, "schema_invalid", "/text")
    assert [(0,)] == await desk.rows("select count(*) from es.directive")


async def test_a_token_that_is_revoked_meanwhile_decides_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """The token is looked at again in the transaction that writes the event."""
    task_id = await desk.planned()
    text = f"/approve {await fingerprint(desk, task_id)}"
    participant = desk.backend.registry.participant
    calls = 0

    async def and_revoke(name: str) -> Any:
        nonlocal calls
        found, calls = await participant(name), calls + 1
        if calls == 3:  # the caller's, the directive's, and the last look before it is written
            await desk.execute("update es.credential set revoked_at = now() where principal = %s", name)
        return found

    monkeypatch.setattr(desk.backend.registry, "participant", and_revoke)
    answer = await desk.post(f"/api/tasks/{task_id}/directives", {"text": text}, "rita")
    assert 3 == calls
    assert ("refused", "rights_changed") == (answer.json()["outcome"], answer.json()["rule"]), answer.text
    assert [("refused",)] == await desk.rows("select outcome from es.directive")
    assert "plan_review" == await desk.phase(task_id)


async def test_two_people_at_once_are_two_votes(desk: Desk):
    """Votes that meet are both counted, whoever was first."""
    policy = "defaults: {reviewers: {quorum: 2}}\n"
    await desk.post("/api/governance", {"documents": {"policy.yaml": policy}, "reason": "Two."}, "ada")
    task_id = await desk.planned()
    text = f"/approve {await fingerprint(desk, task_id)}"
    path = f"/api/tasks/{task_id}/directives"
    answers = await asyncio.gather(
        *(desk.post(path, {"text": text}, name) for name in ("rita", "ada", "rita"))
    )
    assert ["done"] * 3 == [a.json()["outcome"] for a in answers]
    kinds = await desk.events(task_id)
    assert (2, 1) == (kinds.count("plan.voted"), kinds.count("plan.approved"))


STAGES = """\
defaults:
  mode: plan_first
  reviewers:
    - {role: reviewer}
    - {role: admin}
"""


async def test_a_plan_goes_through_the_stages_of_its_policy(desk: Desk):
    """A policy file with a list of reviewers is held to: in order, told at each step, and consumed once at the end."""
    await desk.post("/api/governance", {"documents": {"policy.yaml": STAGES}, "reason": "Two."}, "ada")
    task_id = await desk.planned()
    text = f"/approve {await fingerprint(desk, task_id)}"
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("role:reviewer", True) == (
        shown["waiting_for"]["owner"],
        "(stage 1 of 2)" in shown["waiting_for"]["what"],
    )
    first = await desk.direct(task_id, text, "rita")
    assert ("done", True) == (first["outcome"], "(stage 2 of 2)" in first["message"])
    assert "changed nothing" in (await desk.direct(task_id, text, "rita"))["message"]
    (review,) = (await desk.show(f"/api/tasks/{task_id}/reviews"))["items"]
    assert (2, ["rita"]) == (review["stage"], [v["voter"] for v in review["votes"]])
    assert "done" == (await desk.direct(task_id, text, "ada"))["outcome"]
    kinds = await desk.events(task_id)
    assert (1, 1) == (kinds.count("review.stage_opened"), kinds.count("plan.approved"))
    assert "dispatched" == await desk.phase(task_id)
    await desk.backend.rebuild()
    assert kinds == await desk.events(task_id)


async def test_executors_of_each_stage_are_asked_in_its_turn(desk: Desk):
    """The role of the open stage is asked, first the one and then the other, before anything is executed."""
    policy = (
        "defaults: {mode: plan_first, reviewers: [{role: qa, by: anyone}, {role: security, by: anyone}]}\n"
    )
    await desk.post("/api/governance", {"documents": {"policy.yaml": policy}, "reason": "Two."}, "ada")
    for name, role in (("checker", "qa"), ("guard", "security")):
        await desk.executor(name, role)
    task_id = await desk.planned(assignee="coder")
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    for number, name in ((2, "checker"), (3, "guard")):
        attempt = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
        assert (number, name, "review") == (attempt["number"], attempt["executor"], attempt["step"])
        body = {"subject": "plan", "digest": plan["digest"], "verdict": "approve", "summary": "Read it."}
        credential = await desk.ack(task_id, token(name))
        assert 202 == (await desk.send(callback("review", task_id, number, 2, body), credential)).status_code
        await desk.work()
    assert "execute" == (await desk.show(f"/api/tasks/{task_id}"))["attempt"]["step"]


def test_the_reference_tells_of_every_verb():
    """The page about directives has a section for each verb that there is."""
    page = (Path(__file__).parents[2] / "docs/reference/directives.md").read_text()
    assert [] == [verb for verb in sorted(VERBS) if f"| `/{verb}" not in page]


# The command line


@pytest.fixture
def command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Awaitable[tuple[int, str]]]:
    """Run a command against the desk as rita; give its exit code and what it printed."""
    monkeypatch.setenv("AGENTIC_OS_URL", "http://desk")
    monkeypatch.setenv("AGENTIC_OS_TOKEN", "unused")
    loop = asyncio.get_event_loop()

    def get(self: Client, path: str, **query: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(desk.show(path, "rita"), loop).result()

    def post(self: Client, path: str, body: Any, key: str | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(desk.post(path, body, "rita"), loop).result().json()

    monkeypatch.setattr(Client, "get", get)
    monkeypatch.setattr(Client, "post", post)

    async def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, list(arguments))
        return code, capsys.readouterr().out

    return run


async def test_the_command_line_decides_on_what_is_under_review(
    desk: Desk, command: Callable[..., Awaitable[tuple[int, str]]]
):
    """`approve` names one version, `revise` sends items back, `reject` ends the task; a refusal is exit code 1."""
    task_id = await desk.planned()
    stale = await command("approve", task_id, "v1@00000000")
    assert (1, True) == (stale[0], f"write: /approve {await fingerprint(desk, task_id)}" in stale[1])
    assert 0 == (await command("revise", task_id, "Say why\n/cancel", "Fewer steps"))[0]
    await desk.work()
    brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]
    assert ["Say why /cancel", "Fewer steps"] == [item["text"] for item in brief["review_items"]]
    answers = [{"item_id": i["id"], "how": "Done."} for i in brief["review_items"]]
    await desk.submit(
        "plan", task_id, await desk.ack(task_id), attempt=2, summary="Other.", responds_to=answers
    )
    assert 0 == (await command("approve", task_id, await fingerprint(desk, task_id)))[0]
    await desk.work()
    await desk.submit("result", task_id, await desk.ack(task_id), attempt=3, outcome="partial")
    assert 0 == (await command("revise", task_id, "All of it"))[0]
    await desk.work()
    assert "result.returned" in await desk.events(task_id)
    other = await desk.task(mode="plan_first")
    await desk.submit("plan", other, await desk.ack(other))
    assert 0 == (await command("reject", other, "Not this."))[0]
    assert "rejected" == await desk.phase(other)

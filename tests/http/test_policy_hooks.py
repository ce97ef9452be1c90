"""Where policy is asked besides at admission and dispatch: a governance folder's rules, met over HTTP."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import BODIES, Desk, assert_problem, callback, open_client, token

from agentic_os.application.dispatch import Terms
from agentic_os.application.ports import Principal
from agentic_os.governance import load_governance

POLICY = """
defaults: {on_timeout: escalate}
rules:
  - id: no-production-steps
    on: plan.submitted
    when: plan.tools.exists(t, t == 'psql-production')
    deny: true
    reason: Agents have no business there.
  - id: risky-steps-need-two
    on: plan.submitted
    when: {all: [{field: plan.risk, gte: high}]}
    require: {reviewers: {quorum: 2}, deadline: 1h}
    reason: A step of high risk is read twice.
  - id: deviations-are-read
    on: result.submitted
    when: result.deviations > 0 && attempt.step == 'execute'
    require: {result_review: true, bar_requester: true}
  - id: tools-break-once
    on: attempt.ended
    when: "attempt.class == 'tool' && 'developer' in executor.roles"
    require: {then: other_executor}
  - id: silence-is-looked-at
    on: attempt.ended
    when: {all: [{field: attempt.class, in: [ack, lease]}]}
    require: {then: person}
    reason: Somebody should look at a silent executor.
  - id: questions-of-design
    on: escalation.raised
    when: {all: [{field: question.options, gte: 2}]}
    require: {ask: reviewer}
  - id: no-retries-on-fridays-by-olga
    on: directive
    when: {all: [{field: directive.verb, in: [reassign, cancel, hold]}, {field: directive.by, eq: olga}]}
    deny: true
    reason: Let somebody else do that.
"""


@pytest.fixture
async def desk(open_test_backend: OpenBackend, database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    """Open the API under a folder with a rule on each hook; who is silent is so at once."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = load_governance(tmp_path).policy
    terms = Terms(callback_url="http://desk/api/executions/callback", ack_within=timedelta(0))
    async with open_test_backend(policy=policy, terms=terms) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        await found.register(Principal(id="omar", name="omar", kind="person", roles=("reviewer",)))
        await found.executor()
        yield found


def step(**changes: object) -> list[dict[str, object]]:
    """Write a plan of one step."""
    return [{"id": "s1", "title": "Do it"} | changes]


async def test_a_plan_that_a_rule_forbids_is_returned_to_its_executor(desk: Desk):
    """The answer is 403 with the rule and its reason, which is put on record once, and the attempt may send another."""
    task_id = await desk.task(mode="plan_first")
    held = await desk.ack(task_id)
    before = await desk.events(task_id)
    body = BODIES["plan"] | {"steps": step(tools=["psql-production"])}
    refused = await desk.send(callback("plan", task_id, 1, 2, body), held)
    problem = assert_problem(refused, 403, "policy_denied")
    assert "no-production-steps" in problem["detail"]
    assert "Agents have no business there." in problem["detail"]
    assert [*before, "policy.decided"] == await desk.events(task_id)
    assert_problem(await desk.send(callback("plan", task_id, 1, 3, body), held), 403, "policy_denied")
    assert [*before, "policy.decided"] == await desk.events(task_id)
    (decision,) = (await desk.show("/api/decisions?hook=plan.submitted&decision=deny"))["items"]
    assert (task_id, ["no-production-steps"], ["psql-production"]) == (
        decision["task_id"],
        decision["rules"],
        decision["facts"]["plan.tools"],
    )
    await desk.submit("plan", task_id, held)
    assert "plan_review" == await desk.phase(task_id)


async def test_a_plan_with_a_risky_step_needs_two(desk: Desk):
    """The task says that it waits for two approvals, until when; one is not enough, and the rule is on record."""
    task_id = await desk.task(mode="plan_first")
    await desk.submit("plan", task_id, await desk.ack(task_id), steps=step(risk="high"))
    waiting = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]
    assert ("role:reviewer", "escalate") == (waiting["owner"], waiting["default"])
    assert "2 approval(s)" in waiting["what"]
    assert waiting["deadline"] is not None
    (event,) = [x for x in await desk.backend.log.read_stream(task_id) if x.type == "review.required"]
    assert (["risky-steps-need-two"], "system") == (event.data["rules"], event.actor)
    (decision,) = (await desk.show(f"/api/decisions?task={task_id}&hook=plan.submitted"))["items"]
    assert ("high", 2, "system") == (
        decision["facts"]["plan.risk"],
        decision["obligations"]["reviewers"]["quorum"],
        event.actor,
    )
    assert event.data["obligations"]["reviewers"]["quorum"] == 2
    await desk.approve(task_id)
    assert "plan_review" == await desk.phase(task_id)
    await desk.approve(task_id, as_="omar")
    assert "dispatched" == await desk.phase(task_id)


async def test_a_result_that_deviates_is_read_and_not_by_whoever_asked_for_it(desk: Desk):
    """Nothing else asks for a review of results; the requester may not give it."""
    await desk.execute("update es.principal set roles = array['operator', 'reviewer'] where name = 'olga'")
    plain = await desk.task()
    await desk.submit("result", plain, await desk.ack(plain), evidence=[], deviations=[])
    assert "completed" == await desk.phase(plain)
    task_id = await desk.task()
    deviations = [{"step_id": "s1", "why": "The setting had another name."}]
    await desk.submit("result", task_id, await desk.ack(task_id), evidence=[], deviations=deviations)
    assert "result_review" == await desk.phase(task_id)
    line = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"].rpartition(": ")[2]
    refused = await desk.direct(task_id, line, "olga")
    assert ("refused", "self_review") == (refused["outcome"], refused["rule"])
    assert "done" == (await desk.direct(task_id, line, "rita"))["outcome"]
    assert "completed" == await desk.phase(task_id)


async def test_another_executor_tries_after_a_broken_tool(desk: Desk):
    """Whose tool broke is set aside; with nobody else left a person is asked, and the task says why."""
    await desk.executor("second")
    task_id = await desk.task()
    for attempt in (1, 2):
        name = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]["executor"]
        held = await desk.ack(task_id, token(name))
        broken = {"class": "tool", "retryable": False, "message": f"{name} has no pytest."}
        await desk.submit("failure", task_id, held, attempt, 2, **broken)
        assert "retry_wait" == await desk.phase(task_id)
        await desk.direct(task_id, "/retry", "ada")
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert "input_required" == shown["phase"]
    assert "declined it or was set aside (coder, second)" in shown["waiting_for"]["what"]
    ruled = [x for x in await desk.backend.log.read_stream(task_id) if x.type == "attempt.ruled"]
    assert [("coder", "other_executor"), ("second", "other_executor")] == [
        (x.data["executor"], x.data["then"]) for x in ruled
    ]


async def test_a_failure_that_no_rule_is_about_ends_as_it_is_built_in(desk: Desk):
    """No rule says what then; that policy was asked is on record all the same."""
    task_id = await desk.task()
    held = await desk.ack(task_id)
    await desk.submit("failure", task_id, held, 1, 2, **{"class": "internal", "retryable": False})
    assert "failed" == await desk.phase(task_id)
    assert "attempt.ruled" not in await desk.events(task_id)
    (asked,) = (await desk.show(f"/api/decisions?task={task_id}&hook=attempt.ended"))["items"]
    assert ("allow", [], None) == (asked["decision"], asked["rules"], asked["then"])


async def test_a_person_looks_after_a_silent_executor(desk: Desk):
    """The deadline for the ack is ruled as a failure is, and the rule's reason is what the task waits with."""
    task_id = await desk.task()
    await desk.worker.drain_deadlines()
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert "input_required" == shown["phase"]
    assert "Somebody should look at a silent executor." in shown["waiting_for"]["what"]
    (ruled,) = (await desk.show(f"/api/decisions?task={task_id}&hook=attempt.ended"))["items"]
    assert ("person", "ack", ["developer"]) == (
        ruled["then"],
        ruled["facts"]["attempt.class"],
        ruled["facts"]["executor.roles"],
    )


async def test_a_question_goes_to_whom_policy_asks(desk: Desk):
    """The task waits for a reviewer; an operator is told so, and the reviewer's answer counts."""
    task_id = await desk.task()
    await desk.submit("escalation", task_id, await desk.ack(task_id))
    assert "role:reviewer" == (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["owner"]
    refused = await desk.direct(task_id, "/answer q1 three", "olga")
    assert ("refused", "/answer needs the role reviewer.") == (
        refused["outcome"],
        refused["message"].partition(" Ask")[0],
    )
    assert "/answer" in (await desk.direct(task_id, "/help", "rita"))["message"]
    assert "/answer" not in (await desk.direct(task_id, "/help", "olga"))["message"]
    assert "done" == (await desk.direct(task_id, "/answer q1 three", "rita"))["outcome"]
    assert "dispatched" == await desk.phase(task_id)


async def test_a_default_is_switched_off_by_a_reviewer(desk: Desk):
    """The countdown stays, what happens at its end does not; where nothing would happen there is nothing to do."""
    task_id = await desk.task(mode="plan_first")
    await desk.submit("plan", task_id, await desk.ack(task_id), steps=step(risk="high"))
    before = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]
    assert "`/default off`" in (await desk.direct(task_id, "/help", "rita"))["message"]
    wrong = await desk.direct(task_id, "/default on", "rita")
    assert ("refused", "/default off") == (wrong["outcome"], wrong["paste"])
    assert "done" == (await desk.direct(task_id, "/default off", "rita"))["outcome"]
    after = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]
    assert (before["deadline"], "escalate", "block") == (
        after["deadline"],
        before["default"],
        after["default"],
    )
    assert "/default off" not in (await desk.direct(task_id, "/help", "rita"))["message"]
    assert "done" == (await desk.direct(task_id, "/default off", "olga"))["outcome"]
    assert 1 == (await desk.events(task_id)).count("review.default_off")
    other = await desk.task(mode="plan_first")
    await desk.submit("plan", other, await desk.ack(other))
    refused = await desk.direct(other, "/default off", "rita")
    assert ("refused", True) == (refused["outcome"], "has no default" in refused["message"])


async def test_a_rule_may_keep_somebody_from_a_directive_but_not_from_stopping(desk: Desk):
    """The receipt names the rule and gives its reason; to hold and to cancel is nobody's to forbid."""
    task_id = await desk.task()
    refused = await desk.direct(task_id, "/reassign @coder", "olga")
    assert ("refused", "no-retries-on-fridays-by-olga", "Let somebody else do that.") == (
        refused["outcome"],
        refused["rule"],
        refused["message"],
    )
    assert "refused" == (await desk.direct(task_id, "/reassign @coder", "olga"))["outcome"]
    assert "done" == (await desk.direct(task_id, "/reassign @coder", "ada"))["outcome"]
    listed = (await desk.show(f"/api/decisions?task={task_id}&hook=directive"))["items"]
    assert [("allow", "ada"), ("deny", "olga")] == [
        (d["decision"], d["facts"]["directive.by"]) for d in listed
    ]
    assert "done" == (await desk.direct(task_id, "/hold", "olga"))["outcome"]
    assert "done" == (await desk.direct(task_id, "/cancel", "olga"))["outcome"]


async def everything(desk: Desk) -> None:
    """Have policy asked at every hook, and let it deny wherever it may."""
    planned = await desk.task(mode="plan_first")
    held = await desk.ack(planned)
    denied = BODIES["plan"] | {"steps": step(tools=["psql-production"])}
    assert_problem(await desk.send(callback("plan", planned, 1, 2, denied), held), 403, "policy_denied")
    await desk.submit("plan", planned, held, steps=step(risk="high"))
    await desk.approve(planned)
    await desk.approve(planned, as_="omar")
    direct = await desk.task()
    await desk.submit("result", direct, await desk.ack(direct), evidence=[], deviations=[])
    asking = await desk.task()
    await desk.submit("escalation", asking, await desk.ack(asking))
    await desk.direct(asking, "/reassign @coder", "olga")
    await desk.direct(asking, "/answer q1 three", "rita")
    failing = await desk.task()
    broken = {"class": "tool", "retryable": True, "message": "No pytest."}
    await desk.submit("failure", failing, await desk.ack(failing), 1, 2, **broken)


async def replayed(desk: Desk, text: str) -> dict[str, Any]:
    """Replay what was decided under another policy."""
    body = {"policy": {"name": "policy.yaml", "text": text}}
    answer = await desk.post("/api/policy/simulations", body, "olga")
    kind, data = answer.text.strip().split("\n\n")[-1].split("\n", 1)
    assert "event: report" == kind
    report: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return report


async def test_what_was_decided_at_any_hook_is_replayed(desk: Desk):
    """The same policy differs nowhere; each change of a rule shows at its hook, the loosened ones as such."""
    await everything(desk)
    report = await replayed(desk, POLICY)
    hooks = {d["hook"] for d in (await desk.show("/api/decisions?limit=200"))["items"]}
    assert {
        "task.received",
        "dispatch",
        "plan.submitted",
        "result.submitted",
        "attempt.ended",
        "escalation.raised",
        "directive",
    } == hooks
    assert (0, len((await desk.show("/api/decisions?limit=200"))["items"])) == (
        report["differing"],
        report["decisions"],
    )
    for old, new, direction, transition in (
        ("'psql-production'", "'none'", "loosened", "deny -> allow"),
        ("reviewers: {quorum: 2}, deadline: 1h", "deadline: 1h", "loosened", "reviewers.quorum 2 -> 1"),
        ("then: other_executor", "then: person", "tightened", "then other_executor -> person"),
        ("then: other_executor", "then: retry", "loosened", "then other_executor -> retry"),
        ("then: other_executor", "then: default", "mixed", "then other_executor -> default"),
        ("ask: reviewer", "ask: admin", "tightened", "ask reviewer -> admin"),
        ("ask: reviewer", "ask: operator", "loosened", "ask reviewer -> operator"),
        ("eq: olga", "eq: omar", "loosened", "deny -> allow"),
    ):
        changed = await replayed(desk, POLICY.replace(old, new))
        assert [(direction, transition, 1)] == [
            (row["direction"], row["transition"], row["count"]) for row in changed["transitions"]
        ], (old, new)


async def test_a_policy_on_trial_is_asked_at_every_hook(
    open_test_backend: OpenBackend, database: Database, tmp_path: Path
):
    """What it would have decided otherwise is counted by hook, denied submissions among it."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "policy.yaml").write_text("rules: []\n")
    terms = Terms(callback_url="http://desk/api/executions/callback", ack_within=timedelta(0))
    governance = load_governance(tmp_path)
    assert governance.shadow is not None
    parts: dict[str, Any] = {
        "policy": governance.policy,
        "shadow": governance.shadow.policy,
        "terms": terms,
    }
    async with open_test_backend(**parts) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.register(Principal(id="omar", name="omar", kind="person", roles=("reviewer",)))
        await desk.executor()
        await everything(desk)
        trends = (await desk.show("/api/governance/shadow"))["transitions"]
    found = {(trend["hook"], trend["loosened"]) for trend in trends}
    assert {
        ("plan.submitted", True),
        ("attempt.ended", True),
        ("escalation.raised", True),
        ("directive", True),
    } <= found

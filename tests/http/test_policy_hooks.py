"""Where policy is asked besides at admission and dispatch: a governance folder's rules, met over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

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
    """The answer is 403 with the rule and its reason, nothing is stored, and the attempt may send another."""
    task_id = await desk.task(mode="plan_first")
    held = await desk.ack(task_id)
    before = await desk.events(task_id)
    body = BODIES["plan"] | {"steps": step(tools=["psql-production"])}
    refused = await desk.send(callback("plan", task_id, 1, 2, body), held)
    problem = assert_problem(refused, 403, "policy_denied")
    assert "no-production-steps" in problem["detail"]
    assert "Agents have no business there." in problem["detail"]
    assert before == await desk.events(task_id)
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
    assert (["risky-steps-need-two"], "high", "system") == (
        event.data["rules"],
        event.data["facts"]["plan.risk"],
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
    """No rule, no word of it in the history."""
    task_id = await desk.task()
    held = await desk.ack(task_id)
    await desk.submit("failure", task_id, held, 1, 2, **{"class": "internal", "retryable": False})
    assert "failed" == await desk.phase(task_id)
    assert "attempt.ruled" not in await desk.events(task_id)


async def test_a_person_looks_after_a_silent_executor(desk: Desk):
    """The deadline for the ack is ruled as a failure is, and the rule's reason is what the task waits with."""
    task_id = await desk.task()
    await desk.worker.drain_deadlines()
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert "input_required" == shown["phase"]
    assert "Somebody should look at a silent executor." in shown["waiting_for"]["what"]
    (ruled,) = [x for x in await desk.backend.log.read_stream(task_id) if x.type == "attempt.ruled"]
    assert ("ack", ["developer"]) == (
        ruled.data["facts"]["attempt.class"],
        ruled.data["facts"]["executor.roles"],
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
    assert "done" == (await desk.direct(task_id, "/reassign @coder", "ada"))["outcome"]
    assert "done" == (await desk.direct(task_id, "/hold", "olga"))["outcome"]
    assert "done" == (await desk.direct(task_id, "/cancel", "olga"))["outcome"]

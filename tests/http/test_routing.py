"""Which executor gets a task: what policy asks of it, who is asked first, and what happens when nobody is left."""

from typing import Any

import pytest
from tests.desk import Desk, assert_problem, callback, token
from tests.http.test_children import item
from tests.http.test_decisions import simulated
from tests.http.test_governing import applied, apply

POLICY = """\
rules:
  - id: training-needs-a-gpu
    on: task.received
    when: {all: [{field: task.labels, any: [training]}]}
    require: {capabilities: [gpu], tier: 1}
  - id: broken-tools-want-a-stronger-hand
    on: attempt.ended
    when: "attempt.class == 'tool' && 'developer' in executor.roles && executor.tier < 9"
    require: {then: stronger_tier}
"""
ORGANISATION = """\
roles: {developer: {}, qa: {}}
members:
  weak: {roles: [developer], capabilities: [gpu], tier: 1}
  strong: {roles: [developer], capabilities: [gpu], tier: 2}
  plain: {capabilities: [web], tier: 3}
"""


@pytest.fixture
async def team(desk: Desk) -> Desk:
    """Put the policy in force, and register those whom the organisation names, the strong first."""
    for name in ("strong", "plain", "weak"):
        await desk.executor(name, role="intern")
    await applied(desk, POLICY, organisation=ORGANISATION)
    return desk


async def attempt(desk: Desk, task_id: str) -> tuple[int, str] | None:
    """Look at who has the task, and in which attempt."""
    found: dict[str, Any] | None = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
    return found and (found["number"], found["executor"])


async def waiting(desk: Desk, task_id: str) -> str:
    """Ask what a task waits for."""
    return str((await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"])


async def break_tool(desk: Desk, task_id: str) -> None:
    """Have the executor of the open attempt fail for its tools, and let the waiting time be over."""
    found = await attempt(desk, task_id)
    assert found is not None
    number, name = found
    held = await desk.ack(task_id, token(name))
    body = {"class": "tool", "retryable": False, "message": f"{name} ran out of memory."}
    await desk.submit("failure", task_id, held, number, 2, **body)
    assert "retry_wait" == await desk.phase(task_id)
    await desk.direct(task_id, "/retry")


async def test_a_failure_goes_to_a_stronger_executor_and_then_to_a_person(team: Desk) -> None:
    """The weakest that is able begins; a stronger one follows; with none above it an operator is asked, and told so."""
    task_id = await team.task(labels=["training"])
    assert (1, "weak") == await attempt(team, task_id)
    await break_tool(team, task_id)
    assert (2, "strong") == await attempt(team, task_id)
    await break_tool(team, task_id)
    shown = await team.show(f"/api/tasks/{task_id}")
    assert ("input_required", "operator") == (shown["phase"], shown["waiting_for"]["owner"])
    assert (
        "none with the capability gpu, and tier 3 or higher may take the task" in shown["waiting_for"]["what"]
    )
    events = await team.backend.log.read_stream(task_id)
    assert [1, 2] == [x.data["tier"] for x in events if x.type == "attempt.offered"]
    ended = [x.data for x in events if x.type == "policy.decided" and "attempt.ended" == x.data["hook"]]
    facts = [x["facts"] for x in ended]
    assert [("weak", "stronger_tier", 1), ("strong", "stronger_tier", 2)] == [
        (x["executor.name"], y["then"], x["executor.tier"]) for x, y in zip(facts, ended, strict=True)
    ]
    assert ["intern", "developer"] == facts[0]["executor.roles"]
    await team.direct(task_id, "/retry")
    assert "input_required" == await team.phase(task_id)
    await team.direct(task_id, "/retry fresh")
    assert (3, "weak") == await attempt(team, task_id)


async def test_a_stronger_executor_that_arrives_takes_what_waits_for_a_person(team: Desk) -> None:
    """Once there is one, a plain retry goes on; a reassignment lets whoever it names try, however weak."""
    first, second = [await team.task(assignee="weak") for _ in range(2)]
    for task_id in (first, second):
        await break_tool(team, task_id)
        assert "tier 2 or higher" in await waiting(team, task_id)
    stronger = ORGANISATION.replace("tier: 1", "tier: 5")
    await applied(team, POLICY, organisation=stronger)
    await team.direct(first, "/retry")
    assert (2, "weak") == await attempt(team, first)
    await applied(team, POLICY, organisation=ORGANISATION)
    await team.direct(second, "/reassign @weak")
    assert (2, "weak") == await attempt(team, second)


async def test_a_task_waits_for_what_no_executor_has_and_goes_on_with_it(team: Desk) -> None:
    """It names the capability or the tier; a bundle that gives it to somebody ends that, and who arrives with it."""
    demanding = POLICY.replace("[gpu], tier: 1", "[gpu, quantum], tier: 2")
    promising = ORGANISATION + "  late: {capabilities: [gpu, quantum], tier: 2}\n"
    await applied(team, demanding, organisation=promising)
    task_id = await team.task(labels=["training"])
    shown = await team.show(f"/api/tasks/{task_id}")
    assert ("ready", "system") == (shown["phase"], shown["waiting_for"]["owner"])
    assert "an executor that may take it with the capability quantum (" in shown["waiting_for"]["what"]
    assert shown["waiting_for"] == (await team.show(f"/api/tasks/{task_id}/why"))["waiting_for"]
    ranked = await team.task(labels=["training"], assignee="weak")
    assert "with the capability quantum, and tier 2 or higher (" in await waiting(team, ranked)
    able = promising.replace("weak: {roles: [developer], capabilities: [gpu], tier: 1}", "weak: {}")
    able = able.replace(
        "strong: {roles: [developer], capabilities: [gpu]", "strong: {capabilities: [gpu, quantum]"
    )
    await applied(team, demanding, organisation=able)
    await team.work()
    assert (1, "strong") == await attempt(team, task_id)
    assert "ready" == await team.phase(ranked)
    await team.direct(ranked, "/reassign role:newcomers")
    assert "with the capabilities gpu and quantum, and tier 2 or higher (" in await waiting(team, ranked)
    await team.executor("late", role="newcomers")
    await team.work()
    assert (1, "late") == await attempt(team, ranked)
    assert [] == await team.rows("select what from es.waiting where task_id = %s", ranked)


async def test_the_lowest_tier_is_spent_first_and_then_the_next(team: Desk) -> None:
    """A full executor passes the task on to the next tier; where policy asks for nothing, the order is the same."""
    full = ORGANISATION.replace("tier: 1}", "tier: 1, capacity: 1}").replace(
        "tier: 2}", "tier: 2, capacity: 4}"
    )
    await applied(team, POLICY, organisation=full)
    made = [await team.task(labels=["training"]) for _ in range(3)]
    assert [(1, "weak"), (1, "strong"), (1, "strong")] == [await attempt(team, t) for t in made]
    assert (1, "strong") == await attempt(team, await team.task())
    await team.executor("unknown")
    assert (1, "unknown") == await attempt(team, await team.task())


async def test_rules_at_dispatch_see_what_the_executor_is(team: Desk) -> None:
    """Capabilities, tier and load are facts of the decision, and may deny it."""
    denying = """\
  - id: one-at-a-time
    on: dispatch
    when: {all: [{field: executor.load, gte: 1}, {field: executor.tier, lte: 1}]}
    deny: true
    reason: The weak do one thing at a time.
  - id: no-web-for-the-weak
    on: dispatch
    when: "task.project == 'web' && !executor.capabilities.exists(c, c == 'web')"
    deny: true
"""
    await applied(team, POLICY + denying, organisation=ORGANISATION)
    first, second = [await team.task(assignee="weak") for _ in range(2)]
    events = await team.backend.log.read_stream(first)
    (allowed,) = [x.data["facts"] for x in events if x.type == "dispatch.allowed"]
    assert (["gpu"], 1, 0) == tuple(allowed[f"executor.{n}"] for n in ("capabilities", "tier", "load"))
    assert "The weak do one thing at a time." in await waiting(team, second)
    assert "dispatched" == await team.phase(await team.task(project="web", assignee="plain"))
    assert "input_required" == await team.phase(await team.task(project="web", assignee="strong"))


async def test_a_reviewer_need_not_be_able_to_do_the_work(team: Desk) -> None:
    """What is asked of the executor is not asked of whoever reads its plan."""
    gated = POLICY.replace("tier: 1}", "tier: 1, mode: plan_first, reviewers: {role: qa, by: anyone}}")
    await applied(team, gated, organisation=ORGANISATION.replace("plain: {", "plain: {roles: [qa], "))
    task_id = await team.task(labels=["training"])
    await team.submit("plan", task_id, await team.ack(task_id, token("weak")))
    assert ("plan_review", (2, "plain")) == (await team.phase(task_id), await attempt(team, task_id))


async def test_a_child_needs_what_was_asked_for_when_it_was_proposed_and_received(team: Desk) -> None:
    """Both are joined: the capabilities of either, and the higher tier."""
    proposed = """\
  - id: children-are-for-the-strong
    on: task.proposed
    require: {capabilities: [gpu], tier: 2}
  - id: everything-is-for-somebody
    on: task.received
    require: {tier: 1}
"""
    await applied(team, POLICY + proposed, organisation=ORGANISATION)
    parent = await team.task(assignee="weak")
    body = {"reason": "Why", "tasks": [item("one", role="intern")]}
    sent = await team.send(
        callback("task_request", parent, 1, 2, body), await team.ack(parent, token("weak"))
    )
    assert 202 == sent.status_code, sent.text
    await team.work()
    ((child,),) = await team.rows("select stream_id from es.event where type = 'parent.declared'")
    assert (1, "strong") == await attempt(team, child)
    (received,) = [x.data for x in await team.backend.log.read_stream(child) if x.type == "task.allowed"]
    assert (["gpu"], 2) == tuple(received["obligations"][n] for n in ("capabilities", "tier"))


async def test_a_bundle_that_asks_for_what_no_member_has_is_refused(team: Desk) -> None:
    """The fault is named with file and line, and what is in force stays."""
    before = await team.show("/api/governance")
    answer = await apply(team, POLICY.replace("tier: 1", "tier: 4"), organisation=ORGANISATION)
    problem = assert_problem(answer, 422, "schema_invalid")
    assert "policy.yaml:5: no member of organisation.yaml is of tier 4 or higher" in problem["detail"]
    assert before == await team.show("/api/governance")


async def test_executors_are_listed_with_what_they_are(team: Desk) -> None:
    """The organisation's word, and nothing where it says none."""
    await team.executor("unknown")
    items = (await team.show("/api/executors"))["items"]
    assert {
        "plain": (["web"], 3),
        "strong": (["gpu"], 2),
        "unknown": ([], None),
        "weak": (["gpu"], 1),
    } == {e["name"]: (e["capabilities"], e["tier"]) for e in items}


async def test_a_policy_that_asks_less_of_executors_is_loosened(team: Desk) -> None:
    """Replayed under itself nothing differs; without the capability, or of a lower tier, it is named."""
    await team.task(labels=["training"])
    assert 0 == (await simulated(team, POLICY))["differing"]
    for less, words in (("[]", "capabilities gpu -> none"), ("[gpu]", "tier 1 -> none")):
        rule = f"require: {{capabilities: {less}{', tier: 1' if less == '[]' else ''}}}"
        report = await simulated(team, POLICY.replace("require: {capabilities: [gpu], tier: 1}", rule))
        assert (1, [words]) == (report["loosened"], [row["transition"] for row in report["transitions"]])

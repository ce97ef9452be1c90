"""Tasks that come of tasks, from the request of an executor to their end, over HTTP and in the history."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import BODIES, Desk, assert_problem, callback, open_client, token
from tests.http.test_steering import brief_of

from agentic_os.domain.conditions import Condition
from agentic_os.domain.organisation import Organisation, Role
from agentic_os.domain.policy import Obligations, Reviewers, Rule, RuleSet

SMALL = {"evidence": [], "artifacts": []}


def item(ref: str = "one", **changes: Any) -> dict[str, Any]:
    """Propose a task that one result completes."""
    acceptance = [{"id": "done", "text": "It is done"}]
    return {
        "ref": ref,
        "title": f"Do {ref}",
        "goal": "G",
        "role": "helper",
        "acceptance": acceptance,
    } | changes


def done(**changes: Any) -> dict[str, Any]:
    """Make the body of a result that completes such a task."""
    evidence = [{"criterion_id": "done", "rank": "self_reported", "status": "pass"}]
    return SMALL | {"evidence": evidence, "summary": "It works now."} | changes


async def children(desk: Desk, task_id: str) -> dict[str, str]:
    """Map the refs of a task's children to their ids."""
    return {c["ref"]: c["id"] for c in (await desk.show(f"/api/tasks/{task_id}"))["children"]}


async def states(desk: Desk, task_id: str) -> dict[str, str]:
    """Map the refs of a task's children to their states, as the parent knows them."""
    return {c["ref"]: c["state"] for c in (await desk.show(f"/api/tasks/{task_id}"))["children"]}


async def at_work(desk: Desk, **fields: Any) -> tuple[str, str]:
    """Have an executor at work on a task, with another one of the role that its children are for."""
    await desk.executor()
    await desk.executor("hand", "helper")
    task_id = await desk.task(assignee="coder", **fields)
    return task_id, await desk.ack(task_id)


async def requested(desk: Desk, *items: dict[str, Any], **fields: Any) -> str:
    """Have a task at work request tasks; return its id."""
    task_id, attempt_token = await at_work(desk, **fields)
    body = {"reason": "Why", "tasks": list(items)}
    answer = await desk.send(callback("task_request", task_id, 1, 2, body), attempt_token)
    assert 202 == answer.status_code, answer.text
    await desk.work()
    return task_id


async def approved(desk: Desk, *items: dict[str, Any], **fields: Any) -> str:
    """Have a plan with tasks approved; return the task's id."""
    task_id, attempt_token = await at_work(desk, mode="plan_first", **fields)
    await desk.submit("plan", task_id, attempt_token, tasks=list(items))
    await desk.approve(task_id)
    return task_id


async def finish(desk: Desk, task_id: str, name: str = "hand") -> None:
    """Hand in a result that completes a child."""
    await desk.submit("result", task_id, await desk.ack(task_id, token(name)), **done())


async def test_a_requested_task_is_a_task_like_any_other(desk: Desk):
    """It is admitted, goes to the role that was asked for, knows its parent, and is told of in the parent's history."""
    asked = item(input={"branch": "main"}, output_schema={"type": "object"}, priority="high", paths=["src/a"])
    parent = await requested(desk, asked, paths=["src/**"], tools=["git"], labels=["x"], risk="medium")
    found = await children(desk, parent)
    child = await desk.show(f"/api/tasks/{found['one']}")
    assert ("dispatched", "hand") == (child["phase"], child["attempt"]["executor"])
    assert {"id": parent, "ref": "one", "depth": 1} == child["parent"]
    assert (["src/a"], ["git"], "medium", "high") == (
        child["paths"],
        child["tools"],
        child["risk"],
        child["priority"],
    )
    assert (["x"], "olga", {"type": "object"}) == (
        child["labels"],
        child["requester"],
        child["output_schema"],
    )
    assert {"branch": "main"} == (await brief_of(desk, child["id"], token("hand")))["input"] == child["input"]
    history = await desk.backend.log.read_stream(parent)
    (accepted,) = [e for e in history if e.type == "child.accepted"]
    assert (child["id"], asked, "system") == (accepted.data["child_id"], asked, accepted.actor)
    assert ("coder", f"child:{parent}") == (
        (await desk.backend.log.read_stream(child["id"]))[0].actor,
        (await desk.backend.log.read_stream(child["id"]))[0].data["origin"],
    )
    assert [child["id"]] == [t["id"] for t in (await desk.show(f"/api/tasks?parent={parent}"))["items"]]
    assert [] == (await desk.show(f"/api/tasks?parent={child['id']}"))["items"]
    assert [] == (await desk.show("/api/tasks?parent=nobody%00"))["items"]


async def test_the_parent_goes_on_while_a_requested_task_is_open(desk: Desk):
    """It may be completed first; the child's end is noted then, once, with what it spent."""
    parent = await requested(desk, item(), budget={"tokens": 100})
    child = (await children(desk, parent))["one"]
    attempt_token = await desk.ack(parent, seq=3)
    await desk.submit("result", parent, attempt_token, seq=4, **SMALL)
    assert "completed" == await desk.phase(parent)
    hand = await desk.ack(child, token("hand"))
    spent = callback("heartbeat", child, 1, 2, {}, usage={"output_tokens": 7})
    assert 202 == (await desk.send(spent, hand)).status_code
    await desk.submit("result", child, hand, seq=3, **done())
    await desk.backend.work.mark([child, parent])
    await desk.work()
    assert 1 == (await desk.events(parent)).count("child.ended")
    (shown,) = (await desk.show(f"/api/tasks/{parent}"))["children"]
    assert ("completed", {"cost_microusd": 0, "tokens": 7}) == (shown["state"], shown["spent"])


async def test_the_same_request_again_creates_nothing_twice(desk: Desk):
    """A replay gets the stored answer; sent by many at once, the request counts once too."""
    parent, attempt_token = await at_work(desk)
    document = callback("task_request", parent, 1, 2, {"reason": "Why", "tasks": [item(), item("two")]})
    answers = await asyncio.gather(*(desk.send(document, attempt_token) for _ in range(4)))
    assert {202} == {a.status_code for a in answers}
    assert 1 == len({a.content for a in answers})
    assert 2 == len(await children(desk, parent))
    assert [(3,)] == await desk.rows("select count(*) from es.task")


@pytest.mark.parametrize(
    ("asked", "fields", "code", "pointer"),
    [
        ([item(paths=["etc"])], {"paths": ["src/**"]}, "scope_denied", "/body/tasks/0/paths/0"),
        ([item(), item("two", tools=["psql"])], {"tools": ["git"]}, "scope_denied", "/body/tasks/1/tools/0"),
        ([item(depends_on=["two"])], {}, "schema_invalid", "/body/tasks/0/depends_on/0"),
        ([item(depends_on=["one"])], {}, "schema_invalid", "/body/tasks/0/depends_on/0"),
        ([item(), item()], {}, "schema_invalid", "/body/tasks/1/ref"),
        ([item(output_schema={"type": 3})], {}, "schema_invalid", "/body/tasks/0/output_schema"),
        ([item()], {"budget": {"tokens": 1}}, "budget_exceeded", None),
    ],
)
@pytest.mark.parametrize("kind", ["task_request", "plan"])
async def test_what_cannot_be_granted_is_refused_and_leaves_nothing(  # noqa: PLR0917 - drawn by pytest
    desk: Desk, kind: str, asked: list[Any], fields: dict[str, Any], code: str, pointer: str | None
):
    """A request or a plan beyond the parent's rights, or at odds with itself, can be mended and sent again."""
    mode = "plan_first" if kind == "plan" else "direct"
    parent, attempt_token = await at_work(desk, mode=mode, **fields)
    before = await desk.stored()
    steps = [
        {"id": "s1", "title": "Do it"}
    ]  # which name no tools or paths, so that only the tasks can be too much
    body = {"reason": "Why"} if kind == "task_request" else BODIES["plan"] | {"steps": steps}
    answer = await desk.send(callback(kind, parent, 1, 2, {**body, "tasks": asked}), attempt_token)
    if code == "budget_exceeded" and kind == "plan":
        assert 202 == answer.status_code  # paid for already; its tasks are refused at the approval
        return
    status = {"scope_denied": 403, "schema_invalid": 422, "budget_exceeded": 402}[code]
    assert_problem(answer, status, code, pointer)
    assert before == await desk.stored()
    mended = {**body, "tasks": [item()]} if not fields.get("budget") else None
    if mended:
        assert 202 == (await desk.send(callback(kind, parent, 1, 2, mended), attempt_token)).status_code


# Plans


async def test_the_children_of_a_plan_are_created_on_approval_and_waited_for(desk: Desk):
    """None before; then each in its turn; and the parent's execution has what came of them in its brief."""
    task_id, attempt_token = await at_work(desk, mode="plan_first")
    await desk.submit("plan", task_id, attempt_token, tasks=[item(), item("two", depends_on=["one"])])
    assert {} == await children(desk, task_id)
    await desk.approve(task_id)
    found = await children(desk, task_id)
    assert ["one", "two"] == list(found)
    assert ("dispatched", "ready") == (await desk.phase(found["one"]), await desk.phase(found["two"]))
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("ready", sorted(found.values())) == (shown["phase"], sorted(shown["blocked_by"]))
    assert all(child_id in shown["waiting_for"]["what"] for child_id in found.values())
    why = await desk.show(f"/api/tasks/{task_id}/why")
    assert {"one": "open", "two": "open"} == {c["ref"]: c["state"] for c in why["children"]}

    await finish(desk, found["one"])
    assert ("ready", "dispatched") == (await desk.phase(task_id), await desk.phase(found["two"]))
    await finish(desk, found["two"])
    assert "dispatched" == await desk.phase(task_id)
    told = (await brief_of(desk, task_id))["children"]
    assert [("one", "completed", "It works now."), ("two", "completed", "It works now.")] == [
        (c["ref"], c["phase"], c["summary"]) for c in told
    ]
    assert all(c["digest"].startswith("sha256:") for c in told)
    assert 2 == (await desk.events(task_id)).count("child.ended")


@pytest.mark.parametrize("line", ["/cancel", "/reject r1"])
async def test_a_child_that_ends_otherwise_hands_the_parent_to_a_person(desk: Desk, line: str):
    """An operator is told which; once they send it on, the parent is executed without that child."""
    task_id = await approved(desk, item())
    child = (await children(desk, task_id))["one"]
    if line.startswith("/reject"):
        await desk.submit("result", child, await desk.ack(child, token("hand")), **done(outcome="partial"))
    assert "done" == (await desk.direct(child, line))["outcome"]
    assert "input_required" == await desk.phase(task_id)
    waiting = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"]
    assert f"one ({child}) is {'cancelled' if line == '/cancel' else 'rejected'}" in waiting
    await desk.direct(task_id, "/retry", "olga")
    assert "dispatched" == await desk.phase(task_id)
    assert ["cancelled" if line == "/cancel" else "rejected"] == [
        c["phase"] for c in (await brief_of(desk, task_id))["children"]
    ]


async def test_a_cancelled_parent_takes_its_open_children_with_it(desk: Desk):
    """Those of a plan and those of their own requests, with the reason; what has ended stays as it ended."""
    task_id = await approved(desk, item(), item("two"))
    found = await children(desk, task_id)
    await finish(desk, found["two"])
    hand = await desk.ack(found["one"], token("hand"))
    await desk.send(callback("task_request", found["one"], 1, 2, {"reason": "W", "tasks": [item()]}), hand)
    await desk.work()
    grandchild = (await children(desk, found["one"]))["one"]
    await desk.direct(task_id, "/cancel The customer left.", "olga")
    assert ["cancelled", "cancelled", "completed"] == [
        await desk.phase(t) for t in (found["one"], grandchild, found["two"])
    ]
    (cancelled,) = [e for e in await desk.backend.log.read_stream(found["one"]) if e.type == "task.cancelled"]
    assert f"Its parent {task_id} was cancelled. The customer left." == cancelled.data["reason"]
    assert {"one": "cancelled", "two": "completed"} == await states(desk, task_id)
    refused = await desk.send(callback("heartbeat", found["one"], 1, 3, {}), hand)
    assert_problem(refused, 409, "attempt_superseded")


async def test_a_lost_pass_is_made_up_for(desk: Desk):
    """What a server that died left undone is done when anybody looks at the task, and only once."""
    task_id, attempt_token = await at_work(desk, mode="plan_first")
    await desk.submit("plan", task_id, attempt_token, tasks=[item()])
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    await desk.post(
        f"/api/tasks/{task_id}/directives", {"text": f"/approve v1@{plan['digest'][7:15]}"}, "rita"
    )  # and nobody works
    assert {} == await children(desk, task_id)
    await asyncio.gather(*(desk.backend.dispatcher.advance(task_id) for _ in range(3)))
    await desk.work()
    assert 1 == len(await children(desk, task_id))
    assert 1 == (await desk.events(task_id)).count("child.accepted")
    assert [(2,)] == await desk.rows("select count(*) from es.task")


async def test_the_rows_are_the_same_when_they_are_folded_again(desk: Desk):
    """The family is in the events: rebuilt from them, the read models are as they were."""
    task_id = await approved(desk, item(), budget={"tokens": 1000})
    await finish(desk, (await children(desk, task_id))["one"])
    before = await desk.rows("select task_id, version, state from es.task order by task_id")
    await desk.backend.rebuild()
    assert before == await desk.rows("select task_id, version, state from es.task order by task_id")
    assert (await desk.backend.verify()).problem is None


# Policy and organisation


GOVERNED = RuleSet(
    bundle="sha256:" + "c" * 64,
    rules=(
        Rule(
            id="no-helpers-of-helpers",
            on="task.proposed",
            when=(Condition(field="parent.depth", operator="gte", value=1),),
            effect="deny",
            reason="Helpers do not delegate.",
        ),
        Rule(
            id="two-look-at-coders-children",
            on="task.proposed",
            when=(Condition(field="parent.executor", operator="eq", value="coder"),),
            obligations=Obligations(mode="plan_first", reviewers=Reviewers(quorum=2), on_timeout="proceed"),
        ),
        Rule(
            id="nothing-for-ghosts",
            on="task.received",
            when=(Condition(field="task.assignee", operator="eq", value="role:ghost"),),
            effect="deny",
            reason="There are no ghosts.",
        ),
    ),
)
ROLES = Organisation(
    roles={
        "helper": Role(
            charter="Help.",
            handoff_schema={"type": "object", "required": ["branch"]},
        )
    }
)


@pytest.fixture
async def governed(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open the API under rules for proposals, with a role that has a charter and a schema."""
    async with (
        open_test_backend(policy=GOVERNED, organisation=ROLES) as backend,
        open_client(backend) as client,
    ):
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found


async def test_policy_obliges_a_child_when_it_is_proposed(governed: Desk):
    """What the rule asks for holds from the child's admission on; the fact names the rule and what it saw."""
    parent = await requested(governed, item(), risk="high", project="payments")
    child = await governed.show(f"/api/tasks/{(await children(governed, parent))['one']}")
    assert ("plan_first", "plan") == (child["mode"], child["attempt"]["step"])
    loaded = (await governed.backend.log.load(child["id"])).task
    assert loaded is not None
    assert 2 == loaded.obligations.reviewers.quorum
    (accepted,) = [e for e in await governed.backend.log.read_stream(parent) if e.type == "child.accepted"]
    assert ["two-look-at-coders-children"] == accepted.data["rules"]
    seen = {name: value for name, value in accepted.data["facts"].items() if name.startswith("parent.")}
    assert {
        "parent.project": "payments",
        "parent.risk": "high",
        "parent.depth": 0,
        "parent.executor": "coder",
    } == seen


async def test_policy_refuses_a_child_and_says_so(governed: Desk):
    """The request itself is accepted; the refusal is in the history, in the view, in /why and in the next brief."""
    parent = await requested(governed, item(mode="direct"))
    child = (await children(governed, parent))["one"]
    body = {"reason": "W", "tasks": [item()]}
    hand = await governed.ack(child, token("hand"))
    answer = await governed.send(callback("task_request", child, 1, 2, body), hand)
    assert 202 == answer.status_code
    refused = {
        "ref": "one",
        "title": "Do one",
        "rules": ["no-helpers-of-helpers"],
        "reasons": ["Helpers do not delegate."],
    }
    assert [refused] == (await governed.show(f"/api/tasks/{child}"))["refused_children"]
    assert [refused] == (await governed.show(f"/api/tasks/{child}/why"))["refused_children"]
    assert {} == await children(governed, child)
    await governed.direct(child, "/reassign @hand", "olga")
    (told,) = (await brief_of(governed, child, token("hand")))["children"]
    assert ("one", "refused", "Helpers do not delegate.") == (told["ref"], told["phase"], told["summary"])


async def test_a_refused_task_of_a_plan_hands_the_plan_to_a_person(governed: Desk):
    """A plan that policy lets be carried out only in part is not carried out before somebody says so."""
    parent = await requested(governed, item())
    child = (await children(governed, parent))["one"]
    await governed.submit("plan", child, await governed.ack(child, token("hand")), tasks=[item()])
    for name in ("rita", "ada"):
        await governed.approve(child, name)
    assert "input_required" == await governed.phase(child)
    assert "Helpers do not delegate" in (await governed.show(f"/api/tasks/{child}"))["waiting_for"]["what"]
    await governed.direct(child, "/retry", "olga")
    assert "dispatched" == await governed.phase(child)


async def test_a_child_passes_the_gate_of_every_task_too(governed: Desk):
    """Denied when it is received, it ends at once, and its parent hears of it."""
    parent = await requested(governed, item(role="ghost"))
    assert {"one": "rejected"} == await states(governed, parent)


async def test_a_role_has_a_charter_and_a_schema_of_what_is_handed_to_it(governed: Desk):
    """An executor of the role has the charter in its brief; a payload that does not fit is refused with its places."""
    task_id, attempt_token = await at_work(governed)
    assert "" == (await brief_of(governed, task_id))["charter"]
    body = {"to_role": "helper", "reason": "W", "payload": {"branches": 1}}
    refused = await governed.send(callback("handoff", task_id, 1, 2, body), attempt_token)
    problem = assert_problem(refused, 422, "output_invalid", "/body/payload")
    assert "branch" in problem["detail"]
    body["payload"] = {"branch": "main"}
    for role in ("helper", "nobody-declared-it"):
        sent = callback("handoff", task_id, 1, 2 + (role != "helper"), body | {"to_role": role})
        assert 202 == (await governed.send(sent, attempt_token)).status_code
    await governed.direct(task_id, "/reassign @hand", "olga")
    brief = await brief_of(governed, task_id, token("hand"))
    assert ("Help.", [{"branch": "main"}]) == (brief["charter"], [h["payload"] for h in brief["handoffs"]])


async def test_a_task_may_be_asked_for_with_data(desk: Desk):
    """The input of a request is in the task and in its brief."""
    await desk.executor()
    task_id = await desk.task(input={"n": [1, 2]})
    assert {"n": [1, 2]} == (await desk.show(f"/api/tasks/{task_id}"))["input"]
    assert {"n": [1, 2]} == (await brief_of(desk, task_id))["input"]

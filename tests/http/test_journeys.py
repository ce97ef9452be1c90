"""A person with curl and the schema plays an executor through both modes, and reads every answer by its shape."""

import hashlib
import json
from typing import Any

import httpx
from tests.desk import BODIES, NO_SKILLS, Desk, bearer, callback, digest, token

from agentic_os.contracts.canonical import canonical_json, document_digest

OPTIONAL = type(None)
SUBMISSION = {"version": int, "digest": str, "state": str}
TASK = {
    "id": str,
    "title": str,
    "project": str,
    "phase": str,
    "mode": str,
    "version": int,
    "attempt": {"number": int, "executor": str, "state": str, "lease_expires_at": (str, OPTIONAL)},
    "plan": SUBMISSION,
    "result": SUBMISSION,
    "waiting_for": {"owner": str, "what": str, "deadline": (str, OPTIONAL), "default": (str, OPTIONAL)},
    "holds": list,
    "blocked_by": list,
    "verdict": {"decision": str, "rules": list, "bundle": str},
    "issue": {"control_plane": str, "key": str, "url": str},
    "budget": dict,
    "created_at": str,
    "updated_at": str,
}
BRIEF = {
    "contract": str,
    "task_id": str,
    "attempt": int,
    "step": str,
    "mode": str,
    "title": str,
    "goal": str,
    "charter": str,
    "acceptance": list,
    "constraints": list,
    "paths": list,
    "tools": list,
    "plan": {"version": int, "digest": str, "steps": list},
    "review_items": list,
    "review": {"subject": str, "version": int, "digest": str, "document": dict, "diff": str},
    "answers": list,
    "handoffs": list,
    "notes": list,
    "input": (dict, OPTIONAL),
    "children": list,
    "resume": (dict, OPTIONAL),
    "output_schema": (dict, OPTIONAL),
    "budget": dict,
    "lease_seconds": int,
    "callback_url": str,
    "next": str,
}
EVENT = {"version": int, "type": str, "at": str, "actor": str, "reason": str, "data": dict, "hash": str}
ACCEPTED = {
    "accepted": bool,
    "event_ids": list,
    "task_version": int,
    "phase": str,
    "directive": str,
    "lease_expires_at": (str, OPTIONAL),
    "budget_left": dict,
}
RECEIPT = {
    "id": str,
    "outcome": str,
    "rule": (str, OPTIONAL),
    "message": str,
    "paste": (str, OPTIONAL),
}


def assert_shape(shape: dict[str, Any], value: dict[str, Any], absent: set[str] | None = None) -> None:
    """Hold a document to a shape: every member is there and of its type; those in `absent` are null."""
    for name, kind in shape.items():
        assert name in value, f"{name} is missing from {sorted(value)}"
        if name in (absent or ()):
            assert value[name] is None, f"{name} should be null: {value[name]}"
        elif isinstance(kind, dict):
            assert_shape(kind, value[name])
        else:
            assert isinstance(value[name], kind), f"{name}: {value[name]!r}"


async def read_brief(desk: Desk, task_id: str) -> dict[str, Any]:
    """Read the brief as its executor, and check that its digest is that of its canonical JSON."""
    answer = await desk.client.get(f"/api/tasks/{task_id}/brief", headers=bearer(token("coder")))
    assert 200 == answer.status_code, answer.text
    offer = answer.json()
    assert {"attempt", "digest", "brief"} == offer.keys()
    assert offer["digest"] == "sha256:" + hashlib.sha256(canonical_json(offer["brief"])).hexdigest()
    assert BRIEF.keys() == offer["brief"].keys()
    return dict(offer)


async def accepted(answer: httpx.Response) -> dict[str, Any]:
    """Read a 202."""
    assert 202 == answer.status_code, answer.text
    assert_shape(ACCEPTED, answer.json())
    assert "idempotent-replayed" not in answer.headers
    return dict(answer.json())


async def test_a_direct_task_is_completed_by_one_attempt(desk: Desk) -> None:
    """In mode direct, ack and result complete the task, and every document read on the way has its shape."""
    credential = await desk.executor()
    made = await desk.post(
        "/api/tasks",
        {
            "title": "T",
            "goal": "G",
            "project": "default",
            "acceptance": [{"id": "tests", "text": "pass"}],
            "assignee": "coder",
            "budget": {"attempts": 3},
        },
        "olga",
    )
    assert 201 == made.status_code
    task_id = made.json()["id"]
    assert f"/api/tasks/{task_id}" == made.headers["location"]
    assert_shape(TASK, made.json(), absent={"attempt", "plan", "result", "issue"})
    await desk.work()

    shown = await desk.show(f"/api/tasks/{task_id}")
    assert_shape(TASK, shown, absent={"plan", "result", "issue"})
    assert ("dispatched", "offered", None) == (
        shown["phase"],
        shown["attempt"]["state"],
        shown["attempt"]["lease_expires_at"],
    )
    offer = await read_brief(desk, task_id)
    assert_shape(BRIEF, offer["brief"], absent={"plan", "review"})
    assert "execute" == offer["brief"]["step"]
    assert [{"id": "tests", "text": "pass", "rank": "self_reported"}] == offer["brief"]["acceptance"]

    body = {"brief_digest": offer["digest"], "skillset_digest": NO_SKILLS, "runtime": {"name": "curl"}}
    begun = await accepted(await desk.send(callback("ack", task_id, 1, 1, body), credential))
    assert ("executing", "continue", 2) == (
        begun["phase"],
        begun["directive"],
        begun["budget_left"]["attempts"],
    )
    assert "generation" not in begun

    done = await accepted(
        await desk.send(callback("result", task_id, 1, 2, BODIES["result"]), begun["attempt_token"])
    )
    assert ("completed", "stop", None) == (done["phase"], done["directive"], done["lease_expires_at"])
    assert "attempt_token" not in done
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert_shape(TASK, shown, absent={"plan", "issue", "waiting_for"})
    assert document_digest(_named(BODIES["result"])) == shown["result"]["digest"]
    assert "approved" == shown["result"]["state"]


def _named(result: dict[str, Any]) -> dict[str, Any]:
    """Leave inline bytes out of a result, as the digest does."""
    artifacts = [{k: v for k, v in a.items() if k != "content_base64"} for a in result["artifacts"]]
    return result | {"artifacts": artifacts}


async def test_the_history_can_be_read_in_pages_and_chains(desk: Desk) -> None:
    """Each event has its shape and a hash of its own; pages join without gap or repeat; `next` ends as null."""
    await desk.executor()
    task_id = await desk.task()
    await desk.submit("result", task_id, await desk.ack(task_id))
    whole = await desk.show(f"/api/tasks/{task_id}/events")
    assert None is whole["next"]
    for event in whole["items"]:
        assert_shape(EVENT, event)
    assert list(range(1, len(whole["items"]) + 1)) == [e["version"] for e in whole["items"]]
    assert len(whole["items"]) == len({e["hash"] for e in whole["items"]})
    assert {"olga", "system", "coder"} == {e["actor"] for e in whole["items"]}

    paged, after = [], 0
    while after is not None:
        page = await desk.show(f"/api/tasks/{task_id}/events", params={"after": after, "limit": 2})
        paged += page["items"]
        after = page["next"]
    assert whole["items"] == paged
    report = (await desk.post("/api/audit/verify", {}, "vera")).json()
    assert ("ok", None) == (report["audit"], report["problem"])


async def test_a_plan_is_revised_approved_and_executed(desk: Desk) -> None:
    """In plan_first, each item of a revision must be answered, and exactly the approved plan is in the next brief."""
    credential = await desk.executor()
    task_id = await desk.task(mode="plan_first", acceptance=[{"id": "tests", "text": "pass"}])
    assert "plan" == (await read_brief(desk, task_id))["brief"]["step"]
    attempt_token = await desk.ack(task_id, credential)
    answer = await accepted(
        await desk.send(callback("plan", task_id, 1, 2, _marked("plan", task_id, 1)), attempt_token)
    )
    assert ("plan_review", "stop") == (answer["phase"], answer["directive"])
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert_shape(TASK, shown, absent={"result", "issue"})
    line = f"/approve v1@{shown['plan']['digest'][7:15]}"
    assert "role:reviewer" == shown["waiting_for"]["owner"]
    assert line in shown["waiting_for"]["what"]

    receipt = await desk.direct(task_id, "/revise v1\n- Name the file\n- Say how s1\n  is undone", as_="rita")
    assert RECEIPT.keys() == receipt.keys()
    assert_shape(RECEIPT, receipt)
    assert ("done", None) == (receipt["outcome"], receipt["rule"])
    offer = await read_brief(desk, task_id)
    items = offer["brief"]["review_items"]
    assert (2, "plan", ["Name the file", "Say how s1 is undone"]) == (
        offer["attempt"],
        offer["brief"]["step"],
        [item["text"] for item in items],
    )

    answers = [{"item_id": item["id"], "how": "it is in s1"} for item in items]
    second = BODIES["plan"] | {"summary": "Now with the file.", "responds_to": answers}
    attempt_token = await desk.ack(task_id, credential)
    await accepted(await desk.send(callback("plan", task_id, 2, 2, second), attempt_token))
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    assert {"version": 2, "digest": document_digest(second), "state": "open", "author": "coder"} == plan
    await desk.approve(task_id)

    offer = await read_brief(desk, task_id)
    approved = {"version": 2, "digest": plan["digest"], "steps": second["steps"]}
    assert ("execute", approved, []) == (
        offer["brief"]["step"],
        offer["brief"]["plan"],
        offer["brief"]["review_items"],
    )
    attempt_token = await desk.ack(task_id, credential)
    done = await accepted(
        await desk.send(callback("result", task_id, 3, 2, _marked("result", task_id, 3)), attempt_token)
    )
    assert "completed" == done["phase"]


def _marked(kind: str, task_id: str, attempt: int) -> dict[str, Any]:
    """Write the contract's marked example for another task and attempt."""
    text: str = BODIES[f"{kind}_marked"]["marked_text"]
    begin, _, rest = text.partition("\n")
    del begin
    return {"marked_text": f"AOS:{kind.upper()} v1 task={task_id} attempt={attempt}\n{rest}"}


async def test_skills_are_listed_for_executors_and_people(desk: Desk) -> None:
    """`/api/skills/{project}` names the digest of all skills and each skill with its root and digest."""
    credential = await desk.executor()
    answer = await desk.client.get("/api/skills/default", headers=bearer(credential))
    found = answer.json()
    assert {"digest", "skills", "definition", "bundle", "workspaces"} == found.keys()
    assert found["skills"]
    for skill in found["skills"]:
        assert {"name", "root", "digest"} == skill.keys()
    assert found == await desk.show("/api/skills/default")


async def test_late_work_is_listed_in_quarantine(desk: Desk) -> None:
    """A result of a superseded attempt is kept aside with its reason, once, and people can list it in pages."""
    await desk.executor()
    await desk.executor("other")
    late = {}
    for _ in range(2):
        task_id = await desk.task(assignee="coder")
        late[task_id] = await desk.ack(task_id)
        await desk.direct(task_id, "/reassign @other")
    for task_id, attempt_token in late.items():
        for seq in (2, 3):
            answer = await desk.send(callback("result", task_id, 1, seq), attempt_token)
            assert 409 == answer.status_code
    first = await desk.show("/api/quarantine", params={"limit": 1})
    rest = await desk.show("/api/quarantine", params={"cursor": first["next"]})
    assert None is rest["next"]
    found = [*first["items"], *rest["items"]]
    assert [(t, 1, "result", "attempt_superseded") for t in late] == [
        (i["task_id"], i["attempt"], i["kind"], i["reason"]) for i in found
    ]
    for item in found:
        assert {"id", "task_id", "attempt", "kind", "reason", "at"} == item.keys()


async def test_artifacts_are_listed_with_their_versions(desk: Desk) -> None:
    """The same name handed in again is the next version, and none is overwritten."""
    await desk.executor()
    task_id = await desk.task(acceptance=[{"id": "tests", "text": "pass", "rank": "independent"}])
    await desk.submit("result", task_id, await desk.ack(task_id))
    await desk.direct(task_id, "/rework r1\n- again", as_="rita")
    (item,) = (await read_brief(desk, task_id))["brief"]["review_items"]
    new = {"name": "change.patch", "media_type": "text/x-patch", "size": 3, "content_base64": "YWJj"}
    await desk.submit(
        "result",
        task_id,
        await desk.ack(task_id),
        attempt=2,
        artifacts=[new | {"digest": digest(b"abc")}],
        responds_to=[{"item_id": item["id"], "how": "done"}],
    )
    listed = await desk.show(f"/api/tasks/{task_id}/artifacts")
    assert {"items", "next"} == listed.keys()
    assert [("change.patch", 1, digest(b"hello"), 5), ("change.patch", 2, digest(b"abc"), 3)] == [
        (a["name"], a["version"], a["digest"], a["size"]) for a in listed["items"]
    ]


async def test_a_registered_executor_and_person_can_work_at_once(desk: Desk) -> None:
    """Registering answers id, name and credential, or id and token, and each opens its door at once."""
    executor = (await desk.post("/api/executors", {"name": "new", "role": "developer"}, "ada")).json()
    assert {"id", "name", "credential"} == executor.keys()
    person = (await desk.post("/api/tokens", {"name": "paul", "role": "viewer"}, "ada")).json()
    assert {"id", "token"} == person.keys()
    assert 200 == (await desk.client.get("/api/tasks", headers=bearer(person["token"]))).status_code
    skills = await desk.client.get("/api/skills/default", headers=bearer(executor["credential"]))
    assert 200 == skills.status_code


async def test_health_and_contract_need_no_credential(desk: Desk) -> None:
    """Whoever asks is told that the server lives, that it is ready, what the contract is, and how the API works."""
    for path in ("/healthz", "/readyz", "/api/contracts/callback/v1", "/openapi.json"):
        answer = await desk.client.get(path)
        assert 200 == answer.status_code
        assert isinstance(json.loads(answer.content), dict)
    assert 200 == (await desk.client.get("/docs")).status_code

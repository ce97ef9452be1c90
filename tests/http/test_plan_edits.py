"""People edit the plan under review over HTTP: as marked text or structured, once, within what the task may."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.desk import BODIES, Desk, assert_problem, callback, token

from agentic_os.cli import main
from agentic_os.http.app import create_app

PLAN = {name: BODIES["plan"][name] for name in ("summary", "acceptance", "risks")} | {
    "steps": [{n: v for n, v in step.items() if n != "rollback"} for step in BODIES["plan"]["steps"]]
}
"""The contract's example without what marked text cannot say."""


async def planned(desk: Desk, **fields: Any) -> str:
    """Bring a task to the review of a plan that marked text can say; return its id."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first", **fields)
    attempt_token = await desk.ack(task_id)
    answer = await desk.send(callback("plan", task_id, 1, 2, PLAN), attempt_token)
    assert 202 == answer.status_code, answer.text
    await desk.work()
    return task_id


async def test_an_edited_plan_is_the_next_version_and_is_what_is_executed(desk: Desk):
    """The text that is shown comes back changed: the person is its author, and the execute brief carries it."""
    task_id = await planned(desk)
    shown = await desk.show(f"/api/tasks/{task_id}/plan")
    assert ("coder", "open", 1) == (shown["author"], shown["state"], shown["version"])
    text = shown["marked_text"].replace(PLAN["summary"], "A summary of mine.")
    edited = await desk.post(
        f"/api/tasks/{task_id}/plan", {"replaces": shown["digest"], "marked_text": text}, "rita"
    )
    assert 200 == edited.status_code, edited.text
    plan = edited.json()["plan"]
    assert (2, "open", "rita") == (plan["version"], plan["state"], plan["author"])
    assert shown["digest"] != plan["digest"]
    assert PLAN["steps"] == (await desk.show(f"/api/tasks/{task_id}/plan"))["plan"]["steps"]

    await desk.approve(task_id)
    brief = (await desk.get(f"/api/tasks/{task_id}/brief")).json()["brief"]
    assert ("execute", 2, plan["digest"]) == (
        brief["step"],
        brief["plan"]["version"],
        brief["plan"]["digest"],
    )
    (event,) = [
        e for e in (await desk.show(f"/api/tasks/{task_id}/events"))["items"] if e["type"] == "plan.edited"
    ]
    assert ("rita", "rita", "edited the plan") == (event["actor"], event["data"]["author"], event["reason"])

    await desk.submit("result", task_id, await desk.ack(task_id), 2, 2)
    (artifact, *_) = (await desk.show(f"/api/tasks/{task_id}/artifacts"))["items"]
    assert (2, plan["digest"], "rita", ["rita"]) == (
        artifact["plan_version"],
        artifact["plan_digest"],
        artifact["plan_author"],
        artifact["approved_by"],
    )


async def test_a_structured_plan_takes_what_marked_text_cannot_say(desk: Desk):
    """A plan with an estimate is shown without a text; as text it is refused, structured it is taken in."""
    task_id = await desk.planned()
    shown = await desk.show(f"/api/tasks/{task_id}/plan")
    assert shown["marked_text"] is None
    path = f"/api/tasks/{task_id}/plan"
    text = f"AOS:PLAN v1 task={task_id} attempt=1\n\n## Summary\nShort.\n\nAOS:END\n"
    refused = await desk.post(path, {"replaces": shown["digest"], "marked_text": text}, "olga")
    problem = assert_problem(refused, 422, "schema_invalid")
    assert ["/marked_text"] == problem["pointer"]
    structured = await desk.post(
        path, {"replaces": shown["digest"], "plan": shown["plan"] | {"summary": "Mine."}}, "olga"
    )
    assert 200 == structured.status_code, structured.text
    assert "olga" == structured.json()["plan"]["author"]
    after = await desk.show(path)
    assert shown["plan"] | {"summary": "Mine."} == after["plan"]


async def test_an_edit_is_made_once(desk: Desk):
    """The same key with the same body is answered again; with another body it is refused."""
    task_id = await planned(desk)
    shown = await desk.show(f"/api/tasks/{task_id}/plan")
    body = {"replaces": shown["digest"], "plan": PLAN | {"summary": "Mine."}}
    path = f"/api/tasks/{task_id}/plan"
    first = await desk.post(path, body, "rita", **{"Idempotency-Key": "k1"})
    again = await desk.post(path, body, "rita", **{"Idempotency-Key": "k1"})
    assert (200, 200, "true") == (first.status_code, again.status_code, again.headers["idempotent-replayed"])
    assert 1 == (await desk.events(task_id)).count("plan.edited")
    other = await desk.post(path, body | {"plan": PLAN}, "rita", **{"Idempotency-Key": "k1"})
    assert_problem(other, 422, "idempotency_mismatch")


async def test_what_is_wrong_is_said_with_its_place(desk: Desk):
    """Nobody who may not, no other version, no plan as it was, none outside of the task, none out of form."""
    task_id = await planned(desk, paths=["src/**"])
    path = f"/api/tasks/{task_id}/plan"
    shown = await desk.show(path)
    digest = shown["digest"]
    mine = {"replaces": digest, "plan": PLAN | {"summary": "Mine."}}
    assert_problem(await desk.post(path, mine, "vera"), 403, "scope_denied")
    assert_problem(await desk.post("/api/tasks/none/plan", mine, "rita"), 404, "unknown_task")
    stale = assert_problem(
        await desk.post(path, mine | {"replaces": "sha256:" + "0" * 64}, "rita"), 409, "digest_mismatch"
    )
    assert ["/replaces"] == stale["pointer"]
    same = {"replaces": digest, "marked_text": shown["marked_text"]}
    assert_problem(await desk.post(path, same, "rita"), 409, "plan_unchanged")
    both = await desk.post(path, same | mine, "rita")
    assert_problem(both, 422, "schema_invalid")

    outside = PLAN | {"steps": [{"id": "s1", "title": "Write", "paths": ["docs/a.md"]}]}
    denied = assert_problem(
        await desk.post(path, {"replaces": digest, "plan": outside}, "rita"), 403, "scope_denied"
    )
    assert ["/plan/steps/0/paths/0"] == denied["pointer"]
    unknown = PLAN | {"steps": [{"id": "s1", "titel": "Write"}]}
    found = assert_problem(
        await desk.post(path, {"replaces": digest, "plan": unknown}, "rita"), 422, "schema_invalid"
    )
    assert "/plan/steps/0/titel" in found["pointer"]
    twice = PLAN | {"steps": [{"id": "s1", "title": "Write"}] * 2}
    found = assert_problem(
        await desk.post(path, {"replaces": digest, "plan": twice}, "rita"), 422, "schema_invalid"
    )
    assert ["/plan/steps/1/id"] == found["pointer"]

    text = shown["marked_text"].replace("## Steps", "## Stepps")
    line = 1 + text.splitlines().index("## Stepps")
    found = assert_problem(
        await desk.post(path, {"replaces": digest, "marked_text": text}, "rita"), 422, "section_missing"
    )
    assert f"line {line}:" in found["detail"]
    assert ["/marked_text"] == found["pointer"]
    assert "plan.edited" not in await desk.events(task_id)


async def test_secrets_are_taken_out_of_an_edit(desk: Desk):
    """What people write into a plan is redacted as what executors write is."""
    task_id = await planned(desk)
    shown = await desk.show(f"/api/tasks/{task_id}/plan")
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    body = {"replaces": shown["digest"], "plan": PLAN | {"summary": f"Use {secret} there."}}
    assert 200 == (await desk.post(f"/api/tasks/{task_id}/plan", body, "rita")).status_code
    after = (await desk.show(f"/api/tasks/{task_id}/plan"))["plan"]["summary"]
    assert secret not in after
    assert "[redacted:" in after


async def test_an_executor_edits_no_plan(desk: Desk):
    """An executor's credential opens no such door."""
    task_id = await planned(desk)
    shown = await desk.show(f"/api/tasks/{task_id}/plan")
    body = {"replaces": shown["digest"], "plan": PLAN | {"summary": "Mine."}}
    refused = await desk.client.post(
        f"/api/tasks/{task_id}/plan", json=body, headers={"authorization": f"Bearer {token('coder')}"}
    )
    assert refused.status_code in (401, 403)


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[str]:
    """Serve the desk's backend on loopback, for a client that is another program; give the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(desk.backend), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def test_the_command_line_prints_the_text_and_sends_it_back(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The printed text names its version, so that what was edited meanwhile by somebody else is not overwritten."""
    task_id = await planned(desk)
    async with served(desk) as url:
        monkeypatch.setenv("AGENTIC_OS_URL", url)
        monkeypatch.setenv("AGENTIC_OS_TOKEN", token("rita"))

        async def said(*arguments: object) -> tuple[int, str]:
            code = await asyncio.to_thread(main, ["task", "edit-plan", *map(str, arguments)])
            output = capsys.readouterr()
            return code, output.out + output.err

        code, printed = await said(task_id)
        assert 0 == code, printed
        file = tmp_path / "plan.txt"
        file.write_text(printed.replace(PLAN["summary"], "Mine."))
        code, sent = await said(task_id, "--file", file)
        assert (0, "version 2 by rita: sha256:") == (code, sent[:26]), sent
        code, stale = await said(task_id, "--file", file)
        assert (3, True) == (code, "not the plan under review" in stale), stale
        file.write_text(printed.partition("\n")[2])
        assert 2 == (await said(task_id, "--file", file))[0]
        assert 2 == (await said(task_id, "--file", tmp_path / "none"))[0]
    assert 1 == (await desk.events(task_id)).count("plan.edited")

"""Credentials over HTTP: rotated and revoked by administrators, refused at once, and recorded."""

import asyncio
import hashlib
from typing import Any

from tests.desk import NO_SKILLS, Desk, assert_problem, bearer, callback, token

from agentic_os.application.ports import Principal


async def delete(desk: Desk, path: str, as_: str = "ada") -> Any:
    """DELETE as somebody."""
    return await desk.client.delete(path, headers=bearer(token(as_)))


async def facts(desk: Desk, name: str) -> list[tuple[str, str]]:
    """List what happened to a principal, and by whom."""
    return [(e.type, e.actor) for e in await desk.backend.log.read_stream(f"principal:{name}")]


async def test_a_rotated_executor_goes_on_under_its_new_credential(desk: Desk) -> None:
    """The old credential is refused, the new one takes work, an attempt under way goes on, and it is recorded."""
    old = await desk.executor()
    first, second = await desk.task(), await desk.task()
    attempt_token = await desk.ack(first)
    made = (await desk.post("/api/executors/coder/rotate", {}, "ada")).json()
    assert "coder" == made["name"]
    brief = await desk.client.get(f"/api/tasks/{second}/brief", headers=bearer(old))
    assert_problem(brief, 401, "token_expired")
    assert await desk.ack(second, made["credential"])
    assert 202 == (await desk.send(callback("heartbeat", first, 1, 2), attempt_token)).status_code
    assert ("credential.rotated", "ada") == (await facts(desk, "coder"))[-1]
    (event,) = [
        e for e in await desk.backend.log.read_stream("principal:coder") if e.type == "credential.rotated"
    ]
    assert 2 == event.data["generation"]
    hashes = await desk.rows(
        "select hash from es.credential where principal = 'coder' and revoked_at is null"
    )
    assert [(hashlib.sha256(made["credential"].encode()).digest(),)] == hashes


async def test_a_revoked_executors_work_goes_to_another(desk: Desk) -> None:
    """Its open attempts are fenced off and offered to others, what it sends late is kept aside, and it gets no more."""
    await desk.executor()
    acked, offered = await desk.task(), await desk.task()
    attempt_token = await desk.ack(acked)
    await desk.executor("other")
    answer = await delete(desk, "/api/executors/coder")
    assert (200, {"revoked": "coder", "superseded": [acked, offered]}) == (answer.status_code, answer.json())
    await desk.work()
    for task_id in (acked, offered):
        attempt = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
        assert (2, "other", "offered") == tuple(attempt[n] for n in ("number", "executor", "state"))
    assert_problem(await desk.send(callback("result", acked, 1, 2), attempt_token), 409, "attempt_superseded")
    (late,) = (await desk.show("/api/quarantine"))["items"]
    assert (acked, "result") == (late["task_id"], late["kind"])
    body = {"brief_digest": NO_SKILLS, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    assert_problem(
        await desk.send(callback("ack", offered, 1, 1, body), token("coder")), 401, "token_expired"
    )
    assert ["other"] == [e["name"] for e in (await desk.show("/api/executors"))["items"]]
    assert ("principal.revoked", "ada") == (await facts(desk, "coder"))[-1]
    events = await desk.backend.log.read_stream(acked)
    (released,) = [e for e in events if e.type == "retry.released"]
    assert ("ada", "revoked coder") == (released.actor, released.reason)
    assert [] == await desk.rows("select 1 from es.account where name = 'capacity:coder' and reserved <> 0")


async def test_revoking_again_finishes_what_broke_off(desk: Desk) -> None:
    """An attempt that was left open when a revocation broke off is fenced off by the next one, and nothing else is."""
    await desk.executor()
    task_id = await desk.task()
    await desk.backend.credentials.book.revoke("coder", "ada")
    assert [task_id] == (await delete(desk, "/api/executors/coder")).json()["superseded"]
    before = await desk.stored()
    assert [] == (await delete(desk, "/api/executors/coder")).json()["superseded"]
    assert before == await desk.stored()


async def test_work_for_the_revoked_alone_waits_for_a_person(desk: Desk) -> None:
    """A task that was assigned to it by name asks an operator, and goes on once it is reassigned."""
    await desk.executor()
    await desk.executor("other")
    task_id = await desk.task(assignee="coder")
    await delete(desk, "/api/executors/coder")
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("input_required", True) == (shown["phase"], "/reassign" in shown["waiting_for"]["what"])
    assert "unknown_executor" == (await desk.direct(task_id, "/reassign @coder"))["rule"]
    assert "done" == (await desk.direct(task_id, "/reassign @other"))["outcome"]
    assert "dispatched" == await desk.phase(task_id)


async def test_a_persons_token_is_rotated_and_revoked(desk: Desk) -> None:
    """The old token opens nothing, the new one does, until the person is revoked; both are listed and recorded."""
    made = (await desk.post("/api/tokens/vera/rotate", {}, "ada")).json()
    assert_problem(await desk.get("/api/tasks"), 401, "token_expired")
    opened = await desk.client.get("/api/tasks", headers=bearer(made["token"]))
    assert 200 == opened.status_code
    assert 200 == (await delete(desk, "/api/tokens/vera")).status_code
    refused = await desk.client.get("/api/tasks", headers=bearer(made["token"]))
    assert_problem(refused, 401, "token_expired")
    assert [("credential.rotated", "ada"), ("principal.revoked", "ada")] == (await facts(desk, "vera"))[-2:]
    people = {p["name"]: p for p in (await desk.show("/api/tokens", "ada"))["items"]}
    assert {"ada", "olga", "rita", "vera"} == people.keys()
    assert [None, True] == [people[n]["revoked_at"] and True for n in ("ada", "vera")]
    assert_problem(await desk.post("/api/tokens/vera/rotate", {}, "ada"), 404, "not_found")


async def test_a_rotated_token_lives_no_longer_than_the_old_one_would(desk: Desk) -> None:
    """A token that expires is followed by one of the same lifetime."""
    await desk.post("/api/tokens", {"name": "paul", "role": "viewer", "expires_in_days": 3}, "ada")
    await desk.post("/api/tokens/paul/rotate", {}, "ada")
    lifetimes = await desk.rows(
        "select round(extract(epoch from expires_at - created_at) / 86400) from es.credential "
        "where principal = 'paul'"
    )
    assert [(3,), (3,)] == lifetimes
    (paul,) = [p for p in (await desk.show("/api/tokens", "ada"))["items"] if p["name"] == "paul"]
    assert paul["expires_at"]


async def test_the_last_administrator_stays(desk: Desk) -> None:
    """Nobody can be left without an administrator, also when two revoke each other at once."""
    assert_problem(await delete(desk, "/api/tokens/ada"), 403, "not_permitted")
    await desk.register(Principal(id="abe", name="abe", kind="person", roles=("admin",)))
    answers = await asyncio.gather(
        delete(desk, "/api/tokens/abe"), delete(desk, "/api/tokens/ada", as_="abe")
    )
    assert 1 == [a.status_code for a in answers].count(200)
    left = await desk.rows("select id from es.principal where 'admin' = any(roles) and revoked_at is null")
    assert 1 == len(left)


async def test_a_name_is_that_of_its_kind(desk: Desk) -> None:
    """Executors are not revoked as people, nor the other way round, nor what nobody has registered."""
    await desk.executor()
    await desk.post("/api/sources", {"name": "ci"}, "ada")
    for path in (
        "/api/executors/ada",
        "/api/tokens/coder",
        "/api/tokens/ci",
        "/api/sources/coder",
        "/api/executors/nobody",
        "/api/executors/%00",
    ):
        assert_problem(await delete(desk, path), 404, "not_found")
        assert_problem(await desk.post(f"{path}/rotate", {}, "ada"), 404, "not_found")
    taken = await desk.post("/api/sources", {"name": "coder"}, "ada")
    assert_problem(taken, 409, "name_taken", "/name")
    assert 200 == (await desk.get("/api/tasks")).status_code

"""Bad callbacks: each is refused by its status, code, pointer and what to do next, and leaves nothing behind."""

import hashlib
import importlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import (
    BODIES,
    DOOR,
    NO_SKILLS,
    Desk,
    assert_problem,
    bearer,
    callback,
    digest,
    open_client,
    token,
)

from agentic_os.application.dispatch import Terms
from agentic_os.contracts.callback import MAX_CALLBACK_BYTES
from agentic_os.hydration import check, hydrate, load_definition, packaged_skills, resolve

OTHER_TASK = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"
ELSEWHERE = "http://desk" + DOOR


def heartbeat(task_id: str, **changes: Any) -> dict[str, Any]:
    """Compose the plainest of callbacks."""
    return callback("heartbeat", task_id, 1, 2, {}) | changes


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Leave a member out."""
    return {key: value for key, value in document.items() if key != name}


def raw(document: dict[str, Any], old: str, new: str) -> bytes:
    """Write what json.dumps will not: replace a part of the text."""
    text = json.dumps(document)
    assert old in text
    return text.replace(old, new, 1).encode()


def marked(task_id: str, *, drop: str = "", first_line: str = "") -> dict[str, Any]:
    """Write a marked result, with one line left out or another marker."""
    lines = [
        first_line or f"AOS:RESULT v1 task={task_id} attempt=1",
        *("## Summary", "Done.", "## Outcome", "success", "## Changes", "none", "## Evidence", "none"),
        *("## Deviations", "none", "## Follow-ups", "none", "AOS:END"),
    ]
    text = "\n".join(line for line in lines if line != drop)
    return callback("result", task_id, 1, 2, {"marked_text": text})


FAULTS: dict[str, tuple[Callable[[str], Any], int, str, str | None]] = {
    "no JSON": (lambda _: b'{"contract": ', 400, "malformed", None),
    "empty": (lambda _: b"", 400, "malformed", None),
    "no UTF-8": (lambda _: b'"\xff"', 400, "malformed", None),
    "no object": (lambda _: b"[]", 422, "schema_invalid", None),
    "duplicate key": (lambda t: raw(heartbeat(t), '"body": {}', '"body": {}, "seq": 3'), 422, "schema_invalid", ""),
    "NUL": (lambda t: heartbeat(t, body={"note": "a\0b"}), 422, "schema_invalid", "/body/note"),
    "lone surrogate": (lambda t: heartbeat(t, body={"note": "\ud800"}), 422, "schema_invalid", "/body/note"),
    "integer beyond 2^53-1": (lambda t: heartbeat(t, seq=2**53), 422, "schema_invalid", "/seq"),
    "NaN": (lambda t: raw(heartbeat(t), '"seq": 2', '"seq": NaN'), 422, "schema_invalid", "/seq"),
    "surplus field": (lambda t: heartbeat(t, note="x"), 422, "schema_invalid", "/note"),
    "surplus in the body": (lambda t: heartbeat(t, body={"phase": "done"}), 422, "schema_invalid", "/body/phase"),
    "missing field": (lambda t: without(heartbeat(t), "seq"), 422, "schema_invalid", "/seq"),
    "missing in the body": (lambda t: callback("progress", t, 1, 2, {}), 422, "schema_invalid", "/body/message"),
    "false for an integer": (lambda t: heartbeat(t, seq=False), 422, "schema_invalid", "/seq"),
    "text for an integer": (lambda t: heartbeat(t, attempt="1"), 422, "schema_invalid", "/attempt"),
    "unknown kind": (lambda t: heartbeat(t, kind="complete"), 422, "schema_invalid", "/kind"),
    "other contract": (lambda t: heartbeat(t, contract="aos.execution/2"), 422, "schema_invalid", "/contract"),
    "no UUID": (lambda t: heartbeat(t, callback_id="1"), 422, "schema_invalid", "/callback_id"),
    "nested too deep": (
        lambda t: heartbeat(t, body={"note": json.loads("[" * 80 + "]" * 80)}), 422, "schema_invalid", None
    ),
    "no marker": (lambda t: marked(t, first_line="Here is my work."), 422, "marker_missing", "/body/marked_text"),
    "marker of the other kind": (
        lambda t: marked(t, first_line=f"AOS:PLAN v1 task={t} attempt=1"), 422, "marker_missing", "/body/marked_text"
    ),
    "marker of another task": (
        lambda t: marked(t, first_line=f"AOS:RESULT v1 task={OTHER_TASK} attempt=1"),
        422, "marker_missing", "/body/marked_text",
    ),
    "marker of another attempt": (
        lambda t: marked(t, first_line=f"AOS:RESULT v1 task={t} attempt=2"), 422, "marker_missing", "/body/marked_text"
    ),
    "no end marker": (lambda t: marked(t, drop="AOS:END"), 422, "marker_missing", "/body/marked_text"),
    "missing section": (lambda t: marked(t, drop="## Evidence"), 422, "section_missing", "/body/marked_text"),
    "artifact with a wrong digest": (
        lambda t: callback("result", t, 1, 2, artifact(digest=digest(b"other"))),
        422, "schema_invalid", "/body/artifacts/0/digest",
    ),
    "artifact with a wrong size": (
        lambda t: callback("result", t, 1, 2, artifact(size=6)), 422, "schema_invalid", "/body/artifacts/0/size"
    ),
    "artifact that nobody uploaded": (
        lambda t: callback("result", t, 1, 2, artifact(content_base64=None)),
        422, "schema_invalid", "/body/artifacts/0/digest",
    ),
    "inline artifact over 256 KiB": (
        lambda t: callback("result", t, 1, 2, artifact(content_base64="A" * 400_000)),
        413, "too_large", "/body/artifacts/0/content_base64",
    ),
    "stale seq": (lambda t: heartbeat(t, seq=1), 409, "seq_stale", "/seq"),
    "unknown attempt": (lambda t: heartbeat(t, attempt=2), 403, "scope_denied", None),
    "another task": (lambda _: heartbeat(OTHER_TASK), 403, "scope_denied", None),
    "a plan while executing": (lambda t: callback("plan", t, 1, 2), 409, "wrong_phase", None),
    "ack with the attempt token": (lambda t: callback("ack", t, 1, 2), 403, "scope_denied", None),
    "decline with the attempt token": (lambda t: callback("decline", t, 1, 2), 403, "scope_denied", None),
}  # fmt: skip


def artifact(**changes: Any) -> dict[str, Any]:
    """Change the artifact of the contract's example; None leaves a member out."""
    (example,) = BODIES["result"]["artifacts"]
    changed = {k: v for k, v in (example | changes).items() if v is not None}
    return BODIES["result"] | {"artifacts": [changed]}


@pytest.fixture
async def executing(desk: Desk) -> tuple[str, str]:
    """Have an executor at work; the task's id and the attempt token."""
    await desk.executor()
    task_id = await desk.task()
    return task_id, await desk.ack(task_id)


async def test_a_faulty_callback_is_refused_and_leaves_nothing(
    desk: Desk, executing: tuple[str, str], subtests: pytest.Subtests
) -> None:
    """Each fault has its status, code and pointer, and afterwards the store holds what it held before."""
    task_id, attempt_token = executing
    before = await desk.stored()
    for name, (make, status, code, pointer) in FAULTS.items():
        with subtests.test(name):
            answer = await desk.send(make(task_id), attempt_token)
            problem = assert_problem(answer, status, code, pointer)
            assert not problem["retryable"]
            assert before == await desk.stored()
    assert 202 == (await desk.send(heartbeat(task_id), attempt_token)).status_code


async def test_a_refusal_uses_up_neither_id_nor_seq(desk: Desk, executing: tuple[str, str]) -> None:
    """After a refusal the same callback_id and seq are accepted with the fault corrected."""
    task_id, attempt_token = executing
    faulty = callback("progress", task_id, 1, 2, {"message": ""})
    assert_problem(await desk.send(faulty, attempt_token), 422, "schema_invalid", "/body/message")
    corrected = faulty | {"body": {"message": "Half way."}}
    assert 202 == (await desk.send(corrected, attempt_token)).status_code


async def test_a_gap_in_seq_is_accepted(desk: Desk, executing: tuple[str, str]) -> None:
    """A callback may be lost for good: a higher seq is taken, and only what is at or below it is stale."""
    task_id, attempt_token = executing
    assert 202 == (await desk.send(heartbeat(task_id, seq=7), attempt_token)).status_code
    answer = await desk.send(heartbeat(task_id, seq=6), attempt_token)
    assert "8" in assert_problem(answer, 409, "seq_stale", "/seq")["next"]


async def test_coalesced_progress_still_counts_for_seq(desk: Desk, executing: tuple[str, str]) -> None:
    """Progress within ten seconds of the last is no event, but its seq is used and its replay is known."""
    task_id, attempt_token = executing
    await desk.send(callback("progress", task_id, 1, 2), attempt_token)
    events = await desk.events(task_id)
    second = callback("progress", task_id, 1, 3)
    assert 202 == (await desk.send(second, attempt_token)).status_code
    assert events == await desk.events(task_id)
    assert_problem(await desk.send(heartbeat(task_id, seq=3), attempt_token), 409, "seq_stale")
    assert "true" == (await desk.send(second, attempt_token)).headers["idempotent-replayed"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_an_oversize_body_is_cut_off(desk: Desk, executing: tuple[str, str], *, declared: bool) -> None:
    """A body over 1 MiB is refused, whether its length is declared or it comes in chunks without one."""
    task_id, attempt_token = executing
    body = json.dumps(heartbeat(task_id, body={"note": "x" * MAX_CALLBACK_BYTES})).encode()
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for start in range(0, 64 * len(body), 65_536):
            sent += 65_536
            yield body[start % len(body) :][:65_536]

    before = await desk.stored()
    content: Any = body if declared else chunks()
    answer = await desk.client.post(DOOR, content=content, headers=bearer(attempt_token))
    assert_problem(answer, 413, "too_large")
    assert before == await desk.stored()
    assert sent <= 2 * MAX_CALLBACK_BYTES


CREDENTIALS = {
    "none": ({}, 401, "credential_invalid"),
    "no bearer": ({"Authorization": "Basic YWRhOmFkYQ=="}, 401, "credential_invalid"),
    "empty": ({"Authorization": "Bearer "}, 401, "credential_invalid"),
    "garbage": (bearer("garbage"), 401, "credential_invalid"),
    "no ASCII": ({"Authorization": "Bearer \u00fc\u00e4".encode("latin-1")}, 401, "credential_invalid"),
    "endless": (bearer("x" * 600), 401, "credential_invalid"),
    "forged": (bearer(f"aosa_{OTHER_TASK}.1.1.{'A' * 43}"), 401, "credential_invalid"),
    "an unsigned prefix": (bearer("aosa_"), 401, "credential_invalid"),
    "an operator's": (bearer(token("olga")), 403, "scope_denied"),
    "an administrator's": (bearer(token("ada")), 403, "scope_denied"),
    "the executor's own": (bearer(token("coder")), 403, "scope_denied"),
    "another executor's": (bearer(token("other")), 403, "scope_denied"),
}


async def test_a_wrong_credential_is_refused(
    desk: Desk, executing: tuple[str, str], subtests: pytest.Subtests
) -> None:
    """Nothing but the token of this attempt lets a heartbeat in, and no other credential falls back to it."""
    task_id, _ = executing
    await desk.executor("other")
    before = await desk.stored()
    for name, (headers, status, code) in CREDENTIALS.items():
        with subtests.test(name):
            answer = await desk.client.post(DOOR, json=heartbeat(task_id), headers=headers)
            assert_problem(answer, status, code)
            assert before == await desk.stored()


async def test_each_401_is_kept_in_the_security_log_and_in_no_stream(desk: Desk) -> None:
    """Refused credentials are noted with route and code, whichever route they were tried at, and without the secret."""
    before = await desk.stored()
    await desk.send(heartbeat(OTHER_TASK), "made-up-token")
    await desk.client.post(DOOR, json={})
    await desk.client.get(f"/api/tasks/{OTHER_TASK}", headers=bearer("made-up-token"))
    await desk.client.put(f"/api/artifacts/{digest(b'')}", headers=bearer("made-up-token"))
    noted = await desk.rows("select route, code, detail from es.security_log order by id")
    assert [
        (DOOR, "credential_invalid", ""),
        (DOOR, "credential_invalid", ""),
        ("/api/tasks/{task_id}", "credential_invalid", ""),
        ("/api/artifacts/{digest}", "credential_invalid", ""),
    ] == noted
    assert before == await desk.stored()


async def test_a_rotated_token_is_expired(desk: Desk, executing: tuple[str, str]) -> None:
    """A second ack gives a new token, and the first one's holder is told that it was replaced."""
    task_id, first = executing
    second = await desk.ack(task_id)
    assert first != second
    before = await desk.stored()
    assert_problem(await desk.send(heartbeat(task_id), first), 401, "token_expired")
    upload = await desk.client.put(f"/api/artifacts/{digest(b'x')}", content=b"x", headers=bearer(first))
    assert_problem(upload, 401, "token_expired")
    assert before == await desk.stored()
    assert 202 == (await desk.send(heartbeat(task_id), second)).status_code


async def test_a_token_opens_only_its_own_attempt(desk: Desk, executing: tuple[str, str]) -> None:
    """The token of one task is refused on another task that the same executor works on."""
    _, attempt_token = executing
    another = await desk.task(title="Another")
    await desk.ack(another)
    before = await desk.stored()
    assert_problem(await desk.send(heartbeat(another), attempt_token), 403, "scope_denied")
    assert before == await desk.stored()


@pytest.mark.parametrize("kind", ["ack", "decline"])
async def test_an_offer_is_for_one_executor(desk: Desk, kind: str) -> None:
    """Another executor may neither read the brief that was offered to somebody else, nor ack or decline it."""
    await desk.executor()
    other = await desk.executor("other")
    task_id = await desk.task(assignee="coder")
    brief = await desk.client.get(f"/api/tasks/{task_id}/brief", headers=bearer(other))
    assert_problem(brief, 403, "scope_denied")
    before = await desk.stored()
    offer = await desk.show(f"/api/tasks/{task_id}/brief")
    bodies = {
        "ack": {"brief_digest": offer["digest"], "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}},
        "decline": {"reason": "busy"},
    }
    answer = await desk.send(callback(kind, task_id, 1, 1, bodies[kind]), other)
    assert_problem(answer, 403, "scope_denied")
    assert before == await desk.stored()


async def test_an_unknown_task_is_said_to_be_unknown(desk: Desk) -> None:
    """An executor that acks a task that does not exist gets 404 on every route."""
    credential = await desk.executor()
    before = await desk.stored()
    body = {"brief_digest": NO_SKILLS, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    answer = await desk.send(callback("ack", OTHER_TASK, 1, 1, body), credential)
    assert_problem(answer, 404, "unknown_task")
    assert before == await desk.stored()


async def test_nothing_but_ack_and_decline_comes_before_the_ack(desk: Desk) -> None:
    """While the attempt is only offered, the executor's own credential may send no other kind."""
    credential = await desk.executor()
    task_id = await desk.task()
    for kind in ("heartbeat", "plan", "result", "failure"):
        assert_problem(await desk.send(callback(kind, task_id, 1, 1), credential), 403, "scope_denied")


async def test_another_brief_is_a_mismatch(desk: Desk) -> None:
    """An ack must carry the digest of the brief on offer, and is told where it did not."""
    credential = await desk.executor()
    task_id = await desk.task()
    body = {"brief_digest": digest(b"other"), "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    before = await desk.stored()
    answer = await desk.send(callback("ack", task_id, 1, 1, body), credential)
    assert_problem(answer, 409, "brief_mismatch", "/body/brief_digest")
    assert before == await desk.stored()


async def test_drifted_skills_are_refused_with_the_expected_ones(desk: Desk) -> None:
    """An executor whose skills must be in force learns digest, names and digests of those that are."""
    credential = await desk.executor(skills="required")
    task_id = await desk.task()
    found = await desk.show("/api/skills/default")
    expected = {"digest": found["digest"], "skills": found["skills"]}
    brief_digest = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
    body = {"brief_digest": brief_digest, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    before = await desk.events(task_id)
    answer = await desk.send(callback("ack", task_id, 1, 1, body), credential)
    problem = assert_problem(answer, 409, "skill_drift", "/body/skillset_digest")
    assert expected == problem["expected"]
    assert [*before, "skills.drifted"] == await desk.events(task_id)
    right = body | {"skillset_digest": expected["digest"]}
    assert 202 == (await desk.send(callback("ack", task_id, 1, 1, right), credential)).status_code


@pytest.mark.parametrize("place", ["submit-plan/SKILL.md", "start-work/scripts/start_work.py"])
async def test_one_changed_byte_in_a_workspace_is_named_and_starts_no_work(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """With one byte changed the check names the file, the ack is 409 and tells the skill; without, work starts."""
    monkeypatch.syspath_prepend(packaged_skills() / "start-work/scripts")
    contract = importlib.import_module("agentic_os_contract")
    skill_set = resolve(load_definition(None), "default")
    hydrate(tmp_path, skill_set, mode="copy")
    credential = await desk.executor(skills="required")
    task_id = await desk.task()
    brief_digest = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]

    async def ack() -> tuple[httpx.Response, dict[str, str]]:
        skills = contract.workspace_skills(tmp_path)
        claimed = contract.skill_set_digest(skills)
        body = {"brief_digest": brief_digest, "skillset_digest": claimed, "runtime": {"name": "t"}}
        return await desk.send(callback("ack", task_id, 1, 1, body), credential), skills

    file = tmp_path / ".claude/skills" / place
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert [d.path for d in check(tmp_path, skill_set).differences] == [f".claude/skills/{place}"]
    answer, skills = await ack()
    problem = assert_problem(answer, 409, "skill_drift", "/body/skillset_digest")
    expected = {skill["name"]: skill["digest"] for skill in problem["expected"]["skills"]}
    assert [n for n in expected if expected[n] != skills.get(n)] == [place.partition("/")[0]]
    assert (await desk.show(f"/api/tasks/{task_id}"))["phase"] == "dispatched"
    file.write_bytes(whole)
    answer, _ = await ack()
    assert answer.status_code == 202


async def test_no_result_is_taken_while_planning(desk: Desk) -> None:
    """A result of a planning attempt is refused: the plan comes first."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first")
    attempt_token = await desk.ack(task_id)
    before = await desk.stored()
    answer = await desk.send(callback("result", task_id, 1, 2), attempt_token)
    assert_problem(answer, 409, "plan_unapproved")
    assert before == await desk.stored()


async def test_a_revised_plan_must_answer_and_change(desk: Desk) -> None:
    """After a revision, a plan without an answer to each item, and an unchanged one, are refused."""
    task_id = await desk.planned()
    await desk.direct(task_id, "/revise v1\n- Shorter\n- Safer", as_="rita")
    items = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    attempt_token = await desk.ack(task_id)
    answers = [{"item_id": item["id"], "how": "done"} for item in items]
    before = await desk.stored()
    changed = BODIES["plan"] | {"summary": "Another."}
    for body, status, code, pointer in (
        (changed, 422, "review_items_unanswered", "/body/responds_to"),
        (changed | {"responds_to": answers[:1]}, 422, "review_items_unanswered", "/body/responds_to"),
        (BODIES["plan"] | {"responds_to": answers}, 409, "plan_unchanged", "/body"),
    ):
        answer = await desk.send(callback("plan", task_id, 2, 2, body), attempt_token)
        assert_problem(answer, status, code, pointer)
    assert before == await desk.stored()
    done = await desk.send(callback("plan", task_id, 2, 2, changed | {"responds_to": answers}), attempt_token)
    assert 202 == done.status_code


async def test_a_submitted_attempt_is_over(desk: Desk) -> None:
    """After its plan, the attempt may write nothing, not even once the next one is open; nothing is quarantined."""
    task_id = await desk.planned()
    shown = await desk.show(f"/api/tasks/{task_id}/events")
    ended = desk.backend.callbacks._tokens.mint(task_id, 1, 1)
    for approved in (False, True):
        if approved:
            await desk.approve(task_id)
            await desk.ack(task_id)
        before = await desk.stored()
        for kind in ("heartbeat", "plan", "result"):
            assert_problem(await desk.send(callback(kind, task_id, 1, 9), ended), 409, "wrong_phase")
        assert before == await desk.stored()
    assert shown["items"] == (await desk.show(f"/api/tasks/{task_id}/events"))["items"][: len(shown["items"])]


@pytest.mark.parametrize("line", ["/cancel", "/reassign @other"])
async def test_a_superseded_attempt_keeps_its_late_work_aside(
    desk: Desk, executing: tuple[str, str], line: str
) -> None:
    """After a cancel or a reassignment, the old token gets 409, and its result is quarantined once."""
    task_id, attempt_token = executing
    await desk.executor("other")
    assert "done" == (await desk.direct(task_id, line))["outcome"]
    for seq, kind in enumerate(("heartbeat", "result", "result"), 2):
        answer = await desk.send(callback(kind, task_id, 1, seq), attempt_token)
        assert_problem(answer, 409, "attempt_superseded")
    (kept,) = (await desk.show("/api/quarantine"))["items"]
    assert (task_id, 1, "result", "attempt_superseded") == (
        kept["task_id"],
        kept["attempt"],
        kept["kind"],
        kept["reason"],
    )
    assert 1 == (await desk.events(task_id)).count("callback.quarantined")


async def test_an_expired_lease_is_lost(open_test_backend: OpenBackend, database: Database) -> None:
    """A callback after the lease closes the attempt, the late result is kept aside, and the task waits for a retry."""
    terms = Terms(callback_url=ELSEWHERE, lease=timedelta(0))
    async with open_test_backend(terms=terms) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.executor()
        task_id = await desk.task()
        attempt_token = await desk.ack(task_id)
        assert_problem(await desk.send(callback("result", task_id, 1, 2), attempt_token), 409, "lease_lost")
        assert_problem(await desk.send(heartbeat(task_id, seq=3), attempt_token), 409, "lease_lost")
        assert ["attempt.expired", "callback.quarantined"] == (await desk.events(task_id))[-2:]
        assert "retry_wait" == await desk.phase(task_id)


async def test_a_revoked_executor_is_refused(desk: Desk) -> None:
    """After its credential was replaced, the old one neither acks nor reads the brief, and the new one does."""
    credential = await desk.executor()
    task_id = await desk.task()
    brief_digest = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
    await desk.backend.registry.replace_credentials("coder", hashlib.sha256(b"new").digest())
    body = {"brief_digest": brief_digest, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    ack = callback("ack", task_id, 1, 1, body)
    before = await desk.stored()
    assert_problem(await desk.send(ack, credential), 401, "token_expired")
    brief = await desk.client.get(f"/api/tasks/{task_id}/brief", headers=bearer(credential))
    assert_problem(brief, 401, "token_expired")
    assert before == await desk.stored()
    assert 202 == (await desk.send(ack, "new")).status_code


async def test_a_credential_revoked_between_check_and_append_stores_nothing(desk: Desk) -> None:
    """The append itself asks again whether the credential counts, and refuses as the gate that could not decide."""
    credential = await desk.executor()
    task_id = await desk.task()
    brief_digest = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
    body = {"brief_digest": brief_digest, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    callbacks = desk.backend.callbacks
    authenticate = callbacks.authenticate

    async def outdated(bearer_token: str) -> Any:
        caller = await authenticate(bearer_token)
        await desk.backend.registry.replace_credentials("coder", hashlib.sha256(b"new").digest())
        return replace(caller, valid=True)

    callbacks.authenticate = outdated  # type: ignore[method-assign]
    before = await desk.stored()
    answer = await desk.send(callback("ack", task_id, 1, 1, body), credential)
    assert assert_problem(answer, 503, "gate_error")["retryable"]
    assert (before[0] + 1, *before[1:]) == await desk.stored(), "no more than the fact of the rotation"

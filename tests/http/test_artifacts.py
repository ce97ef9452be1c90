"""Bytes: inline or uploaded by digest, kept once they match, and given out as a download that no browser renders."""

import asyncio
import errno
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Scope
from tests.desk import BODIES, Desk, assert_problem, bearer, callback, digest, open_client, token

from agentic_os.http.app import create_app

CONTENT = b"<script>alert(1)</script>"
PATH = f"/api/artifacts/{digest(CONTENT)}"
TAG = f'"{digest(CONTENT)}"'


@pytest.fixture
async def executing(desk: Desk) -> tuple[str, str]:
    """Have an executor at work; the task's id and the attempt token."""
    await desk.executor()
    task_id = await desk.task()
    return task_id, await desk.ack(task_id)


async def put(desk: Desk, content: Any, credential: str, name: str = digest(CONTENT)) -> httpx.Response:
    """Upload bytes under a digest."""
    return await desk.client.put(f"/api/artifacts/{name}", content=content, headers=bearer(credential))


def delivery(**changes: Any) -> dict[str, Any]:
    """Compose a result whose artifact was uploaded before."""
    artifact = {
        "name": "../page.html",
        "media_type": "text/html",
        "digest": digest(CONTENT),
        "size": len(CONTENT),
    }
    return BODIES["result"] | {"artifacts": [artifact | changes]}


@pytest.fixture
async def delivered(desk: Desk) -> tuple[str, str]:
    """Have CONTENT delivered and sent back for rework, and a second attempt at work; the task's id and its token."""
    await desk.executor()
    task_id = await desk.task(acceptance=[{"id": "tests", "text": "pass", "rank": "independent"}])
    first = await desk.ack(task_id)
    await put(desk, CONTENT, first)
    await desk.submit("result", task_id, first, **delivery())
    await desk.direct(task_id, "/rework r1\n- again", as_="rita")
    return task_id, await desk.ack(task_id)


def kept(desk: Desk) -> list[str]:
    """List the files of the artifact store, unfinished ones too."""
    root: Path = desk.backend.artifacts._root  # type: ignore[attr-defined]
    return sorted(path.name for path in root.rglob("*") if path.is_file())


async def test_uploaded_bytes_come_back_as_a_download(desk: Desk, executing: tuple[str, str]) -> None:
    """Bytes sent in chunks are held under their digest and, once a result names them, come back byte for byte."""
    task_id, attempt_token = executing

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 5):
            yield CONTENT[start : start + 5]

    assert 201 == (await put(desk, chunks(), attempt_token)).status_code
    assert 201 == (await put(desk, CONTENT, attempt_token)).status_code
    path = f"/api/artifacts/{digest(CONTENT)}"
    assert_problem(await desk.get(path), 404, "not_found")
    answer = await desk.send(callback("result", task_id, 1, 2, delivery()), attempt_token)
    assert 202 == answer.status_code, answer.text
    found = await desk.get(path)
    assert (200, CONTENT) == (found.status_code, found.content)
    assert 'attachment; filename=".._page.html"' == found.headers["content-disposition"]
    assert "application/octet-stream" == found.headers["content-type"]
    assert "nosniff" == found.headers["x-content-type-options"]
    assert "sandbox" in found.headers["content-security-policy"]
    assert str(len(CONTENT)) == found.headers["content-length"]


async def test_inline_bytes_come_back_as_a_download(desk: Desk, executing: tuple[str, str]) -> None:
    """Bytes within the callback are kept outside of the events, and found by their digest."""
    task_id, attempt_token = executing
    await desk.submit("result", task_id, attempt_token)
    found = await desk.get(f"/api/artifacts/{digest(b'hello')}")
    assert b"hello" == found.content
    assert "aGVsbG8=" not in (await desk.get(f"/api/tasks/{task_id}/events")).text


async def test_bytes_under_another_digest_are_refused(desk: Desk, executing: tuple[str, str]) -> None:
    """An upload must be what its digest names; the answer says what it is, and nothing is held."""
    task_id, attempt_token = executing
    answer = await put(desk, b"other", attempt_token)
    assert digest(b"other") in assert_problem(answer, 422, "schema_invalid")["detail"]
    refused = await desk.send(callback("result", task_id, 1, 2, delivery()), attempt_token)
    assert_problem(refused, 422, "schema_invalid", "/body/artifacts/0/digest")


async def test_a_claimed_size_must_be_that_of_the_bytes(desk: Desk, executing: tuple[str, str]) -> None:
    """A result that names uploaded bytes with a wrong size is refused with its pointer."""
    task_id, attempt_token = executing
    await put(desk, CONTENT, attempt_token)
    before = await desk.stored()
    for size in (0, len(CONTENT) - 1, len(CONTENT) + 1, 2**53 - 1):
        answer = await desk.send(callback("result", task_id, 1, 2, delivery(size=size)), attempt_token)
        assert_problem(answer, 422, "schema_invalid", "/body/artifacts/0/size")
    assert before == await desk.stored()


async def test_no_upload_without_the_token_of_an_open_attempt(desk: Desk, executing: tuple[str, str]) -> None:
    """People, an executor's own credential, unknown ones and tokens of closed attempts upload nothing."""
    task_id, attempt_token = executing
    assert_problem(await put(desk, CONTENT, "garbage"), 401, "credential_invalid")
    assert_problem(await put(desk, CONTENT, token("ada")), 403, "scope_denied")
    assert_problem(await put(desk, CONTENT, token("coder")), 403, "scope_denied")
    await desk.direct(task_id, "/cancel")
    assert_problem(await put(desk, CONTENT, attempt_token), 409, "attempt_superseded")


async def test_a_malformed_digest_is_refused(desk: Desk, executing: tuple[str, str]) -> None:
    """A digest is sha256: and 64 hexadecimal digits, on both ways."""
    for name in ("sha256:abc", digest(b"").upper(), "md5:" + "0" * 32, "sha256:" + "g" * 64):
        assert_problem(await put(desk, CONTENT, executing[1], name), 422, "schema_invalid")
        assert_problem(await desk.get(f"/api/artifacts/{name}"), 422, "schema_invalid")


async def test_unknown_bytes_are_not_found(desk: Desk) -> None:
    """A digest that no callback named is unknown."""
    assert_problem(await desk.get(f"/api/artifacts/{digest(b'nothing')}"), 404, "not_found")


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=3-9": (3, 10),
    "BYTES=20-": (20, 25),
    "bytes=24-999999": (24, 25),
    "bytes=-4": (21, 25),
    "bytes=-400": (0, 25),
}


@pytest.mark.usefixtures("delivered")
async def test_one_range_of_bytes_is_answered_alone(desk: Desk, subtests: pytest.Subtests) -> None:
    """A range from either end is a 206 with exactly its bytes, its place in the whole, and the whole's tag."""
    for asked, (start, stop) in RANGES.items():
        with subtests.test(asked):
            found = await desk.client.get(PATH, headers=bearer(token("vera")) | {"Range": asked})
            assert (206, CONTENT[start:stop]) == (found.status_code, found.content)
            assert f"bytes {start}-{stop - 1}/25" == found.headers["content-range"]
            assert str(stop - start) == found.headers["content-length"]
            assert TAG == found.headers["etag"]
            assert "nosniff" == found.headers["x-content-type-options"]


@pytest.mark.usefixtures("delivered")
async def test_a_range_beyond_the_bytes_is_not_satisfiable(desk: Desk, subtests: pytest.Subtests) -> None:
    """A range that has none of the bytes is a 416 that says how many bytes there are."""
    for asked in ("bytes=25-", "bytes=25-30", "bytes=-0", "bytes=999999999999999999-"):
        with subtests.test(asked):
            answer = await desk.client.get(PATH, headers=bearer(token("vera")) | {"Range": asked})
            assert_problem(answer, 416, "range_not_satisfiable")
            assert "bytes */25" == answer.headers["content-range"]


IGNORED = [
    "bytes=0-1,3-4",
    "bytes=5-2",
    "bytes=",
    "bytes=-",
    "bytes=a-b",
    "lines=0-1",
    "0-1",
    "bytes=" + "9" * 5000 + "-",
]


@pytest.mark.usefixtures("delivered")
async def test_other_ranges_are_ignored(desk: Desk, subtests: pytest.Subtests) -> None:
    """Several ranges, malformed ones, other units and a range of another version mean all of the bytes."""
    asked = [{"Range": text} for text in IGNORED]
    asked += [
        {"Range": "bytes=0-1", "If-Range": tag}
        for tag in (f"W/{TAG}", '"other"', "Wed, 01 Jan 2025 00:00:00 GMT")
    ]
    for headers in asked:
        with subtests.test(str(headers)[:60]):
            found = await desk.client.get(PATH, headers=bearer(token("vera")) | headers)
            assert (200, CONTENT) == (found.status_code, found.content)
            assert "content-range" not in found.headers
            assert "bytes" == found.headers["accept-ranges"]
    same = await desk.client.get(
        PATH, headers=bearer(token("vera")) | {"Range": "bytes=0-1", "If-Range": TAG}
    )
    assert (206, CONTENT[:2]) == (same.status_code, same.content)


@pytest.mark.usefixtures("delivered")
async def test_what_the_caller_has_is_not_sent_again(desk: Desk, subtests: pytest.Subtests) -> None:
    """A tag that the caller holds is answered 304 without bytes, before any range, and only to those who may read."""
    for tags in (TAG, f"W/{TAG}", "*", f'"x", {TAG}'):
        for method in ("GET", "HEAD"):
            with subtests.test(f"{method} {tags}"):
                headers = {"If-None-Match": tags, "Range": "bytes=99-"}
                found = await desk.client.request(method, PATH, headers=bearer(token("vera")) | headers)
                assert (304, b"", TAG) == (found.status_code, found.content, found.headers["etag"])
    stale = await desk.client.get(PATH, headers=bearer(token("vera")) | {"If-None-Match": '"x"'})
    assert (200, CONTENT) == (stale.status_code, stale.content)
    assert_problem(
        await desk.client.get(PATH, headers=bearer("x") | {"If-None-Match": "*"}), 401, "credential_invalid"
    )


@pytest.mark.usefixtures("delivered")
async def test_a_head_is_the_download_without_bytes(desk: Desk) -> None:
    """HEAD answers the headers of the whole download, whatever range it names, and 404 where there is none."""
    whole = await desk.get(PATH)
    head = await desk.client.head(PATH, headers=bearer(token("vera")) | {"Range": "bytes=0-1"})
    assert (200, b"") == (head.status_code, head.content)
    assert dict(whole.headers) == dict(head.headers)
    assert (
        404
        == (
            await desk.client.head(f"/api/artifacts/{digest(b'no')}", headers=bearer(token("vera")))
        ).status_code
    )


SENT_AS = {
    "text/html": "application/octet-stream",
    "TEXT/HTML; charset=utf-8": "application/octet-stream",
    "image/svg+xml": "application/octet-stream",
    "application/xhtml+xml": "application/octet-stream",
    "application/xml": "application/octet-stream",
    "text/xml": "application/octet-stream",
    "text/javascript": "application/octet-stream",
    "application/javascript": "application/octet-stream",
    "application/atom+xml": "application/octet-stream",
    "no type\r\nX-Evil: 1": "application/octet-stream",
    "text/x-patch": "text/plain",
    "text/markdown; charset=utf-8": "text/markdown",
    "image/png": "image/png",
    "application/json": "application/json",
}


async def test_a_claimed_type_never_makes_a_browser_run_it(desk: Desk, executing: tuple[str, str]) -> None:
    """Types in which something could run are sent as octets, other text as plain text, harmless ones as they are."""
    task_id, attempt_token = executing
    artifacts = []
    for number, media_type in enumerate(SENT_AS):
        content = b"%d" % number
        await put(desk, content, attempt_token, digest(content))
        artifacts.append(
            {
                "name": f'a"{number}\r\n/.html',
                "media_type": media_type,
                "digest": digest(content),
                "size": len(content),
            }
        )
    await desk.submit("result", task_id, attempt_token, artifacts=artifacts)
    for number, sent in enumerate(SENT_AS.values()):
        found = await desk.get(f"/api/artifacts/{digest(b'%d' % number)}")
        assert sent == found.headers["content-type"].partition(";")[0]
        assert f'attachment; filename="a_{number}___.html"' == found.headers["content-disposition"]
        assert "nosniff" == found.headers["x-content-type-options"]
        assert "sandbox; default-src 'none'" == found.headers["content-security-policy"]
        assert "x-evil" not in found.headers


async def test_an_attempt_reads_artifacts_of_its_own_task_alone(
    desk: Desk, delivered: tuple[str, str]
) -> None:
    """The token of an open attempt opens what its task's results delivered, and nothing of other tasks or of none."""
    task_id, attempt_token = delivered
    found = await desk.client.get(PATH, headers=bearer(attempt_token))
    assert (200, CONTENT) == (found.status_code, found.content)
    assert 200 == (await desk.client.head(PATH, headers=bearer(attempt_token))).status_code
    await desk.executor("other")
    strange = await desk.ack(await desk.task(assignee="other"), token("other"))
    for path in (PATH, f"/api/artifacts/{digest(b'none')}"):
        refused = assert_problem(await desk.client.get(path, headers=bearer(strange)), 403, "scope_denied")
        assert CONTENT.decode() not in str(refused)
    assert_problem(await desk.get(PATH, as_="coder"), 403, "scope_denied")
    await desk.direct(task_id, "/cancel")
    assert_problem(await desk.client.get(PATH, headers=bearer(attempt_token)), 409, "attempt_superseded")
    assert 200 == (await desk.get(PATH)).status_code


async def test_an_attempt_token_made_up_reads_nothing(desk: Desk, delivered: tuple[str, str]) -> None:
    """A token with a changed task, attempt or generation is no credential."""
    head, _, mac = delivered[1].rpartition(".")
    for forged in (f"{head}0.{mac}", f"{head}.{mac[:-2]}", delivered[1].upper()):
        assert_problem(await desk.client.get(PATH, headers=bearer(forged)), 401, "credential_invalid")


async def test_an_upload_that_breaks_off_leaves_nothing(desk: Desk, executing: tuple[str, str]) -> None:
    """When the connection is gone before the last byte, no file is left, under no name."""
    received: list[Message] = [
        {"type": "http.request", "body": CONTENT, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "PUT",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {executing[1]}".encode())],
    }
    during: list[list[str]] = []

    async def receive() -> Message:
        during.append(kept(desk))
        return received.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await create_app(desk.backend)(scope, receive, send)
    assert [1, 1] == [len(files) for files in during]
    assert [] == kept(desk)
    assert 400 == sent[0]["status"]


async def test_wrong_or_too_many_bytes_leave_nothing(
    desk: Desk, executing: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of another digest, and more of them than an artifact may have, are refused and not kept."""
    assert_problem(await put(desk, b"other", executing[1]), 422, "schema_invalid")
    monkeypatch.setattr("agentic_os.http.artifacts.LIMIT", len(CONTENT) - 1)

    async def unannounced() -> AsyncIterator[bytes]:
        yield CONTENT

    for content in (CONTENT, unannounced()):
        assert_problem(await put(desk, content, executing[1]), 413, "too_large")
    assert [] == kept(desk)


async def test_a_full_disk_is_said_and_leaves_nothing(
    desk: Desk, executing: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room is a 507 for uploads and the contract's 503 for inline bytes, and nothing is kept of either."""
    task_id, attempt_token = executing

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = await desk.stored()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert assert_problem(await put(desk, CONTENT, attempt_token), 507, "storage_full")["retryable"]
        document = callback("result", task_id, 1, 2)
        refused = assert_problem(await desk.send(document, attempt_token), 503, "gate_error")
        assert "no room" in refused["detail"]
    assert [] == kept(desk)
    assert before == await desk.stored()
    assert 201 == (await put(desk, CONTENT, attempt_token)).status_code
    assert 202 == (await desk.send(document, attempt_token)).status_code


async def test_the_same_bytes_twice_at_once_are_kept_once(desk: Desk, executing: tuple[str, str]) -> None:
    """Uploads of one digest that interleave chunk by chunk all succeed, and leave one whole file."""
    content = bytes(range(256)) * 4

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 64):
            yield content[start : start + 64]
            await asyncio.sleep(0)

    async with open_client(desk.backend) as second:
        other = Desk(desk.backend, second, desk.dsn)
        name = digest(content)
        answers = await asyncio.gather(*(put(d, slowly(), executing[1], name) for d in (desk, other, desk)))
    assert [201] * 3 == [a.status_code for a in answers]
    assert [name.removeprefix("sha256:")] == kept(desk)


COLUMNS = {
    "name", "version", "digest", "size", "media_type", "attempt", "step_id", "criterion_id",
    "result_version", "plan_version", "plan_digest", "plan_author", "approved_by",
}  # fmt: skip


async def test_without_a_plan_an_artifact_leads_to_attempt_and_criterion(
    desk: Desk, delivered: tuple[str, str]
) -> None:
    """In direct mode each version names its attempt, result, step and criterion, and no plan or approval."""
    task_id, attempt_token = delivered
    await put(desk, CONTENT, attempt_token)
    (item,) = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    second = delivery(criterion_id="tests", step_id="s1") | {
        "responds_to": [{"item_id": item["id"], "how": "done"}]
    }
    await desk.submit("result", task_id, attempt_token, 2, **second)
    first, latest = (await desk.show(f"/api/tasks/{task_id}/artifacts"))["items"]
    assert COLUMNS == first.keys() == latest.keys()
    assert (1, 1, 1, None, None) == tuple(
        first[name] for name in ("version", "attempt", "result_version", "step_id", "criterion_id")
    )
    assert (2, 2, 2, "s1", "tests") == tuple(
        latest[name] for name in ("version", "attempt", "result_version", "step_id", "criterion_id")
    )
    for artifact in (first, latest):
        assert (None, None, None, []) == tuple(
            artifact[n] for n in ("plan_version", "plan_digest", "plan_author", "approved_by")
        )
        assert (digest(CONTENT), len(CONTENT)) == (artifact["digest"], artifact["size"])


async def test_with_plans_an_artifact_leads_to_the_approved_one(desk: Desk) -> None:
    """With a plan first each version names the plan that its attempt carried out, and who approved that version."""
    task_id = await desk.planned(acceptance=[{"id": "tests", "text": "pass", "rank": "independent"}])
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    await desk.approve(task_id)
    await desk.submit("result", task_id, await desk.ack(task_id), 2)
    await desk.direct(task_id, "/rework r1\n- again", as_="ada")
    again = await desk.ack(task_id)
    await desk.send(
        callback("failure", task_id, 3, 2, BODIES["failure"] | {"class": "plan_infeasible"}), again
    )
    await desk.work()
    replanned = BODIES["plan"] | {"summary": "Another way."}
    replanned["responds_to"] = await _answers(desk, task_id)
    await desk.submit("plan", task_id, await desk.ack(task_id), 4, **replanned)
    later = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    await desk.approve(task_id, as_="ada")
    await desk.submit(
        "result", task_id, await desk.ack(task_id), 5, responds_to=await _answers(desk, task_id)
    )
    items = (await desk.show(f"/api/tasks/{task_id}/artifacts"))["items"]
    assert [
        (1, 2, 1, 1, plan["digest"], ["rita"]),
        (2, 5, 2, 2, later["digest"], ["ada"]),
    ] == [
        tuple(
            i[n]
            for n in ("version", "attempt", "result_version", "plan_version", "plan_digest", "approved_by")
        )
        for i in items
    ]


async def test_a_late_artifact_leads_to_the_plan_of_its_own_attempt(desk: Desk) -> None:
    """What was adopted out of quarantine names the attempt that made it and the plan which that one carried out."""
    task_id = await desk.planned()
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    await desk.approve(task_id)
    attempt_token = await desk.ack(task_id)
    await desk.direct(task_id, "/reassign @coder")
    assert 409 == (await desk.send(callback("result", task_id, 2, 2), attempt_token)).status_code
    (late,) = (await desk.show("/api/quarantine"))["items"]
    assert "done" == (await desk.direct(task_id, f"/adopt {late['id']} It is good."))["outcome"]
    (found,) = (await desk.show(f"/api/tasks/{task_id}/artifacts"))["items"]
    assert (2, 1, 1, plan["digest"], ["rita"]) == tuple(
        found[n] for n in ("attempt", "result_version", "plan_version", "plan_digest", "approved_by")
    )


async def _answers(desk: Desk, task_id: str) -> list[dict[str, str]]:
    brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]
    return [{"item_id": item["id"], "how": "done"} for item in brief.get("review_items", ())]


async def test_a_secret_in_an_upload_is_refused(desk: Desk, executing: tuple[str, str]) -> None:
    """Bytes with a secret are refused however they are cut, and no file of them is left."""
    secret = b"ghp_" + b"a1B2c3D4e5F6" * 3
    content = b"word " * 40_000 + secret + b" word" * 40_000

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 9_999):
            yield content[start : start + 9_999]

    for sent in (content, chunks(), secret):
        name = digest(secret if sent is secret else content)
        problem = assert_problem(await put(desk, sent, executing[1], name), 422, "secret_in_artifact")
        assert "github-token" in problem["detail"]
        assert secret.decode() not in problem["detail"]
    assert [] == kept(desk)
    assert [] == await desk.rows("select 1 from es.upload")


async def test_an_upload_is_never_held_as_a_whole(desk: Desk, executing: tuple[str, str]) -> None:
    """While 100 MB go through, text and not, the process holds no more than a few chunks of them."""
    noise, text = os.urandom(1_000_000), b"word " * 13_000
    parts = [part for _ in range(100) for part in (noise, text)]
    found = hashlib.sha256()
    for part in parts:
        found.update(part)

    async def chunks() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    tracemalloc.start()
    try:
        answer = await put(desk, chunks(), executing[1], "sha256:" + found.hexdigest())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 201 == answer.status_code
    assert peak < 10_000_000

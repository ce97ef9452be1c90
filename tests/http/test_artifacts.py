"""Bytes: inline or uploaded by digest, kept once they match, and given out as a download that no browser renders."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.desk import BODIES, Desk, assert_problem, bearer, callback, digest, token

CONTENT = b"<script>alert(1)</script>"


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

"""Webhooks of a tracker: stored once when the signature is right, refused otherwise, never a fault of ours."""

from collections.abc import AsyncIterator

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, open_client

from agentic_os.control_plane import CommentSeen
from agentic_os.control_plane.memory import MemoryControlPlane, MemoryTracker
from agentic_os.control_plane.memory.tracker import Entry

PATH = "/api/webhooks/memory"


@pytest.fixture
async def tracked(
    open_test_backend: OpenBackend, database: Database
) -> AsyncIterator[tuple[Desk, MemoryTracker]]:
    """Open the API over a backend with a tracker."""
    tracker = MemoryTracker()
    plane = MemoryControlPlane(tracker)
    async with open_test_backend(control_plane=plane) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        yield desk, tracker


async def test_a_webhook_is_taken_once(tracked: tuple[Desk, MemoryTracker]) -> None:
    """What comes twice is stored once, and the worker is woken for it."""
    desk, tracker = tracked
    key = tracker.open_issue(tracker.account("ada"), "T")
    tracker.comment(key, tracker.account("ada"), "Hello")
    deliveries = tracker.take_deliveries()
    for taken in (1, 0):
        for headers, body in deliveries:
            answer = await desk.client.post(PATH, content=body, headers=dict(headers))
            assert (202, {"taken": taken}) == (answer.status_code, answer.json())
    assert desk.backend.signals.inbox.is_set()
    await desk.work()
    assert 0 == len(await desk.backend.issues.open_items(10))


async def test_an_unsigned_or_unreadable_webhook_is_refused(tracked: tuple[Desk, MemoryTracker]) -> None:
    """A wrong signature is 401 and in the security log, a signed body that says nothing is 400; neither is stored."""
    desk, tracker = tracked
    tracker.open_issue(tracker.account("ada"), "T")
    ((headers, body),) = tracker.take_deliveries()
    signed = tracker.sign(b"{}", at=tracker.now())
    for content, sent, status, code in (
        (body, {}, 401, "credential_invalid"),
        (body + b" ", headers, 401, "credential_invalid"),
        (body, headers | {"webhook-timestamp": "0"}, 401, "credential_invalid"),
        (b"{}", signed, 400, "malformed"),
    ):
        answer = await desk.client.post(PATH, content=content, headers=dict(sent))
        assert_problem(answer, status, code)
    assert [] == list(await desk.backend.issues.open_items(10))
    noted = await desk.rows("select route, code from es.security_log")
    assert [("/api/webhooks/{control_plane}", "credential_invalid")] * 3 == noted


async def test_a_webhook_of_another_tracker_is_not_found(tracked: tuple[Desk, MemoryTracker]) -> None:
    """Only the tracker that is connected is heard."""
    desk, _ = tracked
    assert_problem(await desk.client.post("/api/webhooks/other", content=b"{}"), 404, "not_found")
    too_much = await desk.client.post(PATH, content=b"x" * 1_048_577)
    assert_problem(too_much, 413, "too_large")


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "/approve\0 v1"], ids=["NUL", "surrogate", "directive"])
async def test_a_text_that_no_store_can_keep_holds_up_nothing(
    tracked: tuple[Desk, MemoryTracker], text: str
) -> None:
    """A comment with NUL or half a character is taken with a mark in its place, and what follows it is heard."""
    desk, tracker = tracked
    ada = tracker.account("ada")
    await desk.backend.registry.link("memory", ada, "ada")
    task_id = await desk.task()
    link = await desk.backend.issues.link_of(task_id)
    assert link is not None
    unstorable = CommentSeen(
        delivery="delivery-x",
        key=link.key,
        comment_id="comment-x",
        author=ada,
        body=text,
        action="created",
        at=tracker.now(),
    )
    tracker.feed.append(Entry(observation=unstorable, owners=(ada,)))
    tracker.comment(link.key, ada, "/cancel")
    await desk.worker.look_around()
    await desk.work()
    assert "cancelled" == await desk.phase(task_id)

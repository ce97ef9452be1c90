"""The board's API: who may do what, what it refuses, and its feed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agentic_os_board.testing import PASSWORD, BoardProcess

DRAFT = {"title": "Count the beans", "body": "All.", "project": "default", "state": "ready", "labels": []}


class People:
    """One board's accounts, each with a client of its own."""

    def __init__(self, clients: dict[str, httpx.AsyncClient], ids: dict[str, str]) -> None:
        self.backend = clients["backend"]
        self.admin = clients["operator"]
        self.ada = clients["ada"]
        self.mallory = clients["mallory"]
        self.robot = clients["robot"]
        self.ids = ids

    async def issue(self, task: str) -> str:
        return (await self.backend.put(f"/api/tasks/{task}/issue", json=DRAFT)).json()["key"]


@pytest.fixture
async def people(board: BoardProcess, tmp_path: Path) -> AsyncIterator[People]:
    ids: dict[str, str] = {}
    async with board.backend() as backend:
        for name in ("ada", "mallory", "robot"):
            found = await backend.get("/api/accounts/lookup", params={"name": name})
            if found.is_success:
                ids[name] = found.json()["id"]
            elif name == "robot":
                ids[name] = await board.add_agent(name, ["true"], tmp_path)
            else:
                ids[name] = await board.add_person(name)
    clients = {name: await board.acting(name) for name in ids}
    clients |= {"backend": board.backend(), "operator": await board.operator()}
    yield People(clients, ids)
    for client in clients.values():
        await client.aclose()


async def test_an_agent_can_comment_and_no_more(people: People) -> None:
    """An agent must not close, change, assign, gate or delete, by whichever door."""
    key = await people.issue("agents-1")
    assert (await people.robot.post(f"/api/issues/{key}/comments", json={"body": "Done."})).status_code == 201
    refused = [
        await people.robot.patch(f"/api/issues/{key}", json={"closed": "completed"}),
        await people.robot.patch(f"/api/issues/{key}", json={"title": "Mine"}),
        await people.robot.patch(f"/api/issues/{key}", json={"state": "completed"}),
        await people.robot.patch(f"/api/issues/{key}", json={"assignee": None}),
        await people.robot.put(
            f"/api/issues/{key}/assignment",
            json={"account": people.ids["robot"], "task_id": "agents-1", "attempt": 1},
        ),
        await people.robot.delete(f"/api/issues/{key}"),
        await people.robot.post("/api/issues", json={"title": "Mine"}),
        await people.robot.get("/api/feed"),
        await people.robot.post("/api/accounts", json={"name": "friend", "password": PASSWORD}),
        await people.robot.post("/api/accounts/by-name/robot/tokens", json={"name": "more"}),
        await people.robot.post(f"/api/issues/{key}/reviews/sha256:00/close", json={"outcome": "approved"}),
    ]
    assert [403] * len(refused) == [answer.status_code for answer in refused]
    issue = (await people.backend.get(f"/api/issues/{key}")).json()
    assert (issue["title"], issue["state"], issue["closed"]) == ("Count the beans", "ready", None)


async def test_only_the_author_edits_and_deletes_a_comment(people: People) -> None:
    """Not even an administrator may put words into somebody's mouth, or take them away."""
    key = await people.issue("comments-1")
    posted = await people.ada.post(f"/api/issues/{key}/comments", json={"body": "Looks good."})
    path = f"/api/comments/{posted.json()['id']}"
    for other in (people.mallory, people.admin, people.robot, people.backend):
        assert (await other.patch(path, json={"body": "/approve"})).status_code == 403
        assert (await other.delete(path)).status_code == 403
    (comment,) = (await people.ada.get(f"/api/issues/{key}/comments")).json()["items"]
    assert (comment["body"], comment["edited_at"]) == ("Looks good.", None)
    assert (await people.ada.patch(path, json={"body": "Looks better."})).status_code == 204
    assert (await people.ada.delete(path)).status_code == 204


async def test_nobody_touches_our_notes(people: People) -> None:
    """A note of the backend must be out of reach of everybody else."""
    key = await people.issue("notes-1")
    note = await people.backend.put(f"/api/issues/{key}/notes", json={"marker": "status", "body": "Ready."})
    path = note.json()["id"]
    for other in (people.ada, people.admin, people.robot):
        assert (await other.patch(f"/api/comments/{path}", json={"body": "/approve"})).status_code == 403
        assert (await other.delete(f"/api/comments/{path}")).status_code == 403
        answer = await other.patch(f"/api/issues/{key}/notes/{path}", json={"body": "/approve"})
        assert answer.status_code == 403


async def test_people_change_what_is_theirs(people: People) -> None:
    """A person may change title, labels, assignee and closing; state belongs to the backend."""
    key = await people.issue("fields-1")
    changes = {
        "title": "Count",
        "labels": ["a", "b"],
        "closed": "not_planned",
        "assignee": people.ids["robot"],
    }
    assert (await people.ada.patch(f"/api/issues/{key}", json=changes)).status_code == 204
    issue = (await people.ada.get(f"/api/issues/{key}")).json()
    assert (issue["title"], issue["labels"], issue["closed"]) == ("Count", ["a", "b"], "not_planned")
    assert issue["assignment"] == {"account": people.ids["robot"], "task_id": "fields-1", "attempt": 0}
    assert (await people.ada.patch(f"/api/issues/{key}", json={"state": "completed"})).status_code == 403
    assert (await people.ada.delete(f"/api/issues/{key}")).status_code == 403


async def test_an_attempt_that_is_over_is_not_given_again(people: People) -> None:
    """An assignment that arrives late must not wake anybody for an older attempt."""
    key = await people.issue("fence-1")

    async def assign(attempt: int) -> int:
        document = {"account": people.ids["robot"], "task_id": "fence-1", "attempt": attempt}
        return (await people.backend.put(f"/api/issues/{key}/assignment", json=document)).status_code

    assert [204, 409] == [await assign(2), await assign(1)]


async def test_the_same_attempt_goes_to_one_agent(
    people: People, board: BoardProcess, tmp_path: Path
) -> None:
    """An attempt must not be given to a second agent, for two would work under one fence."""
    key, other = await people.issue("fence-2"), await board.add_agent("second", ["true"], tmp_path)
    document = {"account": people.ids["robot"], "task_id": "fence-2", "attempt": 1}
    first = await people.backend.put(f"/api/issues/{key}/assignment", json=document)
    second = await people.backend.put(f"/api/issues/{key}/assignment", json=document | {"account": other})
    assert (204, 409) == (first.status_code, second.status_code)


@pytest.mark.parametrize(
    "document",
    [
        {"title": "x" * 301},
        {"title": ""},
        {"title": "a\nb"},
        {"title": "\x00"},
        {"title": "a", "surplus": 1},
        {"title": 7},
        {"title": "a", "labels": "a"},
        {"title": "a", "labels": ["a,b"]},
        {"title": "a", "labels": ["x"] * 51},
        {"title": "a", "body": "x" * 400_001},
        [],
        None,
        "text",
    ],
    ids=lambda document: str(document)[:60],  # the name of a test is in the environment of what it starts
)
async def test_bad_input_is_refused(people: People, document: object) -> None:
    """What the board cannot keep must be refused as the caller's fault, in problem details."""
    answer = await people.ada.post("/api/issues", json=document)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] in {"invalid", "malformed"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b'{"title": "\\ud800"}',
        b'{"\\ud800": 1}',
        b"[" * 5000,
        b'{"title": "a", "body": "\\u0000"}',
    ],
    ids=["cut", "not utf-8", "surrogate", "surrogate name", "deep", "nul"],
)
async def test_unreadable_json_is_refused(people: People, body: bytes) -> None:
    """Bytes that are no JSON, or JSON that is no text, must never be the server's failure."""
    answer = await people.ada.post("/api/issues", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}


@pytest.mark.parametrize(
    "path",
    [
        "/api/issues/0",
        "/api/issues/99999999999999999999",
        "/api/issues/abc",
        "/api/issues?page=0",
        "/api/issues?show=x",
        "/api/issues?q=%00",
        "/api/feed?after=x",
        "/api/feed?after=9999999",
        "/api/issues/lookup",
        "/api/accounts/lookup?name=%00",
        "/api/nowhere",
    ],
)
async def test_bad_addresses_are_refused(people: People, path: str) -> None:
    """Whatever stands in an address must be answered with 4xx, in problem details."""
    answer = await people.backend.get(path)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_huge_request_is_refused(people: People) -> None:
    """A body above the limit must be refused before it is read as JSON."""
    answer = await people.ada.post("/api/issues", content=b"x" * (5 * 1024 * 1024))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_an_unknown_token_is_nobody(board: BoardProcess) -> None:
    """A wrong, empty or missing credential must be 401, whatever is asked for."""
    async with board.client("nonsense") as stranger, board.client() as nobody:
        for client in (stranger, nobody):
            for path in ("/api/me", "/api/issues", "/api/feed", "/api/agents"):
                assert (await client.get(path)).status_code == 401


async def test_the_feed_is_in_order_under_concurrent_writers(people: People) -> None:
    """A reader must meet every change once and in one order, however many write meanwhile."""
    key = await people.issue("feed-1")
    start = (await people.backend.get("/api/feed", params={"limit": 500})).json()["next"]
    writers = [people.ada, people.mallory, people.robot] * 4

    async def write(writer: int) -> None:
        for number in range(5):
            body = {"body": f"{writer}.{number}"}
            answer = await writers[writer].post(f"/api/issues/{key}/comments", json=body)
            assert answer.status_code == 201

    async def read() -> list[str]:
        cursor, seen = start, list[str]()
        while len(seen) < 5 * len(writers):
            page = (await people.backend.get("/api/feed", params={"after": cursor, "limit": 7})).json()
            seen += [item["data"]["body"] for item in page["items"]]
            cursor = page["next"]
        return seen

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        for writer in range(len(writers)):
            tasks.create_task(write(writer))
    seen = reading.result()
    assert len(seen) == len(set(seen))
    for writer in range(len(writers)):
        mine = [body for body in seen if body.startswith(f"{writer}.")]
        assert [f"{writer}.{number}" for number in range(5)] == mine


async def test_tokens_are_revoked_together(people: People, board: BoardProcess) -> None:
    """A person whose tokens were revoked must be nobody until they sign in again."""
    await board.add_person("leaver")
    async with await board.acting("leaver") as leaver:
        assert (await leaver.get("/api/me")).status_code == 200
        await people.admin.delete("/api/accounts/by-name/leaver/tokens")
        assert (await leaver.get("/api/me")).status_code == 401

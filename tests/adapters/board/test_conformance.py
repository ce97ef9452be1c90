"""The board keeps the port's contract, over real HTTP, with the network's faults between."""

import asyncio
import json
import re
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Self

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentic_os.control_plane import Assignment, ControlPlane
from agentic_os.control_plane.conformance import ControlPlaneConformance, PostedComment
from agentic_os.control_plane.conformance.harness import read_feed
from agentic_os_board.client import BoardClient
from agentic_os_board.clock import now
from agentic_os_board.signatures import sign
from agentic_os_board.testing import BACKEND_TOKEN, PASSWORD, WEBHOOK_SECRET, BoardProcess

_WRITES = {"PUT", "POST", "PATCH", "DELETE"}


class Network:
    """Stands between the adapter and the board, and is also where the board sends its webhooks."""

    def __init__(self) -> None:
        self.fault: Callable[[Request], str] = lambda _: ""
        self.limit = 0
        self.board: BoardProcess
        self.deliveries: list[tuple[Mapping[str, str], bytes]] = []
        self._arrived = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        routes = [
            Route("/webhooks", self._webhook, methods=["POST"]),
            Route("/{path:path}", self._forward, methods=["GET", *_WRITES]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def wait_for(self, wanted: set[str]) -> list[tuple[Mapping[str, str], bytes]]:
        """Wait until these deliveries have arrived, and list them in the order of their arrival."""
        with self._arrived:
            assert self._arrived.wait_for(
                lambda: wanted <= {each[0]["webhook-id"] for each in self.deliveries}, 30
            )
            return [each for each in self.deliveries if each[0]["webhook-id"] in wanted]

    async def _webhook(self, request: Request) -> Response:
        delivery = dict(request.headers), await request.body()
        with self._arrived:
            self.deliveries.append(delivery)
            self._arrived.notify_all()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _forward(self, request: Request) -> Response:
        if self.limit:
            wait, self.limit = self.limit, 0
            return Response(status_code=429, headers={"retry-after": str(wait)})
        fault = self.fault(request)
        if fault:
            self.fault = lambda _: ""
        if fault == "before":
            return Response("upstream is away", 503)
        kept = {"authorization", "content-type"}
        async with self.board.client() as client:
            answer = await client.request(
                request.method,
                request.url.path,
                params=request.query_params.multi_items(),
                content=await request.body(),
                headers={name: value for name, value in request.headers.items() if name in kept},
            )
        if fault == "after":
            return Response("the answer was lost", 502)
        media_type = answer.headers.get("content-type")
        return Response(answer.content, answer.status_code, media_type=media_type)


class BoardHarness:
    """People and faults, by way of the board's own API and pages."""

    project = "default"
    unknown_key = "999999"
    page_size = 20

    def __init__(self, board: BoardProcess, network: Network, workspace: Path) -> None:
        self._board = board
        self._network = network
        self._workspace = workspace
        self._names: dict[str, str] = {}
        self._start = ""
        self._earlier: set[str] = set()
        self.plane: ControlPlane = self._open(BACKEND_TOKEN)

    async def begin(self) -> None:
        """Leave what earlier tests did behind."""
        _, self._start = await read_feed(self.plane)
        self._earlier = {run["id"] for run in await self._board.runs()}

    def _open(self, token: str) -> ControlPlane:
        return BoardClient(self._network.url, token, ("newer", WEBHOOK_SECRET), page_size=self.page_size)

    async def person(self, name: str) -> str:
        return await self._account(name, lambda: self._board.add_person(name, admin=True))

    async def agent(self, name: str) -> str:
        return await self._account(name, lambda: self._board.add_agent(name, ["true"], self._workspace))

    async def _account(self, name: str, add: Callable[[], Any]) -> str:
        async with self._board.backend() as backend:
            found = await backend.get("/api/accounts/lookup", params={"name": name})
        account = found.json()["id"] if found.is_success else await add()
        self._names[account] = name
        return account

    async def open_issue(
        self, author: str, title: str, body: str, project: str, labels: Sequence[str]
    ) -> str:
        document = {"title": title, "body": body, "project": project, "labels": list(labels)}
        return (await self._as(author, "POST", "/api/issues", document)).json()["key"]

    async def comment(self, key: str, author: str, body: str) -> str:
        return (await self._as(author, "POST", f"/api/issues/{key}/comments", {"body": body})).json()["id"]

    async def edit_comment(self, key: str, comment_id: str, author: str, body: str) -> None:
        if author != await self._author(key, comment_id):
            pytest.skip("on the board, nobody edits the comments of others (see test_api)")
        await self._as(author, "PATCH", f"/api/comments/{comment_id}", {"body": body})

    async def delete_comment(self, key: str, comment_id: str, author: str) -> None:
        if author != await self._author(key, comment_id):
            pytest.skip("on the board, nobody deletes the comments of others (see test_api)")
        await self._as(author, "DELETE", f"/api/comments/{comment_id}")

    async def _author(self, key: str, comment_id: str) -> str:
        return next(one.author for one in await self.comments(key) if one.id == comment_id)

    async def change_field(self, key: str, author: str, field: str, value: str) -> None:
        given = [label.strip() for label in value.split(",")] if field == "labels" else value or None
        await self._as(author, "PATCH", f"/api/issues/{key}", {field: given})

    async def delete_issue(self, key: str, author: str) -> None:
        await self._as(author, "DELETE", f"/api/issues/{key}")

    async def decide_review(
        self, key: str, digest: str, author: str, verdict: Literal["approve", "revise", "reject"]
    ) -> None:
        async with self._board.client() as browser:
            form = {"name": self._names[author], "password": PASSWORD}
            csrf = _csrf((await browser.get("/sign-in")).text)
            await browser.post("/sign-in", data=form | {"csrf": csrf})
            csrf = _csrf((await browser.get(f"/issues/{key}")).text)
            path = f"/issues/{key}/reviews/{digest}"
            answer = await browser.post(path, data={"csrf": csrf, "verb": verdict, "text": ""})
            assert answer.status_code == HTTPStatus.SEE_OTHER

    async def edit_plan(self, key: str, digest: str, author: str, text: str) -> None:
        async with self._board.client() as browser:
            form = {"name": self._names[author], "password": PASSWORD}
            csrf = _csrf((await browser.get("/sign-in")).text)
            await browser.post("/sign-in", data=form | {"csrf": csrf})
            shown = (await browser.get(f"/issues/{key}")).text
            assert "Send the edited plan" in shown
            path = f"/issues/{key}/reviews/{digest}/edit"
            answer = await browser.post(path, data={"csrf": _csrf(shown), "text": text.replace("\n", "\r\n")})
            assert answer.status_code == HTTPStatus.SEE_OTHER

    async def report_run(self, key: str, assignment: Assignment, state: Literal["alive", "ended"]) -> None:
        runs = await self._until_idle()
        (run,) = [run for run in runs if run["task_id"] == assignment.task_id]
        assert (key, assignment.attempt) == (str(run["issue"]), run["attempt"])
        assert state == "alive" or run["ended_at"]

    async def pause(self, account: str, author: str) -> None:
        async with await self._board.acting(self._names[author]) as person:
            answer = await person.delete(f"/api/agents/{self._names[account]}")
            assert answer.status_code == HTTPStatus.NO_CONTENT

    async def resume(self, account: str, author: str) -> None:  # noqa: ARG002 - the harness's
        pytest.skip("an agent of the board is deactivated for good")

    async def issues(self) -> Sequence[str]:
        keys: list[str] = []
        async with self._board.backend() as backend:
            for page in range(1, 10_000):
                answer = (await backend.get("/api/issues", params={"show": "all", "page": page})).json()
                keys += [item["key"] for item in answer["items"]]
                if not answer["more"]:
                    break
        return keys

    async def comments(self, key: str) -> Sequence[PostedComment]:
        found: list[PostedComment] = []
        async with self._board.backend() as backend:
            while True:
                after = int(found[-1].id) if found else 0
                path = f"/api/issues/{key}/comments"
                items = (await backend.get(path, params={"after": after})).json()["items"]
                found += [
                    PostedComment(id=item["id"], author=item["author"], body=item["body"])
                    for item in items
                    if not item["deleted"]
                ]
                if len(items) < 100:
                    return found

    async def wakes(self) -> Sequence[Assignment]:
        return [
            Assignment(account=run["agent"], task_id=run["task_id"], attempt=run["attempt"])
            for run in await self._until_idle()
        ]

    async def _until_idle(self) -> list[dict[str, Any]]:
        runs = await self._board.until_runs(
            lambda runs: all(run["state"] not in {"queued", "running"} for run in runs)
        )
        return [run for run in runs if run["id"] not in self._earlier]

    async def deliveries(self) -> Sequence[tuple[Mapping[str, str], bytes]]:
        await self._until_idle()
        async with self._board.backend() as backend:
            feed = await backend.get("/api/feed", params={"after": self._start, "limit": 500})
        wanted = {item["delivery"] for item in feed.json()["items"] if not item["own"]}
        return await asyncio.to_thread(self._network.wait_for, wanted)

    async def sign(self, body: bytes, *, age: float) -> Mapping[str, str]:
        return sign(WEBHOOK_SECRET, secrets.token_hex(8), now() - timedelta(seconds=age), body)

    async def fail_next(self, *, before: bool) -> None:
        if before:
            self._network.fault = lambda _: "before"
        else:
            self._network.fault = lambda request: "after" if request.method in _WRITES else ""

    async def limit_next(self, seconds: float) -> None:
        self._network.limit = int(seconds)

    async def stranger(self) -> ControlPlane:
        return self._open("a token of nobody")

    async def restart(self) -> None:
        self._board.stop()
        self._board.start()
        await self.plane.aclose()
        self.plane = self._open(BACKEND_TOKEN)

    async def _as(self, author: str, method: str, path: str, document: object = None) -> httpx.Response:
        async with await self._board.acting(self._names[author]) as client:
            content = None if document is None else json.dumps(document).encode()
            headers = {"content-type": "application/json"}
            answer = await client.request(method, path, content=content, headers=headers)
            return answer.raise_for_status()


def _csrf(text: str) -> str:
    match = re.search(r'name="csrf" value="([^"]+)"', text)
    assert match
    return match[1]


@pytest.fixture(scope="module")
def far(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BoardProcess, Network]]:
    home = tmp_path_factory.mktemp("board") / "home"
    with (
        Network() as network,
        BoardProcess(new_database(), home, webhook_url=f"{network.url}/webhooks") as board,
    ):
        network.board = board
        yield board, network


@pytest.fixture
async def tracker(far: tuple[BoardProcess, Network], tmp_path: Path) -> AsyncIterator[BoardHarness]:
    harness = BoardHarness(*far, tmp_path)
    await harness.begin()
    yield harness
    far[1].fault, far[1].limit = lambda _: "", 0
    await harness.plane.aclose()


class TestBoard(ControlPlaneConformance):
    """A real server against the whole suite."""

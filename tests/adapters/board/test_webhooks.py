"""Webhooks: signed, in order, repeated until they are taken."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from agentic_os_board.clock import now
from agentic_os_board.signatures import BadSignature, sign, verify
from agentic_os_board.testing import WEBHOOK_SECRET, BoardProcess

DRAFT = {"title": "Count the beans", "body": "", "project": "", "state": "ready", "labels": []}


class Receiver:
    """Takes webhooks over a plain socket, and refuses as many as it is told to."""

    def __init__(self) -> None:
        self.refusals = 0
        self.taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.tries: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                assert line.startswith(b"POST /hooks ")
                await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers: dict[str, str] = {}
        while (line := await reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers["content-length"]))
        self.tries.append(headers["webhook-id"])
        refuse = self.refusals > 0
        self.refusals -= refuse
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % (503 if refuse else 204))
        await writer.drain()
        if not refuse:
            self.taken.put_nowait((headers, body))


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks"
    server.close()
    await server.wait_closed()


async def comment(board: BoardProcess, *bodies: str) -> str:
    async with board.backend() as backend, await board.operator() as ada:
        key = (await backend.put("/api/tasks/task-1/issue", json=DRAFT)).json()["key"]
        for body in bodies:
            await ada.post(f"/api/issues/{key}/comments", json={"body": body})
    return str(key)


async def test_webhooks_are_signed_in_order_and_repeated(
    new_board: Callable[..., BoardProcess], receiver: tuple[Receiver, str]
) -> None:
    """What others do must arrive in order, signed, each under one id until it is taken; our own doing must not."""
    hooks, url = receiver
    hooks.refusals = 1
    board = await asyncio.to_thread(new_board, webhook_url=url)
    await comment(board, "one", "two", "three")
    taken = [await asyncio.wait_for(hooks.taken.get(), 30) for _ in range(3)]
    assert ["one", "two", "three"] == [json.loads(body)["activity"]["data"]["body"] for _, body in taken]
    for headers, body in taken:
        verify([WEBHOOK_SECRET], headers, body, now())
    ids = [headers["webhook-id"] for headers, _ in taken]
    assert [ids[0], *ids] == hooks.tries


async def test_webhooks_survive_a_crash(
    new_board: Callable[..., BoardProcess], receiver: tuple[Receiver, str]
) -> None:
    """A webhook that nobody took before the board was killed must arrive after its return."""
    hooks, url = receiver
    hooks.refusals = 100
    board = await asyncio.to_thread(new_board, webhook_url=url)
    await comment(board, "one")
    async with asyncio.timeout(30):
        while not hooks.tries:  # noqa: ASYNC110 - a refused try is no event of the queue
            await asyncio.sleep(0.01)
    board.kill()
    hooks.refusals = 0
    await asyncio.to_thread(board.start)
    _, body = await asyncio.wait_for(hooks.taken.get(), 30)
    assert json.loads(body)["activity"]["data"]["body"] == "one"


def test_either_live_secret_is_believed() -> None:
    """While a secret is changed, both must verify; a third must not."""
    headers = sign("old", "id-1", now(), b"{}")
    verify(["new", "old"], headers, b"{}", now())
    for secrets in (["new"], [], [""]):
        with pytest.raises(BadSignature):
            verify(secrets, headers, b"{}", now())


def test_a_published_example_verifies() -> None:
    """Signatures must be those that other libraries of the same standard make."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    at = now().fromtimestamp(1614265330, tz=now().tzinfo)
    headers = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    verify([secret], headers, body, at + timedelta(minutes=4))
    for wrong in (timedelta(minutes=6), timedelta(minutes=-6)):
        with pytest.raises(BadSignature):
            verify([secret], headers, body, at + wrong)


def test_the_home_is_private(board: BoardProcess) -> None:
    """Nobody else on the machine may read logs and briefs."""
    assert Path(board.configuration["home"]).stat().st_mode & 0o077 == 0

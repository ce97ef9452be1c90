"""The adapter names a refusal by what it means, and never takes a stranger's word for an absence."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

import pytest

from agentic_os.control_plane import (
    Conflict,
    ControlPlane,
    Denied,
    Invalid,
    IssueChanges,
    NotFound,
    RateLimited,
    Settings,
    Unavailable,
)
from agentic_os_board import PLUGIN
from agentic_os_board.clock import now

PROBLEM = '{"type": "urn:agentic-os-board:problem:%s", "status": 0, "code": "%s", "detail": "so it is"}'


def problem(code: str) -> str:
    return PROBLEM % (code, code)


@pytest.fixture
async def answering() -> AsyncIterator[Callable[..., ControlPlane]]:
    """Make planes whose server gives one canned answer to everything."""
    planes: list[ControlPlane] = []
    servers: list[asyncio.Server] = []

    async def make(
        status: int, body: str = "", headers: Sequence[str] = (), *, hang_up: bool = False
    ) -> ControlPlane:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if not hang_up:
                lines = [
                    f"HTTP/1.1 {status} X",
                    f"content-length: {len(body)}",
                    "connection: close",
                    *headers,
                ]
                writer.write("\r\n".join([*lines, "", body]).encode())
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        planes.append(PLUGIN.open(Settings(url=url, token="token", webhook_secrets=())))
        return planes[-1]

    yield make
    for plane in planes:
        await plane.aclose()
    for server in servers:
        server.close()
        await server.wait_closed()


OWN = ["content-type: application/problem+json"]


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (404, problem("not_found"), OWN, NotFound),
        (404, problem("no_such_route"), OWN, Unavailable),
        (404, problem("not_found"), ["content-type: text/html"], Unavailable),
        (404, '{"code": "not_found", "type": "about:blank", "detail": ""}', OWN, Unavailable),
        (404, "[]", OWN, Unavailable),
        (404, "", [], Unavailable),
        (401, problem("unauthenticated"), OWN, Denied),
        (403, problem("forbidden"), OWN, Denied),
        (421, problem("wrong_host"), OWN, Denied),
        (409, problem("conflict"), OWN, Conflict),
        (422, problem("invalid"), OWN, Invalid),
        (400, problem("malformed"), OWN, Invalid),
        (413, problem("too_large"), OWN, Invalid),
        (500, problem("internal"), OWN, Unavailable),
        (502, "bad gateway", [], Unavailable),
        (302, "", ["location: https://example.org/"], Unavailable),
        (200, "<html>a login page</html>", ["content-type: text/html"], Unavailable),
        (200, "{}", ["content-type: application/json"], Unavailable),
        (200, "[]", ["content-type: application/json"], Unavailable),
        (200, '{"items": [], "missing": []}', ["content-type: application/json"], Unavailable),
        (200, '{"items": [7], "missing": ["7"]}', ["content-type: application/json"], Unavailable),
    ],
)
async def test_an_answer_means_what_it_says(
    answering: Callable[..., ControlPlane], status: int, body: str, headers: list[str], error: type[Exception]
) -> None:
    """Only the board's own word may mean absence; everything doubtful must be Unavailable."""
    plane = await answering(status, body, headers)
    with pytest.raises(error):
        await plane.observe(["7"])


async def test_a_hang_up_is_unavailable(answering: Callable[..., ControlPlane]) -> None:
    """A connection that ends without an answer must be Unavailable, for the write may have happened."""
    plane = await answering(0, hang_up=True)
    with pytest.raises(Unavailable):
        await plane.apply("7", IssueChanges(title="Count"))


async def test_a_refused_connection_is_unavailable() -> None:
    """A server that is away must be Unavailable."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    plane = PLUGIN.open(Settings(url=f"http://127.0.0.1:{port}", token="t", webhook_secrets=()))
    with pytest.raises(Unavailable):
        await plane.identify("ada")
    await plane.aclose()


@pytest.mark.parametrize(
    ("header", "patience"), [(["retry-after: 7"], 7), ([], 30), (["retry-after: soon"], 30)]
)
async def test_a_rate_limit_says_until_when(
    answering: Callable[..., ControlPlane], header: list[str], patience: int
) -> None:
    """The instant to come back at must be the server's, or a moment that spares it."""
    plane = await answering(429, problem("rate_limited"), [*OWN, *header])
    before = now()
    with pytest.raises(RateLimited) as caught:
        await plane.observations("")
    assert timedelta(seconds=patience) <= caught.value.retry_at - before < timedelta(seconds=patience + 10)


@pytest.mark.parametrize("key", ["", "abc", "0", "-1", "../accounts", "9" * 40, "\u0663"])
async def test_a_key_that_cannot_be_asks_nobody(answering: Callable[..., ControlPlane], key: str) -> None:
    """What cannot be a number of an issue must be NotFound, and never become another address."""
    plane = await answering(500)
    with pytest.raises(NotFound):
        await plane.post(key, "status", "Ready.")


@pytest.mark.parametrize(
    "settings",
    [
        {"url": ""},
        {"url": "ftp://board"},
        {"url": "127.0.0.1:8701"},
        {"url": "http://board", "options": {"colour": "blue"}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    """A plugin that is opened wrongly must say what is wrong, before any request."""
    with pytest.raises(Invalid):
        PLUGIN.open(Settings(**{"token": "t", "webhook_secrets": ()} | settings))

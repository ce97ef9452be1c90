"""Open pages hear of changes: each what it shows, hundreds at once, and none longer than the server lives."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.adapters.board.test_pages import csrf_of, open_issue, sign_in

from agentic_os_board.server import live as live_module
from agentic_os_board.server.database import open_database
from agentic_os_board.server.live import Live
from agentic_os_board.server.problems import Busy
from agentic_os_board.testing import OPERATOR, PASSWORD, BoardProcess

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def page(board: BoardProcess, path: str, cookies: httpx.Cookies) -> AsyncIterator[AsyncIterator[str]]:
    """Follow a page; yield the lines of its stream that name events, once it is open."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(board.client())
        client.cookies = cookies
        answer = await stack.enter_async_context(client.stream("GET", path))
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert await anext(lines) == ": open"
        yield (line async for line in lines if line.startswith("event:"))


@pytest.fixture
async def browser(board: BoardProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with board.client() as client:
        await sign_in(client, OPERATOR, PASSWORD)
        yield client


async def live_of(browser: httpx.AsyncClient, path: str) -> str:
    """Read from a page where it hears of changes."""
    text = (await browser.get(path)).text
    return text.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")


async def comment(browser: httpx.AsyncClient, path: str) -> None:
    csrf = csrf_of((await browser.get(path)).text)
    answer = await browser.post(f"{path}/comments", data={"csrf": csrf, "body": "Hello"})
    assert answer.status_code == 303


async def test_two_hundred_pages_hear_of_a_change(board: BoardProcess, browser: httpx.AsyncClient) -> None:
    """Every page of an issue and of the list must be told, and a page of another issue not."""
    path, other = await open_issue(browser, "Watched"), await open_issue(browser, "Not touched")
    addresses = [await live_of(browser, path)] * 150 + [await live_of(browser, "/issues")] * 50
    async with AsyncExitStack() as stack:
        pages = await asyncio.gather(
            *(stack.enter_async_context(page(board, each, browser.cookies)) for each in addresses)
        )
        quiet = await stack.enter_async_context(page(board, await live_of(browser, other), browser.cookies))
        await comment(browser, path)
        assert {"event: changed"} == set(await asyncio.gather(*map(anext, pages)))
        # The page of the other issue is told first of what happens to it, and so was told nothing before.
        waiting = asyncio.ensure_future(anext(quiet))
        assert not waiting.done()
        await comment(browser, other)
        assert await waiting == "event: changed"


async def test_what_happened_before_the_stream_is_told(
    board: BoardProcess, browser: httpx.AsyncClient
) -> None:
    """A change between reading a page and following it must not be lost."""
    path = await open_issue(browser, "Overtaken")
    address = await live_of(browser, path)
    await comment(browser, path)
    async with page(board, address, browser.cookies) as events:
        assert await anext(events) == "event: changed"


async def test_a_reaction_is_told(board: BoardProcess, browser: httpx.AsyncClient) -> None:
    """The receipt on a comment, which no list of activities shows, must reach open pages."""
    path = await open_issue(browser, "Answered")
    await comment(browser, path)
    async with board.backend() as backend:
        (added,) = (await backend.get(f"/api{path}/comments")).json()["items"]
        async with page(board, await live_of(browser, path), browser.cookies) as events:
            await backend.put(f"/api{path}/comments/{added['id']}/reaction", json={"reaction": "done"})
            assert await anext(events) == "event: changed"


async def test_nobody_follows_without_a_session(board: BoardProcess, browser: httpx.AsyncClient) -> None:
    """A stream must ask for a session as its page does, and refuse what is no page."""
    async with board.client() as nobody:
        for path in ("/live/all?after=0", "/live/issue/1?after=0", "/live/run/x"):
            assert (await nobody.get(path)).status_code == 401, path
    assert (await browser.get("/live/all")).status_code == 422
    assert (await browser.get("/live/issue/x?after=0")).status_code == 422


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_stream_ends_with_the_server(
    new_board: Callable[..., BoardProcess], how: signal.Signals
) -> None:
    """Open pages must not hold the server up: their streams end as the server is told to stop, in good order."""
    board = new_board()
    async with board.client() as browser:
        await sign_in(browser, OPERATOR, PASSWORD)
        async with page(board, await live_of(browser, "/issues"), browser.cookies) as events:
            board.process.send_signal(how)
            with pytest.raises(StopAsyncIteration):
                await anext(events)
    assert await asyncio.to_thread(board.process.wait, 30) == 0
    said = [line for line in board.log.read_text().splitlines() if "gates are cooperative" not in line]
    assert said == []


async def test_a_run_s_output_is_told(
    board: BoardProcess, browser: httpx.AsyncClient, tmp_path: Path
) -> None:
    """The page of a running run must hear of its output, and of its end."""
    gate = tmp_path / "gate"
    command = ["sh", "-c", f"echo begun; while ! [ -e {gate} ]; do sleep 0.05; done; echo over"]
    agent = await board.add_agent("talker", command, tmp_path)
    draft = {"title": "Talk", "body": "", "project": "", "state": "ready"}
    async with board.backend() as backend:
        key = (await backend.put("/api/tasks/talk/issue", json=draft)).json()["key"]
        given = {"account": agent, "task_id": "talk", "attempt": 1}
        await backend.put(f"/api/issues/{key}/assignment", json=given)
    (run,) = await board.until_runs(lambda runs: any(each["task_id"] == "talk" for each in runs))
    path = f"/runs/{run['id']}"
    async with page(board, f"/live/run/{run['id']}", browser.cookies) as events:
        while "begun" not in (await browser.get(path)).text:
            await anext(events)
        gate.touch()
        while "exit code 0" not in (await browser.get(path)).text:
            await anext(events)
    assert await live_of(browser, path) == ""
    assert (await browser.get(f"{path}/log")).text == "begun\nover\n"


async def test_there_is_room_for_so_many_pages(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page too many must be refused, and let in when another has gone; a closed server lets none in."""
    monkeypatch.setattr(live_module, "MOST_PAGES", 2)
    async with open_database(new_database()) as database:
        live = Live(database)
        first, second = live.follow("all", 0), live.follow("all", 0)
        assert {await anext(first), await anext(second)} == {b": open\n\n"}
        with pytest.raises(Busy):
            live.require_room()
        await first.aclose()
        live.require_room()
        live.close()
        with pytest.raises(Busy):
            live.require_room()
        await second.aclose()

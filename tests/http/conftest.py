"""A desk over a backend without a tracker, and the command line at a desk."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.conftest import Database
from tests.desk import Desk, open_client

from agentic_os.application.backend import Backend
from agentic_os.cli import main
from agentic_os.cli.client import Client, ServerRefused

Command = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def desk(backend: Backend, database: Database) -> AsyncIterator[Desk]:
    """Open the API, with an admin, an operator, a reviewer and a viewer registered."""
    async with open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Desk], Command]:
    """Run commands that read against a desk; give the exit code and all that was printed."""

    def at(desk: Desk) -> Command:
        monkeypatch.setenv("AGENTIC_OS_URL", "http://desk")
        monkeypatch.setenv("AGENTIC_OS_TOKEN", "unused")
        loop = asyncio.get_event_loop()

        def get(self: Client, path: str, **query: Any) -> Any:
            asked = desk.get(path, params={k: v for k, v in query.items() if v is not None})
            answer = asyncio.run_coroutine_threadsafe(asked, loop).result()
            if answer.is_error:
                raise ServerRefused(answer.json())
            return answer.json()

        monkeypatch.setattr(Client, "get", get)

        async def run(*arguments: object) -> tuple[int, str]:
            capsys.readouterr()
            code = await asyncio.to_thread(main, [*map(str, arguments)])
            printed = capsys.readouterr()
            return code, printed.out + printed.err

        return run

    return at

"""Run the server that belongs to a control plane beside the backend; it ends when its standard input does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from agentic_os.control_plane import Companion

log = structlog.get_logger()

_STOP: Final = 8.0


class CompanionFailed(Exception):
    """The server ended instead of serving."""


@asynccontextmanager
async def running_companion(companion: Companion) -> AsyncIterator["asyncio.subprocess.Process"]:
    """Start the server, configured through its standard input, and stop it at the end."""
    process = await asyncio.create_subprocess_exec(
        *companion.argv, stdin=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(dict(companion.configuration)).encode() + b"\n")
        with suppress(ConnectionError):  # it may have ended already, which is noticed by whoever waits for it
            await process.stdin.drain()
        yield process
    finally:
        with suppress(ConnectionError):
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP)
        except TimeoutError:
            log.warning("the companion did not stop by itself", pid=process.pid)
            process.kill()
            await process.wait()

"""A server with its worker in a process of its own, over a board; it works by itself, and can be killed.

Reads one line of JSON that says what to serve, prints its port, and serves until killed or until its input ends.
"""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from agentic_os.bootstrap import Parts, open_backend
from agentic_os.control_plane import Settings
from agentic_os.governance import load_governance
from agentic_os.http.app import create_app
from agentic_os.hydration import load_definition
from agentic_os.worker import Worker
from agentic_os_board import PLUGIN


async def main() -> None:
    """Serve."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    board = Settings(
        url=wanted["board"], token=wanted["token"], webhook_secrets=(wanted["webhook_secret"],), options={}
    )
    parts = Parts(
        dsn=wanted["dsn"],
        server_key=b"k" * 32,
        artifacts=Path(wanted["artifacts"]),
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://127.0.0.1",
        control_plane=PLUGIN.open(board),
    )
    async with open_backend(parts) as backend:
        server = uvicorn.Server(
            uvicorn.Config(create_app(backend), port=wanted["port"], log_config=None, access_log=False)
        )
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve())
            working = group.create_task(Worker(backend, resync=timedelta(seconds=0.5)).run())
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
                await asyncio.sleep(0.005)
            print(server.servers[0].sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
            await asyncio.to_thread(sys.stdin.readline)
            server.should_exit = True
            working.cancel()
            await serving


if __name__ == "__main__":
    asyncio.run(main())

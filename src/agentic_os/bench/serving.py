"""Serve one application in a process of its own, for the load generator; speaks through its standard streams."""

import asyncio
import json
import sys
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

from agentic_os.application.rates import Rate, Rates
from agentic_os.bootstrap import Parts, open_backend, settle
from agentic_os.governance import load_governance
from agentic_os.http.app import create_app
from agentic_os.hydration import load_definition


async def main() -> None:
    """Serve what the first line of standard input describes, until standard input ends."""
    wanted = json.loads(sys.stdin.readline())
    if wanted["app"] == "empty":
        await _serve(_empty())
        return
    parts = Parts(
        dsn=wanted["dsn"],
        server_key=bytes.fromhex(wanted["key"]),
        artifacts=Path(wanted["artifacts"]),
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://bench",
        rates=Rates(callbacks=Rate(per_second=1e9, burst=1e9)),  # the brake is on the path, and never felt
    )
    async with open_backend(parts) as backend:
        await _serve(create_app(backend))


def _empty() -> FastAPI:
    """Build the limit line: an endpoint that reads its body and answers."""
    app = FastAPI()

    @app.post("/api/executions/callback", status_code=202)
    async def callback(request: Request) -> Response:
        await request.body()
        return Response(b'{"accepted":true}', 202, media_type="application/json")

    return app


async def _serve(app: FastAPI) -> None:
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, proxy_headers=False)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
        await asyncio.sleep(0.01)
    settle()  # as the stack does once it serves
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
    await asyncio.to_thread(sys.stdin.readline)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    uvloop.run(main())

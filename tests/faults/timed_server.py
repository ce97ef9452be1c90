"""A server in a process of its own whose clock can be set, and whose worker works when told; it can be killed.

Reads one line of JSON that says what to serve and prints its port; then each line {"skew": seconds} sets the clock
ahead of the real one and runs the worker until nothing is left to do, answered by "done".
"""

import asyncio
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agentic_os import clock

_real = clock.now
_skew = timedelta(0)


def _now() -> datetime:
    return _real() + _skew


clock.now = _now  # before any other module of ours takes it


async def main() -> None:
    """Serve until killed, or until standard input ends."""
    import structlog  # noqa: PLC0415
    import uvicorn  # noqa: PLC0415

    from agentic_os.application.dispatch import Terms  # noqa: PLC0415
    from agentic_os.bootstrap import Parts, open_backend  # noqa: PLC0415
    from agentic_os.domain.conditions import Condition  # noqa: PLC0415
    from agentic_os.domain.policy import Obligations, Reviewers, Rule, RuleSet  # noqa: PLC0415
    from agentic_os.http.app import create_app  # noqa: PLC0415
    from agentic_os.hydration import load_definition  # noqa: PLC0415
    from agentic_os.worker import Worker  # noqa: PLC0415

    # The standard output is for what the parent waits for; a log in it would fill the pipe, and hold up everything.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    _set_clock(wanted["skew"])

    def rule(risk: str, obligations: Obligations) -> Rule:
        when = (Condition(field="task.risk", operator="eq", value=risk),)
        return Rule(id=risk, on="task.received", when=when, obligations=obligations)

    policy = RuleSet(
        bundle="sha256:b",
        rules=(
            rule("high", Obligations(reviewers=Reviewers(quorum=2), result_review=True)),
            rule("medium", Obligations(deadline_seconds=300, on_timeout="proceed")),
        ),
        defaults=Obligations(deadline_seconds=600),
    )
    parts = Parts(
        dsn=wanted["dsn"],
        server_key=b"k" * 32,
        artifacts=Path(wanted["artifacts"]),
        policy=policy,
        skills=load_definition(None),
        public_url="http://127.0.0.1",
        terms=Terms(
            callback_url="http://127.0.0.1", ack_within=timedelta(seconds=30), lease=timedelta(seconds=60)
        ),
    )
    async with open_backend(parts) as backend:
        server = uvicorn.Server(
            uvicorn.Config(create_app(backend), port=0, log_config=None, access_log=False)
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
            await asyncio.sleep(0.005)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
        worker = Worker(backend)
        while line := await asyncio.to_thread(sys.stdin.readline):
            _set_clock(json.loads(line)["skew"])
            await worker.drain_deadlines()
            await worker.drain_stale()
            print("done", flush=True)  # noqa: T201
        server.should_exit = True
        await serving


def _set_clock(seconds: float) -> None:
    global _skew  # noqa: PLW0603 - the clock is one for the process
    _skew = timedelta(seconds=seconds)


if __name__ == "__main__":
    asyncio.run(main())

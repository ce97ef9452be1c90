"""Decisions of policy over HTTP: those that were made, and what another policy would have made of them."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agentic_os.application.backend import Backend
from agentic_os.application.decisions import Position, Ruling, decision_of
from agentic_os.application.governing import BundleInvalid
from agentic_os.application.ports import StoreUnavailable
from agentic_os.application.simulation import (
    AlreadySimulating,
    Done,
    Extent,
    PolicyUnreadable,
    Report,
    Simulations,
)
from agentic_os.domain.comparison import Difference
from agentic_os.domain.policy import DecisionPoint, Hook
from agentic_os.domain.rejection import Rejected
from agentic_os.http.authentication import Caller, require
from agentic_os.http.models import FileIn, SimulationIn, documented, read_model
from agentic_os.http.problems import Refused, problem
from agentic_os.http.tasks import Limit, Viewer, answer, clean

log = structlog.get_logger()

router = APIRouter(prefix="/api")
Operator = Annotated[Caller, Depends(require("operator"))]
_CURSOR: Final = re.compile(r"([0-9]{1,19})\.([0-9]{1,18})")


@router.get("/decisions", summary="List decisions of policy")
async def page(
    request: Request,
    caller: Viewer,
    task: Annotated[str | None, Query(max_length=64)] = None,
    hook: Hook | None = None,
    decision: Ruling | None = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 50,
) -> Response:
    """List what policy decided and on which facts, the newest first; of a proposed task its parent tells."""
    backend: Backend = request.app.state.backend
    task_id = clean(task)
    if task_id is not None and (await backend.log.load(task_id)).task is None:
        raise Rejected("unknown_task", "There is no such task.")
    events, following = await backend.decisions.page(
        hook=hook, decision=decision, task_id=task_id, before=_read_cursor(cursor), limit=limit
    )
    after = None if following is None else f"{following[0]}.{following[1]}"
    return answer({"items": [asdict(decision_of(event)) for event in events], "next": after})


def _read_cursor(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise Refused("schema_invalid", "This is not a cursor of ours.", pointers=["/cursor"])
    return parts[1], int(parts[2])


@router.get("/decisions/{event_id}", summary="Read a decision of policy")
async def one(request: Request, caller: Viewer, event_id: str) -> Response:
    """Read a decision by the id of the event that holds it."""
    backend: Backend = request.app.state.backend
    event = await backend.decisions.one(event_id) if _is_id(event_id) else None
    if event is None:
        raise Refused("not_found", "There is no such decision.", next_step="GET /api/decisions lists them.")
    return answer(asdict(decision_of(event)))


@router.get("/decisions/{event_id}/explanation", summary="Explain a decision of policy")
async def explanation(request: Request, caller: Viewer, event_id: str) -> Response:
    """Decide again on the recorded facts by the policy that decided, and say why, and what would change it.

    `replay` is the decision taken apart; `as_recorded` says whether it is the recorded one, `differences` in what not.
    """
    backend: Backend = request.app.state.backend
    try:
        found = await backend.explanations.of(event_id) if _is_id(event_id) else None
    except BundleInvalid as problem:
        raise Refused(
            "not_found",
            f"The policy that decided cannot be read here: {problem}",
            next_step="GET /api/decisions/{id} has what was recorded.",
        ) from problem
    if found is None:
        raise Refused("not_found", "There is no such decision.", next_step="GET /api/decisions lists them.")
    return answer(found.as_json())


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


@router.get("/governance/shadow", summary="What the shadow policy would decide otherwise")
async def shadow(request: Request, caller: Viewer) -> Response:
    """Count by transition what the policy on trial would have decided otherwise, what it loosens first."""
    backend: Backend = request.app.state.backend
    tried = backend.shadow()
    if tried is None:
        return answer({"bundle": None, "transitions": []})
    transitions = [
        {
            "transition": "; ".join(_words(d) for d in trend.differences) or "could not be evaluated",
            "hook": trend.hook,
            "loosened": trend.loosened,
            "count": trend.count,
            "latest": trend.latest,
        }
        for trend in await backend.decisions.trends(tried.bundle)
    ]
    return answer({"bundle": tried.bundle, "transitions": transitions})


def _words(difference: Any) -> str:
    return str(Difference(**difference))


@router.post("/policy/simulations", summary="Simulate another policy", openapi_extra=documented(SimulationIn))
async def simulate(request: Request, caller: Operator) -> Response:
    """Decide recorded decisions again under the policy of the body, and tell of the differences.

    The answer is a stream of server-sent events: `progress` with {done, total}, and at the end `report`.
    """
    backend: Backend = request.app.state.backend
    wanted = await read_model(request, SimulationIn)
    simulations = backend.simulations
    try:
        simulations.take_turn()
    except AlreadySimulating:
        raise Refused(
            "conflict",
            "This process simulates another policy just now.",
            next_step="Wait until that one has ended, then send the same again.",
        ) from None
    try:
        files = [(file.name, file.text) for file in wanted.policy]
        policy = await simulations.read(files, _file(wanted.organisation))
    except PolicyUnreadable as fault:
        simulations.end_turn()
        raise Refused(
            "schema_invalid", str(fault), next_step="Correct the line that it names.", pointers=["/policy"]
        ) from fault
    except BaseException:
        simulations.end_turn()
        raise
    return _Simulation(simulations, policy, Extent(last=wanted.last, since=wanted.since))


def _file(file: FileIn | None) -> Any:
    return None if file is None else (file.name, file.text)


class _Simulation(StreamingResponse):
    """The stream of one simulation, whose turn ends with it however it ends."""

    def __init__(self, simulations: Simulations, policy: DecisionPoint, extent: Extent) -> None:
        super().__init__(
            _told(simulations, policy, extent),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )
        self._simulations = simulations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._simulations.end_turn()


async def _told(
    simulations: Simulations, policy: DecisionPoint, extent: Extent
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(simulations.run(policy, extent)) as steps:
            async for step in steps:
                yield _event(step)
    except Exception as fault:
        log.exception("simulation failed")
        code = "gate_error" if isinstance(fault, StoreUnavailable) else "internal"
        yield b"event: problem\ndata: " + bytes(problem(code, "The simulation broke off.").body) + b"\n\n"


def _event(step: Done | Report) -> bytes:
    if isinstance(step, Done):
        return b"event: progress\ndata: " + orjson.dumps(asdict(step)) + b"\n\n"
    report = orjson.dumps(step.as_json(), option=orjson.OPT_UTC_Z)
    return b"event: report\ndata: " + report + b"\n\n"

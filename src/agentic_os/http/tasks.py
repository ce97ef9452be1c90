"""Tasks over HTTP: ask for them, read them, steer them."""

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.application.directives import Source
from agentic_os.application.history import as_it_was, gather, read_when
from agentic_os.application.plan_edits import ROUTE as PLAN_EDIT
from agentic_os.application.plan_edits import WantedPlan
from agentic_os.application.ports import Receipt
from agentic_os.application.provenance import Provenance
from agentic_os.application.task_view import task_view
from agentic_os.application.tasks import create_task
from agentic_os.clock import new_id, now
from agentic_os.contracts.canonical import canonical_json
from agentic_os.domain.agent_reviews import awaits_attempt
from agentic_os.domain.commands import CreateTask
from agentic_os.domain.documents import Budget, Criterion
from agentic_os.domain.rejection import Rejected
from agentic_os.http.authentication import Caller, bearer, identify, require
from agentic_os.http.models import DirectiveIn, PlanIn, TaskIn, documented, read_model
from agentic_os.http.problems import Refused

router = APIRouter(prefix="/api")
Viewer = Annotated[Caller, Depends(require("viewer"))]
Operator = Annotated[Caller, Depends(require("operator"))]
Limit = Annotated[int, Query(ge=1, le=500)]
AT: Final = "A version of the task, or a time with its zone: read the task as it then was."
EXAMPLE: Final = "2026-11-20T12:00:00Z"


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON, instants in UTC with Z."""
    body = orjson.dumps(document, option=orjson.OPT_UTC_Z)
    return Response(body, status, headers, media_type="application/json")


@router.post("/tasks", status_code=201, summary="Ask for work", openapi_extra=documented(TaskIn))
async def create(request: Request, caller: Operator) -> Response:
    """Create a task; the same Idempotency-Key with the same body yields the same task."""
    backend: Backend = request.app.state.backend
    wanted = await read_model(request, TaskIn)
    await _check_references(backend, wanted)
    command = CreateTask(
        task_id=str(new_id()),
        title=wanted.title,
        goal=wanted.goal,
        project=wanted.project,
        requester=caller.principal.name,
        at=now(),
        acceptance=tuple(Criterion(id=c.id, text=c.text, rank=c.rank) for c in wanted.acceptance),
        mode=wanted.mode,
        risk=wanted.risk,
        paths=tuple(wanted.paths),
        tools=tuple(wanted.tools),
        labels=tuple(wanted.labels),
        assignee=wanted.assignee,
        depends_on=tuple(wanted.depends_on),
        budget=Budget(**wanted.budget.model_dump()),
        priority=wanted.priority,
        due=wanted.due,
        origin="api",
        output_schema=wanted.output_schema,
        not_before=wanted.not_before,
        input=wanted.input,
    )
    key = request.headers.get("idempotency-key")
    receipt = None
    if key is not None:
        _check_key(key)
        content = canonical_json(wanted.model_dump(mode="json"))
        receipt = Receipt(
            principal=caller.principal.name, route="tasks", key=key, fingerprint=backend.fingerprint(content)
        )
    created = await create_task(
        backend.log,
        command,
        backend.policy(),
        receipt=receipt,
        committed=backend.signals.committed,
        cause=key or "",
    )
    headers = {"Location": f"/api/tasks/{created.task_id}"}
    if created.task is None:
        headers["Idempotent-Replayed"] = "true"
    return answer(await shown(backend, created.task_id), 201, headers)


async def _check_references(backend: Backend, wanted: TaskIn) -> None:
    if wanted.assignee and not wanted.assignee.startswith("role:"):
        executor = await backend.registry.by_name(wanted.assignee)
        if executor is None or executor.kind != "executor":
            raise Refused(
                "schema_invalid",
                f"There is no executor {wanted.assignee!r}.",
                pointers=["/assignee"],
                next_step="Name an executor that exists, or a role as role:NAME.",
            )
    for index, task_id in enumerate(wanted.depends_on):
        if (await backend.log.load(task_id)).task is None:
            raise Refused("schema_invalid", f"There is no task {task_id}.", pointers=[f"/depends_on/{index}"])


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= 200 or not key.isprintable():  # noqa: PLR2004 - said in the message
        raise Refused("schema_invalid", "An Idempotency-Key has 1 to 200 printable characters.")


async def shown(backend: Backend, task_id: str) -> dict[str, Any]:
    """Show a task as it stands. Raises Rejected unknown_task."""
    row = await backend.tasks.one(task_id)
    if row is None:
        raise Rejected("unknown_task", "There is no such task.", next_step="GET /api/tasks lists them.")
    waits = await backend.work.waits_of(task_id) if awaits_attempt(row.task) else ()
    link = await backend.issues.link_of(task_id)
    return task_view(row.task, link=link, waits=waits, updated_at=row.updated_at)


@router.get("/tasks", summary="List tasks")
async def page(
    request: Request,
    caller: Viewer,
    phase: str | None = None,
    project: str | None = None,
    executor: str | None = None,
    text: Annotated[str | None, Query(max_length=200)] = None,
    parent: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
) -> Response:
    """List tasks, the newest first; with `parent`, the children of that task."""
    backend: Backend = request.app.state.backend
    rows = await backend.tasks.page(
        phase=clean(phase),
        project=clean(project),
        executor=clean(executor),
        text=clean(text),
        ids=None if parent is None else await _children(backend, clean(parent) or ""),
        before=_read_cursor(cursor),
        limit=limit,
    )
    items = [
        task_view(r.task, link=await backend.issues.link_of(r.task.id), waits=(), updated_at=r.updated_at)
        for r in rows
    ]
    last = rows[-1].task if len(rows) == limit else None
    return answer({"items": items, "next": _cursor(last.created_at, last.id) if last else None})


async def _children(backend: Backend, task_id: str) -> list[str]:
    task = (await backend.log.load(task_id)).task
    return [child.id for child in task.children] if task else []


def clean(value: str | None) -> str | None:
    """Make a text from outside one that the database can be asked for."""
    # PostgreSQL's text cannot hold NUL, and nothing that it holds would match.
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if value else value


def _cursor(at: datetime, task_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {task_id}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, task_id = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        return datetime.fromisoformat(at), clean(task_id) or ""
    except (ValueError, binascii.Error) as problem:
        raise Refused("schema_invalid", "This is not a cursor of ours.", pointers=["/cursor"]) from problem


@router.get("/tasks/{task_id}", summary="Read a task")
async def one(
    request: Request,
    caller: Viewer,
    task_id: str,
    at: Annotated[str | None, Query(max_length=64, description=AT, examples=["3", EXAMPLE])] = None,
) -> Response:
    """Read a task as it stands, or as it was `at` a version or a time; its ETag is its version."""
    backend: Backend = request.app.state.backend
    found = await shown(backend, clean(task_id) or "")
    if at is not None:
        found = await _shown_then(backend, found, at)
    return answer(found, headers={"ETag": f'"{found["version"]}"'})


async def _shown_then(backend: Backend, shown_now: dict[str, Any], at: str) -> dict[str, Any]:
    try:
        when = read_when(at)
    except ValueError as problem:
        raise Refused(
            "schema_invalid",
            f"{problem}.",
            pointers=["/at"],
            next_step=f"Give a version such as 3, or a time such as {EXAMPLE}; a + is written %2B in an address.",
        ) from problem
    return await as_it_was(backend, shown_now, when)


@router.get("/tasks/{task_id}/events", summary="Read a task's history")
async def events(
    request: Request,
    caller: Viewer,
    task_id: str,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Limit = 200,
) -> Response:
    """Read who did what, when and why; `next` is the `after` of the following page."""
    backend: Backend = request.app.state.backend
    await shown(backend, clean(task_id) or "")
    found = await backend.log.read_stream(task_id, after, limit)
    items = [
        {
            "version": e.version,
            "event_id": e.event_id,
            "type": e.type,
            "at": e.at,
            "actor": e.actor,
            "reason": e.reason,
            "cause": e.cause,
            "data": e.data,
            "hash": e.hash,
        }
        for e in found
    ]
    return answer({"items": items, "next": found[-1].version if len(found) == limit else None})


@router.get("/tasks/{task_id}/brief", summary="Read the brief of the latest attempt")
async def brief(request: Request, task_id: str) -> Response:
    """Give the brief to people who may read, and to the executor that it is offered to, and to no other."""
    backend: Backend = request.app.state.backend
    caller = await identify(request, backend.registry)
    task = (await backend.log.load(clean(task_id) or "")).task
    attempt = task.attempt if task else None
    if caller.principal.kind == "executor":
        if attempt is None or attempt.executor != caller.principal.name or not attempt.is_open:
            raise Refused("scope_denied", "No open attempt of this task is yours.")
    elif "viewer" not in caller.roles:
        raise Refused("scope_denied", "This needs the role viewer.")
    if task is None:
        raise Rejected("unknown_task", "There is no such task.")
    if attempt is None:
        raise Refused("not_found", "The task has no attempt yet, so there is no brief.", next_step="Wait.")
    (offered,) = await backend.log.read_stream(task_id, attempt.offered_in - 1, 1)
    data = offered.data
    return answer({"attempt": attempt.number, "digest": data["brief_digest"], "brief": data["brief"]})


@router.get("/tasks/{task_id}/artifacts", summary="List a task's artifacts")
async def artifacts(request: Request, caller: Viewer, task_id: str) -> Response:
    """List every version of what was delivered: by which attempt, for what, and under whose approval of which plan."""
    backend: Backend = request.app.state.backend
    found = await gather(backend.log, clean(task_id) or "", Provenance())
    return answer({"items": found, "next": None})


@router.post("/tasks/{task_id}/directives", summary="Steer a task", openapi_extra=documented(DirectiveIn))
async def direct(request: Request, caller: Viewer, task_id: str) -> Response:
    """Carry out a directive as a comment would, and answer with its receipt."""
    backend: Backend = request.app.state.backend
    if not {"operator", "reviewer"} & caller.roles:
        raise Refused("scope_denied", "This needs the role operator or reviewer.")
    wanted = await read_model(request, DirectiveIn)
    if (await backend.log.load(clean(task_id) or "")).task is None:
        raise Rejected("unknown_task", "There is no such task.")
    cause = request.headers.get("idempotency-key") or str(new_id())
    _check_key(cause)
    receipts = await backend.directives.execute(
        task_id,
        wanted.text,
        caller.principal,
        Source(seen_at=now(), cause=cause, credential=hashlib.sha256(bearer(request).encode()).digest()),
    )
    if not receipts:
        raise Refused(
            "schema_invalid",
            "There is no directive in this text.",
            pointers=["/text"],
            next_step="Begin a line with a directive, for instance /help.",
        )
    first = next((r for r in receipts if r.outcome == "refused"), receipts[0])
    shown = {
        "id": first.id,
        "outcome": first.outcome,
        "rule": first.rule,
        "message": first.message,
        "paste": first.paste,
    }
    return answer(shown)


@router.get("/tasks/{task_id}/plan", summary="Read the plan under review, to edit it")
async def plan(request: Request, caller: Viewer, task_id: str) -> Response:
    """Give the latest plan with its digest and, while it can be edited, as the marked text to send back."""
    backend: Backend = request.app.state.backend
    found = await backend.plan_edits.shown(clean(task_id) or "")
    if found is None:
        raise Refused("not_found", "The task has no plan yet.", next_step="Wait.")
    return answer(found)


@router.post("/tasks/{task_id}/plan", summary="Edit the plan under review", openapi_extra=documented(PlanIn))
async def edit_plan(request: Request, caller: Viewer, task_id: str) -> Response:
    """Make what is sent the next version of the plan, with the caller as author; its review begins anew."""
    backend: Backend = request.app.state.backend
    if not {"operator", "reviewer"} & caller.roles:
        raise Refused("scope_denied", "This needs the role operator or reviewer.")
    wanted = await read_model(request, PlanIn)
    task_id = clean(task_id) or ""
    key = request.headers.get("idempotency-key")
    receipt = None
    if key is not None:
        _check_key(key)
        content = canonical_json({"task": task_id, **wanted.model_dump(mode="json")})
        receipt = Receipt(
            principal=caller.principal.name,
            route=PLAN_EDIT,
            key=key,
            fingerprint=backend.fingerprint(content),
        )
    replayed = await backend.plan_edits.edit(
        task_id,
        WantedPlan(replaces=wanted.replaces, marked_text=wanted.marked_text, plan=wanted.plan),
        caller.principal,
        Source(
            seen_at=now(),
            cause=key or str(new_id()),
            credential=hashlib.sha256(bearer(request).encode()).digest(),
        ),
        receipt,
    )
    headers = {"Idempotent-Replayed": "true"} if replayed.replayed else None
    return answer(await shown(backend, task_id), headers=headers)

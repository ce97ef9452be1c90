"""The pages about who acts: signing in and out, agents and their runs."""

import asyncio
import re
import secrets
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from pydantic import Field
from starlette.responses import PlainTextResponse

from agentic_os_board.clock import now

from . import agents
from .accounts import close_session, open_session
from .activity import newest_activity
from .api import OnBoard
from .board import Board
from .organisation import read_places
from .problems import Refusal, TooMany, Unauthenticated
from .render import page, see
from .run_queue import find_run
from .signed_in import SESSION_COOKIE, PageForm, SignedIn, leave, remember, require_same, set_cookie

router = APIRouter()
_LOG_SHOWN = 100_000
_FORM_COOKIE = "agentic_os_board_form"
_OWN_PATH = re.compile(r"/(issues|agents|runs|people|organisation|me|routines)(/[A-Za-z0-9-]+)*")


class SignInForm(PageForm):
    """A name and a password, and where to go afterwards."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=1000)
    next: str = Field(default="", max_length=300)


@router.get("/sign-in")
async def show_sign_in(board: OnBoard, next: Annotated[str, Query(max_length=300)] = "") -> Response:  # noqa: A002 - the query's name
    """Show the form to sign in with."""
    return _sign_in_page(board, after=next)


@router.post("/sign-in")
async def sign_in(board: OnBoard, request: Request, form: Annotated[SignInForm, Form()]) -> Response:
    """Open a session."""
    require_same(form.csrf, request.cookies.get(_FORM_COOKIE, "") or secrets.token_urlsafe())
    try:
        account = await board.passwords.check(board.database, form.name, form.password, at=now())
    except (Unauthenticated, TooMany) as refusal:
        return _sign_in_page(board, after=form.next, name=form.name, refusal=refusal)
    async with board.database.read() as tx:
        # Whoever signs in again gets a new session, and the one of before is worth nothing.
        await close_session(tx, request.cookies.get(SESSION_COOKIE, ""))
        cookie = await open_session(tx, account)
    return remember(board, see(form.next if _OWN_PATH.fullmatch(form.next) else "/issues"), cookie)


@router.post("/sign-out")
async def sign_out(
    board: OnBoard, session: SignedIn, request: Request, form: Annotated[PageForm, Form()]
) -> Response:
    """End the session."""
    form.require_own(session)
    async with board.database.read() as tx:
        await close_session(tx, request.cookies[SESSION_COOKIE])
    return leave()


@router.get("/agents")
async def show_agents(board: OnBoard, session: SignedIn) -> Response:
    """Show the agents and what they did last."""
    async with board.database.read() as tx:
        position = await newest_activity(tx)
        listed = await agents.list_agents(tx)
        places = await read_places(tx)
    live = f"/live/all?after={position}"
    return page("agents.html", session, agents=listed, places=places, live=live, sharing=board.runner.sharing)


@router.get("/runs/{run_id}")
async def show_run(board: OnBoard, session: SignedIn, run_id: UUID) -> Response:
    """Show a run and the end of its captured output."""
    async with board.database.read() as tx:
        run = await find_run(tx, run_id)
    log, shortened = await asyncio.to_thread(board.log_of(str(run_id)).read)
    live = f"/live/run/{run_id}" if run["state"] in {"queued", "running"} else ""
    return page(
        "run.html",
        session,
        run=run,
        log=log[-_LOG_SHOWN:],
        whole=len(log) <= _LOG_SHOWN,
        shortened=shortened,
        live=live,
    )


@router.get("/runs/{run_id}/log")
async def show_log(board: OnBoard, _: SignedIn, run_id: UUID) -> Response:
    """Show all that was kept of a run's output, as plain text."""
    async with board.database.read() as tx:
        await find_run(tx, run_id)
    log, _shortened = await asyncio.to_thread(board.log_of(str(run_id)).read)
    return PlainTextResponse(log)


def _sign_in_page(board: Board, *, after: str, name: str = "", refusal: Refusal | None = None) -> Response:
    token = secrets.token_urlsafe(24)
    status = refusal.status if refusal else 200
    answer = page("sign_in.html", None, status, csrf=token, next=after, name=name, refusal=refusal)
    set_cookie(board, answer, _FORM_COOKIE, token, max_age=3600)
    return answer

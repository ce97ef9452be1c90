"""The ASGI application: routes, refusals, and what every request passes first."""

import logging
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from . import api, api_accounts, api_routines, pages, pages_accounts, pages_live, pages_people, pages_routines
from .board import Board
from .configuration import Configuration
from .database import DatabaseError
from .guard import Guard
from .problems import Refusal, problem
from .render import refusal_page

_logger = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_CODES = {404: "no_such_route", 405: "method_not_allowed"}


def create_app(board: Board) -> FastAPI:
    """Make the application that serves a board."""
    app = FastAPI(title="agentic-os board", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.board = board
    app.include_router(api.router)
    app.include_router(api_accounts.router)
    app.include_router(api_routines.router)
    app.include_router(pages.router, include_in_schema=False)
    app.include_router(pages_live.router, include_in_schema=False)
    app.include_router(pages_people.router, include_in_schema=False)
    app.include_router(pages_accounts.router, include_in_schema=False)
    app.include_router(pages_routines.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=str(files(__package__).joinpath("static"))), name="static")
    app.add_api_route("/healthz", _healthz)
    app.add_middleware(Guard, addresses=own_addresses(board.configuration))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(DatabaseError, _no_database)
    app.add_exception_handler(Exception, _failed)
    return app


def own_addresses(configuration: Configuration) -> list[str]:
    """List the addresses under which the board answers."""
    local = [f"http://{host}:{configuration.port}" for host in _LOOPBACK]
    return [configuration.address, configuration.local_url, *local]


async def _healthz() -> dict[str, str]:
    """Say that the board serves."""
    return {"status": "ok"}


def _answer(
    request: Request, status: int, code: str, detail: str, headers: dict[str, str] | None = None
) -> Response:
    """Refuse programs with problem details and people with a page."""
    if request.url.path.startswith(("/api/", "/live/", "/healthz")):
        return problem(status, code, detail, headers)
    return refusal_page(request, status, detail)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return _answer(request, error.status, error.code, str(error), dict(error.headers))


async def _unreadable(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    shown = [_place_and_reason(each) for each in error.errors()[:10]]
    malformed = any(each["type"] == "json_invalid" for each in error.errors())
    status, code = (400, "malformed") if malformed else (422, "invalid")
    return _answer(request, status, code, "; ".join(shown))


def _place_and_reason(error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"][1:])
    reason = str(error["msg"]).removeprefix("Value error, ")
    # A field's name comes from the caller and may not be encodable.
    return f"{place}: {reason}".encode("utf-8", "replace").decode()


async def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = _CODES.get(error.status_code, "malformed")
    return _answer(request, error.status_code, code, str(error.detail), dict(error.headers or {}))


async def _no_database(request: Request, error: Exception) -> Response:
    _logger.warning("%s %s: the database failed: %s", request.method, request.url.path, error)
    return _answer(request, 503, "unavailable", "the board's database does not answer", {"retry-after": "2"})


async def _failed(request: Request, error: Exception) -> Response:
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, "internal", "the board failed; its log says more")

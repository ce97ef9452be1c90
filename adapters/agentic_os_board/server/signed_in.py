"""Who looks at a page, and whether a form came from one of ours."""

import hmac
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from .accounts import SESSION_LIFETIME, Session, find_session
from .api import OnBoard
from .board import Board
from .problems import Forbidden, Unauthenticated
from .render import see

SESSION_COOKIE = "agentic_os_board_session"


async def session_of(request: Request, board: OnBoard) -> Session:
    """Find the session of the request's cookie. Raises Unauthenticated."""
    cookie = request.cookies.get(SESSION_COOKIE, "")
    async with board.database.read() as tx:
        session = await find_session(tx, cookie)
    if session is None:
        raise Unauthenticated("sign in first")
    return session


SignedIn = Annotated[Session, Depends(session_of)]


def remember(board: Board, answer: Response, cookie: str) -> Response:
    """Give the browser the cookie of its new session."""
    set_cookie(board, answer, SESSION_COOKIE, cookie, max_age=int(SESSION_LIFETIME.total_seconds()))
    return answer


def leave() -> Response:
    """Send the browser to the form to sign in, without its session."""
    answer = see("/sign-in")
    answer.delete_cookie(SESSION_COOKIE)
    return answer


def set_cookie(board: Board, answer: Response, name: str, value: str, *, max_age: int) -> None:
    """Set a cookie that no script reads and that other sites' forms do not bring along."""
    secure = board.configuration.address.startswith("https:")
    answer.set_cookie(name, value, max_age=max_age, httponly=True, samesite="lax", secure=secure)


class PageForm(BaseModel):
    """A form of one of our pages, with the token that only our pages know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    csrf: str = Field(max_length=200)

    def require_own(self, session: Session) -> None:
        """Refuse a form that did not come from a page of this session."""
        require_same(self.csrf, session.csrf)


def require_same(given: str, wanted: str) -> None:
    """Compare form tokens in constant time. Raises Forbidden."""
    if not hmac.compare_digest(given.encode(errors="replace"), wanted.encode()):
        raise Forbidden("this form is out of date; go back, reload the page and send it again")

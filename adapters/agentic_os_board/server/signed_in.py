"""Who looks at a page, and whether a form came from one of ours."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from .accounts import Session, find_session
from .api import OnBoard
from .problems import Forbidden, Unauthenticated

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

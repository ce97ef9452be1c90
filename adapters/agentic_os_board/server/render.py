"""Turns templates into pages."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from agentic_os_board.clock import now

from .accounts import Session
from .markdown import to_html

_TONES = {
    "wait": ("plan_review", "result_review", "input_required", "retry_wait"),
    "active": ("dispatched", "planning", "executing", "running", "queued"),
    "good": ("completed", "approved"),
    "bad": ("failed", "dead_letter", "rejected", "lost", "killed"),
    "quiet": ("cancelled", "not_planned", "withdrawn"),
}
_TONE_OF = {state: tone for tone, states in _TONES.items() for state in states}
_VERBS = {"approve": "Approve", "accept": "Accept", "revise": "Ask for changes", "rework": "Ask for rework"}
_VERBS_OF_RESULTS = {"approve": "Accept", "revise": "Ask for rework"}
_ADVICE = {
    403: "Ask an administrator of the board, if you should be able to do this.",
    404: "It may have been deleted, or the address is not complete.",
    409: "Go back: what you wrote is still in the form. Look at the page as it is now, and decide again.",
    422: "Go back: what you wrote is still in the form. Change what is named here and send it again.",
    429: "Wait as long as it says, and try again.",
    503: "Try again in a moment. If it goes on, look at the log of the board.",
}
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))


def page(template: str, session: Session | None, status: int = 200, **context: Any) -> Response:
    """Render a page for whoever is signed in."""
    text = _templates().get_template(template).render(session=session, **context)
    return HTMLResponse(text, status)


def see(path: str) -> Response:
    """Send the browser on after a form."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def refusal_page(request: Request, status: int, detail: str) -> Response:
    """Show a person why something was refused; whoever is not signed in may do that first."""
    if status == HTTPStatus.UNAUTHORIZED:
        after = quote(request.url.path, safe="/") if request.method == "GET" else ""
        return see(f"/sign-in?next={after}" if after else "/sign-in")
    return page(
        "refusal.html",
        None,
        status,
        title=HTTPStatus(status).phrase,
        detail=detail,
        advice=_ADVICE.get(status, ""),
    )


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "ago": _ago,
        "comment": _comment,
        "duration": _duration,
        "markdown": lambda text: Markup(to_html(text)),  # noqa: S704 - to_html sanitises
        "moment": lambda at: at.strftime("%d %b %Y, %H:%M UTC").lstrip("0"),
        "pairs": _pairs,
        "tone": lambda state: _TONE_OF.get(state, "plain"),
        "slug": lambda digest: "".join(sign if sign.isalnum() else "-" for sign in digest),
        "verb": _verb,
        "words": lambda state: state.replace("_", " "),
    }
    return templates


def _comment(text: str) -> Markup:
    """Render a comment; a directive on its first line is set apart, for it is an act and not prose."""
    first, _, rest = text.partition("\n")
    if not first.startswith("/"):
        return Markup(to_html(text))  # noqa: S704 - to_html sanitises
    line = Markup('<p class="directive"><code>{}</code></p>\n').format(first.rstrip())
    return line + Markup(to_html(rest))  # noqa: S704 - to_html sanitises


def _verb(verb: str, subject: str = "") -> str:
    """Name a button; the port says of results, too, that they are approved or revised."""
    named = _VERBS_OF_RESULTS.get(verb) if subject == "result" else None
    return named or _VERBS.get(verb, verb.replace("_", " ").capitalize())


def _ago(at: datetime) -> str:
    """Say how long ago, in the words of a person."""
    seconds = (now() - at).total_seconds()
    for length, name in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def _duration(run: Mapping[str, Any]) -> str:
    """Say how long a run took, or has been taking."""
    if run["started_at"] is None:
        return "not started"
    seconds = int(((run["ended_at"] or now()) - run["started_at"]).total_seconds())
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds or 'under 1'} s"


def _pairs(wanted: Mapping[str, Any]) -> str:
    """Write the fields that are set as a query string."""
    return "&".join(
        f"{name}={quote(str(value), safe='')}" for name, value in wanted.items() if value not in {"", None}
    )

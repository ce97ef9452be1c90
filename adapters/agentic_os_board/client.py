"""The adapter: the port to trackers, spoken to a board over HTTP."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from agentic_os.control_plane import (
    Assignment,
    Capabilities,
    Conflict,
    ControlPlaneError,
    Denied,
    Invalid,
    Issue,
    IssueChanges,
    IssueDraft,
    NotFound,
    Observation,
    RateLimited,
    Reaction,
    Review,
    ReviewOutcome,
    Unavailable,
)

from .clock import now
from .mapping import changes_to, draft_to, issue_from, observation_from, review_to
from .signatures import BadSignature, verify

_TIMEOUT_SECONDS = 10.0
_PAGE_SIZE = 100
_ENOUGH_OBSERVATIONS = 500
_DEFAULT_PATIENCE = timedelta(seconds=30)
_BY_STATUS: Mapping[int, type[ControlPlaneError]] = {
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.UNAUTHORIZED: Denied,
    HTTPStatus.FORBIDDEN: Denied,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Invalid,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
    HTTPStatus.MISDIRECTED_REQUEST: Denied,
}


class BoardClient:
    """A board, as the port to trackers sees it."""

    name = "board"
    capabilities = Capabilities(
        reviews=True, reactions=True, runs=True, webhooks=True, plan_edits=True, agents=True
    )

    def __init__(
        self, url: str, token: str, webhook_secrets: Sequence[str], *, page_size: int = _PAGE_SIZE
    ) -> None:
        """Connect with the backend's token; page_size: how many entries one request asks for, up to 100."""
        self._webhook_secrets = tuple(webhook_secrets)
        self._page_size = page_size
        # Proxies of the environment are not asked: the board is a companion on this machine or address.
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers={"authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )

    async def ensure_issue(self, draft: IssueDraft) -> str:
        """Return the key of the task's issue, creating it when it does not exist."""
        answer = await self._ask("PUT", f"/api/tasks/{_segment(draft.task_id)}/issue", draft_to(draft))
        return _read(answer, "key")

    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        """Read issues as they are now; None means that the board says it does not exist."""
        wanted = list(dict.fromkeys(keys))
        observed: dict[str, Issue | None] = {}
        for start in range(0, len(wanted), self._page_size):
            observed |= await self._look_up(wanted[start : start + self._page_size])
        return observed

    async def apply(self, key: str, changes: IssueChanges) -> None:
        """Change the given fields; applying twice changes once."""
        await self._ask("PATCH", _issue(key), changes_to(changes))

    async def post(self, key: str, marker: str, body: str) -> str:
        """Post a note, or find the one that already carries this marker; return its id."""
        answer = await self._ask("PUT", f"{_issue(key)}/notes", {"marker": marker, "body": body})
        return _read(answer, "id")

    async def edit(self, key: str, note_id: str, body: str) -> None:
        """Replace the text of a note of ours, in place."""
        await self._ask("PATCH", f"{_issue(key)}/notes/{_number(note_id, 'note')}", {"body": body})

    async def open_review(self, key: str, review: Review) -> None:
        """Show a gate; the same digest twice is one gate."""
        await self._ask("PUT", f"{_issue(key)}/reviews/{_segment(review.digest)}", review_to(review))

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:
        """Take a gate away, saying how it ended; an unknown digest is not an error."""
        await self._ask("POST", f"{_issue(key)}/reviews/{_segment(digest)}/close", {"outcome": outcome})

    async def assign(self, key: str, assignment: Assignment | None) -> None:
        """Assign the issue, which wakes the account once per (task, attempt); None takes the assignee away."""
        if assignment is None:
            await self._ask("DELETE", f"{_issue(key)}/assignment")
            return
        document = {
            "account": assignment.account,
            "task_id": assignment.task_id,
            "attempt": assignment.attempt,
        }
        await self._ask("PUT", f"{_issue(key)}/assignment", document)

    async def react(self, key: str, comment_id: str, reaction: Reaction) -> None:
        """Show on somebody's comment what became of it; a deleted comment is not an error."""
        path = f"{_issue(key)}/comments/{_number(comment_id, 'comment')}/reaction"
        await self._ask("PUT", path, {"reaction": reaction})

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        """Read what others did since the cursor, up to its end or some hundreds, and the next cursor."""
        observed: list[Observation] = []
        while len(observed) < _ENOUGH_OBSERVATIONS:
            page = await self._ask("GET", "/api/feed", parameters={"after": cursor, "limit": self._page_size})
            try:
                found = [observation_from(activity) for activity in page["items"]]
                count, cursor = len(page["items"]), str(page["next"])
            except (KeyError, TypeError, ValueError) as error:
                raise Unavailable(f"the board's feed cannot be read: {error!r}") from error
            observed += [each for each in found if each is not None]
            if count < self._page_size:
                break
        return observed, cursor

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Sequence[Observation]:
        """Turn a webhook into observations. Raises Denied, Invalid."""
        try:
            lowered = {name.lower(): value for name, value in headers.items()}
            verify(self._webhook_secrets, lowered, body, now())
        except BadSignature as error:
            raise Denied(f"webhook of the board: {error}") from None
        try:
            observation = observation_from(json.loads(body)["activity"])
        except (KeyError, TypeError, ValueError) as error:
            raise Invalid(f"webhook of the board: its body cannot be read: {error!r}") from error
        return [observation] if observation else []

    async def identify(self, name: str) -> str:
        """Find the stable account id behind a login name. Raises NotFound."""
        return _read(await self._ask("GET", "/api/accounts/lookup", parameters={"name": name}), "id")

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _look_up(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        answer = await self._ask("GET", "/api/issues/lookup", parameters={"key": list(keys)})
        try:
            found: dict[str, Issue | None] = {item["key"]: issue_from(item) for item in answer["items"]}
            observed = found | dict.fromkeys(answer["missing"])
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"the board's issues cannot be read: {error!r}") from error
        if observed.keys() != set(keys):
            raise Unavailable("the board's answer does not account for every issue asked for")
        return observed

    async def _ask(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            answer = await self._http.request(method, path, json=document, params=parameters)
        except httpx.HTTPError as error:
            raise Unavailable(f"the board did not answer {method} {path}: {error!r}") from error
        if not answer.is_success:
            raise error_from(answer)
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(f"what answered {method} {path} is not a board") from error


def error_from(answer: httpx.Response) -> ControlPlaneError:
    """Name a refusal by what it means to the caller."""
    code, detail = _problem(answer)
    message = (
        f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {code} {detail}".rstrip()
    )
    if answer.status_code == HTTPStatus.NOT_FOUND and code == "not_found":
        return NotFound(message)
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        after = answer.headers.get("retry-after", "")
        patience = timedelta(seconds=int(after)) if after.isascii() and after.isdigit() else _DEFAULT_PATIENCE
        return RateLimited(message, now() + patience)
    return _BY_STATUS.get(answer.status_code, Unavailable)(message)


def _problem(answer: httpx.Response) -> tuple[str, str]:
    """Read the board's own problem details; anything else has no code, and so never says that a thing is absent."""
    if answer.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return "", ""
    try:
        document = answer.json()
        own = document["type"] == f"urn:agentic-os-board:problem:{document['code']}"
        return (str(document["code"]), str(document["detail"])) if own else ("", "")
    except (KeyError, TypeError, ValueError):
        return "", ""


def _read(answer: Any, field: str) -> str:
    try:
        return str(answer[field])
    except (KeyError, TypeError) as error:
        raise Unavailable(f"the board's answer has no {field!r}") from error


def _issue(key: str) -> str:
    return f"/api/issues/{_number(key, 'issue')}"


def _number(text: str, what: str) -> int:
    if not (
        text.isascii() and text.isdigit() and 0 < int(text[:16]) < 2**53 and len(text) <= len(str(2**53))
    ):
        raise NotFound(f"the board numbers its {what}s; {text!r} cannot be one")
    return int(text)


def _segment(text: str) -> str:
    return quote(text, safe="")

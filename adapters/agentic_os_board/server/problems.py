"""How the board refuses: one class for each meaning, one answer for each class."""

import json
from collections.abc import Mapping
from typing import ClassVar

from starlette.responses import Response

TYPE_PREFIX = "urn:agentic-os-board:problem:"


class Refusal(Exception):
    """The board does not do what it was asked; the message is for whoever asked."""

    status: ClassVar[int]
    code: ClassVar[str]

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that belong to the answer."""
        return {}


class Missing(Refusal):
    """The thing does not exist."""

    status, code = 404, "not_found"


class Contradiction(Refusal):
    """The request contradicts what the board holds."""

    status, code = 409, "conflict"


class Unauthenticated(Refusal):
    """Nobody the board knows."""

    status, code = 401, "unauthenticated"

    @property
    def headers(self) -> Mapping[str, str]:
        """Name the scheme, as RFC 9110 asks."""
        return {"www-authenticate": 'Bearer realm="agentic-os-board"'}


class Forbidden(Refusal):
    """Known, but without the right."""

    status, code = 403, "forbidden"


class Unacceptable(Refusal):
    """Understood, and never acceptable as it is."""

    status, code = 422, "invalid"


class TooMany(Refusal):
    """Too many attempts; retry_after is in seconds."""

    status, code = 429, "rate_limited"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> Mapping[str, str]:
        """Say how long to wait."""
        return {"retry-after": str(self.retry_after)}


class Busy(Refusal):
    """As many as there is room for; later there may be room again."""

    status, code = 503, "busy"

    @property
    def headers(self) -> Mapping[str, str]:
        """Say how long to wait."""
        return {"retry-after": "60"}


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with RFC 9457 problem details."""
    document = {"type": TYPE_PREFIX + code, "status": status, "code": code, "detail": detail}
    # Plain ASCII: a refusal may quote what cannot be encoded, and must not fail over it.
    return Response(
        json.dumps(document), status, headers=dict(headers or {}), media_type="application/problem+json"
    )

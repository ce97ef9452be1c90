"""What every request passes before the application sees it, and every answer on its way out."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

MAX_BODY = 4 * 1024 * 1024
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ANSWER_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; "
        "form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Not "no-referrer": with it, browsers send "Origin: null" with our own forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Check Host, Origin and size of a request; add the security headers to its answer."""

    def __init__(self, application: ASGIApp, *, addresses: Iterable[str]) -> None:
        self._application = application
        self._origins = frozenset(_origin(address) for address in addresses)
        self._hosts = frozenset(urlsplit(origin).netloc for origin in self._origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ANSWER_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refuse(scope)
        body = None if refusal else await _read(receive)
        if refusal is None and body is None:
            refusal = 413, "too_large", f"a request may carry {MAX_BODY} bytes"
        if refusal is not None or body is None:
            await problem(*(refusal or (400, "malformed", "unreadable")))(scope, receive, send_guarded)
            return
        await self._application(scope, _replay(body, receive), send_guarded)

    def _refuse(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = Headers(scope=scope)
        if [host.lower() for host in headers.getlist("host")] not in [[host] for host in self._hosts]:
            return 421, "wrong_host", "this board is not served under the name in the Host header"
        origins = headers.getlist("origin")
        if scope["method"] not in _SAFE_METHODS and not self._origins.issuperset(origins):
            return 403, "wrong_origin", "a page of another origin may not act on this board"
        return None


def _origin(address: str) -> str:
    """Cut an address to its origin, as a browser writes it."""
    parts = urlsplit(address.lower())
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


async def _read(receive: Receive) -> bytes | None:
    """Read the whole body, or give up at the limit."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed

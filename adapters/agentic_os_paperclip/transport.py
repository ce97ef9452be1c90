"""Requests to a Paperclip server, and its refusals as what they mean to the caller."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import httpx

from agentic_os.control_plane import (
    Conflict,
    ControlPlaneError,
    Denied,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
)

from .clock import now

_TIMEOUT_SECONDS: Final = 10.0
_AT_ONCE: Final = 8
"""How many requests are open at a time: with more, Paperclip answers each later and none sooner."""
_DEFAULT_PATIENCE: Final = timedelta(seconds=30)
_BY_STATUS: Final[Mapping[int, type[ControlPlaneError]]] = {
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.UNAUTHORIZED: Denied,
    HTTPStatus.FORBIDDEN: Denied,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Invalid,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
}
SWITCH: Final = (
    "this Paperclip runs in local_trusted mode, where whoever reaches its port is the board: an agent could accept its "
    "own plan. Switch it: stop the server, start it again with PAPERCLIP_DEPLOYMENT_MODE=authenticated "
    "PAPERCLIP_DEPLOYMENT_EXPOSURE=private PAPERCLIP_PUBLIC_URL=<its address> paperclipai onboard --yes, "
    "then run agentic-os-paperclip connect"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Who we are on this server. user: the account id that everything of ours has as its author."""

    user: str


class Transport:
    """One connection with one key to one company; before its first request it finds out where it is, and as whom."""

    def __init__(self, url: str, token: str, company: str, *, http: httpx.AsyncClient | None = None) -> None:
        self.url = url.rstrip("/")
        self.company = company
        # Proxies of the environment are not asked: what they would be sent is a key that decides.
        self._http = http or httpx.AsyncClient(
            base_url=f"{self.url}/api",
            headers={"authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._known: Backend | None = None
        self._knowing = asyncio.Lock()

    async def backend(self) -> Backend:
        """Say who we are. Raises Denied where the server lets anybody decide, or our key does not belong here."""
        if self._known is None:
            async with self._knowing:
                if self._known is None:
                    self._known = await self._introduce()
        return self._known

    async def ask(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make one request; return what the server answered as JSON."""
        await self.backend()
        return await self._send(method, path, document, parameters)

    async def of_company(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make one request below our company."""
        return await self.ask(method, f"/companies/{self.company}{path}", document, parameters)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def _introduce(self) -> Backend:
        health = await self._send("GET", "/health")
        mode = health.get("deploymentMode") if isinstance(health, dict) else None
        if mode == "local_trusted":
            raise Denied(SWITCH)
        if mode != "authenticated":
            raise Unavailable(f"what answered {self.url}/api/health is no Paperclip that is ready")
        me = await self._send("GET", "/cli-auth/me")
        try:
            user, companies = str(me["userId"]), list(me["companyIds"])
        except (KeyError, TypeError) as error:
            raise Unavailable(f"Paperclip's answer on who we are cannot be read: {error!r}") from error
        if self.company not in companies:
            raise Denied(
                f"our account is no member of the company {self.company}: agentic-os-paperclip connect"
            )
        return Backend(user=user)

    async def _send(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            async with self._slots:
                answer = await self._http.request(method, path, json=document, params=parameters)
        except httpx.HTTPError as error:
            raise Unavailable(f"Paperclip did not answer {method} {path}: {error!r}") from error
        if not answer.is_success:
            raise error_from(answer)
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(f"what answered {method} {path} is no Paperclip") from error


def error_from(answer: httpx.Response) -> ControlPlaneError:
    """Name a refusal by what it means to the caller. Only Paperclip's own 404 says that a thing is absent."""
    told = _told(answer)
    message = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {told or ''}".rstrip()
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        after = answer.headers.get("retry-after") or answer.headers.get("x-retry-after", "")
        patience = timedelta(seconds=int(after)) if after.isascii() and after.isdigit() else _DEFAULT_PATIENCE
        return RateLimited(message, now() + patience)
    if told is None:
        return Unavailable(message)
    return _BY_STATUS.get(answer.status_code, Unavailable)(message)


def _told(answer: httpx.Response) -> str | None:
    """Read Paperclip's own account of a refusal; None for what somebody else answered, such as a proxy."""
    try:
        document = answer.json()
        told, code = document["error"], document.get("code")
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return f"{told} ({code})" if code else str(told)

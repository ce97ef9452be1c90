"""Wakes an agent by a signed HTTP request, never to an address that the board should not speak to."""

import asyncio
import ipaddress
import json
import socket
from pathlib import Path

import httpx

from agentic_os_board.clock import now
from agentic_os_board.signatures import sign

from .agents import HookWake
from .database import Row

_TRIES = 4
_TIMEOUT_SECONDS = 10.0


class HookRefused(Exception):
    """The hook did not take the run; the message is shown with it."""


async def call_hook(wake: HookWake, run: Row, board_url: str) -> str:
    """Deliver the wake with few retries under one id, by which the receiver knows repeats. Raises HookRefused."""
    body = json.dumps(
        {
            "run": str(run["id"]),
            "task_id": run["task_id"],
            "attempt": run["attempt"],
            "issue": str(run["issue"]),
            "issue_url": f"{board_url}/issues/{run['issue']}",
            "title": run["title"],
            "brief": run["body"],
        }
    ).encode()
    try:
        secret = await asyncio.to_thread(_read_secret, Path(wake.secret_file))
    except (OSError, UnicodeDecodeError) as error:
        raise HookRefused(f"the hook's secret file cannot be read: {error}") from None
    failure = ""
    for attempt in range(_TRIES):
        await asyncio.sleep(2**attempt - 1)
        failure = await _post(wake, str(run["id"]), secret, body)
        if not failure:
            return "the hook took the run"
    raise HookRefused(f"the hook did not take the run: {failure}")


def _read_secret(file: Path) -> str:
    return file.read_text("utf-8").strip()


async def _post(wake: HookWake, delivery: str, secret: str, body: bytes) -> str:
    """Post once; say what went wrong, or nothing."""
    url = httpx.URL(wake.url)
    address = await resolve_permitted(url.host, url.port or (443 if url.scheme == "https" else 80), wake)
    headers = {"content-type": "application/json", "host": url.netloc.decode()} | sign(
        secret, delivery, now(), body
    )
    try:
        # The checked address is the one connected to: a second look-up could give another answer.
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            answer = await client.post(
                url.copy_with(host=address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": url.host},
            )
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error}"
    return "" if answer.is_success else f"it answered {answer.status_code}"


async def resolve_permitted(host: str, port: int, wake: HookWake) -> str:
    """Resolve a host to an address that hooks may have. Raises HookRefused if any of its addresses may not."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise HookRefused(f"the hook's host {host!r} cannot be resolved: {error}") from None
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    for address in addresses:
        plain = getattr(address, "ipv4_mapped", None) or address
        if not (plain.is_global or (plain.is_loopback and wake.allow_loopback)) or plain.is_multicast:
            raise HookRefused(f"hooks may not be at {address}, a private, local or reserved address")
    return str(addresses[0])

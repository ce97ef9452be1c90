"""Wakes an agent by a signed HTTP request, never to an address that the board should not speak to."""

import asyncio
import ipaddress
import json
import socket
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import httpx

from agentic_os_board.clock import now
from agentic_os_board.signatures import sign

from .agents import HookWake
from .database import Row

_TIMEOUT_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 30.0
_SUCCESS, _REDIRECTION = 2, 3
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class HookRefused(Exception):
    """The hook did not take the run, or may not be called; the message is shown with the run."""


class _NotNow(Exception):
    """The hook did not take the run this time."""


async def call_hook(wake: HookWake, run: Row, board_url: str, limit: datetime) -> str:
    """Deliver the wake, again and again until the limit, under the run's id: by it, the receiver knows repeats.

    Raises HookRefused.
    """
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
    wait = 1.0
    while True:
        try:
            await _post(wake, str(run["id"]), secret, body)
        except _NotNow as failure:
            if now().timestamp() + wait >= limit.timestamp():
                raise HookRefused(f"the hook did not take the run: {failure}") from None
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
        else:
            return "the hook took the run"


def _read_secret(file: Path) -> str:
    return file.read_text("utf-8").strip()


async def _post(wake: HookWake, delivery: str, secret: str, body: bytes) -> None:
    """Post once. Raises HookRefused for an address that is not permitted, _NotNow for what may pass."""
    url = httpx.URL(wake.url)
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            address = await resolve_permitted(
                url.host, url.port or (443 if url.scheme == "https" else 80), wake
            )
            status = await _exchange(url, address, sign(secret, delivery, now(), body), body)
    except TimeoutError:
        raise _NotNow(f"it did not answer within {_TIMEOUT_SECONDS:g} seconds") from None
    except httpx.TransportError as error:
        raise _NotNow(f"{type(error).__name__}: {error}") from None
    kind = status // 100
    if kind != _SUCCESS:
        raise _NotNow(
            f"it answered {status}{', and redirects are not followed' if kind == _REDIRECTION else ''}"
        )


async def _exchange(url: httpx.URL, address: str, signed: dict[str, str], body: bytes) -> int:
    """Send the request to the checked address: a second look-up of the name could give another one."""
    headers = {
        "content-type": "application/json",
        "host": url.netloc.decode(),
        "idempotency-key": signed["webhook-id"],
    } | signed
    client = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False, follow_redirects=False)
    connected = url.copy_with(host=address)
    # The answer's status is all that counts: its body, however long, is not read.
    async with (
        client,
        client.stream(
            "POST", connected, content=body, headers=headers, extensions={"sni_hostname": url.host}
        ) as answer,
    ):
        return answer.status_code


async def resolve_permitted(host: str, port: int, wake: HookWake) -> str:
    """Resolve a host to an address that this hook may have. Raises HookRefused if any of its addresses may not be."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _NotNow(f"its host {host!r} cannot be resolved: {error}") from None
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    for address in addresses:
        _require_permitted(address, wake)
    return str(addresses[0])


def _require_permitted(address: _Address, wake: HookWake) -> None:
    meant = _meant(address)
    listed = any(meant in network for network in wake.networks)
    if meant.is_multicast or meant.is_unspecified or not (meant.is_global or listed):
        raise HookRefused(
            f"hooks may not be at {address}, a private, local or reserved address; list its network"
        )
    if not listed and not wake.url.startswith("https:"):
        raise HookRefused(
            f"{address} is no address to which http may be spoken; use https, or list its network"
        )


def _meant(address: _Address) -> _Address:
    """See through the notations that wrap an IPv4 address into an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address

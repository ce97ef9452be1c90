"""A load generator: many kept-alive connections, each sending its next request when the last one is answered."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of a run: answers a second, each latency in seconds, and how many answers were not 2xx."""

    rate: float
    latencies: Sequence[float]
    refused: int


class _Connection(asyncio.Protocol):
    def __init__(self, next_request: Callable[[], bytes], until: float, done: asyncio.Event) -> None:
        self._next = next_request
        self._until = until
        self._done = done
        self._buffer = b""
        self._sent = 0.0
        self.latencies: list[float] = []
        self.refused = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclass
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._next())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
        if len(body) < length:
            return
        now = time.perf_counter()
        self.latencies.append(now - self._sent)
        self.refused += not head.startswith(b"HTTP/1.1 2")
        self._buffer = b""
        if now < self._until:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._done.set()


def _itself(connection: _Connection) -> _Connection:
    return connection


async def run_load(host: str, port: int, sources: Sequence[Callable[[], bytes]], seconds: float) -> Load:
    """Send from each source over a connection of its own for some seconds."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    ends = [asyncio.Event() for _ in sources]
    connections = [
        _Connection(source, began + seconds, end) for source, end in zip(sources, ends, strict=True)
    ]
    for connection in connections:
        await loop.create_connection(partial(_itself, connection), host, port)
    for end in ends:
        await end.wait()
    latencies = [value for c in connections for value in c.latencies]
    return Load(
        rate=len(latencies) / (time.perf_counter() - began),
        latencies=latencies,
        refused=sum(c.refused for c in connections),
    )


def post(path: str, body: bytes, token: str = "") -> bytes:
    """Write a request."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{authorization}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

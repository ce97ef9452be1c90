"""That something happened on the server: told by its event stream where there is a key for it, else by the clock."""

import asyncio
import contextlib
import json
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from agentic_os.control_plane import ControlPlaneError

from .transport import Transport

IDLE_SECONDS: Final = 12.0
"""How often the feed is read where nothing tells of news: with the look once a minute, six requests in a minute."""
_NEWS: Final = "activity.logged"


class Nudge:
    """Waits for news. It is never believed on what happened, only that; and a nudge that is lost costs some seconds.

    key: of an agent that is never woken, since the stream takes no key of a person; "" waits by the clock alone.
    """

    def __init__(self, transport: Transport, key: str = "", *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._paperclip = transport
        self._url = _stream_url(transport.url, transport.company)
        self._key = key
        self._idle = idle_seconds
        self._stream: ClientConnection | None = None

    async def wait(self) -> None:
        """Return when something happened, or after a while when the stream cannot tell."""
        if not self._key:
            await asyncio.sleep(self._idle)
            return
        try:
            if self._stream is None:
                headers = {"authorization": f"Bearer {self._key}"}
                self._stream = await connect(
                    self._url, additional_headers=headers, proxy=None, max_size=2**22
                )
                return  # what happened before there was a stream is read at once
            user = (await self._paperclip.backend()).user
            while not _is_news(await self._stream.recv(), user):
                pass
        except (ControlPlaneError, OSError, TimeoutError, WebSocketException):
            await self.aclose()
            await asyncio.sleep(self._idle)

    async def connect(self) -> str:
        """Open the stream, and say what is wrong with it; "" where nothing is."""
        try:
            await self._open()
        except (OSError, TimeoutError, WebSocketException) as problem:
            return str(problem) or type(problem).__name__
        return ""

    async def _open(self) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        self._stream = await connect(self._url, additional_headers=headers, proxy=None, max_size=2**22)

    async def aclose(self) -> None:
        """Let go of the stream."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError, WebSocketException):
                await stream.close()


def _is_news(frame: str | bytes, user: str) -> bool:
    """Tell whether somebody else did something. What cannot be read may be anything."""
    try:
        event = json.loads(frame)
        return bool(event["type"] == _NEWS and event["payload"]["actorId"] != user)
    except (KeyError, TypeError, ValueError):
        return True


def _stream_url(url: str, company: str) -> str:
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, f"{parts.path}/api/companies/{company}/events/ws", "", ""))

"""Tells the backend of activities by signed webhooks: in order, at least once, given up after some tries."""

import asyncio
import json
import logging

import httpx

from agentic_os_board.clock import now
from agentic_os_board.signatures import sign

from .activity import activity_json, next_foreign
from .database import Connection, Database, DatabaseError, Row

_logger = logging.getLogger(__name__)
_MAX_TRIES = 8
_LONGEST_WAIT_SECONDS = 60
_TIMEOUT_SECONDS = 10.0


class WebhookSender:
    """Delivers the activities that are not the backend's own, from a position kept in the database."""

    def __init__(self, database: Database, url: str, secret: str) -> None:
        self._database = database
        self._url = url
        self._secret = secret
        self._wake = asyncio.Event()
        self._wake.set()
        database.on_commit(self._wake.set)

    async def serve(self) -> None:
        """Deliver until cancelled; sleep while there is nothing to deliver."""
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                await self._wake.wait()
                self._wake.clear()
                try:
                    wait = await self._deliver_next(client)
                except DatabaseError as error:
                    _logger.warning("webhooks wait for the database: %s", error)
                    wait = 1
                if wait:
                    asyncio.get_running_loop().call_later(wait, self._wake.set)

    async def _deliver_next(self, client: httpx.AsyncClient) -> float:
        """Deliver what is due; say how many seconds to wait before the next try, 0 when all is delivered."""
        while True:
            async with self._database.read() as tx:
                position, tries = await _queue(tx)
                row = await next_foreign(tx, position)
            if row is None:
                return 0
            failure = await self._post(client, row)
            if failure and tries + 1 < _MAX_TRIES:
                await self._advance(position, tries + 1)
                _logger.info("webhook %s will be tried again: %s", row["delivery"], failure)
                return float(min(2**tries, _LONGEST_WAIT_SECONDS))
            if failure:
                _logger.warning("webhook %s is given up, the feed still has it: %s", row["delivery"], failure)
            await self._advance(row["id"], 0)

    async def _post(self, client: httpx.AsyncClient, row: Row) -> str:
        body = json.dumps({"activity": activity_json(row)}).encode()
        headers = {"content-type": "application/json"} | sign(self._secret, str(row["delivery"]), now(), body)
        try:
            answer = await client.post(self._url, content=body, headers=headers)
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}"
        return "" if answer.is_success else f"it was answered with {answer.status_code}"

    async def _advance(self, position: int, tries: int) -> None:
        async with self._database.read() as tx:
            await tx.execute("update webhook_queue set position = %s, tries = %s", (position, tries))


async def _queue(tx: Connection) -> tuple[int, int]:
    cursor = await tx.execute("select position, tries from webhook_queue")
    row = await cursor.fetchone()
    return (row["position"], row["tries"]) if row else (0, 0)

"""Evidence from sources that did none of the work: signed in the manner of Standard Webhooks, stored once."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from agentic_os.application.callbacks import Answer
from agentic_os.application.callers import CredentialInvalid
from agentic_os.application.credentials import CredentialBook, Source, SourceSecrets
from agentic_os.application.handle import handle
from agentic_os.application.ports import Envelope, EventLog, Receipt, ReceiptMismatch
from agentic_os.contracts.canonical import canonical_json
from agentic_os.contracts.redaction import redact
from agentic_os.domain import commands as c
from agentic_os.domain.documents import Attested, Evidence
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

TOLERANCE: Final = timedelta(minutes=5)
ROUTE: Final = "evidence"
_LONGEST_ID: Final = 200
_LATEST: Final = len("9999999999")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An authentic message: whose, its id, and when it came."""

    source: Source
    id: str
    at: datetime


class Attestations:
    """Takes in what sources attest."""

    def __init__(
        self,
        *,
        log: EventLog,
        book: CredentialBook,
        source_secrets: SourceSecrets,
        fingerprint: Callable[[bytes], bytes],
        committed: Callable[[Task], None],
    ) -> None:
        self._log = log
        self._book = book
        self._secrets = source_secrets
        self._fingerprint = fingerprint
        self._committed = committed

    async def authenticate(self, name: str, headers: Mapping[str, str], raw: bytes, at: datetime) -> Delivery:
        """Find out that a source signed exactly this, just now. Raises CredentialInvalid."""
        found = await self._book.source(name)
        # The same work for a name that there is not, so that the time taken does not say which names there are.
        source = found or Source(name=name, project=None, owner="", revoked=True)
        delivery, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        readable = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LATEST
        if not readable or not 1 <= len(delivery) <= _LONGEST_ID or not delivery.isprintable():
            raise _invalid("The headers webhook-id and webhook-timestamp are missing or unreadable.")
        if abs(at.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
            raise _invalid("The message is older or newer than five minutes; compare both clocks.")
        wanted = sign(self._secrets.secret(source), delivery, timestamp, raw)
        given = headers.get("webhook-signature", "").split()
        signed = any(hmac.compare_digest(one.encode(), wanted.encode()) for one in given)
        if source.revoked or not signed:
            raise _invalid("No source of this name, in force, signed this.")
        return Delivery(source=source, id=delivery, at=at)

    async def accept(self, delivery: Delivery, document: Mapping[str, Any]) -> Answer:
        """Take in one attestation. Raises Rejected or ReceiptMismatch."""
        source = delivery.source
        receipt = Receipt(
            principal=source.name,
            route=ROUTE,
            key=delivery.id,
            fingerprint=self._fingerprint(canonical_json(dict(document))),
        )
        loaded = await self._log.load(document["task_id"], receipt)
        if loaded.fingerprint is not None:
            if loaded.fingerprint != receipt.fingerprint:
                raise ReceiptMismatch
            return Answer(body=(loaded.answer or "{}").encode(), replayed=True)
        task = loaded.task
        if task is None:
            raise Rejected("unknown_task", "There is no such task.", next_step="Check task_id.")
        if source.project not in (None, task.project):
            raise Rejected(
                "scope_denied",
                f"This source attests the project {source.project} only.",
                next_step="Use a source of the task's project.",
            )
        body, findings = redact(dict(document))
        command = c.Attest(attested=_attested(source.name, body), at=delivery.at)
        handled = await handle(
            self._log,
            task.id,
            lambda _: command,
            Envelope(
                actor=source.name,
                at=delivery.at,
                cause=delivery.id,
                meta={"redacted": {finding.kind: finding.count for finding in findings}} if findings else {},
            ),
            receipt=receipt,
            answer=_answer,
            loaded=loaded,
        )
        assert handled.appended is not None
        self._committed(handled.task)
        return Answer(body=handled.appended.answer.encode(), replayed=handled.appended.replayed)


def sign(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    """Compute the signature of a message: HMAC-SHA256 over id, timestamp and body, as the header carries it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((delivery.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _invalid(message: str) -> CredentialInvalid:
    return CredentialInvalid("credential_invalid", message)


def _attested(source: str, body: Mapping[str, Any]) -> Attested:
    evidence = Evidence(
        criterion_id=body["criterion_id"],
        rank="independent",
        claimed="independent",
        status=body["status"],
        command=body.get("command"),
        exit_code=body.get("exit_code"),
        marker=body.get("marker"),
    )
    return Attested(
        source=source,
        evidence=evidence,
        subject_digest=body.get("subject_digest"),
        commit=body.get("commit"),
        url=body.get("url"),
    )


def _answer(task: Task, event_ids: Sequence[str]) -> str:
    document = {
        "accepted": True,
        "event_ids": list(event_ids),
        "task_version": task.version,
        "phase": task.phase,
    }
    return orjson.dumps(document).decode()

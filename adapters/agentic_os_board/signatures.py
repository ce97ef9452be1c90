"""Signed deliveries in the manner of Standard Webhooks: HMAC-SHA256 over id, timestamp and body."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

TOLERANCE = timedelta(minutes=5)


class BadSignature(Exception):
    """The delivery is not from a holder of the secret, or not from now."""


def sign(secret: str, delivery: str, at: datetime, body: bytes) -> dict[str, str]:
    """Make the three headers that prove a delivery's origin, content and age."""
    timestamp = str(int(at.timestamp()))
    return {
        "webhook-id": delivery,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_signature(secret, delivery, timestamp, body)}",
    }


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, at: datetime) -> None:
    """Check a delivery against every live secret. Raises BadSignature; the names of headers are lower-case."""
    delivery, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if (
        not delivery
        or not timestamp.isascii()
        or not timestamp.isdigit()
        or len(timestamp) > len("9999999999")
    ):
        raise BadSignature("the headers webhook-id and webhook-timestamp are missing or unreadable")
    if abs(at.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise BadSignature("the delivery is older or newer than five minutes; compare both clocks")
    given = [part[3:].encode() for part in headers.get("webhook-signature", "").split() if part[:3] == "v1,"]
    wanted = [_signature(secret, delivery, timestamp, body).encode() for secret in secrets]
    # No short cut: every pair is compared, so that the time taken says nothing about which one matched.
    matches = [hmac.compare_digest(one, other) for one in given for other in wanted]
    if not any(matches):
        raise BadSignature("no signature of the delivery was made with a live secret")


def _signature(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    prefix = "whsec_"
    key = base64.b64decode(secret.removeprefix(prefix)) if secret.startswith(prefix) else secret.encode()
    signed = b".".join((delivery.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()

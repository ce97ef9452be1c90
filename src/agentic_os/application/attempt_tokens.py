"""Tokens of attempts: recomputed from a server key, never stored, ended by the attempt's own state."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "aosa_"
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClaim:
    """What an authentic attempt token speaks for; whether it still counts, the task's state says."""

    task_id: str
    attempt: int
    generation: int


class AttemptTokens:
    """Makes and reads attempt tokens under one server key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"attempt token", hashlib.sha256)
        self._receipts = hmac.digest(key, b"receipt", hashlib.sha256)
        # What we once found to be ours stays ours: an attempt sends the same token with each of its callbacks.
        self._ours: dict[str, AttemptClaim] = {}

    def mint(self, task_id: str, attempt: int, generation: int) -> str:
        """Compute the token of one generation of an attempt."""
        subject = f"{task_id}.{attempt}.{generation}"
        return f"{PREFIX}{subject}.{self._mac(subject)}"

    def read(self, token: str) -> AttemptClaim | None:
        """Read a token; None when we did not make it."""
        known = self._ours.get(token)
        if known is not None:
            return known
        subject, _, mac = token.removeprefix(PREFIX).rpartition(".")
        if not token.startswith(PREFIX) or not hmac.compare_digest(mac.encode(), self._mac(subject).encode()):
            return None
        task_id, attempt, generation = subject.rsplit(".", 2)
        claim = AttemptClaim(task_id=task_id, attempt=int(attempt), generation=int(generation))
        if len(self._ours) >= _REMEMBERED:
            self._ours.pop(next(iter(self._ours)))
        self._ours[token] = claim
        return claim

    def fingerprint(self, canonical: bytes) -> bytes:
        """Fingerprint a request for its receipt, keyed, so that a stolen receipt table tells nothing of contents."""
        return hmac.digest(self._receipts, canonical, hashlib.sha256)

    def _mac(self, subject: str) -> str:
        mac = hmac.digest(self._key, subject.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

"""Facts that move the end of a lease, and that no executor sent."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseExtended:
    """What lapsed while nobody served was given one lease more: the lease, or the time for the acknowledgement."""

    attempt: int
    lease_expires_at: datetime
    reason: str
    type: Literal["lease.extended"] = "lease.extended"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewedByRun:
    """The control plane saw the attempt's run alive at that instant."""

    attempt: int
    lease_expires_at: datetime
    seen_at: datetime
    type: Literal["lease.renewed_by_run"] = "lease.renewed_by_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The control plane saw the attempt's run end, at that instant, while a plan or result was still awaited.

    detail: what was seen of it, such as its exit code and the end of its log; None where nothing was.
    """

    attempt: int
    lease_expires_at: datetime
    seen_at: datetime
    detail: str | None = None
    type: Literal["run.ended"] = "run.ended"

"""Facts about the task's issue on the tracker: what others changed there, and what became of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agentic_os.domain.documents import OurField, TheirField


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldAdopted:
    """Somebody who may steer the task changed this on its issue, and so it is now. `value`: labels joined by commas."""

    field: TheirField
    value: str
    type: Literal["field.adopted"] = "field.adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNoted:
    """Somebody changed this on the issue; it stays there as it is, and the task keeps its own, for the reason given."""

    field: TheirField
    value: str
    reason: str
    at: datetime
    type: Literal["field.noted"] = "field.noted"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDrifted:
    """Somebody else changed what is ours on the issue, and it is put back. `author`: a principal, or TRACKER:ACCOUNT.

    `value`: what it was made, at most its first 200 characters; of "issue", the key of the one that was deleted.
    """

    field: OurField
    author: str
    value: str
    at: datetime
    type: Literal["field.drifted"] = "field.drifted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairsPaused:
    """The field was changed again and again: while the task wants it to be `wanted`, it is not put back until then."""

    field: OurField
    author: str
    wanted: str
    until: datetime
    type: Literal["repairs.paused"] = "repairs.paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairsResumed:
    """The field is put back again."""

    field: OurField
    reason: str
    type: Literal["repairs.resumed"] = "repairs.resumed"

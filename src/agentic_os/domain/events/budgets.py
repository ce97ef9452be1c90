"""Facts about what attempts may spend: reserved, waited for, passed, and spent by what was refused."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agentic_os.domain.documents import Reservation, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReserved:
    """The attempt falls under these accounts, and so much of each is kept for it until it closes."""

    attempt: int
    reservations: tuple[Reservation, ...]
    type: Literal["budget.reserved"] = "budget.reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetAwaited:
    """No attempt can be paid for: the budget of `scope` is spent or reserved. It is renewed at `until`, if ever."""

    scope: str
    until: datetime | None
    type: Literal["budget.awaited"] = "budget.awaited"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRenewed:
    """The day is over whose budget the task waited for."""

    scope: str
    type: Literal["budget.renewed"] = "budget.renewed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExceeded:
    """A plan or result came over the budget and is accepted all the same. `passed`: which limit, and by how much."""

    attempt: int
    subject: Literal["plan", "result"]
    version: int
    passed: str
    type: Literal["budget.exceeded"] = "budget.exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalCharged:
    """A callback was refused, and what it had spent is booked: `usage`, less what was booked under its id before."""

    attempt: int
    callback_id: str
    kind: str
    code: str
    usage: Usage
    model: str | None
    type: Literal["refusal.charged"] = "refusal.charged"


@dataclass(frozen=True, slots=True, kw_only=True)
class WallTimeBooked:
    """The attempt closes, having been at work for so many seconds since its acknowledgement."""

    attempt: int
    seconds: int
    type: Literal["wall.booked"] = "wall.booked"


@dataclass(frozen=True, slots=True, kw_only=True)
class WallTimeExceeded:
    """The attempt lost its right to write, because the task's wall time was used up."""

    attempt: int
    limit_seconds: int
    type: Literal["wall.exceeded"] = "wall.exceeded"

"""Where time and identity come from: the one module that reads the clock and draws random ids."""

import secrets
import time
from datetime import UTC, datetime
from uuid import UUID


def now() -> datetime:
    """Tell the time, in UTC, to the microsecond."""
    return datetime.now(UTC)  # noqa: TID251 - this is the module that the ban names


def new_id() -> UUID:
    """Draw a UUID of version 7: random, and ordered by the millisecond of its making."""
    milliseconds = time.time_ns() // 1_000_000
    low = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (low >> 62) << 64 | 0b10 << 62 | low & (1 << 62) - 1
    return UUID(int=value)

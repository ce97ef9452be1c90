"""Where time and identity come from: the one module that reads the clock and draws random ids."""

import os
import time
from datetime import UTC, datetime
from uuid import UUID


def now() -> datetime:
    """Tell the time, in UTC, to the microsecond."""
    return datetime.now(UTC)  # noqa: TID251 - this is the module that the ban names


def new_id() -> UUID:
    """Draw a UUID of version 7: random, and ordered by the millisecond of its making."""
    milliseconds = time.time_ns() // 1_000_000
    drawn = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 0x7 << 76 | (drawn >> 68) << 64 | 0b10 << 62 | drawn & (1 << 62) - 1
    return UUID(int=value)


def elapsed() -> float:
    """Count the seconds since some fixed point, whatever is done to the clock on the wall."""
    return time.monotonic()

"""Where the adapter's time comes from."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the adapter's own clock; it may import nothing of the backend's


def elapsed() -> float:
    """Tell seconds that only ever grow."""
    return time.monotonic()

"""Where the board's time and identities come from."""

from datetime import UTC, datetime
from uuid import UUID, uuid4  # noqa: TID251 - the board's own source of identities


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the board's own clock; it may import nothing of the backend's


def new_id() -> UUID:
    """Draw a random UUID."""
    return uuid4()

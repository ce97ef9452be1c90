"""Bytes by digest."""

from collections.abc import AsyncIterator
from typing import Protocol


class ArtifactStore(Protocol):
    """Bytes by digest."""

    async def put(self, digest: str, content: bytes) -> None:
        """Keep bytes; the digest was checked. The same bytes twice are kept once."""
        ...

    async def write(self, digest: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        """Keep a stream of at most `limit` bytes; return the size. Raises DigestMismatch, TooLarge or StorageFull."""
        ...

    def open(self, digest: str, start: int = 0, count: int | None = None) -> AsyncIterator[bytes] | None:
        """Stream `count` bytes from `start` on, or all that follow; None when they are not held."""
        ...

    def size(self, digest: str) -> int | None:
        """Count bytes; None when they are not held."""
        ...

"""Artifacts as files in a directory, named by digest."""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from agentic_os.application.ports import DigestMismatch, TooLarge

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_CHUNK: Final = 256 * 1024


class ArtifactDirectory:
    """A store of bytes; a file appears under its name only when it is whole."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def put(self, digest: str, content: bytes) -> None:
        """Keep bytes."""

        async def once() -> AsyncIterator[bytes]:
            yield content

        await self.write(digest, once(), len(content))

    async def write(self, digest: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        """Keep a stream of at most `limit` bytes; return the size. Raises DigestMismatch or TooLarge."""
        target = self._path(digest)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        found = hashlib.sha256()
        size = 0
        try:
            with partial.open("xb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge
                    found.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            if f"sha256:{found.hexdigest()}" != digest:
                raise DigestMismatch(f"sha256:{found.hexdigest()}")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def open(self, digest: str) -> AsyncIterator[bytes] | None:
        """Stream bytes, or None when they are not held."""
        path = self._path(digest)
        return _read(path) if path.is_file() else None

    def size(self, digest: str) -> int | None:
        """Count bytes; None when they are not held."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def _path(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"{digest!r} is not a digest")
        return self._root / match[1][:2] / match[1]


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk

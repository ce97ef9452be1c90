"""Artifacts as files in a directory, named by digest."""

import asyncio
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from agentic_os.application.ports import DigestMismatch, StorageFull, TooLarge

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_CHUNK: Final = 256 * 1024
_PARTIAL: Final = "partial"
_ABANDONED_AFTER: Final = 3600
"""Seconds without a byte after which an upload is one whose process died; its file goes at the next start."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class ArtifactDirectory:
    """A store of bytes; a file appears under its name only when it is whole, and on the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / _PARTIAL
        self._partial.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(self._partial, time.time() - _ABANDONED_AFTER)

    async def put(self, digest: str, content: bytes) -> None:
        """Keep bytes."""

        async def once() -> AsyncIterator[bytes]:
            yield content

        await self.write(digest, once(), len(content))

    async def write(self, digest: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        """Keep a stream of at most `limit` bytes; return the size. Raises DigestMismatch, TooLarge or StorageFull."""
        target = self._path(digest)
        partial = self._partial / f"{target.name}.{secrets.token_hex(8)}"
        try:
            with partial.open("xb") as file:
                found, size = await _receive(file, chunks, limit)
            if found != digest:
                raise DigestMismatch(found)
            await asyncio.to_thread(_publish, partial, target)
        except OSError as problem:
            if problem.errno in _FULL:
                raise StorageFull from problem
            raise
        finally:
            partial.unlink(missing_ok=True)
        return size

    def open(self, digest: str, start: int = 0, count: int | None = None) -> AsyncIterator[bytes] | None:
        """Stream `count` bytes from `start` on, or all that follow; None when they are not held."""
        path = self._path(digest)
        return _read(path, start, count) if path.is_file() else None

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


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


async def _receive(file: BinaryIO, chunks: AsyncIterator[bytes], limit: int) -> tuple[str, int]:
    """Write what comes, a chunk at a time and off the event loop; return its digest and size, once on the disk."""
    found = hashlib.sha256()
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLarge
        await asyncio.to_thread(_take, file, found, chunk)
    await asyncio.to_thread(_flush, file)
    return f"sha256:{found.hexdigest()}", size


def _take(file: BinaryIO, found: _Hash, chunk: bytes) -> None:
    found.update(chunk)
    file.write(chunk)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(partial: Path, target: Path) -> None:
    """Give whole bytes their name, so that a power cut leaves either no file of that name or all of it."""
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True, mode=0o700)
        _sync(target.parent.parent)
    partial.replace(target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path, before: float) -> None:
    """Remove what processes that died had begun; whatever still grows is another server's."""
    for left in folder.iterdir():
        try:
            if left.stat().st_mtime < before:
                left.unlink()
        except FileNotFoundError:  # it was finished, or swept by another server, just now
            continue


async def _read(path: Path, start: int, count: int | None) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        left = count
        while left is None or left > 0:
            wanted = _CHUNK if left is None else min(_CHUNK, left)
            chunk = await asyncio.to_thread(file.read, wanted)
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk

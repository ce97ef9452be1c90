"""The directory of artifacts: whole files under their digest, durable before they are seen, and never half of one."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agentic_os.application.ports import DigestMismatch, StorageFull, TooLarge
from agentic_os.artifact_directory import ArtifactDirectory

CONTENT = bytes(range(256)) * 3000
NAME = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


async def pieces(content: bytes = CONTENT, size: int = 100_000) -> AsyncIterator[bytes]:
    """Stream bytes in pieces."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def gathered(chunks: AsyncIterator[bytes] | None) -> bytes:
    """Put a stream together."""
    assert chunks is not None
    return b"".join([chunk async for chunk in chunks])


def files(root: Path) -> list[str]:
    """List every file below a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("start", "count"), [(0, None), (0, 0), (1, 1), (262_143, 2), (700_000, None), (700_000, 68_000)]
)
async def test_any_part_reads_back_byte_for_byte(tmp_path: Path, start: int, count: int | None) -> None:
    """Reading from any place, over the borders of what is read at once, gives the bytes that were written there."""
    store = ArtifactDirectory(tmp_path)
    assert len(CONTENT) == await store.write(NAME, pieces(), len(CONTENT))
    stop = None if count is None else start + count
    assert CONTENT[start:stop] == await gathered(store.open(NAME, start, count))
    assert len(CONTENT) == store.size(NAME)


async def _broken() -> AsyncIterator[bytes]:
    yield CONTENT[:1000]
    raise ConnectionResetError


async def _cancelled() -> AsyncIterator[bytes]:
    yield CONTENT[:1000]
    raise asyncio.CancelledError


FAULTS: list[tuple[Callable[[], AsyncIterator[bytes]], int, type[BaseException]]] = [
    (_broken, 10**9, ConnectionResetError),
    (_cancelled, 10**9, asyncio.CancelledError),
    (lambda: pieces(CONTENT[1:]), 10**9, DigestMismatch),
    (pieces, len(CONTENT) - 1, TooLarge),
]


@pytest.mark.parametrize(("stream", "limit", "fault"), FAULTS, ids=[f[2].__name__ for f in FAULTS])
async def test_what_fails_leaves_nothing(
    tmp_path: Path, stream: Callable[[], AsyncIterator[bytes]], limit: int, fault: type[BaseException]
) -> None:
    """A stream that breaks off, is cancelled, is of another digest or too long leaves no file of any name."""
    store = ArtifactDirectory(tmp_path)
    with pytest.raises(fault):
        await store.write(NAME, stream(), limit)
    assert [] == files(tmp_path)
    assert None is store.open(NAME) is store.size(NAME)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device without room")
async def test_a_device_without_room_is_told_from_other_faults(tmp_path: Path) -> None:
    """A write to a device that has no room left raises StorageFull."""
    store = ArtifactDirectory(tmp_path)
    real = Path.open
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: real(Path("/dev/full"), "wb"))
        with pytest.raises(StorageFull):
            await store.write(NAME, pieces(), len(CONTENT))
    assert [] == files(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to see which file a descriptor is")
async def test_bytes_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is flushed before it is renamed, and the folders that name it afterwards."""
    store = ArtifactDirectory(tmp_path)
    digits = NAME.removeprefix("sha256:")
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((path.name.partition(".")[0], store.size(NAME) is not None))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    await store.write(NAME, pieces(), len(CONTENT))
    assert [(digits, False), (tmp_path.name, False), (digits[:2], True)] == seen
    await store.write(NAME, pieces(), len(CONTENT))
    assert [(digits, True), (digits[:2], True)] == seen[3:]


async def test_a_start_removes_what_dead_processes_began(tmp_path: Path) -> None:
    """Unfinished files that nobody wrote to for over an hour go, and what is being written or was finished stays."""
    store = ArtifactDirectory(tmp_path)
    await store.put(NAME, CONTENT)
    (finished,) = files(tmp_path)
    for name, age in (("dead", 3700), ("alive", 3500)):
        path = tmp_path / "partial" / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    os.utime(tmp_path / finished, (0, 0))
    ArtifactDirectory(tmp_path)
    assert sorted([finished, "partial/alive"]) == files(tmp_path)


async def test_only_a_digest_names_a_file(tmp_path: Path) -> None:
    """A name that is no digest is an error, and never a path."""
    store = ArtifactDirectory(tmp_path)
    for name in ("../x", "sha256:..", NAME.upper(), NAME + "0", NAME + "\n"):
        with pytest.raises(ValueError, match="is not a digest"):
            store.open(name)

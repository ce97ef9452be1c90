"""Folders and files of the embedded server that nobody but their owner may read."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentic_os.postgres.embedded_account import Account
from agentic_os.postgres.embedded_errors import DatabaseUnavailable

LARGE_LOG = 10 * 1024 * 1024


def own_folder(path: Path, *, owner: int, group: int = -1, mode: int = 0o700) -> None:
    """Make `path` a folder of `owner` with `mode`, or check that it already is one.

    Never follows a symbolic link and never changes a folder it finds: a wrong owner, a link in its place or
    rights wider than `mode` raise DatabaseUnavailable.
    """
    try:
        path.mkdir(mode=0o700)
        made = True
    except FileExistsError:
        made = False
    with _real_folder(path) as folder:
        if made:
            os.fchown(folder, owner, group)
            os.fchmod(folder, mode)
        found = os.fstat(folder)
    if found.st_uid != owner:
        raise DatabaseUnavailable(
            f"{path} belongs to user {found.st_uid} and not to user {owner}, so it is not used. "
            "Run as its owner, or choose another folder with --home.",
        )
    if stat.S_IMODE(found.st_mode) & ~mode:
        raise DatabaseUnavailable(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}), so it is not used. "
            f"Close it if you trust what is in it: chmod {mode:o} {path}",
        )


@contextmanager
def _real_folder(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise DatabaseUnavailable(
            f"{path} is not a folder that can be used ({error.strerror}). "
            "Move it away, or choose another folder with --home.",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_private_file(path: Path, text: str, owner: Account | None = None) -> None:
    """Create `path` with mode 0600 and put `text` on the disk; an existing file raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def read_private_file(path: Path) -> str | None:
    """Read a file that only we can read, without its line end; None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="utf-8") as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise DatabaseUnavailable(
                f"{path} must belong to user {os.geteuid()} and be closed to all others. "
                f"If nobody else can have read it: chown {os.geteuid()} {path} && chmod 600 {path}",
            )
        return file.read().rstrip("\n")


def draw_secret(path: Path) -> str:
    """Keep a new random secret in `path`, whole or not at all, and return it."""
    secret = secrets.token_urlsafe(32)
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    write_private_file(draft, secret + "\n")
    draft.rename(path)
    sync_folder(path.parent)
    return secret


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    with _real_folder(path) as folder:
        os.fsync(folder)


def prepare_log(path: Path) -> None:
    """Make sure of a log with mode 0600, after setting a large one aside as `.1`."""
    if path.exists() and path.stat().st_size > LARGE_LOG:
        path.replace(path.with_name(f"{path.name}.1"))
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600))

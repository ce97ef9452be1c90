"""PostgreSQL as a part of the program: started, guarded and stopped by us, for people who have no server.

Nobody else on the machine can use it: it listens on no network, its socket lies in a folder of its owner, and
every role has a random password in a file that only we can read.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from agentic_os.postgres.embedded_account import Account, server_account
from agentic_os.postgres.embedded_binaries import programs_for
from agentic_os.postgres.embedded_errors import DatabaseUnavailable
from agentic_os.postgres.embedded_files import (
    draw_secret,
    own_folder,
    prepare_log,
    read_private_file,
    write_private_file,
)
from agentic_os.postgres.embedded_postmaster import (
    SOCKET_NAME,
    SUPERUSER,
    Installation,
    Postmaster,
    create_data_folder,
    start,
    survivor,
)

if sys.platform != "win32":
    import fcntl

STATE = Path("/var/lib/agentic-os")  # where root puts what the system user could not reach in a closed home
MAJOR_VERSION = "18"
LONGEST_SOCKET = 107 if sys.platform.startswith("linux") else 103  # bytes, the kernel's bound


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: its process, its programs (pg_dump and others), its log, and the way in."""

    pid: int
    programs: Path
    log: Path
    socket_folder: Path
    secrets: Path

    def conninfo(self, role: str, database: str) -> str:
        """Tell how to connect as `role`; a role without a secret gets one, not yet known to the server."""
        path = self.secrets / role
        secret = read_private_file(path) or draw_secret(path)
        host = str(self.socket_folder)
        return make_conninfo(host=host, port=5432, dbname=database, user=role, password=secret)

    def superuser(self, database: str) -> str:
        """Tell how to connect as the superuser: to prepare roles, and to back up what several roles own."""
        return self.conninfo(SUPERUSER, database)


@contextmanager
def running_server(home: Path, *, say: Callable[[str], None]) -> Iterator[EmbeddedServer]:
    """Run the server of `home` while the context lasts, making whatever is missing.

    `say` gets sentences for the person at the terminal. Raises DatabaseUnavailable when the server cannot be
    started, or when another process runs it already.
    """
    if sys.platform == "win32":
        raise DatabaseUnavailable(
            "PostgreSQL is not started for you on Windows. Set DATABASE_URL to one of yours."
        )
    home = home.resolve()
    with ExitStack() as stack:
        try:
            account = server_account(say)
            _prepare_home(home, account)
            folder = _server_folder(home, account, say)
            stack.enter_context(_sole_use(folder))
            programs = programs_for(account, STATE, say)
            installation = Installation(programs, folder / "data", account, home / "postgres.log")
            postmaster = _run(installation, home / "secrets", say)
        except OSError as error:
            raise DatabaseUnavailable(
                f"PostgreSQL could not be started in {home}: {error}. "
                "Choose a folder that you can write with --home, or set DATABASE_URL.",
            ) from error
        stack.callback(_stop, postmaster, say)
        yield EmbeddedServer(
            postmaster.pid, programs, installation.log, postmaster.socket_folder, home / "secrets"
        )


def _prepare_home(home: Path, account: Account) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    if not home.exists():  # the system user's group may pass through a home that root makes, and no one else
        own_folder(home, owner=os.geteuid(), group=account.gid, mode=0o710 if account.borrowed else 0o700)
    own_folder(home / "secrets", owner=os.geteuid())


def _server_folder(home: Path, account: Account, say: Callable[[str], None]) -> Path:
    """Find or make the folder of the server's own folders: in the home, or where the home's pointer says."""
    pointer, local = home / "postgres.location", home / "postgres"
    with _placing(home):
        if (text := read_private_file(pointer)) is not None:
            if not text or not Path(text).is_dir():
                raise DatabaseUnavailable(
                    f"The database of {home} was in {text or 'another folder'}, which is missing. Bring it back, "
                    f"or remove {pointer} to begin with an empty one.",
                )
            return Path(text)
        if not account.borrowed:
            own_folder(local, owner=account.uid)
            return local
        if local.exists() or account.can_enter(home):
            own_folder(local, owner=os.geteuid(), group=account.gid, mode=0o710)
            return local
        distant = _unused_distant_folder(home, say)
        own_folder(distant, owner=os.geteuid(), group=account.gid, mode=0o710)
        write_private_file(pointer, f"{distant}\n")
    say(f"The system user cannot enter {home}: its database is in {distant}.")
    return distant


@contextmanager
def _placing(home: Path) -> Iterator[None]:
    """Let one process at a time decide where the home's server lives."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unused_distant_folder(home: Path, say: Callable[[str], None]) -> Path:
    own_folder(STATE, owner=os.geteuid(), mode=0o755)
    first = distant = STATE / _digest(home)
    number = 0
    while distant.exists():
        number += 1
        distant = first.with_name(f"{first.name}.{number}")
    if number:  # it may even run still, and only the secrets of that home could open it
        say(f"An earlier home of this name left its database in {first}; it is kept there, unused.")
    return distant


def discard(home: Path) -> None:
    """Remove the server's folders of a home whose server has stopped; the home itself stays."""
    pointer = home.resolve() / "postgres.location"
    if (text := read_private_file(pointer)) is not None and Path(text).parent == STATE:
        shutil.rmtree(text, ignore_errors=True)
        pointer.unlink()
    shutil.rmtree(home / "postgres", ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


@contextmanager
def _sole_use(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with our process however that ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseUnavailable(
                f"The database in {folder} is in use by process {file.read().strip() or 'unknown'}. "
                "Stop that first, or choose another folder with --home.",
            ) from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _run(installation: Installation, secrets: Path, say: Callable[[str], None]) -> Postmaster:
    data = installation.data
    secret = read_private_file(secrets / SUPERUSER)
    if not data.exists():
        create_data_folder(installation, secret or draw_secret(secrets / SUPERUSER))
    elif secret is None:
        raise DatabaseUnavailable(
            f"{secrets / SUPERUSER} is missing, without which the database in {data} cannot be used. "
            "Bring it back from a backup.",
        )
    own_folder(data, owner=installation.account.uid)
    version = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != MAJOR_VERSION:
        raise DatabaseUnavailable(
            f"The database in {data} was made by PostgreSQL {version}, and this is PostgreSQL {MAJOR_VERSION}. "
            "Restore a backup of it into another --home.",
        )
    if found := survivor(installation, say):
        return found
    prepare_log(installation.log)
    return start(installation, _make_socket_folder(data.parent, installation.account), say)


def _make_socket_folder(folder: Path, account: Account) -> Path:
    name = f"agentic-os-{_digest(folder)}"
    if account.borrowed:
        elsewhere = [STATE / name]
    else:
        elsewhere = [Path("/run/user", str(account.uid), name), Path(tempfile.gettempdir(), name)]
    for place in (folder / "socket", *elsewhere):
        # A comma would make two hosts of it.
        if len(os.fsencode(place / SOCKET_NAME)) > LONGEST_SOCKET or "," in str(place):
            continue
        if place.parent == STATE:
            own_folder(STATE, owner=os.geteuid(), mode=0o755)
        if place.parent.is_dir():
            own_folder(place, owner=account.uid, group=account.gid)
            return place
    raise DatabaseUnavailable(f"No path for a socket is short enough: {folder} and {tempfile.gettempdir()}.")


def _stop(postmaster: Postmaster, say: Callable[[str], None]) -> None:
    postmaster.stop(say)
    with suppress(OSError):
        postmaster.socket_folder.rmdir()

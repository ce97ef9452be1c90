"""The process of an embedded PostgreSQL: making its data folder, starting, adopting and stopping it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentic_os.postgres.embedded_account import ENVIRONMENT, Account, run
from agentic_os.postgres.embedded_errors import DatabaseUnavailable
from agentic_os.postgres.embedded_files import own_folder, sync_folder, write_private_file

SUPERUSER = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
HOST_BASED_AUTHENTICATION = "local all all scram-sha-256\n"

POLL = 0.005
NOTICE_AFTER = 3.0
LEFTOVERS_PATIENCE = 30.0
# What the log of a start says while processes of a killed server are still there.
LEFTOVERS = ("pre-existing shared memory block", "lock file")


@dataclass(frozen=True)
class Installation:
    """One data folder, the programs that serve it, the user that they run as and the log they write."""

    programs: Path
    data: Path
    account: Account
    log: Path


@dataclass(frozen=True)
class PidFile:
    """What a postmaster tells of itself in its data folder: status is starting, ready, stopping."""

    pid: int
    socket_folder: Path
    status: str

    @classmethod
    def read(cls, data: Path) -> "PidFile | None":
        """Read `postmaster.pid`; None when there is none, or not yet a whole one."""
        try:
            lines = (
                (data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            )
            return cls(int(lines[0]), Path(lines[4]), lines[7].strip())
        except (FileNotFoundError, IndexError, ValueError):
            return None


class Postmaster:
    """A server process: our own child, or one that outlived the process that started it."""

    def __init__(
        self,
        installation: Installation,
        pid: int,
        socket_folder: Path,
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.pid = pid
        self.socket_folder = socket_folder
        self._installation = installation
        self._child = child

    def alive(self) -> bool:
        """Tell whether it still runs; a child that has ended is reaped."""
        if self._child is not None:
            return self._child.poll() is None
        return is_postmaster(self.pid, self._installation)

    def wait_until_ready(self, say: Callable[[str], None]) -> bool:
        """Wait while it starts, however long recovery takes; False when it ended instead."""
        started, notice = time.monotonic(), NOTICE_AFTER
        while self.alive():
            told = PidFile.read(self._installation.data)
            if told is not None and (told.pid, told.status) == (self.pid, "ready"):
                return True
            if time.monotonic() - started > notice:
                say(f"PostgreSQL is still starting (recovery takes its time); see {self._installation.log}")
                notice *= 3
            time.sleep(POLL)
        return False

    def stop(self, say: Callable[[str], None]) -> None:
        """End it: closing every connection first, without ceremony when that lasts, by force at last."""
        for how, patience in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            if self.alive():
                os.kill(self.pid, how)
            if self._ends_within(patience):
                return
            say(f"PostgreSQL (process {self.pid}) did not stop within {patience:.0f} s of {how.name}.")
        raise DatabaseUnavailable(f"PostgreSQL (process {self.pid}) cannot be stopped. End it by hand.")

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True


def is_postmaster(pid: int, installation: Installation) -> bool:
    """Tell whether process `pid` is a server of this data folder, and not another that got its number."""
    if not sys.platform.startswith("linux"):
        return _exists(pid)
    process = Path("/proc", str(pid))
    try:
        owner = process.stat().st_uid
        arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return owner == installation.account.uid and os.fsencode(installation.data) in arguments


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def create_data_folder(installation: Installation, superuser_secret: str) -> None:
    """Make the data folder, complete and on the disk or not at all."""
    data, account = installation.data, installation.account
    draft, password_file = data.with_name("data.new"), data.with_name("password")
    if draft.exists():
        shutil.rmtree(draft)  # of a start that was cut short
    own_folder(draft, owner=account.uid, group=account.gid)
    password_file.unlink(missing_ok=True)
    write_private_file(password_file, superuser_secret + "\n", account)
    try:
        _initdb(installation, draft, _init_options(password_file))
    finally:
        password_file.unlink()
    descriptor = os.open(draft / "pg_hba.conf", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(HOST_BASED_AUTHENTICATION)
    method = ["--sync-method=syncfs"] if sys.platform.startswith("linux") else []
    _initdb(
        installation, draft, ["--sync-only", *method]
    )  # once for all files is much faster than each by itself
    draft.rename(data)
    sync_folder(data.parent)


def _init_options(password_file: Path) -> list[str]:
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = [f"--username={SUPERUSER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
    return [*locale, *access, "--data-checksums", "--no-sync", "--no-instructions"]


def _initdb(installation: Installation, folder: Path, options: Sequence[str]) -> None:
    done = run([installation.programs / "initdb", "-D", folder, *options], installation.account)
    if done.returncode != 0:
        raise DatabaseUnavailable(
            f"PostgreSQL could not make its data folder {folder}: {done.stderr.strip()}\n"
            "Remove the cause and start again, or set DATABASE_URL.",
        )


def survivor(installation: Installation, say: Callable[[str], None]) -> Postmaster | None:
    """Find a server that outlived the process that started it, and wait until it is ready or gone."""
    told = PidFile.read(installation.data)
    if told is None or not is_postmaster(told.pid, installation):
        return None
    found = Postmaster(installation, told.pid, told.socket_folder)
    if not found.wait_until_ready(say):
        return None
    say(f"Adopted the database server that an earlier run left behind (process {told.pid}).")
    return found


def start(installation: Installation, socket_folder: Path, say: Callable[[str], None]) -> Postmaster:
    """Start a server that no one else runs; orphans of a killed one are waited for."""
    _remove_stale_locks(installation, socket_folder)
    deadline = time.monotonic() + LEFTOVERS_PATIENCE
    while True:
        written = installation.log.stat().st_size
        postmaster = _spawn(installation, socket_folder)
        try:
            if postmaster.wait_until_ready(say):
                return postmaster
        except BaseException:
            postmaster.stop(say)
            raise
        complaint = _read_from(installation.log, written)
        if time.monotonic() > deadline or not any(sign in complaint for sign in LEFTOVERS):
            raise DatabaseUnavailable(f"PostgreSQL did not start:\n{complaint}\nSee {installation.log}")
        time.sleep(0.1)


def _remove_stale_locks(installation: Installation, socket_folder: Path) -> None:
    # Another process may have got the number in a lock file of a server that was killed, and PostgreSQL would
    # take it for a server. It finds orphans by its shared memory all the same.
    told = PidFile.read(installation.data)
    if told is not None and _exists(told.pid):
        (installation.data / "postmaster.pid").unlink()
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (socket_folder / name).unlink(missing_ok=True)


def _spawn(installation: Installation, socket_folder: Path) -> Postmaster:
    quoted_socket_folder = '"' + str(socket_folder).replace('"', '""') + '"'
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": quoted_socket_folder,
        "unix_socket_permissions": "0700",
        "port": "5432",
        "log_line_prefix": "%m [%p] ",
        "max_logical_replication_workers": "0",  # none is ever needed, and its end at a stop looks like an error
    }
    assignments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = os.open(installation.log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        child = subprocess.Popen(
            [installation.programs / "postgres", "-D", installation.data, *assignments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,  # an interrupt at the terminal is ours, and we stop it in order
            **installation.account.process_options,
        )
    finally:
        os.close(log)
    return Postmaster(installation, child.pid, socket_folder, child)


def _read_from(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read()[-2000:].decode(errors="replace").strip()

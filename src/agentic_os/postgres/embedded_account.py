"""The operating system's user that the embedded server runs as.

PostgreSQL refuses to run as root. An ordinary user runs it as himself; root runs it as a system user of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from agentic_os.postgres.embedded_errors import DatabaseUnavailable

if sys.platform != "win32":
    import pwd

SYSTEM_USER = "agentic-os"
ENVIRONMENT = {
    "LC_ALL": "C",
    "TZ": "UTC",
    "PATH": os.defpath,
}  # nothing of ours: PGPORT and its like steer it


class ProcessOptions(TypedDict, total=False):
    """How subprocess starts a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """A user by number, and whether a program must change to it first."""

    uid: int
    gid: int
    borrowed: bool

    @property
    def process_options(self) -> ProcessOptions:
        """Options of subprocess for a program of this user, which gets no group of ours."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.borrowed else {}

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this user can reach `folder`, by going there as this user."""
        return run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], self).returncode == 0


def run(command: Sequence[str | Path], account: Account | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `account` or as ourselves, and keep what it wrote."""
    options = account.process_options if account else {}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd="/", env=ENVIRONMENT, **options
    )


def server_account(say: Callable[[str], None]) -> Account:
    """Choose the user that the server runs as: ourselves, or the system user when we are root."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), borrowed=False)
    entry = _system_user() or _add_system_user(say)
    if entry.pw_uid == 0:
        raise DatabaseUnavailable(
            f"The system user {SYSTEM_USER} is root under another name, as which PostgreSQL does not run. "
            "Give it a number of its own, or set DATABASE_URL.",
        )
    say(f"Running as root: the database server runs as the system user {SYSTEM_USER}.")
    return Account(entry.pw_uid, entry.pw_gid, borrowed=True)


def _system_user() -> "pwd.struct_passwd | None":
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None


def _add_system_user(say: Callable[[str], None]) -> "pwd.struct_passwd":
    done = run(_adding_command())
    entry = _system_user()  # asked even after a failure: another start may have added it meanwhile
    if entry is None:
        raise DatabaseUnavailable(
            f"The system user {SYSTEM_USER} could not be added ({done.stderr.strip()}). "
            "Add it, run as an ordinary user, or set DATABASE_URL.",
        )
    say(f"Added the system user {SYSTEM_USER}.")
    return entry


def _adding_command() -> list[str]:
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"
    if useradd := shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        return [useradd, *options, "--shell", shell, SYSTEM_USER]
    if adduser := shutil.which("adduser", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        options = ["--system", "--group", "--no-create-home", "--home", "/nonexistent"]
        return [adduser, *options, "--shell", shell, SYSTEM_USER]
    raise DatabaseUnavailable(
        f"PostgreSQL does not run as root, and neither useradd nor adduser is here to add the system user "
        f"{SYSTEM_USER}. Add it, run as an ordinary user, or set DATABASE_URL.",
    )

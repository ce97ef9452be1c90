"""Where an attempt works: the agent's workspace or a git worktree, and a folder for its brief and its secrets."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .agents import CommandWake
from .database import Row
from .processes import RUN_VARIABLE, User, switch_to

_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


class NotPrepared(Exception):
    """The attempt cannot start; the message is shown with the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """Where one attempt works. folder: its working directory. private: removed when the run ends."""

    folder: Path
    private: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The commit that an attempt's worktree begins from, and the worktree's folder."""

    commit: str
    folder: Path


class Workspaces:
    """Prepare and clear away the workplaces of runs."""

    def __init__(self, home: Path, board_url: str, user: User | None) -> None:
        self._board_url = board_url
        self._user = user
        # Another user cannot reach into the server's home, which is closed to others.
        self._root = _shared_place(home, user) if user else home
        self._make(self._root)
        self._private = self._root / "runs"
        self._chosen: set[Path] = set()
        shutil.rmtree(self._private, ignore_errors=True)
        self._make(self._private)

    def close(self) -> None:
        """Leave nothing behind but worktrees with something in them that was not committed."""
        shutil.rmtree(self._private, ignore_errors=True)
        if self._user:
            with contextlib.suppress(OSError):
                self._root.rmdir()

    async def base_of(self, run: Row, wake: CommandWake) -> Base | None:
        """Say which commit the attempt begins from, in which folder; None without a worktree. Raises NotPrepared."""
        if not wake.worktree:
            return None
        repository = Path(wake.workspace)
        code, output = await self._git(repository, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if code:
            said = output.strip()[-500:] or "it has no commit to begin from"
            raise NotPrepared(f"no git worktree could be made in {repository}: {said}")
        return Base(commit=output.strip(), folder=self._worktree_folder(run))

    async def prepare(self, run: Row, wake: CommandWake, token: str, base: Base | None) -> Workplace:
        """Write the run's files and find its folder. Raises NotPrepared."""
        private = self._private / str(run["id"])
        self._make(private)
        self._write(private / "token", token)
        self._write(private / "brief.md", run["body"])
        workspace = Path(wake.workspace)
        if not await asyncio.to_thread(workspace.is_dir):
            raise NotPrepared(f"the workspace {workspace} is not a folder; change the agent's configuration")
        folder = await self._worktree(run, workspace, base) if base else workspace
        environment = self._inherited(wake) | {
            RUN_VARIABLE: str(run["id"]),
            "AGENTIC_OS_ATTEMPT": str(run["attempt"]),
            "AGENTIC_OS_BOARD_ISSUE": str(run["issue"]),
            "AGENTIC_OS_BOARD_TOKEN_FILE": str(private / "token"),
            "AGENTIC_OS_BOARD_URL": self._board_url,
            "AGENTIC_OS_BRIEF": str(private / "brief.md"),
            "AGENTIC_OS_TASK": run["task_id"],
        }
        if base:
            environment["AGENTIC_OS_BASE_COMMIT"] = base.commit
        secrets = {name: self._secret(Path(path), private / name) for name, path in wake.secret_files.items()}
        return Workplace(folder=folder, private=private, environment=environment | secrets)

    async def clear(self, run: Row, base: Base | None) -> str:
        """Remove the run's private files, its worktree and its branch; keep what the attempt left there, and say so."""
        shutil.rmtree(self._private / str(run["id"]), ignore_errors=True)
        if base is None:
            return ""
        try:
            return await self._clear_worktree(run, base)
        finally:
            self._chosen.discard(base.folder)

    async def _clear_worktree(self, run: Row, base: Base) -> str:
        if not await asyncio.to_thread(base.folder.is_dir):
            return ""
        code, output = await self._git(base.folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
        repository = Path(output.strip())
        if not code and run["wake"].get("keep_worktree"):
            return f"the worktree {base.folder} is kept, as its agent asks"
        if code or (await self._git(repository, "worktree", "remove", str(base.folder)))[0]:
            return f"the worktree {base.folder} is kept: something in it was not committed"
        branch = _branch_of(run)
        # Deleted only where it still is what the attempt began from.
        code, _ = await self._git(repository, "update-ref", "-d", f"refs/heads/{branch}", base.commit)
        return f"the branch {branch} has what was committed" if code else ""

    async def _worktree(self, run: Row, repository: Path, base: Base) -> Path:
        self._make(base.folder.parent)
        code, output = await self._git(
            repository, "worktree", "add", "-b", _branch_of(run), str(base.folder), base.commit
        )
        if code:
            raise NotPrepared(f"no git worktree could be made in {repository}: {output.strip()[-500:]}")
        return base.folder

    def _worktree_folder(self, run: Row) -> Path:
        """Choose where the attempt's worktree will be: where that of the attempt before was, if that is gone.

        Some clients find the session that they are to resume by the folder that it was in.
        """
        folder = self._root / "worktrees" / _file_name(run["task_id"])
        if folder in self._chosen or folder.exists():
            folder = folder.with_name(f"{folder.name}-{run['attempt']}")
        self._chosen.add(folder)
        return folder

    async def _git(self, repository: Path, *arguments: str) -> tuple[int, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                "-C",
                str(repository),
                *arguments,
                env=_server_environment(_PASSED_ON) | self._users_home(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **switch_to(self._user),
            )
        except OSError as error:
            return 127, f"git: {error.strerror}"
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode("utf-8", "replace")

    def _inherited(self, wake: CommandWake) -> dict[str, str]:
        wanted = (*_PASSED_ON, *(name for name, value in wake.environment.items() if value is None))
        declared = {name: value for name, value in wake.environment.items() if value is not None}
        return _server_environment(wanted) | self._users_home() | declared

    def _users_home(self) -> dict[str, str]:
        return {"HOME": self._user.home} if self._user else {}

    def _secret(self, source: Path, copy: Path) -> str:
        """Copy a secret to a file that only the agent's user can read; it goes when the run ends."""
        try:
            text = source.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotPrepared(f"the secret file {source} cannot be read: {error}") from None
        self._write(copy, text)
        return str(copy)

    def _make(self, folder: Path) -> None:
        """Make a private folder, or find that it is one: in a shared place, somebody else may have been there first."""
        try:
            folder.mkdir(mode=0o700)
            self._own(folder)
        except FileExistsError:
            found = folder.lstat()
            owner = self._user.uid if self._user else _effective_user()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
                raise NotPrepared(
                    f"{folder} is not a folder of the user that agents run as; remove it"
                ) from None

    def _write(self, file: Path, text: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        self._own(file)

    def _own(self, path: Path) -> None:
        if self._user:
            os.chown(path, self._user.uid, self._user.gid, follow_symlinks=False)


def _shared_place(home: Path, user: User) -> Path:
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"agentic-os-board-{user.name}-{digest}")


def _server_environment(names: tuple[str, ...]) -> dict[str, str]:
    present = os.environ  # noqa: TID251 - an agent gets the named variables of the server, and no others
    return {name: present[name] for name in names if name in present}


def _effective_user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _branch_of(run: Row) -> str:
    return f"agentic-os/{_file_name(run['task_id'])}/{run['attempt']}"


def _file_name(task_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", task_id)

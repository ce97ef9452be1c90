"""What a workspace is to git: nothing, or a repository whose attempts can have worktrees of their own."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LONGEST: Final = 60.0


class WorkspaceUnfit(Exception):
    """No agent can work in a folder; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A work tree. git: its own git folder. shared: that of all its worktrees. changed: paths not committed."""

    top: Path
    git: Path
    shared: Path
    commit: str
    changed: int

    @property
    def exclude(self) -> Path:
        """The file that keeps paths out of the status of every worktree."""
        return self.shared / "info" / "exclude"


def look_at(workspace: Path) -> Repository | None:
    """Tell what a folder is; None for one that is in no repository. Raises WorkspaceUnfit."""
    code, said = _git(workspace, "rev-parse", "--is-bare-repository", "--absolute-git-dir")
    if code == _ABSENT:
        if any((folder / ".git").exists() for folder in (workspace, *workspace.parents)):
            raise WorkspaceUnfit(f"{workspace} is a git repository, and there is no git on PATH; install git")
        return None
    if code:
        if "not a git repository" in said:
            return None
        raise WorkspaceUnfit(f"git cannot read {workspace}: {said.strip()}")
    bare, git = said.splitlines()[:2]
    if bare == "true":
        raise WorkspaceUnfit(f"{workspace} is a bare repository; connect a clone of it, which has files")
    top = Path(_ask(workspace, "rev-parse", "--show-toplevel"))
    if top.resolve() != workspace.resolve():
        raise WorkspaceUnfit(
            f"{workspace} is in the repository {top}; connect that, its attempts get all of it"
        )
    shared = Path(_ask(workspace, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    code, commit = _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if code:
        raise WorkspaceUnfit(
            f"the repository {workspace} has no commit, from which an attempt's worktree could begin;"
            " make one: git commit --allow-empty -m Begin"
        )
    changed = len(_ask(workspace, "status", "--porcelain").splitlines())
    return Repository(top=top, git=Path(git), shared=shared, commit=commit.strip(), changed=changed)


def identity(workspace: Path, name: str) -> dict[str, str]:
    """Give the variables that name the author of commits: the person's who configured git, else an agent's own."""
    email = f"{name}@agentic-os.invalid"
    author = {
        "NAME": _configured(workspace, "user.name") or name,
        "EMAIL": _configured(workspace, "user.email") or email,
    }
    return {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in author.items()}


def _configured(workspace: Path, key: str) -> str:
    code, value = _git(workspace, "config", key)
    return "" if code else value.strip()


def tracked(workspace: Path, files: Sequence[str]) -> set[str]:
    """Tell which files of a work tree are committed or staged."""
    if not files:
        return set()
    listed = _ask(workspace, "ls-files", "-z", "--", *(f":(literal){file}" for file in files))
    return set(filter(None, listed.split("\0")))


def hide_changes(workspace: Path, files: Sequence[str]) -> None:
    """Keep what we change in tracked files of this one worktree out of its status and its commits."""
    if files:
        _ask(workspace, "update-index", "--skip-worktree", "--", *files)


_ABSENT: Final = 127


def _ask(folder: Path, *arguments: str) -> str:
    code, said = _git(folder, *arguments)
    if code:
        raise WorkspaceUnfit(f"git {arguments[0]} in {folder}: {said.strip()}")
    return said.removesuffix("\n")


def _git(folder: Path, *arguments: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the person's own git, wherever it is
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            timeout=_LONGEST,
            check=False,
        )
    except FileNotFoundError:
        return _ABSENT, "there is no git on PATH"
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    output = done.stderr if done.returncode and not done.stdout else done.stdout
    return done.returncode, output.decode(errors="surrogateescape")


def _environment() -> Mapping[str, str]:
    present = os.environ  # noqa: TID251 - git looks for its configuration where the person's is
    return {name: value for name, value in present.items() if not name.startswith("GIT_")} | {
        "LC_ALL": "C",
        "GIT_OPTIONAL_LOCKS": "0",  # looking changes nothing, the index's notes of times neither
    }

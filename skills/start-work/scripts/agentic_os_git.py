"""What the attempts at a task left behind in git: its own as references of its result, and the branches of others.

Python's standard library only, from 3.9 on.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_TIMEOUT_SECONDS = 60
_LONGEST_NAME = 200
_LONGEST_URI = 2000
_MOST_BRANCHES = 10


def git_references(folder: Path, base: str) -> list[dict[str, str]]:
    """Name the branch and the commit of a work tree; nothing where no commit was added to the one it began from."""
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if not commit or commit == _git(folder, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"):
        return []
    uri = _address(folder)
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    found = [{"name": commit[:12], "kind": "commit", "uri": uri, "revision": commit}]
    if branch and len(branch) <= _LONGEST_NAME:
        found.insert(0, {"name": branch, "kind": "branch", "uri": uri, "revision": commit})
    return found if len(uri) <= _LONGEST_URI else []


def earlier_branches(folder: Path, task_id: str) -> list[str]:
    """List the branches on which earlier attempts at the task left what this work tree does not have."""
    prefix = f"refs/heads/agentic-os/{re.sub(r'[^A-Za-z0-9-]', '-', task_id)}/"
    shown = "--format=%(refname:short): %(contents:subject)"
    listed = _git(folder, "for-each-ref", "--no-merged=HEAD", "--sort=committerdate", shown, prefix)
    return [line[:_LONGEST_NAME] for line in (listed or "").splitlines()[-_MOST_BRANCHES:]]


def not_committed(folder: Path) -> list[str]:
    """List the paths of a work tree whose changes are not committed, ignored ones left out."""
    listed = _git(folder, "status", "--porcelain", "--untracked-files=normal", "-z", strip=False) or ""
    entries, paths = iter(listed.split("\0")), []
    for entry in entries:
        if entry:
            paths.append(entry[3:])
            if entry[0] in "RC":  # followed by the name that it had
                next(entries, None)
    return paths


def _address(folder: Path) -> str:
    """Tell where the repository is: its remote, without a password or token, or else its folder."""
    remote = _git(folder, "remote", "get-url", "origin")
    if not remote:
        common = _git(folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
        return Path(common or folder.resolve() / ".git").as_uri()
    parts = urlsplit(remote)
    if not parts.hostname:  # user@host:path, or a path
        return remote
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _git(folder: Path, *arguments: str, strip: bool = True) -> str | None:
    """Ask git; nothing where it has no answer, or is not there."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, timeout=_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    answer = done.stdout.decode("utf-8", "replace")
    return answer.strip() if strip else answer

"""Keep what is projected into a workspace out of its git history, through `.git/info/exclude`."""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

_SPECIAL = re.compile(r"([\\*?\[\]!# ])")


def exclude_from_git(workspace: Path, add: Collection[str], remove: Collection[str] = ()) -> bool:
    """Add and remove lines for paths below a workspace; tells whether anything had to change.

    All other lines stay as they are. Outside of a git repository there is nothing to do.
    """
    found = _find_repository(workspace)
    if found is None:
        return False
    top, git_folder = found
    prefix = "".join("/" + _SPECIAL.sub(r"\\\1", part) for part in workspace.relative_to(top).parts)
    unwanted = {f"{prefix}/{path}" for path in remove}
    file = git_folder / "info" / "exclude"
    file.parent.mkdir(exist_ok=True)
    with _locked(file.parent):
        before = file.read_bytes().decode(errors="surrogateescape").splitlines() if file.exists() else []
        kept = [line for line in before if line not in unwanted]
        known = set(kept)
        after = [*kept, *(line for path in add if (line := f"{prefix}/{path}") not in known)]
        if after == before:
            return False
        _replace(file.resolve(), "".join(line + "\n" for line in after).encode(errors="surrogateescape"))
        return True


def _find_repository(workspace: Path) -> tuple[Path, Path] | None:
    """Find the top of the work tree and the git folder that its `info` is in, worktrees included."""
    for top in (workspace, *workspace.parents):
        git = top / ".git"
        if (git / "HEAD").is_file():  # without one, git takes it for no repository either
            return top, git
        if git.is_file():
            linked = top / git.read_text().removeprefix("gitdir:").strip()
            shared = linked / "commondir"
            return top, (linked / shared.read_text().strip()).resolve() if shared.is_file() else linked
    return None


def _replace(file: Path, content: bytes) -> None:
    new = file.with_name(f"{file.name}.agentic-os.tmp")
    new.write_bytes(content)
    if file.exists():
        new.chmod(file.stat().st_mode & 0o777)
    new.replace(file)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl  # noqa: PLC0415 - absent on Windows, where the rest of this package is still imported

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

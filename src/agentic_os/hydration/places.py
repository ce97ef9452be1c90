"""Places in a workspace, reached only through folders that were opened without following links."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentic_os.domain.skill_set import InvalidSkill, tree_digest
from agentic_os.hydration.resolution import Skill, scan_tree

Mode = Literal["link", "copy"]
_NEW = ".agentic-os.new"
_OLD = ".agentic-os.old"


class Refused(Exception):
    """What stands at a path is not ours to change."""


class WorkspaceError(Exception):
    """A workspace cannot be hydrated, or read, at all."""


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at a path: nothing, a link with the text of it, a folder, or something else."""

    kind: Literal["nothing", "link", "folder", "file"]
    text: str = ""


@contextlib.contextmanager
def errors_of(workspace: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a WorkspaceError that names the path."""
    if not hasattr(os, "O_NOFOLLOW"):
        raise WorkspaceError("hydration needs a POSIX system: folders are opened without following links")
    try:
        yield
    except Refused as error:
        raise WorkspaceError(f"{workspace}: {error}") from error
    except OSError as error:
        raise WorkspaceError(f"{error.filename or workspace}: {error.strerror}") from error


@contextlib.contextmanager
def open_folder(workspace: Path, path: str, *, create: bool) -> Iterator[int | None]:
    """Open a folder below a workspace, made if need be, or give None; raises Refused if a parent is a link."""
    descriptor = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for index, part in enumerate(parts := path.split("/"), 1):
            try:
                inner = _open_part(descriptor, part, create=create)
            except FileNotFoundError:
                yield None
                return
            except OSError as error:
                if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                    raise
                raise Refused(
                    f"{'/'.join(parts[:index])} is a link or a file, where a folder of its own should be"
                ) from error
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open_part(folder: int, name: str, *, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)


def look(folder: int, name: str) -> Place:
    """Tell what stands at a name, without following it."""
    try:
        return Place("link", os.readlink(name, dir_fd=folder))
    except FileNotFoundError:
        return Place("nothing")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    return Place("folder" if stat.S_ISDIR(mode) else "file")


def digest_of_folder(folder: Path) -> str:
    """Digest a copied skill; one that holds what no skill can hold has no digest."""
    try:
        return tree_digest(scan_tree(folder))
    except InvalidSkill:
        return ""


def put_skill(folder: int, skill: Skill, mode: Mode, seen: Place) -> None:
    """Put a skill in the place of what was seen there; a link in place of a link is never missed by a reader.

    Raises Refused if something else stands there by now.
    """
    if look(folder, skill.name) != seen:
        raise Refused("changed under our hands; run again")
    discard_leftovers(folder)
    if mode == "copy":
        _copy(folder, skill)
    elif seen.kind == "nothing":
        _link_new(folder, skill)
        return
    else:
        os.symlink(skill.path, _NEW, dir_fd=folder)
    if seen.kind == "folder":
        os.rename(skill.name, _OLD, src_dir_fd=folder, dst_dir_fd=folder)
    elif seen.kind == "link" and mode == "copy":
        os.unlink(skill.name, dir_fd=folder)
    os.replace(_NEW, skill.name, src_dir_fd=folder, dst_dir_fd=folder)
    discard_leftovers(folder)


def remove(folder: int, name: str) -> None:
    """Remove a link, or a folder with all in it."""
    match look(folder, name).kind:
        case "nothing":
            pass
        case "folder":
            shutil.rmtree(name, dir_fd=folder)
        case _:
            os.unlink(name, dir_fd=folder)


def discard_leftovers(folder: int) -> None:
    """Remove what a run that was killed had begun."""
    for name in (_NEW, _OLD):
        remove(folder, name)


def _link_new(folder: int, skill: Skill) -> None:
    try:
        os.symlink(skill.path, skill.name, dir_fd=folder)
    except FileExistsError:
        raise Refused("appeared under our hands; run again") from None
    except PermissionError as error:
        raise WorkspaceError(f"a link cannot be made ({error.strerror}); try --mode copy") from error


def _copy(folder: int, skill: Skill) -> None:
    os.mkdir(_NEW, dir_fd=folder)
    made = {"."}
    for file in skill.files:
        parents = [parent.as_posix() for parent in reversed(Path(file.path).parents)]
        for parent in parents:
            if parent not in made:
                os.mkdir(f"{_NEW}/{parent}", dir_fd=folder)
                made.add(parent)
        content = (skill.path / file.path).read_bytes()
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise WorkspaceError(f"{skill.path / file.path} changed while it was copied; run again")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        mode = 0o755 if file.executable else 0o644
        with os.fdopen(os.open(f"{_NEW}/{file.path}", flags, mode, dir_fd=folder), "wb") as copy:
            copy.write(content)

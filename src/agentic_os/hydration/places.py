"""Places in a workspace, reached only through folders that were opened without following links."""

import contextlib
import ctypes
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
MANIFEST_BEGUN = ".agentic-os.json.tmp"
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)


class Refused(Exception):
    """What stands at a path is not ours to change."""


class WorkspaceError(Exception):
    """A workspace cannot be hydrated, or read, at all."""


class LinksRefused(WorkspaceError):
    """The file system makes no links."""


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at a path: nothing, a link with the text of it, a folder, or something else.

    A `pointer` is a link through the set in force, and its text is where that leads.
    """

    kind: Literal["nothing", "pointer", "link", "folder", "file"]
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


def put_link(folder: int, name: str, text: str, seen: Place, alike: int | None = None) -> None:
    """Put a link in the place of what was seen there; a reader never misses what it replaces.

    `alike` is a folder that has the same link under that name already. Raises Refused if something else stands
    there by now.
    """
    if seen.kind == "nothing":
        if alike is None or not _link_alike(folder, name, text, alike):
            _link_new(folder, name, text)
        return
    _expect(folder, name, seen)
    discard_leftovers(folder)
    os.symlink(text, _NEW, dir_fd=folder)
    _swap(folder, name, seen)


def put_copy(folder: int, skill: Skill, seen: Place) -> None:
    """Put a copy of a skill in the place of what was seen there; raises Refused if that changed."""
    _expect(folder, skill.name, seen)
    discard_leftovers(folder)
    _copy(folder, skill)
    _swap(folder, skill.name, seen)


def _expect(folder: int, name: str, seen: Place) -> None:
    found = look(folder, name)
    if found != seen and (found.kind, seen.kind) != ("link", "pointer"):
        raise Refused("changed under our hands; run again")


def _swap(folder: int, name: str, seen: Place) -> None:
    """Give the new one its name: by one rename, or where a folder is in play by one exchange."""
    linked = look(folder, _NEW).kind == "link"
    if seen.kind == "nothing" or (linked and seen.kind != "folder"):
        os.replace(_NEW, name, src_dir_fd=folder, dst_dir_fd=folder)
    elif not _exchange(folder, name):
        os.rename(name, _OLD, src_dir_fd=folder, dst_dir_fd=folder)
        os.replace(_NEW, name, src_dir_fd=folder, dst_dir_fd=folder)
    discard_leftovers(folder)


def _exchange(folder: int, name: str) -> bool:
    """Exchange the new one with what stands at a name; tells whether the system can."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(folder, _NEW.encode(), folder, name.encode(), _EXCHANGE) == 0)


def remove(folder: int, name: str) -> None:
    """Remove a link, or a folder with all in it."""
    match look(folder, name).kind:
        case "nothing":
            pass
        case "folder":
            shutil.rmtree(name, dir_fd=folder)
        case _:
            os.unlink(name, dir_fd=folder)


def take_away(folder: int, name: str) -> None:
    """Remove what is ours at a name, in one step for whoever looks at it."""
    discard_leftovers(folder)
    if look(folder, name).kind == "folder":
        os.rename(name, _OLD, src_dir_fd=folder, dst_dir_fd=folder)
        name = _OLD
    remove(folder, name)


def discard_leftovers(folder: int) -> None:
    """Remove what a run that was killed had begun."""
    for name in (_NEW, _OLD, MANIFEST_BEGUN):
        remove(folder, name)


def _link_alike(folder: int, name: str, text: str, alike: int) -> bool:
    """Give a link that stands elsewhere another name here, where that works: a disk does it ten times as fast."""
    try:
        os.link(name, name, src_dir_fd=alike, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise Refused("appeared under our hands; run again") from None
    except (OSError, NotImplementedError):
        return False
    if look(folder, name) == Place("link", text):
        return True
    os.unlink(name, dir_fd=folder)
    return False


def _link_new(folder: int, name: str, text: str) -> None:
    try:
        os.symlink(text, name, dir_fd=folder)
    except FileExistsError:
        raise Refused("appeared under our hands; run again") from None
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS}:
            raise
        raise LinksRefused(f"a link cannot be made ({error.strerror}); try --mode copy") from error


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

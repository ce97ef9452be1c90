"""The links in force in a workspace: a folder of them, exchanged for another by one rename of `current`.

What stands in a target points through `current`, so that all skills of a workspace change at one moment.
"""

import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Mapping

from agentic_os.hydration.places import Place, look, remove

SETS = ".agents/.agentic-os"
"""Where the folders are: beside the targets, since some clients look into each folder of a target."""

_CURRENT = "current"
_NEW = "new"


def pointer(target: str, name: str) -> str:
    """Write the text of the link that stands for a skill in a target."""
    return _way(target) + name


@functools.cache
def _way(target: str) -> str:
    return f"{'../' * (target.count('/') + 1)}{SETS}/{_CURRENT}/"


def leads_into_force(folder: int, target: str, name: str) -> bool:
    """Tell whether at a name in a target there is a link through the set in force."""
    try:
        return os.readlink(name, dir_fd=folder) == _way(target) + name
    except OSError:
        return False


def links_in_force(sets: int | None) -> dict[str, str]:
    """Read where each skill leads by name; nothing where no set is in force."""
    if sets is None:
        return {}
    seen = look(sets, _CURRENT)
    return _links(sets, seen.text) if seen.kind == "link" and "/" not in seen.text else {}


def look_through(folder: int, target: str, name: str, in_force: Mapping[str, str]) -> Place:
    """Tell what stands at a name in a target; a link through the set in force is seen as where that leads."""
    seen = look(folder, name)
    if seen == Place("link", pointer(target, name)):
        return Place("pointer", in_force.get(name, ""))
    return seen


def put_in_force(sets: int, links: Mapping[str, str]) -> None:
    """Make these links, by skill, those in force: before one rename the old ones are, after it the new.

    The set before stays, for a reader that was on its way through it.
    """
    if not links:
        for name in os.listdir(sets):
            remove(sets, name)
        return
    before = look(sets, _CURRENT).text
    remove(sets, _NEW)
    digest = hashlib.sha256(
        "".join(f"{name}\0{links[name]}\0" for name in sorted(links)).encode()
    ).hexdigest()
    # A folder of that name that holds something else was tampered with, and is in force until the rename.
    names = (f"{digest[:16]}.{number}" for number in itertools.count())
    name = next(name for name in names if look(sets, name).kind == "nothing" or _links(sets, name) == links)
    if look(sets, name).kind == "nothing":
        _write(sets, name, links)
    if name != before:
        os.symlink(name, _NEW, dir_fd=sets)
        os.replace(_NEW, _CURRENT, src_dir_fd=sets, dst_dir_fd=sets)
    for other in set(os.listdir(sets)) - {_CURRENT, name, before}:
        remove(sets, other)


def _write(sets: int, name: str, links: Mapping[str, str]) -> None:
    os.mkdir(_NEW, dir_fd=sets)
    folder = os.open(_NEW, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=sets)
    try:
        for skill, path in links.items():
            os.symlink(path, skill, dir_fd=folder)
    finally:
        os.close(folder)
    os.rename(_NEW, name, src_dir_fd=sets, dst_dir_fd=sets)


def _links(sets: int, name: str) -> dict[str, str]:
    with contextlib.ExitStack() as stack:
        try:
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=sets)
        except OSError:
            return {}
        stack.callback(os.close, folder)
        found = {}
        for skill in os.listdir(folder):  # noqa: PTH208 - a descriptor has no path
            with contextlib.suppress(OSError):  # what is no link is in no set
                found[skill] = os.readlink(skill, dir_fd=folder)
        return found

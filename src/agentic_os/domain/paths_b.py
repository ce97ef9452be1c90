"""Whether one set of paths lies within another; what cannot be shown to lie within it does not."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

_WILD: Final = re.compile(r"[*?\[]")
_PARENT_FOLDER: Final = re.compile(r"(?:^|[/\\{},])\.\.(?:$|[/\\{},])")
_ROOTED: Final = re.compile(r"[/\\~]|[A-Za-z]:")


def outside(paths: Sequence[str], allowed: Iterable[str]) -> list[int]:
    """List the indexes of the paths, which may hold wildcards, that do not lie within any of those allowed."""
    patterns = list(allowed)
    same = set(patterns)
    return [
        index
        for index, path in enumerate(paths)
        if path not in same and not any(_within(path, pattern) for pattern in patterns)
    ]


def _within(path: str, pattern: str) -> bool:
    """Tell whether all that a path names lies within a pattern.

    A pattern without wildcards is a file, or a folder with all that is in it, as is one that ends in /**. Of other
    wildcards, * and ? stay within one part of a path; within these lie only paths that have no wildcards themselves.
    """
    if _PARENT_FOLDER.search(path) or bool(_ROOTED.match(path)) != bool(_ROOTED.match(pattern)):
        return False
    narrow, wide = _plain(path), _plain(pattern)
    folder = "" if wide == "**" else wide.removesuffix("/**")
    if not _WILD.search(folder):
        return folder in ("", narrow) or narrow.startswith(folder + "/")
    if _WILD.search(narrow):
        return False
    parts, shapes = narrow.split("/"), wide.split("/")
    if "**" not in shapes:
        return len(parts) == len(shapes) and all(map(fnmatchcase, parts, shapes))
    head = shapes[: shapes.index("**")]
    tail = shapes[len(head) + 1 :]
    return (
        "**" not in tail  # more than one are not looked into
        and len(parts) >= len(head) + len(tail)
        and all(map(fnmatchcase, parts, head))
        and all(map(fnmatchcase, parts[len(parts) - len(tail) :], tail))
    )


def _plain(path: str) -> str:
    """Write a path without the parts that say nothing."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)

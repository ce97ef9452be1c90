"""What changed between two versions of a document, line by line under its headings, for people to read."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

MOST_LINES: Final = 1500
"""Lines of either version up to which they are compared; longer documents are only shown."""

_HEADING = re.compile(r"(?:#{1,6} +(?P<hashes>.+?)#*|\*\*(?P<bold>[^*]+)\*\*:?)\s*")
_MARKS = re.compile(r"(?:[-*+]|[0-9]{1,3}[.)])\s+")
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_ALIKE, _LOOKED_AHEAD, _COMPARED = 0.6, 8, 400

Kind: TypeAlias = Literal["same", "removed", "added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of either version. parts: its pieces, each with whether this piece is what changed in it."""

    kind: Kind
    parts: Sequence[tuple[str, bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The changes under one heading, "" above the first. same: how many lines of it stayed as they were."""

    heading: str
    lines: Sequence[Line]
    same: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The sections with changes, and how many lines were added and removed. None of them when nothing changed."""

    sections: Sequence[Section]
    added: int
    removed: int


def difference(before: str, after: str) -> Difference | None:
    """Compare two versions; None when they are too long for that. The latest answers are kept."""
    return _difference(before, after)


@lru_cache(maxsize=64)
def _difference(before: str, after: str) -> Difference | None:
    old, new = _lines(before), _lines(after)
    if max(len(old), len(new)) > MOST_LINES:
        return None
    sections = [each for each in _sections(list(_compare(old, new))) if each.lines]
    changed = [line.kind for section in sections for line in section.lines]
    return Difference(sections=sections, added=changed.count("added"), removed=changed.count("removed"))


def _lines(text: str) -> list[str]:
    """Take the lines that say something, as they are read: without the signs of lists, code and their numbers."""
    lines = (_MARKS.sub("", line.strip()).replace("`", "") for line in text.splitlines())
    return [line for line in lines if line]


def _compare(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    matcher = difflib.SequenceMatcher(None, old, new)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield from (Line(kind="same", parts=((line, False),)) for line in new[c:d])
        else:
            yield from _replaced(old[a:b], new[c:d])


def _replaced(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    """Show each line that went above the line that took its place, with the words marked that changed."""
    at = 0
    for before in old:
        found = next(
            (n for n in range(at, min(len(new), at + _LOOKED_AHEAD)) if _alike(before, new[n])), None
        )
        if found is None:
            yield Line(kind="removed", parts=((before, False),))
            continue
        yield from (Line(kind="added", parts=((line, False),)) for line in new[at:found])
        went, came = _words(before, new[found])
        yield Line(kind="removed", parts=went)
        yield Line(kind="added", parts=came)
        at = found + 1
    yield from (Line(kind="added", parts=((line, False),)) for line in new[at:])


def _alike(before: str, after: str) -> bool:
    matcher = difflib.SequenceMatcher(
        None, _WORDS.findall(before)[:_COMPARED], _WORDS.findall(after)[:_COMPARED]
    )
    return matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE


_Parts: TypeAlias = Sequence[tuple[str, bool]]


def _words(before: str, after: str) -> tuple[_Parts, _Parts]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if max(len(old), len(new)) > _COMPARED:
        return ((before, False),), ((after, False),)
    went: list[tuple[str, bool]] = []
    came: list[tuple[str, bool]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if b > a:
            went.append(("".join(old[a:b]), kind != "equal"))
        if d > c:
            came.append(("".join(new[c:d]), kind != "equal"))
    return went, came


def _sections(lines: Sequence[Line]) -> Iterator[Section]:
    heading, changed, same = "", list[Line](), 0
    for line in lines:
        found = _HEADING.fullmatch("".join(text for text, _ in line.parts))
        if found and line.kind == "same":
            yield Section(heading=heading, lines=changed, same=same)
            heading, changed, same = (found["hashes"] or found["bold"]).strip(), [], 0
        elif line.kind == "same":
            same += 1
        else:
            changed.append(line)
    yield Section(heading=heading, lines=changed, same=same)

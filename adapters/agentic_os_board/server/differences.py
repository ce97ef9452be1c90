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
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_ALIKE = 0.4

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


@lru_cache(maxsize=64)
def difference(before: str, after: str) -> Difference | None:
    """Compare two versions; None when they are too long for that."""
    old, new = _lines(before), _lines(after)
    if max(len(old), len(new)) > MOST_LINES:
        return None
    sections = [each for each in _sections(list(_compare(old, new))) if each.lines]
    changed = [line.kind for section in sections for line in section.lines]
    return Difference(sections=sections, added=changed.count("added"), removed=changed.count("removed"))


def _lines(text: str) -> list[str]:
    """Take the lines that say something; the number of an ordered list is no change of the item."""
    lines = (line.rstrip() for line in text.splitlines())
    return [re.sub(r"^(\s*)\d+[.)] ", r"\g<1>1. ", line) for line in lines if line.strip()]


def _compare(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=True)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield from (Line(kind="same", parts=((line, False),)) for line in new[c:d])
        else:
            yield from _replaced(old[a:b], new[c:d])


def _replaced(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    """Show what went above what came, and mark in lines that are alike the words that changed."""
    pairs = [_words(before, after) for before, after in zip(old, new, strict=False)]
    for number, line in enumerate(old):
        yield Line(kind="removed", parts=pairs[number][0] if number < len(pairs) else ((line, False),))
    for number, line in enumerate(new):
        yield Line(kind="added", parts=pairs[number][1] if number < len(pairs) else ((line, False),))


_Parts: TypeAlias = Sequence[tuple[str, bool]]


def _words(before: str, after: str) -> tuple[_Parts, _Parts]:
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if max(len(old), len(new)) > MOST_LINES:
        return ((before, False),), ((after, False),)
    matcher = difflib.SequenceMatcher(None, old, new)
    if matcher.ratio() < _ALIKE:
        return ((before, False),), ((after, False),)
    went: list[tuple[str, bool]] = []
    came: list[tuple[str, bool]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
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

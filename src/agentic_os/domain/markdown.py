"""Which lines of a comment are plain text: not code, not hidden; where renderers might differ, they are not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

_FENCE: Final = re.compile(r"([ ]*)(`{3,}(?=[^`]*$)|~{3,})(.*)", re.DOTALL)
_NESTED: Final = re.compile(r"((?:[ >]|(?:[-*+]|[0-9]{1,9}[.)])(?=[ >]))+)(`{3,}(?=[^`]*$)|~{3,})")
_RAW: Final = re.compile(r" {0,3}<(?:pre|script|style|textarea)(?=[\s>]|$)", re.IGNORECASE)
_RAW_END: Final = re.compile(r"</(?:pre|script|style|textarea)>", re.IGNORECASE)
_HTML: Final = re.compile(r" {0,3}</?[a-z]", re.IGNORECASE)
_INSTRUCTION: Final = re.compile(r" {0,3}<(?:\?|![a-z\[])", re.IGNORECASE)
_TOP: Final = 3
"""What is indented further than this is in a list or is code, and opens nothing at the top."""


@dataclass(frozen=True, slots=True)
class _Inside:
    """What a line may be inside of. mark: the fence. indent: of a fence that may belong to a list, else 0."""

    what: Literal["text", "html", "raw", "instruction", "comment", "fence"]
    mark: str = ""
    indent: int = 0


_TEXT: Final = _Inside("text")
_HTML_BLOCK: Final = _Inside("html")
_COMMENT: Final = _Inside("comment")
_VISIBLE: Final = frozenset({_TEXT, _HTML_BLOCK})


def plain_lines(text: str) -> Iterator[tuple[str, bool]]:
    """Split a text into lines, each with whether every reading of it as CommonMark shows it as plain text.

    Column 0 is what counts: an indented line is judged like its neighbours, though it may be code.
    """
    readings = frozenset({_TEXT})
    for line in re.split(r"\r\n|\n|\r", text):
        spaced = line.expandtabs(4)
        if spaced.strip() and spaced[0] not in " >":
            # Only what is indented or quoted goes on in a list or a quote; this line ends them.
            readings = frozenset(_TEXT if inside.indent else inside for inside in readings)
        yield line, readings <= _VISIBLE
        readings = frozenset().union(*(_after(inside, spaced) for inside in readings))


def _after(inside: _Inside, line: str) -> frozenset[_Inside]:
    match inside.what:
        case "text":
            return _opened(line)
        case "html":
            ended = not line.strip()
            return frozenset({_TEXT}) if ended else frozenset({inside, *_commented(line)})
        case "raw":
            return frozenset({_TEXT if _RAW_END.search(line) else inside})
        case "comment":
            closed = "-->" in line
            return frozenset({_TEXT, *_commented(line.rpartition("-->")[2])} if closed else {inside})
        case "fence":
            return _after_fence(inside, line)
        case "instruction":
            return frozenset({inside})


def _opened(line: str) -> frozenset[_Inside]:
    """Say what a line of plain text may open."""
    if fence := _FENCE.match(line):
        return _fenced(len(fence[1]), fence[2])
    if nested := _NESTED.match(line):
        return frozenset({_TEXT, _Inside("fence", nested[2], len(nested[1]))})
    if line.startswith("<!--") and "-->" not in line:
        return frozenset({_COMMENT})
    found = {_TEXT, *_commented(line)}
    if _RAW.match(line):
        found |= set() if _RAW_END.search(line) else {_Inside("raw")}
    elif _HTML.match(line):
        found.add(_HTML_BLOCK)
    elif _INSTRUCTION.match(line):
        found.add(_Inside("instruction"))
    return frozenset(found)


def _fenced(indent: int, mark: str) -> frozenset[_Inside]:
    if not indent:
        return frozenset({_Inside("fence", mark)})
    other = _TEXT if indent > _TOP else _Inside("fence", mark)
    return frozenset({other, _Inside("fence", mark, indent)})


def _after_fence(inside: _Inside, line: str) -> frozenset[_Inside]:
    fence = _FENCE.match(line)
    if fence is None or fence[3].strip() or not fence[2].startswith(inside.mark):
        return frozenset({inside})
    indent = len(fence[1])
    if inside.indent:
        # A fence further left than the one in a list closes that one, or ends the list and opens another.
        return (
            frozenset({_TEXT}) if indent >= inside.indent else frozenset({_TEXT, *_fenced(indent, fence[2])})
        )
    return frozenset({_TEXT if indent <= _TOP else inside})


def _commented(line: str) -> frozenset[_Inside]:
    """Say whether an HTML comment may stay open behind the line."""
    opened = "<!--" in line and "-->" not in line.rpartition("<!--")[2]
    return frozenset({_COMMENT}) if opened else frozenset()

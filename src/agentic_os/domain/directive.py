"""The grammar of directives: which lines of a comment are commands, and what each says. No comment makes it raise."""

import re
from dataclasses import dataclass
from typing import Final

from agentic_os.domain.markdown import plain_lines

DECIDING: Final = frozenset(
    {
        *("approve", "revise", "reject", "accept", "rework", "cancel", "retry", "reassign"),
        *("hold", "unhold", "answer", "adopt", "default", "priority", "mode"),
    }
)
"""Verbs that decide something: a comment may hold one of them."""

ASKING: Final = frozenset({"help", "status", "why"})
"""Verbs that change nothing; what they ask is answered."""

VERBS: Final = DECIDING | ASKING | {"note"}
ACCEPTING: Final = frozenset({"approve", "accept"})

_COMMAND: Final = re.compile(r"/(?:aos[ \t]+/?)?([a-z]+)(?:[ \t]+(.*))?[ \t]*", re.DOTALL)
_TARGET: Final = re.compile(r"([vr])([1-9][0-9]{0,5})(?:@(?:sha256:)?([0-9a-f]{8,64}))?(?:[ \t.,:;!]+|$)")
_ITEM: Final = re.compile(r"[ \t]*(?:[-*+]|[0-9]{1,3}[.)])(?:[ \t]+(.*)|$)")
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """One command of a comment.

    verb: as written, which need not be one of VERBS. subject, version, digest: the target that it names
    ("plan" for v2, "result" for r2), None where it names none; an approval of what is no target has its first
    word as digest, which matches nothing. text: what follows, to the next command.
    line: exactly what was written.
    """

    verb: str
    text: str
    line: str
    subject: str | None = None
    version: int | None = None
    digest: str | None = None

    @property
    def items(self) -> tuple[str, ...]:
        """List what a revision asks for: each list item is one, else the whole text is."""
        found: list[str] = []
        for line in self.text.splitlines():
            if item := _ITEM.fullmatch(line):
                found.append((item[1] or "").strip())
            elif found and line.strip():
                found[-1] += " " + line.strip()
        if found:
            return tuple(item.strip() for item in found if item)
        return (self.text.strip(),) if self.text.strip() else ()


def line_of(verb: str, subject: str, version: int, digest: str) -> str:
    """Write the line of a directive that names exactly this plan or result; parse() reads it again."""
    return f"/{verb} {'v' if subject == 'plan' else 'r'}{version}@{digest.removeprefix('sha256:')}"


def parse(comment: str) -> list[Directive]:
    """Find the directives of a comment: lines at column 0, outside quotes, code and HTML comments."""
    found: list[list[str]] = []
    for line, plain in plain_lines(comment):
        if plain and _COMMAND.fullmatch(line):
            found.append([line])
        elif found and not line.startswith(">"):
            found[-1].append(line)
    return [_directive(lines) for lines in found]


def _directive(lines: list[str]) -> Directive:
    command = _COMMAND.fullmatch(lines[0])
    assert command is not None
    verb, first = command[1], _COMMENT.sub("", command[2] or "").strip()
    subject = version = digest = None
    if target := _TARGET.match(first):
        subject = "plan" if target[1] == "v" else "result"
        version = int(target[2])
        digest = target[3]
        first = first[target.end() :]
    elif verb in ACCEPTING and first:
        # Whoever names something that is no target must not be taken to have named nothing.
        digest = first.split()[0]
    text = _COMMENT.sub("", "\n".join([first, *lines[1:]])).strip()
    return Directive(
        verb=verb,
        text=text,
        line="\n".join(lines).strip(),
        subject=subject,
        version=version,
        digest=digest,
    )

"""Between what hangs on an issue and the port's types: notes, documents, and the cards of gates. Pure functions."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from agentic_os.control_plane import Document, Note, Review

from .text import kept, told

Json: TypeAlias = Mapping[str, Any]

PLAN: Final = "plan"
"""The key of the document that people may edit while it is under review."""
_CARD: Final = "agentic-os:"
_NOTE_KEY: Final = "aos-"
_NOTE_TITLE: Final = "agentic-os: "
_LONGEST_KEY: Final = 64
_OURS: Final = re.compile(rf"(?:{PLAN}|result|evidence|artifact-.*|{_NOTE_KEY}.*)\Z")
_VERSION: Final = re.compile(r"agentic-os (sha256:[0-9a-f]{64})\Z")
"""What a revision that a gate shows has as its summary."""
_LONGEST_DETAILS: Final = 20_000
_MARKER: Final = re.compile(r"\n\n<!-- agentic-os ([^\n]*) -->\Z")


def document_from(document: Json) -> Document:
    """Read a document beside an issue, whoever wrote it."""
    return Document(name=document["key"], title=document["title"] or "", body=told(document["body"]))


def is_ours(name: str) -> bool:
    """Tell whether a document of this key is ours to write."""
    return _OURS.match(name) is not None


def edited_version(revisions: Iterable[Json], number: int, *, user: str) -> tuple[Json, str] | None:
    """Find a revision of the plan that somebody wrote, and the digest of the version of ours that it was made from."""
    digest, found = "", None
    for revision in sorted(revisions, key=lambda each: int(each["revisionNumber"])):
        said = revision["changeSummary"] or "" if revision["createdByUserId"] == user else ""
        ours = _VERSION.match(said)
        if revision["revisionNumber"] == number:
            found = revision
            break
        digest = ours[1] if ours else digest
    return (found, digest) if found is not None and digest else None


def notes_of(comments: Iterable[Json], documents: Iterable[Json], *, user: str) -> list[Note]:
    """Find our notes: comments with our marker and documents under our keys, written by our account."""
    notes = []
    for comment in comments:
        found = _MARKER.search(comment["body"])
        if found and comment["authorUserId"] == user and not comment["deletedAt"]:
            notes.append(Note(id=found[1], marker=found[1], body=told(comment["body"][: found.start()])))
    for document in documents:
        marker = (document["title"] or "").removeprefix(_NOTE_TITLE)
        if document["key"] == note_key(marker) and document["createdByUserId"] == user:
            notes.append(Note(id=marker, marker=marker, body=told(document["body"])))
    return notes


def comment_of(comments: Iterable[Json], marker: str, *, user: str) -> Json | None:
    """Find the comment that is our note with this marker."""
    for comment in comments:
        if notes_of([comment], [], user=user) and _MARKER.search(comment["body"])[1] == marker:  # type: ignore[index]
            return comment
    return None


def marked(body: str, marker: str) -> str:
    """Write a note as a comment."""
    return f"{kept(body)}\n\n<!-- agentic-os {marker} -->"


def note_key(marker: str) -> str:
    """Name the document of a note: legible, and of the characters that Paperclip allows in keys."""
    key = _NOTE_KEY + "".join(c if re.match(r"[a-z0-9-]", c) else f"_{ord(c):x}" for c in marker)
    return key if len(key) <= _LONGEST_KEY else _NOTE_KEY + hashlib.sha256(marker.encode()).hexdigest()[:40]


def note_to(marker: str, body: str, base: str | None) -> dict[str, Any]:
    """Write a note as a document. base: the revision that it replaces."""
    return document_to(f"{_NOTE_TITLE}{marker}", body, base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A confirmation that we asked for: the gate of one document version, named by its digest."""

    id: str
    digest: str
    pending: bool


def cards_of(interactions: Iterable[Json], *, user: str) -> list[Card]:
    """Find the gates among the interactions of an issue: those that our account made."""
    cards = []
    for each in interactions:
        key = each["idempotencyKey"] or ""
        if (
            each["kind"] != "request_confirmation"
            or each["createdByUserId"] != user
            or not key.startswith(_CARD)
        ):
            continue
        digest = key.removeprefix(_CARD).rpartition(":")[0]
        cards.append(Card(id=each["id"], digest=digest, pending=each["status"] == "pending"))
    return cards


def document_to(title: str, body: str, base: str | None, digest: str = "") -> dict[str, Any]:
    """Write a document. base: the revision that it replaces. digest: of the version that a gate is to show."""
    document: dict[str, Any] = {"title": title, "format": "markdown", "body": kept(body)}
    given = {"baseRevisionId": base, "changeSummary": f"agentic-os {digest}" if digest else None}
    return document | {name: value for name, value in given.items() if value}


def card_to(review: Review, key: str, document: Json, ordinal: int) -> dict[str, Any]:
    """Ask people to accept exactly this revision. ordinal: how many cards of this digest there were before."""
    name = review.title.partition(" · ")[0]
    lines = "\n".join(f"- {verb}: `{line}`" for verb, line in review.directives.items())
    decide = f"Or decide by a comment:\n\n{lines}" if lines else ""
    details = "\n\n".join(part for part in (decide, review.changes, review.answers) if part)
    return {
        "kind": "request_confirmation",
        "idempotencyKey": f"{_CARD}{review.digest}:{ordinal}",
        "resolverPolicy": "human_only",
        # The backend assigns the next attempt, and that is what wakes somebody.
        "continuationPolicy": "none",
        "title": f"{name} awaits its review",
        "payload": {
            "version": 1,
            "prompt": f"Accept exactly {name} ({review.digest[:19]})?",
            "acceptLabel": "Accept",
            "rejectLabel": "Ask for changes",
            "rejectRequiresReason": True,
            "rejectReasonLabel": "What must change? Each item of a list is one item of the review",
            "detailsMarkdown": details[:_LONGEST_DETAILS] or None,
            # A question in a comment, such as /why, must not take the gate away.
            "supersedeOnUserComment": False,
            "target": {
                "type": "issue_document",
                "issueId": document["issueId"],
                "documentId": document["id"],
                "key": key,
                "revisionId": document["latestRevisionId"],
                "revisionNumber": document["latestRevisionNumber"],
            },
        },
    }

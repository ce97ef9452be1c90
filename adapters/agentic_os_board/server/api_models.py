"""What the board's API accepts."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from .accounts import Role
from .agents import Wake
from .fields import (
    AccountId,
    AccountName,
    Attempt,
    Body,
    CommentBody,
    Identifier,
    Labels,
    Line,
    NoteBody,
    Number,
    Priority,
    Strict,
    Title,
    Word,
)

Password = Annotated[str, StringConstraints(min_length=8, max_length=1000)]


class TaskIssue(Strict):
    """The issue that the backend wants for a task."""

    title: Title
    body: Body
    project: Word
    state: Word
    labels: Labels = Field(default_factory=list)
    priority: Priority = ""
    parent: Number | None = None


class NewIssue(Strict):
    """An issue that a person opens."""

    title: Title
    body: Body = ""
    project: Word = ""
    labels: Labels = Field(default_factory=list)


class IssuePatch(Strict):
    """The fields to change; those that are absent stay. A null `closed` reopens, a null `assignee` unassigns.

    A null `parent` makes the issue nobody's child.
    """

    title: Title = ""
    body: Body = ""
    state: Word = ""
    labels: Labels = Field(default_factory=list)
    closed: Literal["completed", "not_planned"] | None = None
    assignee: AccountId | None = None
    priority: Priority = ""
    parent: Number | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return {field: getattr(self, field) for field in self.model_fields_set}


class CommentRequest(Strict):
    """A comment's text."""

    body: CommentBody


class NoteRequest(Strict):
    """A note of the backend and the marker that it is known by."""

    marker: Line
    body: NoteBody


class NoteText(Strict):
    """A note's new text."""

    body: NoteBody


class ReviewRequest(Strict):
    """A gate for one document; directives: verb -> the line that a button posts. answers: to the items of its last.

    editable: a plan as text that people may edit.
    """

    subject: Literal["plan", "result"]
    version: Attempt
    document: Body
    answers: Body = ""
    editable: Body = ""
    directives: Annotated[dict[Word, Annotated[Line, Field(min_length=1)]], Field(max_length=10)]


class Outcome(Strict):
    """How a gate ended."""

    outcome: Literal["approved", "revised", "rejected", "withdrawn"]


class AssignmentRequest(Strict):
    """Who works on the issue, and for which attempt."""

    account: AccountId
    task_id: Identifier
    attempt: Attempt


class ReactionRequest(Strict):
    """What became of a comment."""

    reaction: Literal["seen", "done", "refused"]


class Credentials(Strict):
    """A person's name and password."""

    name: AccountName
    password: Password


class NewPerson(Credentials):
    """A person's new account; admin: another way to say role "admin"."""

    admin: bool = False
    role: Literal["viewer", "member", "admin"] = "member"

    @property
    def granted(self) -> Role:
        """The role that is asked for."""
        return "admin" if self.admin else self.role


class TokenRequest(Strict):
    """What a token is for, in words."""

    name: Annotated[Line, Field(min_length=1)]


class PasswordRequest(Strict):
    """A new password."""

    password: Password


class WakeRequest(Strict):
    """How an agent is woken from now on."""

    wake: Wake


def _distinct(keys: list[str]) -> list[str]:
    return list(dict.fromkeys(keys))


Keys = Annotated[
    list[Annotated[str, StringConstraints(max_length=40)]],
    Field(min_length=1, max_length=100),
    AfterValidator(_distinct),
]

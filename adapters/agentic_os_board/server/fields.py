"""The bounded texts that the board accepts, in its API, its forms and its configuration."""

import re
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def storable(text: str) -> str:
    """Refuse what PostgreSQL or a reader's terminal would choke on."""
    if _UNSTORABLE.search(text):
        raise ValueError("must not hold control characters or lone surrogates")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("must be one line")
    return storable(text.strip())


def _label(text: str) -> str:
    if "," in text or not text:
        raise ValueError("must be a word or two without a comma")
    return text


def _unique(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(labels))


AccountName = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\z")]
Identifier = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}\z")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_one_line)]
Line = Annotated[str, StringConstraints(max_length=500), AfterValidator(_one_line)]
Word = Annotated[str, StringConstraints(max_length=100), AfterValidator(_one_line)]
Label = Annotated[Word, AfterValidator(_label)]
Labels = Annotated[list[Label], Field(max_length=50), AfterValidator(_unique)]
Body = Annotated[str, StringConstraints(max_length=400_000), AfterValidator(storable)]
CommentBody = Annotated[
    str, StringConstraints(max_length=65_536, strip_whitespace=True, min_length=1), AfterValidator(storable)
]
VerdictText = Annotated[str, StringConstraints(max_length=60_000), AfterValidator(storable)]
PlanText = Annotated[str, StringConstraints(max_length=400_000, min_length=1), AfterValidator(storable)]
NoteBody = Annotated[str, StringConstraints(min_length=1, max_length=400_000), AfterValidator(storable)]
Search = Annotated[str, StringConstraints(max_length=200), AfterValidator(_one_line)]
Priority: TypeAlias = Literal["", "low", "medium", "high", "critical"]
AccountId = Annotated[UUID, Field(strict=False)]
Attempt = Annotated[int, Field(ge=1, le=2**31 - 1)]
Number = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Strict(BaseModel):
    """A request whose every field is known and of its exact type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

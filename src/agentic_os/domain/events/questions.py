"""Facts about the questions that executors ask."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agentic_os.domain.documents import Option


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRaised:
    """The executor asks a person. A blocking question closes its attempt: nobody's lease runs while a person thinks."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    question_id: str
    question: str
    context: str
    options: tuple[Option, ...]
    default_option: str | None
    blocking: bool
    answer_deadline: datetime | None
    at: datetime
    type: Literal["escalation.raised"] = "escalation.raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRouted:
    """Rules of policy said who is to answer a question: somebody with this role."""

    question_id: str
    ask: str
    rules: tuple[str, ...]
    type: Literal["escalation.routed"] = "escalation.routed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationAnswered:
    """A question was answered in these words. `defaulted`: by the executor's own default option, and by nobody."""

    question_id: str
    option: str | None
    text: str
    by: str
    defaulted: bool
    type: Literal["escalation.answered"] = "escalation.answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationTimedOut:
    """Nobody answered in time, and no default may stand in for an answer: the question goes on waiting."""

    question_id: str
    type: Literal["escalation.timed_out"] = "escalation.timed_out"

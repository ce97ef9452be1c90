"""What policy says of an attempt that failed or expired, within what it can never loosen."""

from collections.abc import Mapping
from typing import Final, Literal

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.policy import Then
from agentic_os.domain.task import Attempt, Task

AGAIN: Final[frozenset[Then]] = frozenset({"retry", "other_executor", "stronger_tier"})
"""What opens a further attempt by itself, also after a failure that is built in to end the task."""


_MISSED: Final[Mapping[str, str]] = {
    "ack": "It was not acknowledged in time",
    "lease": "Nothing was heard of it in time",
    "unreported": "Its run ended, and it had reported nothing",
}


def missed(attempt: Attempt) -> Literal["ack", "lease", "unreported"]:
    """Say what an attempt that comes to nothing by itself has missed; a run that ended says more than a deadline."""
    if attempt.run_ended is not None:
        return "unreported"
    return "ack" if attempt.state == "offered" else "lease"


def told(end: e.AttemptFailed | e.AttemptExpired) -> str:
    """Say in words how an attempt came to nothing."""
    if isinstance(end, e.AttemptFailed):
        return f"{end.failure}: {end.message}"
    return f"{_MISSED[end.what]}: {end.detail}" if end.detail else f"{_MISSED[end.what]}."


def then(ruling: c.Ruling | None, task: Task, kind: str) -> Then:
    """Say what is done: what policy asks for where that is possible here, else what is built in.

    A plan that was found infeasible is not carried out again, by nobody; and there is something to plan anew only
    where a plan was approved. A policy that could not be evaluated leaves it to a person.
    """
    asked = _asked(ruling)
    if kind == "plan_infeasible" and asked in ("retry", "replan"):
        return "default"
    if asked == "replan" and (task.mode != "plan_first" or task.authorisation is None):
        return "default"
    return asked or "default"


def ruled(ruling: c.Ruling | None, attempt: Attempt, kind: str, done: Then) -> list[e.Event]:
    """Say which rules decided what; nothing where none did."""
    asked = _asked(ruling)
    if ruling is None or asked is None:
        return []
    return [
        e.AttemptRuled(
            attempt=attempt.number,
            executor=attempt.executor,
            kind=kind,
            asked=asked,
            then=done,
            rules=ruling.verdict.rules,
        )
    ]


def left_to_person(ruling: c.Ruling | None, kind: str) -> e.Event:
    """Ask for a person, for the rule's own reason."""
    reasons = ruling.verdict.reasons if ruling else ()
    return e.InputRequired(reason="; ".join(reasons) or f"Policy asks for a person after this end: {kind}.")


def _asked(ruling: c.Ruling | None) -> Then | None:
    if ruling is None:
        return None
    return "person" if ruling.verdict.decision == "deny" else ruling.verdict.then

"""What policy says of an attempt that failed or expired, within what it can never loosen."""

from typing import Final

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.policy import Then
from agentic_os.domain.task import Attempt, Task

AGAIN: Final[frozenset[Then]] = frozenset({"retry", "other_executor", "stronger_tier"})
"""What opens a further attempt by itself, also after a failure that is built in to end the task."""


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

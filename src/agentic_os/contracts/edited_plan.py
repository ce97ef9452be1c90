"""A plan as people edit it: marked text of the version under review, and the plan that it was edited into."""

from typing import Any, Final

from agentic_os.contracts.callback import check_plan
from agentic_os.contracts.canonical import JsonValue
from agentic_os.contracts.marked import NotExpressible, parse_marked, render_marked
from agentic_os.contracts.violation import ContractViolation, SchemaInvalid

MOST_CHARACTERS: Final = 200_000
"""The longest marked text, as the contract has it for executors."""

_ANSWERS: Final = "responds_to"


def editable_text(plan: dict[str, JsonValue], *, task_id: str, attempt: int) -> str:
    """Write a plan for people to edit, without its answers to a review.

    Raises NotExpressible for one that marked text cannot say.
    """
    text = render_marked("plan", task_id, attempt, _without_answers(plan))
    if len(text) > MOST_CHARACTERS:
        raise NotExpressible(f"the plan is longer than {MOST_CHARACTERS} characters as marked text")
    return text


def read_edited(text: str, before: dict[str, JsonValue], *, task_id: str, attempt: int) -> dict[str, Any]:
    """Read what people made of the text of the plan `before`; what they left alone comes back as it was.

    Raises ContractViolation with the line, or the place in the plan; nothing is lost that the text cannot say.
    """
    if len(text) > MOST_CHARACTERS:
        raise ContractViolation(
            "too_large", f"the text has {len(text)} characters; {MOST_CHARACTERS} are allowed", _TEXT
        )
    try:
        editable_text(before, task_id=task_id, attempt=attempt)
    except NotExpressible as problem:
        raise SchemaInvalid(f"{problem}: the plan under review holds what would be lost", *_TEXT) from problem
    try:
        plan = parse_marked(text, kind="plan", task_id=task_id, attempt=attempt)
    except ContractViolation as violation:
        raise ContractViolation(violation.code, violation.message, _TEXT) from None
    # An empty section stands for a list that the plan before did not have.
    plan = {name: value for name, value in plan.items() if value != [] or name in before}
    try:
        check_plan(plan, at="")
    except ContractViolation as violation:
        message = f"the text reads as a plan in which {violation.message}"
        raise ContractViolation(violation.code, message, _TEXT) from None
    return with_answers(plan, before)


def with_answers(plan: dict[str, Any], before: dict[str, JsonValue]) -> dict[str, Any]:
    """Let the answers to a review stand that the plan before gave, where the edited one says nothing of them."""
    return plan if _ANSWERS in plan or _ANSWERS not in before else {**plan, _ANSWERS: before[_ANSWERS]}


_TEXT: Final = ("/marked_text",)


def _without_answers(plan: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in plan.items() if name != _ANSWERS}

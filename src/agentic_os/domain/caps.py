"""The counts that end in a person's hands: a task that was returned or replanned too often goes on only afresh."""

from agentic_os.domain import commands as c
from agentic_os.domain.attempts import REPLAN_CAP
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.reviews import REVISION_CAP, REWORK_CAP
from agentic_os.domain.task import Submission, Task


def passed(task: Task) -> str:
    """Say which cap stopped the task, "" where none did."""
    attempt = task.attempt
    if task.phase != "input_required" or attempt is None:
        return ""

    def returned(submission: Submission | None) -> bool:
        return (
            submission is not None and submission.state == "returned" and submission.attempt == attempt.number
        )

    if task.revisions > REVISION_CAP and returned(task.plan):
        return f"its plan was returned more than {REVISION_CAP} times"
    if task.reworks > REWORK_CAP and returned(task.result):
        return f"its result was returned more than {REWORK_CAP} times"
    if task.replans > REPLAN_CAP and attempt.state == "failed" and task.authorisation is None:
        return f"its plan was found infeasible more than {REPLAN_CAP} times"
    return ""


def refuse_passed(command: c.Retry, task: Task) -> None:
    """Refuse to send a task on under the counts that stopped it. Raises Rejected."""
    if not command.fresh and (cap := passed(task)):
        raise Rejected(
            "replan_cap",
            f"The task waits for a person because {cap}; the next time it would stop here again.",
            next_step="/retry fresh",
        )

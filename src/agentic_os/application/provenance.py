"""Where a task's artifacts come from: the attempt, the step and criterion they serve, and who approved that plan."""

from typing import Any, Final

from agentic_os.application.ports import Moment
from agentic_os.domain.task import Authorisation, Task

_OF_ARTIFACT: Final = ("name", "version", "digest", "size", "media_type")
_OF_PURPOSE: Final = ("step_id", "criterion_id")


class Provenance:
    """Every version of every artifact of a task, gathered from its moments in their order."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []
        self._right: dict[int, Authorisation | None] = {}
        self._author: dict[int, str | None] = {}

    def note(self, moment: Moment) -> None:
        """Take in one moment."""
        event, attempt = moment.event, moment.task.attempt
        if attempt is not None:
            # What it was opened under counts, also for a result that came late and was adopted under a later plan.
            self._right.setdefault(attempt.number, moment.task.authorisation)
            self._author.setdefault(attempt.number, _author_of_plan(moment.task))
        if event.type != "result.submitted":
            return
        number = event.data["attempt"]
        right = self._right.get(number)
        for artifact in event.data["artifacts"]:
            self._found.append(
                {
                    **{name: artifact[name] for name in _OF_ARTIFACT},
                    "attempt": number,
                    **{name: artifact.get(name) for name in _OF_PURPOSE},
                    "result_version": event.data["version"],
                    "plan_version": right.version if right else None,
                    "plan_digest": right.digest if right else None,
                    "plan_author": self._author.get(number),
                    "approved_by": list(right.approvers) if right else [],
                }
            )

    def rows(self) -> list[dict[str, Any]]:
        """List them by name and version."""
        return sorted(self._found, key=lambda row: (row["name"], row["version"]))


def _author_of_plan(task: Task) -> str | None:
    """Say who wrote the plan that is authorised: an executor, or the person who edited it; None without one."""
    return task.plan.author if task.authorisation is not None and task.plan is not None else None

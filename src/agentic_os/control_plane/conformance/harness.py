"""What a tracker must lend to the conformance suite, and what several of its tests need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agentic_os.clock import new_id
from agentic_os.control_plane import Assignment, ControlPlane, IssueDraft, Observation

__all__ = [
    "ROBOT",
    "TEXT",
    "PostedComment",
    "SpentOnIssue",
    "TrackerHarness",
    "new_draft",
    "new_task",
    "observed",
    "read_feed",
]

ROBOT = "robot"
"""The login name of the agent that most tests assign."""

TEXT = """# Čtvrtek, 木曜日, \u202bيوم الخميس\u202c

A *plan* with `code`, a <b>tag</b>, a \\backslash, an &amp; entity, "quotes", a\ttab and e\u0301 beside é.

<!-- a comment of their own -->
```python
def answer() -> str:
    return "🧑\u200d🚀 /approve".split("\\n")  # and \\r\\n
```
{"sealed":"a\\nb \\\\n","as":{"json":"\\r"},"n":1}
| a | b |
|---|---|
| 1 | 2 |

> @somebody: #1, -- and the end"""
"""Markdown with what trackers are known to change: entities, combining characters, comments, fences, tabs, escapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedComment:
    """A comment as the tracker itself stores it, ours or anybody's, its marker included."""

    id: str
    author: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentOnIssue:
    """What the tracker itself says was spent on an issue: whole cents, the rest of one left out, and tokens."""

    cents: int
    input_tokens: int
    output_tokens: int


class TrackerHarness(Protocol):
    """One tracker under test: the plane, the people on it, and the faults of the network between them.

    Written by whoever writes an adapter. A new one is made for each test, and must not show what earlier tests
    left on the tracker in `wakes` and `deliveries`. What cannot be staged on this tracker is skipped from inside,
    by `pytest.skip(reason)`. Account ids are those that observations carry.
    """

    @property
    def plane(self) -> ControlPlane:
        """The control plane under test, connected with the backend's own account."""
        ...

    @property
    def project(self) -> str:
        """A project in which issues may be opened."""
        ...

    @property
    def unknown_key(self) -> str:
        """A well-formed key that no issue has."""
        ...

    @property
    def page_size(self) -> int:
        """The most entries that the tracker puts on one page of any list that the adapter reads."""
        ...

    async def person(self, name: str) -> str:
        """Find or make a person of this login name; return the account id."""
        ...

    async def agent(self, name: str) -> str:
        """Find or make an agent that can be assigned, and that does nothing when woken; return its account id."""
        ...

    async def open_issue(
        self, author: str, title: str, body: str, project: str, labels: Sequence[str]
    ) -> str:
        """Open an issue by hand; return its key."""
        ...

    async def comment(self, key: str, author: str, body: str) -> str:
        """Comment by hand; return the comment's id."""
        ...

    async def edit_comment(self, key: str, comment_id: str, author: str, body: str) -> None:
        """Edit anybody's comment by hand, ours included."""
        ...

    async def delete_comment(self, key: str, comment_id: str, author: str) -> None:
        """Delete anybody's comment by hand, ours included."""
        ...

    async def change_field(self, key: str, author: str, field: str, value: str) -> None:
        """Change a field by hand; field and value are those of FieldChanged."""
        ...

    async def delete_issue(self, key: str, author: str) -> None:
        """Delete an issue by hand."""
        ...

    async def decide_review(
        self, key: str, digest: str, author: str, verdict: Literal["approve", "revise", "reject"]
    ) -> None:
        """Press a button of an open review. Called only where the capability `reviews` is given."""
        ...

    async def edit_plan(self, key: str, digest: str, author: str, text: str) -> None:
        """Edit the plan of an open review by hand. Called only where the capability `plan_edits` is given."""
        ...

    async def report_run(self, key: str, assignment: Assignment, state: Literal["alive", "ended"]) -> None:
        """Let a run of the assigned agent be alive, or end. Called only where the capability `runs` is given."""
        ...

    async def pause(self, account: str, author: str) -> None:
        """Pause an agent by hand. Called, as `resume` is, only where the capability `agents` is given."""
        ...

    async def resume(self, account: str, author: str) -> None:
        """Let a paused agent work again, by hand."""
        ...

    async def spent(self, key: str) -> SpentOnIssue:
        """Read what was spent on an issue, its children left out. Called only where the capability `costs` is given."""
        ...

    async def issues(self) -> Sequence[str]:
        """List the keys of all issues, as a person would who looks at the tracker."""
        ...

    async def comments(self, key: str) -> Sequence[PostedComment]:
        """List all comments of an issue, oldest first, as a person would who looks at the tracker."""
        ...

    async def wakes(self) -> Sequence[Assignment]:
        """Wait until the tracker is quiet, then list whom it woke in this test, and for what, in order."""
        ...

    async def deliveries(self) -> Sequence[tuple[Mapping[str, str], bytes]]:
        """Wait until the tracker is quiet, then list the webhooks that it sent in this test, in order.

        Called, as `sign` is, only where the capability `webhooks` is given.
        """
        ...

    async def sign(self, body: bytes, *, age: float) -> Mapping[str, str]:
        """Make the headers with which the tracker would have sent this body `age` seconds ago."""
        ...

    async def fail_next(self, *, before: bool) -> None:
        """Let the tracker answer 5xx, or not at all, once.

        before: to the next request of any kind, which has no effect; otherwise to the next write, after it
        took effect.
        """
        ...

    async def limit_next(self, seconds: float) -> None:
        """Let the tracker refuse the next request, asking for this much patience."""
        ...

    async def stranger(self) -> ControlPlane:
        """Connect to the same tracker with credentials that it does not accept."""
        ...

    async def restart(self) -> None:
        """Start the tracker anew over what it has stored, and connect `plane` anew."""
        ...


def new_task() -> str:
    """Draw the id of a task that no tracker has seen."""
    return str(new_id())


def new_draft(
    tracker: TrackerHarness, title: str = "Count the beans", body: str = "All of them."
) -> IssueDraft:
    """Draft the issue of a new task."""
    return IssueDraft(
        task_id=new_task(), title=title, body=body, project=tracker.project, state="ready", labels=("beans",)
    )


async def read_feed(plane: ControlPlane, cursor: str = "") -> tuple[list[Observation], str]:
    """Read the feed page by page until one is empty."""
    seen: list[Observation] = []
    while True:
        page, cursor = await plane.observations(cursor)
        if not page:
            return seen, cursor
        seen.extend(page)


async def observed(plane: ControlPlane, key: str, cursor: str) -> list[Observation]:
    """Read what others did to one issue since the cursor."""
    return [seen for seen in (await read_feed(plane, cursor))[0] if seen.key == key]

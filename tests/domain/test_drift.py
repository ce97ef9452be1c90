"""What others change on the issue: adopted, noted, put back, and put back no more when it never ends."""

import pytest
from tests.domain.kit import AUTHORISED, EXECUTING, IN_PLAN_REVIEW, Given, at, fire, given

from agentic_os.domain import commands as c
from agentic_os.domain import drift
from agentic_os.domain import events as e
from agentic_os.domain.documents import OurField, TheirField
from agentic_os.domain.waiting import Deadline, deadlines


def seen(seconds: float, field: OurField = "state", value: str = "done") -> c.SeeDrift:
    """Have a robot change what is ours."""
    return c.SeeDrift(field=field, author="robot", value=value, at=at(seconds))


def edit(field: TheirField, value: str, seconds: float = 500, *, permitted: bool = True) -> c.AdoptField:
    """Have somebody change what is theirs."""
    return c.AdoptField(field=field, value=value, permitted=permitted, at=at(seconds))


def fought() -> Given:
    """Have a robot change the state once more than it is put back within an hour."""
    return given(*EXECUTING, *(seen(400 + n) for n in range(drift.REPAIRS + 1)))


def test_what_is_as_it_should_be_is_no_drift():
    """A change to what the task wants anyway is no event."""
    given(*EXECUTING).when(seen(400, "state", "executing")).nothing()
    given(*EXECUTING).when(seen(400, "closed", "")).nothing()


def test_a_fight_ends_with_a_pause_and_goes_on_after_quiet():
    """After so many repairs the field is left as it is, until nobody touched it for a while."""
    paused = fought()
    until = at(405 + 3600)
    assert not drift.repaired(paused.task, "state")
    assert drift.repaired(paused.task, "closed")
    assert Deadline(kind="repairs", ref="state", at=until) in deadlines(paused.task)
    paused.when(fire("repairs", "state", 405 + 3599)).nothing()
    resumed = paused.and_then(fire("repairs", "state", 405 + 3600))
    assert drift.repaired(resumed.task, "state")
    assert () == resumed.task.drifts
    resumed.when(seen(5000)).then(e.FieldDrifted(field="state", author="robot", value="done", at=at(5000)))


def test_a_pause_is_put_off_by_what_goes_on_and_rarely_recorded():
    """A robot that never stops keeps the pause, with two events an hour and one note."""
    paused = fought()
    paused.when(seen(410)).nothing()
    longer = paused.when(seen(2500)).then(
        e.RepairsPaused(field="state", author="robot", wanted="executing", until=at(6100))
    )
    assert [p.placed_in for p in paused.task.pauses] == [p.placed_in for p in longer.task.pauses]


def test_what_the_task_newly_wants_is_written_once():
    """A pause holds for what was fought about; the next phase is written, and the next change pauses it at once."""
    moved = fought().and_then(c.Cancel(by="rita", reason="enough", at=at(450)))
    assert drift.repaired(moved.task, "state")
    again = moved.and_then(seen(460))
    assert not drift.repaired(again.task, "state")


def test_drift_of_long_ago_does_not_count():
    """Five changes in a day are put back, all of them."""
    task = given(*EXECUTING, *(seen(400 + 1000 * n) for n in range(12))).task
    assert drift.repaired(task, "state")
    assert len(task.drifts) < drift.REPAIRS


def test_an_issue_is_made_again_once():
    """The second deletion within an hour leaves the task without an issue; one deletion is told once."""
    once = given(*EXECUTING, seen(400, "issue", "key-1"))
    once.when(seen(401, "issue", "key-1")).nothing()
    assert drift.repaired(once.task, "issue")
    assert not drift.repaired(once.and_then(seen(402, "issue", "key-2")).task, "issue")


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("title", "Better", "Better"),
        ("labels", "b, a,, a", ("b", "a")),
        ("labels", "", ()),
        ("priority", "high", "high"),
        ("goal", " Do it better. ", "Do it better."),
    ],
)
def test_an_operators_change_is_taken_over(field: TheirField, value: str, kept: object):
    """What an operator wrote is what the task says from then on."""
    assert kept == getattr(given(*EXECUTING, edit(field, value)).task, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", "x" * 301),
        ("title", "two\nlines"),
        ("labels", "x" * 61),
        ("labels", ",".join(map(str, range(51)))),
        ("priority", "urgent"),
        ("goal", " "),
    ],
)
def test_what_a_task_cannot_be_is_noted(field: TheirField, value: str):
    """A value that the task cannot have stays on the tracker, and the history says why."""
    before = given(*EXECUTING)
    after = before.and_then(edit(field, value))
    assert getattr(before.task, field) == getattr(after.task, field)
    assert [field] == [d.field for d in after.task.drifts]


def test_an_agents_changes_are_noted_and_not_for_ever():
    """Who may not steer the task changes nothing of it; a robot's rewriting does not fill the history."""
    edits = [edit("title", f"Title {n}", 500 + n, permitted=False) for n in range(20)]
    task = given(*EXECUTING, *edits).task
    assert given(*EXECUTING).task.title == task.title
    assert drift.REPAIRS == len(task.drifts)


@pytest.mark.parametrize("history", [IN_PLAN_REVIEW, AUTHORISED])
def test_the_goal_of_a_plan_stays(history: tuple[c.Command, ...]):
    """A goal cannot be changed under a plan that answers it."""
    task = given(*history, edit("goal", "Something else.")).task
    assert given(*history).task.goal == task.goal

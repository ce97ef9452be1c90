"""What an issue should look like: one picture of each task, and nothing in it that could be taken for a command."""

from typing import Any

import pytest
from tests.domain.kit import (
    EXECUTING,
    LIVE,
    PHASES,
    REVIEWING,
    START,
    accept,
    ack,
    admit,
    create,
    end_child,
    given,
    item,
    offer,
    request_tasks,
    submit_result,
)

from agentic_os.application.directives import status_line
from agentic_os.application.issue_view import (
    Documents,
    IssueView,
    issue_view,
    outcome_of,
)
from agentic_os.application.permitted import available
from agentic_os.application.ports import DirectiveReceipt
from agentic_os.application.readable import plan_markdown, result_markdown
from agentic_os.application.waits import describe_waits
from agentic_os.domain.directive import parse
from agentic_os.domain.documents import Criterion, Participant
from agentic_os.domain.family import Parentage
from agentic_os.domain.policy import Obligations, RuleSet
from agentic_os.domain.task import Task

PLAN = {
    "summary": "Add it.",
    "steps": [{"id": "s1", "title": "Add the setting", "paths": ["a", "b"], "tools": ["git"], "risk": "low"}],
    "acceptance": [{"criterion_id": "tests", "how": "The suite passes."}],
    "risks": [{"level": "high", "description": "It breaks.", "mitigation": "A test."}],
    "responds_to": [{"item_id": "i1", "how": "Said why."}],
}
RESULT = {"outcome": "success", "summary": "Added.", "changes": ["a.py"], "follow_ups": ["Document it"]}
RESULT_WITH_BYTES = RESULT | {"artifacts": [{"name": "log", "digest": "sha256:" + "e" * 64, "size": 3}]}
ALL_ROLES = frozenset({"viewer", "operator", "reviewer", "admin"})
WANTED = {
    "ready": {"mode"},
    "dispatched": {"mode"},
    "plan_review": {"approve", "revise", "reject"},
    "result_review": {"accept", "rework", "reject"},
    "retry_wait": {"retry", "mode"},
    "dead_letter": {"retry", "mode"},
    "input_required": {"retry", "mode"},
}
BLANK = RuleSet(bundle="sha256:b", rules=())


def view_of(task: Task, **documents: Any) -> IssueView:
    """Draw the issue of a task whose documents are there."""
    held = {"plan": PLAN if task.plan else None, "result": RESULT_WITH_BYTES if task.result else None}
    return issue_view(task, Documents(**(held | documents)), "https://aos.example")


def receipt(number: int = 1, **changes: Any) -> DirectiveReceipt:
    """Make the receipt of a directive that a comment held."""
    fields: dict[str, Any] = {
        "id": f"d{number}",
        "task_id": "t-1",
        "verb": "cancel",
        "text": "/cancel",
        "outcome": "done",
        "message": "",
        "at": START,
        "principal": "rita",
        "control_plane": "board",
        "comment_id": "7",
    }
    return DirectiveReceipt(**(fields | changes))


@pytest.mark.parametrize("phase", PHASES)
def test_an_issue_shows_the_phase_and_is_closed_when_the_task_has_ended(phase: str):
    """The state is the phase; only what is done closes as completed, and other ends as not planned."""
    view = view_of(given(*PHASES[phase]).task)
    expected = None if phase in LIVE else "completed" if phase == "completed" else "not_planned"
    assert (phase, expected) == (view.state, view.closed)
    assert view.status.startswith(f"**{phase}** · The task is {phase}.")


@pytest.mark.parametrize("phase", PHASES)
def test_an_issue_is_assigned_exactly_while_an_attempt_is_open(phase: str):
    """The executor is woken for its attempt, and nobody is when there is nothing to do."""
    view = view_of(given(*PHASES[phase]).task)
    at_work = phase in ("dispatched", "planning", "executing")
    assert (("ada", 1) if at_work else (None, 0)) == (view.assignee, view.attempt)


@pytest.mark.parametrize(("phase", "verb"), [("plan_review", "approve"), ("result_review", "accept")])
def test_a_review_is_open_exactly_while_something_is_under_review(phase: str, verb: str):
    """What is to be decided is shown with the lines that decide it, and each of them is read as that."""
    view = view_of(given(*PHASES[phase]).task)
    assert view.review is not None
    subject = phase.removesuffix("_review")
    for directive, line in view.review.directives.items():
        (read,) = parse(line)
        assert (subject, 1) == (read.subject, read.version)
        assert view.review.digest.removeprefix("sha256:").startswith(read.digest)
        assert directive != "approve" or verb == read.verb
    assert [f"gate:{view.review.digest}"] == [marker for marker, _ in view.notes]
    others = [name for name in PHASES if name not in ("plan_review", "result_review")]
    assert {None} == {view_of(given(*PHASES[name]).task).review for name in others}


def test_a_gate_shows_the_whole_plan():
    """A reviewer sees steps with their scope, criteria, risks and answers without following a link."""
    view = view_of(given(*PHASES["plan_review"]).task)
    shown = dict(view.notes)[f"gate:{view.review.digest}"]
    for words in (
        "1. `s1` Add the setting (paths: a, b; tools: git; risk: low)",
        "- `tests` The suite passes.",
        "- (high) It breaks. Mitigation: A test.",
        "→ Said why.",
        "- approve: `/approve v1@aaaaaaaa`",
    ):
        assert words in shown


def test_a_plan_and_a_result_of_the_least_are_shown():
    """What a document leaves out leaves no empty heading."""
    assert "Do.\n\n**Steps**\n\n1. `a` A" == plan_markdown(
        {"summary": "Do.", "steps": [{"id": "a", "title": "A"}], "acceptance": []}
    )
    assert "Done. (outcome: no_change)" == result_markdown({"summary": "Done.", "outcome": "no_change"})


def test_the_end_shows_the_evidence_of_each_criterion_and_the_artifacts():
    """The last note has what was delivered, and which criteria were shown to be met at which rank."""
    criteria = (Criterion(id="tests", text="They | pass"),)
    history = (create(acceptance=criteria), admit(), offer(), ack(), submit_result(), accept())
    ((marker, note),) = view_of(given(*history).task).notes
    assert "end:completed" == marker
    assert "| `tests` They \\| pass | none |  |" in note
    assert f"- [log](https://aos.example/api/artifacts/sha256:{'e' * 64}) (3 bytes)" in note


def test_refusals_and_answers_are_written_once_each_oldest_first():
    """Each refused directive of a comment and each answer to a question is a note; what came another way is none."""
    receipts = [
        receipt(4, verb="help", message="- `/status`"),
        receipt(3, outcome="refused", message="No.", paste="/approve v1@aaaaaaaa"),
        receipt(2, outcome="refused", message="Why?", control_plane=None),
        receipt(1, outcome="refused", message="Who?"),
    ]
    notes = view_of(given(*EXECUTING).task, receipts=receipts).notes
    assert ["refused:d1", "refused:d3", "answer:d4"] == [marker for marker, _ in notes]
    assert "Write: `/approve v1@aaaaaaaa`" in dict(notes)["refused:d3"]


@pytest.mark.parametrize("text", ["a | b", "`code`", "/cancel\n| x | y |", "", "x" * 500, "\\|"])
def test_a_directive_cannot_break_the_table_of_directives(text: str):
    """Whatever was written, its row stays one row of three cells."""
    status = view_of(
        given(*EXECUTING).task, receipts=[receipt(text=text, outcome="refused", message=text)]
    ).status
    rows = [line for line in status.splitlines() if line.startswith("| `")]
    assert 1 == len(rows)
    assert 4 == len(rows[0].replace("\\|", "").split("|")) - 1
    assert len(rows[0]) < 400


ADDING = "(governance/organisation.yaml, agentic-os executor add)"


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        (["task:t-2"], "task t-2 to be completed"),
        (["task:t-2", "task:t-3"], "tasks t-2, t-3 to be completed"),
        (["capacity:ada", "capacity:bob"], "ada or bob to have a free hand"),
        (["executor"], "an executor that may take it (agentic-os executor add)"),
        (
            ["executor", "lacking:capability:gpu", "lacking:capability:x:y", "lacking:tier:2"],
            f"an executor that may take it with the capabilities gpu and x:y, and tier 2 or higher {ADDING}",
        ),
        (["capacity:ada", "executor"], "ada to have a free hand"),
    ],
)
def test_a_ready_task_says_what_it_waits_for(waits: list[str], expected: str):
    """What holds the dispatch up is told in words: all of the tasks, or any of the executors."""
    assert f"It waits for {expected}." in view_of(given(*PHASES["ready"]).task, waits=waits).status
    assert expected == describe_waits(waits)


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_that_we_write_is_read_as_a_directive(phase: str):
    """Whatever of ours a tracker might hand back to us as a comment decides nothing."""
    task = given(*PHASES[phase]).task
    view = view_of(task, receipts=[receipt(outcome="refused", message="No.", paste="/cancel")])
    assert [] == [d for text in (view.status, *(note for _, note in view.notes)) for d in parse(text)]


@pytest.mark.parametrize("phase", PHASES)
def test_help_lists_what_may_be_done_now_and_no_more(phase: str):
    """Each directive that the phase takes is listed, and an approval with the very line that approves."""
    task = given(*PHASES[phase]).task
    everything = available(task, Participant(id="root", kind="person", roles=ALL_ROLES), BLANK)
    lines = [line.split("`")[1] for line in everything.splitlines() if line.startswith("- `/")]
    wanted = WANTED.get(phase, set()) | {"help", "status", "why"}
    wanted |= {"cancel", "reassign", "hold", "priority", "note"} if phase in LIVE else set()
    assert wanted == {parse(line)[0].verb for line in lines}
    accepting = [parse(line)[0] for line in lines if line.startswith(("/approve", "/accept"))]
    assert all(directive.digest for directive in accepting)
    assert "" == available(task, Participant(id="nobody", kind="person"), BLANK)


@pytest.mark.parametrize("phase", PHASES)
def test_the_status_names_who_comes_next(phase: str):
    """One sentence says where the task is, and for a live one who must do what, by when."""
    line = status_line(given(*PHASES[phase]).task)
    assert line.startswith(f"The task is {phase}.")
    assert (phase in LIVE) == (" Next: " in line)


def test_a_lease_that_moves_with_every_callback_is_no_instant_in_a_note():
    """While somebody is at work, or reviews, no time is named; the deadline of an offer and of a gate is."""
    assert "UTC" not in status_line(given(*EXECUTING).task)
    assert "UTC" not in status_line(given(*REVIEWING).task)
    assert "UTC" in status_line(given(*PHASES["dispatched"]).task)
    assert "UTC" in status_line(given(*PHASES["plan_review"]).task)


def test_the_end_of_a_review_is_told_in_the_words_of_the_port():
    """Each way in which a review ends has its word."""
    words = {
        "completed": "approved",
        "rejected": "rejected",
        "result_review": "withdrawn",
    }
    assert words == {phase: outcome_of(given(*PHASES[phase]).task.result) for phase in words}
    returned = given(*PHASES["result_review"], accept(vote="revise", items=("x",))).task.result
    assert ("revised", "withdrawn") == (outcome_of(returned), outcome_of(None))


def test_the_status_note_shows_the_family():
    """Whose child the task is, where each of its own children stands, and which were refused, and why."""
    parent = Parentage(id="t-0", ref="part", depth=1, obligations=Obligations())
    working = given(create(parent=parent), admit(), offer(), ack())
    asked = request_tasks(item("one"), item("two"), item("three"), denied=("three",))
    status = view_of(working.and_then(asked, end_child("one", "failed")).task).status
    assert "It is a child (`part`) of task t-0." in status
    assert (
        "- `one` One: failed (c-one)\n- `two` Two: open (c-two)\n- `three` Three: refused. because" in status
    )
    assert "Children" not in view_of(given(*EXECUTING).task).status


def test_a_plan_shows_the_tasks_that_its_approval_creates():
    """Each with its scope, goal and criteria; a long goal is cut, and says so."""
    criteria = [{"id": "a", "text": "It\nruns"}, {"id": "b", "text": "It stops"}]
    asked = item(
        "one",
        role="qa",
        paths=["src/**"],
        depends_on=["two"],
        goal="Try\nit. " + "x" * 1000,
        acceptance=criteria,
    )
    shown = plan_markdown(PLAN | {"tasks": [asked, item("two", goal="G")]})
    assert "- `one` One (role: qa; paths: src/**; depends_on: two)\n  Goal: Try it. xxx" in shown
    assert "x...\n  Accepted when: It runs; It stops\n- `two` Two\n  Goal: G\n" in shown
    assert "Tasks" not in plan_markdown(PLAN)

"""A person's edit of the plan under review is its next version: reviewed anew, and by others where policy says so."""

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tests.domain.kit import (
    EXECUTING_PLAN,
    IN_PLAN_REVIEW,
    OMAR,
    PLAN_FOR_AGENTS,
    REVIEWING,
    RITA,
    Step,
    ack,
    admit,
    cast,
    create,
    digest,
    edit_plan,
    given,
    offer,
    person,
    review,
    ruling,
    submit_plan,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.agent_reviews import wanted
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import Participant
from agentic_os.domain.evolution import fold
from agentic_os.domain.policy import Reviewers
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Submission, Task

VERA = person("vera", "viewer")
FOUR_EYES: tuple[Step, ...] = (
    create(),
    admit(mode="plan_first", independent_human=True),
    offer(),
    ack(),
    submit_plan(),
)


def plan_after(*steps: Step) -> Submission:
    """Give the plan that a history leads to."""
    plan = given(*steps).task.plan
    assert plan is not None
    return plan


def test_an_edit_is_the_next_version_by_that_person_of_the_executor_s_plan():
    """The version counts on, names both, knows what it replaces, and spends none of the revisions."""
    before, after = plan_after(*IN_PLAN_REVIEW), plan_after(*IN_PLAN_REVIEW, edit_plan())
    assert (2, digest("b"), "open", "ada", "rita") == (
        after.version,
        after.digest,
        after.state,
        after.executor,
        after.author,
    )
    assert after.replaces == before.submitted_in < after.submitted_in
    assert 0 == given(*IN_PLAN_REVIEW, edit_plan()).task.revisions


def test_what_is_approved_and_executed_is_the_edited_plan():
    """The authorisation binds the edited digest, and a vote on the version before is refused."""
    edited = (*IN_PLAN_REVIEW, edit_plan())
    given(*edited).when(cast(voter=OMAR)).refused("digest_mismatch")
    task = given(*edited, cast(version=2, content="b")).task
    assert (digest("b"), 2) == (task.authorisation.digest, task.authorisation.version)
    assert "execute" == task.next_step


def test_approvals_of_the_version_before_count_no_longer():
    """After an edit, as many approvals are missing as before anybody had voted; who had may approve again."""
    two = (create(), admit(mode="plan_first", reviewers=Reviewers(quorum=2)), offer(), ack(), submit_plan())
    edited = given(*two, cast(voter=OMAR), edit_plan())
    assert 2 == edited.task.missing_approvals
    again = edited.and_then(cast(voter=OMAR, version=2, content="b"))
    assert ("omar",) == again.task.plan.approvals
    assert "plan_review" == again.task.phase


def test_an_edit_begins_at_the_first_stage():
    """What the second stage of a review edits, the first must see."""
    staged = (
        create(),
        admit(mode="plan_first", stages=(Reviewers(role="admin"),)),
        offer(),
        ack(),
        submit_plan(),
        cast(voter=OMAR),
    )
    assert 1 == plan_after(*staged).stage
    assert 0 == plan_after(*staged, edit_plan()).stage


def test_an_agent_that_reviews_is_called_back_and_another_review_is_wanted():
    """An open review attempt is superseded, its vote is refused, and the new version may be reviewed by an agent."""
    fenced, edited = decide(edit_plan(), given(*REVIEWING).task)
    assert e.AttemptSuperseded(attempt=2, reason="the plan was edited") == fenced
    assert isinstance(edited, e.PlanEdited)
    after = given(*REVIEWING, edit_plan())
    after.when(review()).refused("attempt_superseded")
    assert wanted(after.task) == after.task.plan


def test_the_lineage_neither_edits_nor_approves_what_was_edited():
    """The executor whose plan it was stays barred, as an executor and under a person's name, and so do its like."""
    ada = person("ada", "reviewer", "operator")
    given(*IN_PLAN_REVIEW).when(edit_plan(by=ada)).refused("self_review")
    after = given(*IN_PLAN_REVIEW, edit_plan())
    after.when(cast(voter=ada, version=2, content="b")).refused("self_review")
    robot = Participant(id="bob", kind="executor", roles=frozenset({"reviewer"}))
    given(*IN_PLAN_REVIEW).when(edit_plan(by=robot)).refused("not_permitted")


@pytest.mark.parametrize("role", ["operator", "reviewer"])
def test_an_operator_or_a_reviewer_edits(role: str):
    """Either role is enough, and none is not."""
    given(*IN_PLAN_REVIEW).and_then(edit_plan(by=person("olga", role)))
    given(*IN_PLAN_REVIEW).when(edit_plan(by=VERA)).refused("not_permitted")


def test_who_edited_may_approve_unless_policy_asks_for_four_eyes():
    """Under independent_human whoever edited any version of the task's plan decides on none, and others do."""
    given(*IN_PLAN_REVIEW, edit_plan(), cast(version=2, content="b"))
    edited = given(*FOUR_EYES, edit_plan())
    refusal = edited.when(cast(version=2, content="b")).refused("self_review")
    assert "you edited the plan" in refusal.message
    twice = edited.and_then(edit_plan("h", replaces="b", by=OMAR))
    for editor in (RITA, OMAR):
        twice.when(cast(voter=editor, version=3, content="h")).refused("self_review")
    twice.and_then(cast(voter=person("otto", "reviewer"), version=3, content="h"))


def test_who_edited_under_four_eyes_decides_on_no_later_plan_either():
    """Sent back and planned anew, the plan still has the editor's work in it."""
    again = given(
        *FOUR_EYES,
        edit_plan(),
        cast("revise", voter=OMAR, version=2, content="b", items=("one",)),
        offer(2, seconds=70),
        ack(attempt=2, seconds=71),
        submit_plan("h", answers=frozenset({"i1"}), attempt=2, seconds=72),
    )
    again.when(cast(version=3, content="h")).refused("self_review")


def test_an_edit_names_the_version_under_review_and_changes_it():
    """Another digest, the same plan, and a plan that is not under review are each refused as what they are."""
    given(*IN_PLAN_REVIEW).when(edit_plan(replaces="h")).refused("digest_mismatch")
    given(*IN_PLAN_REVIEW).when(edit_plan("a")).refused("plan_unchanged")
    given(*EXECUTING_PLAN).when(edit_plan()).refused("wrong_phase")
    # Of two who edit the same version, the second is told; nothing is overwritten unseen.
    given(*IN_PLAN_REVIEW, edit_plan(by=OMAR)).when(edit_plan("h")).refused("digest_mismatch")
    given(*IN_PLAN_REVIEW, edit_plan(by=OMAR)).when(edit_plan()).refused("digest_mismatch")


def test_an_edit_keeps_to_the_task_s_scope():
    """Paths, tools and children are held to what the task may, with the place."""
    history = (create(paths=("src/**",), tools=("py*",)), *IN_PLAN_REVIEW[1:])
    for name, value, code in (
        ("paths", "docs/a.md", "scope_denied"),
        ("tools", "curl", "tool_denied"),
    ):
        steps = [{"id": "s1", "title": "Do", name: [value]}]
        refusal = given(*history).when(edit_plan(plan={"steps": steps})).refused(code)
        assert (f"/body/steps/0/{name}/0",) == refusal.pointers
    asked = {"tasks": [{"ref": f"r{n}", "title": "T", "goal": "G", "acceptance": []} for n in range(200)]}
    given(*history).when(edit_plan(plan=asked)).refused("scope_denied")


def test_policy_is_asked_as_of_any_plan():
    """It may refuse the edit, and may ask more of it than of the version before."""
    denied = ruling("plan.submitted", "deny")
    given(*IN_PLAN_REVIEW).when(edit_plan(ruling=denied)).refused("policy_denied")
    stricter = ruling("plan.submitted", reviewers=Reviewers(quorum=2))
    after = given(*IN_PLAN_REVIEW, edit_plan(ruling=stricter))
    assert 2 == after.task.missing_approvals


def test_what_people_wished_and_reviewers_asked_stays():
    """A default that was switched off stays off, and the answers to a review stay answers."""
    proceeding = (
        create(),
        admit(mode="plan_first", deadline_seconds=600, on_timeout="proceed"),
        offer(),
        ack(),
        submit_plan(),
        c.SwitchOffDefault(by="omar", reason="/default off"),
    )
    assert plan_after(*proceeding, edit_plan()).default_off
    answered = (
        *IN_PLAN_REVIEW,
        cast("revise", items=("one",)),
        offer(2, seconds=70),
        ack(attempt=2, seconds=71),
        submit_plan("h", answers=frozenset({"i1"}), attempt=2, seconds=72),
    )
    after = given(*answered, edit_plan(replaces="h"))
    assert ("one",) == tuple(item.text for item in after.task.plan.answers_to)
    assert () == after.task.items


def test_an_edited_plan_goes_back_to_an_executor_as_any():
    """A revision of what was edited is asked of an executor, who answers its items."""
    back = given(*IN_PLAN_REVIEW, edit_plan(), cast("revise", version=2, content="b", items=("one",)))
    assert ("ready", 1) == (back.task.phase, back.task.revisions)
    back.and_then(
        offer(2, seconds=70),
        ack(attempt=2, seconds=71),
        submit_plan("h", answers=frozenset({"i1"}), attempt=2, seconds=72),
    )


def test_agents_asked_before_an_edit_are_asked_again():
    """The review of an edited plan by executors begins with none passed over."""
    left = (*PLAN_FOR_AGENTS, c.EscalateReview(version=1, reason="Nobody."))
    assert wanted(given(*left).task) is None
    assert wanted(given(*left, edit_plan()).task) is not None


WHO = (
    RITA,
    OMAR,
    person("otto", "reviewer", owns=frozenset({"ada"})),
    person("ada", "reviewer", "operator"),
    VERA,
)
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["edit", "edit", "approve", "approve", "revise", "plan"]),
        st.sampled_from(WHO),
        st.sampled_from("abh"),
    ),
    max_size=12,
)


@settings(max_examples=300)
@drawn(moves=MOVES, four_eyes=st.booleans(), quorum=st.sampled_from([1, 2]))
def test_no_order_of_edits_and_votes_lets_an_author_approve(
    moves: list[tuple[str, Participant, str]],
    four_eyes: bool,  # noqa: FBT001 - drawn
    quorum: int,
):
    """Neither the lineage nor, under four eyes, any editor approves, and only what was approved is authorised."""
    reviewers = Reviewers(quorum=quorum)
    task = given(
        create(),
        admit(mode="plan_first", independent_human=four_eyes, reviewers=reviewers),
        offer(),
        ack(),
        submit_plan(),
    ).task
    editors: set[str] = set()
    for number, (move, who, content) in enumerate(moves, 1):
        for command in _moved(task, move, who, content, number):
            try:
                events = decide(command, task)
            except Rejected:
                break
            for event in events:
                if isinstance(event, e.PlanEdited):
                    assert event.author in {"rita", "omar", "otto"}
                    editors.add(event.author)
                if isinstance(event, e.PlanVoted):
                    assert "ada" != event.voter
                    assert not four_eyes or event.voter not in editors | {"otto"}
                if isinstance(event, e.PlanApproved):
                    assert event.digest == task.plan.digest
                    assert quorum <= len(set(event.approvers))
            task = fold(events, task)


def _moved(task: Task, move: str, who: Participant, content: str, number: int) -> list[c.Command]:
    """Say what somebody does with the plan as it is now."""
    plan = task.plan
    assert plan is not None
    if move == "edit":
        return [edit_plan(content, replaces=plan.digest[-1], by=who)]
    if move == "plan":
        attempt, seconds = (task.attempt.number if task.attempt else 0) + 1, 100 * number
        answers = frozenset(item.id for item in task.items)
        return [
            offer(attempt, seconds=seconds),
            ack(attempt=attempt, seconds=seconds + 1),
            submit_plan(content, answers=answers, attempt=attempt, seconds=seconds + 2),
        ]
    items = ("one",) if move == "revise" else ()
    return [cast(move, voter=who, version=plan.version, content=plan.digest[-1], items=items)]

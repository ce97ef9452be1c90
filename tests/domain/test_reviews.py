"""The gates: who may decide on what, and how exactly they must name it."""

from dataclasses import replace

import pytest
from tests.domain.kit import (
    AUTHORISED,
    BUNDLE,
    EXECUTING,
    EXECUTING_PLAN,
    IN_PLAN_REVIEW,
    OMAR,
    PHASES,
    PLANNED,
    RITA,
    accept,
    ack,
    admit,
    at,
    cast,
    create,
    digest,
    fail,
    fire,
    given,
    offer,
    person,
    reviewed_by,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.documents import Artifact, Criterion, Evidence, Participant
from agentic_os.domain.reviews import REVISION_CAP, REWORK_CAP
from agentic_os.domain.waiting import waiting_for

REVIEWED_TWICE = (
    *IN_PLAN_REVIEW,
    cast("revise", items=("one",)),
    offer(2, "bob"),
    ack(attempt=2, executor="bob"),
    submit_plan("d", frozenset({"i1"}), attempt=2, executor="bob", seconds=100),
)
"""Version 2 of a plan is under review: ada wrote the first, bob this one."""


def executor(name: str, *roles: str) -> Participant:
    """Make an executor that holds every role, so that only what it is can bar it."""
    return Participant(id=name, kind="executor", roles=frozenset({"reviewer", "operator", "admin", *roles}))


def evidence(criterion: str, rank: str = "observed", status: str = "pass") -> Evidence:
    """Make evidence at its true rank."""
    return Evidence(criterion_id=criterion, rank=rank, claimed=rank, status=status)


# What an approval must name


@pytest.mark.parametrize(
    ("version", "content"),
    [(1, "a"), (1, "d"), (2, "a"), (3, "d"), (None, "a"), (1, None), (3, None)],
)
def test_an_approval_of_anything_but_what_is_under_review_is_refused(
    version: int | None, content: str | None
):
    """An old version or another digest approves nothing, and the answer says what would."""
    vote = cast(version=version, content=content, seconds=200)
    refusal = given(*REVIEWED_TWICE).when(vote).refused("digest_mismatch")
    assert "/approve v2@dddddddd" == refusal.next


@pytest.mark.parametrize("content", ["d" * 8, "d" * 64, "sha256:" + "d" * 64])
def test_a_digest_may_be_named_in_full_or_by_its_beginning(content: str):
    """Eight characters of the digest are enough to name it."""
    vote = c.CastVote(
        subject="plan", voter=RITA, vote="approve", words="", version=None, digest=content, seen_at=at(0)
    )
    assert "ready" == given(*REVIEWED_TWICE, vote).task.phase


@pytest.mark.parametrize("content", ["", "d", "ddddddd", "D" * 64, "sha256:"])
def test_a_digest_of_too_few_characters_names_nothing(content: str):
    """What could name many plans, or is written in another way, is refused like a wrong digest."""
    vote = c.CastVote(
        subject="plan", voter=RITA, vote="approve", words="", version=2, digest=content, seen_at=at(200)
    )
    given(*REVIEWED_TWICE).when(vote).refused("digest_mismatch")


@pytest.mark.parametrize("version", [None, 1])
def test_an_approval_without_a_digest_is_refused_where_policy_says_so(version: int | None):
    """Where bare approvals do not count, the refusal gives the line that would."""
    vote = cast(version=version, content=None)
    refusal = given(*reviewed_by(bare_approve=False)).when(vote).refused("confirmation_required")
    assert "/approve v1@aaaaaaaa" == refusal.next


@pytest.mark.parametrize("seconds", [0, 20])
def test_an_approval_that_was_written_before_the_plan_does_not_count_for_it(seconds: float):
    """A bare approval counts only when its author wrote it after the submission."""
    vote = cast(version=None, content=None, seconds=seconds)
    given(*reviewed_by()).when(vote).refused("confirmation_required")


def test_an_approval_that_names_the_digest_may_be_older_than_the_submission_as_clocks_differ():
    """Whoever names the digest has seen it, whatever the tracker's clock says."""
    assert "ready" == given(*reviewed_by(), cast(seconds=0)).task.phase


@pytest.mark.parametrize(
    ("history", "vote"), [(EXECUTING, cast()), (IN_PLAN_REVIEW, accept()), (AUTHORISED, accept())]
)
def test_nothing_can_be_approved_that_is_not_under_review(history: tuple, vote: c.CastVote):
    """A vote on a plan or result that nobody handed in is refused."""
    given(*history).when(vote).refused("wrong_phase")


def test_an_approval_does_not_reopen_a_plan_that_was_decided():
    """Once a plan was returned, its approval by somebody else comes too late."""
    given(*IN_PLAN_REVIEW, cast("revise", items=("one",))).when(cast(voter=OMAR)).refused("wrong_phase")
    given(*AUTHORISED).when(cast(voter=OMAR)).refused("wrong_phase")


# Who may decide


@pytest.mark.parametrize("vote", ["approve", "revise", "reject"])
@pytest.mark.parametrize("author", ["ada", "bob"])
def test_nobody_of_the_authors_lineage_decides_on_its_work(author: str, vote: str):
    """Neither the plan's author nor an executor of an earlier attempt may vote on it, whatever its roles."""
    ballot = cast(vote, version=2, content="d", voter=executor(author), items=("x",))
    given(*REVIEWED_TWICE).when(ballot).refused("self_review")


@pytest.mark.parametrize("author", ["ada", "bob"])
def test_a_lineage_is_barred_under_another_kind_too(author: str):
    """An identity that worked on the task may not vote, even if it were registered as a person."""
    ballot = cast(version=2, content="d", voter=person(author, "reviewer"))
    given(*REVIEWED_TWICE).when(ballot).refused("self_review")


def test_an_executor_that_let_its_attempt_lapse_is_of_the_lineage():
    """Having been given the brief is enough: an attempt that expired still counts."""
    history = (
        *PLANNED,
        offer(),
        fire("ack", "1", 300),
        fire("retry", "1", 310),
        offer(2, "bob", seconds=310),
    )
    history += (
        ack(attempt=2, executor="bob", seconds=311),
        submit_plan(attempt=2, executor="bob", seconds=312),
    )
    given(*history).when(cast(voter=executor("ada"), seconds=400)).refused("self_review")


def test_an_executor_that_declined_is_not_of_the_lineage():
    """Whoever gave the attempt back did not work on the task, and is only barred for being no person."""
    history = (
        *PLANNED,
        offer(),
        c.Decline(executor="ada", attempt=1, seq=1, callback_id="x", at=at(1), reason="busy"),
    )
    history += (offer(2, "bob"), ack(attempt=2, executor="bob"), submit_plan(attempt=2, executor="bob"))
    given(*history).when(cast(voter=executor("ada"))).refused("not_permitted")


@pytest.mark.parametrize("kind", ["executor", "system"])
def test_only_people_decide(kind: str):
    """The vote of a stranger that is no person does not count, whatever its roles."""
    voter = Participant(id="stranger", kind=kind, roles=frozenset({"reviewer", "admin"}))
    given(*IN_PLAN_REVIEW).when(cast(voter=voter)).refused("not_permitted")


def test_a_person_without_the_role_that_policy_names_may_not_decide():
    """The role asked for is needed, and another is not enough."""
    given(*IN_PLAN_REVIEW).when(cast(voter=person("vera", "operator"))).refused("not_permitted")
    given(*reviewed_by("admin")).when(cast()).refused("not_permitted")
    assert "ready" == given(*reviewed_by("admin"), cast(voter=person("root", "admin"))).task.phase


def test_the_owner_of_an_executor_may_approve_its_work_unless_policy_asks_for_four_eyes():
    """A team of one can work; with an independent human asked for, the owner is barred and another person is not."""
    owner = person("otto", "reviewer", owns=frozenset({"ada"}))
    assert "ready" == given(*reviewed_by(), cast(voter=owner)).task.phase
    strict = given(*reviewed_by(independent_human=True))
    strict.when(cast(voter=owner)).refused("self_review")
    assert "ready" == strict.and_then(cast()).task.phase


def test_four_eyes_bar_the_owner_of_any_executor_of_the_lineage():
    """Owning an executor that only held an earlier attempt bars its owner too."""
    history = (create(), admit(mode="plan_first", independent_human=True), *REVIEWED_TWICE[2:])
    owner = person("otto", "reviewer", owns=frozenset({"ada"}))
    given(*history).when(cast(version=2, content="d", voter=owner)).refused("self_review")


def test_the_same_rules_hold_for_results():
    """A result is decided on by people with the role, outside the lineage, who name it."""
    under_review = given(*PHASES["result_review"])
    under_review.when(accept(voter=executor("ada"))).refused("self_review")
    under_review.when(accept(voter=executor("bob"))).refused("not_permitted")
    under_review.when(accept(voter=person("vera"))).refused("not_permitted")
    under_review.when(accept(version=2)).refused("digest_mismatch")
    under_review.when(accept(content="d")).refused("digest_mismatch")


def test_an_approver_may_not_execute_what_they_approved():
    """Whoever's approval is in the authorisation is never offered the work."""
    given(*AUTHORISED).when(offer(2, "rita")).refused("self_review")


# How many


@pytest.mark.parametrize(
    "second", [cast(), cast(version=None, content=None), cast(content=None), cast(version=None)]
)
def test_a_person_who_approves_twice_counts_once(second: c.CastVote):
    """With a quorum of two, one person cannot make it up, whatever form the second approval has."""
    history = (*reviewed_by(quorum=2), cast(version=None, content=None))
    given(*history).when(second).nothing()
    assert "plan_review" == given(*history, second).task.phase


def test_a_quorum_of_two_needs_two_people():
    """The second person's approval opens the gate, and both are in the authorisation."""
    first = (
        given(*reviewed_by(quorum=2))
        .when(cast())
        .then(e.PlanVoted(version=1, digest=digest("a"), voter="rita", vote="approve", words="/approve"))
    )
    assert "1 approval(s) of plan version 1: /approve v1@aaaaaaaa" == waiting_for(first.task).what
    second = first.and_then(cast(voter=OMAR))
    assert ("ready", ("rita", "omar")) == (second.task.phase, second.task.authorisation.approvers)


def test_votes_do_not_carry_over_to_the_next_version():
    """An approval of one version counts nothing for the next."""
    history = (
        *reviewed_by(quorum=2),
        cast(),
        cast("revise", voter=OMAR, items=("one",)),
        *REVIEWED_TWICE[6:],
    )
    assert "plan_review" == given(*history, cast(version=2, content="d", voter=OMAR)).task.phase


@pytest.mark.parametrize("vote", ["revise", "reject"])
def test_the_first_revise_or_reject_decides_whatever_the_quorum(vote: str):
    """One reviewer's no is enough."""
    ballot = cast(vote, items=("one",) if vote == "revise" else ())
    expected = "ready" if vote == "revise" else "rejected"
    assert expected == given(*reviewed_by(quorum=3), cast(voter=OMAR), ballot).task.phase


# Revisions


def test_a_revision_must_say_what_to_change():
    """A revise or rework without an item is refused."""
    given(*IN_PLAN_REVIEW).when(cast("revise")).refused("items_required")
    given(*PHASES["result_review"]).when(accept(vote="revise")).refused("items_required")


def test_the_next_plan_must_answer_every_item():
    """A plan that leaves an item of the review unanswered is refused, and told which."""
    history = (*IN_PLAN_REVIEW, cast("revise", items=("one", "two")), offer(2), ack(attempt=2))
    for answers, missing in (
        (frozenset(), "2 have no answer: i1 (one); i2 (two)"),
        (frozenset({"i2", "zz"}), "1 have no answer: i1 (one)"),
    ):
        refusal = (
            given(*history).when(submit_plan("d", answers, attempt=2)).refused("review_items_unanswered")
        )
        assert (f"Of 2 review items, {missing}.", ("/body/responds_to",)) == (
            refusal.message,
            refusal.pointers,
        )
    answered = submit_plan("d", frozenset({"i1", "i2"}), attempt=2)
    assert () == given(*history, answered).task.items


def test_the_next_result_must_answer_every_item():
    """Rework is held to its items as a plan is, also by another executor."""
    history = (*PHASES["result_review"], accept(vote="revise", items=("one",)), offer(2, "bob"))
    history += (ack(attempt=2, executor="bob"),)
    who = {"attempt": 2, "executor": "bob"}
    given(*history).when(submit_result("d", **who)).refused("review_items_unanswered")
    assert "result_review" == given(*history, submit_result("d", answers=frozenset({"i1"}), **who)).task.phase


def test_a_revision_with_other_items_is_no_repetition():
    """Items that come when the plan was returned already are refused, and not silently lost."""
    returned = given(*IN_PLAN_REVIEW, cast("revise", items=("one",)))
    returned.when(cast("revise", items=("two",))).refused("wrong_phase")
    returned.when(cast("revise", items=("one",), voter=OMAR)).nothing()


def test_the_same_plan_again_is_refused():
    """A plan equal to the last one is no answer to a review."""
    history = (*IN_PLAN_REVIEW, cast("revise", items=("one",)), offer(2), ack(attempt=2))
    given(*history).when(submit_plan("a", frozenset({"i1"}), attempt=2)).refused("plan_unchanged")


def test_revisions_end_with_a_person_and_never_with_an_acceptance():
    """The revision beyond the cap hands the task to a person, who may send it on afresh."""
    history = IN_PLAN_REVIEW
    for number in range(1, REVISION_CAP + 2):
        assert "plan_review" == given(*history).task.phase
        content = "a" if number == 1 else f"{number}"
        history = (*history, cast("revise", version=number, content=content, items=(f"item {number}",)))
        if number <= REVISION_CAP:
            who = {"attempt": number + 1, "seconds": 20}
            history += (offer(number + 1), ack(attempt=number + 1))
            history += (submit_plan(f"{number + 1}", frozenset({"i1"}), **who),)
    task = given(*history).task
    assert ("input_required", None) == (task.phase, task.authorisation)
    again = given(*history, c.Retry(by="rita", reason="go on", fresh=True)).task
    assert ("ready", "plan", 0) == (again.phase, again.next_step, again.revisions)


def test_reworks_end_with_a_person():
    """The rework beyond the cap hands the task to a person."""
    history = EXECUTING
    for number in range(1, REWORK_CAP + 2):
        answers = frozenset({"i1"}) if number > 1 else frozenset()
        history += (submit_result(f"{number}", attempt=number, answers=answers),)
        history += (accept(vote="revise", version=number, content=f"{number}", items=("again",)),)
        if number <= REWORK_CAP:
            history += (offer(number + 1), ack(attempt=number + 1))
    assert "input_required" == given(*history).task.phase


# Authorisation


def test_a_plan_attempt_cannot_hand_in_a_result():
    """Nothing counts as executed before the plan is approved."""
    refusal = given(*PHASES["planning"]).when(submit_result()).refused("plan_unapproved")
    assert "Send a plan." == refusal.next


def test_a_result_without_an_authorisation_is_refused():
    """Even an attempt to execute needs a live authorisation where a plan is asked for."""
    history = (*PLANNED, e.AttemptOffered(**_offered(step="execute")), ack())
    assert (None, "executing") == (given(*history).task.authorisation, given(*history).task.phase)
    given(*history).when(submit_result()).refused("plan_unapproved")


def _offered(step: str) -> dict:
    command = offer()
    return {
        "attempt": 1,
        "executor": "ada",
        "step": step,
        "brief": {},
        "brief_digest": command.brief_digest,
        "bundle": BUNDLE,
        "ack_deadline": command.ack_deadline,
        "lease_seconds": command.lease_seconds,
    }


def test_an_attempt_to_execute_cannot_hand_in_a_plan():
    """Another plan in the middle of the execution is not what was authorised."""
    given(*EXECUTING_PLAN).when(submit_plan("d", attempt=2)).refused("wrong_phase")


def test_the_authorisation_covers_retries_and_reworks():
    """A failed attempt and a returned result leave the approved plan in force."""
    retried = given(*EXECUTING_PLAN, fail(attempt=2), fire("retry", "2", 30)).task
    assert ("execute", digest("a")) == (retried.next_step, retried.authorisation.digest)
    reworked = given(*EXECUTING_PLAN, submit_result(attempt=2), accept(vote="revise", items=("one",))).task
    assert ("execute", digest("a")) == (reworked.next_step, reworked.authorisation.digest)


def test_the_authorisation_ends_with_a_replan_a_cancel_and_completion():
    """Nothing is authorised any more once the plan failed, the task was called off, or it is done."""
    assert ("plan", None) == _right(given(*EXECUTING_PLAN, fail("plan_infeasible", attempt=2)).task)
    assert None is given(*EXECUTING_PLAN, c.Cancel(by="rita", reason="")).task.authorisation
    assert None is given(*EXECUTING_PLAN, submit_result(attempt=2), accept()).task.authorisation


def _right(task: object) -> tuple:
    return task.next_step, task.authorisation


def test_an_approval_of_the_plan_that_failed_authorises_nothing():
    """Approving the infeasible plan once more is no way around the next review."""
    replanned = given(*EXECUTING_PLAN, fail("plan_infeasible", attempt=2))
    replanned.when(cast()).nothing()
    replanned.when(cast(voter=OMAR)).refused("wrong_phase")


# What completes a task


CRITERIA = (Criterion(id="tests", text="Tests pass"), Criterion(id="docs", text="Documented"))


@pytest.mark.parametrize(
    ("held", "phase"),
    [
        ((), "result_review"),
        ((evidence("tests"),), "result_review"),
        ((evidence("tests"), evidence("docs", status="fail")), "result_review"),
        ((evidence("tests"), evidence("docs", status="inconclusive")), "result_review"),
        ((evidence("tests"), evidence("docs", rank="self_reported")), "completed"),
        ((evidence("tests", rank="self_reported"), evidence("docs")), "result_review"),
        ((evidence("tests", rank="independent"), evidence("docs")), "completed"),
    ],
)
def test_a_result_completes_by_itself_only_with_evidence_at_the_rank_of_each_criterion(
    held: tuple, phase: str
):
    """Every criterion needs passing evidence of the rank that policy asks for; else a person decides."""
    history = (create(acceptance=CRITERIA), admit(evidence={"tests": "observed"}), offer(), ack())
    assert phase == given(*history, submit_result(evidence=held)).task.phase


def test_evidence_asked_of_all_criteria_holds_for_each():
    """The star stands for every criterion, and the stricter demand wins."""
    asked = {"*": "observed", "docs": "self_reported"}
    task = given(create(acceptance=CRITERIA), admit(evidence=asked)).task
    assert ["observed", "observed"] == [criterion.rank for criterion in task.acceptance]


def test_evidence_of_an_earlier_attempt_does_not_count_for_the_next():
    """What was shown for an earlier execution says nothing of the next one."""
    history = (create(acceptance=CRITERIA[:1]), admit(), offer(), ack())
    shown = c.AddEvidence(
        executor="ada", attempt=1, seq=2, callback_id="e", at=at(20), generation=1, evidence=evidence("tests")
    )
    assert "completed" == given(*history, shown, submit_result(seq=3)).task.phase
    again = (shown, fail(seq=3), fire("retry", "1", 30), offer(2), ack(attempt=2))
    assert "result_review" == given(*history, *again, submit_result(attempt=2)).task.phase


def test_a_partial_result_never_completes_by_itself():
    """A partial outcome waits for a person, even where no review is asked for."""
    history = (create(), admit(), offer(), ack())
    assert "result_review" == given(*history, submit_result(outcome="partial")).task.phase
    assert "completed" == given(*history, submit_result(outcome="no_change")).task.phase


def test_the_same_artifact_name_again_is_the_next_version():
    """Artifacts are numbered by name over all results, and none takes another's number."""

    def artifact(name: str) -> Artifact:
        return Artifact(name=name, version=1, media_type="text/plain", digest=digest("e"), size=1)

    first = submit_result(artifacts=(artifact("log"), artifact("log"), artifact("report")))
    history = (*EXECUTING, first, accept(vote="revise", items=("one",)), offer(2), ack(attempt=2))
    second = submit_result("d", attempt=2, artifacts=(artifact("log"),), answers=frozenset({"i1"}))
    assert {"log": 3, "report": 1} == given(*history, second).task.artifacts


LEADS = frozenset({"tech-lead"})


@pytest.mark.parametrize(
    ("roles", "binding"),
    [
        (("reviewer", "tech-lead"), LEADS),
        (("reviewer",), frozenset()),
        (("reviewer",), frozenset({"designer"})),
    ],
)
def test_a_role_of_executors_alone_needs_only_the_right_to_review(
    roles: tuple[str, ...], binding: frozenset[str]
):
    """A person who may review and holds the role counts, and so does any who may where no people hold it."""
    voter = replace(person("rita", *roles), binding=binding)
    assert "ready" == given(*reviewed_by(role="tech-lead"), cast(voter=voter)).task.phase


@pytest.mark.parametrize(("held", "missing"), [("reviewer", "tech-lead"), ("tech-lead", "reviewer")])
def test_a_role_that_people_hold_needs_the_role_and_the_right_to_review(held: str, missing: str):
    """Where the organisation gives the role to people, a vote needs both, and the refusal says what is missing."""
    voter = replace(person("rita", held), binding=LEADS)
    refusal = given(*reviewed_by(role="tech-lead")).when(cast(voter=voter)).refused("not_permitted")
    assert f"Ask somebody with the role {missing}." == refusal.next

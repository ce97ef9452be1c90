"""Evidence: the true rank of a claim, and what a source's word does to it."""

from dataclasses import replace

import pytest
from tests.domain.kit import (
    BRIEF_DIGEST,
    SKILLS,
    ack,
    admit,
    attest,
    create,
    digest,
    fail,
    fire,
    given,
    offer,
    quarantine,
    sender,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain.documents import Criterion, Evidence
from agentic_os.domain.evidence import NOTHING, Held, effective, true_rank, unmet

TESTS = Criterion(id="tests", text="They pass.", rank="independent")
EXECUTING = (create(acceptance=(TESTS,)), admit(), offer(), ack())
WAITING = (*EXECUTING, submit_result())
OWN = Evidence(criterion_id="tests", rank="observed", claimed="independent", status="pass")
BYTES, RUN = digest("a"), digest("b")
ALL = Held(
    digests=frozenset({BYTES}),
    commands=frozenset({RUN}),
    checkpoint=True,
    capable=True,
    traced=True,
    in_sync=True,
)
BEHIND = {
    "CHECKPOINT_OK": Held(checkpoint=True),
    "CAPABILITY_OK": Held(capable=True),
    "TRACE_OK": Held(traced=True),
    "SYNC_OK": Held(in_sync=True),
}


def ranked(held: Held, marker: str | None = None, claimed: str = "observed") -> str:
    """Rank a claim that names bytes and a command."""
    return true_rank(claimed, held, artifact=BYTES, command_digest=RUN, marker=marker)


@pytest.mark.parametrize("marker", BEHIND)
def test_a_lifecycle_marker_needs_the_fact_behind_it(marker: str):
    """Its own fact makes it observed, and all that is held beside that fact does not."""
    assert "observed" == ranked(BEHIND[marker], marker)
    assert "observed" == ranked(ALL, marker, "independent")
    names = {
        "CHECKPOINT_OK": "checkpoint",
        "CAPABILITY_OK": "capable",
        "TRACE_OK": "traced",
        "SYNC_OK": "in_sync",
    }
    assert "self_reported" == ranked(replace(ALL, **{names[marker]: False}), marker)


@pytest.mark.parametrize("marker", [None, "TEST_OK", "BUILD_OK", "LINT_OK"])
def test_what_was_run_needs_bytes_or_a_tool_event(marker: str | None):
    """Either one is enough, and no other fact is."""
    assert "observed" == ranked(Held(digests=frozenset({BYTES})), marker)
    assert "observed" == ranked(Held(commands=frozenset({RUN})), marker)
    assert "self_reported" == ranked(replace(ALL, digests=frozenset(), commands=frozenset()), marker)
    assert "self_reported" == ranked(NOTHING, marker)


def test_a_review_is_nobodys_own_to_report():
    """REVIEW_OK of an executor is its own word, whatever is held."""
    assert "self_reported" == ranked(ALL, "REVIEW_OK", "independent")


def test_nothing_is_raised_above_the_claim_nor_to_independent():
    """A claim of one's own word stays so, and no executor's claim becomes independent."""
    assert "self_reported" == ranked(ALL, claimed="self_reported")
    assert "observed" == ranked(ALL, claimed="independent")
    assert "self_reported" == true_rank("observed", ALL, artifact=None, command_digest=None)


def test_skills_are_capable_only_where_there_are_some():
    """An ack with the digest of no skills shows no capability, one with the expected skills does."""
    assert given(*EXECUTING).task.attempt.capable
    none = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    bare = replace(ack(BRIEF_DIGEST, none), expected_skillset=none)
    assert none != SKILLS
    assert not given(create(), admit(), offer(), bare).task.attempt.capable


def test_what_a_source_says_counts_before_the_executors_word():
    """A pass of the executor neither hides a failure that CI attested, nor lowers its pass, whichever came last."""
    for status, missing in (("fail", ("tests",)), ("pass", ())):
        said = given(*EXECUTING, attest(status), submit_result(evidence=(OWN,)))
        assert missing == unmet(said.task)
        assert ("independent", status) == (
            effective(said.task)["tests"].rank,
            effective(said.task)["tests"].status,
        )
    assert (
        OWN
        == effective(given(*EXECUTING, attest("inconclusive"), submit_result(evidence=(OWN,))).task)["tests"]
    )


def test_a_failure_of_one_source_outweighs_a_pass_of_another():
    """Nothing completes while any source says that it failed, and its own later pass takes that back."""
    failing = given(*WAITING, attest("fail", "lab"), attest("pass", "ci"))
    assert ("result_review", ("tests",)) == (failing.task.phase, unmet(failing.task))
    assert "completed" == failing.and_then(attest("pass", "lab")).task.phase


def test_a_result_that_was_attested_before_completes_when_it_comes():
    """What was attested while the work was done counts for its result."""
    assert "completed" == given(*EXECUTING, attest(), submit_result()).task.phase


def test_a_later_failure_overrides_an_earlier_pass():
    """A source may change its mind, and the last word of each counts."""
    said = given(*EXECUTING, attest("pass"), attest("fail"), submit_result()).task
    assert ("result_review", "fail") == (said.phase, effective(said)["tests"].status)


def test_evidence_alone_never_takes_the_place_of_a_review():
    """Where policy asks for a review, or the result is partial, independent evidence completes nothing."""
    asked = given(
        create(acceptance=(TESTS,)), admit(result_review=True), offer(), ack(), submit_result(), attest()
    )
    partial = given(*EXECUTING, submit_result(outcome="partial"), attest())
    assert ("result_review", "result_review") == (asked.task.phase, partial.task.phase)
    assert () == unmet(asked.task) == unmet(partial.task)


def test_what_was_said_of_one_attempt_does_not_count_for_another():
    """A new attempt at the work, and late work that is adopted, begin without what was attested before."""
    again = given(*EXECUTING, attest(), fail(), fire("retry", "1", 30), offer(2))
    assert () == again.task.attested
    late = (*EXECUTING, fire("lease", "1", 910), quarantine(), fire("retry", "1", 999), offer(2, seconds=999))
    working = given(*late, ack(attempt=2, seconds=1000), attest(seconds=1001))
    adopted = working.and_then(c.Adopt(quarantine_id="q", by="rita", reason="r", late=submit_result()))
    assert ("result_review", ()) == (adopted.task.phase, adopted.task.attested)


def test_only_the_result_under_review_can_be_named():
    """An attestation of another digest, or of any before there is a result, is refused with its place."""
    for history in (WAITING, EXECUTING):
        refusal = given(*history).when(attest(subject_digest=digest("d"))).refused("digest_mismatch")
        assert ("/subject_digest",) == refusal.pointers


def test_an_unknown_criterion_is_refused():
    """What the task does not ask for cannot be attested."""
    refusal = given(*WAITING).when(attest(criterion_id="other")).refused("unknown_criterion")
    assert ("/criterion_id",) == refusal.pointers


@pytest.mark.parametrize(
    "history",
    [EXECUTING[:2], EXECUTING[:3], (*EXECUTING, fail()), (*EXECUTING, c.Cancel(by="rita", reason=""))],
    ids=["ready", "dispatched", "retry_wait", "cancelled"],
)
def test_nothing_is_attested_before_or_after_the_work(history: tuple[c.Command, ...]):
    """Outside of execution and the review of its result an attestation is refused."""
    given(*history).when(attest()).refused("wrong_phase")


def test_an_executor_that_is_not_at_work_is_not_fenced_off():
    """Fencing off takes the attempt of exactly this executor, and only while it is open."""
    fence = c.FenceOff(executor="ada", reason="It was revoked.")
    given(*EXECUTING).when(replace(fence, executor="bob")).nothing()
    given(*WAITING).when(fence).nothing()
    fenced = given(*EXECUTING).and_then(fence)
    fenced.when(c.Heartbeat(**sender(seconds=30))).refused("attempt_superseded")

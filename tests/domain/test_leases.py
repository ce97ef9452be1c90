"""Leases that move without a callback: after an outage, and by what is seen of runs."""

from dataclasses import replace

import pytest
from tests.domain.kit import (
    DIRECT,
    EXECUTING,
    ack,
    at,
    fire,
    given,
    heartbeat,
    offer,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.waiting import Deadline, deadlines, waiting_for

OFFERED = (*DIRECT, offer())


def outage(since: float, until: float, attempt: int = 1) -> c.ExtendLease:
    """Nobody served in between."""
    return c.ExtendLease(attempt=attempt, since=at(since), at=at(until))


def seen(seconds: float, *, alive: bool = True, heard: float | None = None, attempt: int = 1) -> c.SeeRun:
    """See the run then; hear of it at once, or later."""
    return c.SeeRun(
        attempt=attempt, alive=alive, seen_at=at(seconds), at=at(seconds if heard is None else heard)
    )


def test_a_lease_that_lapsed_unheard_gets_one_more():
    """After an outage the executor is heard again, and has until the end of a whole lease."""
    extended = given(*EXECUTING, outage(900, 5000))
    assert (Deadline(kind="lease", ref="1", at=at(5900)),) == deadlines(extended.task)
    extended.when(fire("lease", "1", 5000)).nothing()
    assert "result_review" == extended.and_then(submit_result(seconds=5100)).task.phase


def test_an_offer_that_lapsed_unheard_can_still_be_taken():
    """The time for the acknowledgement is extended alike."""
    extended = given(*OFFERED, outage(200, 5000))
    assert (Deadline(kind="ack", ref="1", at=at(5900)),) == deadlines(extended.task)
    assert "executing" == extended.and_then(ack(seconds=5100)).task.phase


def test_a_second_outage_gives_none():
    """One attempt gets one lease more, however often nobody served; even after it was heard in between."""
    given(*EXECUTING, outage(900, 5000)).when(outage(5800, 9000)).nothing()
    heard = (*EXECUTING, outage(900, 5000), heartbeat(seconds=5100))
    given(*heard).when(outage(5500, 9000)).nothing()


@pytest.mark.parametrize(("since", "until"), [(911, 5000), (0, 909)], ids=["before it", "after it"])
def test_what_did_not_lapse_in_the_outage_is_not_extended(since: float, until: float):
    """A lease that somebody watched lapse, or that has not lapsed, stays as it is."""
    given(*EXECUTING).when(outage(since, until)).nothing()


def test_the_outage_of_another_attempt_gives_nothing():
    """Only the attempt that is named, and only while it is open."""
    given(*EXECUTING).when(outage(0, 5000, attempt=2)).nothing()
    given(*EXECUTING, submit_result()).when(outage(0, 5000)).nothing()


def test_a_run_that_lives_renews_the_lease_now_and_then():
    """A lease moves by what is seen of the run, but not more often than each third of it."""
    given(*EXECUTING).when(seen(300)).nothing()
    renewed = (
        given(*EXECUTING)
        .when(seen(310))
        .then(e.LeaseRenewedByRun(attempt=1, lease_expires_at=at(1210), seen_at=at(310)))
    )
    renewed.when(seen(400)).nothing()
    renewed.when(fire("lease", "1", 910)).nothing()


@pytest.mark.parametrize(
    ("history", "command"),
    [
        (OFFERED, seen(100)),
        (EXECUTING, seen(500, attempt=2)),
        ((*EXECUTING, submit_result()), seen(500)),
        (EXECUTING, seen(910)),
        ((*EXECUTING, seen(400, alive=False)), seen(390, heard=420)),
    ],
    ids=["not taken yet", "another attempt", "closed", "lapsed", "seen before its end"],
)
def test_a_run_renews_nothing_else(history: tuple[c.Command, ...], command: c.SeeRun):
    """What is seen authorises nothing: it takes no offer, opens nothing, and revives nothing."""
    given(*history).when(command).nothing()


def test_an_ended_run_leaves_time_for_its_last_words():
    """Once the run is over, what is silent expires within a minute, and what is on its way is still heard."""
    ended = given(*EXECUTING, seen(100, alive=False, heard=110))
    assert (Deadline(kind="lease", ref="1", at=at(170)),) == deadlines(ended.task)
    assert "retry_wait" == ended.and_then(fire("lease", "1", 170)).task.phase
    assert "result_review" == ended.and_then(submit_result(seconds=169)).task.phase
    heard = ended.and_then(heartbeat(seconds=120))
    assert at(180) == heard.task.attempt.lease_expires_at
    ended.when(seen(150, alive=False)).nothing()


def test_an_ended_run_never_makes_a_lease_longer():
    """A lease with less than a minute left keeps what it has."""
    assert at(910) == given(*EXECUTING, seen(900, alive=False)).task.attempt.lease_expires_at


def test_who_starts_again_has_a_whole_lease():
    """A new acknowledgement, or a run seen alive later, puts the end of the earlier run behind."""
    ended = (*EXECUTING, seen(100, alive=False))
    assert at(1020) == given(*ended, ack(seq=2, seconds=120)).task.attempt.lease_expires_at
    assert at(1030) == given(*ended, seen(130)).task.attempt.lease_expires_at


def test_a_run_that_ends_without_a_report_has_a_class_of_its_own():
    """Its end and the end of its log are told, in the event and in what the task waits for; exit 0 is no success."""
    detail = "exit code 0. Its log ends:\nI am done."
    ended = given(*EXECUTING, replace(seen(100, alive=False), detail=detail))
    assert detail == ended.task.attempt.run_detail
    expired = ended.when(fire("lease", "1", 160)).then(
        e.AttemptExpired(attempt=1, what="unreported", retry_at=at(170), detail=detail)
    )
    waits = waiting_for(expired.task)
    assert waits is not None
    assert waits.what.endswith(
        "Its run ended, and it had reported nothing: exit code 0. Its log ends: I am done."
    )
    assert (
        ""
        == expired.and_then(
            fire("retry", "1", 170), offer(2, seconds=171), ack(attempt=2, seconds=172)
        ).task.setback
    )


def test_a_run_that_ends_before_it_took_the_offer_is_not_waited_for():
    """Who never acknowledged is given a minute more, and not the whole time for it; who does, has a lease."""
    ended = given(*OFFERED, replace(seen(20, alive=False), detail="exit code 1"))
    assert (Deadline(kind="ack", ref="1", at=at(80)),) == deadlines(ended.task)
    ended.when(fire("ack", "1", 80)).then(
        e.AttemptExpired(attempt=1, what="unreported", retry_at=at(90), detail="exit code 1")
    )
    assert "executing" == ended.and_then(ack(seconds=70)).task.phase
    assert None is ended.and_then(ack(seconds=70)).task.attempt.run_ended

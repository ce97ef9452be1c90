"""Operators, executors and timers in any order: what must hold of every history."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kit import BRIEF_DIGEST, RITA, RUNTIME, SKILLS, START, at, digest, person, verdict
from ledger import Ledger

from agentic_os.application.ports import Envelope
from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import Budget, Criterion, Evidence, Participant, Usage
from agentic_os.domain.policy import Reviewers
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import ENDS, Task, fold
from agentic_os.domain.waiting import deadlines, waiting_for
from agentic_os.postgres.codec import decode_payload, decode_task, encode_event, encode_task

EXECUTORS = ("ada", "bob", "eve")
PEOPLE = (RITA, person("otto", "reviewer", owns=frozenset({"ada"})), person("vera"), person("bob", "reviewer"))
"""One of them has the name of an executor, as if somebody had registered it twice."""
AGENTS = tuple(Participant(id=n, kind="executor", roles=frozenset({"reviewer"})) for n in EXECUTORS)
FAILURES = ("transient", "tool", "plan_infeasible", "budget")
ENVELOPE = Envelope(actor="somebody", at=START)
who = st.sampled_from(EXECUTORS)
rarely = st.integers(0, 9).map(lambda number: number == 0)


class AnyOrder(RuleBasedStateMachine):
    """A task between people, executors and timers who know little of each other."""

    @initialize(
        mode=st.sampled_from(["direct", "plan_first", "plan_first"]),
        quorum=st.sampled_from([1, 1, 2]),
        risk=st.sampled_from(["low", "high"]),
        on_timeout=st.sampled_from(["block", "proceed"]),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    )
    def begin(self, mode: str, quorum: int, risk: str, on_timeout: str, flags: tuple[bool, ...]) -> None:
        """Create a task, under obligations of any kind."""
        self.task: Task | None = None
        self.stored: list[str] = []
        self.now = 0.0
        self.calls = 0
        self.ledger = Ledger(people=frozenset(p.id for p in PEOPLE), quorum=quorum)
        criteria = (Criterion(id="tests", text="Pass"),) if flags[0] else ()
        budget = Budget(attempts=6 if flags[1] else None)
        self.verdict = verdict(
            mode=mode,
            reviewers=Reviewers(quorum=quorum),
            deadline_seconds=600,
            on_timeout=on_timeout,
            result_review=flags[2],
            bare_approve=flags[3],
            evidence={"tests": "observed"},
        )
        created = c.CreateTask(
            task_id="t-1",
            title="T",
            goal="G",
            project="p",
            requester="rita",
            at=START,
            acceptance=criteria,
            risk=risk,
            budget=budget,
        )
        self._do(created)

    def _do(self, command: c.Command) -> None:
        """Put a command, and put it again: what it changed it changes once."""
        try:
            decided = decide(command, self.task)
        except Rejected:
            return
        for event in decided:
            self.ledger.enter(event)
            self.stored.append(encode_event(event, UUID(int=len(self.stored)), ENVELOPE))
            assert event == decode_payload(self.stored[-1])
        self.task = fold(decided, self.task)
        assert [] == decide(command, self.task)

    def _sender(self, executor: str, *, stale: bool) -> dict:
        """Call back for the current attempt, or with a fence, token or order that is out of date."""
        attempt = self.task.attempt
        number, generation, seq = (attempt.number, attempt.generation, attempt.seq) if attempt else (1, 1, 0)
        self.calls += 1
        return {
            "executor": executor if stale or attempt is None else attempt.executor,
            "attempt": max(number - stale * (self.calls % 2), 1),
            "generation": generation - stale * (self.calls % 3 > 0),
            "seq": seq + (1 if not stale else self.calls % 2),
            "callback_id": f"call-{self.calls}",
            "at": at(self.now),
            "usage": Usage(tool_calls=1) if self.calls % 5 == 0 else None,
        }

    @rule()
    def admit(self) -> None:
        """Policy lets the task in."""
        self._do(c.AdmitTask(verdict=self.verdict, facts_digest="sha256:f"))

    @rule(executor=st.sampled_from([*EXECUTORS, "rita"]), skipped=rarely, denied=rarely)
    def offer(self, executor: str, skipped: bool, denied: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """The dispatcher opens an attempt, sometimes out of order or under a denial."""
        self._do(
            c.OfferAttempt(
                attempt=(self.task.attempt.number if self.task.attempt else 0) + 1 + skipped,
                executor=executor,
                brief={},
                brief_digest=BRIEF_DIGEST,
                verdict=verdict("dispatch", "deny" if denied else "allow"),
                facts_digest="sha256:f",
                ack_deadline=at(self.now + 60),
                lease_seconds=120,
            )
        )

    @rule(executor=who, stale=rarely, drifted=rarely)
    def acknowledge(self, executor: str, stale: bool, drifted: bool) -> None:  # noqa: FBT001
        """An executor takes the attempt."""
        self._do(
            c.Acknowledge(
                **self._sender(executor, stale=stale),
                brief_digest=BRIEF_DIGEST,
                skillset_digest="sha256:drifted" if drifted else SKILLS,
                expected_skillset=SKILLS,
                runtime=RUNTIME,
            )
        )

    @rule(executor=who, stale=rarely, reason=st.sampled_from(["busy", "unsafe"]))
    def decline(self, executor: str, stale: bool, reason: str) -> None:  # noqa: FBT001
        """An executor gives the attempt back."""
        self._do(c.Decline(**self._sender(executor, stale=stale), reason=reason))

    @rule(executor=who, stale=rarely, kind=st.sampled_from(["heartbeat", "progress", "evidence", "record"]))
    def report(self, executor: str, stale: bool, kind: str) -> None:  # noqa: FBT001
        """An executor says how it goes."""
        sent = self._sender(executor, stale=stale)
        shown = Evidence(criterion_id="tests", rank="observed", claimed="observed", status="pass")
        match kind:
            case "heartbeat":
                self._do(c.Heartbeat(**sent))
            case "progress":
                self._do(c.ReportProgress(**sent, message="m"))
            case "evidence":
                self._do(c.AddEvidence(**sent, evidence=shown))
            case _:
                self._do(c.Record(**sent, kind="review", body={"verdict": "approve"}))

    @rule(executor=who, stale=rarely, content=st.sampled_from("abc"), silent=rarely)
    def submit_plan(self, executor: str, stale: bool, content: str, silent: bool) -> None:  # noqa: FBT001
        """An executor hands in a plan, sometimes the last one again, sometimes without answers."""
        answers = frozenset() if silent else frozenset(item.id for item in self.task.items)
        sent = self._sender(executor, stale=stale)
        self._do(c.SubmitPlan(**sent, digest=digest(content), plan={"summary": content}, answers=answers))

    @rule(executor=who, stale=rarely, partial=rarely)
    def submit_result(self, executor: str, stale: bool, partial: bool) -> None:  # noqa: FBT001
        """An executor hands in a result."""
        self._do(
            c.SubmitResult(
                **self._sender(executor, stale=stale),
                digest=digest("d"),
                outcome="partial" if partial else "success",
                result={},
                answers=frozenset(item.id for item in self.task.items),
            )
        )

    @rule(executor=who, stale=rarely, failure=st.sampled_from(FAILURES), retryable=rarely.map(lambda rare: not rare))
    def fail(self, executor: str, stale: bool, failure: str, retryable: bool) -> None:  # noqa: FBT001
        """An executor gives up."""
        sent = self._sender(executor, stale=stale)
        self._do(c.ReportFailure(**sent, failure=failure, message="m", retryable=retryable))

    @rule(
        voter=st.sampled_from(PEOPLE + AGENTS),
        subject=st.sampled_from(["plan", "result"]),
        vote=st.sampled_from(["approve"] * 6 + ["revise", "reject"]),
        named=st.sampled_from(["all", "all", "nothing", "version", "other"]),
    )
    def vote(self, voter: Participant, subject: str, vote: str, named: str) -> None:
        """Somebody votes, naming what is there, nothing, or something else."""
        submission = self.task.plan if subject == "plan" else self.task.result
        content = submission.digest.removeprefix("sha256:") if submission else "a" * 64
        self._do(
            c.CastVote(
                subject=subject,
                voter=voter,
                vote=vote,
                words="words",
                version=submission.version if submission and named in ("all", "version") else None,
                digest={"all": content, "other": "0" * 64}.get(named),
                seen_at=at(self.now),
                items=("change it",) if vote == "revise" else (),
                item_ids=("i1",) if vote == "revise" else (),
                bundle="sha256:b",
            )
        )

    @rule(seconds=st.sampled_from([1, 15, 70, 130, 700]), overdue=st.booleans())
    def time_passes(self, seconds: float, overdue: bool) -> None:  # noqa: FBT001
        """Time goes by, and the deadlines that have come fire, or their timer is late."""
        self.now += seconds
        for deadline in deadlines(self.task):
            if overdue and deadline.at <= at(self.now):
                self._do(c.FireDeadline(kind=deadline.kind, ref=deadline.ref, at=at(self.now)))

    @rule(kind=st.sampled_from(["ack", "lease", "retry", "review"]), ref=st.sampled_from(["1", "2", "plan:1"]))
    def a_stale_timer_fires(self, kind: str, ref: str) -> None:
        """A timer fires for what may be long gone."""
        self._do(c.FireDeadline(kind=kind, ref=ref, at=at(self.now)))

    @rule(fresh=st.booleans())
    def retry(self, fresh: bool) -> None:  # noqa: FBT001
        """An operator sends the task on."""
        self._do(c.Retry(by="rita", reason="", fresh=fresh))

    @rule(assignee=st.sampled_from([None, "role:writer", *EXECUTORS]))
    def reassign(self, assignee: str | None) -> None:
        """An operator gives the task to somebody else."""
        self._do(c.Reassign(assignee=assignee, reason=""))

    @precondition(lambda self: len(self.stored) > 12)
    @rule(sure=rarely)
    def cancel(self, sure: bool) -> None:  # noqa: FBT001
        """An operator calls the task off, which is rare."""
        if sure:
            self._do(c.Cancel(by="rita", reason=""))

    @rule(kind=st.sampled_from(["plan", "result"]), attempt=st.integers(1, 2))
    def quarantine(self, kind: str, attempt: int) -> None:
        """A late plan or result is kept aside."""
        self._do(
            c.Quarantine(
                quarantine_id="q",
                attempt=attempt,
                callback_id="c",
                kind=kind,
                reason="lease_lost",
                body={},
                at=at(self.now),
            )
        )

    @rule()
    def ask_for_input(self) -> None:
        """The dispatcher finds nobody."""
        self._do(c.RequireInput(reason="Nobody."))

    @invariant()
    def the_state_is_the_fold_of_what_is_stored(self) -> None:
        """Reading the stored events again gives the same task, byte for byte, with the same deadlines."""
        read: list[e.Event] = [decode_payload(payload) for payload in self.stored]
        again = fold(read)
        assert self.task == again
        assert len(self.stored) == (again.version if again else 0)
        if again is not None:
            assert encode_task(self.task) == encode_task(again)
            assert again == decode_task(encode_task(again))
            assert deadlines(self.task) == deadlines(again)

    @invariant()
    def a_live_task_waits_for_somebody(self) -> None:
        """Exactly what has not ended says what moves it forward next."""
        if self.task is not None:
            assert (self.task.phase in ENDS) == (waiting_for(self.task) is None) == self.ledger.ended

    @invariant()
    def the_ledger_agrees(self) -> None:
        """The independent reading sees the same open attempt, lineage and authorisation."""
        if self.task is None:
            return
        attempt = self.task.attempt
        assert self.ledger.open == (attempt.number if attempt and attempt.is_open else None)
        assert frozenset(self.ledger.held.values()) == self.task.lineage
        if not self.ledger.ended:
            authorisation = self.task.authorisation
            assert self.ledger.authorised == (authorisation.digest if authorisation else None)


TestAnyOrder = pytest.mark.timeout(300)(AnyOrder.TestCase)
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyOrder.__doc__ = "No order of commands, however stale, repeated or contradictory, breaks a rule of the task."


def test_the_ledger_notices_a_history_that_breaks_a_rule():
    """The reading that judges the decider does see a vote from the lineage, and a second open attempt."""
    ledger = Ledger(people=frozenset({"ada", "rita"}), quorum=1)
    offered = e.AttemptOffered(
        attempt=1,
        executor="ada",
        step="plan",
        brief={},
        brief_digest="",
        bundle="",
        ack_deadline=START,
        lease_seconds=1,
    )
    ledger.enter(offered)
    with pytest.raises(AssertionError, match="two open attempts"):
        ledger.enter(replace(offered, attempt=2))
    with pytest.raises(AssertionError, match="lineage"):
        ledger.enter(e.PlanVoted(version=1, digest="", voter="ada", vote="approve", words=""))

"""Operators, executors and timers in any order: what must hold of every history."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.domain.kit import (
    BRIEF_DIGEST,
    RITA,
    RUNTIME,
    SKILLS,
    START,
    at,
    create,
    digest,
    edit_plan,
    item,
    offer,
    person,
    proposals,
    quarantine,
    ruling,
    verdict,
)
from tests.domain.ledger import Ledger

from agentic_os.application.ports import Envelope
from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.budgets import Ceiling, renewal
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import Attested, Budget, Criterion, Evidence, Option, Participant, Usage
from agentic_os.domain.evolution import fold
from agentic_os.domain.family import Spending
from agentic_os.domain.policy import THENS, Reviewers
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.routing import needs_of
from agentic_os.domain.task import ENDS, Task
from agentic_os.domain.waiting import deadlines, waiting_for
from agentic_os.postgres.codec import decode_payload, decode_task, encode_event, encode_task

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]
EXECUTORS = ("ada", "bob", "eve")
TIERS = {"ada": None, "bob": 1, "eve": 2}
PEOPLE = (
    RITA,
    person("otto", "reviewer", owns=frozenset({"ada"})),
    person("vera"),
    person("bob", "reviewer"),
)
"""One of them has the name of an executor, as if somebody had registered it twice."""
AGENTS = tuple(Participant(id=n, kind="executor", roles=frozenset({"reviewer"})) for n in EXECUTORS)
SHOWN = Evidence(criterion_id="tests", rank="observed", claimed="observed", status="pass")
OTHER = "0" * 64
ENVELOPE = Envelope(actor="somebody", at=START)
FITTING = {
    "received": ("admit",),
    "ready": ("offer",) * 8
    + ("reassign", "ask for input", "hold", "unhold", "unhold", "freeze", "thaw", "thaw", "trip")
    + ("create children", "create children", "end child", "end child"),
    "dispatched": ("ack",) * 6 + ("decline", "reassign", "take back"),
    "planning": ("plan",) * 5 + ("heartbeat", "fail", "see a run", "extend"),
    "plan_review": ("vote",) * 5
    + ("edit",) * 2
    + ("offer", "ack", "review") * 3
    + ("reassign", "fail", "leave", "switch off", "take back"),
    "executing": ("result",) * 4
    + ("heartbeat", "progress", "evidence", "record", "fail", "ack", "ask")
    + ("see a run", "extend", "attest", "fence off", "request", "end child"),
    "result_review": ("vote",) * 5
    + ("offer", "ack", "review") * 3
    + ("reassign", "evidence", "ask", "attest", "attest", "switch off"),
    "retry_wait": ("retry", "adopt"),
    "dead_letter": ("retry",),
    "input_required": ("answer", "answer", "retry", "end child"),
}
"""What moves a task on, for each phase; much else may come in between."""


class AnyOrder(RuleBasedStateMachine):
    """A task between people, executors and timers who know little of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.task: Task | None = None
        self.stored: list[str] = []

    @initialize(
        mode=st.sampled_from(["direct", "plan_first", "plan_first"]),
        quorum=st.sampled_from([1, 1, 2]),
        risk=st.sampled_from(["low", "high"]),
        on_timeout=st.sampled_from(["block", "proceed"]),
        flags=st.tuples(*[st.booleans()] * 6),
        times=st.tuples(st.sampled_from([False, False, False, True]), st.booleans(), st.booleans()),
    )
    def begin(  # noqa: PLR0917 - drawn by hypothesis
        self,
        mode: str,
        quorum: int,
        risk: str,
        on_timeout: str,
        flags: tuple[bool, ...],
        times: tuple[bool, ...],
    ) -> None:
        """Create a task, under obligations of any kind."""
        self.seconds = 0.0
        self.calls = 0
        self.ledger = Ledger(
            people=frozenset(p.id for p in PEOPLE), quorum=quorum, agents_may=flags[4], four_eyes=flags[5]
        )
        self.budget = Budget(
            attempts=8 if flags[1] else None,
            wall_seconds=200 if flags[0] else None,
            cost_microusd=40 if flags[2] else None,
        )
        self.charges: dict[tuple[int, int], int] = {}
        criteria = (Criterion(id="tests", text="Pass"),) if flags[0] else ()
        self.verdict = verdict(
            mode=mode,
            reviewers=Reviewers(quorum=quorum, by="anyone" if flags[4] else "people"),
            deadline_seconds=600,
            on_timeout=on_timeout,
            result_review=flags[2],
            bare_approve=flags[3],
            independent_human=flags[5],
            evidence={"tests": "observed"},
            tier=1 if times[2] and flags[0] else None,
        )
        self.verdict = replace(self.verdict, on_due="escalate" if times[2] else "notify")
        if flags[1]:
            looser = replace(verdict(mode="direct"), bundle="shadow", rules=("loose",))
            self.verdict = replace(self.verdict, shadow=looser)
        not_before, due = (at(40) if times[0] else None), (at(90) if times[1] else None)
        tools = ("py*",) if flags[3] else ()
        times_of = {"not_before": not_before, "due": due}
        self._put(create(acceptance=criteria, risk=risk, tools=tools, budget=self.budget, **times_of))

    def teardown(self) -> None:
        """Read the stored events again: they give the same task, byte for byte, with the same deadlines."""
        if self.task is None:
            return
        read: list[e.Event] = [decode_payload(payload) for payload in self.stored]
        again = fold(read)
        assert self.task == again == decode_task(encode_task(again))
        assert encode_task(self.task) == encode_task(again)
        assert deadlines(self.task) == deadlines(again)

    def _put(self, command: c.Command) -> None:
        """Put a command, and put it again: what it changed it changes once."""
        try:
            decided = decide(command, self.task)
        except Rejected:
            return
        assert [] == decided or getattr(command, "digest", None) != OTHER, "a vote on something else counted"
        for event in decided:
            self.ledger.enter(event)
            self.stored.append(encode_event(event, str(UUID(int=len(self.stored))), ENVELOPE))
            assert event == decode_payload(self.stored[-1])
        self.task = fold(decided, self.task)
        assert [] == decide(command, self.task)

    @rule(data=st.data(), steps=st.integers(1, 8))
    def what_fits(self, data: st.DataObject, steps: int) -> None:
        """People and executors do what moves the task on, for a while."""
        for _ in range(steps):
            if self.task.phase in FITTING:
                name = data.draw(st.sampled_from(FITTING[self.task.phase]))
                self.seconds += 1
                self._put(getattr(self, "_" + name.replace(" ", "_"))(data.draw, stale=False))

    @rule(data=st.data(), name=st.sampled_from(sorted({n for names in FITTING.values() for n in names})))
    def what_does_not_fit(self, data: st.DataObject, name: str) -> None:
        """Somebody does something whether it fits or not, with a fence, token or order that may be out of date."""
        stale = data.draw(st.booleans())
        self._put(getattr(self, "_" + name.replace(" ", "_"))(data.draw, stale=stale))

    @rule(
        seconds=st.sampled_from([1, 15, 15, 70, 700]),
        punctual=st.booleans(),
        then=st.sampled_from([None, None, *THENS]),
    )
    def time_passes(
        self,
        seconds: float,
        punctual: bool,  # noqa: FBT001 - drawn by hypothesis
        then: Any,
    ) -> None:
        """Time goes by, and the deadlines that have come fire, or their timer is late."""
        self.seconds += seconds
        for deadline in deadlines(self.task):
            if punctual and deadline.at <= at(self.seconds):
                said = ruling("attempt.ended", then=then)
                fired = at(self.seconds)
                self._put(c.FireDeadline(kind=deadline.kind, ref=deadline.ref, at=fired, ruling=said))

    @rule(
        kind=st.sampled_from(
            ["ack", "lease", "retry", "review", "escalation", "wall", "budget", "due", "not_before", "freeze"]
        ),
        ref=st.sampled_from(["1", "2", "plan:1", "q1", "day:2030-01-01", "task", "year-end"]),
    )
    def a_stale_timer_fires(self, kind: str, ref: str) -> None:
        """Fire a timer for what may be long gone."""
        self._put(c.FireDeadline(kind=kind, ref=ref, at=at(self.seconds)))

    @rule(kind=st.sampled_from(["plan", "result"]), attempt=st.integers(1, 2))
    def something_late_is_kept_aside(self, kind: str, attempt: int) -> None:
        """Keep a late plan or result aside."""
        self._put(quarantine(quarantine_id=f"{kind}-{attempt}", kind=kind, attempt=attempt))

    @rule(number=st.integers(1, 3), call=st.integers(1, 4), cost=st.integers(1, 3))
    def something_refused_is_charged(self, number: int, call: int, cost: int) -> None:
        """Charge what a refused callback had spent; a few of them come again and again."""
        executors = {a.number: a.executor for a in (*self.task.past, self.task.attempt) if a}
        charge = c.ChargeRefusal(
            executor=executors.get(number, "ada"),
            attempt=number,
            callback_id=f"refused-{call}",
            kind="heartbeat",
            code="seq_stale",
            usage=Usage(cost_microusd=cost),
        )
        self._put(charge)
        if number in executors:
            self.charges[number, call] = max(cost, self.charges.get((number, call), 0))

    @precondition(lambda self: self.task.phase == "ready")
    @rule(scope=st.sampled_from(["day:2030-01-01", "project:p"]))
    def no_budget_is_left(self, scope: str) -> None:
        """Wait for a budget."""
        self._put(c.AwaitBudget(scope=scope, until=renewal(scope)))

    @precondition(lambda self: self.task.version > 25)
    @rule()
    def an_operator_calls_it_off(self) -> None:
        """Cancel the task, once it has lived for a while."""
        self._put(c.Cancel(by="rita", reason=""))

    def _sender(self, draw: Draw, *, stale: bool) -> dict[str, Any]:
        attempt = self.task.attempt
        number, generation, seq = (attempt.number, attempt.generation, attempt.seq) if attempt else (1, 1, 0)
        self.calls += 1
        return {
            "executor": draw(st.sampled_from(EXECUTORS)) if stale or attempt is None else attempt.executor,
            "attempt": max(number - (draw(st.integers(0, 1)) if stale else 0), 1),
            "generation": generation - (draw(st.integers(0, 1)) if stale else 0),
            "seq": seq + (draw(st.integers(0, 1)) if stale else 1),
            "callback_id": f"call-{self.calls}",
            "at": at(self.seconds),
            "usage": Usage(tool_calls=1, cost_microusd=2) if draw(st.booleans()) else None,
        }

    def _admit(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.AdmitTask(verdict=self.verdict, facts_digest="sha256:f")

    def _offer(self, draw: Draw, *, stale: bool) -> c.Command:
        named = self.task.assignee if self.task.assignee in EXECUTORS else None
        able = [n for n in EXECUTORS if needs_of(self.task).met_by((), TIERS[n])] or list(EXECUTORS)
        free = [name for name in able if name not in self.task.excluded] or list(EXECUTORS)
        chosen = (
            named if named and not stale else draw(st.sampled_from([*free, *(["rita"] if stale else [])]))
        )
        number = (self.task.attempt.number if self.task.attempt else 0) + 1
        denied = stale and draw(st.booleans())
        ceilings = (Ceiling(account="cost:project:p", limit=100),) if draw(st.booleans()) else ()
        decision = "deny" if denied else "allow"
        more = {"ceilings": ceilings, "tier": TIERS.get(chosen)}
        return offer(number, chosen, decision, seconds=self.seconds, **more)

    def _ack(self, draw: Draw, *, stale: bool) -> c.Command:
        return c.Acknowledge(
            **self._sender(draw, stale=stale),
            brief_digest=BRIEF_DIGEST,
            skillset_digest=SKILLS,
            expected_skillset="sha256:other" if stale and draw(st.booleans()) else SKILLS,
            runtime=RUNTIME,
        )

    def _decline(self, draw: Draw, *, stale: bool) -> c.Command:
        return c.Decline(**self._sender(draw, stale=stale), reason=draw(st.sampled_from(["busy", "unsafe"])))

    def _heartbeat(self, draw: Draw, *, stale: bool) -> c.Command:
        return c.Heartbeat(**self._sender(draw, stale=stale))

    def _progress(self, draw: Draw, *, stale: bool) -> c.Command:
        return c.ReportProgress(**self._sender(draw, stale=stale), message="m")

    def _evidence(self, draw: Draw, *, stale: bool) -> c.Command:
        return c.AddEvidence(**self._sender(draw, stale=stale), evidence=SHOWN)

    def _record(self, draw: Draw, *, stale: bool) -> c.Command:
        used = {"tool": draw(st.sampled_from(["pytest", "curl"])), "outcome": "ok"}
        return c.Record(**self._sender(draw, stale=stale), kind="tool_event", body={"events": [used]})

    def _review(self, draw: Draw, *, stale: bool) -> c.Command:
        subject = "result" if self.task.phase == "result_review" and not stale else "plan"
        submission = self.task.plan if subject == "plan" else self.task.result
        vote = draw(st.sampled_from(["approve"] * 6 + ["revise", "reject" if stale else "approve"]))
        return c.SubmitReview(
            **self._sender(draw, stale=stale),
            subject=subject,
            digest=OTHER if stale or submission is None else submission.digest,
            vote=vote,
            summary="words",
            items=("change it",) if vote == "revise" else (),
            item_ids=("i1",) if vote == "revise" else (),
            evidence=(replace(SHOWN, claimed="independent"),) if draw(st.booleans()) else (),
        )

    def _leave(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        submission = self.task.under_review
        return c.EscalateReview(version=submission.version if submission else 1, reason="Nobody.")

    def _attest(self, draw: Draw, *, stale: bool) -> c.Command:
        status = draw(st.sampled_from(["pass", "pass", "fail", "inconclusive"]))
        evidence = replace(SHOWN, rank="independent", claimed="independent", status=status)
        subject = self.task.result.digest if self.task.result and not stale else None
        source = draw(st.sampled_from(["ci", "lab"]))
        return c.Attest(
            attested=Attested(source=source, evidence=evidence, subject_digest=subject),
            at=at(self.seconds),
        )

    def _fence_off(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.FenceOff(executor=draw(st.sampled_from(EXECUTORS)), reason="It was revoked.")

    def _take_back(self, draw: Draw, *, stale: bool) -> c.Command:
        number = self.task.attempt.number if self.task.attempt else 1
        executor = draw(st.sampled_from(EXECUTORS))
        return c.TakeBack(attempt=number - stale, executor=executor, reason="It is paused.")

    def _plan(self, draw: Draw, *, stale: bool) -> c.Command:
        content = draw(st.sampled_from("abc"))
        tasks = {} if content == "a" else {"tasks": [item(), item("two", depends_on=["one"])]}
        return c.SubmitPlan(
            **self._sender(draw, stale=stale),
            digest=digest(content),
            plan={"summary": content} | tasks,
            answers=frozenset() if stale else frozenset(item.id for item in self.task.items),
            ruling=self._ruling(draw),
        )

    def _ruling(self, draw: Draw) -> c.Ruling | None:
        quorum, by = draw(st.sampled_from([(1, None), (1, None), (3, None), (1, "people")]))
        decision = draw(st.sampled_from(["allow"] * 7 + ["deny"]))
        return ruling("plan.submitted", decision, reviewers=Reviewers(quorum=quorum, by=by))

    def _proposals(self, draw: Draw) -> tuple[c.Proposal, ...]:
        self.calls += 1
        denied = draw(st.sampled_from([(), (), ("one",), ("two",)]))
        found = proposals(item(), item("two", depends_on=["one"]), denied=denied)
        return tuple(replace(p, child_id=f"{p.child_id}-{self.calls}") for p in found)

    def _request(self, draw: Draw, *, stale: bool) -> c.Command:
        sent = self._sender(draw, stale=stale)
        return c.RequestTasks(**sent, kind="task_request", body={}, proposals=self._proposals(draw))

    def _create_children(self, draw: Draw, *, stale: bool) -> c.Command:
        version = self.task.plan.version if self.task.plan else 1
        return c.CreateChildren(plan=version + stale, proposals=self._proposals(draw))

    def _end_child(self, draw: Draw, *, stale: bool) -> c.Command:
        ids = [child.id for child in self.task.children] if not stale else []
        phase = draw(st.sampled_from(["completed", "completed", "failed", "cancelled"]))
        child_id = draw(st.sampled_from(ids or ["c-none"]))
        return c.EndChild(child_id=child_id, phase=phase, spent=Spending(tokens=1))

    def _result(self, draw: Draw, *, stale: bool) -> c.Command:
        return c.SubmitResult(
            **self._sender(draw, stale=stale),
            digest=digest(draw(st.sampled_from("de"))),
            outcome=draw(st.sampled_from(["success", "partial"])),
            result={},
            evidence=(SHOWN,) if draw(st.booleans()) else (),
            answers=frozenset() if stale else frozenset(item.id for item in self.task.items),
            ruling=self._ruling(draw),
        )

    def _fail(self, draw: Draw, *, stale: bool) -> c.Command:
        failure = draw(st.sampled_from(["transient", "tool", "plan_infeasible", "plan_infeasible", "budget"]))
        retryable = draw(st.sampled_from([True, True, True, False]))
        sent = self._sender(draw, stale=stale)
        said = ruling("attempt.ended", then=draw(st.sampled_from([None, None, *THENS])))
        return c.ReportFailure(**sent, failure=failure, message="m", retryable=retryable, ruling=said)

    def _switch_off(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.SwitchOffDefault(by="rita", reason="")

    def _vote(self, draw: Draw, *, stale: bool) -> c.Command:
        subject = "result" if self.task.phase == "result_review" and not stale else "plan"
        submission = self.task.plan if subject == "plan" else self.task.result
        named = draw(st.sampled_from(["all", "all", "all", "nothing", "version", "other"]))
        content = submission.digest.removeprefix("sha256:") if submission else "a" * 64
        vote = draw(st.sampled_from(["approve"] * 6 + ["revise", "revise", "reject" if stale else "approve"]))
        return c.CastVote(
            subject=subject,
            voter=draw(st.sampled_from(PEOPLE + AGENTS)),
            vote=vote,
            words="words",
            version=submission.version if submission and named in ("all", "version") else None,
            digest={"all": content, "other": OTHER}.get(named),
            seen_at=at(self.seconds),
            items=("change it",) if vote == "revise" else (),
            item_ids=("i1",) if vote == "revise" else (),
            bundle="sha256:b",
        )

    def _edit(self, draw: Draw, *, stale: bool) -> c.Command:
        under_review = self.task.plan.digest[-1] if self.task.plan and not stale else "0"
        return edit_plan(
            draw(st.sampled_from("abhi")),
            replaces=under_review,
            by=draw(st.sampled_from((*PEOPLE, *AGENTS))),
            seconds=self.seconds,
            ruling=self._ruling(draw),
        )

    def _retry(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.Retry(by="rita", reason="", fresh=draw(st.booleans()))

    def _ask(self, draw: Draw, *, stale: bool) -> c.Command:
        options = (Option(id="a", label="A"), Option(id="b", label="B"))
        sent = self._sender(draw, stale=stale)
        return c.Escalate(
            **sent,
            question="Which?",
            blocking=draw(st.booleans()),
            options=options,
            default_option=draw(st.sampled_from(["a", None])),
            ruling=ruling("escalation.raised", ask=draw(st.sampled_from([None, "reviewer", "admin"]))),
        )

    def _answer(self, draw: Draw, *, stale: bool) -> c.Command:
        open_ids = [q.id for q in self.task.questions] or ["q1"]
        named = "q9" if stale else draw(st.sampled_from(open_ids))
        roles = frozenset(draw(st.sampled_from([("operator",), ("reviewer",), ("admin",)])))
        return c.Answer(
            by="rita", question_id=named, text=draw(st.sampled_from(["a", "b", "c"])), roles=roles
        )

    def _hold(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.PutOnHold(by=draw(st.sampled_from(["rita", "otto"])), reason="")

    def _unhold(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.ReleaseHold(by="rita", reason="")

    def _adopt(self, draw: Draw, *, stale: bool) -> c.Command:
        kept = draw(st.sampled_from(self.task.quarantined)) if self.task.quarantined and not stale else None
        executors = {a.number: a.executor for a in (*self.task.past, self.task.attempt) if a}
        sent = {
            "attempt": kept.attempt if kept else 1,
            "executor": executors.get(kept.attempt if kept else 1, "ada"),
            "seq": 0,
            "callback_id": "late",
            "at": at(self.seconds),
            "digest": digest(draw(st.sampled_from("fg"))),
            "answers": frozenset(item.id for item in self.task.items),
        }
        late = (
            c.SubmitPlan(**sent, plan={})
            if kept and kept.kind == "plan"
            else c.SubmitResult(**sent, outcome="success", result={})
        )
        return c.Adopt(quarantine_id=kept.id if kept else "none", by="rita", reason="r", late=late)

    def _reassign(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.Reassign(assignee=draw(st.sampled_from([None, "role:writer", *EXECUTORS])), reason="")

    def _freeze(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        span = draw(st.sampled_from([10, 60]))
        return c.FreezeTask(until=at(self.seconds + span), rule="year-end", reason="Closed.")

    def _thaw(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.ThawTask(reason="Lifted.", at=at(self.seconds))

    def _trip(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.TripBreaker(attempts=1, within_seconds=600)

    def _see_a_run(self, draw: Draw, *, stale: bool) -> c.Command:
        number = self.task.attempt.number if self.task.attempt else 1
        return c.SeeRun(
            attempt=max(number - (draw(st.integers(0, 1)) if stale else 0), 1),
            alive=draw(st.booleans()),
            seen_at=at(self.seconds - draw(st.sampled_from([0, 30, 400]))),
            at=at(self.seconds),
        )

    def _extend(self, draw: Draw, *, stale: bool) -> c.Command:
        number = self.task.attempt.number if self.task.attempt else 1
        since = at(self.seconds - draw(st.sampled_from([1, 1000])))
        return c.ExtendLease(attempt=number - 1 if stale else number, since=since, at=at(self.seconds))

    def _ask_for_input(self, draw: Draw, *, stale: bool) -> c.Command:  # noqa: ARG002 - all are called alike
        return c.RequireInput(reason="Nobody.")

    @invariant()
    def every_event_is_a_version(self) -> None:
        """Count the events: that is the task's version."""
        assert self.task is None or self.task.version == len(self.stored)

    @invariant()
    def a_live_task_waits_for_somebody(self) -> None:
        """Ask what has not ended, and nothing else, what moves it forward next."""
        if self.task is not None:
            assert (self.task.phase in ENDS) == (waiting_for(self.task) is None) == self.ledger.ended

    @invariant()
    def the_ledger_agrees(self) -> None:
        """Compare the open attempt, lineage and authorisation with those of the independent reading."""
        if self.task is None:
            return
        attempt = self.task.attempt
        assert self.ledger.open == (attempt.number if attempt and attempt.is_open else None)
        assert frozenset(self.ledger.held.values()) == self.task.lineage
        if not self.ledger.ended:
            authorisation = self.task.authorisation
            assert self.ledger.authorised == (authorisation.digest if authorisation else None)

    @invariant()
    def what_was_spent_adds_up(self) -> None:
        """Compare what was spent, on the task and on its accounts, with the sums of what was booked."""
        if self.task is None:
            return
        assert self.ledger.spent == self.task.spent.tool_calls + self.task.spent.cost_microusd
        accounts = {a: 0 for named in self.ledger.accounts.values() for a in named}
        assert accounts | self.ledger.charged == self.task.charged
        assert sum(self.charges.values()) == self.ledger.refused

    @invariant()
    def the_time_of_each_closed_attempt_was_booked(self) -> None:
        """Find the time of an attempt booked when it closed after its ack, and only where time is limited."""
        if self.task is not None:
            closed = {
                n for n in self.ledger.begun if n != self.ledger.open and self.ledger.steps[n] != "review"
            }
            assert self.ledger.timed == (closed if self.budget.wall_seconds is not None else set())


TestAnyOrder = pytest.mark.timeout(300)(AnyOrder.TestCase)
TestAnyOrder.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
TestAnyOrder.__doc__ = (
    "No order of commands, however stale, repeated or contradictory, breaks a rule of the task."
)


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

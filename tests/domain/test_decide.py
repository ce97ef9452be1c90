"""Each command: it acts in its origin state, yields exactly the right events, and none when repeated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import pytest
from tests.domain.kit import (
    AUTHORISED,
    BRIEF_DIGEST,
    BUNDLE,
    DEADLINE_SECONDS,
    DIRECT,
    EXECUTING,
    EXECUTING_PLAN,
    FACTS,
    FACTS_DIGEST,
    IN_PLAN_REVIEW,
    LIVE,
    PHASES,
    PLAN_FOR_AGENTS,
    PLANNED,
    REVIEWING,
    RUNTIME,
    SKILLS,
    START,
    WITH_CHILDREN,
    Step,
    accept,
    ack,
    admit,
    at,
    attest,
    attested,
    cast,
    create,
    create_children,
    decline,
    digest,
    edit_plan,
    end_child,
    ended,
    fail,
    fire,
    given,
    heartbeat,
    item,
    offer,
    quarantine,
    request_tasks,
    review,
    reviewed_by,
    ruling,
    sender,
    submit_plan,
    submit_result,
    verdict,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.budgets import Amounts, Ceiling
from agentic_os.domain.comparison import Difference
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import Budget, Criterion, Evidence, OurField, Reservation, ReviewItem, Usage
from agentic_os.domain.family import Parentage, Spending
from agentic_os.domain.policy import Obligations, Reviewers
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import ENDS, Task
from agentic_os.domain.waiting import waiting_for

EVIDENCE = Evidence(criterion_id="tests", rank="observed", claimed="independent", status="pass")
RULED = {
    "bundle": BUNDLE,
    "rules": ("rule",),
    "reasons": ("because",),
    "facts": FACTS,
    "facts_digest": FACTS_DIGEST,
}
LET = e.DispatchAllowed(attempt=1, **RULED)
SHADOW_BUNDLE = "sha256:" + "5" * 64
STRICTER = replace(verdict(mode="plan_first"), bundle=SHADOW_BUNDLE, rules=("strict",))
LOOSER = replace(verdict("dispatch"), bundle=SHADOW_BUNDLE, rules=("loose",))
REPORTED = {"attempt": 1, "seq": 2, "callback_id": "ada-1-2", "lease_expires_at": at(920)}
TARGET = {"version": 1, "digest": digest("a")}
RESULT = {"version": 1, "digest": digest("c")}
VOTED = {"voter": "rita", "vote": "approve", "words": "/approve"}
TIMED = (create(budget=Budget(wall_seconds=30)), *DIRECT[1:], offer(), ack())
AWAIT_DAY = c.AwaitBudget(scope="day:2030-01-01", until=at(43_200))
CHARGE = c.ChargeRefusal(
    executor="ada",
    attempt=1,
    callback_id="refused",
    kind="heartbeat",
    code="seq_stale",
    usage=Usage(cost_microusd=3),
    model="m",
)
CANCEL = c.Cancel(by="rita", reason="No longer needed.")
REASSIGN = c.Reassign(assignee="bob", reason="/reassign bob")
RETRY = c.Retry(by="rita", reason="again")
FENCE_OFF = c.FenceOff(executor="ada", reason="ada was revoked.")
TAKE_BACK = c.TakeBack(attempt=1, executor="ada", reason="ada is paused on board.")
TESTS = Criterion(id="tests", text="They pass.", rank="independent")
RECORD = c.Record(**sender(), kind="checkpoint", body={"state": {}})
ADMIT = admit()
SWITCH_OFF = c.SwitchOffDefault(by="rita", reason="/default off")
TIGHTEN = c.TightenMode(by="rita", reason="/mode plan_first")
NOTE = c.TakeNote(note_id="n1", by="rita", text="Mind it.")
IN_STAGES = reviewed_by(stages=(Reviewers(role="admin"),))
FREEZE = c.FreezeTask(until=at(60), rule="year-end", reason="The books are closed.")
FROZEN = e.TaskFrozen(until=at(60), rule="year-end", reason="The books are closed.")
SUPERSEDED = e.AttemptSuperseded(attempt=1, reason="the task was reassigned")
OFFERED = {
    "executor": "ada",
    "brief": {"task_id": "t-1"},
    "brief_digest": BRIEF_DIGEST,
    "bundle": BUNDLE,
    "ack_deadline": at(300),
    "lease_seconds": 900,
}
PLAN_SUBMITTED = e.PlanSubmitted(
    attempt=1,
    seq=2,
    callback_id="ada-1-2",
    executor="ada",
    plan={"summary": "a"},
    review_deadline=at(20 + DEADLINE_SECONDS),
    at=at(20),
    **TARGET,
)
RESULT_SUBMITTED = e.ResultSubmitted(
    attempt=1,
    seq=2,
    callback_id="ada-1-2",
    executor="ada",
    outcome="success",
    result={"summary": "c"},
    evidence=(),
    artifacts=(),
    review_deadline=at(20 + DEADLINE_SECONDS),
    at=at(20),
    **RESULT,
)
RAISED = e.EscalationRaised(
    attempt=1,
    seq=2,
    callback_id="ada-1-2",
    lease_expires_at=at(920),
    question_id="q1",
    question="Which?",
    context="",
    options=(),
    default_option=None,
    blocking=True,
    answer_deadline=at(20 + DEADLINE_SECONDS),
    at=at(20),
)
MORE_ASKED = Obligations(
    mode="plan_first",
    deadline_seconds=60,
    result_review=True,
    reviewers=Reviewers(quorum=2),
    on_timeout="block",
)
"""What holds for a plan that rules ask two people for within a minute, on top of PLANNED."""
ESCALATING = (
    create(),
    admit(mode="plan_first", deadline_seconds=DEADLINE_SECONDS, on_timeout="escalate"),
    offer(),
    ack(),
    submit_plan(),
)
VOTED_BY_BOB = {"voter": "bob", "vote": "approve", "words": "Looked at it."}
PLAN_APPROVED_BY_BOB = e.PlanApproved(approvers=("bob",), bundle=BUNDLE, defaulted=False, **TARGET)
REVIEW_SUBMITTED = e.ReviewSubmitted(
    attempt=2,
    seq=2,
    callback_id="bob-2-2",
    subject="plan",
    executor="bob",
    vote="approve",
    summary="Looked at it.",
    items=(),
    evidence=(),
    at=at(60),
    **TARGET,
)
CREATED = e.TaskCreated(
    task_id="t-1",
    title="Title",
    goal="Goal",
    project="p",
    acceptance=(),
    mode="direct",
    risk="low",
    paths=(),
    tools=(),
    labels=(),
    assignee=None,
    depends_on=(),
    budget=Budget(),
    priority="medium",
    due=None,
    origin="api",
    requester="rita",
    at=START,
)


PROPOSED = {**RULED, "attempt": 1, "ref": "one", "item": item()}
ACCEPTED = e.ChildAccepted(
    child_id="c-one", planned=True, depends_on=(), budget=Budget(), obligations=Obligations(), **PROPOSED
)


def failed(failure: str, *, retry_after: float | None, retryable: bool = True) -> e.AttemptFailed:
    """Expect the failure of the first attempt."""
    return e.AttemptFailed(
        attempt=1,
        seq=2,
        callback_id="ada-1-2",
        failure=failure,
        message="It broke.",
        retryable=retryable,
        retry_at=None if retry_after is None else at(20 + retry_after),
    )


def ruled(kind: str, then: str, asked: str = "", attempt: int = 1) -> e.AttemptRuled:
    """Expect what rules said of the end of an attempt of ada's."""
    return e.AttemptRuled(
        attempt=attempt, executor="ada", kind=kind, asked=asked or then, then=then, rules=("rule",)
    )


def told(ruling: c.Ruling, obligations: Obligations | None = None) -> e.PolicyDecided:
    """Expect what policy said, put on record."""
    said = ruling.verdict
    return e.PolicyDecided(
        hook=said.hook,
        decision=said.decision,
        obligations=obligations,
        then=said.then,
        ask=said.ask,
        **RULED,
    )


DRIFTED = c.RecordSkillDrift(attempt=1, executor="ada", expected="sha256:in-force", found="sha256:other")
NO_PLAN = ruling("plan.submitted", "deny")
MORE_OF_PLAN = ruling("plan.submitted", reviewers=Reviewers(quorum=2), deadline_seconds=60)
MORE_OF_RESULT = ruling("result.submitted", result_review=True)
ASK_REVIEWER = ruling("escalation.raised", ask="reviewer")


def drift(seconds: float, field: OurField = "closed", value: str = "completed") -> c.SeeDrift:
    """Have an agent change what is ours on the issue."""
    return c.SeeDrift(field=field, author="coder", value=value, at=at(seconds))


@dataclass(frozen=True)
class Case:
    """A command in its origin state, and what must come of it. phase: of the task afterwards."""

    name: str
    history: tuple[Step, ...]
    command: c.Command
    events: tuple[e.Event, ...]
    phase: str


CASES = (
    Case("create", (), create(), (CREATED,), "received"),
    Case("admit", (create(),), admit(), (e.TaskAllowed(obligations=Obligations(), **RULED),), "ready"),
    Case("admit, denied", (create(),), admit("deny"), (e.TaskDenied(**RULED),), "rejected"),
    Case(
        "admit, with a shadow that differs",
        (create(),),
        replace(admit(), verdict=replace(verdict(), shadow=STRICTER)),
        (
            e.PolicyDiffered(
                hook="task.received",
                bundle=SHADOW_BUNDLE,
                decision="allow",
                rules=("strict",),
                reasons=("because",),
                differences=(
                    Difference(
                        name="mode", before="direct", after="plan_first", loosened=False, tightened=True
                    ),
                ),
                loosened=False,
            ),
            e.TaskAllowed(obligations=Obligations(), **RULED),
        ),
        "ready",
    ),
    Case(
        "offer", DIRECT, offer(), (LET, e.AttemptOffered(attempt=1, step="execute", **OFFERED)), "dispatched"
    ),
    Case(
        "offer, with a plan approved",
        AUTHORISED,
        offer(2),
        (replace(LET, attempt=2), e.AttemptOffered(attempt=2, step="execute", **OFFERED)),
        "dispatched",
    ),
    Case(
        "offer, denied by policy but not by its shadow",
        DIRECT,
        replace(offer(), verdict=replace(verdict("dispatch", "deny"), shadow=LOOSER)),
        (
            e.PolicyDiffered(
                hook="dispatch",
                bundle=SHADOW_BUNDLE,
                decision="allow",
                rules=("loose",),
                reasons=("because",),
                differences=(
                    Difference(name="decision", before="deny", after="allow", loosened=True, tightened=False),
                ),
                loosened=True,
            ),
            e.DispatchDenied(**RULED),
            e.InputRequired(reason="Policy no longer lets this task run: because"),
        ),
        "input_required",
    ),
    Case(
        "offer, denied by policy",
        DIRECT,
        offer(decision="deny"),
        (e.DispatchDenied(**RULED), e.InputRequired(reason="Policy no longer lets this task run: because")),
        "input_required",
    ),
    Case(
        "offer, beyond the budget",
        (create(budget=Budget(attempts=1)), admit(), offer(), ack(), fail(), fire("retry", "1", 30)),
        offer(2),
        (e.InputRequired(reason="All 1 attempts of the budget are used."),),
        "input_required",
    ),
    Case(
        "offer, on accounts",
        DIRECT,
        offer(ceilings=(Ceiling(account="cost:project:p", limit=9),), allowance=Amounts(cost_microusd=5)),
        (
            LET,
            e.AttemptOffered(attempt=1, step="execute", **OFFERED),
            e.BudgetReserved(
                attempt=1, reservations=(Reservation(account="cost:project:p", amount=5, limit=9),)
            ),
        ),
        "dispatched",
    ),
    Case(
        "offer, with no wall time left",
        (*TIMED, fire("wall", "1", 40), RETRY),
        offer(2),
        (e.InputRequired(reason="The wall time of the budget is used up: 30 seconds."),),
        "input_required",
    ),
    Case(
        "wait for a budget",
        DIRECT,
        AWAIT_DAY,
        (e.BudgetAwaited(scope="day:2030-01-01", until=at(43_200)),),
        "ready",
    ),
    Case(
        "the day is over",
        (*DIRECT, AWAIT_DAY),
        fire("budget", "day:2030-01-01", 43_200),
        (e.BudgetRenewed(scope="day:2030-01-01"),),
        "ready",
    ),
    Case(
        "the wall time is over",
        TIMED,
        fire("wall", "1", 40),
        (
            e.WallTimeBooked(attempt=1, seconds=30),
            e.WallTimeExceeded(attempt=1, limit_seconds=30),
            e.InputRequired(reason="The wall time of the budget is used up: 30 seconds."),
        ),
        "input_required",
    ),
    Case(
        "charge a refusal",
        EXECUTING,
        CHARGE,
        (
            e.RefusalCharged(
                attempt=1,
                callback_id="refused",
                kind="heartbeat",
                code="seq_stale",
                usage=Usage(cost_microusd=3),
                model="m",
            ),
        ),
        "executing",
    ),
    Case(
        "submit a plan over the budget",
        (create(budget=Budget(tokens=10)), *PLANNED[1:], offer(), ack()),
        submit_plan(usage=Usage(input_tokens=11)),
        (
            e.UsageBooked(attempt=1, usage=Usage(input_tokens=11), model=None),
            e.BudgetExceeded(attempt=1, subject="plan", version=1, passed="tokens 11 of 10"),
            PLAN_SUBMITTED,
        ),
        "plan_review",
    ),
    Case(
        "require input",
        DIRECT,
        c.RequireInput(reason="Why"),
        (e.InputRequired(reason="Why"),),
        "input_required",
    ),
    Case(
        "acknowledge",
        (*DIRECT, offer()),
        ack(),
        (
            e.AttemptAcked(
                attempt=1,
                seq=1,
                callback_id="ada-1-1",
                lease_expires_at=at(910),
                generation=1,
                brief_digest=BRIEF_DIGEST,
                skillset_digest=SKILLS,
                runtime=RUNTIME,
                workspace=None,
            ),
        ),
        "executing",
    ),
    Case(
        "decline",
        (*DIRECT, offer()),
        decline(),
        (e.AttemptDeclined(attempt=1, seq=1, callback_id="ada-1-1", reason="busy", detail=None),),
        "ready",
    ),
    Case(
        "decline, unsafe",
        (*DIRECT, offer()),
        decline("unsafe"),
        (
            e.AttemptDeclined(attempt=1, seq=1, callback_id="ada-1-1", reason="unsafe", detail=None),
            e.InputRequired(reason="ada finds the task unsafe."),
        ),
        "input_required",
    ),
    Case("heartbeat", EXECUTING, heartbeat(), (e.LeaseRenewed(note=None, **REPORTED),), "executing"),
    Case(
        "heartbeat, with usage",
        EXECUTING,
        heartbeat(usage=Usage(input_tokens=3), model="m"),
        (
            e.UsageBooked(attempt=1, usage=Usage(input_tokens=3), model="m"),
            e.LeaseRenewed(note=None, **REPORTED),
        ),
        "executing",
    ),
    Case(
        "progress",
        EXECUTING,
        c.ReportProgress(**sender(), message="half", permille=500),
        (e.ProgressReported(message="half", step_id=None, permille=500, at=at(20), **REPORTED),),
        "executing",
    ),
    Case(
        "progress that spent something, soon after the last",
        (*EXECUTING, c.ReportProgress(**sender(), message="half")),
        c.ReportProgress(**sender(seq=3, seconds=21, usage=Usage(tool_calls=1)), message="more"),
        (
            e.UsageBooked(attempt=1, usage=Usage(tool_calls=1), model=None),
            e.ProgressReported(
                attempt=1,
                seq=3,
                callback_id="ada-1-3",
                lease_expires_at=at(921),
                message="more",
                step_id=None,
                permille=None,
                at=at(21),
            ),
        ),
        "executing",
    ),
    Case(
        "evidence",
        EXECUTING,
        c.AddEvidence(**sender(), evidence=EVIDENCE),
        (e.EvidenceAdded(evidence=EVIDENCE, **REPORTED),),
        "executing",
    ),
    Case(
        "record",
        EXECUTING,
        RECORD,
        (e.ReportRecorded(kind="checkpoint", body={"state": {}}, **REPORTED),),
        "executing",
    ),
    Case(
        "use a tool that is not allowed",
        (create(tools=("py*",)), admit(), offer(), ack()),
        c.Record(**sender(), kind="tool_event", body={"events": [{"tool": "curl", "outcome": "ok"}]}),
        (
            e.ReportRecorded(
                kind="tool_event", body={"events": [{"tool": "curl", "outcome": "ok"}]}, **REPORTED
            ),
            e.TaskHeld(
                reason="Attempt 1 used what the task's tools do not allow: curl.", by="system", cause="tool"
            ),
        ),
        "executing",
    ),
    Case(
        "attest",
        (create(acceptance=(TESTS,)), admit(result_review=True), offer(), ack()),
        attest(),
        (attested(),),
        "executing",
    ),
    Case(
        "attest what was missing",
        (create(acceptance=(TESTS,)), admit(), offer(), ack(), submit_result()),
        attest(subject_digest=digest("c")),
        (attested(subject_digest=digest("c")), e.TaskCompleted(accepted_by=(), **RESULT)),
        "completed",
    ),
    Case(
        "fence off",
        EXECUTING,
        FENCE_OFF,
        (
            e.AttemptSuperseded(attempt=1, reason="ada was revoked."),
            e.RetryReleased(reason="ada was revoked.", fresh=False),
        ),
        "ready",
    ),
    Case(
        "fence off the only one",
        (create(assignee="ada"), admit(), offer()),
        FENCE_OFF,
        (
            e.AttemptSuperseded(attempt=1, reason="ada was revoked."),
            e.InputRequired(reason="ada was revoked. The task was for it alone: /reassign."),
        ),
        "input_required",
    ),
    Case(
        "take back",
        (create(assignee="ada"), admit(), offer()),
        TAKE_BACK,
        (
            e.AttemptSuperseded(attempt=1, reason="ada is paused on board."),
            e.RetryReleased(reason="ada is paused on board.", fresh=False),
        ),
        "ready",
    ),
    Case("submit a plan", PHASES["planning"], submit_plan(), (PLAN_SUBMITTED,), "plan_review"),
    Case("submit a result", EXECUTING, submit_result(), (RESULT_SUBMITTED,), "result_review"),
    Case(
        "submit a result that nobody need review",
        (create(), admit(deadline_seconds=DEADLINE_SECONDS), offer(), ack()),
        submit_result(),
        (RESULT_SUBMITTED, e.TaskCompleted(accepted_by=(), **RESULT)),
        "completed",
    ),
    Case("fail", EXECUTING, fail(), (failed("transient", retry_after=10),), "retry_wait"),
    Case(
        "fail for good",
        EXECUTING,
        fail("tool", retryable=False),
        (failed("tool", retry_after=None, retryable=False), e.TaskFailed(reason="tool: It broke.")),
        "failed",
    ),
    Case(
        "fail, with no retries for the class",
        EXECUTING,
        fail("budget"),
        (
            failed("budget", retry_after=None),
            e.TaskDeadLettered(reason="The retries for budget failures are used up."),
        ),
        "dead_letter",
    ),
    Case(
        "fail, the plan being infeasible",
        EXECUTING_PLAN,
        fail("plan_infeasible", attempt=2),
        (
            e.AttemptFailed(
                attempt=2,
                seq=2,
                callback_id="ada-2-2",
                failure="plan_infeasible",
                message="It broke.",
                retryable=True,
                retry_at=None,
            ),
            e.RetryReleased(reason="The plan was found infeasible; a new one is needed.", fresh=False),
        ),
        "ready",
    ),
    Case(
        "quarantine",
        PHASES["cancelled"],
        quarantine(),
        (
            e.CallbackQuarantined(
                quarantine_id="q",
                attempt=1,
                callback_id="late",
                kind="result",
                reason="lease_lost",
                body={"summary": "s"},
                at=at(5000),
            ),
        ),
        "cancelled",
    ),
    Case(
        "approve",
        IN_PLAN_REVIEW,
        cast(),
        (
            e.PlanVoted(**TARGET, **VOTED),
            e.PlanApproved(approvers=("rita",), bundle=BUNDLE, defaulted=False, **TARGET),
        ),
        "ready",
    ),
    Case(
        "approve with no digest, where policy lets that count",
        IN_PLAN_REVIEW,
        cast(version=None, content=None),
        (
            e.PlanVoted(**TARGET, **VOTED),
            e.PlanApproved(approvers=("rita",), bundle=BUNDLE, defaulted=False, **TARGET),
        ),
        "ready",
    ),
    Case(
        "revise",
        IN_PLAN_REVIEW,
        cast("revise", items=("one", "two")),
        (
            e.PlanVoted(voter="rita", vote="revise", words="/revise", **TARGET),
            e.PlanReturned(
                items=(ReviewItem(id="i1", text="one"), ReviewItem(id="i2", text="two")),
                capped=False,
                **TARGET,
            ),
        ),
        "ready",
    ),
    Case(
        "revise with no digest",
        IN_PLAN_REVIEW,
        cast("revise", version=None, content=None, items=("one",)),
        (
            e.PlanVoted(voter="rita", vote="revise", words="/revise", **TARGET),
            e.PlanReturned(items=(ReviewItem(id="i1", text="one"),), capped=False, **TARGET),
        ),
        "ready",
    ),
    Case(
        "edit a plan",
        IN_PLAN_REVIEW,
        edit_plan(),
        (
            e.PlanEdited(
                version=2,
                digest=digest("b"),
                replaces=digest("a"),
                author="rita",
                plan={"summary": "b"},
                review_deadline=at(50 + DEADLINE_SECONDS),
                at=at(50),
            ),
        ),
        "plan_review",
    ),
    Case(
        "reject a plan",
        IN_PLAN_REVIEW,
        cast("reject", version=None, content=None),
        (
            e.PlanVoted(voter="rita", vote="reject", words="/reject", **TARGET),
            e.PlanRejected(by="rita", reason="/reject", **TARGET),
        ),
        "rejected",
    ),
    Case(
        "accept",
        PHASES["result_review"],
        accept(),
        (e.ResultVoted(**RESULT, **VOTED), e.TaskCompleted(accepted_by=("rita",), **RESULT)),
        "completed",
    ),
    Case(
        "rework",
        PHASES["result_review"],
        accept(vote="revise", items=("one",)),
        (
            e.ResultVoted(voter="rita", vote="revise", words="/revise", **RESULT),
            e.ResultReturned(items=(ReviewItem(id="i1", text="one"),), capped=False, **RESULT),
        ),
        "ready",
    ),
    Case(
        "reject a result",
        PHASES["result_review"],
        accept(vote="reject"),
        (
            e.ResultVoted(voter="rita", vote="reject", words="/reject", **RESULT),
            e.ResultRejected(by="rita", reason="/reject", **RESULT),
        ),
        "rejected",
    ),
    Case(
        "create with a declared output",
        (),
        create(output_schema={"type": "object"}),
        (CREATED, e.OutputDeclared(output_schema={"type": "object"})),
        "received",
    ),
    Case(
        "create a child with data",
        (),
        create(
            input={"n": 1},
            parent=Parentage(id="t-0", ref="one", depth=1, obligations=Obligations(mode="plan_first")),
        ),
        (
            CREATED,
            e.InputGiven(input={"n": 1}),
            e.ParentDeclared(parent="t-0", ref="one", depth=1, obligations=Obligations(mode="plan_first")),
        ),
        "received",
    ),
    Case(
        "request a task",
        EXECUTING,
        request_tasks(item()),
        (
            e.ReportRecorded(kind="task_request", body={"reason": "Why", "tasks": [item()]}, **REPORTED),
            replace(ACCEPTED, planned=False),
        ),
        "executing",
    ),
    Case("create the tasks of a plan", WITH_CHILDREN, create_children(item()), (ACCEPTED,), "ready"),
    Case(
        "create the tasks of a plan, one denied",
        WITH_CHILDREN,
        create_children(item(), denied=("one",)),
        (
            e.ChildRefused(planned=True, **PROPOSED),
            e.InputRequired(reason="Tasks of the plan were refused: one (because)."),
        ),
        "input_required",
    ),
    Case(
        "a child ends",
        (*WITH_CHILDREN, create_children(item())),
        end_child(tokens=3),
        (e.ChildEnded(child_id="c-one", ref="one", phase="completed", spent=Spending(tokens=3)),),
        "ready",
    ),
    Case("cancel", DIRECT, CANCEL, (e.TaskCancelled(by="rita", reason="No longer needed."),), "cancelled"),
    Case("retry", PHASES["retry_wait"], RETRY, (e.RetryReleased(reason="again", fresh=False),), "ready"),
    Case(
        "retry afresh",
        PHASES["dead_letter"],
        c.Retry(by="rita", reason="again", fresh=True),
        (e.RetryReleased(reason="again", fresh=True),),
        "ready",
    ),
    Case(
        "ask a person",
        EXECUTING,
        c.Escalate(**sender(), question="Which?", blocking=True),
        (RAISED,),
        "input_required",
    ),
    Case(
        "answer",
        (*EXECUTING, c.Escalate(**sender(), question="Which?", blocking=True)),
        c.Answer(by="rita", question_id="q1", text="That one."),
        (e.EscalationAnswered(question_id="q1", option=None, text="That one.", by="rita", defaulted=False),),
        "ready",
    ),
    Case(
        "nobody answers",
        (*EXECUTING, c.Escalate(**sender(), question="Which?", blocking=True)),
        fire("escalation", "q1", 20 + DEADLINE_SECONDS),
        (e.EscalationTimedOut(question_id="q1"),),
        "input_required",
    ),
    Case(
        "hold",
        DIRECT,
        c.PutOnHold(by="rita", reason="Frozen."),
        (e.TaskHeld(reason="Frozen.", by="rita", cause="operator"),),
        "ready",
    ),
    Case(
        "release a hold",
        (*DIRECT, c.PutOnHold(by="rita", reason="Frozen.")),
        c.ReleaseHold(by="rita", reason=""),
        (e.HoldReleased(reason="", by="rita"),),
        "ready",
    ),
    Case(
        "change the priority",
        EXECUTING,
        c.Reprioritise(by="rita", priority="critical", reason="/priority critical"),
        (e.TaskReprioritised(priority="critical", by="rita", reason="/priority critical"),),
        "executing",
    ),
    Case(
        "tighten the mode",
        DIRECT,
        TIGHTEN,
        (e.ModeTightened(by="rita", reason="/mode plan_first"),),
        "ready",
    ),
    Case(
        "tighten the mode of what nobody took yet",
        (*DIRECT, offer()),
        TIGHTEN,
        (
            e.AttemptSuperseded(attempt=1, reason="a plan is wanted first"),
            e.ModeTightened(by="rita", reason="/mode plan_first"),
        ),
        "ready",
    ),
    Case(
        "take a note", EXECUTING, NOTE, (e.NoteTaken(note_id="n1", by="rita", text="Mind it."),), "executing"
    ),
    Case(
        "open the next stage of a review",
        IN_STAGES,
        cast(),
        (
            e.PlanVoted(version=1, digest=digest("a"), voter="rita", vote="approve", words="/approve"),
            e.ReviewStageOpened(
                subject="plan", version=1, digest=digest("a"), stage=2, reviewers=Reviewers(role="admin")
            ),
        ),
        "plan_review",
    ),
    Case(
        "adopt",
        (*EXECUTING, fire("lease", "1", 910), quarantine()),
        c.Adopt(quarantine_id="q", by="rita", reason="Good.", late=submit_result()),
        (
            e.QuarantineAdopted(quarantine_id="q", attempt=1, kind="result", by="rita", reason="Good."),
            RESULT_SUBMITTED,
        ),
        "result_review",
    ),
    Case("reassign", DIRECT, REASSIGN, (e.TaskReassigned(assignee="bob", reason="/reassign bob"),), "ready"),
    Case(
        "reassign under review",
        IN_PLAN_REVIEW,
        REASSIGN,
        (e.TaskReassigned(assignee="bob", reason="/reassign bob"),),
        "plan_review",
    ),
    Case(
        "reassign at work",
        EXECUTING,
        REASSIGN,
        (SUPERSEDED, e.TaskReassigned(assignee="bob", reason="/reassign bob")),
        "ready",
    ),
    Case(
        "the ack deadline comes",
        (*DIRECT, offer()),
        fire("ack", "1", 300),
        (e.AttemptExpired(attempt=1, what="ack", retry_at=at(310)),),
        "retry_wait",
    ),
    Case(
        "the lease ends",
        EXECUTING,
        fire("lease", "1", 910),
        (e.AttemptExpired(attempt=1, what="lease", retry_at=at(920)),),
        "retry_wait",
    ),
    Case(
        "the retry is due",
        PHASES["retry_wait"],
        fire("retry", "1", 30),
        (e.RetryReleased(reason="The waiting time is over.", fresh=False),),
        "ready",
    ),
    Case(
        "a reviewer is asked",
        PLAN_FOR_AGENTS,
        offer(2, "bob"),
        (
            replace(LET, attempt=2),
            e.AttemptOffered(attempt=2, step="review", **(OFFERED | {"executor": "bob"})),
        ),
        "plan_review",
    ),
    Case(
        "a reviewer votes",
        REVIEWING,
        review(),
        (REVIEW_SUBMITTED, e.PlanVoted(**TARGET, **VOTED_BY_BOB), PLAN_APPROVED_BY_BOB),
        "ready",
    ),
    Case(
        "nobody is left to review",
        PLAN_FOR_AGENTS,
        c.EscalateReview(version=1, reason="Nobody."),
        (e.ReviewEscalated(subject="plan", reason="Nobody.", **TARGET),),
        "plan_review",
    ),
    Case(
        "create with a start that is to come",
        (),
        create(not_before=at(60)),
        (CREATED, e.StartDeferred(not_before=at(60))),
        "received",
    ),
    Case(
        "the start comes",
        (create(not_before=at(60)), admit()),
        fire("not_before", "task", 60),
        (e.StartReached(not_before=at(60)),),
        "ready",
    ),
    Case(
        "admit, with a due date that escalates",
        (create(due=at(60)),),
        replace(ADMIT, verdict=replace(ADMIT.verdict, on_due="escalate")),
        (e.TaskAllowed(obligations=Obligations(), **RULED), e.DueEscalates(rules=("rule",))),
        "ready",
    ),
    Case(
        "the due date passes",
        (create(due=at(60)), admit()),
        fire("due", "task", 60),
        (e.TaskOverdue(due=at(60), on_due="notify"),),
        "ready",
    ),
    Case("freeze", DIRECT, FREEZE, (FROZEN,), "ready"),
    Case(
        "thaw",
        (*DIRECT, FREEZE),
        c.ThawTask(reason="Lifted.", at=at(5)),
        (e.TaskThawed(rule="year-end", reason="Lifted.", at=at(5)),),
        "ready",
    ),
    Case(
        "the freeze ends",
        (*DIRECT, FREEZE),
        fire("freeze", "year-end", 60),
        (e.TaskThawed(rule="year-end", reason="The freeze is over.", at=at(60)),),
        "ready",
    ),
    Case(
        "trip a breaker",
        DIRECT,
        c.TripBreaker(attempts=3, within_seconds=600),
        (
            e.TaskHeld(
                reason="It had 3 attempts within 600 seconds, as many as policy allows.",
                by="system",
                cause="breaker",
            ),
        ),
        "ready",
    ),
    Case(
        "extend a lease",
        EXECUTING,
        c.ExtendLease(attempt=1, since=at(900), at=at(2000)),
        (
            e.LeaseExtended(
                attempt=1,
                lease_expires_at=at(2900),
                reason="Nobody served from 2030-01-01 12:15:00 UTC to 2030-01-01 12:33:20 UTC.",
            ),
        ),
        "executing",
    ),
    Case(
        "a run is alive",
        EXECUTING,
        c.SeeRun(attempt=1, alive=True, seen_at=at(400), at=at(401)),
        (e.LeaseRenewedByRun(attempt=1, lease_expires_at=at(1300), seen_at=at(400)),),
        "executing",
    ),
    Case(
        "a run has ended",
        EXECUTING,
        c.SeeRun(attempt=1, alive=False, seen_at=at(400), at=at(401)),
        (e.RunEnded(attempt=1, lease_expires_at=at(461), seen_at=at(400)),),
        "executing",
    ),
    Case(
        "an operator changes the title on the issue",
        EXECUTING,
        c.AdoptField(field="title", value=" A better one ", permitted=True, at=at(400)),
        (e.FieldAdopted(field="title", value="A better one"),),
        "executing",
    ),
    Case(
        "somebody else changes the title on the issue",
        EXECUTING,
        c.AdoptField(field="title", value="A better one", permitted=False, at=at(400)),
        (
            e.FieldNoted(
                field="title",
                value="A better one",
                reason="only an operator's changes are taken over",
                at=at(400),
            ),
        ),
        "executing",
    ),
    Case(
        "an agent closes its issue",
        EXECUTING,
        drift(400),
        (e.FieldDrifted(field="closed", author="coder", value="completed", at=at(400)),),
        "executing",
    ),
    Case(
        "an agent closes its issue once too often",
        (*EXECUTING, *(drift(400 + n) for n in range(5))),
        drift(500),
        (
            e.FieldDrifted(field="closed", author="coder", value="completed", at=at(500)),
            e.RepairsPaused(field="closed", author="coder", wanted="", until=at(4100)),
        ),
        "executing",
    ),
    Case(
        "repairs are asked for again",
        (*EXECUTING, *(drift(400 + n) for n in range(6))),
        c.ResumeRepairs(reason="redriven"),
        (e.RepairsResumed(field="closed", reason="redriven"),),
        "executing",
    ),
    Case(
        "fail, and another is to try",
        EXECUTING,
        fail("internal", retryable=False, ruling=ended("other_executor")),
        (
            told(ended("other_executor")),
            failed("internal", retry_after=10, retryable=False),
            ruled("internal", "other_executor"),
        ),
        "retry_wait",
    ),
    Case(
        "fail, and a stronger one is to try",
        EXECUTING,
        fail("internal", retryable=False, ruling=ended("stronger_tier")),
        (
            told(ended("stronger_tier")),
            failed("internal", retry_after=10, retryable=False),
            ruled("internal", "stronger_tier"),
        ),
        "retry_wait",
    ),
    Case(
        "offer, to one of a tier",
        (create(), admit(tier=1)),
        offer(tier=2),
        (LET, e.AttemptOffered(attempt=1, step="execute", tier=2, **OFFERED)),
        "dispatched",
    ),
    Case(
        "fail, and a person is to look",
        EXECUTING,
        fail(ruling=ended("person")),
        (
            told(ended("person")),
            failed("transient", retry_after=None),
            ruled("transient", "person"),
            e.InputRequired(reason="because"),
        ),
        "input_required",
    ),
    Case(
        "fail, and the plan is to be made anew",
        EXECUTING_PLAN,
        fail("tool", attempt=2, ruling=ended("replan")),
        (
            told(ended("replan")),
            replace(failed("tool", retry_after=None), attempt=2, callback_id="ada-2-2"),
            ruled("tool", "replan", attempt=2),
            e.RetryReleased(reason="The plan was found infeasible; a new one is needed.", fresh=False),
        ),
        "ready",
    ),
    Case(
        "the lease ends, and a person is to look",
        EXECUTING,
        fire("lease", "1", 910, said=ended("person")),
        (
            told(ended("person")),
            e.AttemptExpired(attempt=1, what="lease", retry_at=None),
            ruled("lease", "person"),
            e.InputRequired(reason="because"),
        ),
        "input_required",
    ),
    Case(
        "submit a plan that needs more",
        PHASES["planning"],
        submit_plan(ruling=MORE_OF_PLAN),
        (
            told(MORE_OF_PLAN, MORE_OF_PLAN.verdict.obligations),
            replace(PLAN_SUBMITTED, review_deadline=at(80)),
            e.ReviewRequired(subject="plan", obligations=MORE_ASKED, **TARGET, rules=("rule",)),
        ),
        "plan_review",
    ),
    Case(
        "submit a result that somebody must review",
        (create(), admit(), offer(), ack()),
        submit_result(ruling=MORE_OF_RESULT),
        (
            told(MORE_OF_RESULT, MORE_OF_RESULT.verdict.obligations),
            replace(RESULT_SUBMITTED, review_deadline=None),
            e.ReviewRequired(
                subject="result", obligations=Obligations(result_review=True), **RESULT, rules=("rule",)
            ),
        ),
        "result_review",
    ),
    Case(
        "ask somebody of a role",
        EXECUTING,
        c.Escalate(**sender(), question="Which?", blocking=True, ruling=ASK_REVIEWER),
        (told(ASK_REVIEWER), RAISED, e.EscalationRouted(question_id="q1", ask="reviewer", rules=("rule",))),
        "input_required",
    ),
    Case(
        "a plan is not let in",
        PHASES["planning"],
        c.RecordDenial(ruling=NO_PLAN),
        (told(NO_PLAN),),
        "planning",
    ),
    Case(
        "the same plan is not let in again",
        (*PHASES["planning"], c.RecordDenial(ruling=NO_PLAN)),
        c.RecordDenial(ruling=NO_PLAN),
        (),
        "planning",
    ),
    Case(
        "an acknowledgement is refused because of its skills",
        PHASES["dispatched"],
        DRIFTED,
        (e.SkillsDrifted(attempt=1, executor="ada", expected="sha256:in-force", found="sha256:other"),),
        "dispatched",
    ),
    Case(
        "one with the same skills again is no other drift",
        (*PHASES["dispatched"], DRIFTED),
        DRIFTED,
        (),
        "dispatched",
    ),
    Case(
        "switch the default off",
        ESCALATING,
        SWITCH_OFF,
        (e.DefaultSwitchedOff(subject="plan", by="rita", reason="/default off", **TARGET),),
        "plan_review",
    ),
    Case(
        "the review's deadline comes",
        IN_PLAN_REVIEW,
        fire("review", "plan:1", 20 + DEADLINE_SECONDS),
        (e.ReviewTimedOut(subject="plan", outcome="block", **TARGET),),
        "plan_review",
    ),
)


def each_case(test: Callable[[Case], None]) -> Callable[[Case], None]:
    """Run a test for every case."""
    return pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)(test)


@each_case
def test_a_command_yields_exactly_the_right_events(case: Case):
    """In its origin state a command yields these events, no more, and the task is in the right phase."""
    after = given(*case.history).when(case.command).then(*case.events)
    assert case.phase == after.task.phase


@each_case
def test_a_repeated_command_yields_nothing(case: Case):
    """A command put to the task that it has just changed yields no events, and no refusal."""
    given(*case.history, case.command).when(case.command).nothing()


def test_a_brief_of_another_step_opens_no_attempt():
    """When the mode got stricter after the brief was written, nobody is told to execute what must be planned."""
    stale = replace(offer(), brief={"task_id": "t-1", "step": "execute"})
    given(*DIRECT, TIGHTEN).when(stale).refused("wrong_phase")
    assert "dispatched" == given(*DIRECT, stale).task.phase


def test_the_cases_leave_out_no_command_and_no_event():
    """Every command and every event that exists is in the table of cases."""
    commands = {kind for union in get_args(c.Command) for kind in (get_args(union) or (union,))}
    assert commands == {type(case.command) for case in CASES}
    assert set(get_args(e.Event)) == {type(event) for case in CASES for event in case.events}


ACTS_IN: dict[str, tuple[Callable[[Task], c.Command], frozenset[str]]] = {
    "admit": (lambda _: admit(), frozenset({"received"})),
    "offer": (lambda t: offer((t.attempt.number if t.attempt else 0) + 1), frozenset({"ready"})),
    "require input": (lambda _: c.RequireInput(reason="Why"), frozenset({"ready"})),
    "acknowledge": (lambda _: ack(seconds=30, seq=9), frozenset({"dispatched", "planning", "executing"})),
    "decline": (lambda _: decline(), frozenset({"dispatched"})),
    "heartbeat": (lambda _: heartbeat(seq=9), frozenset({"planning", "executing"})),
    "progress": (
        lambda _: c.ReportProgress(**sender(seq=9), message="m"),
        frozenset({"planning", "executing"}),
    ),
    "evidence": (
        lambda _: c.AddEvidence(**sender(seq=9), evidence=EVIDENCE),
        frozenset({"planning", "executing"}),
    ),
    "record": (
        lambda _: c.Record(**sender(seq=9), kind="handoff", body={}),
        frozenset({"planning", "executing"}),
    ),
    "review": (lambda _: review(attempt=1, executor="ada"), frozenset()),
    "escalate a review": (lambda _: c.EscalateReview(version=1, reason="Nobody."), frozenset()),
    "request tasks": (lambda _: request_tasks(item(), seq=9), frozenset({"planning", "executing"})),
    "create children": (lambda _: create_children(item()), frozenset()),
    "end a child": (lambda _: end_child(), frozenset()),
    "plan": (lambda _: submit_plan(seq=9), frozenset({"planning"})),
    "result": (lambda _: submit_result(seq=9), frozenset({"executing"})),
    "failure": (lambda _: fail(seq=9), frozenset({"planning", "executing"})),
    "approve": (lambda _: cast(voter=accept().voter), frozenset({"plan_review"})),
    "accept": (lambda _: accept(content="c"), frozenset({"result_review"})),
    "edit": (lambda _: edit_plan(), frozenset({"plan_review"})),
    "cancel": (lambda _: CANCEL, LIVE),
    "retry": (lambda _: RETRY, frozenset({"retry_wait", "dead_letter", "input_required"})),
    "reassign": (lambda _: REASSIGN, LIVE),
    "record a denial": (lambda _: c.RecordDenial(ruling=NO_PLAN), frozenset(PHASES)),
    "record a drift of skills": (lambda _: DRIFTED, frozenset({"dispatched", "planning", "executing"})),
    "ack deadline": (lambda _: fire("ack", "1", 9999), frozenset({"dispatched"})),
    "lease": (lambda _: fire("lease", "1", 9999), frozenset({"planning", "executing"})),
    "retry deadline": (lambda _: fire("retry", "1", 9999), frozenset({"retry_wait"})),
    "plan deadline": (lambda _: fire("review", "plan:1", 9999), frozenset({"plan_review"})),
    "result deadline": (lambda _: fire("review", "result:1", 9999), frozenset({"result_review"})),
    "freeze": (lambda _: FREEZE, LIVE),
    "thaw": (lambda _: c.ThawTask(reason="", at=at(5)), frozenset()),
    "trip": (lambda _: c.TripBreaker(attempts=1, within_seconds=60), frozenset({"ready"})),
    "extend": (
        lambda _: c.ExtendLease(attempt=1, since=at(0), at=at(9999)),
        frozenset({"dispatched", "planning", "executing"}),
    ),
    "see a run": (
        lambda _: c.SeeRun(attempt=1, alive=False, seen_at=at(30), at=at(31)),
        frozenset({"dispatched", "planning", "executing"}),
    ),
    "start": (lambda _: fire("not_before", "task", 9999), frozenset()),
    "due": (lambda _: fire("due", "task", 9999), frozenset()),
    "end of a freeze": (lambda _: fire("freeze", "year-end", 9999), frozenset()),
    "see drift": (lambda _: drift(9999, "state", "done"), frozenset(PHASES)),
    "adopt a field": (
        lambda _: c.AdoptField(field="labels", value="a, b", permitted=True, at=at(9999)),
        frozenset(PHASES) - ENDS,
    ),
    "resume repairs": (lambda _: c.ResumeRepairs(reason="r"), frozenset()),
    "quiet": (lambda _: fire("repairs", "state", 9999), frozenset()),
    "unknown deadline": (lambda _: fire("birthday", "1", 9999), frozenset()),
    "quarantine": (lambda _: quarantine(), frozenset(PHASES)),
    "await budget": (lambda _: AWAIT_DAY, frozenset({"ready"})),
    "budget deadline": (lambda _: fire("budget", "day:2030-01-01", 9999), frozenset()),
    "wall deadline": (lambda _: fire("wall", "1", 9999), frozenset()),
    "charge": (lambda _: CHARGE, frozenset(PHASES) - {"received", "ready", "input_required"}),
    "escalate": (
        lambda _: c.Escalate(**sender(seq=9), question="Which?", blocking=False),
        frozenset({"planning", "executing"}),
    ),
    "answer": (lambda _: c.Answer(by="rita", question_id="q1", text="This."), frozenset()),
    "hold": (lambda _: c.PutOnHold(by="rita", reason=""), LIVE),
    "change the priority": (lambda _: c.Reprioritise(by="rita", priority="low", reason=""), LIVE),
    "tighten the mode": (
        lambda _: TIGHTEN,
        frozenset({"ready", "dispatched", "retry_wait", "dead_letter", "input_required"}),
    ),
    "take a note": (lambda _: NOTE, LIVE),
    "release": (lambda _: c.ReleaseHold(by="rita", reason=""), frozenset()),
    "attest": (lambda _: attest(), frozenset()),
    "switch the default off": (lambda _: SWITCH_OFF, frozenset()),
    "take back": (lambda _: TAKE_BACK, frozenset({"dispatched"})),
    "fence off": (lambda _: FENCE_OFF, frozenset({"dispatched", "planning", "executing"})),
    "adopt": (
        lambda _: c.Adopt(quarantine_id="q", by="rita", reason="", late=submit_result()),
        frozenset(),
    ),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ACTS_IN)
def test_a_command_acts_in_its_origin_states_and_nowhere_else(name: str, phase: str):
    """In each phase a command either acts, where it belongs, or is refused or without effect."""
    command_for, origins = ACTS_IN[name]
    task = given(*PHASES[phase]).task
    assert phase == task.phase
    try:
        events = decide(command_for(task), task)
    except Rejected:
        events = []
    assert (phase in origins) == bool(events)


@pytest.mark.parametrize("name", sorted(set(ACTS_IN) - {"admit"}))
def test_a_task_that_does_not_exist_takes_no_command(name: str):
    """Whatever is asked of an unknown task is refused as such."""
    anyone = given(create()).task
    given().when(ACTS_IN[name][0](anyone)).refused("unknown_task")


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_live_task_waits_for_is_always_known(phase: str):
    """Exactly the tasks that have not ended say who must do what next."""
    task = given(*PHASES[phase]).task
    assert (phase in LIVE) == (waiting_for(task) is not None)


def test_a_denied_admission_is_not_overturned_by_a_second_verdict():
    """The first verdict on a task stands, whatever a second one says."""
    given(create(), admit("deny")).when(admit()).nothing()
    given(create(), admit()).when(c.AdmitTask(verdict=verdict(decision="deny"), facts_digest="x")).nothing()

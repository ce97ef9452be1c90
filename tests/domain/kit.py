"""given(history).when(command).then(events): the decider's tests in its own words, and one of each command."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, get_args

import pytest

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import Attested, Evidence, Participant, Runtime
from agentic_os.domain.evolution import fold
from agentic_os.domain.family import Spending
from agentic_os.domain.policy import NONE, Hook, Obligations, Reviewers, Then, Verdict
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
ACK_SECONDS, LEASE_SECONDS, DEADLINE_SECONDS = 300, 900, 3600
BUNDLE, FACTS, FACTS_DIGEST = "sha256:" + "b" * 64, {"task.project": "p"}, "sha256:" + "f" * 64
BRIEF_DIGEST, SKILLS = "sha256:" + "1" * 64, "sha256:" + "2" * 64
RUNTIME = Runtime(name="robot")
RITA = Participant(id="rita", kind="person", roles=frozenset({"reviewer", "operator"}))
OMAR = Participant(id="omar", kind="person", roles=frozenset({"reviewer"}))

Step: TypeAlias = c.Command | e.Event | Callable[[Task], c.Command]


def at(seconds: float) -> datetime:
    """Give an instant of the tests' day."""
    return START + timedelta(seconds=seconds)


def digest(character: str) -> str:
    """Make a digest that is easy to tell from others."""
    return "sha256:" + character * 64


@dataclass(frozen=True)
class Given:
    """A task with a history, or none yet."""

    task: Task | None

    def when(self, step: Step) -> "When":
        """Put a command to the task."""
        command = step(self.task) if callable(step) else step
        return When(task=self.task, command=command)

    def and_then(self, *steps: Step) -> "Given":
        """Go on with the history."""
        task = self.task
        for step in steps:
            if isinstance(step, get_args(e.Event)):
                task = fold([step], task)
            else:
                task = fold(decide(step(task) if callable(step) else step, task), task)
        return Given(task)


@dataclass(frozen=True)
class When:
    """A command, and the task that it is put to."""

    task: Task | None
    command: c.Command

    def then(self, *expected: e.Event) -> Given:
        """Expect exactly these events, and go on from them."""
        decided = decide(self.command, self.task)
        assert list(expected) == decided
        return Given(fold(decided, self.task))

    def nothing(self) -> None:
        """Expect that nothing happens."""
        self.then()

    def refused(self, code: str) -> Rejected:
        """Expect a refusal with this code."""
        with pytest.raises(Rejected) as caught:
            decide(self.command, self.task)
        assert code == caught.value.code
        return caught.value


def given(*steps: Step) -> Given:
    """Begin with a history of commands, or of bare events."""
    return Given(None).and_then(*steps)


def create(**changes: Any) -> c.CreateTask:
    """Ask for work."""
    wanted: dict[str, Any] = {
        "task_id": "t-1",
        "title": "Title",
        "goal": "Goal",
        "project": "p",
        "requester": "rita",
        "at": START,
    }
    return c.CreateTask(**(wanted | changes))


def verdict(hook: Hook = "task.received", decision: str = "allow", **obligations: Any) -> Verdict:
    """Decide as policy might."""
    return Verdict(
        hook=hook,
        decision="deny" if decision == "deny" else "allow",
        rules=("rule",),
        reasons=("because",),
        bundle=BUNDLE,
        obligations=Obligations(**obligations),
        facts=FACTS,
    )


def ruling(
    hook: Hook,
    decision: str = "allow",
    *,
    then: Then | None = None,
    ask: str | None = None,
    **obligations: Any,
) -> c.Ruling:
    """Say what policy says of what a command brings."""
    said = replace(verdict(hook, decision), then=then, ask=ask, obligations=replace(NONE, **obligations))
    return c.Ruling(verdict=said, facts_digest=FACTS_DIGEST)


def ended(then: Then | None, decision: str = "allow") -> c.Ruling:
    """Say what policy says of the end of an attempt."""
    return ruling("attempt.ended", decision, then=then)


def admit(decision: str = "allow", **obligations: Any) -> c.AdmitTask:
    """Let the task in, or not."""
    return c.AdmitTask(verdict=verdict(decision=decision, **obligations), facts_digest=FACTS_DIGEST)


def offer(
    attempt: int = 1, executor: str = "ada", decision: str = "allow", seconds: float = 0, **more: Any
) -> c.OfferAttempt:
    """Open an attempt."""
    return c.OfferAttempt(
        attempt=attempt,
        executor=executor,
        brief={"task_id": "t-1"},
        brief_digest=BRIEF_DIGEST,
        verdict=verdict("dispatch", decision),
        facts_digest=FACTS_DIGEST,
        ack_deadline=at(seconds + ACK_SECONDS),
        lease_seconds=LEASE_SECONDS,
        **more,
    )


def sender(
    attempt: int = 1, executor: str = "ada", seq: int = 2, seconds: float = 20, **changes: Any
) -> dict[str, Any]:
    """Say who calls back: the executor with its first token, twenty seconds into the day."""
    sent = {
        "attempt": attempt,
        "executor": executor,
        "seq": seq,
        "callback_id": f"{executor}-{attempt}-{seq}",
        "at": at(seconds),
        "generation": 1,
    }
    return sent | changes


def ack(
    brief_digest: str = BRIEF_DIGEST,
    skillset_digest: str = SKILLS,
    seq: int = 1,
    seconds: float = 10,
    **who: Any,
) -> c.Acknowledge:
    """Take the attempt."""
    return c.Acknowledge(
        **sender(seq=seq, seconds=seconds, **({"generation": 0} | who)),
        brief_digest=brief_digest,
        skillset_digest=skillset_digest,
        expected_skillset=SKILLS,
        runtime=RUNTIME,
    )


def decline(reason: Any = "busy", **who: Any) -> c.Decline:
    """Give the attempt back."""
    return c.Decline(**sender(**({"generation": 0, "seq": 1} | who)), reason=reason)


def heartbeat(**who: Any) -> c.Heartbeat:
    """Show life."""
    return c.Heartbeat(**sender(**who))


def fail(
    failure: Any = "transient", *, retryable: bool = True, jitter: float = 0.0, **who: Any
) -> c.ReportFailure:
    """Give up."""
    after, said = who.pop("retry_after_seconds", None), who.pop("ruling", None)
    return c.ReportFailure(
        **sender(**who),
        failure=failure,
        message="It broke.",
        retryable=retryable,
        jitter=jitter,
        retry_after_seconds=after,
        ruling=said,
    )


def submit_plan(content: str = "a", answers: frozenset[str] = frozenset(), **who: Any) -> c.SubmitPlan:
    """Hand in a plan whose digest is that character repeated, with children where `tasks` says so."""
    plan = {"summary": content} | ({"tasks": who.pop("tasks")} if "tasks" in who else {})
    said = who.pop("ruling", None)
    return c.SubmitPlan(**sender(**who), digest=digest(content), plan=plan, answers=answers, ruling=said)


def item(ref: str = "one", **changes: Any) -> dict[str, Any]:
    """Propose a task, in the contract's words."""
    return {"ref": ref, "title": ref.title(), "goal": "Goal", "acceptance": []} | changes


def proposals(*items: dict[str, Any], denied: tuple[str, ...] = ()) -> tuple[c.Proposal, ...]:
    """Decide on proposed tasks as policy might; the id of each is its ref with "c-" before it."""
    return tuple(
        c.Proposal(
            child_id=f"c-{i['ref']}",
            item=i,
            verdict=verdict("task.proposed", "deny" if i["ref"] in denied else "allow"),
            facts_digest=FACTS_DIGEST,
        )
        for i in items
    )


def request_tasks(*items: dict[str, Any], denied: tuple[str, ...] = (), **who: Any) -> c.RequestTasks:
    """Propose tasks while at work."""
    return c.RequestTasks(
        **sender(**who),
        kind="task_request",
        body={"reason": "Why", "tasks": list(items)},
        proposals=proposals(*items, denied=denied),
    )


def create_children(*items: dict[str, Any], denied: tuple[str, ...] = (), plan: int = 1) -> c.CreateChildren:
    """Create the tasks of the approved plan."""
    return c.CreateChildren(plan=plan, proposals=proposals(*items, denied=denied))


def end_child(ref: str = "one", phase: Any = "completed", **spent: int) -> c.EndChild:
    """Let a child come to its end."""
    return c.EndChild(child_id=f"c-{ref}", phase=phase, spent=Spending(**spent))


def submit_result(content: str = "c", outcome: Any = "success", **who: Any) -> c.SubmitResult:
    """Hand in a result whose digest is that character repeated."""
    documents = {
        name: who.pop(name) for name in ("evidence", "artifacts", "answers", "ruling") if name in who
    }
    return c.SubmitResult(
        **sender(**who), digest=digest(content), outcome=outcome, result={"summary": content}, **documents
    )


def cast(
    vote: Any = "approve",
    *,
    subject: Any = "plan",
    version: int | None = 1,
    content: str | None = "a",
    voter: Participant = RITA,
    items: tuple[str, ...] = (),
    seconds: float = 60,
) -> c.CastVote:
    """Vote on what has that version, and a digest of that character repeated."""
    return c.CastVote(
        subject=subject,
        voter=voter,
        vote=vote,
        words=f"/{vote}",
        version=version,
        digest=None if content is None else content * 64,
        seen_at=at(seconds),
        items=items,
        item_ids=tuple(f"i{number}" for number, _ in enumerate(items, 1)),
        bundle=BUNDLE,
    )


def edit_plan(
    content: str = "b", *, replaces: str = "a", by: Participant = RITA, seconds: float = 50, **more: Any
) -> c.EditPlan:
    """Edit the plan whose digest is the one character repeated into one of the other."""
    plan = {"summary": content} | more.pop("plan", {})
    return c.EditPlan(
        by=by, replaces=digest(replaces), digest=digest(content), plan=plan, at=at(seconds), **more
    )


def accept(**changes: Any) -> c.CastVote:
    """Accept the first result."""
    return cast(**({"subject": "result", "content": "c"} | changes))


REVIEWED_BY_AGENTS = Reviewers(role="qa", by="anyone")


def review(vote: Any = "approve", *, subject: Any = "plan", content: str = "a", **who: Any) -> c.SubmitReview:
    """Vote as the executor of the second attempt, on what has a digest of that character repeated."""
    documents = {name: who.pop(name) for name in ("evidence", "items") if name in who}
    items = documents.get("items", ("Say how.",) if vote == "revise" else ())
    return c.SubmitReview(
        **sender(**({"attempt": 2, "executor": "bob", "seconds": 60} | who)),
        subject=subject,
        digest=digest(content),
        vote=vote,
        summary="Looked at it.",
        items=items,
        item_ids=tuple(f"i{number}" for number, _ in enumerate(items, 1)),
        evidence=documents.get("evidence", ()),
    )


def attest(status: Any = "pass", source: str = "ci", seconds: float = 40, **changes: Any) -> c.Attest:
    """Let a source say of the criterion `tests` how it did."""
    evidence = Evidence(
        criterion_id=changes.pop("criterion_id", "tests"),
        rank="independent",
        claimed="independent",
        status=status,
    )
    return c.Attest(attested=Attested(source=source, evidence=evidence, **changes), at=at(seconds))


def attested(**changes: Any) -> e.EvidenceAttested:
    """Expect what comes of it."""
    said = attest(**changes)
    return e.EvidenceAttested(
        source=said.attested.source,
        evidence=said.attested.evidence,
        subject_digest=said.attested.subject_digest,
        commit=said.attested.commit,
        url=said.attested.url,
        at=said.at,
    )


def fire(
    kind: str, ref: str, seconds: float, jitter: float = 0.0, said: c.Ruling | None = None
) -> c.FireDeadline:
    """Let a deadline come."""
    return c.FireDeadline(kind=kind, ref=ref, at=at(seconds), jitter=jitter, ruling=said)


def quarantine(**changes: Any) -> c.Quarantine:
    """Keep a late result aside."""
    late: dict[str, Any] = {"quarantine_id": "q", "attempt": 1, "callback_id": "late", "kind": "result"}
    return c.Quarantine(
        **(late | {"reason": "lease_lost", "body": {"summary": "s"}, "at": at(5000)} | changes)
    )


DIRECT = (create(), admit(result_review=True, deadline_seconds=DEADLINE_SECONDS))
PLANNED = (create(), admit(mode="plan_first", deadline_seconds=DEADLINE_SECONDS, result_review=True))
IN_PLAN_REVIEW = (*PLANNED, offer(), ack(), submit_plan())
AUTHORISED = (*IN_PLAN_REVIEW, cast())
EXECUTING_PLAN = (*AUTHORISED, offer(2), ack(attempt=2))
EXECUTING = (*DIRECT, offer(), ack())

PLAN_FOR_AGENTS = (
    create(),
    admit(mode="plan_first", reviewers=REVIEWED_BY_AGENTS, deadline_seconds=DEADLINE_SECONDS),
    offer(),
    ack(),
    submit_plan(),
)
REVIEWING = (*PLAN_FOR_AGENTS, offer(2, "bob", seconds=30), ack(attempt=2, executor="bob", seconds=40))
WITH_CHILDREN = (*PLANNED, offer(), ack(), submit_plan(tasks=[item()]), cast())
"""A plan with one task is approved, and the task not created yet."""

PHASES: dict[str, tuple[Step, ...]] = {
    "received": (create(),),
    "ready": DIRECT,
    "dispatched": (*DIRECT, offer()),
    "planning": (*PLANNED, offer(), ack()),
    "plan_review": IN_PLAN_REVIEW,
    "executing": EXECUTING,
    "result_review": (*EXECUTING, submit_result()),
    "retry_wait": (*EXECUTING, fail()),
    "dead_letter": (*EXECUTING, fail("budget")),
    "input_required": (*DIRECT, c.RequireInput(reason="Nobody is left.")),
    "completed": (*EXECUTING, submit_result(), accept()),
    "rejected": (*EXECUTING, submit_result(), accept(vote="reject")),
    "cancelled": (*EXECUTING, c.Cancel(by="rita", reason="No longer needed.")),
    "failed": (*EXECUTING, fail(retryable=False)),
}
"""A way into each phase."""

LIVE = frozenset(PHASES) - {"completed", "rejected", "cancelled", "failed"}


def reviewed_by(role: str = "reviewer", quorum: int = 1, **obligations: Any) -> tuple[Step, ...]:
    """Bring a plan under review by so many of a role."""
    asked = {"mode": "plan_first", "reviewers": Reviewers(role=role, quorum=quorum)} | obligations
    return (create(), admit(**asked), offer(), ack(), submit_plan())


def person(name: str, *roles: str, owns: frozenset[str] = frozenset()) -> Participant:
    """Make a person."""
    return replace(OMAR, id=name, roles=frozenset(roles), owns=owns)

"""Move a task on where the system itself must: policy's verdict, then an attempt for an executor that may have it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from agentic_os.application import brief
from agentic_os.application.accounts import is_executors, opened, wait_of
from agentic_os.application.breakers import RateBreakers
from agentic_os.application.children import Children
from agentic_os.application.handle import Handled, handle
from agentic_os.application.ports import (
    AccountExhausted,
    AgentBook,
    Envelope,
    EventLog,
    Movement,
    Principal,
    Registry,
    SkillsInForce,
    TaskChange,
    WorkQueue,
)
from agentic_os.application.verdicts import admission, facts_of, facts_of_executor, put_on_record
from agentic_os.clock import now
from agentic_os.contracts.canonical import digest_of
from agentic_os.domain import commands as c
from agentic_os.domain.agent_reviews import awaits_attempt, may_review, wanted
from agentic_os.domain.budgets import renewal
from agentic_os.domain.documents import JsonObject, Priority
from agentic_os.domain.governance import BreakerTripped
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.overlays import overdue_reason
from agentic_os.domain.policy import SUPERIOR, Breaker, DecisionPoint
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.routing import Candidate, Needs, missing, needs_of, preference
from agentic_os.domain.task import Attempt, Submission, Task
from agentic_os.domain.workspaces import gaps

SYSTEM = "system"

NOTES_CARRIED: Final = 10
"""How many remarks of people a brief has, the latest."""

_RESTING: Final = "breaker:"
_LACKING: Final = "lacking:"
_PRIORITIES: Final = get_args(Priority)
_TURN: Final = "turn:"
"""What a task waits for that lets a more urgent one go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every attempt is offered under."""

    callback_url: str
    ack_within: timedelta = timedelta(minutes=5)
    lease: timedelta = timedelta(minutes=15)


class Dispatcher:
    """Advances tasks that wait for nobody but the system."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        agents: AgentBook,
        work: WorkQueue,
        policy: Callable[[], DecisionPoint],
        terms: Terms,
        committed: Callable[[Task], None],
        breakers: RateBreakers,
        skills: SkillsInForce,
        organisation: Callable[[], Organisation] = Organisation,
    ) -> None:
        self._log = log
        self._registry = registry
        self._agents = agents
        self._work = work
        self._policy = policy
        self._terms = terms
        self._committed = committed
        self._organisation = organisation
        self._breakers = breakers
        self._skills = skills
        self._children = Children(log=log, policy=policy, committed=committed)

    async def advance(self, task_id: str) -> Task | None:
        """Take the task as far as it goes by itself, and return it."""
        task = (await self._log.load(task_id)).task
        if task is not None and task.phase == "received":
            task = (await self._handle(task, admission(task, self._policy()))).task
        if task is not None and task.attempt is not None and task.attempt.state == "offered":
            task = await self._take_back(task, task.attempt)
        if task is not None and task.phase == "ready" and task.undecided and not task.kept_back:
            if await self._too_many_asked(task):
                return task
            task = await self._children.create(task)
        if task is not None and awaits_attempt(task):
            task = await self._dispatch(task)
        elif task is not None and task.frozen is not None and not task.ended:
            task = await self._follow_freezes(task)
        if task is not None and task.ended:
            await self._children.settle(task)
        return task

    async def _take_back(self, task: Task, attempt: Attempt) -> Task:
        """Take an attempt back from an executor that was paused before it acknowledged, and that nobody will wake."""
        pause = await self._agents.pause_of(attempt.executor)
        if pause is None:
            return task
        command = c.TakeBack(attempt=attempt.number, executor=attempt.executor, reason=f"{pause}.")
        return (await self._handle(task, command)).task

    async def _too_many_asked(self, task: Task) -> bool:
        """Count the tasks of the approved plan, or note until when the breaker of its executor holds them back."""
        plan = task.plan
        assert plan is not None
        refs = [f"{task.id}:v{plan.version}:{number}" for number in range(task.undecided)]
        # Noted before the last look, so that a policy that lets them in meanwhile is not missed.
        for _ in range(2):
            until = await self._breakers.task_request(plan.executor, refs)
            await self._work.forget_waits(task.id)
            if until is None:
                return False
            await self._work.wait(task.id, f"{_RESTING}{plan.executor}:{until.isoformat()}")
        return True

    async def _dispatch(self, task: Task) -> Task:
        """Offer an attempt, or note what the task waits for.

        Every note is written before the last look, so that whatever clears it meanwhile is not missed.
        """
        noted: frozenset[str] | None = None
        while True:
            task = await self._follow_freezes(task)
            offered, obstacles = await self._try(task)
            if offered is not None:
                await self._work.forget_waits(task.id)
                return offered
            if noted is not None and noted.issuperset(obstacles):
                break
            noted = frozenset(obstacles)
            await self._work.wait_for(task.id, obstacles, _rank(task))
        if any(obstacle.startswith("budget:") for obstacle in noted):
            return (await self._log.load(task.id)).task or task
        return task

    async def _follow_freezes(self, task: Task) -> Task:
        """Freeze or thaw the task as the policy in force says; a freeze that ended at its deadline has ended."""
        at = max(now(), task.thawed_at or task.created_at)
        window = self._policy().frozen(task.project, at)
        if window is not None:
            command: c.Command = c.FreezeTask(until=window.until, rule=window.id, reason=window.reason)
        elif task.frozen is not None:
            command = c.ThawTask(reason="The policy in force has no such freeze any more.", at=at)
        else:
            return task
        return (await self._handle(task, command)).task

    async def _try(self, task: Task) -> tuple[Task | None, Sequence[str]]:
        if task.must_escalate and task.due is not None and task.phase == "ready":
            command = c.RequireInput(reason=overdue_reason(task.due))
            return (await self._handle(task, command)).task, ()
        if task.kept_back:
            return task, ()  # whatever releases it marks the task
        if (submission := wanted(task)) is not None:
            return await self._try_reviewers(task, submission)
        spoiled = [f"{child.ref} ({child.id}) is {child.state}" for child in task.children if child.spoiled]
        if spoiled:
            reason = f"Of the tasks that the plan asked for, {', '.join(spoiled)}."
            return (await self._handle(task, c.RequireInput(reason=reason))).task, ()
        blockers = [f"task:{child.id}" for child in task.awaited_children]
        for blocker_id in task.depends_on:
            blocker = (await self._log.load(blocker_id)).task
            if blocker is None or (blocker.ended and blocker.phase != "completed"):
                state = blocker.phase if blocker else "unknown"
                reason = f"The task {blocker_id} that this one depends on is {state}."
                return (await self._handle(task, c.RequireInput(reason=reason))).task, ()
            if blocker.phase != "completed":
                blockers.append(f"task:{blocker_id}")
        if blockers:
            return None, blockers
        executors = await self._registry.executors()
        candidates = eligible(task, executors)
        if not candidates and (reason := _nobody_left(task)):
            return (await self._handle(task, c.RequireInput(reason=reason))).task, ()
        candidates, lacks = self._equipped(task, candidates)
        candidates, paused = _awake(candidates)
        breaker = self._policy().breakers.task
        if candidates and breaker is not None and await self._tried_too_often(task, breaker):
            trip = c.TripBreaker(
                attempts=breaker.attempts, within_seconds=int(breaker.within.total_seconds())
            )
            return (await self._handle(task, trip)).task, ()
        lacking = () if candidates or lacks or paused else _lacking(task, executors)
        return await self._first_free(task, candidates, otherwise=["executor", *lacking, *lacks, *paused])

    async def _try_reviewers(self, task: Task, submission: Submission) -> tuple[Task | None, Sequence[str]]:
        """Ask an executor for a review; with nobody left to ask, a person must look."""
        role = task.deciding.role
        executors = await self._registry.executors()
        if role == SUPERIOR:
            registered = next((e.roles for e in executors if e.name == submission.executor), ())
            above = self._organisation().superiors(submission.executor, registered)
            candidates = [e for e in executors if e.name in above]
        else:
            candidates = [e for e in executors if role in e.roles]
        candidates = [e for e in candidates if may_review(task, submission, e.name)]
        candidates, lacks = self._equipped(task, candidates)
        candidates, paused = _awake(candidates)
        fresh_first = sorted(candidates, key=lambda e: (submission.passed.count(e.name), e.load, e.name))
        offered, waits = await self._first_free(
            task, fresh_first, otherwise=[*lacks, *(["executor", *paused] if paused else [])]
        )
        if offered is not None or waits:
            return offered, waits
        who = f"above {submission.executor}" if role == SUPERIOR else f"with the role {role}"
        reason = f"no executor {who} is left that may review it"
        command = c.EscalateReview(version=submission.version, reason=reason)
        return (await self._handle(task, command)).task, ()

    def _equipped(self, task: Task, candidates: Sequence[Principal]) -> tuple[list[Principal], list[str]]:
        """Leave out whom skills keep away, and name what does as something to wait for."""
        lock, organisation = self._skills(), self._organisation()
        fit, lacks = [], []
        for each in candidates:
            found = gaps(
                each.name,
                each.roles,
                project=task.project,
                lock=lock,
                organisation=organisation,
                report=each.hydrated,
                exempt=each.skills == "not-required",
            )
            if found:
                lacks += [gap.as_wait() for gap in found]
            else:
                fit.append(each)
        return fit, lacks

    async def _first_free(
        self, task: Task, candidates: Sequence[Principal], *, otherwise: Sequence[str]
    ) -> tuple[Task | None, Sequence[str]]:
        """Offer the attempt to the first that has a free hand; name what there is to wait for where none has."""
        busy = []
        for candidate in candidates:
            hand = f"capacity:{candidate.name}"
            if candidate.capacity is not None and await self._work.outranked(task.id, hand, _rank(task)):
                busy += [hand, f"{_TURN}{candidate.name}"]
                continue
            rests_until = await self._rests_until(task, candidate)
            if rests_until is not None:
                busy.append(f"{_RESTING}{candidate.name}:{rests_until.isoformat()}")
                continue
            try:
                return await self._offer(task, candidate), ()
            except AccountExhausted as full:
                budget = wait_of(full.account)
                if budget is not None and not is_executors(budget):
                    await self._await(task, budget)
                    return None, [budget]
                busy.append(budget or hand)
            except Rejected as refusal:
                if refusal.denial is not None:
                    await put_on_record(self._log, task.id, refusal.denial, Envelope(actor=SYSTEM, at=now()))
                    continue
                if refusal.code not in ("wrong_phase", "not_permitted"):
                    raise
                return (await self._log.load(task.id)).task, ()  # somebody moved it meanwhile
        await self._await_any(task, sorted(filter(is_executors, busy)))
        return None, [*busy, *otherwise]

    async def _await_any(self, task: Task, budgets: Sequence[str]) -> None:
        """Put on record one of the executors' budgets that have no room, unless one of them is already."""
        awaited = f"budget:{task.awaited.scope}" if task.awaited else ""
        if budgets and awaited not in budgets:
            await self._await(task, budgets[0])

    async def _await(self, task: Task, budget: str) -> None:
        """Put on record which budget the task waits for: none of its attempts is spent on it."""
        scope = budget.removeprefix("budget:")
        await self._handle(task, c.AwaitBudget(scope=scope, until=renewal(scope)))

    async def _tried_too_often(self, task: Task, breaker: Breaker) -> bool:
        """Tell whether one attempt more would be too many: by when the one was opened that is so many back."""
        offers = [(a.number, a.offered_in) for a in (*task.past, task.attempt) if a is not None]
        counted = [offered_in for number, offered_in in offers if number > task.counted_from]
        if len(counted) < breaker.attempts:
            return False
        (opened,) = await self._log.read_stream(task.id, after=counted[-breaker.attempts] - 1, limit=1)
        return opened.at > now() - breaker.within

    async def _rests_until(self, task: Task, executor: Principal) -> datetime | None:
        """Count the attempt that the executor is about to get, or say until when its breaker keeps it from one."""
        breaker = self._policy().breakers.executor
        if breaker is None:
            return None
        until = await self._work.take_turn(executor.name, task.id, _following(task), now(), breaker)
        if until is not None:
            trip = BreakerTripped(
                executor=executor.name,
                attempts=breaker.attempts,
                within_seconds=int(breaker.within.total_seconds()),
                until=until,
            )
            await self._registry.record_trip(trip)
        return until

    async def _offer(self, task: Task, executor: Principal) -> Task:
        at = now()
        number = _following(task)
        lease = int(self._terms.lease.total_seconds())
        document = brief.compose(
            task,
            number,
            carried=await self._carried(task, executor),
            lease_seconds=lease,
            callback_url=self._terms.callback_url,
        )
        facts = {
            **facts_of(task),
            **facts_of_executor(executor),
            "executor.load": executor.load,
            "attempt.step": task.next_step,
        }
        policy = self._policy()
        command = c.OfferAttempt(
            attempt=number,
            executor=executor.name,
            brief=document,
            brief_digest=digest_of(document),
            verdict=policy.decide("dispatch", facts),
            facts_digest=digest_of(facts),
            ack_deadline=at + self._terms.ack_within,
            lease_seconds=lease,
            ceilings=policy.budgets.ceilings(task.project, executor.name, at),
            allowance=policy.budgets.attempt,
            capabilities=executor.capabilities,
            tier=executor.tier,
        )
        offered = False
        try:
            task = (await self._handle(task, command, lambda change: opened(change, executor.capacity))).task
            offered = task.attempt is not None and task.attempt.number == number  # by whoever was first
        finally:
            if not offered and policy.breakers.executor is not None:
                await self._work.give_turn_back(task.id, number)
        return task

    async def _carried(self, task: Task, executor: Principal) -> brief.Carried:
        """Read again, from the events that hold them, what earlier attempts left for this one."""
        plan = checkpoint = review = None
        if task.authorisation is not None and task.plan is not None:
            plan = (await self._data(task, task.plan.submitted_in))["plan"]
        if task.under_review is not None:
            review = await self._reviewed(task, task.under_review)
        elif task.checkpoint_in:
            checkpoint = (await self._data(task, task.checkpoint_in))["body"]
        mine = [h.recorded_in for h in task.handoffs if h.to_role in executor.roles]
        handoffs = [(await self._data(task, version))["body"] for version in mine]
        latest = task.notes[-NOTES_CARRIED:]
        return brief.Carried(
            notes=[await self._data(task, note.taken_in) for note in latest],
            plan=plan,
            checkpoint=checkpoint,
            handoffs=handoffs,
            review=review,
            charter=self._organisation().charter(executor.roles),
            children=await self._children.told(task),
        )

    async def _reviewed(self, task: Task, submission: Submission) -> brief.Reviewed:
        subject: Literal["plan", "result"] = "plan" if task.phase == "plan_review" else "result"
        replaced = submission.replaces
        return brief.Reviewed(
            subject=subject,
            submission=submission,
            document=(await self._data(task, submission.submitted_in))[subject],
            before=(await self._data(task, replaced))[subject] if replaced else None,
        )

    async def _data(self, task: Task, version: int) -> JsonObject:
        (event,) = await self._log.read_stream(task.id, after=version - 1, limit=1)
        return event.data

    async def _handle(
        self,
        task: Task,
        command: c.Command,
        movements: Callable[[TaskChange], Sequence[Movement]] = lambda _: (),
    ) -> Handled:
        envelope = Envelope(actor=SYSTEM, at=now())
        # The mark that brought us here stands until the task is shown as it is after this.
        handled = await handle(
            self._log, task.id, lambda _: command, envelope, movements=movements, marked=True
        )
        if handled.events:
            self._committed(handled.task)
        return handled


def yields(waits: Sequence[str]) -> bool:
    """Tell whether a task lets a more urgent one go first, which may not take the hand after all."""
    return any(w.startswith(_TURN) for w in waits)


def _rank(task: Task) -> int:
    """Rank how urgent a task is, 0 for the most."""
    return _PRIORITIES[::-1].index(task.priority)


def resting(waits: Sequence[str]) -> dict[str, datetime]:
    """Read from what a task waits for which executors a breaker keeps from it, and until when."""
    found = [w.removeprefix(_RESTING).partition(":") for w in waits if w.startswith(_RESTING)]
    return {name: datetime.fromisoformat(until) for name, _, until in found}


def _following(task: Task) -> int:
    return (task.attempt.number if task.attempt else 0) + 1


def eligible(task: Task, executors: Sequence[Principal]) -> list[Principal]:
    """List who may take the task and has what it needs, in the order in which they are asked."""
    needs = needs_of(task)
    fit = [e for e in _open_to(task, executors) if needs.met_by(e.capabilities, e.tier)]
    return sorted(fit, key=lambda e: preference(_candidate(e, task)))


def lacked(waits: Sequence[str]) -> Needs:
    """Read from what a task waits for what no executor has that may take it otherwise."""
    found = [w.removeprefix(_LACKING).partition(":") for w in waits if w.startswith(_LACKING)]
    return Needs(
        capabilities=tuple(value for kind, _, value in found if kind == "capability"),
        tier=next((int(value) for kind, _, value in found if kind == "tier"), None),
    )


def _awake(candidates: Sequence[Principal]) -> tuple[list[Principal], list[str]]:
    """Leave out whom the tracker wakes for nothing, and name each pause as something to wait for."""
    paused = [each.pause.as_wait() for each in candidates if each.pause is not None]
    return [each for each in candidates if each.pause is None], paused


def _lacking(task: Task, executors: Sequence[Principal]) -> list[str]:
    """Name what is missing as something to wait for; the wait for an executor, which goes with it, is what ends."""
    lacks = missing(needs_of(task), [(e.capabilities, e.tier) for e in _open_to(task, executors)])
    named = [f"{_LACKING}capability:{name}" for name in lacks.capabilities]
    return named if lacks.tier is None else [*named, f"{_LACKING}tier:{lacks.tier}"]


def _nobody_left(task: Task) -> str:
    """Say why only a person can find an executor, where attempts have ruled the others out; "" where none have."""
    aside = ", ".join(task.excluded)
    if task.least_tier is not None:
        others = f"; set aside are {aside}" if aside else ""
        return (
            f"Policy wants a stronger executor than the one that failed, and none with {needs_of(task)} may take the "
            f"task{others}. /reassign or /retry fresh lets weaker ones try again."
        )
    if aside:
        return f"Every executor that could take the task declined it or was set aside ({aside})."
    return ""


def _open_to(task: Task, executors: Sequence[Principal]) -> list[Principal]:
    """List those for whom the task is, and who are not barred from it, whatever it needs."""
    barred = {*task.excluded, *(task.authorisation.approvers if task.authorisation else ())}
    return [e for e in executors if e.name not in barred and _fits(e, task.assignee)]


def _candidate(executor: Principal, task: Task) -> Candidate:
    return Candidate(
        name=executor.name,
        tier=executor.tier,
        load=executor.load,
        capacity=executor.capacity,
        author=task.plan is not None and task.plan.executor == executor.name,
    )


def _fits(executor: Principal, assignee: str | None) -> bool:
    if assignee is None:
        return True
    role = assignee.removeprefix("role:")
    return role in executor.roles if assignee.startswith("role:") else executor.name == assignee

"""An independent, small reading of a task's events: it knows the rules that no history may break, and no more."""

from dataclasses import dataclass, field

from agentic_os.domain import events as e

WRITES = (
    e.AttemptAcked
    | e.AttemptDeclined
    | e.LeaseRenewed
    | e.ProgressReported
    | e.EvidenceAdded
    | e.ReportRecorded
    | e.EscalationRaised
    | e.UsageBooked
    | e.PlanSubmitted
    | e.ResultSubmitted
    | e.ReviewSubmitted
    | e.AttemptFailed
)
CLOSES = (
    e.AttemptDeclined
    | e.PlanSubmitted
    | e.ResultSubmitted
    | e.ReviewSubmitted
    | e.AttemptFailed
    | e.AttemptExpired
    | e.AttemptSuperseded
    | e.WallTimeExceeded
)
ENDS = e.TaskDenied | e.PlanRejected | e.ResultRejected | e.TaskCompleted | e.TaskCancelled | e.TaskFailed


@dataclass
class Ledger:
    """What the events so far amount to. people: who is a person; quorum: how many of them policy asks for."""

    people: frozenset[str]
    quorum: int
    needed: int = 0
    default_off: bool = False
    planned: bool = False
    open: int | None = None
    numbers: list[int] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)
    steps: dict[int, str] = field(default_factory=dict)
    voters: set[str] = field(default_factory=set)
    submitted: str | None = None
    authorised: str | None = None
    ended: bool = False
    adopted: int | None = None
    on_hold: bool = False
    agents_may: bool = False
    four_eyes: bool = False
    editors: set[str] = field(default_factory=set)
    asked: str | None = None
    spent: int = 0
    refused: int = 0
    accounts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    timed: set[int] = field(default_factory=set)
    frozen: bool = False
    deferred: bool = False
    extended: set[int] = field(default_factory=set)
    late: bool = False
    failing: set[tuple[str, str]] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    waited: set[str] = field(default_factory=set)
    aside: set[str] = field(default_factory=set)
    tiers: dict[int, int] = field(default_factory=dict)
    asked_tier: int = -1
    failed_tier: int = -2

    def enter(self, event: e.Event) -> None:
        """Enter one event; an assertion fails when the history must not hold it."""
        late = isinstance(event, e.CallbackQuarantined | e.RefusalCharged | e.ChildEnded)
        assert late or not self.ended, f"{event.type} after the end"
        if isinstance(event, WRITES) and not isinstance(event, e.UsageBooked):
            own = self.adopted if isinstance(event, e.PlanSubmitted | e.ResultSubmitted) else None
            assert event.attempt in (self.open, own), f"{event.type} of a closed attempt"
        self._spent(event)
        self.adopted = event.attempt if isinstance(event, e.QuarantineAdopted) else None
        self.asked = event.executor if isinstance(event, e.ReviewSubmitted) else self.asked
        if isinstance(event, e.EscalationRaised) and event.blocking:
            self.open = None
        if isinstance(event, e.TaskHeld | e.HoldReleased):
            self.on_hold = isinstance(event, e.TaskHeld)
        elif isinstance(event, e.AttemptOffered):
            self._offered(event)
        elif isinstance(event, e.EvidenceAttested):
            witness = (event.source, event.evidence.criterion_id)
            self.failing.discard(witness)
            self.failing |= {witness} if event.evidence.status == "fail" else set()
        elif isinstance(event, e.QuarantineAdopted) and event.kind == "result":
            self.failing = set()  # it was said of other work
        elif isinstance(event, e.PlanSubmitted):
            self.submitted, self.voters = event.digest, set()
            self.needed, self.default_off = self.quorum, False
        elif isinstance(event, e.PlanVoted | e.ResultVoted):
            self._voted(event)
            self.asked = None
        elif isinstance(event, e.PlanApproved):
            self._approved(event)
        elif isinstance(event, e.TaskCompleted):
            self._completed(event)
        elif isinstance(event, e.ResultSubmitted):
            self.voters = set()
            self.needed, self.default_off = self.quorum, False
        self._ruled(event)
        self._time(event)
        self._related(event)
        self._judged(event)
        self._close(event)

    def _ruled(self, event: e.Event) -> None:
        if isinstance(event, e.ReviewRequired):
            assert event.obligations.reviewers.quorum >= self.quorum, "a submission needs less than its task"
            self.needed = event.obligations.reviewers.quorum
        elif isinstance(event, e.DefaultSwitchedOff):
            self.default_off = True
        elif isinstance(event, e.ReviewTimedOut):
            assert not self.default_off or event.outcome == "block", "a default that was switched off"
        elif isinstance(event, e.AttemptRuled):
            assert event.attempt != self.open, "ruled on an attempt that is under way"
            if event.then == "replan":
                assert self.authorised, "planned anew what nobody had approved"
                self.authorised = None
            if event.then == "other_executor":
                self.aside.add(event.executor)
            if event.then == "stronger_tier":
                self.failed_tier = max(self.failed_tier, self.tiers[event.attempt])
        elif isinstance(event, e.AttemptOffered) and event.step != "review":
            assert event.executor not in self.aside, "offered to whom policy had set aside"
            tier = self.tiers[event.attempt] = -1 if event.tier is None else event.tier
            assert tier >= self.asked_tier, "offered to one below the tier that policy asks for"
            assert tier > self.failed_tier, "offered to one that is no stronger than who failed"
        elif isinstance(event, e.TaskReassigned) or (isinstance(event, e.RetryReleased) and event.fresh):
            self.aside, self.failed_tier = set(), -2
        elif isinstance(event, e.TaskAllowed) and event.obligations.tier is not None:
            self.asked_tier = event.obligations.tier

    def _judged(self, event: e.Event) -> None:
        if isinstance(event, e.PlanEdited):
            self._edited(event)
        if isinstance(event, e.PolicyDiffered):
            assert event.differences, "the shadow did not differ"
        elif isinstance(event, e.DispatchAllowed):
            assert event.attempt not in self.numbers, "an attempt was allowed after it was opened"

    def _time(self, event: e.Event) -> None:
        if isinstance(event, e.TaskFrozen | e.TaskThawed):
            self.frozen = isinstance(event, e.TaskFrozen)
        elif isinstance(event, e.StartDeferred | e.StartReached):
            self.deferred = isinstance(event, e.StartDeferred)
        elif isinstance(event, e.LeaseExtended | e.LeaseRenewedByRun | e.RunEnded):
            self._moved(event)
        elif isinstance(event, e.TaskOverdue):
            assert not self.late, "overdue twice"
            self.late = True

    def _moved(self, event: e.LeaseExtended | e.LeaseRenewedByRun | e.RunEnded) -> None:
        assert event.attempt == self.open, f"{event.type} of a closed attempt"
        if isinstance(event, e.LeaseExtended):
            assert event.attempt not in self.extended, "one attempt was extended twice"
            self.extended.add(event.attempt)

    def _offered(self, event: e.AttemptOffered) -> None:
        assert self.open is None, "two open attempts"
        assert not self.on_hold, "an attempt was opened under a hold"
        assert not self.frozen, "an attempt was opened in a freeze"
        assert not self.deferred, "an attempt was opened before its time"
        assert self.numbers == [] or self.numbers[-1] < event.attempt, "an attempt number was used twice"
        assert event.step != "execute" or not self.planned or self.authorised, "executes what nobody approved"
        assert event.step != "execute" or not self.waited, "executes before its plan's children have ended"
        self.open = event.attempt
        self.failing = set() if event.step == "execute" else self.failing
        self.numbers.append(event.attempt)
        self.steps[event.attempt] = event.step
        if event.step != "review":
            self.held[event.attempt] = event.executor
        else:
            assert self.agents_may, "an executor was asked to review where only people may"
            assert event.executor not in self.held.values(), "one of the lineage was asked to review"

    def _spent(self, event: e.Event) -> None:
        if isinstance(event, e.BudgetReserved):
            assert event.attempt == self.open, "a reservation for a closed attempt"
            self.accounts[event.attempt] = tuple(r.account for r in event.reservations)
        elif isinstance(event, e.UsageBooked | e.RefusalCharged):
            self.spent += event.usage.tool_calls + event.usage.cost_microusd
            self.refused += event.usage.cost_microusd if isinstance(event, e.RefusalCharged) else 0
            for account in self.accounts.get(event.attempt, ()):
                self.charged[account] = self.charged.get(account, 0) + event.usage.cost_microusd
        elif isinstance(event, e.WallTimeBooked):
            assert event.attempt == self.open, "time of a closed attempt"
            assert event.attempt not in self.timed, "the time of an attempt was booked twice"
            self.timed.add(event.attempt)
        elif isinstance(event, e.AttemptAcked):
            self.begun.add(event.attempt)

    def _related(self, event: e.Event) -> None:
        if isinstance(event, e.ChildAccepted):
            assert event.child_id not in self.children, "a child was created twice"
            self.children.add(event.child_id)
            self.waited |= {event.child_id} if event.planned else set()
        elif isinstance(event, e.ChildEnded):
            assert event.child_id in self.children, "a child ended twice, or never was"
            self.children.discard(event.child_id)
            self.waited.discard(event.child_id)

    def _edited(self, event: e.PlanEdited) -> None:
        assert event.author in self.people, "a plan was edited by nobody who may"
        assert event.author not in self.held.values(), "one of the lineage edited the plan"
        assert event.replaces == self.submitted != event.digest, (
            "edited another plan than the one under review"
        )
        assert self.open is None, "an executor reviews what was edited away"
        self.editors.add(event.author)
        self.submitted, self.voters, self.needed = event.digest, set(), self.quorum

    def _voted(self, event: e.PlanVoted | e.ResultVoted) -> None:
        assert event.voter in self.people or event.voter == self.asked, "a vote of nobody who may"
        assert event.voter not in self.held.values(), "a vote from the author's lineage"
        assert not self.four_eyes or event.voter not in self.editors, "decided on what they had edited"
        assert event.vote != "approve" or event.voter not in self.voters, "one person counted twice"
        if event.vote == "approve":
            self.voters.add(event.voter)

    def _approved(self, event: e.PlanApproved) -> None:
        assert event.digest == self.submitted, "approved another plan than the one under review"
        assert event.defaulted == (event.approvers == ()), (
            "a default recorded as somebody's act, or the reverse"
        )
        if not event.defaulted:
            assert set(event.approvers) == self.voters
            assert len(set(event.approvers)) >= self.needed
        self.authorised = event.digest

    def _completed(self, event: e.TaskCompleted) -> None:
        worked = [step for step in map(self.steps.get, self.numbers) if step != "review"]
        assert not worked or worked[-1] == "execute"  # what was adopted may be of no attempt that it knows
        assert not self.planned or self.authorised == self.submitted is not None, (
            "completed without authorisation"
        )
        assert not event.accepted_by or len(event.accepted_by) >= self.needed
        assert event.accepted_by or not self.failing, (
            "completed by itself though a source says that it failed"
        )
        assert set(event.accepted_by) in (self.voters, set())

    def _close(self, event: e.Event) -> None:
        if isinstance(event, CLOSES):
            self.open = None
        if isinstance(event, e.AttemptDeclined):
            self.held.pop(event.attempt, None)
        worked = isinstance(event, e.AttemptFailed) and self.steps.get(event.attempt) != "review"
        if worked and event.failure == "plan_infeasible":
            self.authorised = None
        if isinstance(event, e.TaskAllowed):
            self.planned = event.obligations.mode == "plan_first"
        if isinstance(event, ENDS):
            assert self.open is None, "the task ended and its attempt may still write"
            self.ended = True

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
    | e.AttemptFailed
)
CLOSES = (
    e.AttemptDeclined
    | e.PlanSubmitted
    | e.ResultSubmitted
    | e.AttemptFailed
    | e.AttemptExpired
    | e.AttemptSuperseded
)
ENDS = e.TaskDenied | e.PlanRejected | e.ResultRejected | e.TaskCompleted | e.TaskCancelled | e.TaskFailed


@dataclass
class Ledger:
    """What the events so far amount to. people: who is a person; quorum: how many of them policy asks for."""

    people: frozenset[str]
    quorum: int
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
    children: set[str] = field(default_factory=set)
    waited: set[str] = field(default_factory=set)

    def enter(self, event: e.Event) -> None:
        """Enter one event; an assertion fails when the history must not hold it."""
        late = isinstance(event, e.CallbackQuarantined | e.ChildEnded)
        assert not self.ended or late, f"{event.type} after the end"
        if isinstance(event, WRITES) and not isinstance(event, e.UsageBooked):
            own = self.adopted if isinstance(event, e.PlanSubmitted | e.ResultSubmitted) else None
            assert event.attempt in (self.open, own), f"{event.type} of a closed attempt"
        self.adopted = event.attempt if isinstance(event, e.QuarantineAdopted) else None
        if isinstance(event, e.EscalationRaised) and event.blocking:
            self.open = None
        if isinstance(event, e.TaskHeld | e.HoldReleased):
            self.on_hold = isinstance(event, e.TaskHeld)
        elif isinstance(event, e.AttemptOffered):
            self._offered(event)
        elif isinstance(event, e.PlanSubmitted):
            self.submitted, self.voters = event.digest, set()
        elif isinstance(event, e.PlanVoted | e.ResultVoted):
            self._voted(event)
        elif isinstance(event, e.PlanApproved):
            self._approved(event)
        elif isinstance(event, e.TaskCompleted):
            self._completed(event)
        elif isinstance(event, e.ResultSubmitted):
            self.voters = set()
        self._related(event)
        self._close(event)

    def _offered(self, event: e.AttemptOffered) -> None:
        assert self.open is None, "two open attempts"
        assert not self.on_hold, "an attempt was opened under a hold"
        assert self.numbers == [] or self.numbers[-1] < event.attempt, "an attempt number was used twice"
        assert event.step != "execute" or not self.planned or self.authorised, "executes what nobody approved"
        assert event.step != "execute" or not self.waited, "executes before its plan's children have ended"
        self.open = event.attempt
        self.numbers.append(event.attempt)
        self.held[event.attempt], self.steps[event.attempt] = event.executor, event.step

    def _related(self, event: e.Event) -> None:
        if isinstance(event, e.ChildAccepted):
            assert event.child_id not in self.children, "a child was created twice"
            self.children.add(event.child_id)
            self.waited |= {event.child_id} if event.planned else set()
        elif isinstance(event, e.ChildEnded):
            assert event.child_id in self.children, "a child ended twice, or never was"
            self.children.discard(event.child_id)
            self.waited.discard(event.child_id)

    def _voted(self, event: e.PlanVoted | e.ResultVoted) -> None:
        assert event.voter in self.people, "a vote of somebody who is no person"
        assert event.voter not in self.held.values(), "a vote from the author's lineage"
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
            assert len(set(event.approvers)) >= self.quorum
        self.authorised = event.digest

    def _completed(self, event: e.TaskCompleted) -> None:
        assert self.steps[self.numbers[-1]] == "execute"
        assert not self.planned or self.authorised == self.submitted is not None, (
            "completed without authorisation"
        )
        assert set(event.accepted_by) == self.voters
        assert len(event.accepted_by) in {0, *range(self.quorum, len(self.people) + 1)}

    def _close(self, event: e.Event) -> None:
        if isinstance(event, CLOSES):
            self.open = None
        if isinstance(event, e.AttemptDeclined):
            del self.held[event.attempt]
        if isinstance(event, e.AttemptFailed) and event.failure == "plan_infeasible":
            self.authorised = None
        if isinstance(event, e.TaskAllowed):
            self.planned = event.obligations.mode == "plan_first"
        if isinstance(event, ENDS):
            assert self.open is None, "the task ended and its attempt may still write"
            self.ended = True

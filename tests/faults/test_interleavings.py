"""People, executors, timers and crashes in any order, over a real server and a real store: what must always hold."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.conftest import Database
from tests.desk import BODIES, NO_SKILLS, bearer, callback, token
from tests.domain.ledger import Ledger
from tests.faults.world import PEOPLE, Stored, World

from agentic_os.clock import new_id
from agentic_os.domain import events as e
from agentic_os.domain.evolution import evolve
from agentic_os.domain.task import ENDS, FOLD_VERSION, Task
from agentic_os.domain.waiting import deadlines
from agentic_os.postgres.codec import encode_task

EXAMPLES = 14
STEPS = 16
KILLS_AN_EXAMPLE = 1

LIVE = {
    "received",
    "ready",
    "dispatched",
    "planning",
    "plan_review",
    "executing",
    "result_review",
    "input_required",
    "retry_wait",
    "dead_letter",
}
WORKING = {"dispatched", "planning", "executing"}
TRANSITIONS: dict[str | None, set[str]] = {
    None: {"received"},
    "received": {"ready", "rejected"},
    "ready": {"dispatched", "input_required"},
    "dispatched": {"planning", "executing", "retry_wait", "ready", "dead_letter"},
    "planning": {"plan_review", "retry_wait", "input_required", "dead_letter", "failed", "ready"},
    "plan_review": {"ready", "rejected"},
    "executing": {"result_review", "retry_wait", "input_required", "dead_letter", "failed", "ready"},
    "result_review": {"completed", "ready", "rejected"},
    "retry_wait": {"ready"},
    "dead_letter": {"ready"},
    "input_required": {"ready"},
}
"""What one event may make of a phase; besides, any live task may be cancelled, reassigned, or take in late work."""
ANYWHERE = {e.TaskCancelled: "cancelled", e.TaskReassigned: "ready", e.RetryReleased: "ready"}
OF_REFUSALS = e.AttemptExpired | e.TaskDeadLettered | e.CallbackQuarantined | e.RefusalCharged
"""What a refused callback may leave: a lease seen to be over, what came late kept aside, and its usage booked."""
REPORTS = ("heartbeat", "progress", "evidence", "checkpoint", "tool_event")
HAPPENINGS = (
    *("work goes on",) * 9,
    *("several meet",) * 4,
    *("an executor strays", "a person strays", "a callback comes again", "time passes") * 2,
    *("the server is killed",) * 2,
)
"""What may happen in a step, as often as it is to happen; most of it leads somewhere."""
Call: TypeAlias = Callable[[], httpx.Response]
NUMBERS = st.integers(0, 10_000)


class PromiseBroken(BaseException):
    """What happened up to the break; no Exception, since a run of real processes cannot be repeated or shrunk."""


class Interleaving(RuleBasedStateMachine):
    """One task between people, executors, a worker and a clock, on a server that may die at any moment.

    What is drawn never depends on how the server fared: numbers are drawn, and say what is done where it fits.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.task: Task | None = None
        self.history: list[Stored] = []
        self.tokens: dict[int, list[str]] = {}
        self.answered: dict[str, tuple[dict[str, Any], str, httpx.Response]] = {}
        self.refused: set[str] = set()
        self.approvals: list[tuple[type, int, str]] = []
        self.kills = 0
        self.story: list[str] = []
        self.broken = False

    @initialize(mode=st.sampled_from(["direct", "plan_first", "plan_first"]), risk=st.integers(0, 2))
    def begin(self, mode: str, risk: int) -> None:
        """Ask for a task; of its risk follows how it is reviewed."""
        with self._told():
            wanted = {"title": "T", "goal": "G", "mode": mode, "risk": ("low", "medium", "high")[risk]}
            made = self.world.client.post("/api/tasks", json=wanted, headers=bearer(token("olga")))
            assert 201 == made.status_code, made.text
            self.task_id = str(made.json()["id"])
            self.ledger = Ledger(people=frozenset(PEOPLE), quorum=2 if risk == 2 else 1)
            self.world.work()

    @rule(what=st.sampled_from(HAPPENINGS), number=NUMBERS, other=NUMBERS)
    def something_happens(self, what: str, number: int, other: int) -> None:
        """Let one thing happen; of the numbers follows what exactly, as far as it can."""
        self.story.append(f"{what} ({number}, {other})")
        with self._told():
            getattr(self, "_" + what.replace(" ", "_"))(number, other)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as problem:
            self.broken = True
            known = [f"{s.version} {s.event.type} {s.cause}" for s in self.history]
            raise PromiseBroken("\n".join([*self.story, *known])) from problem

    def _work_goes_on(self, number: int, other: int) -> None:
        """Let whoever is at work send what fits, and people decide what is to be decided, for a while."""
        for step in range(1 + other % 3):
            self.world.skew += other % 12
            document, credential = self._fitting(number + 7 * step)
            if document is not None:
                self._send(document, credential)
            else:
                self._direct(*self._decision(number + step))
            self.world.work()
            self.every_promise_holds()

    def _an_executor_strays(self, number: int, other: int) -> None:
        """Send what does not fit: of an attempt that is over, in a wrong order, of a wrong kind."""
        known = [token for tokens in self.tokens.values() for token in tokens]
        if known:
            credential = known[-1 - other % min(len(known), 3)]
            kind = ("heartbeat", "plan", "result", "failure", "progress")[number % 5]
            attempt = int(credential.split(".")[1])
            self._send(callback(kind, self.task_id, attempt, 1 + other % 5), credential)

    def _a_person_strays(self, number: int, other: int) -> None:
        """Steer where nothing is to be steered, or otherwise than it was meant."""
        plan = self.task.plan if self.task else None
        stale = (
            f"/approve v{max(plan.version - 1, 1)}@{plan.digest[7:15]}" if plan else "/approve v1@00000000"
        )
        kept = self.task.quarantined[-1].id if self.task and self.task.quarantined else "nothing"
        lines = [stale, "/hold wait", "/unhold", "/retry", "/reassign @bob", "/reassign role:developer"]
        lines += [
            f"/adopt {kept} It is good.",
            "/revise v1\n- Shorter",
            "/accept r1@00000000",
            "/answer q1 a",
        ]
        self._direct(lines[number % len(lines)], list(PEOPLE)[other % len(PEOPLE)])
        self.world.work()

    def _time_passes(self, number: int, _: int) -> None:
        """Let time go by, and what has come due fire."""
        self.world.skew += (15, 35, 70, 400)[number % 4]
        self.world.work()

    def _a_callback_comes_again(self, number: int, _: int) -> None:
        """Have somebody whose answer was lost send the same again, however long ago it was."""
        if self.answered:
            self._again(list(self.answered)[number % len(self.answered)])

    def _several_meet(self, number: int, other: int) -> None:
        """Have a callback, the same again, another one, and people's decisions meet."""
        first, second = self._fitting(number), self._fitting(number + 7)
        line, name = self._decision(other)
        sent = [pair for pair in (first, first, second) if pair[0] is not None]
        calls: list[Call] = [lambda d=d, c=c: self.world.send(d, c) for d, c in sent]  # type: ignore[misc]
        people = (name, "omar" if name != "omar" else "rita", name)
        calls += [lambda n=n: self.world.direct(self.task_id, line, n, str(new_id())) for n in people]  # type: ignore[misc]
        answers = self.world.at_once(*calls)
        for (document, credential), answer in zip(sent, answers, strict=False):
            self._note(document, credential, answer)
        for each, answer in zip(people, answers[len(sent) :], strict=True):
            assert answer is not None
            self._note_vote(line, each, answer)
        self.world.work()

    def _the_server_is_killed(self, number: int, other: int) -> None:
        """Let the server die under a callback, once it is stored and not answered, or wherever it is by then."""
        document, credential = self._fitting(number)
        if self.kills >= KILLS_AN_EXAMPLE or document is None:
            return
        self.kills += 1

        def call() -> httpx.Response:
            return self.world.send(document, credential)

        if other % 2:
            before = self.world.kills
            answer = self.world.killed_after_append(self.task_id, call)
            assert answer is None or self.world.kills == before
        else:
            answer = self.world.killed_at_any_moment(call, other)
        self._note(document, credential, answer)
        self.world.work()

    def _fitting(self, number: int) -> tuple[dict[str, Any] | None, str]:
        """Compose what the executor at work would send next; None where nobody is at work."""
        task = self.task
        attempt = task.attempt if task else None
        if task is None or attempt is None or task.phase not in WORKING:
            return None, ""
        n, seq = attempt.number, attempt.seq + 1
        if attempt.state == "offered":
            if number % 17 == 16:
                return callback("decline", task.id, n, seq, {"reason": "busy"}), token(attempt.executor)
            ack = {
                "brief_digest": attempt.brief_digest,
                "skillset_digest": NO_SKILLS,
                "runtime": {"name": "t"},
            }
            return callback("ack", task.id, n, seq, ack), token(attempt.executor)
        if n not in self.tokens:
            return None, ""
        # The latest ack's token is the one that counts, whichever answer came last.
        credential = max(self.tokens[n], key=lambda token: int(token.split(".")[2]))
        answers = [{"item_id": item.id, "how": "done"} for item in task.items]
        responds = {"responds_to": answers} if answers else {}
        finish = "plan" if attempt.step == "plan" else "result"
        kinds = (finish, finish, finish, finish, REPORTS[number % len(REPORTS)], "escalation", "failure")
        kind = kinds[number // 7 % len(kinds)]
        body = dict(BODIES[kind])
        if kind == finish:
            body |= {"summary": f"Number {number}."} | responds
        elif kind == "failure":
            body = {
                "class": ("transient", "tool", "plan_infeasible")[number % 3],
                "message": "m",
                "retryable": True,
            }
        usage = {"usage": {"tool_calls": 1}} if number % 2 else {}
        return callback(kind, task.id, n, seq, body, **usage), credential

    def _decision(self, number: int) -> tuple[str, str]:
        """Compose what a person would decide next, and say who."""
        task = self.task
        assert task is not None
        name = ("rita", "omar", "olga")[number % 3]
        match task.phase:
            case "plan_review" | "result_review":
                submission, verb, letter = (
                    (task.plan, "approve", "v")
                    if task.phase == "plan_review"
                    else (task.result, "accept", "r")
                )
                assert submission is not None
                other = "revise" if verb == "approve" else "rework"
                if number % 7 == 6:
                    return f"/{other} {letter}{submission.version}\n- Shorter", name
                return f"/{verb} {letter}{submission.version}@{submission.digest[7:15]}", name
            case "input_required" if task.questions:
                options = task.questions[0].options
                return f"/answer {task.questions[0].id} {options[0].id if options else 'yes'}", "olga"
            case "input_required" | "dead_letter" | "retry_wait":
                return "/retry fresh", "olga"
            case _ if task.holds:
                return "/unhold", "olga"
            case _ if number % 23 == 22:
                return "/cancel", "olga"
            case _:
                return "/status", name

    def _send(self, document: dict[str, Any] | None, credential: str) -> None:
        if document is not None:
            self._note(document, credential, self.world.send(document, credential))

    def _note(self, document: dict[str, Any], credential: str, answer: httpx.Response | None) -> None:
        """Take in an answer; who got none sends the same again."""
        if answer is None:
            answer = self.world.send(document, credential)
        assert answer.status_code < 500, answer.text
        key = document["callback_id"]
        if answer.status_code != 202:
            assert key not in self.answered, f"what was accepted is refused: {answer.text}"
            self.refused.add(key)
            return
        assert key not in self.refused, "what was refused is accepted"
        self.answered.setdefault(key, (document, credential, answer))
        assert self.answered[key][2].content == answer.content, "one callback, two answers"
        if document["kind"] == "ack":
            self.tokens.setdefault(document["attempt"], []).append(answer.json()["attempt_token"])

    def _again(self, key: str) -> None:
        document, credential, first = self.answered[key]
        again = self.world.send(document, credential)
        assert (202, "true") == (again.status_code, again.headers.get("idempotent-replayed")), again.text
        assert first.content == again.content, "the same callback got another answer"

    def _direct(self, line: str, name: str) -> None:
        self._note_vote(line, name, self.world.direct(self.task_id, line, name, str(new_id())))

    def _note_vote(self, line: str, name: str, answer: httpx.Response) -> None:
        assert 200 == answer.status_code, answer.text
        kind = {"/approve": e.PlanVoted, "/accept": e.ResultVoted}.get(line.split(maxsplit=1)[0])
        if kind is not None and answer.json()["outcome"] == "done":
            self.approvals.append((kind, int(line.split()[1].partition("@")[0][1:]), name))

    def teardown(self) -> None:
        """Send all that was ever accepted once more."""
        if not self.broken:
            with self._told():
                self._repeat_everything()

    def _repeat_everything(self) -> None:
        for key in self.answered:
            self._again(key)
        if self.task is not None:
            stored = len(self.world.events(self.task_id))
            assert stored == len(self.history), "a repetition left something behind"

    @invariant()
    def every_promise_holds(self) -> None:
        """Look at the store past the server."""
        with self._told():
            self._the_history_only_grows()
            self._what_is_shown_is_what_happened()
            self._what_was_accepted_is_there_once()
            self._no_approval_is_lost()
            self._the_audit_holds()

    def _the_history_only_grows(self) -> None:
        """Read what is new, hold what was read before to what is there, and enter the rest into the ledger."""
        events = self.world.events(self.task_id)
        assert list(range(1, len(events) + 1)) == [s.version for s in events], (
            "a version is missing or doubled"
        )
        assert self.history == events[: len(self.history)], "the past has changed"
        for stored in events[len(self.history) :]:
            self.ledger.enter(stored.event)
            before = self.task.phase if self.task else None
            self.task = evolve(self.task, stored.event)
            self._check_transition(before, self.task.phase, stored.event)
        self.history = events
        assert list(range(1, len(self.ledger.numbers) + 1)) == self.ledger.numbers, (
            "an attempt's number is odd"
        )

    def _check_transition(self, before: str | None, after: str, event: e.Event) -> None:
        if before == after:
            return
        adopted = isinstance(event, e.PlanSubmitted | e.ResultSubmitted) and before in LIVE
        anywhere = ANYWHERE.get(type(event)) == after and before not in ENDS
        assert after in TRANSITIONS.get(before, ()) or adopted or anywhere, (
            f"{before} -> {after}: {event.type}"
        )

    def _what_is_shown_is_what_happened(self) -> None:
        """Compare row and deadlines with what the events amount to."""
        assert self.task is not None
        query = "select version, fold_version, phase, state from es.task where task_id = %s"
        assert [(self.task.version, FOLD_VERSION, self.task.phase, encode_task(self.task))] == list(
            self.world.rows(query, self.task_id)
        )
        due = self.world.rows("select kind, ref, at from es.deadline where task_id = %s", self.task_id)
        assert {(d.kind, d.ref, d.at) for d in deadlines(self.task)} == set(due)
        attempt = self.task.attempt
        assert self.ledger.open == (attempt.number if attempt and attempt.is_open else None)

    def _what_was_accepted_is_there_once(self) -> None:
        """Find of each accepted callback its events and its receipt once, and of each refused one nothing."""
        causes = Counter(s.cause for s in self.history)
        by_id = Counter(s.event_id for s in self.history)
        for key, (_, _, answer) in self.answered.items():
            ids = answer.json()["event_ids"]
            assert causes[key] == len(ids), "an accepted callback is in the log another number of times"
            assert all(by_id[i] == 1 for i in ids)
        receipts = Counter(
            k for (k,) in self.world.rows("select key from es.receipt where route = 'callback'")
        )
        assert all(receipts[key] == 1 for key in self.answered)
        assert not self.refused & receipts.keys(), "a refusal left a receipt"
        for stored in self.history:
            if stored.cause in self.refused:
                assert isinstance(stored.event, OF_REFUSALS), f"a refused callback left {stored.event.type}"
        charged = Counter(s.cause for s in self.history if isinstance(s.event, e.RefusalCharged))
        assert all(count == 1 for count in charged.values()), "a refused callback was booked twice"

    def _no_approval_is_lost(self) -> None:
        """Find each approval that was answered with done, and exactly one authorisation where there are enough."""
        assert self.task is not None
        events = [s.event for s in self.history]
        for kind, version, voter in self.approvals:
            votes = [
                x
                for x in events
                if isinstance(x, kind) and (x.version, x.voter, x.vote) == (version, voter, "approve")
            ]
            assert 1 == len(votes), f"an approval by {voter} is in the history {len(votes)} times"
        for version in {x.version for x in events if isinstance(x, e.PlanSubmitted)}:
            votes = [x for x in events if isinstance(x, e.PlanVoted) and x.version == version]
            enough = sum(x.vote == "approve" for x in votes) >= self.ledger.quorum
            granted = [x for x in events if isinstance(x, e.PlanApproved) and x.version == version]
            by_people = [x for x in granted if not x.defaulted]
            assert len(granted) <= 1, "one plan was authorised twice"
            assert len(by_people) == enough, "approvals led to no authorisation, or too few of them did"

    def _the_audit_holds(self) -> None:
        """Verify the chain of every stream."""
        ((broken, checked),) = self.world.rows("select reason, checked from es.first_broken('', 1000)")
        assert broken is None
        assert checked >= len(self.history)


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    """Run a server over a fresh store."""
    with World(database.app, database.owner, tmp_path / "artifacts") as found:
        yield found


@pytest.mark.timeout(3600)
def test_no_interleaving_breaks_a_promise(world: World, request: pytest.FixtureRequest):
    """Whatever people, executors, timers and crashes do in whatever order, every promise of the history holds."""
    wanted = request.config.getoption("--interleavings")
    run_state_machine_as_test(
        lambda: Interleaving(world),
        settings=settings(
            max_examples=wanted or EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=wanted is None,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert world.kills >= 2

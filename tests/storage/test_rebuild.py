"""Read models can be built again from the history, to the byte, while the system runs."""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from agentic_os.application.accounts import opened
from agentic_os.application.handle import handle
from agentic_os.application.ports import Envelope, Progress
from agentic_os.domain import commands as c
from agentic_os.domain.budgets import Amounts, Ceiling
from agentic_os.domain.documents import Artifact, Criterion, Evidence, Participant, Runtime, Usage
from agentic_os.domain.policy import Obligations, Verdict
from agentic_os.domain.task import FOLD_VERSION, Task
from agentic_os.postgres import event_log, parts
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.pool import Pool
from agentic_os.postgres.rebuild import rebuild

START = datetime(2027, 1, 5, 12, tzinfo=UTC)
READ_MODELS = ("task", "deadline", "artifact", "quarantine", "account")
CEILINGS = (
    Ceiling(account="cost:project:lab", limit=10_000),
    Ceiling(account="cost:executor:coder", limit=10_000),
    Ceiling(account="tokens:day:2027-01-05", limit=10_000),
)
REVIEWED = Obligations(mode="plan_first", deadline_seconds=600, result_review=True, bare_approve=False)
LAX = Obligations()
ADA = Participant(id="ada", kind="person", roles=frozenset({"reviewer"}))


def digest(text: str) -> str:
    """Name a document."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Story:
    """One task's way, told command by command; each takes a second."""

    log: PostgresEventLog
    task_id: str
    at: datetime = START
    seq: int = 0

    async def do(self, command: c.Command) -> Task:
        """Carry out one command."""
        self.at += timedelta(seconds=1)
        envelope = Envelope(actor="tester", at=self.at)
        handled = await handle(
            self.log,
            self.task_id,
            lambda _: command,
            envelope,
            movements=lambda change: opened(change, None),
        )
        return handled.task

    async def create(self, obligations: Obligations = LAX) -> None:
        """Ask for work and have it admitted."""
        criteria = (
            Criterion(id="tests", text="The tests pass."),
            Criterion(id="docs", text="It is described."),
        )
        asked = c.CreateTask(
            task_id=self.task_id,
            title=f"Träum {self.task_id}",
            goal="g",
            project="lab",
            requester="ada",
            at=START,
            acceptance=criteria,
            labels=("a", "b"),
        )
        await self.do(asked)
        await self.do(c.AdmitTask(verdict=self.verdict("task.received", obligations), facts_digest="f"))

    @staticmethod
    def verdict(hook: Any, obligations: Obligations = LAX, decision: Any = "allow") -> Verdict:
        """Reach a verdict without rules."""
        return Verdict(
            hook=hook,
            decision=decision,
            rules=("r",),
            reasons=(),
            bundle="b",
            obligations=obligations,
            facts={"x": 1},
        )

    async def offer(self, attempt: int, executor: str = "coder", **more: Any) -> None:
        """Open an attempt."""
        offered = c.OfferAttempt(
            attempt=attempt,
            executor=executor,
            brief={"n": attempt},
            brief_digest=f"brief-{attempt}",
            verdict=self.verdict("dispatch"),
            facts_digest="f",
            ack_deadline=self.at + timedelta(minutes=5),
            lease_seconds=900,
            ceilings=CEILINGS,
            allowance=Amounts(cost_microusd=100),
        )
        await self.do(replace(offered, **more))
        self.seq = 0

    def said(self, attempt: int, **more: Any) -> dict[str, Any]:
        """Give what every callback of the current attempt says."""
        self.seq += 1
        return {
            "executor": "coder",
            "attempt": attempt,
            "seq": self.seq,
            "callback_id": f"{self.task_id}/{attempt}/{self.seq}",
            "at": self.at,
            "generation": 1 if self.seq > 1 else 0,
            **more,
        }

    async def ack(self, attempt: int) -> None:
        """Start the attempt."""
        await self.do(
            c.Acknowledge(
                brief_digest=f"brief-{attempt}",
                skillset_digest="s",
                expected_skillset="s",
                runtime=Runtime(name="lab"),
                **self.said(attempt),
            )
        )

    async def plan(self, attempt: int, text: str) -> None:
        """Hand in a plan that answers whatever was asked for."""
        task = (await self.log.load(self.task_id)).task
        assert task is not None
        await self.do(
            c.SubmitPlan(
                digest=digest(text),
                plan={"steps": [text]},
                answers=frozenset(item.id for item in task.items),
                **self.said(attempt),
            )
        )

    async def result(self, attempt: int, outcome: Any = "success", *, passing: bool = True) -> None:
        """Hand in a result with evidence and two artifacts, one of a name that may have been there."""
        names = ("tests", "docs") if passing else ("tests",)
        checks = tuple(
            Evidence(criterion_id=name, rank="observed", claimed="independent", status="pass")
            for name in names
        )
        artifacts = tuple(
            Artifact(
                name=name, version=0, media_type="text/plain", digest=f"sha256:{name}{attempt}", size=attempt
            )
            for name in ("report", f"log-{attempt}")
        )
        await self.do(
            c.SubmitResult(
                digest=digest(f"result {attempt}"),
                outcome=outcome,
                result={"n": attempt},
                evidence=checks,
                artifacts=artifacts,
                usage=Usage(input_tokens=10, cost_microusd=7),
                **self.said(attempt),
            )
        )

    async def vote(self, subject: Any, vote: Any, version: int = 1) -> None:
        """Decide on what is under review."""
        task = (await self.log.load(self.task_id)).task
        assert task is not None
        submission = task.plan if subject == "plan" else task.result
        assert submission is not None
        items = ("more",) if vote == "revise" else ()
        await self.do(
            c.CastVote(
                subject=subject,
                voter=ADA,
                vote=vote,
                words=vote,
                version=version,
                digest=submission.digest.removeprefix("sha256:"),
                seen_at=self.at,
                items=items,
                item_ids=tuple(f"i{version}" for _ in items),
                bundle="b",
            )
        )


async def received(story: Story) -> None:
    """Ask, and no more."""
    await story.do(
        c.CreateTask(task_id=story.task_id, title="t", goal="g", project="p", requester="r", at=START)
    )


async def offered(story: Story) -> None:
    """Wait for the acknowledgement."""
    await story.create()
    await story.offer(1)


async def completed(story: Story) -> None:
    """Complete at the first attempt."""
    await offered(story)
    await story.ack(1)
    await story.do(c.ReportProgress(message="half", permille=500, **story.said(1)))
    await story.result(1)


async def declined(story: Story) -> None:
    """Be declined, taken by another, and then be reassigned."""
    await offered(story)
    await story.do(c.Decline(reason="busy", **story.said(1)))
    await story.offer(2, "second")
    await story.do(c.Reassign(assignee="coder", reason="knows it"))


async def failed(story: Story) -> None:
    """Fail, wait, be released, and wait for the next failure's retry."""
    await offered(story)
    await story.ack(1)
    await story.do(c.ReportFailure(failure="tool", message="m", retryable=True, **story.said(1)))
    story.at += timedelta(minutes=1)
    await story.do(c.FireDeadline(kind="retry", ref="1", at=story.at))
    await story.offer(2)
    await story.ack(2)
    await story.do(c.ReportFailure(failure="tool", message="m", retryable=True, jitter=0.5, **story.said(2)))


async def ended(story: Story) -> None:
    """End by a failure that no retry helps."""
    await offered(story)
    await story.ack(1)
    await story.do(c.ReportFailure(failure="internal", message="m", retryable=False, **story.said(1)))


async def expired(story: Story) -> None:
    """Miss the acknowledgement, and have a late result kept aside twice, in two attempts."""
    await offered(story)
    story.at += timedelta(hours=1)
    await story.do(c.FireDeadline(kind="ack", ref="1", at=story.at))
    late = c.Quarantine(
        quarantine_id=f"q-{story.task_id}",
        attempt=1,
        callback_id="late",
        kind="result",
        reason="lease_lost",
        body={"late": True},
        at=story.at,
    )
    await story.do(late)
    await story.do(replace(late, kind="plan", quarantine_id=f"p-{story.task_id}"))


async def cancelled(story: Story) -> None:
    """Be called off in the middle of the work."""
    await offered(story)
    await story.ack(1)
    await story.do(c.Cancel(by="ada", reason="no need"))


async def plan_in_review(story: Story) -> None:
    """Wait for the gate, after one revision."""
    await story.create(REVIEWED)
    await story.offer(1)
    await story.ack(1)
    await story.plan(1, "first")
    await story.vote("plan", "revise")
    await story.offer(2)
    await story.ack(2)
    await story.plan(2, "second")


async def planned(story: Story) -> None:
    """Have the plan approved, and work on it."""
    await plan_in_review(story)
    await story.vote("plan", "approve", 2)
    await story.offer(3)
    await story.ack(3)
    await story.do(c.Heartbeat(**story.said(3, usage=Usage(input_tokens=4, cost_microusd=30))))


async def charged(story: Story) -> None:
    """Overspend, fail, and be charged for what both attempts sent in vain."""
    await offered(story)
    await story.ack(1)
    await story.do(c.ReportFailure(failure="tool", message="m", retryable=True, **story.said(1)))
    await story.do(c.FireDeadline(kind="retry", ref="1", at=story.at + timedelta(minutes=1)))
    await story.offer(2)
    await story.ack(2)
    await story.do(c.Heartbeat(**story.said(2, usage=Usage(cost_microusd=170))))
    for number in (1, 2):
        vain = c.ChargeRefusal(
            executor="coder",
            attempt=number,
            callback_id=f"vain-{number}",
            kind="progress",
            code="seq_stale",
            usage=Usage(output_tokens=3, cost_microusd=number),
        )
        await story.do(vain)


async def without_money(story: Story) -> None:
    """Wait for the budget of a day."""
    await story.create()
    await story.do(c.AwaitBudget(scope="day:2027-01-05", until=START + timedelta(hours=12)))


async def reworked(story: Story) -> None:
    """Have the result returned once, deliver the same artifact again, and be accepted."""
    await planned(story)
    await story.result(3)
    await story.vote("result", "revise")
    await story.offer(4)
    await story.ack(4)
    await story.do(
        c.SubmitResult(
            digest=digest("again"),
            outcome="success",
            result={},
            answers=frozenset({"i1"}),
            artifacts=(Artifact(name="report", version=0, media_type="a/b", digest="sha256:z", size=1),),
            **story.said(4),
        )
    )
    await story.vote("result", "approve", 2)


async def timed_out(story: Story) -> None:
    """Have nobody decide in time."""
    await plan_in_review(story)
    story.at += timedelta(days=1)
    await story.do(c.FireDeadline(kind="review", ref="plan:2", at=story.at))


async def denied(story: Story) -> None:
    """Be refused at dispatch."""
    await story.create()
    refused = Story.verdict("dispatch", decision="deny")
    await story.offer(1, verdict=refused)


STORIES: tuple[Callable[[Story], Awaitable[None]], ...] = (
    received,
    offered,
    completed,
    declined,
    failed,
    ended,
    expired,
    cancelled,
    plan_in_review,
    planned,
    reworked,
    timed_out,
    denied,
    charged,
    without_money,
)
PHASES = {
    "received",
    "dispatched",
    "completed",
    "ready",
    "retry_wait",
    "failed",
    "cancelled",
    "plan_review",
    "executing",
    "input_required",
}


@pytest.fixture
async def told(log: PostgresEventLog, owner: psycopg.Connection) -> None:
    """Tell every story, each of a task of its own; nothing is marked stale afterwards."""
    for tell in STORIES:
        await tell(Story(log, f"task-{tell.__name__}"))
    assert PHASES == {row[0] for row in owner.execute("select phase from es.task")}
    owner.execute("delete from es.stale")


def silent(_: int) -> None:
    """Hear how far the rebuild is."""


@pytest.mark.parametrize("loss", ["nothing", "rows", "content", "strangers"])
async def test_a_rebuild_gives_the_same_rows(
    told: None, pool: Pool, owner: psycopg.Connection, contents: Callable[..., list[str]], loss: str
):
    """Whatever became of the read models, afterwards they are what the appends had written, byte for byte."""
    before = contents(*READ_MODELS)
    assert all(any(line.startswith(table) for line in before) for table in READ_MODELS)
    assert {"account (cost:project:lab,247,170)", "account (cost:executor:coder,247,170)"} <= {*before}
    if loss == "rows":
        for table in READ_MODELS:
            owner.execute(f"delete from es.{table}".encode())
    elif loss == "content":
        owner.execute("update es.task set state = '{}', phase = 'lost', version = 99, executor = null")
        owner.execute("update es.deadline set at = now()")
        owner.execute("update es.artifact set digest = 'x'")
        owner.execute("update es.account set spent = spent + 1, reserved = 0")
    elif loss == "strangers":
        owner.execute("insert into es.deadline select 'task-completed', 'lease', '9', now()")
        owner.execute("insert into es.deadline select 'stranger', 'lease', '9', now()")
        owner.execute("insert into es.quarantine select 'x', 'stranger', 1, 'plan', '', now()")
        owner.execute("insert into es.account values ('cost:project:stranger', 1, 1)")
    counted: list[int] = []

    assert len(STORIES) == await rebuild(pool, counted.append)

    assert [len(STORIES)] == counted
    assert before == contents(*READ_MODELS)


async def test_a_rebuild_fires_nothing(told: None, pool: Pool, contents: Callable[..., list[str]]):
    """A rebuild marks no task stale, touches neither history nor receipts, and leaves the accounts as they were."""
    tables = ("stale", "event", "stream", "receipt", "account", "waiting", "progress", "inbox")
    before = contents(*tables)

    await rebuild(pool, silent)

    assert before == contents(*tables)
    assert not any(line.startswith("stale") for line in before)


@pytest.mark.parametrize(
    "spoil", ["update es.task set fold_version = 99, state = '{}'", "delete from es.task"]
)
async def test_a_row_of_another_fold_is_folded_again(
    told: None, pool: Pool, log: PostgresEventLog, owner: psycopg.Connection, spoil: str
):
    """A row that another release folded, or that is gone, is not read: the task comes from its events."""
    before = {tell.__name__: (await log.load(f"task-{tell.__name__}")).task for tell in STORIES}
    owner.execute(spoil.encode())

    fresh = PostgresEventLog(pool)

    assert before == {tell.__name__: (await fresh.load(f"task-{tell.__name__}")).task for tell in STORIES}
    story = Story(fresh, "task-offered", at=START + timedelta(minutes=1))
    await story.ack(1)
    row = owner.execute("select fold_version, phase from es.task where task_id = 'task-offered'").fetchone()
    assert (event_log.FOLD_VERSION, "executing") == row


async def test_a_new_release_folds_old_rows_again(
    told: None, pool: Pool, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    """Once the fold has a new number, every load folds again, and a rebuild stores all rows under it."""
    for module in (event_log, parts):
        monkeypatch.setattr(module, "FOLD_VERSION", FOLD_VERSION + 1)
    owner.execute("update es.task set state = '{}'")
    log = PostgresEventLog(pool)
    loaded = await log.load("task-planned")
    assert loaded.task is not None
    assert "executing" == loaded.task.phase

    await rebuild(pool, silent)

    assert [(FOLD_VERSION + 1,)] == owner.execute("select distinct fold_version from es.task").fetchall()


async def test_the_latest_progress_outlives_its_row(
    told: None, log: PostgresEventLog, owner: psycopg.Connection
):
    """The progress between two events is loaded also when the task's own row has to be folded again."""
    story = Story(log, "task-planned", at=START + timedelta(minutes=2), seq=2)
    said = story.said(3)
    progress = Progress(attempt=3, generation=1, seq=said["seq"], message="half", at=story.at)
    heartbeat = c.Heartbeat(**said)
    await handle(
        log, story.task_id, lambda _: heartbeat, Envelope(actor="coder", at=story.at), progress=progress
    )
    owner.execute("delete from es.task")

    assert progress == (await log.load("task-planned")).progress


async def test_deadlines_follow_the_task(log: PostgresEventLog, owner: psycopg.Connection):
    """Each append leaves exactly the deadlines that stand then: replaced, moved, and gone with the phase."""
    story = Story(log, "t")

    def standing() -> list[Any]:
        return owner.execute("select kind, ref, at from es.deadline order by 1").fetchall()

    await story.create()
    assert [] == standing()
    await story.offer(1)
    assert [("ack", "1", START + timedelta(seconds=2, minutes=5))] == standing()
    await story.ack(1)
    assert [("lease", "1", START + timedelta(seconds=3 + 900))] == standing()
    await story.do(c.Heartbeat(**story.said(1)))
    assert [("lease", "1", START + timedelta(seconds=4 + 900))] == standing()
    await story.do(c.Cancel(by="ada", reason="no need"))
    assert [] == standing()


async def test_a_rebuild_under_load_ends_right(
    told: None, open_pool: Callable[..., Any], contents: Callable[..., list[str]]
):
    """While tasks go on, rebuild after rebuild loses no append: in the end the rows say what the events say."""
    pool, ended = await open_pool(8), asyncio.Event()
    log = PostgresEventLog(pool)

    async def write(number: int) -> None:
        for name in itertools.islice(
            itertools.cycle((planned, reworked, expired, completed)), number, number + 4
        ):
            await name(Story(log, f"new-{number}-{name.__name__}"))

    async def rebuild_all() -> int:
        rounds = 0
        while not ended.is_set():
            await rebuild(pool, silent)
            rounds += 1
        return rounds

    rebuilding = asyncio.create_task(rebuild_all())
    await asyncio.gather(*(write(number) for number in range(6)))
    ended.set()
    assert 1 < await rebuilding

    written = contents(*READ_MODELS)
    await rebuild(pool, silent)
    assert written == contents(*READ_MODELS)
    assert 24 + len(STORIES) == sum(line.startswith("task ") for line in written)

"""What it costs to replay recorded decisions under another policy: the time of many, and the memory of all."""

import random
import resource
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from agentic_os.application.backend import Backend
from agentic_os.application.handle import change_of
from agentic_os.application.ports import Batch, Envelope, TaskChange
from agentic_os.application.simulation import Extent, Report
from agentic_os.application.verdicts import admission, facts_of
from agentic_os.bench.rows import Row
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.clock import new_id, now
from agentic_os.contracts.canonical import digest_of
from agentic_os.domain import commands as c
from agentic_os.domain.conditions import Condition
from agentic_os.domain.policy import Obligations, Reviewers, Rule, RuleSet
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases

_BATCH: Final = 250
_RULES: Final = 100
_WANTED: Final = 100_000
_SECONDS: Final = 60.0
_MEGABYTES: Final = 32.0
_STATM: Final = Path("/proc/self/statm")


async def simulation(databases: Databases, folder: Path, decisions: int) -> list[Row]:
    """Record so many decisions, two for each task, and replay them all under a policy of a hundred rules."""
    parts = Parts(
        dsn=databases.app,
        server_key=random.randbytes(32),
        artifacts=folder / "artifacts",
        policy=load_governance(None).policy,
        skills=load_definition(None),
        public_url="http://bench",
    )
    async with open_backend(parts) as backend:
        for _ in range(decisions // 2 // _BATCH):
            changes = [_decided(backend) for _ in range(_BATCH)]
            await backend.log.append(Batch(envelope=Envelope(actor="bench", at=now()), changes=changes))
        policy = _policy()
        began = time.perf_counter()
        report, grown = await _replayed(backend, policy, Extent(last=decisions))
        took = time.perf_counter() - began
    if report.decisions != decisions:
        raise RuntimeError(f"{report.decisions} decisions were replayed, not {decisions}")
    return [
        Row(
            name=f"simulating {_WANTED:,} decisions under {_RULES} rules, measured on {decisions:,}",
            value=took * _WANTED / decisions,
            unit="s",
            target=_SECONDS,
            at_most=True,
        ),
        Row(
            name=f"memory that simulating {decisions:,} decisions adds",
            value=grown,
            unit="MB",
            target=_MEGABYTES,
            at_most=True,
        ),
    ]


def _decided(backend: Backend) -> TaskChange:
    policy = backend.policy()
    created = c.CreateTask(
        task_id=str(new_id()),
        title="bench",
        goal="bench",
        project="default",
        requester="bench",
        at=now(),
        paths=("src/a.py",),
    )
    received = change_of(None, [created]).after
    facts = {**facts_of(received), "executor.name": "bench", "executor.roles": ["developer"]}
    offer = c.OfferAttempt(
        attempt=1,
        executor="bench",
        brief={},
        brief_digest="",
        verdict=policy.decide("dispatch", facts),
        facts_digest=digest_of(facts),
        ack_deadline=now() + timedelta(hours=1),
        lease_seconds=60,
    )
    return change_of(None, [created, admission(received, policy), offer])


def _policy() -> RuleSet:
    rules = tuple(
        Rule(
            id=f"rule-{number}",
            on="dispatch" if number % 2 else "task.received",
            when=(
                Condition(field="task.paths", operator="any_glob", value=["src/**", f"lib/{number}/*"]),
                Condition(field="task.project", operator="eq", value=f"project-{number}"),
            ),
            obligations=Obligations(reviewers=Reviewers(quorum=2)),
        )
        for number in range(_RULES)
    )
    return RuleSet(bundle="sha256:bench", rules=rules)


async def _replayed(backend: Backend, policy: RuleSet, extent: Extent) -> tuple[Report, float]:
    """Replay; also give the megabytes by which the process grew after the first page."""
    held: list[float] = []
    last: object = None
    async for step in backend.simulations.run(policy, extent):
        held.append(_resident())
        last = step
    assert isinstance(last, Report)
    return last, max(held) - held[0]


def _resident() -> float:
    """Give the memory that this process holds, in megabytes; 0 where the system has no /proc."""
    if not _STATM.exists():
        return 0.0
    return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20

"""Decisions of policy, over HTTP: listed, read, replayed under another policy, and compared with a shadow."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, callback, open_client
from tests.http.test_children import item

from agentic_os.application.decisions import KINDS
from agentic_os.application.handle import change_of
from agentic_os.application.ports import Batch, Envelope, TaskChange
from agentic_os.application.simulation import Done, Extent, Report
from agentic_os.application.verdicts import admission, facts_of
from agentic_os.clock import new_id, now
from agentic_os.contracts.canonical import digest_of
from agentic_os.domain import commands as c
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import DecisionPoint, Hook, RuleSet, Verdict
from agentic_os.governance import load_governance, read_policy

POLICY = """
defaults: {reviewers: {role: reviewer, quorum: 1}, bare_approve: false}
rules:
  - id: deploys-need-two
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}]}
    require: {mode: plan_first, reviewers: {quorum: 2}, deadline: 4h, on_timeout: escalate}
    reason: Changes to deployment reach customers.
  - id: no-critical-work
    on: task.received
    when: {all: [{field: task.risk, eq: critical}]}
    deny: true
    reason: Nothing critical.
  - id: children-of-payments
    on: task.proposed
    when: {all: [{field: parent.project, eq: payments}]}
    require: {mode: plan_first, evidence: {done: observed}}
  - id: children-leave-payroll
    on: task.proposed
    when: {all: [{field: task.paths, any_glob: ["payroll/**"]}]}
    deny: true
    reason: Payroll is for people.
  - id: not-for-interns
    on: dispatch
    when: {all: [{field: executor.roles, any: [intern]}, {field: task.risk, gte: high}]}
    deny: true
    reason: Interns keep to what is safe.
"""
LOOSER = POLICY.replace("reviewers: {quorum: 2}", "reviewers: {quorum: 1}")
OPEN = POLICY.replace("eq: critical", "eq: nothing")


def rules(text: str) -> RuleSet:
    """Read a policy."""
    return read_policy([("policy.yaml", text)], None)


@asynccontextmanager
async def opened(open_backend: OpenBackend, database: Database, **parts: Any) -> AsyncIterator[Desk]:
    """Open a desk over a policy."""
    async with open_backend(**parts) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found


@pytest.fixture
async def governed(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open a desk over the policy."""
    async with opened(open_test_backend, database, policy=rules(POLICY)) as found:
        yield found


async def streamed(desk: Desk, text: str, **extent: Any) -> list[tuple[str, Any]]:
    """Simulate a policy; give the events of the answer."""
    body = {"policy": {"name": "new/policy.yaml", "text": text}} | extent
    answer = await desk.post("/api/policy/simulations", body, "olga")
    assert (200, "text/event-stream; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    parts = [part.split("\n", 1) for part in answer.text.strip().split("\n\n")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in parts]


async def simulated(desk: Desk, text: str, **extent: Any) -> dict[str, Any]:
    """Simulate a policy; give the report."""
    kind, report = (await streamed(desk, text, **extent))[-1]
    assert "report" == kind
    return dict(report)


def tasks_of(report: Mapping[str, Any], transition: str) -> set[str]:
    """List the tasks of one transition."""
    rows = [row for row in report["transitions"] if row["transition"] == transition]
    return {d["task_id"] for row in rows for d in row["decisions"]}


async def history(desk: Desk) -> dict[str, str]:
    """Have one decision of each kind, and children whose obligations are joined; return tasks by name."""
    await desk.executor()
    await desk.executor("ina", "intern")
    await desk.executor("hand", "helper")
    found = {
        "plain": await desk.task(assignee="coder"),
        "deploy": await desk.task(paths=["deploy/a.yaml"], mode="plan_first"),
        "critical": await desk.task(risk="critical"),
        "intern": await desk.task(risk="high", assignee="ina"),
        "parent": await desk.task(project="payments", assignee="coder"),
    }
    attempt_token = await desk.ack(found["parent"])
    items = [item("one"), item("two", paths=["deploy/b"]), item("pay", paths=["payroll/x"])]
    items.append(item("after", depends_on=["pay"]))
    body = {"reason": "Why", "tasks": items}
    answer = await desk.send(callback("task_request", found["parent"], 1, 2, body), attempt_token)
    assert 202 == answer.status_code, answer.text
    await desk.work()
    shown = (await desk.show(f"/api/tasks/{found['parent']}"))["children"]
    return found | {child["ref"]: child["id"] for child in shown}


async def test_the_policy_in_force_differs_nowhere(governed: Desk) -> None:
    """Every kind of decision, replayed under the policy that made it, comes out as it was, children's included."""
    await history(governed)
    types = {t for (t,) in await governed.rows("select distinct type from es.event")}
    assert set(KINDS) <= types
    report = await simulated(governed, POLICY)
    assert (0, [], 1) == (report["differing"], report["transitions"], report["skipped"])
    counted = await governed.rows("select count(*) from es.event where type = any(%s)", list(KINDS))
    assert [(report["decisions"] + 1,)] == counted


async def test_a_loosened_rule_lists_exactly_its_tasks(governed: Desk) -> None:
    """One reviewer fewer concerns exactly the tasks of the rule, a child of them, and names the rules of both sides."""
    tasks = await history(governed)
    report = await simulated(governed, LOOSER)
    assert {tasks["deploy"], tasks["two"]} == tasks_of(report, "reviewers.quorum 2 -> 1")
    assert (2, 2, 0) == (report["differing"], report["loosened"], report["tightened"])
    (row,) = report["transitions"]
    assert ("loosened", 2) == (row["direction"], row["count"])
    first = row["decisions"][0]
    assert (["deploys-need-two"], ["deploys-need-two"]) == (first["rules_before"], first["rules"])
    assert "task.received" == first["hook"]
    assert first["at"].endswith("Z")


async def test_what_was_denied_and_would_be_allowed_comes_first(governed: Desk) -> None:
    """Denials that fall lead the report, whatever else is loosened, and what is tightened comes last."""
    tasks = await history(governed)
    other = (
        OPEN.replace("any: [intern]", "any: [nobody]")
        .replace("quorum: 2", "quorum: 1")
        .replace("payroll/**", "none/**")
        .replace("done: observed", "done: independent")
    )
    report = await simulated(governed, other)
    assert [
        ("loosened", "deny -> allow"),
        ("loosened", "reviewers.quorum 2 -> 1"),
        ("tightened", "evidence.done observed -> independent"),
    ] == [(row["direction"], row["transition"]) for row in report["transitions"]]
    assert {tasks[n] for n in ("critical", "intern", "parent")} == tasks_of(report, "deny -> allow")


async def test_a_child_is_judged_by_what_was_asked_when_it_was_proposed(governed: Desk) -> None:
    """A child admitted under no rule keeps the mode of its proposal in the replay, whatever part is read."""
    tasks = await history(governed)
    no_rule = re.sub(r"(?s)  - id: children-of-payments.*?observed}}\n", "", POLICY)
    report = await simulated(governed, no_rule)
    changed = "plan_first -> direct; evidence.done observed -> self_reported"
    assert {tasks["parent"]} == tasks_of(report, changed)
    for last in range(1, 12):
        assert 0 == (await simulated(governed, POLICY, last=last))["differing"], last


async def test_the_extent_is_the_last_or_those_since(governed: Desk) -> None:
    """`last` counts decisions from the end, `since` compares their times, and progress reaches the total."""
    await governed.executor()
    tasks = [await governed.task(risk="critical") for _ in range(5)]
    events = await streamed(governed, OPEN, last=2)
    assert ("progress", {"done": 2, "total": 2}) == events[-2]
    assert set(tasks[3:]) == tasks_of(events[-1][1], "deny -> allow")
    times = [d["at"] for d in (await governed.show("/api/decisions"))["items"]]
    report = await simulated(governed, OPEN, since=times[2])
    assert set(tasks[2:]) == tasks_of(report, "deny -> allow")
    assert 0 == (await simulated(governed, OPEN, since="2099-01-01T00:00:00Z"))["decisions"]
    assert 5 == (await simulated(governed, OPEN, last=2**53 - 1))["decisions"]


async def test_a_policy_that_is_none_is_refused_by_file_and_line(governed: Desk) -> None:
    """The problem names the file as the caller called it, and the line, and the next simulation may begin."""
    for text, place in (
        ("rules:\n  - id: a\n", "p.yaml:2: "),
        ("rules: [", "p.yaml:1: "),
        ("a: &x [*x]", "p.yaml:1: "),
    ):
        body = {"policy": {"name": "p.yaml", "text": text}}
        answer = await governed.post("/api/policy/simulations", body, "ada")
        assert place in assert_problem(answer, 422, "schema_invalid", "/policy")["detail"]
    body = {"policy": {"name": "p", "text": POLICY}, "organisation": {"name": "o.yaml", "text": "\nroles: 3"}}
    answer = await governed.post("/api/policy/simulations", body, "ada")
    assert "o.yaml:2: " in assert_problem(answer, 422, "schema_invalid")["detail"]
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
    )
    answer = await governed.post("/api/policy/simulations", {"policy": {"name": "b", "text": bomb}}, "ada")
    assert "aliases" in assert_problem(answer, 422, "schema_invalid")["detail"]
    assert 0 == (await simulated(governed, POLICY))["decisions"]


async def test_a_policy_in_several_files_is_simulated(governed: Desk) -> None:
    """Its files are joined by their names, and a fault names the one that it is in, or the field of the body."""
    await history(governed)
    start = POLICY.index("  - id: children-of")
    parts = [{"name": "p/20.yaml", "text": "rules:\n" + POLICY[start:]}]
    parts.append({"name": "p/10.yaml", "text": POLICY[:start]})
    answer = await governed.post("/api/policy/simulations", {"policy": parts}, "olga")
    report = json.loads(answer.text.strip().rpartition("data: ")[2])
    assert (0, rules(POLICY).bundle) == (report["differing"], report["bundle"])
    for broken, pointer, words in (
        ([*parts, {"name": "p/30.yaml", "text": "\nrules: {}"}], "/policy", "p/30.yaml:2: expected a list"),
        ([*parts, {"name": "p/30.yaml"}], "/policy/2/text", "Field required"),
        ({"name": "p.yaml"}, "/policy/text", "Field required"),
        ([], "/policy", "at least 1 item"),
        (parts * 33, "/policy", "at most 64 items"),
    ):
        answer = await governed.post("/api/policy/simulations", {"policy": broken}, "olga")
        assert words in assert_problem(answer, 422, "schema_invalid", pointer)["detail"]


async def test_one_simulation_runs_at_a_time(governed: Desk) -> None:
    """While one has its turn, another is 409 and says what to do; a body beyond its limit is refused."""
    governed.backend.simulations.take_turn()
    body = {"policy": {"name": "p.yaml", "text": POLICY}}
    refusal = assert_problem(await governed.post("/api/policy/simulations", body, "olga"), 409, "conflict")
    assert "Wait" in refusal["next"]
    governed.backend.simulations.end_turn()
    assert 200 == (await governed.post("/api/policy/simulations", body, "olga")).status_code
    assert 200 == (await governed.post("/api/policy/simulations", body, "olga")).status_code
    large = {"policy": {"name": "p.yaml", "text": " " * 2**20}}
    assert_problem(await governed.post("/api/policy/simulations", large, "olga"), 413, "too_large")


async def test_simulating_is_for_operators(governed: Desk) -> None:
    """Viewers and executors may not simulate."""
    credential = await governed.executor()
    body = {"policy": {"name": "p.yaml", "text": POLICY}}
    assert_problem(await governed.post("/api/policy/simulations", body, "vera"), 403, "scope_denied")
    answer = await governed.client.post(
        "/api/policy/simulations", json=body, headers={"Authorization": f"Bearer {credential}"}
    )
    assert_problem(answer, 403, "scope_denied")


async def test_decisions_are_listed_and_read(governed: Desk) -> None:
    """Decisions are listed by task, hook and outcome, page by page, each as it is read by its id."""
    tasks = await history(governed)
    pages, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        found = await governed.show("/api/decisions", params=query)
        pages += found["items"]
        cursor = found["next"]
        if cursor is None:
            break
    everything = (await governed.show("/api/decisions", params={"limit": 500}))["items"]
    assert pages == everything
    assert len({d["id"] for d in pages}) == len(pages)
    denied = (await governed.show("/api/decisions", params={"decision": "deny", "hook": "task.received"}))[
        "items"
    ]
    (critical,) = denied
    assert {
        "task_id": tasks["critical"],
        "hook": "task.received",
        "decision": "deny",
        "rules": ["no-critical-work"],
        "reasons": ["Nothing critical."],
        "bundle": rules(POLICY).bundle,
        "obligations": None,
    }.items() <= critical.items()
    assert "critical" == critical["facts"]["task.risk"]
    assert digest_of(critical["facts"]) == critical["facts_digest"]
    assert critical == await governed.show(f"/api/decisions/{critical['id']}")
    of_task = (await governed.show("/api/decisions", params={"task": tasks["plain"]}))["items"]
    assert ["dispatch", "task.received"] == [d["hook"] for d in of_task]
    assert "coder" == of_task[0]["facts"]["executor.name"]
    assert 1 == of_task[1]["obligations"]["reviewers"]["quorum"]


async def test_decisions_that_do_not_exist_are_problems(governed: Desk) -> None:
    """An unknown id, a task nobody knows, another event and a cursor of somebody else are refused as such."""
    task_id = await governed.task()
    events = (await governed.show(f"/api/tasks/{task_id}/events"))["items"]
    for name in (str(new_id()), "nonsense", events[0]["event_id"]):
        assert_problem(await governed.get(f"/api/decisions/{name}"), 404, "not_found")
    assert_problem(await governed.get("/api/decisions?task=nobody"), 404, "unknown_task")
    assert_problem(await governed.get("/api/decisions?cursor=x"), 422, "schema_invalid", "/cursor")
    assert_problem(await governed.get("/api/decisions?hook=never"), 422, "schema_invalid", "/hook")


async def test_a_shadow_is_noted_where_it_differs(open_test_backend: OpenBackend, database: Database) -> None:
    """What the shadow would decide otherwise is in the task's history and counted, and changes nothing."""
    other = rules(OPEN.replace("quorum: 2", "quorum: 3").replace("any: [intern]", "any: [nobody]"))
    async with opened(open_test_backend, database, policy=rules(POLICY), shadow=other) as desk:
        tasks = await history(desk)
        plain = await desk.events(tasks["plain"])
        assert "policy.differed" not in plain
        denied = await desk.events(tasks["critical"])
        assert ["task.created", "policy.differed", "task.denied"] == denied
        (differed,) = [
            e for e in await desk.backend.log.read_stream(tasks["deploy"]) if e.type == "policy.differed"
        ]
        assert (other.bundle, False, "reviewers.quorum") == (
            differed.data["bundle"],
            differed.data["loosened"],
            differed.data["differences"][0]["name"],
        )
        assert "input_required" == await desk.phase(tasks["intern"])
        shown = await desk.show("/api/governance/shadow")
        assert other.bundle == shown["bundle"]
        assert [
            ("deny -> allow", "dispatch", True, 1),
            ("deny -> allow", "task.received", True, 1),
            ("reviewers.quorum 2 -> 3", "task.received", False, 2),
        ] == [tuple(t[n] for n in ("transition", "hook", "loosened", "count")) for t in shown["transitions"]]
        assert 0 == (await simulated(desk, POLICY))["differing"]
        assert "ok" == (await desk.post("/api/audit/verify", {}, "vera")).json()["audit"]


class Broken(RuleSet):
    """A policy that raises whatever it is asked."""

    def decide(self, hook: Hook, facts: JsonObject) -> Verdict:
        """Fail."""
        raise RuntimeError(f"no such thing at {hook} of {len(facts)} facts")


async def test_a_shadow_that_raises_stops_nothing(open_test_backend: OpenBackend, database: Database) -> None:
    """Its fault is noted as the reason why it differs, and tasks go on as the policy in force says."""
    shadow: DecisionPoint = Broken(bundle="sha256:broken", rules=())
    async with opened(open_test_backend, database, policy=rules(POLICY), shadow=shadow) as desk:
        await desk.executor()
        task_id = await desk.task()
        assert "dispatched" == await desk.phase(task_id)
        noted = [e.data for e in await desk.backend.log.read_stream(task_id) if e.type == "policy.differed"]
        assert ["task.received", "dispatch"] == [data["hook"] for data in noted]
        assert ["The shadow could not be evaluated: no such thing at task.received of 8 facts"] == noted[0][
            "reasons"
        ]
        shown = (await desk.show("/api/governance/shadow"))["transitions"]
        assert {"could not be evaluated"} == {t["transition"] for t in shown}


async def test_without_a_shadow_nothing_is_counted(governed: Desk) -> None:
    """There is no bundle and no transition where no policy is tried."""
    assert {"bundle": None, "transitions": []} == await governed.show("/api/governance/shadow")


def test_a_shadow_is_read_with_the_folder_and_its_faults_have_lines(tmp_path: Path) -> None:
    """The folder `shadow` holds the policy on trial, with a bundle of its own, and a fault in it has its line."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    assert load_governance(tmp_path).shadow is None
    (shadow / "policy.yaml").write_text(LOOSER)
    found = load_governance(tmp_path)
    assert found.shadow is not None
    assert found.shadow.policy == rules(LOOSER)
    assert found.policy == rules(POLICY)
    (shadow / "policy.yaml").write_text("rules:\n  - id: a\n")
    with pytest.raises(Exception, match=re.escape(f"{shadow / 'policy.yaml'}:2: ")):
        load_governance(tmp_path)


def decided(policy: DecisionPoint, number: int) -> TaskChange:
    """Have a task that was judged twice: received, and put to an executor."""
    created = c.CreateTask(
        task_id=str(new_id()),
        title="T",
        goal="G",
        project=("shop", "payments")[number % 2],
        requester="olga",
        at=now(),
        risk=("low", "medium", "high", "critical")[number % 4],
        paths=("deploy/a",) if number % 10 == 0 else ("src/a",),
    )
    received = change_of(None, [created]).after
    admitted = admission(received, policy)
    if admitted.verdict.decision == "deny":
        return change_of(None, [created, admitted])
    facts = {**facts_of(received), "executor.name": "ina", "executor.roles": ["intern"]}
    offer = c.OfferAttempt(
        attempt=1,
        executor="ina",
        brief={},
        brief_digest="",
        verdict=policy.decide("dispatch", facts),
        facts_digest=digest_of(facts),
        ack_deadline=now() + timedelta(hours=1),
        lease_seconds=60,
    )
    return change_of(None, [created, admitted, offer])


async def test_thousands_of_decisions_are_replayed_exactly(governed: Desk) -> None:
    """Of thousands none differs under the same policy, and under another exactly those of the changed rule do."""
    policy = governed.backend.policy()
    concerned = set()
    for start in range(0, 3000, 250):
        changes = [decided(policy, number) for number in range(start, start + 250)]
        concerned |= {
            change.after.id
            for n, change in enumerate(changes)
            if (start + n) % 10 == 0 and change.after.risk != "critical"
        }
        await governed.backend.log.append(Batch(envelope=Envelope(actor="olga", at=now()), changes=changes))
    steps = [step async for step in governed.backend.simulations.run(rules(POLICY), Extent())]
    assert all(isinstance(step, Done) for step in steps[:-1])
    assert Done(done=5250, total=5250) == steps[-2]
    assert isinstance(steps[-1], Report)
    assert (5250, 0) == (steps[-1].decisions, steps[-1].as_json()["differing"])
    report = await simulated(governed, LOOSER)
    assert concerned == tasks_of(report, "reviewers.quorum 2 -> 1")
    assert len(concerned) == report["differing"] == report["loosened"]


class Watched(RuleSet):
    """A policy that notes at which turn of the loop it was asked."""

    turn = 0
    asked: ClassVar[set[int]] = set()

    def decide(self, hook: Hook, facts: JsonObject) -> Verdict:
        """Decide as ever."""
        self.asked.add(Watched.turn)
        return RuleSet.decide(self, hook, facts)


async def test_a_simulation_leaves_room_for_others(governed: Desk) -> None:
    """A replay lets others have their turn every few decisions, and one that is given up gives its own back."""
    policy = governed.backend.policy()
    changes = [decided(policy, number) for number in range(250)]
    await governed.backend.log.append(Batch(envelope=Envelope(actor="olga", at=now()), changes=changes))

    async def turn() -> None:
        while True:
            Watched.turn += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    watched = Watched(bundle="sha256:w", rules=rules(POLICY).rules)
    async for _ in governed.backend.simulations.run(watched, Extent()):
        pass
    turning.cancel()
    assert len(Watched.asked) >= 10
    given_up = asyncio.create_task(simulated(governed, LOOSER))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert 0 == (await simulated(governed, POLICY))["differing"]

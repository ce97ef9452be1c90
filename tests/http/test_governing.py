"""Applying a bundle over HTTP: by administrators only, at once, for what waits too, and in every server."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, bearer, callback, open_client, token

from agentic_os.application.governing import BundleInvalid
from agentic_os.clock import now
from agentic_os.governance import load_documents

FREEZING = f"""\
freezes:
  - {{id: f, from: 2020-01-01T00:00:00Z, until: '{(now() + timedelta(days=1)).isoformat()}', projects: ['*']}}
"""
PLANNING = "defaults: {mode: plan_first}\n"
ORGANISATION = """\
roles:
  developer: {charter: Build it.}
  tech-lead: {}
members:
  helper: {roles: [developer], capacity: 1}
  rita: {roles: [tech-lead]}
"""
LEADS = "defaults: {mode: plan_first, reviewers: {role: tech-lead, by: people}}\n"


async def apply(desk: Desk, policy: str, as_: str = "ada", **documents: str) -> httpx.Response:
    """Apply a bundle as somebody."""
    texts = {"policy.yaml": policy} | {f"{name}.yaml": text for name, text in documents.items()}
    return await desk.post("/api/governance", {"documents": texts, "reason": "It is time."}, as_)


async def applied(desk: Desk, policy: str, **documents: str) -> str:
    """Apply what is a change; return its digest."""
    answer = await apply(desk, policy, **documents)
    assert (200, True) == (answer.status_code, answer.json().get("applied")), answer.text
    return str(answer.json()["bundle"])


async def test_a_bundle_is_in_force_at_once_and_recorded_with_its_reason(desk: Desk) -> None:
    """The next task is judged by it, and the history says who applied it, and why."""
    before = await desk.task()
    bundle = await applied(desk, PLANNING)
    after = await desk.task()
    shown = [(await desk.show(f"/api/tasks/{task_id}"))["mode"] for task_id in (before, after)]
    assert ["direct", "plan_first"] == shown
    (event,) = await desk.backend.log.read_stream("governance:policy")
    assert ("ada", "It is time.", bundle) == (event.actor, event.reason, event.data["bundle"])
    (judged,) = [e for e in await desk.backend.log.read_stream(after) if e.type == "task.allowed"]
    assert bundle == judged.data["bundle"]


async def test_what_is_in_force_is_shown(desk: Desk) -> None:
    """Whoever may look sees the bundle whole, with its author and reason; before the first there is none."""
    assert_problem(await desk.get("/api/governance"), 404, "not_found")
    bundle = await applied(desk, PLANNING, organisation=ORGANISATION)
    shown = await desk.show("/api/governance")
    assert (bundle, "ada", "It is time.") == tuple(shown[k] for k in ("bundle", "actor", "reason"))
    assert {"mode": "plan_first"} == shown["document"]["defaults"]
    assert "helper" in shown["document"]["organisation"]["members"]


@pytest.mark.parametrize("name", ["olga", "rita", "vera"])
async def test_only_administrators_apply(desk: Desk, name: str) -> None:
    """Whoever operates, reviews or looks may not, and nothing is recorded."""
    assert_problem(await apply(desk, PLANNING, as_=name), 403, "scope_denied")
    assert [] == list(await desk.backend.log.read_stream("governance:policy"))


@pytest.mark.parametrize("role", ["developer", "admin"])
async def test_agents_never_apply(desk: Desk, role: str) -> None:
    """Neither the credential of an executor opens the door, whatever its role is called, nor an attempt's token."""
    await desk.executor(role=role)
    task_id = await desk.task()
    body = {"documents": {"policy.yaml": ""}, "reason": "I would like to."}
    for credential in (token("coder"), await desk.ack(task_id)):
        answer = await desk.client.post("/api/governance", json=body, headers=bearer(credential))
        assert_problem(answer, 403, "scope_denied")
    assert [] == list(await desk.backend.log.read_stream("governance:policy"))


async def test_an_organisation_makes_nobody_an_administrator(desk: Desk) -> None:
    """A role that is called as a token's right is given to nobody: the bundle is refused."""
    organisation = "roles: {admin: {}}\nmembers:\n  vera: {roles: [admin]}\n"
    answer = await apply(desk, "", organisation=organisation)
    problem = assert_problem(answer, 422, "schema_invalid", "/documents/organisation.yaml")
    assert "organisation.yaml:3: 'admin' is what a token may do" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (
            {"documents": {"policy.yaml": "rules:\n  - id: a\n    on: never\n"}, "reason": "R"},
            "/documents/policy.yaml",
        ),
        ({"documents": {"organisation.yaml": ""}, "reason": "R"}, "/documents"),
        ({"documents": {"policy.yaml": "\0"}, "reason": "R"}, "/documents/policy.yaml"),
        ({"documents": {"policy.yaml": ""}, "reason": " "}, "/reason"),
        ({"documents": {"policy.yaml": ""}}, "/reason"),
        ({"documents": {"skills.yaml": ""}, "reason": "R"}, "/documents"),
        ({"documents": {"policy/../x.yaml": ""}, "reason": "R"}, "/documents/policy~1..~1x.yaml"),
        ({"documents": {"policy/x.yml": ""}, "reason": "R"}, "/documents/policy~1x.yml"),
        (
            {"documents": {"policy.yaml": "", "shadow/policy.yaml": "rules: {}"}, "reason": "R"},
            "/documents/shadow~1policy.yaml",
        ),
        ({"documents": {"policy.yaml": "", "shadow/organisation.yaml": ""}, "reason": "R"}, "/documents"),
        ({"documents": {"shadow/policy.yaml": ""}, "reason": "R"}, "/documents"),
        ({"documents": {f"policy/{n}.yaml": "" for n in range(66)}, "reason": "R"}, "/documents"),
        ({"documents": {f"policy/{n}.yaml": "" for n in range(65)}, "reason": "R"}, "/documents"),
        ({"documents": {"policy/a.yaml": "", "policy.yaml": ""}, "reason": "R"}, "/documents/policy.yaml"),
        (
            {"documents": {"policy/a.yaml": "rules: []", "policy/b.yaml": "rules: {}"}, "reason": "R"},
            "/documents/policy~1b.yaml",
        ),
    ],
)
async def test_what_is_no_bundle_changes_nothing(desk: Desk, body: Any, pointer: str) -> None:
    """A fault is named with its file and line, and what is in force stays."""
    await applied(desk, PLANNING)
    answer = await desk.post("/api/governance", body, "ada")
    problem = assert_problem(answer, 422, "schema_invalid")
    assert problem["pointer"][0].startswith(pointer)
    assert 1 == len(await desk.backend.log.read_stream("governance:policy"))
    assert "plan_first" == (await desk.show(f"/api/tasks/{await desk.task()}"))["mode"]


async def test_a_policy_in_several_files_is_one_bundle(desk: Desk) -> None:
    """It is named, stored and followed as the one file that says the same; more than a body may hold is refused."""
    rule = "  - {id: %s, on: task.received, require: {mode: plan_first}}\n"
    parts = {
        "policy/20.yaml": "rules:\n" + rule % "b",
        "policy/10.yaml": "defaults: {}\nrules:\n" + rule % "a",
    }
    answer = await desk.post("/api/governance", {"documents": parts, "reason": "R"}, "ada")
    assert answer.json()["applied"]
    assert ["a", "b"] == [r["id"] for r in (await desk.show("/api/governance"))["document"]["rules"]]
    again = await apply(desk, "defaults: {}\nrules:\n" + rule % "a" + rule % "b")
    assert {"bundle": answer.json()["bundle"], "applied": False} == again.json()
    assert "plan_first" == (await desk.show(f"/api/tasks/{await desk.task()}"))["mode"]
    large = {f"policy/{n}.yaml": "#" * 2**15 for n in range(40)}
    answer = await desk.post("/api/governance", {"documents": large, "reason": "R"}, "ada")
    assert_problem(answer, 413, "too_large")


async def test_the_same_bundle_again_changes_nothing(desk: Desk) -> None:
    """It is answered as done, and recorded once."""
    first = await applied(desk, PLANNING)
    again = await apply(desk, "# the same\n" + PLANNING)
    assert {"bundle": first, "applied": False} == again.json()
    assert 1 == len(await desk.backend.log.read_stream("governance:policy"))


async def test_what_waits_for_another_policy_goes_on(desk: Desk) -> None:
    """A frozen task, and one without room in its budget, are dispatched by themselves."""
    await desk.executor()
    for policy in (FREEZING, "budgets: {day: {tokens: 0}}\n"):
        await applied(desk, policy)
        task_id = await desk.task()
        assert "ready" == await desk.phase(task_id)
        await applied(desk, "rules: []\n")
        await desk.work()
        assert "dispatched" == await desk.phase(task_id)
        await desk.direct(task_id, "/cancel")


async def test_roles_of_the_file_count_for_executors(desk: Desk) -> None:
    """An executor gets tasks and the charter of a role that the organisation gives it, and no more than it may hold."""
    await desk.executor("helper", role="intern")
    first = await desk.task(assignee="role:developer")
    assert "ready" == await desk.phase(first)
    await applied(desk, "", organisation=ORGANISATION)
    await desk.work()
    assert "dispatched" == await desk.phase(first)
    brief = (await desk.show(f"/api/tasks/{first}/brief"))["brief"]
    assert "Build it." in str(brief)
    second = await desk.task(assignee="role:developer")
    assert "capacity:helper" in await desk.backend.work.waits_of(second)
    (shown,) = (await desk.show("/api/executors"))["items"]
    assert (["intern", "developer"], 1) == (shown["roles"], shown["capacity"])
    await applied(desk, "", organisation=ORGANISATION.replace("capacity: 1", "capacity: 2"))
    await desk.work()
    assert "dispatched" == await desk.phase(second)


async def test_a_role_of_people_decides(desk: Desk) -> None:
    """Under a rule that names it, a reviewer without the role is refused, and one with it decides."""
    await applied(desk, LEADS, organisation=ORGANISATION)
    task_id = await desk.planned()
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    refused = await desk.direct(task_id, f"/approve v1@{plan['digest'][7:15]}", "ada")
    assert ("refused", "not_permitted") == (refused["outcome"], refused["rule"])
    assert "tech-lead" in refused["message"]
    await desk.approve(task_id, "rita")
    assert "dispatched" == await desk.phase(task_id)


SUPERIORS = "defaults: {mode: plan_first, reviewers: {role: superior}}\n"


@pytest.mark.parametrize(
    "organisation",
    [
        "members: {coder: {reports_to: helper}, helper: {reports_to: rita}, rita: {}}\n",
        "roles: {developer: {reports_to: lead}, lead: {}}\nmembers: {rita: {roles: [lead]}}\n",
    ],
)
async def test_whoever_stands_above_the_author_decides(desk: Desk, organisation: str) -> None:
    """By members or by roles, through others too; another reviewer is refused, and told whom to ask."""
    await applied(desk, SUPERIORS, organisation=organisation)
    task_id = await desk.planned()
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert "to whom coder reports" in shown["waiting_for"]["what"]
    refused = await desk.direct(task_id, f"/approve v1@{shown['plan']['digest'][7:15]}", "ada")
    assert ("refused", "not_permitted") == (refused["outcome"], refused["rule"])
    assert "somebody above coder" in refused["message"]
    await desk.approve(task_id, "rita")
    assert "dispatched" == await desk.phase(task_id)


async def test_where_nobody_stands_above_the_author_any_reviewer_decides(desk: Desk) -> None:
    """An author at the top is reviewed by whoever may, rather than by nobody."""
    await applied(desk, SUPERIORS, organisation="members: {helper: {reports_to: rita}, rita: {}}\n")
    task_id = await desk.planned()
    await desk.approve(task_id, "ada")
    assert "dispatched" == await desk.phase(task_id)


async def test_an_executor_above_the_author_is_asked(desk: Desk) -> None:
    """Of those that could review, the one that the author reports to; with none, people decide and read why."""
    for name in ("senior", "other"):
        await desk.executor(name, "reviewing")
    policy = SUPERIORS.replace("superior", "superior, by: anyone")
    await applied(desk, policy, organisation="members: {coder: {reports_to: senior}, senior: {}}\n")
    task_id = await desk.planned()
    assert "senior" == (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["owner"]
    await applied(desk, policy, organisation="members: {senior: {}}\n")
    second = await desk.task(mode="plan_first", assignee="coder")
    await desk.submit("plan", second, await desk.ack(second))
    waiting = (await desk.show(f"/api/tasks/{second}"))["waiting_for"]
    assert "no executor above coder is left" in waiting["what"]


async def test_a_role_of_people_who_are_not_registered_yet_is_held_by_nobody(desk: Desk) -> None:
    """As long as nobody who is known has it, nobody decides, rather than everybody."""
    await applied(desk, LEADS, organisation=ORGANISATION.replace("rita:", "omar:"))
    task_id = await desk.planned()
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    refused = await desk.direct(task_id, f"/approve v1@{plan['digest'][7:15]}", "rita")
    assert ("refused", "not_permitted") == (refused["outcome"], refused["rule"])


async def test_a_role_of_executors_is_not_asked_of_people(desk: Desk) -> None:
    """Where only executors hold a role that reviews, whoever may review decides as before."""
    organisation = "roles: {developer: {}, qa: {}}\nmembers:\n  tester: {roles: [qa]}\n"
    await desk.executor("tester", role="intern")
    await applied(
        desk, "defaults: {mode: plan_first, reviewers: {role: qa, by: anyone}}\n", organisation=organisation
    )
    task_id = await desk.planned(assignee="role:developer")
    assert "tester" == (await desk.show(f"/api/tasks/{task_id}"))["attempt"]["executor"]
    await desk.approve(task_id)
    assert "dispatched" == await desk.phase(task_id)


@pytest.fixture
async def other(desk: Desk, open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open a second server beside the first."""
    async with open_test_backend() as backend, open_client(backend) as client:
        yield Desk(backend, client, database.owner)


async def test_another_server_decides_by_it_when_it_works_next(desk: Desk, other: Desk) -> None:
    """A task that a bundle sets free is dispatched by whichever server takes it, under that bundle."""
    await desk.executor()
    await applied(desk, FREEZING)
    await other.worker.look_around()
    task_id = await other.task()
    assert "ready" == await other.phase(task_id)
    bundle = await applied(desk, "rules: []\n")
    await other.worker.drain_stale()
    assert "dispatched" == await other.phase(task_id)
    assert bundle == other.backend.policy().bundle


async def test_another_server_learns_of_it_at_its_look_around(desk: Desk, other: Desk) -> None:
    """Without any work and any signal the look that is taken once a minute is enough."""
    bundle = await applied(desk, PLANNING, organisation=ORGANISATION)
    await other.worker.look_around()
    assert bundle == other.backend.policy().bundle
    assert "plan_first" == (await other.show(f"/api/tasks/{await other.task()}"))["mode"]


async def test_a_server_that_starts_takes_over_what_was_applied(desk: Desk, other: Desk) -> None:
    """It says whether there was anything, and has the policy and the organisation of the last one."""
    assert not await other.backend.governing.follow()
    for policy in (PLANNING, LEADS):
        await applied(desk, policy, organisation=ORGANISATION)
    assert await other.backend.governing.follow()
    expected = load_documents({"policy.yaml": LEADS, "organisation.yaml": ORGANISATION}).policy
    assert expected == other.backend.policy()
    assert ("rita" in ORGANISATION) == (
        "tech-lead" in (await other.backend.registry.participant("rita")).roles
    )


async def test_a_bundle_that_cannot_be_read_leaves_what_is_in_force(desk: Desk, other: Desk) -> None:
    """One that a later version recorded is refused at a start, and passed over by what runs until the next."""
    await applied(desk, PLANNING)
    await desk.backend.registry.record_bundle("later", {"later": []}, "ada", "A newer one.")
    with pytest.raises(BundleInvalid, match="later"):
        await other.backend.governing.follow()
    await desk.worker.look_around()
    assert "plan_first" == (await desk.show(f"/api/tasks/{await desk.task()}"))["mode"]
    await applied(desk, "rules: []\n")
    await other.worker.look_around()
    assert desk.backend.policy().bundle == other.backend.policy().bundle


async def tried(desk: Desk, policy: str, shadow: str | None = None) -> bool:
    """Apply a policy, with another one on trial; tell whether that was a change."""
    texts = {"policy.yaml": policy} | ({} if shadow is None else {"shadow/policy.yaml": shadow})
    answer = await desk.post("/api/governance", {"documents": texts, "reason": "Let us see."}, "ada")
    assert 200 == answer.status_code, answer.text
    return bool(answer.json()["applied"])


async def test_a_policy_goes_on_trial_without_a_restart(desk: Desk, other: Desk) -> None:
    """It is a change of its own, every server asks it, and a bundle without one ends the trial."""
    assert await tried(desk, "rules: []\n")
    assert await tried(desk, "rules: []\n", PLANNING)
    assert not await tried(desk, "rules: []\n", "# the same\n" + PLANNING)
    await other.worker.look_around()
    for server in (desk, other):
        task_id = await server.task()
        assert "direct" == (await server.show(f"/api/tasks/{task_id}"))["mode"]
        assert "policy.differed" in await server.events(task_id)
    shown = await desk.show("/api/governance")
    assert {"mode": "plan_first"} == shown["shadow"]["document"]["defaults"]
    counted = await other.show("/api/governance/shadow")
    assert (shown["shadow"]["bundle"], 2) == (counted["bundle"], counted["transitions"][0]["count"])
    assert await tried(desk, "rules: []\n")
    await other.worker.look_around()
    assert (await desk.show("/api/governance"))["shadow"] is None
    assert "policy.differed" not in await other.events(await other.task())


async def test_a_trial_that_cannot_be_read_keeps_no_bundle_away(desk: Desk, other: Desk) -> None:
    """A later version's is passed over, and what it stands beside is followed."""
    known = load_documents({"policy.yaml": PLANNING})
    registry = desk.backend.registry
    await registry.record_bundle(known.policy.bundle, known.document, "ada", shadow={"later": []})
    await other.worker.look_around()
    assert known.policy == other.backend.policy()


async def test_what_runs_keeps_the_verdict_that_it_got(desk: Desk) -> None:
    """A result under a later bundle completes the task as the bundle of its admission says."""
    await desk.executor()
    task_id = await desk.task()
    held = await desk.ack(task_id)
    await applied(desk, "defaults: {result_review: true}\n")
    assert 202 == (await desk.send(callback("result", task_id, 1, 2), held)).status_code
    assert "completed" == await desk.phase(task_id)

"""Policies over HTTP, and `policy explain --task`: a recorded verdict decided again under its own policy."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, callback, open_client, token
from tests.http.test_children import item

from agentic_os.application.decisions import TYPES
from agentic_os.cli import main
from agentic_os.cli.client import Client, ServerRefused
from agentic_os.governance import Governance, load_governance, recorded_policy

Command = Callable[..., Awaitable[tuple[int, str]]]
POLICY = """\
defaults: {mode: direct, deadline: 2d}
rules:
  - id: deploys
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}, {not: {field: task.labels, any: [dry-run]}}]}
    require: {mode: plan_first, reviewers: {quorum: 2}, deadline: 4h, evidence: {tests: observed}}
    reason: Deploys reach customers.
  - id: no-strangers
    on: task.received
    when: {all: [{field: task.project, eq: secret}]}
    deny: true
    reason: Nobody works on it.
  - id: training
    on: task.received
    when: {all: [{field: task.labels, any: [training]}]}
    require: {capabilities: [gpu, cuda], tier: 2}
  - id: idle-hands
    on: dispatch
    when: {all: [{field: executor.name, eq: coder}, {field: task.labels, any: [frozen]}]}
    deny: true
    reason: Not this one.
  - id: no-grand-children
    on: task.proposed
    when: {all: [{field: task.tools, any: [forbidden]}]}
    deny: true
    reason: Not as a child.
  - {id: once-more, on: attempt.ended, when: {all: [{field: attempt.count, lte: 2}]}, require: {then: retry}}
  - id: children-are-reviewed
    on: task.proposed
    require: {result_review: true}
freezes:
  - {id: past, from: 2020-01-01T00:00:00Z, until: "2020-01-02T00:00:00+01:00", projects: ["*"]}
budgets: {day: {tokens: 20_000_000}}
"""


@pytest.fixture
def governance(tmp_path: Path) -> Governance:
    """Read a folder with a policy of every kind of rule."""
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "organisation.yaml").write_text("roles: {helper: {charter: Help.}}\n", encoding="utf-8")
    return load_governance(tmp_path)


@pytest.fixture
async def desk(
    open_test_backend: OpenBackend, database: Database, governance: Governance
) -> AsyncIterator[Desk]:
    """Open the API under that policy, which is recorded as at each start."""
    async with open_test_backend(policy=governance.policy) as backend, open_client(backend) as client:
        await backend.registry.record_bundle("sha256:old", {"rules": []}, "ada")
        await backend.registry.record_bundle(governance.policy.bundle, dict(governance.document), "ada")
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found


@pytest.fixture
def command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `policy explain` against the desk; give its exit code and all that it printed."""
    monkeypatch.setenv("AGENTIC_OS_URL", "http://desk")
    monkeypatch.setenv("AGENTIC_OS_TOKEN", "unused")
    loop = asyncio.get_event_loop()

    def get(self: Client, path: str, **query: Any) -> Any:
        answer = asyncio.run_coroutine_threadsafe(desk.get(path, params=query), loop).result()
        if answer.is_error:
            raise ServerRefused(answer.json())
        return answer.json()

    monkeypatch.setattr(Client, "get", get)

    async def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, ["policy", "explain", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


async def test_policies_are_read_by_digest_and_the_one_in_force_without(
    desk: Desk, governance: Governance
) -> None:
    """Each has its whole document, by whom, when and why it was applied; an unknown digest is not found."""
    found = await desk.show("/api/governance")
    assert (governance.policy.bundle, governance.document, "ada", "started with it") == (
        found["bundle"],
        found["document"],
        found["actor"],
        found["reason"],
    )
    assert found["applied_at"].endswith("Z")
    assert found == await desk.show(f"/api/governance/bundles/{governance.policy.bundle}")
    assert {"rules": []} == (await desk.show("/api/governance/bundles/sha256:old"))["document"]
    assert_problem(await desk.get("/api/governance/bundles/sha256:none"), 404, "not_found")


async def test_what_an_executor_must_have_is_explained(desk: Desk, command: Command) -> None:
    """The verdict reached again is the recorded one, and names who asks for the capabilities and the tier."""
    task_id = await desk.task(labels=["training"])
    code, text = await command("--task", task_id)
    assert 0 == code, text
    assert '  capabilities ["cuda", "gpu"]: training' in text.splitlines()
    assert "  tier 2: training" in text.splitlines()


async def test_before_the_first_policy_is_recorded_there_is_none(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """A history without any says so."""
    async with open_test_backend() as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        assert_problem(await found.get("/api/governance"), 404, "not_found")


def test_a_recorded_policy_is_read_as_it_was(governance: Governance) -> None:
    """The document alone gives the same rules, budgets, freezes and breakers as the file did."""
    document = json.loads(json.dumps(governance.document))
    assert governance.policy == recorded_policy(governance.policy.bundle, document)
    assert load_governance(None).policy == recorded_policy(
        load_governance(None).policy.bundle, {"defaults": {}, "rules": []}
    )


async def test_an_allowed_task_is_explained_from_its_history(desk: Desk, command: Command) -> None:
    """The recorded facts are decided again by the recorded policy, and the words say that nothing differs."""
    task_id = await desk.task(paths=["deploy/a.yaml"])
    code, text = await command("--task", task_id)
    assert 0 == code, text
    assert "task.received: allowed, with a plan first, by rule deploys" in text
    assert "reviewers.quorum 2: deploys" in text
    assert 'no-strangers: task.project must be "secret", and is "default"' in text
    assert 'allowed, directly, if task.labels were ["dry-run"], not []' in text
    assert "it is as it was recorded" in text
    code, text = await command("--task", task_id, "--json")
    found = json.loads(text)
    assert (0, "task.allowed", [], "plan_first") == (
        code,
        found["type"],
        found["differences"],
        found["replay"]["outcome"],
    )


async def test_denials_of_tasks_and_of_dispatches_are_explained(desk: Desk, command: Command) -> None:
    """The latest verdict is the one that is explained, at the hook where it was reached."""
    code, text = await command("--task", await desk.task(project="secret"))
    assert (0, True) == (code, "task.received: denied, by rule no-strangers" in text), text
    await desk.executor()
    code, text = await command("--task", await desk.task(labels=["frozen"]))
    assert (0, True) == (code, "dispatch: denied, by rule idle-hands" in text), text


async def test_an_attempt_that_was_let_through_is_explained_when_asked_for(
    desk: Desk, command: Command
) -> None:
    """It asks for nothing, so that of a task its admission is explained, and with --hook what was asked there."""
    await desk.executor()
    task_id = await desk.task(paths=["deploy/a.yaml"])
    assert "dispatch.allowed" in await desk.events(task_id)
    code, text = await command("--task", task_id)
    assert (0, True) == (code, "task.received: allowed, with a plan first, by rule deploys" in text), text
    code, text = await command("--task", task_id, "--hook", "dispatch")
    assert (0, True) == (code, "dispatch: allowed, by no rule" in text), text
    assert "Decided again, it is as it was recorded." in text
    code, text = await command("--task", task_id, "--hook", "deadline")
    assert (1, True) == (code, "nothing was decided" in text)


async def decisions(desk: Desk, task_id: str) -> list[dict[str, Any]]:
    """List the decisions in a task's history, the newest first."""
    found = await desk.show("/api/decisions", params={"task": task_id})
    return list(found["items"])


async def test_every_decision_is_explained_by_its_id(desk: Desk, command: Command) -> None:
    """Each kind that is listed, a child's too, is as it was recorded, and the command and the address say the same."""
    await desk.executor()
    await desk.executor("hand", "helper")
    parent = await desk.task(assignee="coder")
    proposed = [item("one"), item("two", tools=["forbidden"]), item("three", depends_on=["two"])]
    held = await desk.ack(parent)
    body = {"reason": "Why", "tasks": proposed}
    assert 202 == (await desk.send(callback("task_request", parent, 1, 2, body), held)).status_code
    await desk.work()
    await desk.task(project="secret")
    await desk.task(labels=["frozen"])
    broken = await desk.task(assignee="hand")
    failed = {"class": "tool", "retryable": False, "message": "Out of memory."}
    await desk.submit("failure", broken, await desk.ack(broken, token("hand")), 1, 2, **failed)
    listed = (await desk.show("/api/decisions", params={"limit": 500}))["items"]
    seen = set()
    for decision in listed:
        found = await desk.show(f"/api/decisions/{decision['id']}/explanation")
        seen.add(found["type"])
        assert (True, []) == (found["as_recorded"], found["differences"]), found
        assert [decision[n] for n in ("id", "task_id", "at")] == [found[n] for n in ("id", "task_id", "at")]
        assert (decision["hook"], decision["facts"]) == (found["replay"]["hook"], found["replay"]["facts"])
        if found["by_policy"]:
            assert (decision["decision"], decision["rules"]) == (
                found["replay"]["decision"],
                found["replay"]["rules"],
            )
        code, text = await command(decision["id"].upper(), "--json")
        assert (0, found) == (code, json.loads(text))
    assert set(TYPES) == seen
    code, text = await command(listed[0]["id"])
    assert (0, True) == (code, "What would change it:" in text), text


async def test_an_explanation_says_where_a_decision_would_differ(
    desk: Desk, command: Command, governance: Governance
) -> None:
    """What its bundle would not decide again is named, and so is a bundle that is missing or cannot be read."""
    (decision,) = await decisions(desk, await desk.task())
    address = f"/api/decisions/{decision['id']}/explanation"
    for document, words in (
        ({**governance.document, "defaults": {"mode": "plan_first"}}, "the obligations were"),
        ({**governance.document, "rules": []}, "the document is not the one"),
    ):
        await desk.backend.registry.record_bundle("sha256:other", {"rules": []}, "ada")
        await desk.backend.registry.record_bundle(governance.policy.bundle, document, "ada")
        found = await desk.show(address)
        assert (False, True) == (found["as_recorded"], words in str(found["differences"])), found
    await desk.backend.registry.record_bundle("sha256:other", {"rules": []}, "ada")
    await desk.backend.registry.record_bundle(governance.policy.bundle, {"later": []}, "ada")
    problem = assert_problem(await desk.get(address), 404, "not_found")
    assert "unknown field 'later'" in problem["detail"]
    code, text = await command(decision["id"])
    assert (1, True) == (code, "unknown field 'later'" in text), text


async def test_what_is_no_decision_has_no_explanation(desk: Desk, command: Command) -> None:
    """An id that nobody knows, another event's, and what is no id are not found."""
    events = (await desk.show(f"/api/tasks/{await desk.task()}/events"))["items"]
    for name in ("0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11", "nonsense", events[0]["event_id"]):
        assert_problem(await desk.get(f"/api/decisions/{name}/explanation"), 404, "not_found")
    code, text = await command(events[0]["event_id"])
    assert (3, True) == (code, "GET /api/decisions lists them" in text), text


async def test_a_decision_without_its_bundle_is_not_explained(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """A policy that was never recorded leaves nothing to explain it by."""
    async with open_test_backend() as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        (decision,) = await decisions(found, await found.task())
        answer = await found.get(f"/api/decisions/{decision['id']}/explanation")
        assert "was ever in force" in assert_problem(answer, 404, "not_found")["detail"]


async def test_verdicts_on_children_are_explained(desk: Desk, command: Command) -> None:
    """By its ref a child that was accepted, or refused by policy or for another reason, and by its id the child."""
    await desk.executor()
    await desk.executor("hand", "helper")
    parent = await desk.task(assignee="coder")
    held = await desk.ack(parent)
    proposed = [item("one"), item("two", tools=["forbidden"]), item("three", depends_on=["two"])]
    answer = await desk.send(
        callback("task_request", parent, 1, 2, {"reason": "Why", "tasks": proposed}), held
    )
    assert 202 == answer.status_code, answer.text
    await desk.work()
    code, text = await command("--task", parent, "--child", "one")
    assert (0, True) == (code, "by rule children-are-reviewed" in text), text
    code, text = await command("--task", parent, "--child", "two")
    assert (0, True) == (code, "task.proposed: denied, by rule no-grand-children" in text), text
    code, text = await command("--task", parent, "--child", "three")
    assert (0, True) == (code, "It was not policy that refused" in text), text
    (child,) = (await desk.show(f"/api/tasks/{parent}"))["children"][:1]
    code, text = await command("--task", child["id"])
    assert (0, True) == (code, "as it was recorded" in text), text
    code, text = await command("--task", parent, "--child", "four")
    assert (1, True) == (code, "nothing was decided" in text)


async def test_a_replay_that_differs_says_in_what(
    desk: Desk, command: Command, governance: Governance
) -> None:
    """A verdict that its bundle would not reach is named with both sides, and the exit code is 1."""
    task_id = await desk.task()
    document = {**governance.document, "defaults": {"mode": "plan_first"}}
    await desk.backend.registry.record_bundle("sha256:other", {"rules": []}, "ada")
    await desk.backend.registry.record_bundle(governance.policy.bundle, document, "ada")
    code, text = await command("--task", task_id)
    assert 1 == code
    assert "it DIFFERS" in text
    assert "the document is not the one that the bundle's digest names" in text
    assert "the obligations were" in text


async def test_what_the_server_does_not_know_is_refused(desk: Desk, command: Command) -> None:
    """An unknown task is the server's refusal, exit code 3."""
    code, text = await command("--task", "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11")
    assert (3, True) == (code, "unknown_task" in text)

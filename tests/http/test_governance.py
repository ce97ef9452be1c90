"""Policies over HTTP, and `policy explain --task`: a recorded verdict decided again under its own policy."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, callback, open_client
from tests.http.test_children import item

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

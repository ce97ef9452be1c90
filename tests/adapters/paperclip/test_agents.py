"""Agents of a real Paperclip that are paused, or wakened once more by people's comments, while they have work."""

import time
from typing import Any

import pytest
from tests.adapters.paperclip.paperclip_stage import HookAgent, Stage, until

from agentic_os_paperclip.board import Board

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def founder(stage: Stage) -> Board:
    """Introduce the company's owner, since not everybody may pause agents there."""
    with stage.client as client:
        document, repeat = {"name": "founder", "role": "operator"}, {"idempotency-key": "founder"}
        client.post("/api/tokens", json=document, headers=repeat).raise_for_status()
        link = {"control_plane": "paperclip", "account": stage.company.people.ids["founder"]}
        client.put("/api/principals/founder/accounts", json=link).raise_for_status()
    return stage.company.admin


def pause_of(stage: Stage) -> str:
    """Read what the backend says of the agent's pause; "" while it knows of none."""
    with stage.client as client:
        items = client.get("/api/executors").raise_for_status().json()["items"]
    (pause,) = [each["paused"] for each in items if each["name"] == "coder"]
    return pause["says"] if pause else ""


def waits(stage: Stage, task_id: str, what: str) -> None:
    """Wait until a task waits for this, and its issue says so."""
    until(lambda: what in (stage.show(task_id)["waiting_for"] or {"what": ""})["what"], f"it waits: {what}")
    key = stage.show(task_id)["issue"]["key"]
    until(lambda: what in stage.issue(key)["description"], f"the issue says: {what}")


def finish(stage: Stage, key: str, task_id: str) -> None:
    """Decide on the plan, and see the work done."""
    stage.accept(key, stage.card(key)["id"])
    stage.phase(task_id, "completed")


def attempts(stage: Stage, task_id: str) -> list[int]:
    return [e["data"]["attempt"] for e in stage.events(task_id) if e["type"] == "attempt.offered"]


def test_a_paused_agent_gets_no_work_until_it_is_resumed(stage: Stage):
    """Its task waits and says who paused it, nobody is woken, and once it is resumed each attempt is woken for once."""
    owner = founder(stage)
    owner.ask("POST", f"/agents/{stage.agent}/pause", {})
    until(lambda: pause_of(stage) == "coder is paused on paperclip by founder", "the pause is heard")
    key = stage.open_issue()
    task_id = stage.adopted(key)
    waits(stage, task_id, "coder is paused on paperclip by founder")
    stage.company.wait_until_quiet()
    assert [] == stage.company.runs()
    assert [] == attempts(stage, task_id)
    owner.ask("POST", f"/agents/{stage.agent}/resume", {})
    finish(stage, key, task_id)
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)
    assert [1, 2] == attempts(stage, task_id)


def test_a_budget_that_is_used_up_pauses_its_agent(stage: Stage):
    """A hard stop keeps work from the agent, in nobody's name and though it is resumed, until the budget is raised."""
    owner, company = founder(stage), stage.company.id
    budget = {"scopeType": "agent", "scopeId": stage.agent, "amount": 100}
    owner.ask("POST", f"/companies/{company}/budgets/policies", budget)
    spent: dict[str, Any] = {
        "agentId": stage.agent,
        "provider": "test",
        "model": "test",
        "costCents": 150,
        "occurredAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    owner.ask("POST", f"/companies/{company}/cost-events", spent)
    until(lambda: pause_of(stage) == "coder is paused on paperclip (budget)", "the stop is heard")
    key = stage.open_issue()
    task_id = stage.adopted(key)
    waits(stage, task_id, "coder is paused on paperclip (budget)")
    owner.ask("POST", f"/agents/{stage.agent}/resume", {})
    stage.company.wait_until_quiet()
    assert "coder is paused on paperclip (budget)" == pause_of(stage)
    assert [] == attempts(stage, task_id)
    owner.ask("POST", f"/companies/{company}/budgets/policies", budget | {"amount": 1000})
    finish(stage, key, task_id)
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)


def test_a_pause_in_the_middle_of_a_run_ends_its_attempt(stage: Stage):
    """Paperclip ends the run, so the attempt ends soon; the next is offered, and woken for once, after the pause."""
    owner = founder(stage)
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    owner.ask("POST", f"/agents/{stage.agent}/pause", {})
    waits(stage, task_id, "coder is paused on paperclip by founder")
    assert [1] == attempts(stage, task_id)
    stage.go_on()
    owner.ask("POST", f"/agents/{stage.agent}/resume", {})
    finish(stage, key, task_id)
    assert [1, 2, 3] == attempts(stage, task_id)
    # Whether the pause left a failed run behind, of which Paperclip must be told first, is up to which ended sooner.
    first, second, third = [reason for reason, _ in stage.runs(key)]
    assert second in {"issue_assigned", "issue_recovery_action_restored"}
    assert {"issue_assigned"} == {first, third}


def comment(stage: Stage, key: str, task_id: str, *bodies: str) -> None:
    """Let bob write on the issue, one thing after the other, each once the one before was heard."""
    for number, body in enumerate(bodies, 1):
        stage.company.board("bob").ask("POST", f"/issues/{key}/comments", {"body": body})
        heard = f"remark {number} is heard"
        until(lambda n=number: [e["type"] for e in stage.events(task_id)].count("note.taken") == n, heard)  # type: ignore[misc]


def acked(stage: Stage, task_id: str) -> list[int]:
    return [e["data"]["attempt"] for e in stage.events(task_id) if e["type"] == "attempt.acked"]


def test_comments_at_work_take_nothing_from_an_agent(stage: Stage):
    """Paperclip runs a commented agent once more, after its run: it finds nothing to do, and each attempt is one."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    comment(stage, key, task_id, "/note Look at the log.", "/note And at the rest.")
    assert [("issue_assigned", "running")] == stage.runs(key)
    stage.go_on()
    finish(stage, key, task_id)
    stage.company.wait_until_quiet()
    assert [1, 2] == acked(stage, task_id)
    assigned = [each for each in stage.runs(key) if each != ("issue_commented", "succeeded")]
    assert [("issue_assigned", "succeeded")] * 2 == assigned


def test_comments_at_work_take_nothing_from_an_agent_behind_a_hook(stage: Stage):
    """Its hook is called once more for each comment, and says so: whoever leaves that alone keeps its attempt."""
    agent = HookAgent(stage, "hook", spends={"heartbeat": {"input_tokens": 1}})
    document = {"title": "Count", "goal": "All.", "assignee": "hook", "labels": ["direct"]}
    with stage.client as client:
        answer = client.post("/api/tasks", json=document, headers={"idempotency-key": "count"})
        task_id = answer.raise_for_status().json()["id"]
    stage.at_work(task_id)
    key = stage.show(task_id)["issue"]["key"]
    comment(stage, key, task_id, "/note Look at the log.")
    until(lambda: ("issue_commented", "succeeded") in stage.runs(key), "its hook was called once more")
    agent.go_on.set()
    until(lambda: "usage.booked" in [e["type"] for e in stage.events(task_id)], "it is still at work")
    agent.close()
    assert ([], [1], 1) == (agent.problems, acked(stage, task_id), len(agent.woken))

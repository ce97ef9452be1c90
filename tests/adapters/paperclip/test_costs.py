"""What agents spend, on a real Paperclip: told once, by issue and by agent, and its budgets act on it."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.adapters.paperclip.paperclip_stage import HookAgent, Stage, until

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def usage(cents: float, given: int, taken: int) -> Mapping[str, Any]:
    """Say what a callback says was spent."""
    return {
        "cost_microusd": int(cents * 10_000),
        "input_tokens": given,
        "output_tokens": taken,
        "model": "anthropic/claude-test",
    }


def by_agent(stage: Stage, agent: str) -> tuple[int, int, int]:
    """Read from Paperclip what an agent spent: cents, tokens of input and output."""
    rows = stage.company.admin.ask("GET", f"/companies/{stage.company.id}/costs/by-agent")
    row = next((each for each in rows if each["agentId"] == agent), {})
    return (row.get("costCents", 0), row.get("inputTokens", 0), row.get("outputTokens", 0))


def on_issue(stage: Stage, key: str) -> tuple[int, int, int]:
    """Read from Paperclip what was spent on an issue."""
    found = stage.company.admin.ask("GET", f"/issues/{key}/cost-summary")
    return (found["costCents"], found["inputTokens"], found["outputTokens"])


def task_for(stage: Stage, agent: HookAgent) -> tuple[str, str]:
    """Ask for a task that the agent is to have; return its id and its issue's."""
    document = {"title": "Count", "goal": "All.", "project": "default", "assignee": agent.name}
    with stage.client as client:
        headers = {"idempotency-key": agent.name}
        task_id = client.post("/api/tasks", json=document, headers=headers).raise_for_status().json()["id"]
    return task_id, until(lambda: stage.show(task_id)["issue"], "the task has an issue")["key"]


def test_paperclip_shows_what_an_agent_spent(stage: Stage):
    """Two attempts, and a restart of the backend between them, are on the issue and on the agent exactly once."""
    agent = HookAgent(stage, "payer", spends={"plan": usage(12.5, 1000, 50), "result": usage(7.75, 500, 25)})
    task_id, key = task_for(stage, agent)
    card = stage.card(key)
    until(lambda: on_issue(stage, key) == (12, 1000, 50), "the plan's cost is on the issue")
    assert (12, 1000, 50) == by_agent(stage, agent.account)
    assert stage.stack is not None
    stage.stack.process.kill()
    stage.stack.process.wait()
    with stage.running():
        stage.accept(key, card["id"])
        stage.phase(task_id, "completed")
        until(lambda: on_issue(stage, key) == (20, 1500, 75), "the result's cost is on the issue, too")
        with stage.client as client:
            again = {"idempotency-key": "again"}
            client.post(f"/api/reconcile/{task_id}", json={}, headers=again).raise_for_status()
            until(lambda: client.get("/api/reconcile").json()["items"] == [], "all is looked at again")
        assert (20, 1500, 75) == on_issue(stage, key) == by_agent(stage, agent.account)
        rows = stage.company.admin.ask("GET", f"/companies/{stage.company.id}/costs/by-agent-model")
        named = [(row["provider"], row["model"], row["biller"]) for row in rows]
        assert [("anthropic", "claude-test", "agentic-os")] == named
    agent.close()
    assert [] == agent.problems


def test_a_budget_of_paperclip_stops_an_agent_in_the_middle_of_its_attempt(stage: Stage):
    """What a sign of life says was spent is told at once: Paperclip pauses the agent while it still works."""
    agent = HookAgent(stage, "spender", spends={"heartbeat": usage(30, 10, 1)})
    limit = {"budgetMonthlyCents": 25}
    stage.company.admin.ask("PATCH", f"/agents/{agent.account}/budgets", limit)
    task_id, key = task_for(stage, agent)
    stage.at_work(task_id)
    stage.company.wait_until_quiet()  # Paperclip forgets a pause that comes in the moment in which a run ends
    agent.go_on.set()
    until(lambda: on_issue(stage, key) == (30, 10, 1), "the cost is on the issue")

    def stopped() -> bool:
        seen = stage.company.admin.ask("GET", f"/agents/{agent.account}")
        return (seen["status"], seen["pauseReason"]) == ("paused", "budget")

    until(stopped, "the budget stops the agent")
    assert [] == agent.problems
    agent.close()

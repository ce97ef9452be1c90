"""The main job on a real Paperclip with real processes: an issue, a plan, somebody else's decision, and a result."""

import httpx
import pytest
from tests.adapters.paperclip.paperclip_stage import GOAL, HookAgent, Stage, until
from tests.stack_process import run

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def test_an_issue_is_planned_accepted_done_and_audited(stage: Stage):
    """From an issue to the artifact on it, each attempt is woken for once, and Paperclip finds nothing to recover."""
    key = stage.open_issue()
    task_id = stage.adopted(key)
    card = stage.card(key)
    assert "plan_review" == stage.phase(task_id, "plan_review")["phase"]
    plan = stage.company.admin.ask("GET", f"/issues/{key}/documents/plan")
    assert "Count the beans." in plan["body"]
    assert (plan["latestRevisionId"], "human_only") == (
        card["payload"]["target"]["revisionId"],
        card["effectiveResolverPolicy"],
    )
    until(lambda: stage.issue(key)["assigneeAgentId"] is None, "nobody is assigned while people decide")
    assert "in_review" == stage.issue(key)["status"]
    stage.accept(key, card["id"])
    task = stage.phase(task_id, "completed")
    until(lambda: stage.issue(key)["status"] == "done", "the issue is done")

    votes = [(event["actor"], event["type"]) for event in stage.events(task_id) if "voted" in event["type"]]
    assert [("bob", "plan.voted")] == votes
    note = until(
        lambda: next(
            (
                c["body"]
                for c in stage.company.admin.ask("GET", f"/issues/{key}/comments")
                if "completed" in c["body"]
            ),
            None,
        ),
        "the end is told",
    )
    documents = {d["key"]: d for d in stage.company.admin.ask("GET", f"/issues/{key}/documents")}
    assert {"plan", "result", "artifact-count-txt"} == documents.keys()
    assert plan["latestRevisionId"] == documents["plan"]["latestRevisionId"]
    assert "There are 42 beans." in documents["artifact-count-txt"]["body"]
    assert "/api/artifacts/" in documents["result"]["body"]
    description = stage.issue(key)["description"]
    assert "**completed**" in description.partition("status end")[0]
    assert GOAL in description
    assert GOAL == stage.show(task_id)["goal"]
    digest = f"/api/artifacts/{note.partition('/api/artifacts/')[2].partition(')')[0]}"
    with stage.client as client:
        assert "There are 42 beans.\n" == client.get(digest).raise_for_status().text
    assert 2 == task["attempt"]["number"]
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)
    assert [] == [each for each in stage.actions(key) if "recovery" in each or "handoff" in each]
    assert {"active": None, "actions": []} == stage.company.admin.ask(
        "GET", f"/issues/{key}/recovery-actions"
    )
    assert run("audit", "verify", "--home", stage.home).stdout.startswith("ok")


def test_a_hook_agent_works_after_its_run_has_ended(stage: Stage):
    """An agent whose run ends with the answer of its hook plans and does the work, woken once for each attempt."""
    agent = HookAgent(stage, "hook")
    document = {"title": "Count", "goal": "All.", "project": "default", "assignee": "hook"}
    with stage.client as client:
        headers = {"idempotency-key": "hook"}
        task_id = client.post("/api/tasks", json=document, headers=headers).raise_for_status().json()["id"]
    task = stage.phase(task_id, "plan_review")
    key = until(lambda: stage.show(task_id)["issue"], "the task has an issue")["key"]
    stage.accept(key, stage.card(key)["id"])
    task = stage.phase(task_id, "completed")
    until(lambda: stage.issue(key)["status"] == "done", "the issue is done")
    stage.company.wait_until_quiet()
    agent.close()
    assert [] == agent.problems
    assert [(task_id, 1), (task_id, 2)] == [(woken, attempt) for woken, attempt, _ in agent.woken]
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)
    assert 2 == task["attempt"]["number"]


def test_an_agent_cannot_accept_its_own_plan(stage: Stage):
    """The card refuses the agent, its comment is refused by policy, and the task waits on for a person."""
    key = stage.open_issue()
    task_id, card = stage.adopted(key), stage.card(key)
    company = stage.company
    agent_key = company.admin.ask("POST", f"/agents/{stage.agent}/keys", {"name": "own"})["token"]
    run_id = company.admin.ask("GET", f"/issues/{key}/runs")[0]["runId"]
    headers = {"authorization": f"Bearer {agent_key}", "x-paperclip-run-id": run_id}
    url = f"{company.server.url}/api/issues/{key}"
    own = httpx.post(f"{url}/interactions/{card['id']}/accept", json={}, headers=headers, trust_env=False)
    assert own.json()["code"] in {"interaction_human_only", "interaction_run_attribution_required"}
    line = stage.show(task_id)["plan"]
    text = f"/approve v{line['version']}@{line['digest'].removeprefix('sha256:')[:8]}"
    commented = httpx.post(f"{url}/comments", json={"body": text}, headers=headers, trust_env=False)
    assert commented.is_success, commented.text
    until(lambda: any("refused" in n for n in _notes(stage, key)), "the refusal is told")
    assert "plan_review" == stage.show(task_id)["phase"]


def _notes(stage: Stage, key: str) -> list[str]:
    comments = stage.company.admin.ask("GET", f"/issues/{key}/comments")
    documents = stage.company.admin.ask("GET", f"/issues/{key}/documents")
    return [each["body"] for each in (*comments, *documents)]

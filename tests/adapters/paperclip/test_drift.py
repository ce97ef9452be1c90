"""What people and agents change on a real Paperclip beside the backend: adopted, or put back, and on record."""

from typing import Any

import httpx
import pytest
from tests.adapters.paperclip.paperclip_stage import HookAgent, Stage, until

from agentic_os.control_plane import RunSeen
from agentic_os.control_plane.conformance.harness import read_feed
from agentic_os_paperclip import PLUGIN

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def as_the_agent(
    stage: Stage, key: str, document: dict[str, Any], *, method: str = "PATCH", path: str = ""
) -> None:
    """Change the issue, or what hangs on it, by the key of the agent, within its run."""
    admin = stage.company.admin
    own = admin.ask("POST", f"/agents/{stage.agent}/keys", {"name": "own"})["token"]
    run = admin.ask("GET", f"/issues/{key}/runs")[0]
    headers = {"authorization": f"Bearer {own}", "x-paperclip-run-id": run.get("runId") or run["id"]}
    url = f"{stage.company.server.url}/api/issues/{key}{path}"
    answer = httpx.request(method, url, json=document, headers=headers, trust_env=False)
    assert answer.is_success, answer.text


def drifts(stage: Stage, task_id: str) -> list[tuple[str, str]]:
    return [
        (event["actor"], event["data"]["field"])
        for event in stage.events(task_id)
        if event["type"] == "field.drifted"
    ]


def test_an_agent_that_closes_its_issue_is_put_right(stage: Stage):
    """An issue that its agent set to done must be open again, with the agent on record, and the work goes on."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    as_the_agent(stage, key, {"status": "done"})
    until(lambda: ("coder", "closed") in drifts(stage, task_id), "it is on record who closed the issue")
    until(lambda: stage.issue(key)["status"] == "in_progress", "the issue is open again")
    stage.go_on()
    stage.accept(key, stage.card(key)["id"])
    stage.phase(task_id, "completed")
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)


def test_a_person_s_assignment_is_a_reassignment(stage: Stage):
    """An operator who gives the issue to another agent must have it reassigned: the next attempt is that agent's."""
    agent = HookAgent(stage, "hook")
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    stage.company.board("ada").ask("PATCH", f"/issues/{key}", {"assigneeAgentId": agent.account})
    until(
        lambda: (task_id, 2) in [(task, n) for task, n, _ in agent.woken],
        "the other agent has the next attempt",
    )
    stage.phase(task_id, "plan_review")
    agent.close()
    attempt = next(e for e in reversed(stage.events(task_id)) if e["type"] == "attempt.offered")
    assert ("hook", 2) == (attempt["data"]["executor"], attempt["data"]["attempt"])


def test_a_cancelled_task_ends_its_run(stage: Stage):
    """An operator's /cancel must end the agent at work, close the issue, and wake nobody."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    stage.company.board("ada").ask("POST", f"/issues/{key}/comments", {"body": "/cancel not needed"})
    stage.phase(task_id, "cancelled")
    until(lambda: not stage.agents(), "the agent is ended")
    until(lambda: stage.issue(key)["assigneeAgentId"] is None, "nobody is assigned")
    assert "cancelled" == stage.issue(key)["status"]
    stage.company.wait_until_quiet()
    assert [("issue_assigned", "cancelled")] == stage.runs(key)


async def test_a_run_is_seen_alive_and_ended(stage: Stage):
    """The run of a process agent must be seen for the attempt that it was woken for, also when it is read later."""
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.accept(key, stage.card(key)["id"])
    stage.phase(task_id, "completed")
    stage.company.wait_until_quiet()
    plane = PLUGIN.open(stage.plane_settings())
    found, _ = await read_feed(plane)
    await plane.aclose()
    seen = [(one.attempt, one.state) for one in found if isinstance(one, RunSeen) and one.task_id == task_id]
    assert [(1, "alive"), (1, "ended"), (2, "alive"), (2, "ended")] == seen

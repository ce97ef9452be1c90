"""Whatever is killed in the middle of the main job, it comes to the same end, and each attempt is woken for once."""

import os
import signal

import pytest
from tests.adapters.paperclip.paperclip_stage import Stage, until

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(900)]


def finish(stage: Stage, key: str, task_id: str) -> None:
    """Decide on the plan, and see the work done."""
    stage.accept(key, stage.card(key)["id"])
    stage.phase(task_id, "completed")


def attempts(stage: Stage, task_id: str) -> list[int]:
    return [e["data"]["attempt"] for e in stage.events(task_id) if e["type"] == "attempt.offered"]


def test_a_killed_paperclip_comes_to_the_same_end(stage: Stage):
    """Paperclip wakes nobody any more on an issue whose run it was killed in: another takes its place by itself."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    stage.company.server.kill()
    for pid in stage.agents():
        os.kill(pid, signal.SIGKILL)
    stage.company.server.start()
    stage.go_on()
    anew = until(lambda: stage.issue_of(task_id, other=key), "another issue takes the place")
    finish(stage, anew, task_id)
    until(lambda: stage.issue(anew)["status"] == "done", "the other issue is done")
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(anew)
    assert [1, 2, 3] == attempts(stage, task_id)
    old = stage.issue(key)
    assert ("cancelled", None) == (old["status"], old["assigneeAgentId"])
    told = [each["body"] for each in stage.company.admin.ask("GET", f"/issues/{key}/comments")]
    assert 1 == sum(f"goes on at {stage.issue(anew)['identifier']}" in each for each in told)
    (lost,) = [e for e in stage.events(task_id) if e["type"] == "field.drifted"]
    assert ("paperclip", "issue", key) == tuple(lost["data"][name] for name in ("author", "field", "value"))


def test_a_restarted_paperclip_wakes_for_the_next_attempt(stage: Stage):
    """A server that was stopped in the middle of a run wakes once for the attempt after our lease."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    stage.company.server.stop()
    stage.go_on()
    stage.company.server.start()
    finish(stage, key, task_id)
    woken = ["issue_assigned", "issue_recovery_action_restored", "issue_assigned"]
    assert woken == [reason for reason, _ in stage.runs(key)]
    assert [1, 2, 3] == attempts(stage, task_id)


def test_a_killed_backend_goes_on(stage: Stage):
    """The backend is killed while the agent works, and started anew: nothing is lost and nobody is woken twice."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.at_work(task_id)
    assert stage.stack is not None
    stage.stack.process.kill()
    stage.stack.process.wait()
    with stage.running():
        stage.go_on()
        finish(stage, key, task_id)
        assert [1, 2] == attempts(stage, task_id)
        assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)


def test_a_killed_agent_is_woken_for_the_next_attempt(stage: Stage):
    """The agent is killed in its run: its lease ends soon, and the next attempt is woken for once."""
    stage.hold()
    key = stage.open_issue()
    task_id = stage.adopted(key)
    assert 1 == stage.at_work(task_id)
    for pid in stage.agents():
        os.kill(pid, signal.SIGKILL)
    stage.go_on()
    finish(stage, key, task_id)
    woken = ["issue_assigned", "issue_recovery_action_restored", "issue_assigned"]
    assert woken == [reason for reason, _ in stage.runs(key)]
    assert [1, 2, 3] == attempts(stage, task_id)


def test_what_people_do_while_everybody_is_away_is_heard(stage: Stage):
    """Paperclip and the backend are both killed around a decision and a comment: each counts, and counts once."""
    key = stage.open_issue()
    task_id, card = stage.adopted(key), stage.card(key)
    until(lambda: stage.issue(key)["assigneeAgentId"] is None, "nobody is assigned")
    assert stage.stack is not None
    stage.stack.process.kill()
    stage.stack.process.wait()
    stage.company.board("ada").ask("POST", f"/issues/{key}/comments", {"body": "/priority high"})
    stage.accept(key, card["id"])
    stage.company.board("ada").ask("POST", f"/issues/{key}/comments", {"body": "/note Twice."})
    stage.company.server.kill()
    with stage.running():
        stage.company.server.start()
        stage.phase(task_id, "completed")
        events = stage.events(task_id)
        assert [("bob", "approve")] == [
            (e["actor"], e["data"]["vote"]) for e in events if e["type"] == "plan.voted"
        ]
        assert "high" == stage.show(task_id)["priority"]
        until(lambda: stage.issue(key)["status"] == "done", "the issue is done")
        status = stage.issue(key)["description"].partition("status end")[0]
        lines = [line for line in status.splitlines() if line.startswith("| `/")]
        assert ["note", "approve", "priority"] == [line.split("/")[1].split()[0].strip("`") for line in lines]
        assert all(line.endswith("| done |") for line in lines), lines
        assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)

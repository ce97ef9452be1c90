"""One task in several hands: planned by one client, tried by it, executed by another."""

import pytest
from tests.agents.clients import git
from tests.agents.model import Act, Turn
from tests.agents.product import Connect, Product
from tests.agents.scripted import Brief, after, diligent

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]


def test_what_one_client_planned_another_executes(product: Product, connected: Connect) -> None:
    """The planner fails at the work, a person gives it to another client, which does exactly the approved plan."""
    connected("claude-code", "planner")
    workspace = connected("codex", "doer")
    giving_up = after()

    def script(turn: Turn) -> Act:
        executing = turn.results and "plan" != Brief.read(turn.results[0]).step
        return giving_up(turn) if executing and ".claude/skills" in turn.prompt else diligent(turn)

    product.model.script = script
    task = product.ask("Count the beans", "planner", mode="plan_first")
    planned = product.until(task, "plan_review")
    product.approve(task)
    failed = product.until_event(task, "attempt.failed")
    assert "reported nothing" in failed["message"]
    product.comment(task, "/reassign @doer")
    done = product.until(task, "completed")

    acks = {ack["attempt"]: ack["runtime"]["name"] for ack in product.of_type(task, "attempt.acked")}
    assert {1: "claude-code", 2: "claude-code", 3: "codex"} == acks
    (result,) = product.of_type(task, "result.submitted")
    assert f"41 beans, by plan v1 {planned['plan']['digest']}" == result["result"]["summary"]
    assert 1 == len(product.of_type(task, "plan.approved"))
    assert f"work-{task}-3.txt" in git(workspace, "ls-tree", "--name-only", f"agentic-os/{task}/3")
    assert "doer" == done["attempt"]["executor"]

"""The main job with each real client: connected, woken by the board, planned, decided by a person, done."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.agents.clients import Client, git
from tests.agents.product import Connect, Product
from tests.agents.scripted import diligent

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]


def test_a_plan_is_approved_by_a_person_and_the_result_is_on_a_branch(
    product: Product, client: Client, connected: Connect
) -> None:
    """The client plans, stops, is woken by the approval, does that plan, and leaves the person's checkout alone."""
    workspace = connected(client.name, client.name)
    product.model.script = diligent
    task = product.ask("Count the beans", client.name, mode="plan_first")
    planned = product.until(task, "plan_review")
    assert 1 == planned["plan"]["version"]
    product.approve(task)
    done = product.until(task, "completed")

    (result,) = product.of_type(task, "result.submitted")
    assert f"41 beans, by plan v1 {planned['plan']['digest']}" == result["result"]["summary"]
    branch = f"agentic-os/{task}/{done['attempt']['number']}"
    assert [branch] == [reference["uri"] for reference in result["result"]["references"]]
    assert planned["plan"]["digest"] in git(workspace, "show", f"{branch}:work-{task}-2.txt")
    assert "" == git(workspace, "status", "--short")
    assert ["main"] == git(workspace, "branch", "--show-current").split()
    assert [workspace] == [
        Path(found) for found in re.findall(r"^worktree (.+)$", worktrees(workspace), re.MULTILINE)
    ]
    for ack in product.of_type(task, "attempt.acked"):
        assert client.name == ack["runtime"]["name"]
        assert ack["runtime"]["version"]


def test_direct_work_needs_nobody(product: Product, connected: Connect) -> None:
    """A task in direct mode is done by one attempt, from the assignment to its completion."""
    connected("claude-code", "direct")
    product.model.script = diligent
    task = product.ask("Count the beans", "direct")
    done = product.until(task, "completed")
    assert 1 == done["attempt"]["number"]


def test_each_wish_of_a_person_is_answered_by_the_next_plan(product: Product, connected: Connect) -> None:
    """A revision with two wishes comes back as a plan that answers both by their ids, and is what gets approved."""
    connected("codex", "revised")
    product.model.script = diligent
    task = product.ask("Count the beans", "revised", mode="plan_first")
    product.until(task, "plan_review")
    product.comment(task, "/revise v1\n- Count them twice\n- Say who counted")
    second = product.until_event(task, "plan.submitted", 2)
    steps = [step["title"] for step in second["plan"]["steps"]]
    assert ["Count the beans", "Also: Count them twice", "Also: Say who counted"] == steps
    product.until(task, "plan_review")
    product.approve(task)
    assert 2 == product.until(task, "completed")["plan"]["version"]


def worktrees(workspace: Path) -> Any:
    """List the worktrees of a repository."""
    return git(workspace, "worktree", "list", "--porcelain")

"""The main job with each real client: connected, woken by the board, planned, decided by a person, done."""

import time
from pathlib import Path

import pytest
from tests.agents.clients import Client, git, repository
from tests.agents.product import PATIENCE, Connect, Product
from tests.agents.scripted import diligent

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]


def test_a_plan_is_approved_by_a_person_and_the_result_is_on_a_branch(
    product: Product, client: Client
) -> None:
    """The client plans, stops, is woken by the approval, does that plan, and leaves the person's checkout alone."""
    workspace = repository(product.place / "workspaces" / client.name)
    said = product.connect(client.name, workspace, client.name)
    assert said["test"]["passed"], said
    assert [] == product.asked(said["test"]["task"])  # it was woken, and began, without a model
    product.model.script = diligent
    task = product.ask("Count the beans", client.name, mode="plan_first")
    planned = product.until(task, "plan_review")
    assert 1 == planned["plan"]["version"]
    product.approve(task)
    done = product.until(task, "completed")

    assert 2 == done["attempt"]["number"], product.story(task)
    (result,) = product.of_type(task, "result.submitted")
    assert f"41 beans, by plan v1 {planned['plan']['digest']}" == result["result"]["summary"]
    branch = f"agentic-os/{task}/{done['attempt']['number']}"
    named = {reference["kind"]: reference for reference in result["result"]["references"]}
    assert (branch, git(workspace, "rev-parse", branch).strip()) == (
        named["branch"]["name"],
        named["commit"]["revision"],
    )
    assert planned["plan"]["digest"] in git(workspace, "show", f"{branch}:work-{task}-2.txt")
    assert "" == git(workspace, "status", "--short")
    assert ["main"] == git(workspace, "branch", "--show-current").split()
    until_left(workspace)
    for ack in product.of_type(task, "attempt.acked"):
        assert client.name == ack["runtime"]["name"]
        assert ack["runtime"]["version"]


def test_direct_work_needs_nobody(product: Product, connected: Connect, client: Client) -> None:
    """A task in direct mode is done by one attempt of each client, from the assignment to its completion."""
    name = f"direct-{client.name}"
    connected(client.name, name)
    product.model.script = diligent
    task = product.ask("Count the beans", name)
    done = product.until(task, "completed")
    assert 1 == done["attempt"]["number"], product.story(task)


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


@pytest.mark.parametrize("name", ["claude-code", "codex", "opencode"])
def test_a_session_is_taken_up_again_in_the_next_attempt(
    product: Product, connected: Connect, name: str
) -> None:
    """After the approval the client goes on in the session of its plan, and what it said then is before its model."""
    workspace = connected(name, f"resumed-{name}", "--sessions", "resume")
    product.model.script = diligent
    task = product.ask("Count the beans", f"resumed-{name}", mode="plan_first")
    product.until(task, "plan_review")
    until_left(workspace)  # some clients know their sessions by the folder, which is then made anew
    planning = len(product.asked(task))
    product.approve(task)
    product.until(task, "completed")
    again = product.asked(task)[planning]
    assert () == again.turn.results
    assert f"Count the beans of task {task}." in again.text


def until_left(workspace: Path) -> None:
    """Wait until the repository has no worktree but the person's checkout: the runs have ended, and left nothing."""
    give_up = time.monotonic() + PATIENCE
    while 1 != git(workspace, "worktree", "list", "--porcelain").count("worktree "):
        assert time.monotonic() < give_up, git(workspace, "worktree", "list")
        time.sleep(0.05)

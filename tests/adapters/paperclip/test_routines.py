"""Issues of a real Paperclip that become tasks another way than by the label that they were opened with."""

from typing import Any

import pytest
from tests.adapters.paperclip.paperclip_stage import ROUTINES, Stage, until

from agentic_os_paperclip.board import LISTENER

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def test_a_routine_s_issue_is_adopted_once(stage: Stage):
    """Each run of a routine opens an issue in the adopted project: a task of its author, planned, accepted and done."""
    ada, company = stage.company.board("ada"), stage.company.id
    projects = {p["name"]: p["id"] for p in ada.ask("GET", f"/companies/{company}/projects")}
    listener = next(a["id"] for a in ada.ask("GET", f"/companies/{company}/agents") if a["name"] == LISTENER)
    routine = ada.ask(
        "POST",
        f"/companies/{company}/routines",
        {
            "title": "Count the beans each night",
            "description": "All of them.",
            "projectId": projects[ROUTINES],
            "assigneeAgentId": listener,
            "concurrencyPolicy": "always_enqueue",
        },
    )
    seen: list[str] = []
    for number in range(2):
        run = {"source": "api", "idempotencyKey": f"night-{number}"}
        ada.ask("POST", f"/routines/{routine['id']}/run", run)

        def another() -> dict[str, Any] | None:
            with stage.client as client:
                found = client.get("/api/tasks").raise_for_status().json()["items"]
            return next((task for task in found if task["id"] not in seen and task["issue"]), None)

        task = until(another, "the issue is a task")
        seen.append(task["id"])
        assert ("Count the beans each night", "ada") == (task["title"], task["requester"])
        key = task["issue"]["key"]
        stage.accept(key, stage.card(key)["id"])
        stage.phase(task["id"], "completed")
        stage.company.wait_until_quiet()
        assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)
    with stage.client as client:
        assert 2 == len(client.get("/api/tasks").raise_for_status().json()["items"])


@pytest.mark.parametrize("how", ["labelled", "moved"])
def test_an_issue_is_adopted_when_it_is_marked_later(stage: Stage, how: str):
    """An issue that is labelled for us, or moved into an adopted project, is a task of the person who did that."""
    ada, bob, company = stage.company.board("ada"), stage.company.board("bob"), stage.company.id
    projects = {p["name"]: p["id"] for p in ada.ask("GET", f"/companies/{company}/projects")}
    labels = {each["name"]: each["id"] for each in ada.ask("GET", f"/companies/{company}/labels")}
    opened = {"title": "Count the beans", "description": "All of them."}
    key = bob.ask("POST", f"/companies/{company}/issues", opened)["id"]
    marks = {"labelled": {"labelIds": [labels["agentic-os"]]}, "moved": {"projectId": projects[ROUTINES]}}
    ada.ask("PATCH", f"/issues/{key}", marks[how])

    task = stage.show(stage.adopted(key))
    assert ("Count the beans", "ada") == (task["title"], task["requester"])
    assert (ROUTINES if how == "moved" else "default") == task["project"]
    stage.accept(key, stage.card(key)["id"])
    stage.phase(task["id"], "completed")
    stage.company.wait_until_quiet()
    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)

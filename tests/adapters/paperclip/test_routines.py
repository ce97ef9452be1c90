"""Routines of a real Paperclip: each issue that one opens becomes a task, once, in the name of the routine's author."""

import pytest
from tests.adapters.paperclip.paperclip_stage import ROUTINES, Stage, until

from agentic_os_paperclip.board import LISTENER

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def test_a_routine_s_issue_is_adopted_once(stage: Stage):
    """Two runs of a routine open two issues in the adopted project: two tasks of its author, each planned and done."""
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
    for number in range(2):
        ada.ask(
            "POST", f"/routines/{routine['id']}/run", {"source": "api", "idempotencyKey": f"night-{number}"}
        )

    def tasks() -> list[dict[str, str]] | None:
        with stage.client as client:
            found = client.get("/api/tasks").raise_for_status().json()["items"]
        return found if len(found) == 2 else None

    adopted = until(tasks, "both issues are tasks")
    assert {("Count the beans each night", "ada")} == {(t["title"], t["requester"]) for t in adopted}
    for task in adopted:
        key = task["issue"]["key"]
        stage.accept(key, stage.card(key)["id"])
    for task in adopted:
        stage.phase(task["id"], "completed")
        assert [("issue_assigned", "succeeded")] * 2 == stage.runs(task["issue"]["key"])
    assert tasks()

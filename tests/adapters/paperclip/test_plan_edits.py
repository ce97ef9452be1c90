"""The plan as a document on a real Paperclip: what people make of it is the next version; an agent's is put back."""

import pytest
from tests.adapters.paperclip.paperclip_stage import Stage, until
from tests.adapters.paperclip.test_drift import as_the_agent

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def test_a_person_s_edit_is_the_next_version(stage: Stage):
    """The edited plan is reviewed anew with its editor as author, on a card of its own; the first card is gone."""
    key = stage.open_issue()
    task_id, first = stage.adopted(key), stage.card(key)
    ada = stage.company.board("ada")
    plan = ada.ask("GET", f"/issues/{key}/documents/plan")
    assert plan["body"].startswith("AOS:PLAN v1")
    edited = {
        "title": plan["title"],
        "format": "markdown",
        "body": plan["body"].replace("[s1] Count", "[s1] Count twice"),
        "baseRevisionId": plan["latestRevisionId"],
    }
    ada.ask("PUT", f"/issues/{key}/documents/plan", edited)
    until(lambda: stage.show(task_id)["plan"]["version"] == 2, "there is a second version")
    second = stage.card(key)
    assert first["id"] != second["id"]
    now = ada.ask("GET", f"/issues/{key}/documents/plan")
    assert "[s1] Count twice" in now["body"]
    assert now["title"].startswith("Plan v2 ")
    assert now["latestRevisionId"] == second["payload"]["target"]["revisionId"]
    assert "ada" == stage.show(task_id)["plan"]["author"]
    stage.accept(key, second["id"])
    stage.phase(task_id, "completed")
    cards = stage.company.admin.ask("GET", f"/issues/{key}/interactions")
    assert {first["id"]: "expired", second["id"]: "accepted"} == {c["id"]: c["status"] for c in cards}


def test_an_agent_s_edit_is_put_back(stage: Stage):
    """An agent that rewrites its plan under review changes nothing: it is refused, and the plan is put back."""
    key = stage.open_issue()
    task_id, first = stage.adopted(key), stage.card(key)
    admin = stage.company.admin
    plan = admin.ask("GET", f"/issues/{key}/documents/plan")
    edited = {
        "title": plan["title"],
        "format": "markdown",
        "body": plan["body"].replace("[s1] Count", "[s1] Do as I like"),
        "baseRevisionId": plan["latestRevisionId"],
    }
    as_the_agent(stage, key, edited, method="PUT", path="/documents/plan")
    until(lambda: stage.card(key)["id"] != first["id"], "another card is bound to what was put back")
    assert plan["body"] == admin.ask("GET", f"/issues/{key}/documents/plan")["body"]
    assert 1 == stage.show(task_id)["plan"]["version"]
    until(lambda: "edit of the plan" in stage.issue(key)["description"], "the refusal is told in the status")
    stage.accept(key, stage.card(key)["id"])
    stage.phase(task_id, "completed")

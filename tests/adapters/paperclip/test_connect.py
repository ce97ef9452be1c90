"""Connecting a company, and looking at what must be in order, on a real Paperclip."""

import json
import stat
from typing import Any

import pytest
from tests.adapters.paperclip.paperclip_stage import ROUTINES, Stage

from agentic_os_paperclip.board import LISTENER
from agentic_os_paperclip.chart import differences, organisation_of

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]


def diagnose(stage: Stage, *more: object) -> tuple[int, dict[str, dict[str, Any]]]:
    done = stage.command("doctor", "--into", stage.keys, "--json", *more)
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}


def test_a_connected_company_is_in_order_until_somebody_changes_it(stage: Stage):
    """The doctor must find nothing after connect, then name each thing that keeps work from going on, and its cure."""
    code, checks = diagnose(stage)
    assert (0, {"server", "feed", "stream", "agent coder"}) == (code, set(checks)), checks
    secrets = [path for path in stage.keys.iterdir() if path.suffix in {".key", ".login", ".credential"}]
    assert {"backend.key", "listener.key", "backend.login", "coder.credential"} == {
        path.name for path in secrets
    }
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in secrets}
    admin = stage.company.admin
    admin.ask("POST", f"/agents/{stage.agent}/pause", {})
    code, checks = diagnose(stage)
    assert 1 == code
    assert "paused" in checks["agent coder"]["detail"]
    assert "resume" in checks["agent coder"]["next"]
    admin.ask("POST", f"/agents/{stage.agent}/resume", {})
    timer = {"heartbeat": {"enabled": True, "intervalSec": 3600, "wakeOnDemand": True}}
    admin.ask("PATCH", f"/agents/{stage.agent}", {"runtimeConfig": timer})
    assert "a timer wakes it" in diagnose(stage)[1]["agent coder"]["detail"]
    company = stage.company.id
    routine = {"title": "Nightly", "assigneeAgentId": stage.agent}
    made = admin.ask("POST", f"/companies/{company}/routines", routine)["id"]
    early = diagnose(stage)[1]["routines"]
    assert "Nightly (coder)" in early["detail"]
    assert LISTENER in early["next"]
    listener = next(
        a["id"] for a in admin.ask("GET", f"/companies/{company}/agents") if a["name"] == LISTENER
    )
    admin.ask("PATCH", f"/routines/{made}", {"assigneeAgentId": listener})
    (stage.keys / "listener.key").write_text("pcp_" + "0" * 48)
    assert not diagnose(stage)[1]["stream"]["ok"]
    (stage.keys / "listener.key").unlink()
    stage.connect()
    assert 0 == diagnose(stage)[0]
    governance = stage.keys / "governance"
    governance.mkdir()
    (governance / "organisation.yaml").write_text("members: {coder: {reports_to: boss}, boss: {}}")
    code, checks = diagnose(stage, "--governance", governance)
    assert 1 == code
    assert "coder reports to nobody on Paperclip, to boss" in checks["chart"]["detail"]
    (governance / "organisation.yaml").write_text((stage.keys / "organisation.yaml").read_text())
    assert 0 == diagnose(stage, "--governance", governance)[0]
    backend = stage.company.admin.ask("GET", f"/companies/{stage.company.id}/members")["members"]
    rights = next(
        m["grants"]
        for m in backend
        if m["user"]["name"] == "agentic-os" and "localdomain" in m["user"]["email"]
    )
    assert {"tasks:assign", "audit:view_agent_actions"} == {grant["permissionKey"] for grant in rights}


def test_connecting_again_adds_and_says_who_is_not_known(stage: Stage):
    """A second project is adopted beside the first; who connects is linked, and the lines of all others are told."""
    assert stage.stack is not None
    where = ("--backend", stage.stack.endpoint.url, "--backend-token-file", stage.home / "admin.token")
    told = stage.connect("--adopt-project", "Nightly", *where, "--me", "admin")
    assert [ROUTINES, "Nightly"] == json.loads(stage.settings()["AGENTIC_OS_ADOPT_PROJECTS"])
    ids = stage.company.people.ids
    assert {ids["ada"], ids["bob"]} < set(told.split())
    assert "localhost.localdomain" not in told
    assert ids["founder"] not in told
    admin, company = stage.company.admin, stage.company.id
    project = next(
        p["id"] for p in admin.ask("GET", f"/companies/{company}/projects") if p["name"] == ROUTINES
    )
    key = admin.ask("POST", f"/companies/{company}/issues", {"title": "Count", "projectId": project})["id"]
    assert "admin" == stage.show(stage.adopted(key))["requester"]


def test_the_chart_is_taken_over():
    """Who reports to whom on Paperclip must be written as members of an organisation."""
    boss = {"id": "1", "name": "boss", "role": "cto", "reportsTo": None}
    coder = {"id": "2", "name": "coder", "role": "engineer", "reportsTo": "1"}
    written = organisation_of([coder, boss])
    assert '  "coder":\n    roles: ["engineer"]\n    reports_to: "boss"\n' in written
    assert '  "boss":\n    roles: ["cto"]\n  "coder"' in written
    assert [] == differences([boss, coder], written)


@pytest.mark.parametrize(
    ("organisation", "told"),
    [
        ("members: {boss: {}, coder: {reports_to: boss}, rita: {}}", []),
        (
            "members: {boss: {}, coder: {}}",
            ["coder reports to boss on Paperclip, to nobody in the organisation"],
        ),
        (
            "members: {boss: {reports_to: rita}, coder: {reports_to: boss}, rita: }",
            ["boss reports to nobody on Paperclip, to rita in the organisation"],
        ),
        ("", ["boss is no member of the organisation", "coder is no member of the organisation"]),
    ],
)
def test_where_chart_and_organisation_differ_is_told(organisation: str, told: list[str]):
    """Each agent that stands elsewhere, or nowhere, must be named with both places; people are not asked about."""
    boss = {"id": "1", "name": "boss", "role": "cto", "reportsTo": None}
    coder = {"id": "2", "name": "coder", "role": "engineer", "reportsTo": "1"}
    assert told == differences([coder, boss], organisation)


@pytest.mark.parametrize(
    "organisation", ["members: [boss]", "members: {boss: [cto]}", "- boss", "a: [", "text"]
)
def test_what_is_no_organisation_is_said(organisation: str):
    """A file that cannot be read must be a fault that is told, not a traceback."""
    with pytest.raises(ValueError, match="cannot be read"):
        differences([], organisation)

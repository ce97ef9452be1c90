"""The adapter on recorded answers: what a refusal means, who may be believed, and what is asked of the server."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from agentic_os.control_plane import (
    AgentSeen,
    Assignment,
    Busy,
    CommentSeen,
    Conflict,
    ControlPlaneError,
    Denied,
    FieldChanged,
    Invalid,
    IssueChanges,
    IssueDraft,
    IssueOpened,
    NotFound,
    PlanEdited,
    RateLimited,
    ReviewDecided,
    Settings,
    Stranded,
    Unavailable,
)
from agentic_os_paperclip import PLUGIN
from agentic_os_paperclip.client import PaperclipClient
from agentic_os_paperclip.documents import note_key
from agentic_os_paperclip.feed import Cursor, cursor_from
from agentic_os_paperclip.mapping import record_of, state_of
from agentic_os_paperclip.transport import Transport

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
COMPANY = RECORDED["issue"]["body"]["companyId"]
ISSUE = RECORDED["issue"]["body"]["id"]
URL = "http://paperclip.test"
AGENT = "72c148a0-c465-4e81-bdda-520a68687bae"
BACKEND = "backend-account"


@pytest.fixture
def server() -> Any:
    """Answer as Paperclip does, in authenticated mode, with our account in the company."""
    with respx.mock(base_url=f"{URL}/api", assert_all_called=False) as server:
        health = RECORDED["health"]["body"] | {"deploymentMode": "authenticated"}
        server.get("/health").respond(json=health)
        server.get("/cli-auth/me").respond(json={"userId": BACKEND, "companyIds": [COMPANY]})
        server.get(f"/issues/{ISSUE}").respond(json=issue())
        server.get(f"/issues/{ISSUE}/runs").respond(json=[])
        server.get(f"/issues/{ISSUE}/diagnostics/wakes").respond(json={"events": [wake("finished")]})
        server.patch(f"/issues/{ISSUE}").respond(json={"id": ISSUE, "updatedAt": "2026-11-20T10:00:00.000Z"})
        agents(server, agent())
        company(server)
        budgets(server)
        yield server


@pytest.fixture
def plane() -> PaperclipClient:
    return PaperclipClient(Transport(URL, "key", COMPANY))


def wake(status: str, *, agent: str = AGENT, second: int = 1) -> dict[str, Any]:
    """Write what Paperclip says of a wake, so many seconds after the assignment."""
    at = f"2026-11-20T10:00:{second:02}.000Z" if second >= 0 else "2026-11-20T09:59:00.000Z"
    return {"source": "assignment", "status": status, "agentId": agent, "requestedAt": at}


def issue(**more: Any) -> dict[str, Any]:
    """Write an issue as it was recorded, with other values."""
    return deepcopy(RECORDED["issue"]["body"]) | {"executionBlocker": None} | more


def row(action: str, details: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Write a row of the audit as it was recorded, with other values."""
    recorded = RECORDED["audit"]["body"]["items"][0]
    return recorded | {"entityId": ISSUE, "action": action, "details": details} | more


def audit(server: Any, *rows: dict[str, Any]) -> None:
    page = {"items": list(rows), "nextCursor": None, "accessTier": "full"}
    server.get(f"/companies/{COMPANY}/audit/agent-actions").respond(json=page)


def agent(name: str = AGENT, **more: Any) -> dict[str, Any]:
    """Write an agent of the company's list as one was recorded, with other values."""
    recorded: dict[str, Any] = deepcopy(RECORDED["agents"]["body"][0])
    return recorded | {"id": name, "status": "idle", "pauseReason": None, "pausedAt": None} | more


def agents(server: Any, *found: dict[str, Any]) -> Any:
    return server.get(f"/companies/{COMPANY}/agents").respond(json=list(found))


def company(server: Any, **more: Any) -> None:
    server.get(f"/companies/{COMPANY}").respond(json=RECORDED["company"]["body"] | more)


def budgets(server: Any, **more: Any) -> None:
    """Give the agent a budget as one was recorded, with other values."""
    overview = deepcopy(RECORDED["budgets"]["body"])
    overview["policies"][0] |= {"scopeId": AGENT} | more
    server.get(f"/companies/{COMPANY}/budgets/overview").respond(json=overview)


def written(server: Any) -> list[dict[str, Any]]:
    """List what was written to the issue, in order."""
    calls = [call.request for call in server.calls if call.request.method == "PATCH"]
    return [json.loads(request.content) for request in calls]


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("no issue", NotFound),
        ("conflict", Conflict),
        ("bad key", Denied),
        ("no permission", Denied),
        ("bad status", Invalid),
    ],
)
async def test_a_refusal_is_raised_as_what_it_means(
    server: Any, plane: PaperclipClient, name: str, meaning: type[ControlPlaneError]
) -> None:
    """Each recorded refusal must be the error of the port that tells the reconciler what to do."""
    recorded = RECORDED[name]
    server.get("/issues/thing").respond(recorded["status"], json=recorded["body"])
    with pytest.raises(meaning):
        await plane._sights.issue("thing")


@pytest.mark.parametrize("answer", [{"text": "not found"}, {"json": []}, {"json": {"detail": "no route"}}])
async def test_a_proxy_s_not_found_is_no_absence(
    server: Any, plane: PaperclipClient, answer: dict[str, Any]
) -> None:
    """A 404 that is not Paperclip's own must never pass for a deleted issue."""
    server.get(f"/issues/{ISSUE}").respond(404, **answer)
    with pytest.raises(Unavailable):
        await plane.observe([ISSUE])


async def test_a_rate_limit_carries_its_instant(server: Any, plane: PaperclipClient) -> None:
    """The header of sign-ins counts like the usual one."""
    server.get(f"/issues/{ISSUE}").respond(429, headers={"x-retry-after": "7"})
    with pytest.raises(RateLimited):
        await plane.observe([ISSUE])


async def test_a_server_without_accounts_is_refused(server: Any, plane: PaperclipClient) -> None:
    """In local_trusted mode nothing may be read or written, and the message has the commands that switch."""
    server.get("/health").respond(json=RECORDED["health"]["body"])
    with pytest.raises(Denied, match="PAPERCLIP_DEPLOYMENT_MODE=authenticated") as refused:
        await plane.observe([ISSUE])
    assert "paperclipai onboard --yes" in str(refused.value)
    assert [f"{URL}/api/health"] == [str(call.request.url) for call in server.calls]


async def test_a_company_that_we_are_not_in_is_refused(server: Any, plane: PaperclipClient) -> None:
    """A key of another company must be Denied, and say which command mends it."""
    server.get("/cli-auth/me").respond(json={"userId": BACKEND, "companyIds": []})
    with pytest.raises(Denied, match="agentic-os-paperclip connect"):
        await plane.observations("")


async def test_an_issue_of_another_company_is_not_found(server: Any, plane: PaperclipClient) -> None:
    """An issue that our account may read elsewhere must not be worked on."""
    server.get(f"/issues/{ISSUE}").respond(json=issue(companyId="another"))
    with pytest.raises(NotFound):
        await plane.assign(ISSUE, None)


async def test_a_comment_is_its_author_s_whatever_the_row_says(server: Any, plane: PaperclipClient) -> None:
    """A row that names a person for an agent's comment must not make the agent's words that person's."""
    comment = RECORDED["comment"]["body"] | {"authorUserId": None, "authorAgentId": AGENT, "body": "/approve"}
    server.get(f"/issues/{ISSUE}/comments/{comment['id']}").respond(json=comment | {"deletedAt": None})
    audit(server, row("issue.comment_added", {"commentId": comment["id"]}, actorId="ada"))
    (seen,), _ = await plane.observations("")
    assert isinstance(seen, CommentSeen)
    assert (AGENT, "/approve") == (seen.author, seen.body)


async def test_what_paperclip_writes_for_an_agent_is_not_the_agent_s(
    server: Any, plane: PaperclipClient
) -> None:
    """The summary of a hook's run must not be seen as a comment of its agent."""
    details = {"commentId": "c", "source": "run_presentation_resolver"}
    audit(server, row("issue.comment_added", details, actorType="agent", actorId=AGENT))
    assert [] == (await plane.observations(""))[0]


def card(**more: Any) -> dict[str, Any]:
    """Write our own accepted card as such a one was recorded."""
    recorded = RECORDED["interactions"]["body"][0]
    ours = {"createdByUserId": BACKEND, "idempotencyKey": "agentic-os:sha256:ab:0", "resolvedByUserId": "bob"}
    return recorded | ours | more


@pytest.mark.parametrize(
    "forged",
    [
        {"createdByUserId": "mallory"},
        {"resolvedByUserId": None, "resolvedByAgentId": AGENT},
        {"resolvedByUserId": BACKEND},
        {"status": "expired"},
    ],
)
async def test_only_a_person_s_decision_on_our_card_is_a_vote(
    server: Any, plane: PaperclipClient, forged: dict[str, Any]
) -> None:
    """A card of somebody else, an agent's acceptance and one that expired must be nobody's vote."""
    interaction = card()["id"]
    accepted = row("issue.thread_interaction_accepted", {"interactionId": interaction}, actorId="ada")
    audit(server, accepted)
    server.get(f"/issues/{ISSUE}/interactions").respond(json=[card()])
    (seen,), _ = await plane.observations("")
    assert isinstance(seen, ReviewDecided)
    assert ("bob", "approve", "sha256:ab") == (seen.author, seen.verdict, seen.digest)
    server.get(f"/issues/{ISSUE}/interactions").respond(json=[card(**forged)])
    assert [] == (await plane.observations(""))[0]


async def test_a_declined_card_asks_for_changes(server: Any, plane: PaperclipClient) -> None:
    """What a person wrote when declining must be the text of a revision."""
    declined = card(
        status="rejected", result={"version": 1, "outcome": "rejected", "reason": "- count twice"}
    )
    audit(server, row("issue.thread_interaction_rejected", {"interactionId": declined["id"]}, actorId="bob"))
    server.get(f"/issues/{ISSUE}/interactions").respond(json=[declined])
    (seen,), _ = await plane.observations("")
    assert isinstance(seen, ReviewDecided)
    assert ("revise", "- count twice") == (seen.verdict, seen.body)


async def test_a_row_that_is_committed_late_is_seen_once(server: Any, plane: PaperclipClient) -> None:
    """A row older than the newest one seen must be read with the overlap, and no row twice."""

    def deleted(name: str, second: int) -> dict[str, Any]:
        instant = f"2026-11-20T11:00:{second:02}.000Z"
        return row("issue.deleted", {}, id=name, actorId="ada", createdAt=instant)

    audit(server, deleted("late", 9))
    first, cursor = await plane.observations("")
    audit(server, deleted("late", 9), deleted("early", 4))
    second, cursor = await plane.observations(cursor)
    third, _ = await plane.observations(cursor)
    assert [["late"], ["early"], []] == [[seen.delivery for seen in each] for each in (first, second, third)]
    asked = server.calls.last.request.url.params
    assert "2026-11-20T10:59:59Z" == asked["from"]


@pytest.mark.parametrize("paused", [{}, {AGENT: "budget", "other": ""}])
def test_a_cursor_comes_back_as_it_was_written(paused: dict[str, str]) -> None:
    """What was remembered between two runs must be where the feed goes on, also before the first row."""
    empty = Cursor(paused=paused)
    position = empty.after({"id": "a", "createdAt": "2026-11-20T11:00:00.123Z"})
    assert (empty, position) == (cursor_from(str(empty)), cursor_from(str(position)))


def test_a_cursor_of_an_earlier_release_is_read() -> None:
    """One that knows of no agents must be where the feed goes on, with everybody told of who is paused."""
    found = cursor_from('{"at": "2026-11-20T11:00:00Z", "seen": {"a": "2026-11-20T11:00:00Z"}}')
    assert (["a"], {}) == (list(found.seen), found.paused)
    for forged in ('{"paused": {"a": ""}}', '{"seen": {"a": "2026-11-20T11:00:00Z"}}'):
        with pytest.raises(Invalid):
            cursor_from(forged)


PAUSED = {"status": "paused", "pauseReason": "manual", "pausedAt": "2026-11-20T11:00:00.100Z"}
STOPPED = PAUSED | {"pauseReason": "budget"}


def of_agent(action: str, **more: Any) -> dict[str, Any]:
    """Write a row about the agent, by ada and just after it was paused."""
    about = {"entityType": "agent", "entityId": AGENT, "actorType": "user", "actorId": "ada"}
    return row(action, {}, id=action, createdAt="2026-11-20T11:00:00.200Z", **about) | more


def of_budget(action: str, **more: Any) -> dict[str, Any]:
    """Write a row of the agent's budget."""
    scope = {"scopeType": "agent", "scopeId": AGENT}
    return of_agent(action, entityType="budget_policy", entityId="b", details=scope) | more


async def told(plane: PaperclipClient, cursor: str = "") -> tuple[list[tuple[str, str, str]], str]:
    """Read what is told of agents: how they stand, by whom, why."""
    seen, cursor = await plane.observations(cursor)
    assert all(isinstance(each, AgentSeen) and each.account == AGENT for each in seen)
    return [(each.state, each.author, each.detail) for each in seen if isinstance(each, AgentSeen)], cursor


async def test_who_paused_and_resumed_an_agent_is_told(server: Any, plane: PaperclipClient) -> None:
    """Both must be told once, by whom the rows say."""
    agents(server, agent(**PAUSED))
    audit(server, of_agent("agent.paused"))
    found, cursor = await told(plane)
    assert [("paused", "ada", "")] == found
    assert [] == (await told(plane, cursor))[0]
    agents(server, agent())
    audit(server, of_agent("agent.paused"), of_agent("agent.resumed", actorId="bob"))
    found, cursor = await told(plane, cursor)
    assert [("ready", "bob", "")] == found
    assert [] == (await told(plane, cursor))[0]


async def test_a_row_that_says_what_is_not_so_is_not_believed(server: Any, plane: PaperclipClient) -> None:
    """Whoever may write rows must not be able to keep work from an agent, or to give it some."""
    audit(server, of_agent("agent.paused"), of_agent("agent.terminated"))
    assert [] == (await told(plane))[0]
    agents(server, agent(**PAUSED))
    audit(server, of_agent("agent.resumed"))
    assert [("paused", "", "")] == (await told(plane))[0]


async def test_an_agent_that_was_paused_before_is_told_of(server: Any, plane: PaperclipClient) -> None:
    """Neither rows nor a cursor need say it: the first look does, and the next process looks again."""
    agents(server, agent(**PAUSED))
    audit(server)
    found, cursor = await told(plane)
    assert [("paused", "", "")] == found
    anew = PaperclipClient(Transport(URL, "key", COMPANY))
    assert [] == (await told(anew, cursor))[0]
    agents(server, agent())
    found, cursor = await told(PaperclipClient(Transport(URL, "key", COMPANY)), cursor)
    assert [("ready", "", "")] == found


@pytest.mark.parametrize(
    ("rows", "author"),
    [
        ([of_budget("budget.hard_threshold_crossed", actorType="system", actorId="budget_service")], ""),
        ([of_budget("budget.policy_upserted")], "ada"),
        ([of_budget("budget.policy_upserted", createdAt="2026-11-20T11:00:00.000Z")], ""),
        ([of_budget("budget.policy_upserted", details={"scopeType": "agent", "scopeId": "other"})], ""),
        ([of_agent("agent.paused")], ""),
        ([of_agent("cost.reported", entityType="cost_event", entityId="c")], ""),
        ([of_agent("environment.lease_released", entityType="environment_lease", entityId="l")], ""),
    ],
)
async def test_a_budget_s_stop_is_heard_whatever_tells_of_it(
    server: Any, plane: PaperclipClient, rows: list[dict[str, Any]], author: str
) -> None:
    """A stop needs no row of its own, and is in nobody's name but of who lowered the budget below what was spent."""
    audit(server)
    server.get("/heartbeat-runs/run").respond(404, json={"error": "no run"})
    assert [] == (await told(plane))[0]
    agents(server, agent(**STOPPED))
    audit(server, *rows)
    assert [("paused", author, "budget")] == (await told(plane))[0]


async def test_who_paused_is_told_later_where_the_row_comes_later(
    server: Any, plane: PaperclipClient
) -> None:
    """Runs that a pause ends are told of before the pause: the agent is paused at once, and its author follows."""
    agents(server, agent(**PAUSED))
    audit(server, of_agent("agent.updated", id="first"))
    found, cursor = await told(plane)
    assert [("paused", "", "")] == found
    audit(server, of_agent("agent.updated", id="first"), of_agent("agent.paused"))
    found, cursor = await told(plane, cursor)
    assert [("paused", "ada", "")] == found
    assert [] == (await told(plane, cursor))[0]


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        ({"status": "error"}, None),
        ({"status": "running"}, None),
        ({"status": "pending_approval"}, "not approved yet"),
        ({"orgChainHealth": {"status": "invalid_org_chain"}}, "its reporting chain is broken"),
        (STOPPED, "budget"),
    ],
)
async def test_only_what_keeps_paperclip_from_waking_is_a_pause(
    server: Any, plane: PaperclipClient, standing: dict[str, Any], why: str | None
) -> None:
    """An agent in error is woken for the next assignment, one that waits for its approval is not."""
    agents(server, agent(**standing))
    audit(server)
    assert ([] if why is None else [("paused", "", why)]) == (await told(plane))[0]


async def test_a_company_that_is_paused_pauses_everybody(server: Any, plane: PaperclipClient) -> None:
    """A company's own budget must be told of as what keeps each of its agents from work."""
    company(server, status="paused")
    audit(server)
    assert [("paused", "", "the company is paused")] == (await told(plane))[0]


async def test_an_agent_that_was_resumed_on_a_used_up_budget_stays_paused(
    server: Any, plane: PaperclipClient
) -> None:
    """Paperclip refuses its wakes though it says idle, until the budget is raised or its next month begins."""
    agents(server, agent(**STOPPED))
    budgets(server, status="hard_stop", windowEnd="2099-01-01T00:00:00.000Z")
    audit(server)
    found, cursor = await told(plane)
    assert [("paused", "", "budget")] == found
    agents(server, agent())
    audit(server, of_agent("agent.resumed"))
    assert [] == (await told(plane, cursor))[0]
    budgets(server)
    audit(server, of_agent("agent.resumed"), of_budget("budget.policy_upserted"))
    assert [("ready", "ada", "")] == (await told(plane, cursor))[0]


async def test_who_set_a_budget_is_not_who_used_it_up(server: Any, plane: PaperclipClient) -> None:
    """Between the spending and the stop an agent says idle: its budget's author did not pause it."""
    budgets(server, status="hard_stop", windowEnd="2099-01-01T00:00:00.000Z")
    audit(server, of_budget("budget.policy_upserted"), of_budget("budget.soft_threshold_crossed"))
    assert [("paused", "", "budget")] == (await told(plane))[0]


async def test_a_budget_that_begins_anew_is_noticed(server: Any, plane: PaperclipClient) -> None:
    """No row says that a month is over: agents are looked at again when it is."""
    budgets(server, status="hard_stop", windowEnd="2026-01-01T00:00:00.000Z")
    audit(server)
    found, cursor = await told(plane)
    assert [("paused", "", "budget")] == found
    budgets(server)
    assert [("ready", "", "")] == (await told(plane, cursor))[0]


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"status": "hard_stop", "scopeType": "company", "scopeId": COMPANY}, "the company's budget"),
        ({"status": "hard_stop", "scopeId": "other"}, None),
        ({"status": "hard_stop", "hardStopEnabled": False}, None),
        ({"status": "hard_stop", "isActive": False}, None),
        ({"status": "warning"}, None),
    ],
)
async def test_only_a_hard_stop_of_its_own_pauses_an_agent(
    server: Any, plane: PaperclipClient, policy: dict[str, Any], why: str | None
) -> None:
    """A warning, a budget that stops nobody and another agent's must keep no work from this one."""
    budgets(server, windowEnd="2099-01-01T00:00:00.000Z", **policy)
    audit(server)
    assert ([] if why is None else [("paused", "", why)]) == (await told(plane))[0]


@pytest.mark.parametrize("action", ["agent.terminated", "agent.deleted"])
async def test_an_agent_that_is_gone_is_paused_for_good(
    server: Any, plane: PaperclipClient, action: str
) -> None:
    """The list has it no more, so the row says that it is gone, once, and it stays so."""
    agents(server)
    audit(server, of_agent(action))
    found, cursor = await told(plane)
    assert [("paused", "ada", "terminated")] == found
    audit(server, of_agent("agent.updated", entityId="other"))
    assert [] == (await told(plane, cursor))[0]


async def test_agents_are_not_looked_at_without_cause(server: Any, plane: PaperclipClient) -> None:
    """An idle feed must cost its one request, also where the same rows are read again and again."""
    listed = agents(server, agent())
    audit(server, of_agent("agent.updated"))
    for _ in range(3):
        assert ([], 1) == ((await told(plane))[0], listed.call_count)
    audit(server, of_agent("agent.updated"), of_agent("agent.paused"))
    assert ([], 2) == ((await told(plane))[0], listed.call_count)


@pytest.mark.parametrize("answer", [{}, [{"id": AGENT}], [None]])
async def test_agents_that_cannot_be_read_are_unavailable(
    server: Any, plane: PaperclipClient, answer: Any
) -> None:
    """An answer in another shape must never be read as "everybody is ready"."""
    server.get(f"/companies/{COMPANY}/agents").respond(json=answer)
    audit(server)
    with pytest.raises(Unavailable):
        await plane.observations("")


async def test_a_feed_without_the_permission_is_denied(server: Any, plane: PaperclipClient) -> None:
    """An audit without details must be refused, and never read as "nobody did anything"."""
    page = {"items": [], "nextCursor": None, "accessTier": "basic"}
    server.get(f"/companies/{COMPANY}/audit/agent-actions").respond(json=page)
    with pytest.raises(Denied, match="connect"):
        await plane.observations("")


async def test_one_change_assigns_and_watches(server: Any, plane: PaperclipClient) -> None:
    """The wake, its record and the monitor that keeps Paperclip from recovering must be one write."""
    await plane.assign(ISSUE, Assignment(account=AGENT, task_id="task", attempt=1))
    (change,) = written(server)
    assert (AGENT, "in_progress") == (change["assigneeAgentId"], change["status"])
    assert f"agentic-os:task:1:{AGENT}" == change["billingCode"]
    assert "external_service" == change["executionPolicy"]["monitor"]["kind"]


async def test_a_run_that_goes_on_keeps_its_assignee(
    server: Any, plane: PaperclipClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may be written while a run goes on, until its time to end has passed."""
    monkeypatch.setattr("agentic_os_paperclip.client._MOMENT_SECONDS", 0.0)
    assigned = issue(assigneeAgentId=AGENT, status="in_review", billingCode=f"agentic-os:task:1:{AGENT}")
    server.get(f"/issues/{ISSUE}").respond(json=assigned)
    server.get(f"/issues/{ISSUE}/runs").respond(json=[{"runId": "r", "status": "running"}])
    with pytest.raises(Busy):
        await plane.assign(ISSUE, None)
    assert [] == written(server)
    monkeypatch.setattr("agentic_os_paperclip.client._LINGER_SECONDS", 0.0)
    await plane.assign(ISSUE, None)
    (change,) = written(server)
    assert (None, "agentic-os:task:1:") == (change["assigneeAgentId"], change["billingCode"])


@pytest.mark.parametrize("going", [True, False])
async def test_a_closed_issue_loses_its_assignee_with_the_run(
    server: Any, plane: PaperclipClient, *, going: bool
) -> None:
    """Closing must leave nobody assigned, whom any comment would wake, and yet end no run that goes on."""
    assigned = issue(assigneeAgentId=AGENT, status="in_progress", billingCode=f"agentic-os:task:1:{AGENT}")
    server.get(f"/issues/{ISSUE}").respond(json=assigned)
    server.get(f"/issues/{ISSUE}/runs").respond(json=[{"runId": "r", "status": "running"}] if going else [])
    await plane.apply(ISSUE, IssueChanges(closed="completed"))
    (change,) = written(server)
    assert ("done", going) == (change["status"], "assigneeAgentId" not in change)


async def test_a_failed_run_is_explained_before_the_next_attempt(server: Any, plane: PaperclipClient) -> None:
    """Paperclip must be told what became of the run while its agent is assigned, and wakes it for the new attempt."""
    blocker = {"recoveryActionId": "a", "runId": "r", "agentId": AGENT}
    held = issue(billingCode="agentic-os:task:1:", status="blocked", executionBlocker=blocker)
    server.get(f"/issues/{ISSUE}").respond(json=held)
    resolved = server.post(f"/issues/{ISSUE}/recovery-actions/resolve").respond(json={})
    await plane.assign(ISSUE, Assignment(account=AGENT, task_id="task", attempt=2))
    document = json.loads(resolved.calls.last.request.content)
    assert ("a", "r") == (document["actionId"], document["executionReconciliation"]["runId"])
    assert {f"agentic-os:task:2:{AGENT}"} == {change["billingCode"] for change in written(server)}
    assert {AGENT} == {change["assigneeAgentId"] for change in written(server)}


@pytest.mark.parametrize(
    ("told", "lost", "meaning"),
    [
        ("The previous execution environment has not finished releasing its authority.", 300.0, Stranded),
        ("The previous provider is still running. Stop it before continuing.", 300.0, Busy),
        ("The previous provider is still running. Stop it before continuing.", 0.0, Stranded),
    ],
)
async def test_a_run_that_is_never_let_go_of_strands_its_issue(
    server: Any,
    plane: PaperclipClient,
    monkeypatch: pytest.MonkeyPatch,
    *,
    told: str,
    lost: float,
    meaning: type[ControlPlaneError],
) -> None:
    """What a killed server left behind strands its issue at once; what may still end, after some minutes."""
    monkeypatch.setattr("agentic_os_paperclip.client._LOST_SECONDS", lost)
    blocker = {"recoveryActionId": "a", "runId": "r", "agentId": AGENT}
    held = issue(billingCode="agentic-os:task:1:", status="blocked", executionBlocker=blocker)
    server.get(f"/issues/{ISSUE}").respond(json=held)
    server.post(f"/issues/{ISSUE}/recovery-actions/resolve").respond(409, json={"error": told})
    with pytest.raises(meaning):
        await plane.assign(ISSUE, Assignment(account=AGENT, task_id="task", attempt=2))
    assert "agentic-os:task:1:" == written(server)[-1]["billingCode"]


async def test_a_stranded_issue_s_place_is_taken_once(server: Any, plane: PaperclipClient) -> None:
    """Another issue must be made though the first answers the repeat, and the old one say where the work goes on."""
    other = "11111111-1111-4111-8111-111111111111"
    server.get(f"/companies/{COMPANY}/labels").respond(json=[{"name": "aos:ready", "id": "l1"}])
    keys = {"agentic-os:task:0": ISSUE, "agentic-os:task:1": other}
    server.post(f"/companies/{COMPANY}/issues").mock(
        side_effect=lambda request: httpx.Response(
            201, json={"id": keys[json.loads(request.content)["idempotencyKey"]]}
        )
    )
    server.get(f"/issues/{ISSUE}").respond(json=issue(billingCode="agentic-os:task:1:"))
    server.get(f"/issues/{other}").respond(json=issue(id=other, identifier="LAB-99"))
    draft = IssueDraft(task_id="task", title="T", body="B", project="", state="ready", replaces=ISSUE)
    assert other == await plane.ensure_issue(draft)
    (closing,) = written(server)
    assert ("agentic-os-replaced:task", "cancelled", None) == tuple(
        closing[name] for name in ("billingCode", "status", "assigneeAgentId")
    )
    assert "LAB-99" in closing["comment"]
    server.get(f"/issues/{ISSUE}").respond(json=issue(billingCode="agentic-os-replaced:task"))
    assert other == await plane.ensure_issue(replace(draft, replaces=""))
    assert 1 == len(written(server))


async def test_a_routine_s_issue_is_its_author_s(server: Any, plane: PaperclipClient) -> None:
    """Of an issue that a routine opened the audit tells only that the routine ran; one without an issue opens none."""
    runs = [{"id": "run", "linkedIssueId": ISSUE}, {"id": "skipped", "linkedIssueId": None}]
    server.get("/routines/routine/runs").respond(json=runs)
    server.get("/routines/routine").respond(json={"createdByUserId": "ada", "title": "Each night"})
    opened = issue(originKind="routine_execution", originId="routine", createdByUserId=None)
    server.get(f"/issues/{ISSUE}").respond(json=opened)
    ran = row("routine.run_triggered", {"routineId": "routine"}, entityId="run", actorId="routine-scheduler")
    audit(server, ran, {**ran, "id": "other", "entityId": "skipped"})
    found, _ = await plane.observations("")
    (seen,) = [each for each in found if isinstance(each, IssueOpened)]
    assert (ISSUE, "ada", "Each night") == (seen.key, seen.author, seen.routine)


async def test_an_edited_plan_is_read_from_its_revision(server: Any, plane: PaperclipClient) -> None:
    """What a person made of the plan must be seen whole, by whoever wrote the revision; other documents are drift."""
    digest = "sha256:" + "1" * 64
    revisions = [
        {
            "revisionNumber": 1,
            "createdByUserId": BACKEND,
            "createdByAgentId": None,
            "changeSummary": f"agentic-os {digest}",
            "body": "1",
        },
        {
            "revisionNumber": 2,
            "createdByUserId": "ada",
            "createdByAgentId": None,
            "changeSummary": None,
            "body": "2",
        },
    ]
    server.get(f"/issues/{ISSUE}/documents/plan/revisions").respond(json=revisions)
    edited = row("issue.document_updated", {"key": "plan", "revisionNumber": 2}, actorId="somebody")
    audit(
        server,
        edited,
        {**edited, "id": "b", "details": {"key": "result", "revisionNumber": 5}},
        {**edited, "id": "c", "details": {"key": "notes-of-a-person", "revisionNumber": 1}},
    )
    found, _ = await plane.observations("")
    plan = next(each for each in found if isinstance(each, PlanEdited))
    assert (digest, "ada", "2") == (plan.digest, plan.author, plan.text)
    drifted = [(each.field, each.value) for each in found if isinstance(each, FieldChanged)]
    assert [("document", "result")] == drifted


async def test_a_person_s_edit_of_a_moment_ago_is_kept(server: Any, plane: PaperclipClient) -> None:
    """What somebody wrote after the issue was observed must stand when our status is written into the same field."""
    for what in ("comments", "documents", "interactions"):
        server.get(f"/issues/{ISSUE}/{what}").respond(json=[])
    server.get(f"/issues/{ISSUE}").respond(json=issue(description="All."))
    await plane.observe([ISSUE])
    server.get(f"/issues/{ISSUE}").respond(json=issue(description="All of them."))
    await plane.apply(ISSUE, IssueChanges(status="**ready**"))
    (change,) = written(server)
    assert change["description"].endswith("All of them.")


async def test_a_skipped_wake_is_made_again(server: Any, plane: PaperclipClient) -> None:
    """An assignment that woke nobody must be taken back, so that the next pass makes it anew."""
    skipped = {"events": [wake("skipped")]}
    server.get(f"/issues/{ISSUE}/diagnostics/wakes").respond(json=skipped)
    with pytest.raises(Busy):
        await plane.assign(ISSUE, Assignment(account=AGENT, task_id="task", attempt=1))
    assert (None, "agentic-os:task:0:") == (
        written(server)[-1]["assigneeAgentId"],
        written(server)[-1]["billingCode"],
    )


async def test_a_wake_of_somebody_before_is_not_ours(server: Any, plane: PaperclipClient) -> None:
    """What was skipped for another agent, or before the assignment, must not take the assignment back."""
    before = [wake("queued"), wake("skipped", agent=BACKEND), wake("skipped", second=-1)]
    server.get(f"/issues/{ISSUE}/diagnostics/wakes").mock(
        side_effect=[
            httpx.Response(200, json={"events": before[1:]}),
            httpx.Response(200, json={"events": before}),
        ]
    )
    await plane.assign(ISSUE, Assignment(account=AGENT, task_id="task", attempt=1))
    assert AGENT == written(server)[-1]["assigneeAgentId"]


@pytest.mark.parametrize(
    ("status", "assigned", "shown"),
    [
        ("in_progress", True, "executing"),
        ("in_review", True, "executing"),
        ("blocked", True, "executing"),
        ("todo", True, "executing (todo)"),
        ("todo", False, "executing"),
        ("done", True, "executing"),
    ],
)
def test_a_status_that_contradicts_the_state_shows(*, status: str, assigned: bool, shown: str) -> None:
    """A status that somebody changed must show as drift; those that Paperclip sets by itself must not."""
    labels = [{"name": "aos:executing"}, {"name": "beans"}]
    given = issue(status=status, labels=labels, assigneeAgentId=AGENT if assigned else None)
    assert shown == state_of(given)


@pytest.mark.parametrize(
    "code", ["", "cost-centre", "agentic-os:", "agentic-os:t:x:a", "agentic-os:t:1", "a:t:1:b"]
)
def test_a_billing_code_of_somebody_else_is_no_record(code: str) -> None:
    """What people write there must not pass for an attempt."""
    assert record_of(issue(billingCode=code)) is None


def test_keys_of_notes_are_legible_and_short_enough() -> None:
    """Markers must have keys of their own, of the characters and the length that Paperclip allows."""
    markers = ["status", "gate:plan:1", "gate:plan:11", "GATE", "x" * 200, "x" * 199]
    keys = [note_key(marker) for marker in markers]
    assert len(set(keys)) == len(markers)
    assert "aos-status" == keys[0]
    assert all(len(key) <= 64 and set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for key in keys)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("paperclip", {"company": COMPANY}),
        (URL, {}),
        (URL, {"company": "LAB"}),
        (URL, {"company": COMPANY, "board": "x"}),
        (URL, {"company": COMPANY, "nudge_key_file": "/nonexistent/key"}),
    ],
)
def test_settings_that_cannot_work_are_refused(url: str, options: dict[str, str]) -> None:
    """Each must be Invalid at the start, and not a failure of every task later."""
    with pytest.raises(Invalid):
        PLUGIN.open(Settings(url=url, token="t", webhook_secrets=(), options=options))


async def test_no_key_is_sent_to_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names must not hear our key."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    plane = PLUGIN.open(
        Settings(url="http://127.0.0.1:9", token="t", webhook_secrets=(), options={"company": COMPANY})
    )
    assert isinstance(plane, PaperclipClient)
    assert plane._paperclip._http._mounts == {}
    with pytest.raises(Unavailable):
        await plane.observe([ISSUE])
    await plane.aclose()


def test_recorded_answers_are_of_the_kind_that_httpx_gives() -> None:
    """The recording must stay JSON that a server could have sent."""
    assert all(
        httpx.Response(each["status"], json=each["body"]).json() == each["body"] for each in RECORDED.values()
    )

"""The ledger of costs on recorded answers: what is written, once, and what is left to Paperclip."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import respx

from agentic_os.control_plane import ControlPlaneError, Cost, Invalid, NotFound, Unavailable
from agentic_os_paperclip.client import PaperclipClient
from agentic_os_paperclip.costs import event_to
from agentic_os_paperclip.transport import Transport

_HERE = Path(__file__).parent
RECORDED = {
    name: answer
    for recording in ("recorded.json", "recorded_ledger.json")
    for name, answer in json.loads((_HERE / recording).read_text(encoding="utf-8")).items()
}
COMPANY = RECORDED["issue"]["body"]["companyId"]
ISSUE = RECORDED["issue"]["body"]["id"]
URL = "http://paperclip.test"
AGENT = RECORDED["costs"]["body"][0]["agentId"]
AT = datetime(2026, 11, 26, 4, 5, 6, 789_000, tzinfo=UTC)
COST = Cost(
    account=AGENT,
    task_id="task-1",
    model="anthropic/claude-test",
    cost_microusd=75_000,
    input_tokens=1000,
    output_tokens=50,
    before=0,
    at=AT,
)
"""Seven and a half cents, which nobody told of before."""


@pytest.fixture
def server() -> Iterator[Any]:
    """Answer as Paperclip does, with an agent of the kind `http`, and an empty ledger."""
    with respx.mock(base_url=f"{URL}/api", assert_all_called=False) as server:
        health = RECORDED["health"]["body"] | {"deploymentMode": "authenticated"}
        server.get("/health").respond(json=health)
        server.get("/cli-auth/me").respond(json={"userId": "backend", "companyIds": [COMPANY]})
        server.get(f"/issues/{ISSUE}").respond(json=RECORDED["issue"]["body"] | {"projectId": "project-1"})
        server.get(f"/companies/{COMPANY}/agents").respond(json=[{"id": AGENT, "adapterType": "http"}])
        server.get(f"/companies/{COMPANY}/costs/by-agent-model").respond(json=[])
        server.post(f"/companies/{COMPANY}/cost-events").respond(201, json=RECORDED["cost event"]["body"])
        yield server


@pytest.fixture
def plane() -> PaperclipClient:
    return PaperclipClient(Transport(URL, "key", COMPANY))


def written(server: Any) -> list[dict[str, Any]]:
    """List the cost events that were written."""
    return [json.loads(call.request.content) for call in server.calls if call.request.method == "POST"]


async def test_a_cost_is_written_as_an_event_of_its_agent(server: Any, plane: PaperclipClient) -> None:
    """It names issue, project, task, model and instant, and says where it comes from."""
    await plane.report_cost(ISSUE, COST)
    assert [
        {
            "agentId": AGENT,
            "issueId": ISSUE,
            "projectId": "project-1",
            "billingCode": "agentic-os:task-1",
            "provider": "anthropic",
            "biller": "agentic-os",
            "costStatus": "reported",
            "model": "claude-test",
            "inputTokens": 1000,
            "outputTokens": 50,
            "costCents": 7,
            "occurredAt": "2026-11-26T04:05:06.789Z",
        }
    ] == written(server)


async def test_an_event_that_is_there_is_not_written_again(server: Any, plane: PaperclipClient) -> None:
    """It is found by agent and instant; what another agent spent at that instant is another's."""
    ledger = server.get(f"/companies/{COMPANY}/costs/by-agent-model")
    ledger.respond(json=RECORDED["costs"]["body"])
    await plane.report_cost(ISSUE, COST)
    assert [] == written(server)
    asked = ledger.calls.last.request.url.params
    assert {"2026-11-26T04:05:06.789Z"} == {asked["from"], asked["to"]}
    ledger.respond(json=[row | {"agentId": "another"} for row in RECORDED["costs"]["body"]])
    await plane.report_cost(ISSUE, COST)
    assert 1 == len(written(server))


@pytest.mark.parametrize(
    ("kind", "events"), [("process", 1), ("http", 1), ("claude_local", 0), ("codex_local", 0)]
)
async def test_what_paperclip_measures_is_left_to_it(
    server: Any, plane: PaperclipClient, kind: str, events: int
) -> None:
    """Its own local agents' runs are in the ledger without us, and must not be there twice."""
    server.get(f"/companies/{COMPANY}/agents").respond(json=[{"id": AGENT, "adapterType": kind}])
    await plane.report_cost(ISSUE, COST)
    assert events == len(written(server))


async def test_less_than_a_cent_is_written_with_the_next(server: Any, plane: PaperclipClient) -> None:
    """Nothing is rounded up, nothing is asked for nothing, and the rest comes with what fills the cent."""
    parts = [replace(COST, cost_microusd=6_000, before=n * 6_000, output_tokens=0) for n in range(3)]
    for part in parts:
        await plane.report_cost(ISSUE, replace(part, input_tokens=0))
    assert [1] == [event["costCents"] for event in written(server)]
    assert [0, 1, 0] == [event_to(part, RECORDED["issue"]["body"])["costCents"] for part in parts]


@pytest.mark.parametrize(
    ("cost", "event"),
    [
        (replace(COST, cost_microusd=0), {"costStatus": "unpriced", "costCents": 0}),
        (replace(COST, cost_microusd=1), {"costStatus": "reported", "costCents": 0}),
        (replace(COST, model=""), {"provider": "unknown", "model": "unknown"}),
        (replace(COST, model="gpt-test"), {"provider": "unknown", "model": "gpt-test"}),
        (replace(COST, model="a/b/"), {"provider": "a/b", "model": "unknown"}),
        (replace(COST, input_tokens=2**53), {"inputTokens": 2**31 - 1}),
        (replace(COST, cost_microusd=2**53), {"costCents": 100_000_000}),
        (
            replace(COST, at=AT.astimezone(timezone(timedelta(hours=2)))),
            {"occurredAt": "2026-11-26T04:05:06.789Z"},
        ),
    ],
)
def test_what_paperclip_has_no_word_for(cost: Cost, event: dict[str, Any]) -> None:
    """No price, no model, more than a column holds, and another zone are written as Paperclip takes them."""
    found = event_to(cost, RECORDED["issue"]["body"])
    assert event == {name: found[name] for name in event}


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("no agent", NotFound),
        ("agent of another company", Invalid),
        (lambda route: route.respond(500, json={"error": "Internal server error"}), Unavailable),
    ],
)
async def test_a_refused_event_is_raised_as_what_it_means(
    server: Any,
    plane: PaperclipClient,
    answer: str | Callable[[Any], Any],
    meaning: type[ControlPlaneError],
) -> None:
    """An agent that is gone is no time-out, and a fault is no refusal."""
    route = server.post(f"/companies/{COMPANY}/cost-events")
    if isinstance(answer, str):
        recorded = RECORDED[answer]
        route.respond(recorded["status"], json=recorded["body"])
    else:
        answer(route)
    with pytest.raises(meaning):
        await plane.report_cost(ISSUE, COST)


@pytest.mark.parametrize("answer", [{"json": {}}, {"json": [{"costCents": 1}]}, {"text": "proxy"}])
async def test_a_ledger_that_cannot_be_read_is_not_written_to(
    server: Any, plane: PaperclipClient, answer: dict[str, Any]
) -> None:
    """Whether an event is there, an answer in doubt does not say."""
    server.get(f"/companies/{COMPANY}/costs/by-agent-model").respond(**answer)
    with pytest.raises(Unavailable):
        await plane.report_cost(ISSUE, COST)
    assert [] == written(server)

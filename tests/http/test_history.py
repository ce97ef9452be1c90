"""A task's past through the API and the command line: as it was, what changed, why it stands, who did and judged it."""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from tests.desk import Desk, assert_problem
from tests.http.conftest import Command

from agentic_os.application.ports import Batch, Envelope, TaskChange
from agentic_os.clock import now
from agentic_os.domain.documents import Usage
from agentic_os.domain.events import UsageBooked
from agentic_os.domain.evolution import fold

NOWHERE = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"


async def test_each_version_reads_as_the_task_then_stood(desk: Desk) -> None:
    """What was shown of a task at the time is shown again by its version, and by the time of its last change."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first")
    seen = [await desk.show(f"/api/tasks/{task_id}")]
    await desk.submit("plan", task_id, await desk.ack(task_id))
    seen.append(await desk.show(f"/api/tasks/{task_id}"))
    await desk.approve(task_id)
    seen.append(await desk.show(f"/api/tasks/{task_id}"))
    for then in seen:
        for at in (then["version"], then["updated_at"]):
            answer = await desk.get(f"/api/tasks/{task_id}", params={"at": at})
            found = answer.json()
            assert then == found
            assert f'"{then["version"]}"' == answer.headers["etag"]
    first = await desk.show(f"/api/tasks/{task_id}", params={"at": 1})
    assert (1, "received", None, first["created_at"]) == tuple(
        first[name] for name in ("version", "phase", "attempt", "updated_at")
    )


async def test_an_instant_between_two_events_shows_the_earlier(desk: Desk) -> None:
    """The last event at or before an instant counts, and the far future is now."""
    await desk.executor()
    task_id = await desk.task()
    await desk.ack(task_id)
    offered, acked = (await desk.backend.log.read_stream(task_id))[-2:]
    assert offered.at < acked.at
    just_before = (acked.at - timedelta(microseconds=1)).isoformat()
    shown = await desk.show(f"/api/tasks/{task_id}", params={"at": just_before})
    assert (offered.version, "dispatched") == (shown["version"], shown["phase"])
    now_shown = await desk.show(f"/api/tasks/{task_id}")
    for at in ("9999-12-31T23:59:59-23:59", acked.at.isoformat()):
        assert now_shown == await desk.show(f"/api/tasks/{task_id}", params={"at": at})


async def test_a_task_that_was_blocked_is_shown_blocked(desk: Desk) -> None:
    """While a task waited for another it names it, then as now, although the other was completed since."""
    await desk.executor()
    blocker = await desk.task()
    task_id = await desk.task(depends_on=[blocker])
    blocked = await desk.show(f"/api/tasks/{task_id}")
    assert [blocker] == blocked["blocked_by"]
    await desk.submit("result", blocker, await desk.ack(blocker))
    await desk.work()
    assert [] == (await desk.show(f"/api/tasks/{task_id}"))["blocked_by"]
    assert blocked == await desk.show(f"/api/tasks/{task_id}", params={"at": blocked["version"]})


async def test_what_never_was_is_not_found(desk: Desk) -> None:
    """A version beyond the last and a time before the first event are 404, and say how far the history reaches."""
    task_id = await desk.task()
    last = (await desk.show(f"/api/tasks/{task_id}"))["version"]
    for at in (last + 1, 10**17):
        refused = assert_problem(await desk.get(f"/api/tasks/{task_id}", params={"at": at}), 404, "not_found")
        assert f"its last is {last}" in refused["detail"]
    for at in ("2001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"):
        refused = assert_problem(await desk.get(f"/api/tasks/{task_id}", params={"at": at}), 404, "not_found")
        assert "not there yet" in refused["detail"]
    for path in (f"1..{last + 1}", f"{10**40}..1"):
        assert_problem(await desk.get(f"/api/tasks/{task_id}/versions/{path}"), 404, "not_found")


UNREADABLE = ["", "0", "-1", "soon", "2026-11-20", "2026-11-20T12:00:00", "\0", "x" * 65, "\u0663"]


async def test_an_unreadable_point_is_named(desk: Desk, subtests: pytest.Subtests) -> None:
    """What is neither version nor time with zone is refused with the parameter's name, wherever it stands."""
    task_id = await desk.task()
    for at in UNREADABLE:
        with subtests.test(repr(at)):
            answer = await desk.get(f"/api/tasks/{task_id}", params={"at": at})
            assert_problem(answer, 422, "schema_invalid", "/at")
    for path, pointer in (("0..1", "/a"), ("1..x", "/b"), ("1..-1", "/b"), ("9" * 5000 + "..1", "/a")):
        with subtests.test(path[:9]):
            answer = await desk.get(f"/api/tasks/{task_id}/versions/{path}")
            assert_problem(answer, 422, "schema_invalid", pointer)


PATHS = ["", "/versions/1..2", "/why", "/attempts", "/reviews"]


async def test_the_past_of_an_unknown_task_is_not_found(desk: Desk) -> None:
    """Every question about a task that does not exist is 404 with its code, also for ids that no task can have."""
    for path in PATHS:
        for task_id in (NOWHERE, "%00", "\u00fc"):
            answer = await desk.get(f"/api/tasks/{task_id}{path}", params={"at": 1} if not path else None)
            assert_problem(answer, 404, "unknown_task")


async def test_a_difference_names_fields_and_events(desk: Desk) -> None:
    """Between two versions the changed fields are listed by name, and the events between with their authors."""
    task_id = await desk.planned()
    before = await desk.show(f"/api/tasks/{task_id}")
    await desk.approve(task_id)
    after = await desk.show(f"/api/tasks/{task_id}")
    path = f"/api/tasks/{task_id}/versions"
    found = await desk.show(f"{path}/{before['version']}..{after['version']}")
    assert (before["version"], after["version"]) == (found["from"], found["to"])
    changed = {c["field"]: (c["before"], c["after"]) for c in found["changes"]}
    assert sorted(changed) == [c["field"] for c in found["changes"]]
    assert (before["phase"], after["phase"]) == changed["phase"]
    assert (before["attempt"], after["attempt"]) == changed["attempt"]
    assert ["rita"] == changed["authorisation"][1]["approvers"]
    assert not {"version", "updated_at", "title", "budget"} & changed.keys()
    history = (await desk.show(f"/api/tasks/{task_id}/events"))["items"][before["version"] :]
    names = ("version", "type", "at", "actor", "reason")
    assert [{name: event[name] for name in names} for event in history] == found["events"]
    assert {"plan.voted": "rita", "attempt.offered": "system"}.items() <= {
        e["type"]: e["actor"] for e in found["events"]
    }.items()


async def test_a_difference_can_be_read_backwards(desk: Desk) -> None:
    """From the later to the earlier version before and after change places, and a version equals itself."""
    task_id = await desk.planned()
    last = (await desk.show(f"/api/tasks/{task_id}"))["version"]
    path = f"/api/tasks/{task_id}/versions"
    forth, back = await desk.show(f"{path}/1..{last}"), await desk.show(f"{path}/{last}..1")
    assert (last, 1) == (back["from"], back["to"])
    assert forth["events"] == back["events"]
    assert [(c["field"], c["before"], c["after"]) for c in forth["changes"]] == [
        (c["field"], c["after"], c["before"]) for c in back["changes"]
    ]
    assert {"from": last, "to": last, "changes": [], "events": []} == await desk.show(
        f"{path}/{last}..{last}"
    )


async def test_why_names_what_is_next_who_decided_and_what_was_refused(desk: Desk) -> None:
    """The answer holds the wait as the task shows it, the verdict, the latest event, and each refusal with its line."""
    task_id = await desk.planned()
    done = await desk.direct(task_id, "/status", as_="rita")
    await desk.direct(task_id, "/cancel", as_="rita")
    refused = await desk.direct(task_id, "/approve", as_="rita")
    assert ("done", "refused") == (done["outcome"], refused["outcome"])
    task = await desk.show(f"/api/tasks/{task_id}")
    found = await desk.show(f"/api/tasks/{task_id}/why")
    assert {"decision", "rules", "reasons", "bundle"} == found["decided_by"].keys()
    for mine, theirs in (("phase", "phase"), ("waiting_for", "waiting_for"), ("decided_by", "verdict")):
        assert task[theirs] == found[mine]
    assert ([], []) == (found["holds"], found["blocked_by"])
    assert (task["version"], "plan.submitted", "coder") == tuple(
        found["last"][name] for name in ("version", "type", "actor")
    )
    assert ["/approve", "/cancel"] == [r["what"] for r in found["refusals"]]
    latest = found["refusals"][0]
    assert ("rita", refused["rule"], refused["message"], refused["paste"]) == tuple(
        latest[name] for name in ("actor", "rule", "message", "paste")
    )
    assert task["plan"]["digest"][7:15] in latest["paste"]


async def test_a_new_task_was_decided_by_nobody(desk: Desk) -> None:
    """Before policy's verdict there is none, and what is next is just that."""
    body = {"title": "T", "goal": "G"}
    task_id = (await desk.post("/api/tasks", body, "olga")).json()["id"]
    first = await desk.show(f"/api/tasks/{task_id}", params={"at": 1})
    assert (None, "policy's verdict") == (first["verdict"], first["waiting_for"]["what"])


async def test_attempts_and_reviews_are_told_from_the_events(desk: Desk) -> None:
    """Both attempts with brief and times, and the plan and result with the votes in the voters' words."""
    task_id = await desk.planned()
    await desk.approve(task_id)
    digest = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"]
    await desk.submit("result", task_id, await desk.ack(task_id), attempt=2)
    events = (await desk.show(f"/api/tasks/{task_id}/events"))["items"]
    when = {event["type"]: event["at"] for event in events}
    first, second = (await desk.show(f"/api/tasks/{task_id}/attempts"))["items"]
    offered = [event for event in events if event["type"] == "attempt.offered"]
    assert {
        "number": 1,
        "executor": "coder",
        "step": "plan",
        "state": "submitted",
        "brief_digest": offered[0]["data"]["brief_digest"],
        "offered_at": offered[0]["at"],
        "closed_at": when["plan.submitted"],
        "tools": [],
    } == first
    assert (2, "execute", "submitted", offered[1]["at"], when["result.submitted"]) == tuple(
        second[name] for name in ("number", "step", "state", "offered_at", "closed_at")
    )
    plan, result = (await desk.show(f"/api/tasks/{task_id}/reviews"))["items"]
    assert ("plan", 1, digest, "approved") == tuple(
        plan[name] for name in ("subject", "version", "digest", "state")
    )
    (vote,) = plan["votes"]
    assert ("rita", "approve", when["plan.voted"]) == (vote["voter"], vote["vote"], vote["at"])
    assert vote["words"].startswith("/approve v1@")
    assert ("result", 1, "approved", []) == tuple(
        result[name] for name in ("subject", "version", "state", "votes")
    )


async def test_a_long_history_is_read_in_pages(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand events are folded page by page and only as far as asked, with the same answer as the task itself."""
    await desk.executor()
    task_id = await desk.task()
    await desk.ack(task_id)
    task = (await desk.backend.log.load(task_id)).task
    assert task is not None
    booked = [UsageBooked(attempt=1, usage=Usage(input_tokens=1), model=None)] * 2500
    for _ in range(4):
        after = fold(booked, task)
        assert after is not None
        change = TaskChange(before=task, after=after, events=booked)
        await desk.backend.log.append(Batch(envelope=Envelope(actor="coder", at=now()), changes=[change]))
        task = after
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert shown == await desk.show(f"/api/tasks/{task_id}", params={"at": shown["version"]})
    assert 1 == len((await desk.show(f"/api/tasks/{task_id}/attempts"))["items"])
    halfway = await desk.show(f"/api/tasks/{task_id}", params={"at": task.version - 5000})
    assert 5000 == halfway["budget"]["spent"]["tokens"]
    found = await desk.show(f"/api/tasks/{task_id}/versions/{task.version - 10}..{task.version}")
    assert (["budget"], 10) == ([c["field"] for c in found["changes"]], len(found["events"]))
    sizes = [len([m async for m in desk.backend.log.replay(task_id, until)]) for until in (0, 3, 1000, 1001)]
    assert [0, 3, 1000, 1001] == sizes


@pytest.fixture
def command(desk: Desk, command_line: Callable[[Desk], Command]) -> Command:
    """Run `task` with a verb against the desk; give its exit code and all that it printed."""
    return partial(command_line(desk), "task")


async def test_show_at_prints_the_task_as_it_was(desk: Desk, command: Command) -> None:
    """`task show --at` takes a version or a time, and a refusal is exit code 3 with its words."""
    task_id = await desk.planned()
    code, text = await command("show", task_id, "--at", 1)
    assert (0, True) == (code, "version 1" in text and "received" in text)
    code, text = await command("show", task_id, "--at", "9999-01-01T00:00:00+00:00", "--json")
    assert (0, await desk.show(f"/api/tasks/{task_id}")) == (code, json.loads(text))
    code, text = await command("show", task_id, "--at", 99)
    assert (3, True) == (code, "no version 99" in text)


async def test_diff_prints_fields_and_events(desk: Desk, command: Command) -> None:
    """`task diff` prints both tables for people, the document for programs, and says when nothing differs."""
    task_id = await desk.planned()
    code, text = await command("diff", task_id, 1, 2)
    assert 0 == code
    assert ["FIELD", "VERSION", "1", "VERSION", "2"] == text.splitlines()[0].split()
    assert any(line.split() == ["phase", "received", "ready"] for line in text.splitlines())
    assert "task.allowed" in text
    code, text = await command("diff", task_id, 2, 1, "--json")
    assert await desk.show(f"/api/tasks/{task_id}/versions/2..1") == json.loads(text)
    assert (0, "No field differs.\n") == await command("diff", task_id, 2, 2)
    code, text = await command("diff", task_id, 1, 99)
    assert (3, True) == (code, "no version 99" in text)


async def test_why_prints_the_answer_and_the_refusals(desk: Desk, command: Command) -> None:
    """`task why` names the next step, the deciding rule and, once something was refused, the line to write instead."""
    task_id = await desk.planned()
    code, text = await command("why", task_id)
    assert 0 == code
    assert "plan_review" in text
    assert "1 approval(s) of plan version 1" in text
    assert "REFUSED AT" not in text
    refused = await desk.direct(task_id, "/approve", as_="rita")
    code, text = await command("why", task_id)
    assert refused["paste"] in text.split("REFUSED AT")[1]
    code, text = await command("why", task_id, "--json")
    assert await desk.show(f"/api/tasks/{task_id}/why") == json.loads(text)
    await desk.direct(task_id, "/cancel")
    code, text = await command("why", task_id)
    assert "nothing: it has ended" in text


async def test_why_names_what_a_task_waits_for_and_who_holds_it(desk: Desk, command: Command) -> None:
    """The task in the way and then the hold are named over the API and for people, and each also of the past."""
    blocker = await desk.task()
    task_id = await desk.task(depends_on=[blocker])
    assert [blocker] == (await desk.show(f"/api/tasks/{task_id}/why"))["blocked_by"]
    assert f"blocked by  {blocker}" in (await command("why", task_id))[1]
    await desk.direct(task_id, "/hold until the freeze is over", as_="olga")
    held = await desk.show(f"/api/tasks/{task_id}")
    found = await desk.show(f"/api/tasks/{task_id}/why")
    assert (held["holds"], ["olga"]) == (found["holds"], [hold["by"] for hold in found["holds"]])
    assert "until the freeze is over (olga)" in (await command("why", task_id))[1]
    await desk.direct(task_id, "/unhold", as_="olga")
    assert [] == (await desk.show(f"/api/tasks/{task_id}/why"))["holds"]
    assert held == await desk.show(f"/api/tasks/{task_id}", params={"at": held["version"]})

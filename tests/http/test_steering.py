"""Questions, checkpoints, hand-offs, holds and late results, as executors and operators meet them over HTTP."""

from typing import Any

from tests.desk import BODIES, Desk, assert_problem, bearer, callback, token

QUESTION = BODIES["escalation"]


async def brief_of(desk: Desk, task_id: str, credential: str = token("coder")) -> dict[str, Any]:
    """Read the brief on offer."""
    answer = await desk.client.get(f"/api/tasks/{task_id}/brief", headers=bearer(credential))
    assert 200 == answer.status_code, answer.text
    return dict(answer.json()["brief"])


async def test_a_question_stops_the_work_until_somebody_answers(desk: Desk):
    """The question is told with the line that answers it; the answer opens attempt 2, whose brief carries it."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    asked = await desk.submit("escalation", task_id, attempt_token, 1, 2)
    assert ("input_required", "stop") == (asked["phase"], asked["directive"])

    shown = await desk.show(f"/api/tasks/{task_id}")
    assert "/answer q1 three|five" in shown["waiting_for"]["what"]
    assert ("q1", QUESTION["question"]) == (shown["questions"][0]["id"], shown["questions"][0]["question"])
    late = await desk.send(callback("heartbeat", task_id, 1, 3), attempt_token)
    assert_problem(late, 409, "wrong_phase")

    wrong = await desk.direct(task_id, "/answer q1 seven", "olga")
    assert ("refused", "/answer q1 three|five") == (wrong["outcome"], wrong["paste"])
    not_hers = await desk.direct(task_id, "/answer q1 three", "rita")
    assert "refused" == not_hers["outcome"]
    assert "done" == (await desk.direct(task_id, "/answer q1\nthree", "olga"))["outcome"]

    (answer,) = (await brief_of(desk, task_id))["answers"]
    assert ("q1", "three", "olga", False) == (
        answer["id"],
        answer["option"],
        answer["by"],
        answer["defaulted"],
    )
    assert [] == (await desk.show(f"/api/tasks/{task_id}"))["questions"]
    await desk.submit("result", task_id, await desk.ack(task_id), 2, 2, evidence=[], artifacts=[])
    assert await desk.phase(task_id) in ("completed", "result_review")


async def test_the_last_checkpoint_and_session_are_given_to_the_next_attempt(desk: Desk):
    """What an executor saved before it failed is in the next brief as `resume`; before, there is nothing."""
    await desk.executor()
    task_id = await desk.task()
    assert (await brief_of(desk, task_id))["resume"] is None
    attempt_token = await desk.ack(task_id)
    for seq, note in ((2, "first"), (3, "second")):
        saved = callback("checkpoint", task_id, 1, seq, {"note": note, "state": {"seq": seq}})
        assert 202 == (await desk.send(saved, attempt_token)).status_code
    await desk.submit("failure", task_id, attempt_token, 1, 4, **{"class": "tool", "retryable": True})
    await desk.direct(task_id, "/retry", "olga")

    resume = (await brief_of(desk, task_id))["resume"]
    assert {"note": "second", "state": {"seq": 3}} == resume["checkpoint"]


async def test_a_hand_off_reaches_the_role_that_it_is_for(desk: Desk):
    """Structured data for a role is in the brief of the next executor of that role, and of no other."""
    await desk.executor()
    qa = await desk.executor("tester", "qa")
    task_id = await desk.task(assignee="coder")
    attempt_token = await desk.ack(task_id)
    assert 202 == (await desk.send(callback("handoff", task_id, 1, 2), attempt_token)).status_code

    await desk.direct(task_id, "/reassign @tester", "olga")
    (handoff,) = (await brief_of(desk, task_id, qa))["handoffs"]
    assert ("qa", BODIES["handoff"]["payload"]) == (handoff["to_role"], handoff["payload"])

    await desk.direct(task_id, "/reassign @coder", "olga")
    assert [] == (await brief_of(desk, task_id))["handoffs"]


async def test_a_hold_keeps_the_task_from_being_offered(desk: Desk):
    """While a hold stands nothing is offered; an executor at work is told with its next answer."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    assert "done" == (await desk.direct(task_id, "/hold Release week.", "olga"))["outcome"]

    beat = await desk.send(callback("heartbeat", task_id, 1, 2), attempt_token)
    assert "hold" == beat.json()["directive"]
    assert [{"reason": "Release week.", "by": "olga"}] == (await desk.show(f"/api/tasks/{task_id}"))["holds"]

    await desk.direct(task_id, "/reassign @coder", "olga")
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("ready", True) == (shown["phase"], "/unhold" in shown["waiting_for"]["what"])
    await desk.direct(task_id, "/unhold", "olga")
    assert "dispatched" == await desk.phase(task_id)


async def test_a_late_result_is_adopted_by_an_operator_with_a_reason(desk: Desk):
    """A result after the lease is kept aside and listed; adopted with a reason, it is the task's result."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    await desk.direct(task_id, "/reassign @coder", "olga")
    late = await desk.send(callback("result", task_id, 1, 2), attempt_token)
    assert_problem(late, 409, "attempt_superseded")
    (kept,) = (await desk.show("/api/quarantine", "olga"))["items"]

    bare = await desk.direct(task_id, f"/adopt {kept['id']}", "olga")
    assert ("refused", True) == (bare["outcome"], bare["paste"].startswith(f"/adopt {kept['id']} "))
    assert "refused" == (await desk.direct(task_id, f"/adopt {kept['id']} It is good.", "rita"))["outcome"]
    done = await desk.direct(task_id, f"/adopt {kept['id']} The work is good.", "olga")

    assert "done" == done["outcome"], done
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert shown["result"]["version"] == 1
    assert shown["phase"] in ("completed", "result_review")
    assert [] == (await desk.show("/api/quarantine", "olga"))["items"]
    await desk.backend.rebuild()
    assert [] == (await desk.show("/api/quarantine", "olga"))["items"]
    kinds = await desk.events(task_id)
    assert (
        kinds.index("callback.quarantined")
        < kinds.index("quarantine.adopted")
        < kinds.index("result.submitted")
    )
    again = await desk.direct(task_id, f"/adopt {kept['id']} The work is good.", "olga")
    assert again["outcome"] in ("done", "refused")
    assert kinds == await desk.events(task_id)
    assert "refused" == (await desk.direct(task_id, "/adopt nothing because", "olga"))["outcome"]


async def test_help_names_the_lines_that_fit_now(desk: Desk):
    """With a question open, /help lists how to answer it."""
    await desk.executor()
    task_id = await desk.task()
    await desk.submit("escalation", task_id, await desk.ack(task_id), 1, 2)

    lines = (await desk.direct(task_id, "/help", "olga"))["message"]

    assert "/answer q1 three|five" in lines
    assert "/hold" in lines


async def test_an_attempt_over_its_budget_is_told_to_stop(desk: Desk):
    """The answer that passes the limit says stop, what comes after is 402, and a result is still taken."""
    await desk.executor()
    task_id = await desk.task(budget={"tokens": 10})
    attempt_token = await desk.ack(task_id)
    spent = {"input_tokens": 11, "output_tokens": 0}

    over = await desk.send(callback("heartbeat", task_id, 1, 2, usage=spent), attempt_token)
    assert ("stop", 0) == (over.json()["directive"], over.json()["budget_left"]["tokens"])
    refused = await desk.send(callback("heartbeat", task_id, 1, 3), attempt_token)
    assert "result" in assert_problem(refused, 402, "budget_exceeded")["next"]
    await desk.submit("result", task_id, attempt_token, 1, 3)


COUNT = {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer"}}}


async def test_an_output_must_fit_what_the_task_declares(desk: Desk):
    """The schema is in the brief; an output that does not fit is refused with its pointer, and the attempt goes on."""
    await desk.executor()
    task_id = await desk.task(output_schema=COUNT)
    assert COUNT == (await brief_of(desk, task_id))["output_schema"]
    attempt_token = await desk.ack(task_id)

    for output, pointer in (({"count": "many"}, "/body/output/count"), (None, "/body/output")):
        body = {k: v for k, v in BODIES["result"].items() if k != "output"} | (
            {"output": output} if output else {}
        )
        refused = await desk.send(callback("result", task_id, 1, 2, body), attempt_token)
        assert_problem(refused, 422, "output_invalid", pointer)
    await desk.submit("result", task_id, attempt_token, 1, 2, output={"count": 3})

    wrong = await desk.post(
        "/api/tasks", {"title": "T", "goal": "G", "output_schema": {"type": "objekt"}}, "olga"
    )
    assert_problem(wrong, 422, "schema_invalid", "/output_schema")

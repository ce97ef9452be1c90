"""What `agentic-os contract check` says of the golden transcripts is what the server answers when they are played."""

import json
import re

import pytest
from tests.desk import Desk, token

from agentic_os.contracts.transcript import check, golden_transcripts

GOLDEN = {name: raw for name, raw in golden_transcripts().items() if name != "review.jsonl"}
"""All but the attempt of a reviewer, which comes after a plan; test_agent_reviews plays it."""

_DIGEST = re.compile(r'("brief_digest": ")sha256:[0-9a-f]{64}')


async def _offered(desk: Desk, raw: bytes, attempt: int) -> str:
    """Ask for a task that has such an attempt on offer."""
    if attempt > 1:
        task_id = await desk.planned(assignee="coder")
        await desk.approve(task_id)
        return task_id
    await desk.executor()
    mode = "plan_first" if b'"kind": "plan"' in raw else "direct"
    return await desk.task(mode=mode, assignee="coder")


@pytest.mark.parametrize("name", GOLDEN)
async def test_the_server_answers_as_the_checker_says(desk: Desk, name: str) -> None:
    """Line by line, what is in order is accepted, and what is not is refused with the code of its fault."""
    raw = GOLDEN[name]
    first = json.loads(raw.splitlines()[0])
    task_id = await _offered(desk, raw, first["attempt"])
    offer = await desk.show(f"/api/tasks/{task_id}/brief")
    text = _DIGEST.sub(rf"\g<1>{offer['digest']}", raw.decode().replace(first["task_id"], task_id))
    expected = {fault.line: fault.code for fault in check(text.encode(), transcript=True).faults}
    credential = token("coder")
    attempt_token = ""
    answered = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        own = '"kind": "ack"' in line or '"kind": "decline"' in line
        answer = await desk.send(line.encode(), credential if own else attempt_token or credential)
        if answer.status_code != 202:
            answered[number] = answer.json()["code"]
            if not attempt_token and number < len(lines):
                # The checker tells a missing ack once, and goes on as if it had been there.
                attempt_token = await desk.ack(task_id)
        attempt_token = answer.json().get("attempt_token", attempt_token)
    assert expected == answered

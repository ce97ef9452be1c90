"""The test wake: a task that only shows that an agent is woken, reads its brief and acknowledges it."""

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Final

from agentic_os.cli.client import Client, ServerRefused
from agentic_os.clock import elapsed

PATIENCE: Final = 90.0
_LOOK: Final = 0.1
_OVER: Final = ("rejected", "failed", "dead_letter", "cancelled", "completed", "input_required", "retry_wait")
_UNFORTUNATE: Final = (
    "run.ended",
    "attempt.expired",
    "attempt.declined",
    "attempt.failed",
    "attempt.superseded",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a test wake ended. log: the end of what the agent's run wrote, where it failed."""

    passed: bool
    task: str
    said: str
    seconds: float
    log: str = ""


def try_wake(client: Client, executor: str, project: str, word: str) -> Trial:
    """Have an executor woken for a task with this word, which its launcher acknowledges without calling a model.

    The task is cancelled in any case, and stays as one closed issue. Raises ServerRefused, ServerUnavailable.
    """
    began = elapsed()
    task = client.post("/api/tasks", _task(executor, project, word))
    try:
        passed, said, log = _watch(client, task["id"], executor, began + PATIENCE)
    finally:
        with contextlib.suppress(ServerRefused):  # it may have ended by itself
            client.post(f"/api/tasks/{task['id']}/directives", {"text": "/cancel The test wake is over."})
    return Trial(passed=passed, task=task["id"], said=said, seconds=round(elapsed() - began, 1), log=log)


def _task(executor: str, project: str, word: str) -> dict[str, Any]:
    return {
        "title": f"Test wake of {executor} ({word})",
        "goal": f"Show that {executor} is woken, reads its brief, and acknowledges it. No model is called.",
        "project": project,
        "mode": "direct",
        "assignee": executor,
        "labels": ["test-wake"],
        "acceptance": [{"id": "acknowledged", "text": "The brief is acknowledged with the real credential."}],
    }


def _watch(client: Client, task_id: str, executor: str, until: float) -> tuple[bool, str, str]:
    """Wait for the acknowledgement; else say what came in its place, and how the run's log ends."""
    while True:
        events = client.get(f"/api/tasks/{task_id}/events", limit=500)["items"]
        types = [event["type"] for event in events]
        if "attempt.acked" in types:
            return True, f"{executor} was woken and acknowledged its brief", ""
        task = client.get(f"/api/tasks/{task_id}")
        bad = [event for event in events if event["type"] in _UNFORTUNATE]
        if bad or task["phase"] in _OVER:
            return False, _why(task, bad), _log(events)
        if elapsed() > until:
            return False, f"nothing was heard within {PATIENCE:g} s; {_why(task, bad)}", ""
        time.sleep(_LOOK)


def _why(task: dict[str, Any], bad: list[dict[str, Any]]) -> str:
    if bad:
        return f"{bad[0]['type']}: {bad[0]['reason'] or bad[0]['data'].get('what') or 'see the log'}"
    waiting = task["waiting_for"]
    rules = ", ".join((task["verdict"] or {}).get("rules", ()))
    told = f"the task is {task['phase']}" + (f", by {rules}" if task["phase"] == "rejected" and rules else "")
    return told + (f", and waits for {waiting['owner']}: {waiting['what']}" if waiting else "")


def _log(events: list[dict[str, Any]]) -> str:
    told = [event["data"].get("detail") or event["data"].get("message") for event in events]
    return next((str(text) for text in reversed(told) if text), "")

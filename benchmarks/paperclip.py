"""Measure the backend on a real Paperclip: a plan to its card, an accepted card to the wake, and 200 tasks at once.

    .venv/bin/python benchmarks/paperclip.py [--tasks N] [--rounds N] [--json]

Paperclip, `agentic-os up` and an agent behind a hook, on loopback. Paperclip is installed into .paperclip when it is
missing (1.6 GB). plan -> card: from the backend's answer to the plan until Paperclip answers with the pending card.
accept -> woken: from Paperclip's answer to the acceptance until the agent's hook is called. Writes are counted in
Paperclip's own log: whatever is no GET, while only the backend writes. The limit lines are of the same run: an issue
that is created through the API, and an agent that is assigned by hand, until its hook is called.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.adapters.paperclip.conftest import free_port, install_folder
from tests.adapters.paperclip.paperclip_company import Company, Hooks, People
from tests.adapters.paperclip.paperclip_stage import HookAgent, Stage, staged, until

from agentic_os.bench.rows import machine, median, percentile
from agentic_os_paperclip.server import PaperclipServer, install

_LOOK_SECONDS = 0.01
_IDLE_SECONDS = 60.0
_BETWEEN_SECONDS = 2.0
_WRITE = re.compile(
    r"(POST|PUT|PATCH|DELETE) /issues\b|(POST|PUT|PATCH) /companies/[^/ ]+/issues\b|POST / 201"
)


def main() -> int:
    """Print a table; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    installed = install(install_folder(), print)
    data = Path(tempfile.mkdtemp(prefix="aos-paperclip-"))
    data.chmod(0o755)
    try:
        rows = on_a_server(installed, data, options)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    for row in rows:
        limit = f"   limit {row['limit']:.3g}" if row["limit"] is not None else ""
        verdict = "" if row["ok"] is None else "ok" if row["ok"] else "MISSED"
        print(
            f"{row['name']:44} {row['value']:>10.4g} {row['unit']:8} target {row['target']:10} {verdict}{limit}"
        )
    if options.json:
        print(json.dumps({"machine": machine(), "rows": rows}))
    return 0 if all(row["ok"] is not False for row in rows) else 1


def on_a_server(installed: Path, data: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run Paperclip, the backend and an agent, and measure."""
    with Hooks() as hooks, PaperclipServer(installed, data, free_port(), hooks=[hooks.origin]) as server:
        people = People(server.url)
        with staged(Company(server, people, hooks)) as stage:
            agent = HookAgent(stage, "hook")
            rows = measure(stage, agent, options.rounds, options.tasks)
            agent.close()
        people.close()
    return rows


def measure(stage: Stage, agent: HookAgent, rounds: int, tasks: int) -> list[dict[str, Any]]:
    """Measure each row."""
    created, by_hand = limits(stage, rounds)
    cards, wakes = gates(stage, agent, rounds)
    idle = requests(stage, _IDLE_SECONDS)
    rows = [
        _row("plan -> card, p50", median(cards), unit="s", limit=created),
        _row("plan -> card, p95", percentile(cards, 0.95), unit="s", most=1.0),
        _row("accept -> woken, p50", median(wakes), unit="s", limit=by_hand),
        _row("accept -> woken, p95", percentile(wakes, 0.95), unit="s", most=2.0),
        _row("requests while idle, in 10 s", idle / (_IDLE_SECONDS / 10), most=1),
    ]
    return rows + many(stage, agent, tasks)


def limits(stage: Stage, rounds: int) -> tuple[float, float]:
    """Measure what Paperclip itself takes: to create an issue, and to wake an agent that somebody assigns."""
    admin, company = stage.company.admin, stage.company.id
    called: list[tuple[str, float]] = []
    stage.company.hooks.heard.append(
        lambda body: called.append((body["context"]["issueId"], time.monotonic()))
    )
    other = admin.agent(
        company, "other", "http", {"url": f"{stage.company.hooks.origin}/other", "method": "POST"}
    )
    creating, waking = [], []
    for number in range(rounds):
        began = time.monotonic()
        document = {"title": f"limit {number}", "status": "todo", "allowDuplicate": True}
        key = admin.ask("POST", f"/companies/{company}/issues", document)["id"]
        creating.append(time.monotonic() - began)
        admin.ask("PATCH", f"/issues/{key}", {"assigneeAgentId": other})
        assigned = time.monotonic()
        waking.append(_soon(lambda key=key: next((at for k, at in called if k == key), None)) - assigned)
        admin.ask("PATCH", f"/issues/{key}", {"status": "done"})
    stage.company.hooks.heard.pop()
    return median(creating), median(waking)


def gates(stage: Stage, agent: HookAgent, rounds: int) -> tuple[list[float], list[float]]:
    """Bring tasks one by one to their gate and through it."""
    cards, wakes = [], []
    for number in range(rounds):
        task_id = _task(stage, f"gate-{number}", mode="plan_first")
        submitted = _soon(lambda task_id=task_id: agent.submitted.get((task_id, 1)))
        key = _soon(lambda task_id=task_id: (stage.show(task_id)["issue"] or {}).get("key"))
        card = _soon(lambda key=key: _pending(stage, key))
        cards.append(time.monotonic() - submitted)
        until(lambda key=key: stage.issue(key)["assigneeAgentId"] is None, "nobody is assigned")
        stage.accept(key, card)
        accepted = time.monotonic()
        woken = _soon(
            lambda task_id=task_id: next((at for t, n, at in agent.woken if (t, n) == (task_id, 2)), None)
        )
        wakes.append(woken - accepted)
        stage.phase(task_id, "completed")
    return cards, wakes


def requests(stage: Stage, seconds: float) -> int:
    """Count the requests that Paperclip gets while nothing happens."""
    stage.company.wait_until_quiet()
    time.sleep(5)
    before = len(_log(stage))
    time.sleep(seconds)
    return sum("INFO" in line and "GET /" in line for line in _log(stage)[before:])


def many(stage: Stage, agent: HookAgent, tasks: int) -> list[dict[str, Any]]:
    """Ask for many tasks at once, and look at what became of each."""
    before, woken = len(_log(stage)), len(agent.woken)
    began = time.monotonic()
    made = [_task(stage, f"many-{number}", mode="direct") for number in range(tasks)]
    while (done := _all_closed(stage, made)) is None:
        time.sleep(_BETWEEN_SECONDS)  # a list of all issues is work for Paperclip, too
    seconds = time.monotonic() - began
    stage.company.wait_until_quiet()
    wakes = [(task, attempt) for task, attempt, _ in agent.woken[woken:]]
    writes = sum(bool(_WRITE.search(line)) for line in _log(stage)[before:])
    lost, doubled = tasks - len(done), len(done) - len(set(done.values()))
    return [
        _row(f"{tasks} tasks, lost", lost, most=0),
        _row(f"{tasks} tasks, issues doubled", doubled, most=0),
        _row(f"{tasks} tasks, wakes beyond one each", len(wakes) - tasks, most=0),
        _row(f"{tasks} tasks, writes an issue", writes / tasks, most=6),
        _row(f"{tasks} tasks, whole time", seconds, unit="s"),
    ]


def _all_closed(stage: Stage, made: Sequence[str]) -> dict[str, str] | None:
    """Find the issue of each task, once all are done on Paperclip."""
    path = f"/companies/{stage.company.id}/issues?status=done&limit=1000"
    closed = {}
    for issue in stage.company.admin.ask("GET", path):
        task = (issue["billingCode"] or "").removeprefix("agentic-os:").partition(":")[0]
        if task in made:
            closed[issue["id"]] = task
    return closed if set(closed.values()) == set(made) else None


def _task(stage: Stage, name: str, *, mode: str) -> str:
    document = {"title": name, "goal": "All.", "project": "default", "assignee": "hook", "mode": mode}
    if mode == "direct":
        document["labels"] = ["direct"]  # type: ignore[assignment]
    with stage.client as client:
        headers = {"idempotency-key": name}
        return str(client.post("/api/tasks", json=document, headers=headers).raise_for_status().json()["id"])


def _pending(stage: Stage, key: str) -> str | None:
    found = stage.company.admin.ask("GET", f"/issues/{key}/interactions")
    return next((str(each["id"]) for each in found if each["status"] == "pending"), None)


def _log(stage: Stage) -> list[str]:
    return stage.company.server.log.read_text(encoding="utf-8", errors="replace").splitlines()


def _soon(found: Callable[[], Any]) -> Any:
    while (value := found()) is None:
        time.sleep(_LOOK_SECONDS)
    return value


def _row(
    name: str, value: float, *, unit: str = "", most: float | None = None, limit: float | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "limit": limit,
        "ratio": round(value / limit, 3) if limit else None,
        "target": "" if most is None else f"<= {most:g} {unit}".strip(),
        "ok": None if most is None else value <= most,
    }


if __name__ == "__main__":
    sys.exit(main())

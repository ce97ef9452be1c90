#!/usr/bin/env python3
"""Read the brief of the issue for which Paperclip woke you, and start work on it."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import environment, run_script
    from agentic_os_contract import BRIEF, CREDENTIAL, REFUSED, USAGE, Stop
    from agentic_os_tracker import Tracker, begin, holds_brief, make_parser, no_brief
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Start work on one issue; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--issue", help="the issue's id or identifier (default: the one of this run)")
    args = parser.parse_args()
    url, key = environment("PAPERCLIP_API_URL"), environment("PAPERCLIP_API_KEY")
    if not url:
        raise Stop(USAGE, "PAPERCLIP_API_URL is not set: Paperclip did not start this run.")
    if not key:
        raise Stop(CREDENTIAL, "PAPERCLIP_API_KEY is not set: this run has no key for Paperclip.")
    # Paperclip hands out its own address with its own key, so a plain one is as it wants it.
    tracker = Tracker("Paperclip", url, key, plain=True, retry_delay=args.retry_delay)
    given = args.issue or environment("PAPERCLIP_TASK_ID")
    named = [given] if given else issues_of_run(tracker)
    if not named:
        raise Stop(BRIEF, "Paperclip has no issue for this run. Stop; you are woken when there is one.")
    found = [(issue, *fetch(tracker, issue)) for issue in named]
    briefs = [each for each in found if holds_brief(each[2])]
    if not briefs:
        raise no_brief(", ".join(name for _, name, _ in found))
    if len(briefs) > 1:
        names = ", ".join(name for _, name, _ in briefs)
        raise Stop(BRIEF, f"Several issues of this run hold a brief ({names}): name one with --issue.")
    issue, name, text = briefs[0]
    code = begin(args, name, text)
    if code == 0:
        say_seen(tracker, issue)
    return code


def say_seen(tracker: Tracker, issue: str) -> None:
    """Leave a comment of this run on its issue: Paperclip wakes an agent again whose run left none."""
    run = environment("PAPERCLIP_RUN_ID")
    if run:
        document = {"body": "Seen. agentic-os shows here what comes of it."}
        tracker.tell(f"/api/issues/{quote(issue, safe='')}/comments", document, {"X-Paperclip-Run-Id": run})


def issues_of_run(tracker: Tracker) -> list[str]:
    """List the issues of this run, or, where it has none, those in the agent's inbox."""
    run = environment("PAPERCLIP_RUN_ID")
    of_run = (
        [row["issueId"] for row in listed(tracker, f"/api/heartbeat-runs/{quote(run, safe='')}/issues")]
        if run
        else []
    )
    return of_run or [row["id"] for row in listed(tracker, "/api/agents/me/inbox-lite")]


def listed(tracker: Tracker, path: str) -> list[dict[str, str]]:
    """Read one of Paperclip's lists."""
    rows = tracker.get(path) or []
    if not isinstance(rows, list):
        raise Stop(REFUSED, f"Paperclip answered {path} with something else than a list.")
    return rows


def fetch(tracker: Tracker, issue: str) -> tuple[str, str]:
    """Read one issue: its name for people, and its text."""
    document = tracker.get(f"/api/issues/{quote(issue, safe='')}")
    if not isinstance(document, dict):
        raise Stop(REFUSED, f"Paperclip has no issue {issue} for this agent.")
    return str(document.get("identifier") or issue), str(document.get("description") or "")


if __name__ == "__main__":
    run_script(main)

"""What Paperclip woke us for: the issue of its run that holds a brief."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from agentic_os.cli.client import Client, ServerRefused, ServerUnavailable

_BRIEF: Final = re.compile(r"<!-- agentic-os:brief v1 task=(?P<task>\S+) attempt=(?P<attempt>\d+) ")


class NoBrief(Exception):
    """Paperclip names no issue with a brief, or more than one; the message says which."""


def woken_by_paperclip(given: Mapping[str, str]) -> bool:
    """Tell whether Paperclip started this process."""
    return all(given.get(name) for name in ("PAPERCLIP_API_URL", "PAPERCLIP_API_KEY", "PAPERCLIP_RUN_ID"))


def find_brief(given: Mapping[str, str]) -> tuple[str, str, str]:
    """Find task, attempt, and the text of the issue of this run, and say there that it began. Raises NoBrief."""
    client = Client(given["PAPERCLIP_API_URL"].rstrip("/"), given["PAPERCLIP_API_KEY"])
    try:
        named = [given["PAPERCLIP_TASK_ID"]] if given.get("PAPERCLIP_TASK_ID") else _issues(client, given)
        texts = {name: _text(client, name) for name in named}
    except (ServerRefused, ServerUnavailable) as problem:
        told = str(problem).partition("\n")[0]
        raise NoBrief(f"Paperclip does not say what it woke us for: {told}") from problem
    briefs = [(found, issue) for issue, text in texts.items() if (found := _BRIEF.search(text))]
    if len(briefs) != 1:
        seen = ", ".join(texts) or "none"
        raise NoBrief(f"of the issues of this run ({seen}), {len(briefs)} hold a brief, where one should")
    found, issue = briefs[0]
    _say_started(client, issue, given["PAPERCLIP_RUN_ID"])
    return found["task"], found["attempt"], texts[issue]


def _say_started(client: Client, issue: str, run: str) -> None:
    """Leave a comment of this run: Paperclip wakes an agent again whose run left none."""
    document = {"body": "Started. agentic-os shows plan and result here."}
    try:
        client.post(
            f"/api/issues/{quote(issue, safe='')}/comments", document, headers={"X-Paperclip-Run-Id": run}
        )
    except (ServerRefused, ServerUnavailable) as problem:
        print(
            f"agentic-os: Paperclip did not take a comment: {str(problem).partition(chr(10))[0]}", flush=True
        )


def _issues(client: Client, given: Mapping[str, str]) -> list[str]:
    run = quote(given["PAPERCLIP_RUN_ID"], safe="")
    rows: list[dict[str, Any]] = client.get(f"/api/heartbeat-runs/{run}/issues") or []
    if rows:
        return [str(row["issueId"]) for row in rows]
    # A run may begin before its issue is noted with it.
    return [str(row["id"]) for row in client.get("/api/agents/me/inbox-lite") or []]


def _text(client: Client, issue: str) -> str:
    return str(client.get(f"/api/issues/{quote(issue, safe='')}").get("description") or "")

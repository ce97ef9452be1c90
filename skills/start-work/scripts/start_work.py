#!/usr/bin/env python3
"""Read the brief of a task, acknowledge it to the backend, and print what to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).parent))

from agentic_os_attempt import (  # noqa: E402 - its folder is on the path only now
    Attempt,
    Backend,
    Problem,
    add_json,
    environment,
    explain,
    find_workspace,
    printable,
    read_credential,
    run_script,
    tell_directive,
)
from agentic_os_contract import (  # noqa: E402
    BRIEF,
    DRIFT,
    REFUSED,
    USAGE,
    Stop,
    brief_digest,
    check_brief,
    read_brief,
    skill_set_digest,
    workspace_skills,
)
from agentic_os_git import earlier_branches  # noqa: E402

NEXT = {
    "plan": "Write a plan and submit it with the skill submit-plan. Change nothing yet. Then stop and wait.",
    "execute": "Do the work within the paths and tools allowed, then submit it with the skill submit-result.",
    "review": "Judge the document under review, and submit your vote with the skill submit-review. Change nothing.",
}
EXIT_CODES = """exit codes: 0 started; 2 usage; 3 refused; 4 credential; 5 skills drifted; 6 backend unreachable;
8 this attempt is over; 9 message refused; 10 brief missing, changed or for another attempt"""


def main() -> int:
    """Acknowledge one brief; returns the exit code."""
    parser = add_source(__doc__)
    add_runtime(parser)
    args = parser.parse_args()
    return start(args, *take_brief(parser, args, args.url or environment("AGENTIC_OS_URL")))


def start(args: argparse.Namespace, brief: dict[str, Any], digest: str) -> int:
    """Acknowledge a brief that was checked against its digest; returns the exit code."""
    configured = args.url or environment("AGENTIC_OS_URL")
    workspace = find_workspace(args.workspace)
    backend = Backend(brief["callback_url"], configured=configured, retry_delay=args.retry_delay)
    skills = workspace_skills(workspace)
    attempt = Attempt(workspace, begin_state(workspace, brief, digest, configured))
    body = {
        "brief_digest": digest,
        "skillset_digest": skill_set_digest(skills),
        "runtime": {
            name: value
            for name, value in (
                # Whoever launched the client knows better than a model what it launched.
                ("name", environment("AGENTIC_OS_RUNTIME") or args.runtime),
                ("version", environment("AGENTIC_OS_RUNTIME_VERSION") or args.runtime_version),
                ("session", environment("AGENTIC_OS_SESSION") or args.session),
            )
            if value
        },
        "workspace": workspace.name or "/",
    }
    try:
        answer = attempt.send(
            backend, "ack", body, credential=args.credential or read_credential(args.credential_file)
        )
    except Stop as stop:
        raise with_differences(stop, skills) from stop.__cause__
    if not answer.get("attempt_token"):
        raise Stop(REFUSED, "The backend accepted, but gave no attempt token. Stop, and tell the operator.")
    attempt.state["token"] = answer["attempt_token"]
    attempt.save()
    print("\n".join(printable(line) for line in describe(brief)))
    if environment("AGENTIC_OS_BASE_COMMIT"):
        title = "Branches that earlier attempts left (git merge BRANCH, to go on from one)"
        left = section(title, earlier_branches(workspace, brief["task_id"]))
        print("\n".join(printable(line) for line in left))
    print(
        f"\nLease: until {printable(answer.get('lease_expires_at', 'unknown'))}; every accepted message renews it."
    )
    print(f"What to do next: {NEXT.get(brief['step'], printable(brief.get('next', '')))}")
    tell_directive(answer, expected="continue")
    return 0


def add_source(description: str | None) -> argparse.ArgumentParser:
    """Make the command line of what begins with a brief; a credential is never on it."""
    parser = argparse.ArgumentParser(
        description=description, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--brief", help="file that holds the issue's text (default: $AGENTIC_OS_BRIEF)")
    source.add_argument(
        "--from-backend", action="store_true", help="get the brief from the backend; needs --task"
    )
    parser.add_argument("--task", help="the task's id, for --from-backend")
    add_backend(parser)
    return parser


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add where the backend and the workspace are, and where the credential is read from."""
    parser.add_argument(
        "--credential-file", help="- for standard input (default: $AGENTIC_OS_CREDENTIAL_FILE)"
    )
    parser.add_argument("--url", help="the backend's address (default: $AGENTIC_OS_URL)")
    parser.add_argument(
        "--workspace", type=Path, help="the workspace's folder (default: found around this one)"
    )
    parser.add_argument("--retry-delay", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.set_defaults(credential=None)
    add_json(parser)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add what an agent says of itself."""
    parser.epilog = (
        f"AGENTIC_OS_RUNTIME, _RUNTIME_VERSION and _SESSION go before what is given.\n{EXIT_CODES}"
    )
    parser.add_argument("--runtime", default="unnamed", help="your name, such as claude-code")
    parser.add_argument("--runtime-version", help="your version")
    parser.add_argument("--session", help="your session's id, to be resumed by")


def take_brief(
    parser: argparse.ArgumentParser, args: argparse.Namespace, configured: str | None
) -> tuple[dict[str, Any], str]:
    """Read the brief from where the command line says, checked against its digest."""
    if args.from_backend and not args.task:
        parser.error("--from-backend needs --task ID")
    if args.from_backend:
        return fetch_brief(args, configured)
    if not (args.brief or environment("AGENTIC_OS_BRIEF")):
        parser.error("name the brief: --brief FILE, or --from-backend --task ID")
    return read_brief(read_text(args.brief or environment("AGENTIC_OS_BRIEF")))


def read_text(file: str) -> str:
    """Read the issue's text."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Stop(USAGE, f"The brief in {file} cannot be read: {error}") from error


def fetch_brief(args: argparse.Namespace, configured: str | None) -> tuple[dict[str, Any], str]:
    """Get the brief from the backend, and check it against its digest."""
    if not configured:
        raise Stop(USAGE, "--from-backend needs the backend's address: --url or AGENTIC_OS_URL.")
    url = f"{configured.rstrip('/')}/api/tasks/{quote(args.task, safe='')}/brief"
    args.credential = read_credential(args.credential_file)
    try:
        answer = Backend(url, configured=configured, retry_delay=args.retry_delay).get(url, args.credential)
    except Problem as problem:
        raise explain(problem) from problem
    brief = check_brief(answer.get("brief"))
    if brief_digest(brief) != answer.get("digest") or brief["attempt"] != answer.get("attempt"):
        raise Stop(BRIEF, "The brief is not what its digest says. Stop, and tell the operator.")
    return brief, answer["digest"]


def begin_state(
    workspace: Path, brief: dict[str, Any], digest: str, configured: str | None
) -> dict[str, Any]:
    """Make the state of this attempt, continued where an earlier start of the same one left it."""
    state = {
        "task_id": brief["task_id"],
        "attempt": brief["attempt"],
        "step": brief["step"],
        "brief_digest": digest,
        "callback_url": brief["callback_url"],
        "backend": configured,
        "criteria": [criterion["id"] for criterion in brief.get("acceptance") or ()],
        "review_items": [item["id"] for item in brief.get("review_items") or ()],
        "next_seq": 1,
        "token": None,
        "closed": False,
    }
    try:
        before = Attempt.load(workspace).state
    except Stop:
        return state
    if (before.get("task_id"), before.get("attempt")) == (state["task_id"], state["attempt"]):
        state.update({name: before[name] for name in ("next_seq", "pending", "queue") if name in before})
    return state


def with_differences(stop: Stop, skills: dict[str, str]) -> Stop:
    """Add to a refusal for drift which skills differ from those that the backend expects."""
    if stop.exit_code != DRIFT or not isinstance(stop.__cause__, Problem):
        return stop
    expected = stop.__cause__.document.get("expected") or {}
    listed = {skill["name"]: skill["digest"] for skill in expected.get("skills") or ()}
    lines = [
        f"  {printable(name)}: "
        + ("missing here" if name not in skills else "not expected" if name not in listed else "differs")
        for name in sorted(listed.keys() | skills.keys())
        if listed.get(name) != skills.get(name)
    ]
    return Stop(DRIFT, "\n".join([str(stop), *lines]))


def describe(brief: dict[str, Any]) -> Iterator[str]:
    """Put the brief into readable form."""
    yield f"# {brief.get('title', 'Untitled')}"
    yield f"Task {brief['task_id']}, attempt {brief['attempt']}, step: {brief['step']}, mode: {brief.get('mode', '?')}"
    yield from section("Goal", brief.get("goal"))
    yield from section("Your charter", brief.get("charter"))
    criteria = brief.get("acceptance") or ()
    yield from section(
        "Acceptance criteria (id, evidence rank needed)",
        [f"[{item['id']}] ({item.get('rank', 'self_reported')}) {item['text']}" for item in criteria],
    )
    items = [f"[{item['id']}] {item['text']}" for item in brief.get("review_items") or ()]
    yield from section("Review items: answer each by its id in responds_to", items)
    for name, title in (
        ("constraints", "Constraints"),
        ("paths", "Paths that you may touch"),
        ("tools", "Tools that you may use"),
        ("plan", "The approved plan"),
        ("review", "Under review"),
        ("answers", "Answers to questions"),
        ("notes", "Notes of people"),
        ("handoffs", "Handed over by others"),
        ("resume", "Where the last attempt stopped"),
        ("output_schema", "Your output must keep to this JSON Schema"),
        ("budget", "Budget left"),
    ):
        yield from section(title, brief.get(name))


def section(title: str, content: Any) -> Iterator[str]:
    """Write one part of the brief; nothing for an empty one."""
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if value is not None}
    if content in (None, "", [], {}):
        return
    yield f"\n## {title}"
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and all(isinstance(item, str) for item in content):
        yield from (f"- {item}" for item in content)
    else:
        yield json.dumps(content, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    run_script(main)

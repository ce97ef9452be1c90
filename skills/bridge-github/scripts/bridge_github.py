#!/usr/bin/env python3
"""Read the brief of an issue on GitHub, and start work on it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import environment, run_script
    from agentic_os_contract import CREDENTIAL, REFUSED, USAGE, Stop
    from agentic_os_report import read_text
    from agentic_os_tracker import Tracker, begin, holds_brief, make_parser, no_brief
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)

_ISSUE = re.compile(
    r"(?:(?P<repository>[A-Za-z0-9][\w-]*/(?!\.+#)[\w.-]+)#)?(?P<number>[1-9][0-9]{0,9})", re.ASCII
)


def main() -> int:
    """Start work on one issue; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--issue",
        metavar="[OWNER/REPOSITORY#]NUMBER",
        help="the issue (default: that of this job's event, in this job's repository)",
    )
    parser.add_argument(
        "--token-file", help="file with a token of GitHub (default: $GITHUB_TOKEN, or $GH_TOKEN)"
    )
    args = parser.parse_args()
    repository, number = issue_of(args.issue or issue_of_event())
    url = environment("GITHUB_API_URL") or "https://api.github.com"
    tracker = Tracker("GitHub", url, read_token(args.token_file), plain=False, retry_delay=args.retry_delay)
    name = f"{repository}#{number}"
    document = tracker.get(f"/repos/{repository}/issues/{number}")
    if not isinstance(document, dict):
        raise Stop(REFUSED, f"There is no issue {name}, or this token may not read it.")
    if not holds_brief(document.get("body")):
        raise no_brief(name)
    return begin(args, name, document["body"])


def issue_of(given: str) -> tuple[str, int]:
    """Read the name of an issue: its repository and its number."""
    found = _ISSUE.fullmatch(given)
    if not found:
        raise Stop(USAGE, f"'{given}' names no issue: write OWNER/REPOSITORY#NUMBER, or NUMBER in a job.")
    repository = found["repository"] or environment("GITHUB_REPOSITORY") or ""
    if not _ISSUE.fullmatch(f"{repository}#{found['number']}"):
        raise Stop(USAGE, "The repository is not known: write --issue OWNER/REPOSITORY#NUMBER.")
    return repository, int(found["number"])


def issue_of_event() -> str:
    """Find the issue that started this job of GitHub Actions."""
    file = environment("GITHUB_EVENT_PATH")
    try:
        return str(json.loads(read_text(file))["issue"]["number"]) if file else ""
    except (ValueError, LookupError, TypeError):
        raise Stop(USAGE, "This job was not started by an issue: name one with --issue.") from None


def read_token(file: str | None) -> str:
    """Read the token for GitHub, from a file or from what the job was given."""
    token = read_text(file) if file else environment("GITHUB_TOKEN") or environment("GH_TOKEN") or ""
    if not re.fullmatch(r"[!-~]+", token.strip()):
        raise Stop(CREDENTIAL, "No token for GitHub: set GITHUB_TOKEN, or name a file with --token-file.")
    return token.strip()


if __name__ == "__main__":
    run_script(main)

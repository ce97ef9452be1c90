"""Submitting a document that closes an attempt: read, checked against the contract, sent.

Python's standard library only, from 3.9 on; shared by the scripts of all skills here.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from agentic_os_attempt import Attempt, Backend, add_json, find_workspace
from agentic_os_contract import DOCUMENT, USAGE, Stop, schema_errors, wrap_in_markers

_SHOWN_ERRORS = 10
_MARKED = ("plan", "result")
EXIT_CODES = """exit codes: 0 accepted; 2 usage; 3 refused; 4 credential; 6 backend unreachable; 7 no open attempt here;
8 this attempt is over; 9 the document must be corrected"""


def make_parser(kind: str, description: str | None) -> argparse.ArgumentParser:
    """Make the command line that all submissions share."""
    parser = argparse.ArgumentParser(
        description=description, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "document", help=f"file with the {kind}: JSON, or text in sections; - for standard input"
    )
    parser.add_argument(
        "--workspace", type=Path, help="the workspace's folder (default: found around this one)"
    )
    parser.add_argument("--retry-delay", type=float, default=1.0, help=argparse.SUPPRESS)
    add_json(parser)
    return parser


def open_attempt(args: argparse.Namespace) -> Attempt:
    """Load the attempt that was started in the workspace."""
    return Attempt.open(find_workspace(args.workspace))


def read_body(kind: str, file: str, attempt: Attempt) -> dict[str, Any]:
    """Read a document into a callback's body: JSON as it is, text between its markers."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Stop(USAGE, f"The {kind} in {file} cannot be read: {error}") from error
    if not text.lstrip().startswith("{"):
        if kind not in _MARKED:
            raise Stop(
                DOCUMENT, f"A {kind} is JSON, and {file} holds something else; see the skill's SKILL.md."
            )
        marked = wrap_in_markers(kind, text, attempt.state["task_id"], attempt.state["attempt"])
        return {"marked_text": marked}
    try:
        body: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise Stop(DOCUMENT, f"The {kind} in {file} is not JSON: {error}") from error
    return body


def submit(kind: str, body: dict[str, Any], attempt: Attempt, args: argparse.Namespace) -> dict[str, Any]:
    """Check a body against the contract and send it; returns the backend's answer."""
    marked = "marked_text" in body
    errors = schema_errors("marked" if marked else kind, body)
    if not (errors or marked):
        answered = {item["item_id"] for item in body.get("responds_to", ())}
        errors = [
            f"/responds_to lacks an answer to the review item '{item}'"
            for item in attempt.state["review_items"]
            if item not in answered
        ]
    if errors:
        more = [f"and {len(errors) - _SHOWN_ERRORS} more"] if len(errors) > _SHOWN_ERRORS else []
        listed = "\n".join(f"  {error}" for error in [*errors[:_SHOWN_ERRORS], *more])
        raise Stop(DOCUMENT, f"Nothing was sent. The {kind} does not keep to the contract:\n{listed}")
    state = attempt.state
    backend = Backend(state["callback_url"], configured=state["backend"], retry_delay=args.retry_delay)
    return attempt.send(backend, kind, body)

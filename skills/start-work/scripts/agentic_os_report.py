"""What is sent while work goes on: checked against the contract, and kept for later where the backend is away.

Python's standard library only, from 3.9 on; shared by the scripts of all skills here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentic_os_attempt import (
    Attempt,
    Backend,
    Problem,
    add_json,
    explain,
    find_workspace,
    tell_directive,
)
from agentic_os_contract import DOCUMENT, USAGE, Stop, schema_errors

EXIT_CODES = """exit codes: 0 accepted; 2 usage; 3 refused; 4 credential; 6 backend unreachable,
and the message is kept; 7 no open attempt here; 8 this attempt is over; 9 the message must be corrected"""


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make the command line that all reports share."""
    parser = argparse.ArgumentParser(
        description=description, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workspace", type=Path, help="the workspace's folder (default: found around this one)"
    )
    parser.add_argument("--retry-delay", type=float, default=1.0, help=argparse.SUPPRESS)
    add_json(parser)
    return parser


def open_here(args: argparse.Namespace) -> Attempt:
    """Load the attempt that was started in the workspace."""
    return Attempt.open(find_workspace(args.workspace))


def backend_of(attempt: Attempt, retry_delay: float) -> Backend:
    """Find the backend of an attempt."""
    state = attempt.state
    return Backend(state["callback_url"], configured=state["backend"], retry_delay=retry_delay)


def report(kind: str, body: dict[str, Any], args: argparse.Namespace, *, told: str) -> None:
    """Send one message, and say what comes next."""
    attempt = open_here(args)
    answer = attempt.send(backend_of(attempt, args.retry_delay), kind, checked(kind, body))
    print(told)
    tell_directive(answer, expected="continue")


def checked(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body, without what was not given, that keeps to the contract; stops otherwise."""
    body = {name: value for name, value in body.items() if value is not None}
    if errors := schema_errors(kind, body):
        listed = "\n".join(f"  {error}" for error in errors[:10])
        raise Stop(DOCUMENT, f"Nothing was sent. The {kind} does not keep to the contract:\n{listed}")
    return body


def read_text(file: str) -> str:
    """Read a text from a file, or from standard input if it is `-`."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Stop(USAGE, f"{file} cannot be read: {error}") from error


def read_json(file: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        document = json.loads(read_text(file))
    except ValueError as error:
        raise Stop(DOCUMENT, f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Stop(DOCUMENT, f"{file} must hold a JSON object.")
    return document


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Put a refusal into plain words."""
    try:
        yield
    except Problem as problem:
        raise explain(problem) from problem

#!/usr/bin/env python3
"""Submit the result of the attempt that was started in this workspace; the attempt then closes."""

from __future__ import annotations

import argparse
import base64
import hashlib
import mimetypes
import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import environment, printable, run_script, tell_directive
    from agentic_os_contract import DOCUMENT, USAGE, Stop
    from agentic_os_git import git_references, not_committed
    from agentic_os_submission import make_parser, open_attempt, read_body, submit
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)

LARGEST_INLINE_BYTES = 256 * 1024
MOST_REFERENCES = 50
SHOWN_PATHS = 5


def main() -> int:
    """Submit one result; returns the exit code."""
    args = parse_arguments()
    attempt = open_attempt(args)
    body = read_body("result", args.document, attempt)
    if (args.artifact or args.evidence) and "marked_text" in body:
        raise Stop(
            USAGE, "--artifact and --evidence go with a result in JSON; write evidence into the text instead."
        )
    for name, added in (("artifacts", map(describe_artifact, args.artifact)), ("evidence", args.evidence)):
        if added := list(added):
            body[name] = [*body.get(name, ()), *added]
    base = environment("AGENTIC_OS_BASE_COMMIT")
    if base:
        name_what_was_done(body, attempt.workspace, base)
    answer = submit("result", body, attempt, args)
    print("The result was accepted, and this attempt is closed. Stop now.")
    print("You are woken with a new brief if rework is asked for.")
    tell_directive(answer, expected="stop")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("result", __doc__)
    parser.add_argument(
        "--artifact",
        action="append",
        default=[],
        metavar="PATH[:CRITERION]",
        help="send a file, up to 256 KiB",
    )
    parser.add_argument(
        "--evidence",
        action="append",
        default=[],
        type=parse_evidence,
        metavar="CRITERION:STATUS[:COMMAND]",
        help="claim that a criterion's check was a pass, a fail or inconclusive, by your own word",
    )
    return parser.parse_args()


def name_what_was_done(body: dict[str, Any], workspace: Path, base: str) -> None:
    """Add the branch and the commit to the references, unless such are given, and tell what is not committed."""
    if "marked_text" not in body and isinstance(body.get("references", []), list):
        given = body.get("references", [])
        kinds = [reference.get("kind") for reference in given if isinstance(reference, dict)]
        found = [reference for reference in git_references(workspace, base) if reference["kind"] not in kinds]
        if found and len(given) + len(found) <= MOST_REFERENCES:
            body["references"] = [*given, *found]
            named = [printable(f"{reference['kind']} {reference['name']}") for reference in found]
            print(f"The result names {', '.join(named)}.")
    if paths := not_committed(workspace):
        more = f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else ""
        print(
            f"Not committed: {', '.join(map(printable, paths[:SHOWN_PATHS]))}{more}."
            " These changes are kept where they are, but the result does not name them."
        )


def parse_evidence(text: str) -> dict[str, str]:
    """Read one claim."""
    criterion, _, rest = text.partition(":")
    status, _, command = rest.partition(":")
    if status not in ("pass", "fail", "inconclusive"):
        raise argparse.ArgumentTypeError(f"'{text}': the status is pass, fail or inconclusive")
    evidence = {"criterion_id": criterion, "rank": "self_reported", "status": status}
    return {**evidence, "command": command} if command else evidence


def describe_artifact(text: str) -> dict[str, Any]:
    """Read a file into an inline artifact."""
    path, criterion = Path(text), ""
    if not path.exists() and ":" in text:
        name, _, criterion = text.rpartition(":")
        path = Path(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Stop(USAGE, f"The artifact {path} cannot be read: {error}") from error
    if not 1 <= len(content) <= LARGEST_INLINE_BYTES:
        raise Stop(
            DOCUMENT, f"The artifact {path} has {len(content)} bytes; inline it must have 1 to 262144."
        )
    artifact = {
        "name": path.name,
        "media_type": mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "content_base64": base64.b64encode(content).decode(),
    }
    return {**artifact, "criterion_id": criterion} if criterion else artifact


if __name__ == "__main__":
    run_script(main)

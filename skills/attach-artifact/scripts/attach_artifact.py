#!/usr/bin/env python3
"""Upload a file to the backend, of whatever size it allows, and print how to name it in a result."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import Attempt, run_script
    from agentic_os_contract import USAGE, Stop
    from agentic_os_report import backend_of, make_parser, open_here, refusals
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Upload one file; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("file", type=Path, help="the file")
    parser.add_argument("--criterion", help="the id of the acceptance criterion that it serves")
    args = parser.parse_args()
    attempt = open_here(args)
    try:
        content = args.file.read_bytes()
    except OSError as error:
        raise Stop(USAGE, f"The artifact {args.file} cannot be read: {error}") from error
    artifact = {
        "name": args.file.name,
        "media_type": mimetypes.guess_type(args.file.name)[0] or "application/octet-stream",
        "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    upload(attempt, artifact, content, args.retry_delay)
    if args.criterion:
        artifact["criterion_id"] = args.criterion
    print("The file was uploaded. Name it in `artifacts` of your result as:")
    print(json.dumps(artifact))
    print(f"As evidence: record-evidence CRITERION pass --rank observed --artifact {artifact['digest']}")
    return 0


def upload(attempt: Attempt, artifact: dict[str, object], content: bytes, retry_delay: float) -> None:
    """Send the bytes under their digest; the same bytes again change nothing."""
    backend = backend_of(attempt, retry_delay)
    url = attempt.state["callback_url"].replace(
        "/api/executions/callback", f"/api/artifacts/{artifact['digest']}"
    )
    with refusals():
        backend.put(url, attempt.state["token"], content, str(artifact["media_type"]))


if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env python3
"""Give a task back before work on it begins."""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import (
        Attempt,
        Backend,
        environment,
        find_workspace,
        read_credential,
        run_script,
        tell_directive,
    )
    from agentic_os_report import checked
    from start_work import add_source, begin_state, take_brief
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Decline one brief; returns the exit code."""
    parser = add_source(__doc__)
    parser.add_argument(
        "--reason", required=True, choices=["busy", "missing_capability", "brief_invalid", "unsafe"]
    )
    parser.add_argument("--detail", help="what is missing or wrong, in one sentence")
    args = parser.parse_args()
    configured = args.url or environment("AGENTIC_OS_URL")
    workspace = find_workspace(args.workspace)
    brief, digest = take_brief(parser, args, configured)
    backend = Backend(brief["callback_url"], configured=configured, retry_delay=args.retry_delay)
    attempt = Attempt(workspace, begin_state(workspace, brief, digest, configured))
    body = checked("decline", {"reason": args.reason, "detail": args.detail})
    answer = attempt.send(
        backend, "decline", body, credential=args.credential or read_credential(args.credential_file)
    )
    print("The task was given back. Stop now: do nothing for it.")
    tell_directive(answer, expected="stop")
    return 0


if __name__ == "__main__":
    run_script(main)

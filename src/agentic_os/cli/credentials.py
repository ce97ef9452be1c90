"""`rotate` and `revoke`, which executors, people and sources of evidence have in common."""

import argparse
import json
from collections.abc import Callable

from agentic_os.cli.client import Client

_SHOWN: dict[str, str] = {"executors": "credential", "tokens": "token", "sources": "secret"}
"""What each kind of principal holds, by the address that gives it."""


def add_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", path: str, kind: str
) -> list[argparse.ArgumentParser]:
    """Register both verbs for the principals at an address of the API; return their parsers."""
    shown = _SHOWN[path]
    rotate = verbs.add_parser("rotate", help=f"give a new {shown}, shown once; the old one ends at once")
    rotate.set_defaults(run=_rotate(path, shown))
    revoke = verbs.add_parser(
        "revoke", help=f"take the {kind}'s rights for good; its name is never given again"
    )
    revoke.set_defaults(run=_revoke(path))
    for parser in (rotate, revoke):
        parser.add_argument("name")
    return [rotate, revoke]


def _rotate(path: str, shown: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        made = Client.of(args).post(f"/api/{path}/{args.name}/rotate")
        text = f"The old {shown} of {made['name']} has ended. The new one, shown this once:\n{made[shown]}"
        print(json.dumps(made) if args.json else text)
        return 0

    return run


def _revoke(path: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        done = Client.of(args).delete(f"/api/{path}/{args.name}")
        tasks = "".join(f"\n  goes to another: {task_id}" for task_id in done["superseded"])
        print(json.dumps(done) if args.json else f"{done['revoked']} is revoked.{tasks}")
        return 0

    return run

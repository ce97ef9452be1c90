"""`agentic-os quarantine`: what came too late, and taking it in after all."""

import argparse
import json

from agentic_os.cli.client import Client, add_connection
from agentic_os.cli.tables import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `quarantine` and its verbs."""
    quarantine = commands.add_parser(
        "quarantine", help="late plans and results that are kept aside", description=__doc__
    )
    verbs = quarantine.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="list what is kept aside, and why")
    listing.set_defaults(run=_list)
    adopt = verbs.add_parser("adopt", help="take one in, through the checks of a live one")
    adopt.add_argument("id")
    adopt.add_argument("--reason", required=True, help="why; it goes into the history")
    adopt.set_defaults(run=_adopt)
    for parser in (listing, adopt):
        add_connection(parser)


def _items(client: Client) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    page = client.get("/api/quarantine")
    found += page["items"]
    while page["next"]:
        page = client.get("/api/quarantine", cursor=page["next"])
        found += page["items"]
    return found


def _list(args: argparse.Namespace) -> int:
    items = _items(Client.of(args))
    if args.json:
        print(json.dumps(items, indent=2))
        return 0
    rows = [(i["id"], i["task_id"], i["attempt"], i["kind"], i["reason"], i["at"]) for i in items]
    headings = ("ID", "TASK", "ATTEMPT", "KIND", "REASON", "AT")
    print(table(headings, rows) if rows else "Nothing is kept aside.")
    return 0


def _adopt(args: argparse.Namespace) -> int:
    client = Client.of(args)
    kept = next((i for i in _items(client) if i["id"] == args.id), None)
    if kept is None:
        print(f"Nothing is kept aside as {args.id}; `agentic-os quarantine list` lists what is.")
        return 1
    text = f"/adopt {args.id} {' '.join(args.reason.split())}"
    receipt = client.post(f"/api/tasks/{kept['task_id']}/directives", {"text": text})
    print(json.dumps(receipt, indent=2) if args.json else f"{receipt['outcome']}: {receipt['message']}")
    return 0 if receipt["outcome"] == "done" else 1

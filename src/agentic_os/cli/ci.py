"""`agentic-os ci`: sources of independent evidence, which sign what they say of a task's criteria."""

import argparse
import json

from agentic_os.cli.client import Client, add_connection
from agentic_os.cli.credentials import add_verbs
from agentic_os.cli.tables import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `ci` and its verbs."""
    ci = commands.add_parser("ci", help="who attests evidence, such as CI", description=__doc__)
    verbs = ci.add_subparsers(metavar="VERB", required=True)
    add = verbs.add_parser("add", help="register a source; its secret is shown once")
    add.add_argument("name")
    add.add_argument("--project", help="the only project that it may attest (default: any)")
    add.set_defaults(run=_add)
    listing = verbs.add_parser("list", help="list sources")
    listing.set_defaults(run=_list)
    for parser in (add, listing, *add_verbs(verbs, "sources", "source")):
        add_connection(parser)


def _add(args: argparse.Namespace) -> int:
    client = Client.of(args)
    made = client.post("/api/sources", {"name": args.name, "project": args.project})
    text = (
        f"{made['name']} is registered. It signs POST {client.url}/api/evidence/{made['name']} "
        f"in the manner of Standard Webhooks with this secret, shown this once:\n{made['secret']}"
    )
    print(json.dumps(made) if args.json else text)
    return 0


def _list(args: argparse.Namespace) -> int:
    page = Client.of(args).get("/api/sources")
    rows = [
        (s["name"], s["project"] or "any", s["owner"], s["generation"], "revoked" if s["revoked"] else "")
        for s in page["items"]
    ]
    headings = ("NAME", "PROJECT", "OWNER", "GENERATION", "")
    print(json.dumps(page) if args.json else table(headings, rows) if rows else "No sources.")
    return 0

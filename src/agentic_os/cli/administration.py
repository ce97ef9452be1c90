"""`agentic-os executor`, `token`, `account`, `audit`, `projections`: what administrators do."""

import argparse
import json
from pathlib import Path
from typing import Any

from agentic_os.cli.agents.launch import make_parser
from agentic_os.cli.client import Client, add_connection
from agentic_os.cli.command_executor import add_run
from agentic_os.cli.credentials import add_verbs
from agentic_os.cli.tables import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the administrators' commands."""
    executor = commands.add_parser("executor", help="who does the work").add_subparsers(
        metavar="VERB", required=True
    )
    add = executor.add_parser("add", help="register an executor; its credential is shown once")
    add.add_argument("name")
    add.add_argument("--role", required=True)
    add.add_argument("--owner", help="the person who owns it (default: you)")
    add.add_argument("--skills", choices=("required", "not-required"), default="required")
    add.add_argument(
        "--capacity", type=int, help="how many attempts it may hold at once (default: any number)"
    )
    add.add_argument(
        "--workspace",
        type=Path,
        metavar="DIR",
        help="where it works; it gets no work while the skills there are known not to be those in force",
    )
    add.set_defaults(run=_add_executor)
    listing = executor.add_parser("list", help="list executors")
    listing.set_defaults(run=_list_executors)
    add_run(executor)
    make_parser(
        executor.add_parser("launch", help="have a connected client do one attempt; for control planes")
    )

    token = commands.add_parser("token", help="who steers and reviews").add_subparsers(
        metavar="VERB", required=True
    )
    person = token.add_parser("add", help="register a person; their token is shown once")
    person.add_argument("name")
    person.add_argument("--role", required=True, choices=("viewer", "operator", "reviewer", "admin"))
    person.add_argument("--days", type=int, help="how long the token counts (default: until revoked)")
    person.set_defaults(run=_add_token)

    for parser in (*add_verbs(executor, "executors", "executor"), *add_verbs(token, "tokens", "person")):
        add_connection(parser)
    people = token.add_parser("list", help="list people")
    people.set_defaults(run=_list_tokens)

    account = commands.add_parser("account", help="accounts on trackers").add_subparsers(
        metavar="VERB", required=True
    )
    link = account.add_parser("link", help="say that an account of a tracker is a principal's")
    link.add_argument("principal")
    link.add_argument("control_plane", help="for instance board")
    link.add_argument("account", help="the tracker's stable account id, not a name")
    link.set_defaults(run=_link)

    audit = commands.add_parser("audit", help="the history").add_subparsers(metavar="VERB", required=True)
    verify = audit.add_parser("verify", help="recompute every hash; exit 1 and name the first broken link")
    verify.set_defaults(run=_verify)

    projections = commands.add_parser("projections", help="the read models")
    rebuild = projections.add_subparsers(metavar="VERB", required=True).add_parser(
        "rebuild", help="replace every read model by what the events say"
    )
    rebuild.set_defaults(run=_rebuild)
    for parser in (add, listing, person, people, link, verify, rebuild):
        add_connection(parser)


def _print(args: argparse.Namespace, document: Any, text: str) -> None:
    print(json.dumps(document) if args.json else text)


def _add_executor(args: argparse.Namespace) -> int:
    body = {
        "name": args.name,
        "role": args.role,
        "owner": args.owner,
        "skills": args.skills,
        "workspace": None if args.workspace is None else str(args.workspace.expanduser().resolve()),
        "capacity": args.capacity,
    }
    made = Client.of(args).post("/api/executors", body)
    _print(
        args,
        made,
        f"{made['name']} is registered. Its credential, shown this once; keep it in a file of mode 0600:\n"
        f"{made['credential']}",
    )
    return 0


def _list_executors(args: argparse.Namespace) -> int:
    page = Client.of(args).get("/api/executors")
    rows = [
        (
            e["name"],
            ", ".join(e["roles"]),
            e["owner"],
            e["load"],
            e["capacity"] or "any",
            _workspace(e["workspace"]),
            "" if e["paused"] is None else e["paused"]["says"],
        )
        for e in page["items"]
    ]
    _print(
        args,
        page,
        table(("NAME", "ROLES", "OWNER", "HOLDS", "CAPACITY", "WORKSPACE", "PAUSED"), rows)
        if rows
        else "No executors.",
    )
    return 0


def _workspace(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    problem = f": {found['problem']}; next: {found['next']}" if found["problem"] else ""
    return f"{found['path']} ({found['state']}{problem})"


def _add_token(args: argparse.Namespace) -> int:
    made = Client.of(args).post(
        "/api/tokens", {"name": args.name, "role": args.role, "expires_in_days": args.days}
    )
    _print(args, made, f"{made['id']} is registered. The token, shown this once:\n{made['token']}")
    return 0


def _list_tokens(args: argparse.Namespace) -> int:
    page = Client.of(args).get("/api/tokens")
    rows = [
        (p["name"], ", ".join(p["roles"]), p["expires_at"] or "never", "revoked" if p["revoked_at"] else "")
        for p in page["items"]
    ]
    _print(args, page, table(("NAME", "ROLES", "EXPIRES", ""), rows))
    return 0


def _link(args: argparse.Namespace) -> int:
    body = {"control_plane": args.control_plane, "account": args.account}
    linked = Client.of(args).put(f"/api/principals/{args.principal}/accounts", body)
    _print(args, linked, f"{linked['control_plane']} account {linked['account']} is {linked['principal']}'s.")
    return 0


def _verify(args: argparse.Namespace) -> int:
    report = Client.of(args).post("/api/audit/verify")
    counted = f"{report['events']} events in {report['streams']} streams"
    broken = f"BROKEN at {report['problem']}"
    _print(args, report, f"ok: {counted}" if report["audit"] == "ok" else broken)
    return 0 if report["audit"] == "ok" else 1


def _rebuild(args: argparse.Namespace) -> int:
    report = Client.of(args).post("/api/projections/rebuild")
    _print(args, report, f"rebuilt {report['tasks']} tasks")
    return 0

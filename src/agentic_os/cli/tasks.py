"""`agentic-os task`: ask for work, look at it, steer it."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from agentic_os.cli import history
from agentic_os.cli.client import Client, add_connection
from agentic_os.cli.tables import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `task` and its verbs."""
    task = commands.add_parser("task", help="ask for work, look at it, steer it", description=__doc__)
    verbs = task.add_subparsers(metavar="VERB", required=True)
    _new(verbs.add_parser("new", help="ask for work"))

    listing = verbs.add_parser("list", help="list tasks, the newest first")
    listing.add_argument("--phase")
    listing.add_argument("--project")
    listing.add_argument("--text", help="part of the title")
    listing.add_argument("--parent", metavar="TASK", help="its children only")
    listing.add_argument("--limit", type=int, default=50)
    listing.set_defaults(run=_list)

    show = verbs.add_parser("show", help="show a task and what moves it next")
    show.add_argument("task")
    show.add_argument(
        "--at", metavar="VERSION|TIME", help="as it then was; a time has its zone, for instance Z"
    )
    show.set_defaults(run=_show)

    log = verbs.add_parser("log", help="show who did what, when and why")
    log.add_argument("task")
    log.set_defaults(run=_log)

    directive = verbs.add_parser("directive", help="steer a task, as a comment on its issue would")
    directive.add_argument("task")
    directive.add_argument("text", help="for instance '/approve v1@9f2c1a7b', or /help")
    directive.set_defaults(run=_direct)
    edit = verbs.add_parser(
        "edit-plan", help="edit the plan under review: without --file, print the text to edit"
    )
    edit.add_argument("task")
    edit.add_argument("--file", metavar="FILE", help="the edited text; - reads it from the input")
    edit.add_argument(
        "--replaces", metavar="DIGEST", help="the version that was edited (default: as the file says)"
    )
    edit.add_argument("--key", help="idempotency key: the same key edits once")
    edit.set_defaults(run=_edit_plan)
    for parser in (listing, show, log, directive, edit):
        add_connection(parser)
    history.add_verbs(verbs)
    _decisions(commands)


def _decisions(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the decisions on what is under review, which are directives too."""
    approve = commands.add_parser("approve", help="approve exactly one version of a plan or result")
    approve.add_argument("task")
    approve.add_argument(
        "target", help="as `task show` names it, for instance v1@9f2c1a7b, or r1@... of a result"
    )
    approve.set_defaults(run=_approve)
    revise = commands.add_parser("revise", help="send what is under review back")
    revise.add_argument("task")
    revise.add_argument("items", nargs="+", metavar="ITEM", help="what to change, each to be answered")
    revise.set_defaults(run=_revise)
    reject = commands.add_parser("reject", help="refuse what is under review, and end the task")
    reject.add_argument("task")
    reject.add_argument("reason")
    reject.set_defaults(run=_reject)
    for parser in (approve, revise, reject):
        add_connection(parser)


def _new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("title")
    parser.add_argument("--goal", help="markdown (default: the title)")
    parser.add_argument("--project", default="default")
    parser.add_argument("--mode", choices=("direct", "plan_first"), default="direct")
    parser.add_argument("--risk", choices=("low", "medium", "high", "critical"), default="low")
    parser.add_argument("--assignee", help="NAME of an executor, or role:ROLE")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="ID=TEXT", help="a criterion; repeatable"
    )
    parser.add_argument("--path", action="append", default=[], help="a path that it may touch; repeatable")
    parser.add_argument("--label", action="append", default=[])
    parser.add_argument(
        "--after", action="append", default=[], metavar="TASK", help="a task that it depends on"
    )
    parser.add_argument(
        "--not-before", metavar="TIME", help="open no attempt before; with its zone, such as Z"
    )
    parser.add_argument("--due", metavar="TIME", help="when it should be done; with its zone, such as Z")
    parser.add_argument("--key", help="idempotency key: the same key makes one task")
    parser.set_defaults(run=_create)
    add_connection(parser)


def _create(args: argparse.Namespace) -> int:
    criteria = []
    for given in args.accept:
        name, found, text = given.partition("=")
        if not found:
            print(f"--accept takes ID=TEXT, not {given!r}", file=sys.stderr)
            return 2
        criteria.append({"id": name, "text": text})
    body = {
        "title": args.title,
        "goal": args.goal or args.title,
        "project": args.project,
        "mode": args.mode,
        "risk": args.risk,
        "assignee": args.assignee,
        "acceptance": criteria,
        "paths": args.path,
        "labels": args.label,
        "depends_on": args.after,
        "not_before": args.not_before,
        "due": args.due,
    }
    task = Client.of(args).post("/api/tasks", body, args.key)
    print(json.dumps(task, indent=2) if args.json else f"{task['id']}  {task['phase']}")
    return 0


def _list(args: argparse.Namespace) -> int:
    page = Client.of(args).get(
        "/api/tasks",
        phase=args.phase,
        project=args.project,
        text=args.text,
        parent=args.parent,
        limit=args.limit,
    )
    if args.json:
        print(json.dumps(page, indent=2))
        return 0
    rows = [(t["id"], t["phase"], t["project"], _executor(t), t["title"][:60]) for t in page["items"]]
    print(table(("TASK", "PHASE", "PROJECT", "EXECUTOR", "TITLE"), rows) if rows else "No tasks.")
    return 0


def _executor(task: dict[str, Any]) -> str:
    return task["attempt"]["executor"] if task["attempt"] else ""


def _show(args: argparse.Namespace) -> int:
    task = Client.of(args).get(f"/api/tasks/{args.task}", at=args.at)
    if args.json:
        print(json.dumps(task, indent=2))
        return 0
    print(
        f"{task['title']}\n  {task['id']}, project {task['project']}, {task['mode']}, version {task['version']}"
    )
    print(f"  phase     {task['phase']}")
    if waiting := task["waiting_for"]:
        until = f", by {waiting['deadline']}, else: {waiting['default']}" if waiting["deadline"] else ""
        print(f"  next      {waiting['owner']}: {waiting['what']}{until}")
    if frozen := task["frozen"]:
        print(f"  frozen    until {frozen['until']} by {frozen['rule']}: {frozen['reason']}")
    if task["due"]:
        print(f"  due       {task['due']}{', overdue' if task['overdue'] else ''}")
    _show_work(task)
    for item in task["evidence"]:
        print(f"  evidence  {item['criterion_id']}: {item['status']} ({item['rank']})")
    _show_family(task)
    if task["issue"]:
        print(f"  issue     {task['issue']['url']}")
    return 0


def _show_work(task: dict[str, Any]) -> None:
    """Print who is at it, what was handed in, and what policy said."""
    if attempt := task["attempt"]:
        print(
            f"  attempt   {attempt['number']} ({attempt['step']}) by {attempt['executor']}: {attempt['state']}"
        )
    for name in ("plan", "result"):
        if found := task[name]:
            print(f"  {name:9} version {found['version']}, {found['state']}, {found['digest']}")
    if verdict := task["verdict"]:
        rules = ", ".join(verdict["rules"]) or "no rule, the defaults"
        print(f"  verdict   {verdict['decision']} by {rules}; bundle {verdict['bundle'][:19]}")


def _show_family(task: dict[str, Any]) -> None:
    """Print which task this one came of, and which came of it."""
    if parent := task["parent"]:
        print(f"  parent    {parent['id']} (its {parent['ref']})")
    for child in task["children"]:
        print(f"  child     {child['id']} {child['ref']}: {child['state']}")
    for refused in task["refused_children"]:
        print(f"  refused   {refused['ref']}: {'; '.join(refused['reasons']) or ', '.join(refused['rules'])}")


def _log(args: argparse.Namespace) -> int:
    client = Client.of(args)
    after: int | None = 0
    while after is not None:
        page = client.get(f"/api/tasks/{args.task}/events", after=after)
        for event in page["items"]:
            if args.json:
                print(json.dumps(event))
            else:
                reason = f"  ({event['reason']})" if event["reason"] else ""
                print(f"{event['version']:4}  {event['at']}  {event['actor']:16}  {event['type']}{reason}")
        after = page["next"]
    return 0


def _approve(args: argparse.Namespace) -> int:
    return _write(args, f"/{'accept' if args.target.startswith('r') else 'approve'} {args.target}")


def _revise(args: argparse.Namespace) -> int:
    phase = Client.of(args).get(f"/api/tasks/{args.task}")["phase"]
    verb = "rework" if phase == "result_review" else "revise"
    items = (" ".join(item.split()) for item in args.items)
    return _write(args, "\n".join([f"/{verb}", *(f"- {item}" for item in items)]))


def _reject(args: argparse.Namespace) -> int:
    return _write(args, f"/reject {' '.join(args.reason.split())}")


_EDITS = re.compile(r"^Edit of (sha256:[0-9a-f]{64})\b", re.MULTILINE)
"""The line above the markers that says which version the text was; whoever reads marked text passes over it."""


def _edit_plan(args: argparse.Namespace) -> int:
    client = Client.of(args)
    if args.file is None:
        plan = client.get(f"/api/tasks/{args.task}/plan")
        if plan["marked_text"] is None:
            print(
                "Marked text cannot say this plan, or it is not under review: send it as `plan` over the API.",
                file=sys.stderr,
            )
            return 1
        print(f"Edit of {plan['digest']}, version {plan['version']} by {plan['author']}.\n")
        print(plan["marked_text"], end="")
        return 0
    try:
        text = sys.stdin.read() if args.file == "-" else Path(args.file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        print(f"{args.file} cannot be read: {problem}", file=sys.stderr)
        return 2
    named = args.replaces or (found[1] if (found := _EDITS.search(text)) else None)
    if named is None:
        print("Name the version that was edited with --replaces DIGEST.", file=sys.stderr)
        return 2
    task = client.post(f"/api/tasks/{args.task}/plan", {"replaces": named, "marked_text": text}, args.key)
    plan = task["plan"]
    print(
        json.dumps(task, indent=2)
        if args.json
        else f"version {plan['version']} by {plan['author']}: {plan['digest']}"
    )
    return 0


def _direct(args: argparse.Namespace) -> int:
    return _write(args, args.text)


def _write(args: argparse.Namespace, text: str) -> int:
    receipt = Client.of(args).post(f"/api/tasks/{args.task}/directives", {"text": text})
    if args.json:
        print(json.dumps(receipt, indent=2))
    else:
        print(f"{receipt['outcome']}: {receipt['message']}")
        if receipt["paste"]:
            print(f"  write: {receipt['paste']}")
    return 0 if receipt["outcome"] == "done" else 1

"""`agentic-os reconcile` and `doctor`: how it stands with the issues and the tracker, and trying again."""

import argparse
import json
import sys
from typing import Any

from agentic_os.cli.agents.listing import checks
from agentic_os.cli.client import Client, ServerUnavailable, add_connection
from agentic_os.cli.tables import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `reconcile` with its verbs, and `doctor`."""
    reconcile = commands.add_parser(
        "reconcile", help="how far behind the issues are, and trying again", description=__doc__
    )
    verbs = reconcile.add_subparsers(metavar="VERB", required=True)
    status = verbs.add_parser("status", help="what is not shown yet, what fails, and how the tracker does")
    status.add_argument("task", nargs="?", help="of this task only")
    status.add_argument("--limit", type=int, default=50)
    status.set_defaults(run=_status)
    at_once = verbs.add_parser("now", help="compare an issue again, or all of them")
    at_once.add_argument("task", nargs="?", help="this task's only (default: all that have not ended)")
    at_once.set_defaults(run=_now)
    redrive = verbs.add_parser(
        "redrive", help="try a task again as if it had never failed, and put back again what was left"
    )
    redrive.add_argument("task")
    redrive.set_defaults(run=_redrive)
    heard = verbs.add_parser("heard", help="what others did on the tracker, and what became of each")
    heard.add_argument("task", nargs="?", help="on this task's issues only")
    heard.add_argument("--issue", metavar="KEY", help="on this issue only, by the tracker's own key")
    heard.add_argument("--outcome", choices=("open", "held", "done", "refused", "ignored"))
    heard.add_argument("--limit", type=int, default=50)
    heard.set_defaults(run=_heard)
    doctor = commands.add_parser("doctor", help="is everything in order? exit 1 on a fault")
    doctor.set_defaults(run=_doctor)
    for parser in (status, at_once, redrive, heard, doctor):
        add_connection(parser)


def _came(last: str | None) -> str:
    return "none came yet" if last is None else f"the last came {last}"


def _status(args: argparse.Namespace) -> int:
    report = Client.of(args).get("/api/reconcile", task=args.task, limit=args.limit)
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    if tracker := report["tracker"]:
        print(f"tracker   {tracker['name']}: {tracker['health']}{_why(tracker)}")
        print(f"feed      read to its end {tracker['last_feed_read_at'] or 'never'}")
        if tracker["sends_webhooks"]:
            print(f"webhooks  {_came(tracker['last_webhook_at'])}")
    else:
        print("tracker   none is connected")
    print(f"worker    looked around {report['worker']['served_at'] or 'never'}")
    tasks, inbox = report["tasks"], report["inbox"]
    print(f"tasks     {tasks['stale']} stale, {tasks['poisoned']} poisoned{_lag(tasks)}")
    print(f"inbox     {inbox['open']} open{_lag(inbox)}")
    if report["items"]:
        rows = [
            (i["task_id"], i["state"], i["since"], i["failures"], i["next_try_at"] or "", i["problem"] or "")
            for i in report["items"]
        ]
        print(table(("TASK", "STATE", "SINCE", "FAILURES", "NEXT TRY", "PROBLEM"), rows))
    elif args.task:
        print("Its issue is as it should be.")
    return 0


def _why(tracker: dict[str, Any]) -> str:
    if tracker["health"] == "paused":
        return f" until {tracker['paused_until']}"
    return f" since {tracker['failed_at']}: {tracker['problem']}" if tracker["health"] == "failing" else ""


def _lag(part: dict[str, Any]) -> str:
    return f", the oldest for {part['lag_seconds']:.0f} s" if part["lag_seconds"] is not None else ""


def _heard(args: argparse.Namespace) -> int:
    wanted = {"task": args.task, "issue": args.issue, "outcome": args.outcome, "limit": args.limit}
    found = Client.of(args).get("/api/observations", **wanted)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [
        (
            each["at"],
            each["issue"] or each["control_plane"],
            each["principal"] or each["author"],
            f"{each['kind']} {each['detail']}".strip(),
            each["outcome"],
            each["reason"],
        )
        for each in found["items"]
    ]
    print(table(("WHEN", "ISSUE", "WHO", "WHAT", "OUTCOME", "WHY"), rows) if rows else "Nothing was heard.")
    return 0


def _now(args: argparse.Namespace) -> int:
    path = f"/api/reconcile/{args.task}" if args.task else "/api/reconcile"
    return _told(args, Client.of(args).post(path))


def _redrive(args: argparse.Namespace) -> int:
    return _told(args, Client.of(args).post(f"/api/reconcile/{args.task}", {"redrive": True}))


def _told(args: argparse.Namespace, answer: dict[str, Any]) -> int:
    print(json.dumps(answer) if args.json else f"{answer['marked']} to be compared")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    try:
        found = Client.of(args).get("/api/doctor")
        found["checks"].insert(0, {"name": "server", "status": "ok", "detail": "it answers", "next": ""})
    except ServerUnavailable as problem:
        detail, _, following = str(problem).partition("\n  next: ")
        check = {"name": "server", "status": "fault", "detail": detail, "next": following}
        found = {"status": "fault", "checks": [check]}
    found["checks"] += checks(args)
    statuses = {check["status"] for check in found["checks"]}
    found["status"] = next((status for status in ("fault", "warning") if status in statuses), "ok")
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for check in found["checks"]:
            print(f"{check['status']:8} {check['name']:10} {check['detail']}")
            if check["next"]:
                print(f"{'':8} {'':10} next: {check['next']}")
        sys.stdout.flush()
    return 1 if found["status"] == "fault" else 0

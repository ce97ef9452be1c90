"""`agentic-os task diff` and `task why`: what changed between two versions, and what moves a task or stopped it."""

import argparse
import json
from collections.abc import Sequence
from typing import Any, Final

from agentic_os.cli.client import Client, add_connection
from agentic_os.cli.tables import table

WIDEST: Final = 60


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the verbs beside the other verbs of `task`."""
    diff = verbs.add_parser("diff", help="show what changed between two versions, and by which events")
    diff.add_argument("task")
    diff.add_argument("a", type=int, metavar="A", help="a version, as `task log` numbers them")
    diff.add_argument("b", type=int, metavar="B", help="another; the difference is from A to B")
    diff.set_defaults(run=_diff)

    why = verbs.add_parser("why", help="show what moves a task next, which rule decided, what was refused")
    why.add_argument("task")
    why.set_defaults(run=_why)
    for parser in (diff, why):
        add_connection(parser)


def _diff(args: argparse.Namespace) -> int:
    found = Client.of(args).get(f"/api/tasks/{args.task}/versions/{args.a}..{args.b}")
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    changed = [(c["field"], _cell(c["before"]), _cell(c["after"])) for c in found["changes"]]
    headings = ("FIELD", f"VERSION {found['from']}", f"VERSION {found['to']}")
    print(table(headings, changed) if changed else "No field differs.")
    if found["events"]:
        print()
        print(table(("VERSION", "AT", "ACTOR", "EVENT", "REASON"), [_event(e) for e in found["events"]]))
    return 0


def _why(args: argparse.Namespace) -> int:
    found = Client.of(args).get(f"/api/tasks/{args.task}/why")
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [("phase", found["phase"])]
    if waiting := found["waiting_for"]:
        until = f", by {waiting['deadline']}, else: {waiting['default']}" if waiting["deadline"] else ""
        rows.append(("next", f"{waiting['owner']}: {waiting['what']}{until}"))
    else:
        rows.append(("next", "nothing: it has ended"))
    if decided := found["decided_by"]:
        rules = ", ".join(decided["rules"]) or "no rule, the defaults"
        rows.append(("decided", f"{decided['decision']} by {rules}; bundle {decided['bundle'][:19]}"))
        rows += [("because", reason) for reason in decided["reasons"]]
    rows += [("hold", f"{hold['reason']} ({hold['by']})") for hold in found["holds"]]
    rows += [("blocked by", task) for task in found["blocked_by"]]
    if frozen := found["frozen"]:
        rows.append(("frozen", f"until {frozen['until']} by {frozen['rule']}: {frozen['reason']}"))
    if found["overdue"]:
        rows.append(("overdue", "its due date has passed"))
    rows += [("child", f"{c['ref']} ({c['id']}) is {c['state']}") for c in found["children"]]
    rows += [("refused", f"{r['ref']}: {'; '.join(r['reasons'])}") for r in found["refused_children"]]
    last = found["last"]
    reason = f" ({last['reason']})" if last["reason"] else ""
    rows.append(
        ("last", f"{last['type']} by {last['actor']} at {last['at']}, version {last['version']}{reason}")
    )
    print(table(("WHAT", "ANSWER"), rows))
    if found["refusals"]:
        refused = [_refusal(r) for r in found["refusals"]]
        print()
        print(table(("REFUSED AT", "ACTOR", "DIRECTIVE", "RULE", "WHY", "WRITE INSTEAD"), refused))
    return 0


def _event(event: dict[str, Any]) -> Sequence[object]:
    return (event["version"], event["at"], event["actor"], event["type"], _line(event["reason"]))


def _refusal(refusal: dict[str, Any]) -> Sequence[object]:
    who = refusal["actor"] or "a stranger"
    return (refusal["at"], who, _line(refusal["what"]), refusal["rule"], refusal["message"], refusal["paste"])


def _cell(value: Any) -> str:
    """Write a value on one line, cut where it would make the table unreadable; --json has it whole."""
    return _line(value if isinstance(value, str) else "" if value is None else json.dumps(value))


def _line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= WIDEST else joined[: WIDEST - 1] + "\N{HORIZONTAL ELLIPSIS}"

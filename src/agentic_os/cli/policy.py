"""`agentic-os policy`: ask why policy decided, check a governance folder, test it, try another."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from agentic_os.application.explanation import describe, explain
from agentic_os.application.recorded_verdicts import (
    Explained,
    RecordedVerdict,
    explained,
    latest_verdict,
    verdicts,
)
from agentic_os.cli import simulate
from agentic_os.cli.client import Client, add_connection
from agentic_os.clock import now
from agentic_os.domain.policy import FIELDS, HOOKS
from agentic_os.governance import GovernanceInvalid, has_policy, load_governance, recorded_policy
from agentic_os.governance.lint import lint
from agentic_os.governance.policy_parts import PARTS, WHOLE
from agentic_os.governance.policy_tests import Report, read_policy_tests, run_policy_tests

IN_ORDER, FAULTY, USAGE = 0, 1, 2
_FOLDER: Final = Path("governance")
_PAGE: Final = 500


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `policy` and its verbs."""
    policy = commands.add_parser(
        "policy",
        help="why it decided, whether it is in order, and what another would decide",
        description=__doc__,
    )
    verbs = policy.add_subparsers(metavar="VERB", required=True, title="verbs")
    _add_explain(verbs.add_parser("explain", help="say why policy decides so, and what would flip it"))
    check = verbs.add_parser("lint", help="check a governance folder: each fault with its file and line")
    check.epilog = "exit codes: 0 no faults (hints may be there), 1 there are faults, 2 there is no policy"
    check.set_defaults(run=_lint)
    test = verbs.add_parser(
        "test", help="run the cases of policy_tests.yaml, and say which rules none matches"
    )
    test.epilog = (
        "exit codes: 0 all cases pass, 1 one does not, a file is not in order, or rules are not covered and "
        "--require-coverage is given, 2 there is no policy or no policy_tests.yaml"
    )
    test.add_argument(
        "--require-coverage", action="store_true", help="fail unless each rule matches in some case"
    )
    test.set_defaults(run=_test)
    simulate.add_verb(verbs)
    for parser in (check, test):
        parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, default=_FOLDER)
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "exit codes: 0 it is explained, 1 the policy cannot be read, or decides otherwise than was recorded, "
        "2 wrong usage, 3 and 4 as for every command that asks the server"
    )
    parser.usage = (
        "agentic-os policy explain DECISION_ID [--json]\n"
        "       agentic-os policy explain --task ID [--hook HOOK | --child REF] [--json]\n"
        "       agentic-os policy explain FACTS [FOLDER] --hook HOOK [--json]"
    )
    parser.add_argument(
        "subject",
        metavar="DECISION_ID | FACTS",
        nargs="?",
        help="a decision's id, as GET /api/decisions lists them; with --hook, a JSON object of facts, in a file or - "
        "for stdin",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", type=Path, help="the governance folder (default: governance)"
    )
    parser.add_argument(
        "--hook", choices=HOOKS, help="what policy is asked about FACTS; or, of --task, which verdict"
    )
    parser.add_argument(
        "--task", metavar="ID", help="explain the latest verdict on this task, as it was recorded"
    )
    parser.add_argument(
        "--child", metavar="REF", help="with --task: the verdict on a child that the task proposed"
    )
    add_connection(parser)
    parser.set_defaults(run=_explain)


def _explain(args: argparse.Namespace) -> int:
    if args.task is not None:
        if args.subject is not None:
            return _refused("--task takes no FACTS: they are in the history")
        if args.child is not None and args.hook is not None:
            return _refused("--child is decided at one hook only; leave --hook out")
        return _explain_task(args)
    if args.child is not None or args.subject is None:
        return _refused("give DECISION_ID, or --task ID, or FACTS and --hook")
    if args.hook is None:
        if args.folder is not None or not _is_id(args.subject):
            return _refused(f"{args.subject} is no decision's id; with FACTS, give --hook")
        return _explain_decision(args)
    return _explain_facts(args)


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _explain_facts(args: argparse.Namespace) -> int:
    named = args.subject
    try:
        facts = json.loads(sys.stdin.read() if named == "-" else Path(named).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        return _refused(f"{named} cannot be read: {problem}")
    if not isinstance(facts, dict):
        return _refused(f"{named}: facts are a JSON object of fields and values")
    if unknown := sorted(facts.keys() - FIELDS.keys()):
        return _refused(f"{named}: unknown {', '.join(unknown)}; declared are: {', '.join(FIELDS)}")
    try:
        policy = load_governance(args.folder or _FOLDER).policy
    except GovernanceInvalid as problem:
        return _invalid(problem)
    explanation = explain(policy, args.hook, facts)
    print(json.dumps(explanation.as_json(), indent=2) if args.json else describe(explanation))
    return IN_ORDER


def _explain_decision(args: argparse.Namespace) -> int:
    client = Client.of(args)
    task = client.get(f"/api/decisions/{args.subject}")["task_id"]
    found = verdicts(task, _events(client, task))
    return _tell(args, client, next((v for v in found if v.event["event_id"] == args.subject.lower()), None))


def _explain_task(args: argparse.Namespace) -> int:
    client = Client.of(args)
    found = verdicts(args.task, _events(client, args.task))
    return _tell(args, client, latest_verdict(found, child=args.child, hook=args.hook))


def _tell(args: argparse.Namespace, client: Client, recorded: RecordedVerdict | None) -> int:
    """Decide a recorded verdict again by the policy that it names, and print why, and whether it is the same."""
    if recorded is None:
        print("agentic-os policy: nothing was decided on it yet", file=sys.stderr)
        return FAULTY
    bundle = recorded.data["bundle"]
    document = client.get(f"/api/governance/bundles/{bundle}")["document"]
    try:
        policy = recorded_policy(bundle, document)
    except GovernanceInvalid as problem:
        return _invalid(problem)
    found = explained(recorded, policy, document)
    if args.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        _print_explained(found)
    return FAULTY if found.differences else IN_ORDER


def _print_explained(found: Explained) -> None:
    event = found.recorded.event
    print(
        f"{event['type']}, version {event['version']}, recorded at {event['at']}; decision {event['event_id']}\n"
    )
    print(describe(found.replay))
    if not found.by_policy:
        print(f"\nIt was not policy that refused: {', '.join(found.recorded.data['reasons'])}")
    same = not found.differences
    print("\nDecided again, it is as it was recorded." if same else "\nDecided again, it DIFFERS:")
    print("".join(f"  {difference}\n" for difference in found.differences), end="")


def _events(client: Client, task: str) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = client.get(f"/api/tasks/{task}/events", after=after, limit=_PAGE)
        yield from page["items"]
        after = page["next"]


def _lint(args: argparse.Namespace) -> int:
    if (missing := _missing_policy(args.folder)) is not None:
        return missing
    remarks = lint(args.folder, now())
    faults = sum(remark.level == "fault" for remark in remarks)
    if args.json:
        found = [asdict(remark) for remark in remarks]
        print(json.dumps({"folder": str(args.folder), "ok": not faults, "remarks": found}, indent=2))
    else:
        for remark in remarks:
            print(remark)
        print(f"{args.folder}: {f'{faults} faults' if faults else 'in order'}, {len(remarks) - faults} hints")
    return FAULTY if faults else IN_ORDER


def _test(args: argparse.Namespace) -> int:
    path = args.folder / "policy_tests.yaml"
    if (missing := _missing_policy(args.folder)) is not None:
        return missing
    if not path.is_file():
        return _refused(f"{args.folder} has no {path.name}")
    try:
        report = run_policy_tests(read_policy_tests(path), load_governance(args.folder).policy)
    except GovernanceInvalid as problem:
        return _invalid(problem)
    covered = not report.unmatched or not args.require_coverage
    if args.json:
        print(json.dumps(_report(report, ok=report.passed and covered), indent=2))
    else:
        _print(report, path)
    return IN_ORDER if report.passed and covered else FAULTY


def _print(report: Report, path: Path) -> None:
    for result in report.results:
        print(f"{'FAIL' if result.differences else 'ok  '}  {result.test.name}")
        for difference in result.differences:
            print(f"      {path}:{result.test.line}: {difference}")
    failed = sum(bool(result.differences) for result in report.results)
    print(
        f"{len(report.results)} cases, {failed} failed; {report.coverage:.0f} % of {report.rules} rules covered"
    )
    for rule in report.unmatched:
        print(f"  in no case: {rule}")


def _report(report: Report, *, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "cases": [
            {
                "name": result.test.name,
                "line": result.test.line,
                "passed": not result.differences,
                "differences": list(result.differences),
                "matched": sorted(result.matched),
            }
            for result in report.results
        ],
        "coverage": {
            "rules": report.rules,
            "percent": round(report.coverage, 1),
            "unmatched": list(report.unmatched),
        },
    }


def _missing_policy(folder: Path) -> int | None:
    """Say that there is no policy in the folder, if there is none; with the exit code for it."""
    try:
        return (
            None
            if has_policy(folder)
            else _refused(f"{folder} has no {WHOLE}, nor files in {folder / PARTS}")
        )
    except GovernanceInvalid as problem:
        return _invalid(problem)


def _refused(message: str) -> int:
    print(f"agentic-os policy: {message}", file=sys.stderr)
    return USAGE


def _invalid(problem: GovernanceInvalid) -> int:
    print(problem, file=sys.stderr)
    return FAULTY

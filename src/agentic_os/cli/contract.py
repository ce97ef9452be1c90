"""`agentic-os contract`: the schema, checks of callbacks and transcripts, and what codes mean; without a server."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from agentic_os.cli.tables import table
from agentic_os.contracts.codes import MEANINGS, Meaning
from agentic_os.contracts.schema import callback_schema
from agentic_os.contracts.transcript import (
    Fault,
    Report,
    check,
    golden_expectations,
    golden_transcripts,
)
from agentic_os.http.problems import STATUS, problem

IN_ORDER, FAULTY, USAGE = 0, 1, 2
_EXPECTATIONS = "expected.json"


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `contract schema`, `contract check`, `contract explain` and `contract transcripts`."""
    contract = commands.add_parser("contract", help="what executors send, checked without a server")
    verbs = contract.add_subparsers(metavar="VERB", required=True)
    schema = verbs.add_parser("schema", help="print the normative schema of callbacks")
    schema.set_defaults(run=_print_schema)
    _register_check(verbs.add_parser("check", help="check a callback, or a transcript of an attempt"))
    explain = verbs.add_parser("explain", help="what a code of a refusal means, and what to do next")
    explain.add_argument("code", help="for instance seq_stale")
    explain.set_defaults(run=_explain)
    transcripts = verbs.add_parser(
        "transcripts", help="the golden transcripts, to test an executor's parts with"
    )
    transcripts.add_argument(
        "--into", type=Path, metavar="DIR", help="copy them there instead of listing them"
    )
    transcripts.set_defaults(run=_transcripts)


def _register_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check what an executor sends by the code that the server uses. One JSON document is checked as one callback; "
        "JSON Lines are a transcript of one attempt, whose order is checked too."
    )
    parser.epilog = "exit codes: 0 all is well, 1 there are faults, 2 the file cannot be read"
    parser.add_argument("file", metavar="FILE", help="a file, or - for standard input")
    parser.add_argument(
        "--transcript",
        action="store_true",
        help="a transcript, even of one line (so is a file named *.jsonl)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_check)


def _print_schema(_: argparse.Namespace) -> int:
    print(callback_schema().decode(), end="")
    return IN_ORDER


def _check(args: argparse.Namespace) -> int:
    try:
        raw = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except (OSError, ValueError) as error:
        print(f"agentic-os contract: {args.file} cannot be read: {error}", file=sys.stderr)
        return USAGE
    transcript = True if args.transcript or args.file.endswith(".jsonl") else None
    report = check(raw, transcript=transcript)
    if args.json:
        print(json.dumps(_as_json(args.file, report), indent=2))
    else:
        _print(args.file, report)
    return FAULTY if report.faults else IN_ORDER


def _print(name: str, report: Report) -> None:
    for fault in report.faults:
        print(f"{name}:{fault.line}: {fault.code} {' '.join(fault.pointers)}".rstrip())
        print(f"  {fault.message}")
        print(f"  next: {_next_step(fault)}")
    what = f"a transcript of {report.callbacks}" if report.transcript else str(report.callbacks)
    callbacks = "callback" if report.callbacks == 1 else "callbacks"
    outcome = f"faults: {len(report.faults)}" if report.faults else "in order"
    print(f"{name}: {what} {callbacks}, {outcome}")


def _as_json(name: str, report: Report) -> dict[str, Any]:
    return {
        "file": name,
        "ok": not report.faults,
        "transcript": report.transcript,
        "callbacks": report.callbacks,
        "faults": [
            {
                "line": fault.line,
                "code": fault.code,
                "pointer": list(fault.pointers),
                "message": fault.message,
                "next": _next_step(fault),
            }
            for fault in report.faults
        ],
    }


def _next_step(fault: Fault) -> str:
    return fault.next or _described(fault.code)["next"]


def _described(code: str) -> dict[str, Any]:
    """Describe a code as the server's own problem document does, and fill in what depends on the case there."""
    meaning = MEANINGS.get(code, Meaning(code.replace("_", " ")))
    document: dict[str, Any] = json.loads(bytes(problem(code, meaning.text).body))
    return {**document, "next": document["next"] or meaning.next or "Read the problem's detail."}


def _explain(args: argparse.Namespace) -> int:
    if args.code not in STATUS:
        print(f"agentic-os contract: there is no code {args.code!r}. The codes:", file=sys.stderr)
        print("  " + "\n  ".join(sorted(STATUS)), file=sys.stderr)
        return USAGE
    found = _described(args.code)
    again = "yes, the same callback with the same callback_id" if found["retryable"] else "no, not as it is"
    print(f"{args.code}: {found['detail']}")
    print(f"  status  {found['status']}")
    print(f"  retry   {again}")
    print(f"  next    {found['next']}")
    return IN_ORDER


def _transcripts(args: argparse.Namespace) -> int:
    files = golden_transcripts()
    if args.into is not None:
        return _copy({**files, _EXPECTATIONS: golden_expectations()}, args.into)
    expected = json.loads(golden_expectations())
    rows = [
        (
            name,
            len(raw.splitlines()),
            ", ".join(fault["code"] for fault in expected.get(name, ())) or "in order",
        )
        for name, raw in files.items()
    ]
    print(table(("TRANSCRIPT", "CALLBACKS", "CHECK"), rows))
    return IN_ORDER


def _copy(files: dict[str, bytes], folder: Path) -> int:
    """Write the files into a folder; what lies there under the same name with other content is left as it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        differing = [n for n, raw in files.items() if (p := folder / n).exists() and p.read_bytes() != raw]
        if differing:
            print(f"agentic-os contract: {folder} has its own {', '.join(differing)}", file=sys.stderr)
            return FAULTY
        for name, raw in files.items():
            (folder / name).write_bytes(raw)
    except OSError as error:
        print(f"agentic-os contract: {folder} cannot be written: {error}", file=sys.stderr)
        return USAGE
    print(f"{len(files)} files are in {folder}")
    return IN_ORDER

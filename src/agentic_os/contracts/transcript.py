"""What an executor sent, judged without a server: each callback by the contract, and their order within one attempt.

A transcript is JSON Lines, one callback a line, in the order in which they were sent. What the server would refuse is
a fault and, as on the server, uses up neither `callback_id` nor `seq`: a corrected callback may follow it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

from agentic_os.contracts.callback import Callback, parse_callback
from agentic_os.contracts.canonical import canonical_json
from agentic_os.contracts.strict_json import parse_json
from agentic_os.contracts.violation import ContractViolation, Malformed

CLOSING: Final = frozenset({"plan", "result", "review", "failure", "decline"})
"""The kinds that end an attempt; an escalation does so too when it is blocking."""

_FOLDER: Final = resources.files("agentic_os.contracts").joinpath("transcripts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that the server would refuse. next: what to do, empty where the code alone says it."""

    line: int
    code: str
    pointers: tuple[str, ...]
    message: str
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a check: how many callbacks there were, whether in order, and each fault."""

    callbacks: int
    transcript: bool
    faults: tuple[Fault, ...]


@dataclass(slots=True)
class _Attempt:
    """What the lines before say of the attempt."""

    subject: tuple[str, int] | None = None
    acknowledged: bool = False
    planning: bool = False
    closed_by: tuple[str, int] | None = None
    seq: int = 0
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)


def check(raw: bytes, *, transcript: bool | None = None) -> Report:
    """Check a document as one callback or as a transcript; which of them it is, it shows itself unless it is said."""
    lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
    if transcript is None:
        transcript = _is_transcript(raw, [line for _, line in lines])
    if not lines:
        empty = Fault(line=1, code="malformed", pointers=(), message="there is no callback in it")
        return Report(callbacks=0, transcript=transcript, faults=(empty,))
    if not transcript:
        return Report(callbacks=1, transcript=False, faults=tuple(_check_one(raw)))
    return Report(callbacks=len(lines), transcript=True, faults=tuple(_check_lines(lines)))


def golden_transcripts() -> dict[str, bytes]:
    """Read the transcripts that come with the contract, by file name; those of the bad ones begin with `bad_`."""
    files = sorted(_FOLDER.iterdir(), key=lambda file: file.name)
    return {file.name: file.read_bytes() for file in files if file.name.endswith(".jsonl")}


def golden_expectations() -> bytes:
    """Read which faults the bad transcripts have: name -> list of line, code and pointer."""
    return _FOLDER.joinpath("expected.json").read_bytes()


def _is_transcript(raw: bytes, lines: Sequence[bytes]) -> bool:
    """Tell JSON Lines from one document, which may be laid out over many lines, or be broken."""
    if len(lines) < 2 or _is_json(raw):  # noqa: PLR2004 - more than one
        return False
    return _is_json(lines[0]) or sum(line.startswith(b"{") for line in lines) > 1


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def _check_one(raw: bytes) -> Iterator[Fault]:
    try:
        parse_callback(raw)
    except Malformed as violation:
        yield _fault(1 + raw[: violation.offset].count(b"\n"), violation)
    except ContractViolation as violation:
        yield _fault(1, violation)


def _check_lines(lines: Sequence[tuple[int, bytes]]) -> Iterator[Fault]:
    attempt = _Attempt()
    for number, raw in lines:
        try:
            callback = parse_callback(raw)
        except ContractViolation as violation:
            yield _fault(number, violation)
            _take_for_meant(attempt, raw)
            continue
        attempt.subject = attempt.subject or (callback.task_id, callback.attempt)
        fault = _order_fault(attempt, callback, number)
        if fault is None:
            _accept(attempt, callback, number)
        else:
            yield fault
            # Said once: what follows is judged as if the attempt had been acknowledged.
            attempt.acknowledged = True


def _fault(line: int, violation: ContractViolation) -> Fault:
    return Fault(line=line, code=violation.code, pointers=violation.pointers, message=violation.message)


def _take_for_meant(attempt: _Attempt, raw: bytes) -> None:
    """Take a refused callback for what it was meant to be, so that its fault is not told again on later lines."""
    attempt.acknowledged = True
    with suppress(ContractViolation):
        document: Any = parse_json(raw)
        if isinstance(document, dict) and document.get("kind") == "plan":
            attempt.planning = True


def _order_fault(attempt: _Attempt, callback: Callback, number: int) -> Fault | None:
    """Find what the lines before forbid, in the order in which the server looks."""
    found = _scope_fault(attempt, callback) or _replay_fault(attempt, callback)
    if found is None and callback.callback_id not in attempt.seen:
        found = _closed_fault(attempt, callback) or _phase_fault(attempt, callback)
    if found is None:
        return None
    code, pointer, message, then = found
    return Fault(line=number, code=code, pointers=(pointer,), message=message, next=then)


_Found = tuple[str, str, str, str]


def _scope_fault(attempt: _Attempt, callback: Callback) -> _Found | None:
    """Hold a callback to the task and attempt of the first line, and to an acknowledged attempt."""
    task_id, number = attempt.subject or (callback.task_id, callback.attempt)
    if callback.task_id != task_id:
        message = f"this transcript is of the task {task_id}, not {callback.task_id}"
        return "scope_denied", "/task_id", message, "Write one transcript for each task and attempt."
    if callback.attempt != number:
        message = f"this transcript is of attempt {number}, not {callback.attempt}"
        return "scope_denied", "/attempt", message, "Write one transcript for each task and attempt."
    if not attempt.acknowledged and callback.kind not in ("ack", "decline"):
        message = f"the first callback of an attempt is ack or decline, not {callback.kind}"
        return (
            "scope_denied",
            "/kind",
            message,
            "Send ack first; its answer has the token for all that follows.",
        )
    return None


def _replay_fault(attempt: _Attempt, callback: Callback) -> _Found | None:
    """Refuse a used callback_id for other content; the same content again is a repeat, and may be sent."""
    if callback.callback_id not in attempt.seen:
        return None
    line, content = attempt.seen[callback.callback_id]
    if content == canonical_json(callback.document):
        return None
    message = f"line {line} used this callback_id for other content"
    then = "Draw a new id for new content, or send exactly the first content again."
    return "idempotency_mismatch", "/callback_id", message, then


def _closed_fault(attempt: _Attempt, callback: Callback) -> _Found | None:
    if attempt.closed_by is None:
        return None
    kind, line = attempt.closed_by
    message = f"the {kind} on line {line} closed the attempt, and a {callback.kind} follows"
    then = "Submit, stop, and wait: what comes next is a new attempt with a new brief."
    if (kind, callback.kind) == ("plan", "result"):
        then = "Stop after a plan; the result belongs to the next attempt, after approval."
    return "wrong_phase", "/kind", message, then


def _phase_fault(attempt: _Attempt, callback: Callback) -> _Found | None:
    if callback.kind == "ack":
        return None  # another one restarts the order: the process before it died
    if callback.kind == "decline" and attempt.acknowledged:
        message = "only an attempt that was not acknowledged can be declined"
        return "wrong_phase", "/kind", message, "Send a failure instead."
    if callback.kind == "result" and attempt.planning:
        message = "this attempt is for planning: a plan was sent in it, and a result follows"
        return "plan_unapproved", "/kind", message, "Send the plan, corrected, and stop until it is approved."
    if callback.seq <= attempt.seq:
        message = f"seq {callback.seq} is not after {attempt.seq}, the last accepted one"
        return "seq_stale", "/seq", message, f"Continue with seq {attempt.seq + 1}."
    return None


def _accept(attempt: _Attempt, callback: Callback, number: int) -> None:
    if callback.callback_id in attempt.seen:
        return
    attempt.seen[callback.callback_id] = (number, canonical_json(callback.document))
    attempt.seq = callback.seq
    attempt.acknowledged = True
    if callback.kind in CLOSING or (callback.kind == "escalation" and callback.body["blocking"]):
        attempt.closed_by = (callback.kind, number)

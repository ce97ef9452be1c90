"""Transcripts of attempts, judged without a server: the golden ones, and what the checker makes of any bytes."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.contracts.callback import parse_callback
from agentic_os.contracts.codes import MEANINGS
from agentic_os.contracts.schema import KINDS, callback_examples
from agentic_os.contracts.transcript import check, golden_expectations, golden_transcripts
from agentic_os.contracts.violation import ContractViolation
from agentic_os.http.problems import STATUS

GOLDEN = golden_transcripts()
GOOD = [name for name in GOLDEN if not name.startswith("bad_")]
BAD = [name for name in GOLDEN if name.startswith("bad_")]
EXPECTED = json.loads(golden_expectations())
DIRECT = [json.loads(line) for line in GOLDEN["direct.jsonl"].splitlines()]


def faults(raw: bytes, *, transcript: bool | None = True):
    """Check bytes, and list the faults as the expectations of the golden transcripts do."""
    found = check(raw, transcript=transcript).faults
    return [{"line": f.line, "code": f.code, "pointer": list(f.pointers)} for f in found]


def lines(*callbacks: dict[str, Any]):
    """Write a transcript."""
    return b"".join(json.dumps(callback).encode() + b"\n" for callback in callbacks)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_transcript_has_no_fault(name: str):
    """Every transcript that is not called bad is in order."""
    report = check(GOLDEN[name], transcript=True)
    assert ((), len(GOLDEN[name].splitlines())) == (report.faults, report.callbacks)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_transcript_has_exactly_its_faults(name: str):
    """A bad transcript has the faults that are expected of it, on their lines, and no other."""
    assert EXPECTED[name] == faults(GOLDEN[name])


def test_the_expectations_are_of_the_bad_transcripts():
    """There are expectations for each bad transcript, and they expect something."""
    assert sorted(EXPECTED) == BAD
    assert all(EXPECTED.values())


def test_the_good_transcripts_show_each_way_to_end():
    """Plan, result, review, failure, decline and a blocking escalation each close a golden attempt."""
    last = {parse_callback(GOLDEN[name].splitlines()[-1]).kind for name in GOOD}
    assert {"plan", "result", "review", "failure", "decline", "escalation"} == last


def test_every_fault_says_what_to_do_next_or_has_a_code_that_does():
    """Faults of order bring their own advice, and each code of a fault is one that the server knows."""
    for name in BAD:
        for fault in check(GOLDEN[name]).faults:
            assert fault.code in STATUS
            assert fault.message
            assert fault.next or fault.code in (
                "malformed",
                "schema_invalid",
                "marker_missing",
                "section_missing",
            )


def test_every_code_of_the_server_has_a_meaning():
    """What explains the codes knows those that the server answers, and no other."""
    assert sorted(STATUS) == sorted(MEANINGS)


def test_a_refused_line_uses_up_neither_id_nor_seq():
    """After a refused callback the corrected one may come with the same callback_id and seq."""
    wrong = copy.deepcopy(DIRECT[1])
    wrong["body"]["fraction"] = 2
    raw = lines(DIRECT[0], wrong, *DIRECT[1:])
    assert [{"line": 2, "code": "schema_invalid", "pointer": ["/body/fraction"]}] == faults(raw)


def test_a_refused_submission_does_not_close_the_attempt():
    """A result that was refused for its form may be followed by the corrected one, and that one closes."""
    result = DIRECT[-1]
    wrong = result | {"body": result["body"] | {"outcome": "done"}}
    late = DIRECT[1] | {"callback_id": "0199f1c0-5a01-7001-8000-00000000ffff", "seq": 99}
    found = faults(lines(*DIRECT[:-1], wrong, result, late))
    assert [(7, "schema_invalid"), (9, "wrong_phase")] == [(f["line"], f["code"]) for f in found]


def test_a_repeat_is_no_fault_even_after_the_end():
    """The same callback sent again is a replay, at any time: the server answers it as it did before."""
    assert [] == faults(lines(*DIRECT[:2], DIRECT[1], *DIRECT[2:], DIRECT[-1], DIRECT[3]))


def test_a_missing_ack_is_said_once():
    """Where the ack is missing, the lines after the first are judged as if it had been there."""
    assert [1] == [fault["line"] for fault in faults(lines(*DIRECT[1:]))]


def test_a_transcript_shows_itself():
    """One document is a callback however it is laid out; many lines of JSON are a transcript, even broken ones."""
    plan = callback_examples()["plan"]
    assert not check(plan).transcript
    assert not check(json.dumps(json.loads(plan)).encode()).transcript
    assert not check(plan.replace(b"}", b"", 1)).transcript
    assert check(GOLDEN["direct.jsonl"]).transcript
    assert check(GOLDEN["direct.jsonl"].replace(b"{", b"", 1)).transcript
    assert check(GOLDEN["direct.jsonl"] + b"garbage\n").transcript
    assert [] == faults(plan, transcript=None)
    assert "scope_denied" == faults(json.dumps(json.loads(plan)).encode())[0]["code"]


def test_a_broken_callback_is_faulted_on_its_line():
    """In a callback that is laid out over lines, the line is that of the place where the reading stopped."""
    broken = b'{\n "contract": "aos.execution/1",\n "seq": 1,,\n}\n'
    assert [{"line": 3, "code": "malformed", "pointer": []}] == faults(broken, transcript=None)


@pytest.mark.parametrize("raw", [b"", b"\n \n"])
def test_nothing_is_a_fault(raw: bytes):
    """A file without a callback is not in order."""
    assert ["malformed"] == [fault["code"] for fault in faults(raw, transcript=None)]


@given(st.permutations(DIRECT))
def test_the_order_alone_decides(order: list[dict[str, Any]]):
    """However whole callbacks are shuffled, the first line must be the ack, and only order can be at fault."""
    found = faults(lines(*order))
    assert {"scope_denied", "seq_stale", "wrong_phase"} >= {fault["code"] for fault in found}
    assert (order[0]["kind"] == "ack") == (1 not in [fault["line"] for fault in found])


@given(
    st.lists(
        st.sampled_from([*GOLDEN["direct.jsonl"].splitlines(), b"{", b"\xff", b"[]", b"null", b"{}", b""])
    )
)
def test_any_lines_get_a_report(found: list[bytes]):
    """Whatever the lines are, the check ends, and faults each line that the server could not read."""
    raw = b"\n".join(found)
    unreadable = {n for n, line in enumerate(found, 1) if line.strip() and not _readable(line)}
    assert unreadable <= {fault["line"] for fault in faults(raw)}
    check(raw)


def _readable(line: bytes) -> bool:
    try:
        parse_callback(line)
    except ContractViolation:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_every_published_example_passes_alone(kind: str):
    """Each example of the schema is in order when it is checked as one callback."""
    assert () == check(callback_examples()[kind]).faults

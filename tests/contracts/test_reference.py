"""The reference of the contract says what the contract is."""

import json
import re
from pathlib import Path

import pytest

from agentic_os.contracts.callback import parse_callback
from agentic_os.contracts.marked import parse_marked
from agentic_os.contracts.schema import KINDS
from agentic_os.http.problems import RETRYABLE, STATUS

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
CONTRACT = (REFERENCE / "contract.md").read_text()
MARKED_TEXT = (REFERENCE / "marked-text.md").read_text()
VALUES = {
    "$(uuid)": "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a0001",
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)": "2026-11-20T12:00:00Z",
    "$TASK": "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11",
    "$ATTEMPT": "1",
    "$DIGEST": "sha256:" + "a" * 64,
    "$NO_SKILLS": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}


def test_every_kind_has_its_row():
    """The table of kinds lists each kind of the schema."""
    assert [kind for kind in KINDS if f"| `{kind}` |" not in CONTRACT] == []


def test_what_the_walk_sends_keeps_to_the_contract():
    """Each callback of the walk, its variables filled in, is accepted by the parser."""
    documents = re.findall(r"<<JSON[^\n]*\n(.*?)\nJSON\n", CONTRACT, re.DOTALL)
    for variable, value in VALUES.items():
        documents = [document.replace(variable, value) for document in documents]
    kinds = [parse_callback(document.encode()).kind for document in documents]
    assert kinds == ["ack", "plan", "progress", "result"]


@pytest.mark.parametrize(("kind", "attempt"), [("plan", 1), ("result", 2)])
def test_the_examples_of_marked_text_can_be_read(kind: str, attempt: int):
    """The two texts in the reference follow its own grammar."""
    text = MARKED_TEXT.split("```\n")[1 if kind == "plan" else 3]
    assert parse_marked(text, kind=kind, task_id=VALUES["$TASK"], attempt=attempt)["summary"]


def test_every_kind_has_an_example_that_keeps_to_the_contract():
    """The small examples are one of each kind, in the order of the table, and each is accepted in an envelope."""
    (block,) = re.findall(r"```jsonl\n(.*?)```", CONTRACT, re.DOTALL)
    (envelope,) = re.findall(r"```json\n(.*?)```", CONTRACT, re.DOTALL)
    assert "progress" == parse_callback(envelope.encode()).kind
    examples = [json.loads(envelope) | json.loads(line) for line in block.splitlines()]
    kinds = [parse_callback(json.dumps(example).encode()).kind for example in examples]
    assert (
        re.findall(
            r"^\| `(\w+)` \| (?!\d)", CONTRACT.split("## Kinds")[1].split("## Marked")[0], re.MULTILINE
        )
        == kinds
    )
    assert sorted(KINDS) == sorted(kinds)


def test_the_example_of_marked_text_can_be_read():
    """The marked result of the page follows the grammar."""
    (text,) = re.findall(r"```\n(AOS:RESULT.*?)```", CONTRACT, re.DOTALL)
    assert parse_marked(text, kind="result", task_id=VALUES["$TASK"], attempt=1)["outcome"] == "success"


def test_the_table_of_problems_is_that_of_the_server():
    """Each code in the table has the status that the server gives it, and those worth repeating are called so."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.*) \|$", CONTRACT, re.MULTILINE)
    assert {code: STATUS[code] for code, _, _ in rows} == {code: int(status) for code, status, _ in rows}
    again = {code for code, _, what in rows if "same again" in what}
    assert again == RETRYABLE & {code for code, _, _ in rows}
    assert {"malformed", "scope_denied", "lease_lost", "plan_unchanged", "gate_error"} <= {
        code for code, _, _ in rows
    }

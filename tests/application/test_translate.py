"""From the contract's words to commands: nothing is lost, and no claim counts for more than its means."""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from tests.domain.kit import START

from agentic_os.application.translate import Origin, command_for, split_artifacts
from agentic_os.contracts.callback import Callback, read_callback
from agentic_os.contracts.canonical import document_digest
from agentic_os.contracts.schema import callback_examples
from agentic_os.domain import commands as c
from agentic_os.domain.documents import FailureClass, Usage
from agentic_os.domain.evidence import Held

ORIGIN = Origin(executor="ada", generation=2, last_seq=7, at=START, jitter=0.5)
EXAMPLES = {name: json.loads(text) for name, text in callback_examples().items()}
COMMANDS = {
    "ack": c.Acknowledge,
    "decline": c.Decline,
    "heartbeat": c.Heartbeat,
    "progress": c.ReportProgress,
    "plan": c.SubmitPlan,
    "plan_marked": c.SubmitPlan,
    "result": c.SubmitResult,
    "result_marked": c.SubmitResult,
    "evidence": c.AddEvidence,
    "review": c.SubmitReview,
    "failure": c.ReportFailure,
    "escalation": c.Escalate,
}
DIGEST = "sha256:" + hashlib.sha256(b"hello").hexdigest()


def callback(name: str, **body: Any) -> Callback:
    """Read one of the contract's examples, with members of its body replaced."""
    document = EXAMPLES[name]
    return read_callback(document | {"body": document["body"] | body})


def translated(found: Callback) -> Any:
    """Translate a callback as the door does."""
    artifacts, body = split_artifacts(found.body)
    held = Held(digests=frozenset(a.digest for a in artifacts))
    return command_for(found, body, artifacts, origin=ORIGIN, expected_skillset="sha256:s", held=held)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_kind_becomes_its_command(name: str):
    """Each example of the contract becomes one command, with its sender, order and token."""
    found = callback(name)
    command = translated(found)
    assert type(command) is COMMANDS.get(name, c.Record)
    assert ("ada", found.attempt, found.seq, found.callback_id, START, 2, 7) == (
        command.executor,
        command.attempt,
        command.seq,
        command.callback_id,
        command.at,
        command.generation,
        command.last_seq,
    )


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(COMMANDS)))
def test_what_is_only_kept_is_kept_as_it_came(name: str):
    """A report that decides nothing keeps its kind and its whole body."""
    found = callback(name)
    command = translated(found)
    assert (found.kind, found.body) == (command.kind, command.body)


def test_usage_is_taken_over_with_its_model():
    """What was spent arrives as numbers, and the model beside them; without usage there is none."""
    command = translated(callback("result"))
    assert (Usage(input_tokens=1200, output_tokens=300, cost_microusd=9000), "m") == (
        command.usage,
        command.model,
    )
    silent = translated(replace(callback("heartbeat"), usage=None))
    assert (None, None) == (silent.usage, silent.model)


def test_an_acknowledgement_is_held_to_the_skills_in_force():
    """What the workspace says and what it should say both reach the decider."""
    command = translated(callback("ack"))
    assert "sha256:s" == command.expected_skillset
    assert EXAMPLES["ack"]["body"]["skillset_digest"] == command.skillset_digest


@pytest.mark.parametrize(
    ("fraction", "permille"), [(0, 0), (0.5, 500), (1, 1000), (0.3333, 333), (0.9996, 1000)]
)
def test_progress_is_counted_in_whole_permille(fraction: float, permille: int):
    """A fraction is kept without any float."""
    assert permille == translated(callback("progress", fraction=fraction)).permille


@pytest.mark.parametrize("failure", get_args(FailureClass))
def test_every_class_of_failure_is_known_to_the_decider(failure: str):
    """What the contract lets in as a class is one in the domain."""
    command = translated(callback("failure", **{"class": failure}))
    assert (failure, 0.5) == (command.failure, command.jitter)


@pytest.mark.parametrize("name", ["plan", "result", "plan_marked", "result_marked"])
def test_the_digest_of_a_document_leaves_the_answers_out(name: str):
    """Answers to a review change neither the digest nor get lost; anything else changes the digest."""
    found = callback(name)
    first = translated(found)
    answered = replace(found, body=found.body | {"responds_to": [{"item_id": "i1", "how": "Done."}]})
    second = translated(answered)
    assert first.digest == second.digest == document_digest(split_artifacts(found.body)[1])
    assert frozenset({"i1"}) == second.answers
    assert first.digest != translated(replace(found, body=found.body | {"summary": "another"})).digest


def test_inline_bytes_go_to_the_store_and_not_into_the_history():
    """The bytes of an artifact are split off, and the body names them by digest and size."""
    delivered, body = split_artifacts(callback("result").body)
    assert [(b"hello", DIGEST, 5, "change.patch")] == [
        (d.content, d.digest, d.size, d.name) for d in delivered
    ]
    assert base64.b64encode(b"hello").decode() not in json.dumps(body)
    assert [DIGEST] == [artifact["digest"] for artifact in body["artifacts"]]


@pytest.mark.parametrize(
    ("claimed", "artifact", "rank"),
    [
        ("self_reported", None, "self_reported"),
        ("self_reported", DIGEST, "self_reported"),
        ("observed", None, "self_reported"),
        ("observed", "sha256:" + "0" * 64, "self_reported"),
        ("observed", DIGEST, "observed"),
        ("independent", None, "self_reported"),
        ("independent", DIGEST, "observed"),
    ],
)
def test_evidence_has_the_rank_of_its_means(claimed: str, artifact: str | None, rank: str):
    """An executor's word is self-reported, bytes that came with it are observed, and it is never its own witness."""
    item = {"criterion_id": "tests", "status": "pass", "rank": claimed}
    item |= {"artifact": artifact} if artifact else {}
    (evidence,) = translated(callback("result", evidence=[item])).evidence
    assert (rank, claimed) == (evidence.rank, evidence.claimed)


def test_evidence_while_at_work_is_measured_by_what_came_before():
    """What is reported before the result brings no bytes along, so that it is self-reported where none are held."""
    body = {"criterion_id": "tests", "status": "pass", "rank": "independent", "artifact": DIGEST}
    assert "self_reported" == translated(replace(callback("evidence"), body=body)).evidence.rank

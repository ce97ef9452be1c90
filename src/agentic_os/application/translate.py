"""From the words of the contract to the decider's commands; pure."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from agentic_os.contracts.callback import Callback
from agentic_os.contracts.canonical import document_digest
from agentic_os.contracts.output import output_faults
from agentic_os.domain import commands as c
from agentic_os.domain.documents import Artifact, Evidence, Option, Runtime, Usage
from agentic_os.domain.evidence import NOTHING, Held, true_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sent the callback, under which token, and when it arrived."""

    executor: str
    generation: int
    last_seq: int
    at: datetime
    jitter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """An artifact that a callback names, with its bytes where they came inline."""

    name: str
    media_type: str
    digest: str
    size: int
    criterion_id: str | None
    step_id: str | None
    content: bytes | None
    pointer: str


def split_artifacts(body: Mapping[str, Any]) -> tuple[list[Delivered], dict[str, Any]]:
    """Take inline bytes out of a body: they go to the store, and the events name them by digest."""
    if "artifacts" not in body:
        return [], dict(body)
    delivered = [
        Delivered(
            name=a["name"],
            media_type=a["media_type"],
            digest=a["digest"],
            size=a["size"],
            criterion_id=a.get("criterion_id"),
            step_id=a.get("step_id"),
            content=base64.b64decode(a["content_base64"]) if "content_base64" in a else None,
            pointer=f"/body/artifacts/{index}",
        )
        for index, a in enumerate(body["artifacts"])
    ]
    named = [{key: value for key, value in a.items() if key != "content_base64"} for a in body["artifacts"]]
    return delivered, {**body, "artifacts": named}


def usage_of(callback: Callback) -> Usage | None:
    """Read what a callback says was spent."""
    usage = callback.usage
    return Usage(**{k: v for k, v in usage.items() if k != "model"}) if usage else None


def model_of(callback: Callback) -> str | None:
    """Read which model spent it."""
    return callback.usage.get("model") if callback.usage else None


def command_for(
    callback: Callback,
    body: dict[str, Any],
    artifacts: Sequence[Delivered],
    *,
    origin: Origin,
    expected_skillset: str,
    output_schema: Mapping[str, Any] | None = None,
    held: Held = NOTHING,
) -> c.Command:
    """Build the command that a callback stands for; its claims of evidence get the rank that what is held allows."""
    sender: dict[str, Any] = {
        "executor": origin.executor,
        "attempt": callback.attempt,
        "seq": callback.seq,
        "callback_id": callback.callback_id,
        "at": origin.at,
        "generation": origin.generation,
        "last_seq": origin.last_seq,
        "usage": usage_of(callback),
        "model": model_of(callback),
    }
    match callback.kind:
        case "ack":
            return c.Acknowledge(
                **sender,
                brief_digest=body["brief_digest"],
                skillset_digest=body["skillset_digest"],
                expected_skillset=expected_skillset,
                runtime=Runtime(**body["runtime"]),
                workspace=body.get("workspace"),
            )
        case "decline":
            return c.Decline(**sender, reason=body["reason"], detail=body.get("detail"))
        case "heartbeat":
            return c.Heartbeat(**sender, note=body.get("note"))
        case "progress":
            fraction = body.get("fraction")
            permille = None if fraction is None else round(fraction * 1000)
            return c.ReportProgress(
                **sender, message=body["message"], step_id=body.get("step_id"), permille=permille
            )
        case "evidence":
            return c.AddEvidence(**sender, evidence=_evidence(body, held))
        case "failure":
            return c.ReportFailure(
                **sender,
                failure=body["class"],
                message=body["message"],
                retryable=body["retryable"],
                retry_after_seconds=body.get("retry_after_seconds"),
                jitter=origin.jitter,
            )
        case "escalation":
            return c.Escalate(
                **sender,
                question=body["question"],
                blocking=body["blocking"],
                context=body.get("context", ""),
                options=tuple(Option(**option) for option in body.get("options", ())),
                default_option=body.get("default_option"),
            )
        case "review":
            return _review(body, sender)
        case "plan" | "result":
            return _submission(callback.kind, body, artifacts, sender, output_schema=output_schema, held=held)
        case _:
            return c.Record(**sender, kind=cast("Any", callback.kind), body=body)


def late_submission(
    kind: str,
    body: Mapping[str, Any],
    *,
    executor: str,
    attempt: int,
    callback_id: str,
    at: datetime,
    output_schema: Mapping[str, Any] | None,
) -> c.SubmitPlan | c.SubmitResult:
    """Read what was kept aside as the submission that it would have been; its inline bytes were stored then."""
    sender = {"executor": executor, "attempt": attempt, "seq": 0, "callback_id": callback_id, "at": at}
    artifacts = split_artifacts(body)[0]
    held = Held(digests=frozenset(a.digest for a in artifacts))
    return _submission(kind, dict(body), artifacts, sender, output_schema=output_schema, held=held)


def _review(body: Mapping[str, Any], sender: dict[str, Any]) -> c.SubmitReview:
    items = [
        f"{item['text']} ({item['pointer']})" if "pointer" in item else item["text"]
        for item in body.get("items", ())
    ]
    return c.SubmitReview(
        **sender,
        subject=body["subject"],
        digest=body["digest"],
        vote=body["verdict"],
        summary=body["summary"],
        items=tuple(items),
        item_ids=tuple(f"{sender['callback_id']}.{number}" for number, _ in enumerate(items, 1)),
        evidence=tuple(_evidence(item, NOTHING) for item in body.get("evidence", ())),
    )


def _submission(
    kind: str,
    body: dict[str, Any],
    artifacts: Sequence[Delivered],
    sender: dict[str, Any],
    *,
    output_schema: Mapping[str, Any] | None,
    held: Held,
) -> c.SubmitPlan | c.SubmitResult:
    answers = frozenset(answer["item_id"] for answer in body.get("responds_to", ()))
    digest = document_digest(body)
    if kind == "plan":
        return c.SubmitPlan(**sender, digest=digest, plan=body, answers=answers)
    return c.SubmitResult(
        **sender,
        digest=digest,
        outcome=body["outcome"],
        result=body,
        evidence=tuple(_evidence(item, held) for item in body.get("evidence", ())),
        artifacts=tuple(_artifact(a) for a in artifacts),
        answers=answers,
        output_faults=output_faults(output_schema, body.get("output")),
    )


def _evidence(item: Mapping[str, Any], held: Held) -> Evidence:
    command = item.get("command")
    command_digest = None if command is None else "sha256:" + hashlib.sha256(command.encode()).hexdigest()
    return Evidence(
        criterion_id=item["criterion_id"],
        rank=true_rank(
            item["rank"],
            held,
            artifact=item.get("artifact"),
            command_digest=command_digest,
            marker=item.get("marker"),
        ),
        claimed=item["rank"],
        status=item["status"],
        command=command,
        exit_code=item.get("exit_code"),
        artifact=item.get("artifact"),
        marker=item.get("marker"),
    )


def _artifact(delivered: Delivered) -> Artifact:
    return Artifact(
        name=delivered.name,
        version=1,
        media_type=delivered.media_type,
        digest=delivered.digest,
        size=delivered.size,
        criterion_id=delivered.criterion_id,
        step_id=delivered.step_id,
    )

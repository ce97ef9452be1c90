"""What a source that did none of the work says of it: CI, over a channel of its own."""

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.documents import Attested
from agentic_os.domain.evidence import suffices
from agentic_os.domain.evolution import evolve
from agentic_os.domain.intake import refuse_ended, supersede
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task


def attest(command: c.Attest, task: Task) -> list[e.Event]:
    """Take in independent evidence; the task completes where nothing but that was missing."""
    attested = command.attested
    if attested in task.attested:
        return []
    criterion = attested.evidence.criterion_id
    if criterion not in {known.id for known in task.acceptance}:
        raise Rejected(
            "unknown_criterion",
            f"The task has no criterion {criterion!r}.",
            next_step=f"Name one of: {', '.join(known.id for known in task.acceptance) or 'it has none'}.",
            pointers=("/criterion_id",),
        )
    refuse_ended(task)
    if task.phase not in ("executing", "result_review"):
        raise Rejected(
            "wrong_phase",
            f"Nothing can be attested while the task is {task.phase}.",
            next_step="Attest while it is executed, or while its result is under review.",
        )
    _require_subject(attested, task)
    fact = e.EvidenceAttested(
        source=attested.source,
        evidence=attested.evidence,
        subject_digest=attested.subject_digest,
        commit=attested.commit,
        url=attested.url,
        at=command.at,
    )
    result = task.result
    if task.phase != "result_review" or result is None or result.state != "open":
        return [fact]
    if not suffices(evolve(task, fact), result.outcome):
        return [fact]
    completed = e.TaskCompleted(version=result.version, digest=result.digest, accepted_by=())
    return [fact, *supersede(task, "the result was decided"), completed]


def _require_subject(attested: Attested, task: Task) -> None:
    """Hold an attestation to the result that it was made of, where it names one."""
    if attested.subject_digest is None:
        return
    result = task.result if task.phase == "result_review" else None
    if result is None or result.digest != attested.subject_digest:
        raise Rejected(
            "digest_mismatch",
            "That is not the result under review"
            + (
                f", which is version {result.version}, {result.digest}." if result else ": there is none yet."
            ),
            next_step="Check the result that is under review, and name its digest.",
            pointers=("/subject_digest",),
        )

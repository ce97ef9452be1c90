"""What counts as evidence: the true rank of a claim, what a criterion's evidence amounts to, and what is missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agentic_os.domain.documents import RANKS, Criterion, Evidence, Rank
from agentic_os.domain.policy import Obligations
from agentic_os.domain.task import Task

_NEVER: Final = frozenset({"REVIEW_OK"})
_DECISIVE: Final = ("fail", "pass", "inconclusive")
"""Of several witnesses of a criterion the first of these counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the backend holds itself, of the attempt that makes a claim.

    digests: of bytes that the attempt delivered. commands: digests of the arguments of its tool events that went well.
    checkpoint, capable, traced, in_sync: whether there is the fact behind the lifecycle marker of that meaning.
    """

    digests: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    checkpoint: bool = False
    capable: bool = False
    traced: bool = False
    in_sync: bool = False


NOTHING: Final = Held()


def true_rank(
    claimed: Rank, held: Held, *, artifact: str | None, command_digest: str | None, marker: str | None = None
) -> Rank:
    """Put an executor's claim of evidence at the rank that its means allow.

    Its own word is self-reported. It is observed only where it names something that we hold: bytes that the attempt
    delivered, a command that one of its tool events ran, or, for a lifecycle marker, the fact behind the marker and
    nothing else. It is never independent, since whoever did the work cannot be its independent witness.
    """
    if claimed == "self_reported" or marker in _NEVER:
        return "self_reported"
    facts = {
        "CHECKPOINT_OK": held.checkpoint,
        "CAPABILITY_OK": held.capable,
        "TRACE_OK": held.traced,
        "SYNC_OK": held.in_sync,
    }
    named = artifact in held.digests or command_digest in held.commands
    return "observed" if (facts.get(marker, named) if marker else named) else "self_reported"


def effective(task: Task, brought: Iterable[Evidence] = ()) -> dict[str, Evidence]:
    """Give what counts for each criterion: what a source attested before the executor's word, a failure before a pass.

    brought: what a result that is being handed in brings along.
    """
    found = {**task.evidence, **{item.criterion_id: item for item in brought}}
    attested: dict[str, Evidence] = {}
    for attestation in task.attested:
        item = attestation.evidence
        other = attested.get(item.criterion_id)
        if other is None or _DECISIVE.index(item.status) < _DECISIVE.index(other.status):
            attested[item.criterion_id] = item
    decided = {name: item for name, item in attested.items() if item.status != "inconclusive"}
    return {**attested, **found, **decided}


def unmet(
    task: Task, evidence: Mapping[str, Evidence] | None = None, *, required: Obligations | None = None
) -> tuple[str, ...]:
    """List the criteria that lack passing evidence at the rank they need: their own, or a higher one that is required.

    required: what policy asks for the result that is meant; for the one under review, if it is not given.
    """
    held = effective(task) if evidence is None else evidence
    ranks = (required or task.required).evidence
    return tuple(
        criterion.id
        for criterion in task.acceptance
        if (found := held.get(criterion.id)) is None
        or found.status != "pass"
        or RANKS.index(found.rank) < _least(criterion, ranks)
    )


def _least(criterion: Criterion, ranks: Mapping[str, Rank]) -> int:
    asked = (criterion.rank, ranks.get(criterion.id, RANKS[0]), ranks.get("*", RANKS[0]))
    return max(map(RANKS.index, asked))


def suffices(
    task: Task, outcome: str | None, brought: Iterable[Evidence] = (), *, required: Obligations | None = None
) -> bool:
    """Tell whether a result completes the task by itself: no review is asked for, and no evidence is missing."""
    if (required or task.required).result_review or outcome == "partial":
        return False
    return not unmet(task, effective(task, brought), required=required)

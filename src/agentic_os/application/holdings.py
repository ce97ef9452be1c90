"""What we hold of an attempt: bytes that it sent, and what its earlier callbacks show. Claims are measured by it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from agentic_os.application.ports import ArtifactStore
from agentic_os.application.translate import Delivered
from agentic_os.contracts.callback import Callback
from agentic_os.contracts.redaction import secrets_in
from agentic_os.contracts.violation import ContractViolation
from agentic_os.domain.evidence import NOTHING, Held
from agentic_os.domain.task import Task

_CLAIMING: Final = frozenset({"evidence", "result"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What an attempt's callbacks show. commands: digests of the arguments of tool events that went well.

    traced: whether one of them was a tool event, or came with a traceparent.
    """

    commands: frozenset[str] = frozenset()
    traced: bool = False


class Uploads(Protocol):
    """Which attempt sent which bytes."""

    async def note(self, task_id: str, attempt: int, digest: str) -> None:
        """Note that the attempt sent these bytes; saying so again changes nothing."""
        ...

    async def senders(self, task_id: str, digests: Sequence[str]) -> Mapping[str, frozenset[int]]:
        """Find which attempts of this task sent which of these bytes; what another task sent is not there."""
        ...

    async def shown(self, task_id: str, attempt: int, after: int) -> Shown:
        """Gather what the attempt's callbacks show; all its events are after that version."""
        ...


class Holdings:
    """Keeps what comes with callbacks, and finds what was kept."""

    def __init__(self, uploads: Uploads, artifacts: ArtifactStore) -> None:
        self._uploads = uploads
        self._artifacts = artifacts

    async def require(self, task_id: str, artifacts: Sequence[Delivered]) -> None:
        """Refuse artifacts whose bytes this task never sent, or sent in another size. Raises ContractViolation."""
        named = [a for a in artifacts if a.content is None]
        if not named:
            return
        senders = await self._uploads.senders(task_id, [a.digest for a in named])
        for artifact in named:
            size = self._artifacts.size(artifact.digest) if artifact.digest in senders else None
            if size is None:
                raise ContractViolation(
                    "schema_invalid",
                    f"The bytes of {artifact.name} are not held: upload them first, or send them inline.",
                    (f"{artifact.pointer}/digest",),
                )
            if size != artifact.size:
                raise ContractViolation(
                    "schema_invalid",
                    f"The bytes of {artifact.name} are {size}, not {artifact.size}.",
                    (f"{artifact.pointer}/size",),
                )

    async def keep(self, task_id: str, attempt: int, artifacts: Sequence[Delivered]) -> None:
        """Store inline bytes before the events that name them: unnamed bytes mean nothing, named ones must be there."""
        for artifact in artifacts:
            if artifact.content is not None:
                await self._artifacts.put(artifact.digest, artifact.content)
                await self._uploads.note(task_id, attempt, artifact.digest)

    async def uploaded(self, task_id: str, attempt: int, digest: str) -> None:
        """Note that an attempt uploaded bytes, which are stored."""
        await self._uploads.note(task_id, attempt, digest)

    async def behind(
        self, callback: Callback, body: Mapping[str, Any], artifacts: Sequence[Delivered], task: Task
    ) -> Held:
        """Find what is held behind the claims of a callback, but for what the task itself tells, see with_facts."""
        claims = list(_claims(callback.kind, body))
        if not claims:
            return NOTHING
        digests = frozenset(a.digest for a in artifacts if a.content is not None)
        wanted = {c["artifact"] for c in claims if "artifact" in c} - digests
        if wanted:
            senders = await self._uploads.senders(callback.task_id, sorted(wanted))
            digests |= {d for d, attempts in senders.items() if callback.attempt in attempts}
        shown = Shown()
        attempt = task.attempt
        if attempt is not None and any("command" in c or c.get("marker") == "TRACE_OK" for c in claims):
            shown = await self._uploads.shown(callback.task_id, callback.attempt, attempt.offered_in)
        traced = shown.traced or callback.traceparent is not None
        return Held(digests=digests, commands=shown.commands, traced=traced)


def with_facts(held: Held, task: Task | None, number: int) -> Held:
    """Add what the task tells of its open attempt: a checkpoint, its skills, the brief that it acknowledged."""
    attempt = task.attempt if task else None
    if held is NOTHING or task is None or attempt is None or attempt.number != number or not attempt.is_open:
        return held
    return replace(
        held,
        checkpoint=task.checkpoint_in > attempt.offered_in,
        capable=attempt.capable,
        in_sync=attempt.state != "offered",  # an ack with another digest than the sealed brief's is refused
    )


def refuse_secrets(artifacts: Sequence[Delivered]) -> None:
    """Refuse inline bytes with a secret in them: their digest names them, so nothing can be taken out."""
    for artifact in artifacts:
        if artifact.content is not None and (kinds := secrets_in(artifact.content)):
            raise ContractViolation(
                "secret_in_artifact",
                f"{artifact.name[:100]} holds what looks like a secret: {', '.join(kinds)}.",
                (artifact.pointer,),
            )


def _claims(kind: str, body: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """List the evidence of a callback that claims more than its own word."""
    if kind not in _CLAIMING:
        return ()
    items = [body] if kind == "evidence" else body.get("evidence", ())
    return [item for item in items if item["rank"] != "self_reported"]

"""The one door of executors: a callback becomes a command, once, in the order of checks that the contract fixes."""

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import orjson

from agentic_os.application import translate
from agentic_os.application.acceptance import acceptance
from agentic_os.application.attempt_tokens import AttemptClaim, AttemptTokens
from agentic_os.application.breakers import RateBreakers, require_few
from agentic_os.application.callers import (
    Caller,
    CredentialInvalid,
    executor_of,
    identify,
    require_scope,
    require_valid,
)
from agentic_os.application.children import births, governed
from agentic_os.application.handle import Handled, handle
from agentic_os.application.holdings import Holdings, refuse_secrets, with_facts
from agentic_os.application.ports import (
    Envelope,
    EventLog,
    Loaded,
    Progress,
    Receipt,
    ReceiptMismatch,
    Registry,
    SeqGuard,
    SkillsInForce,
)
from agentic_os.application.rates import Buckets, RateLimited, Rates
from agentic_os.application.signals import Committed
from agentic_os.application.verdicts import RULED, put_on_record, ruled
from agentic_os.clock import new_id, now
from agentic_os.contracts.callback import Callback, read_callback
from agentic_os.contracts.canonical import JsonValue
from agentic_os.contracts.redaction import Finding, redact
from agentic_os.contracts.strict_json import parse_canonical, parse_json
from agentic_os.contracts.violation import ContractViolation
from agentic_os.domain import commands as c
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.events import QUIET, UsageBooked
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

ROUTE: Final = "callback"
_UNCHARGED: Final = frozenset({"schema_invalid", "token_expired", "unknown_task"})
"""Refusals that book nothing: what breaks the schema, a token that no longer counts, no task to book it on."""
_CLOSING: Final = ("plan", "result", "failure")
_JUDGED: Final = frozenset({"plan", "result", "failure", "escalation"})
"""Kinds that policy is asked about, with the roles of who sends them."""
NO_SKILLS: Final = "sha256:" + hashlib.sha256(b"").hexdigest()


class _AcceptedMeanwhile(Exception):
    """The callback that is decided here was accepted there."""

    def __init__(self, found: Loaded) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body of a 202, and whether it was given before."""

    body: bytes
    replayed: bool


class Callbacks:
    """Accepts callbacks."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        tokens: AttemptTokens,
        skills: SkillsInForce,
        holdings: Holdings,
        rates: Rates,
        breakers: RateBreakers,
        committed: Committed,
        policy: Callable[[], DecisionPoint],
        organisation: Callable[[], Organisation] = Organisation,
        spent: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._log = log
        self._registry = registry
        self._tokens = tokens
        self._skills = skills
        self._holdings = holdings
        self._buckets = Buckets(rates.callbacks)
        self._clock = rates.clock
        self._breakers = breakers
        self._committed = committed
        self._policy = policy
        self._organisation = organisation
        self._spent = spent

    async def accept(self, raw: bytes, bearer: str, idempotency_key: str | None = None) -> Answer:
        """Take in one callback.

        Raises CredentialInvalid, RateLimited, ContractViolation, Rejected or ReceiptMismatch.
        """
        caller = await self.authenticate(bearer)
        document, canonical = parse_canonical(raw)
        require_scope(caller, document)
        self._slow_down(caller, document)
        try:
            callback = read_callback(document)
            _require_same_key(callback, idempotency_key)
        except ContractViolation:
            await self._refuse_reused_key(caller, document, canonical)
            raise
        receipt = self._receipt(caller, document, canonical)
        callback, meta = self._without_secrets(callback)
        answer = await self._accept_from_memory(callback, caller, receipt, meta)
        if answer is not None:
            return answer
        loaded = await self._log.load(callback.task_id, receipt)
        if loaded.fingerprint is not None:
            return self._replay(loaded, receipt, callback)
        require_valid(caller)
        try:
            return await self._decide(callback, caller, receipt, loaded, meta)
        except (Rejected, ContractViolation, RateLimited) as refusal:
            executor = executor_of(caller, loaded.task) or caller.principal
            code = "rate_limited" if isinstance(refusal, RateLimited) else refusal.code
            earlier = await self._charge(code, callback, executor, receipt, meta)
            if earlier is not None:
                return earlier
            if isinstance(refusal, Rejected):
                await self._keep_aside(refusal, callback, executor, meta)
                if refusal.denial is not None:
                    envelope = Envelope(actor=executor, at=now(), cause=callback.callback_id, meta=meta)
                    await put_on_record(self._log, callback.task_id, refusal.denial, envelope)
                if refusal.code == "skill_drift":
                    await self._note_drift(
                        callback, self._expected_skillset(caller, loaded.task), executor, meta
                    )
            raise

    def _slow_down(self, caller: Caller, document: JsonValue) -> None:
        """Slow an attempt that floods us; what closes it is always let in. Raises RateLimited."""
        wait = self._buckets.take(caller.principal, self._clock())
        if wait and not (isinstance(document, dict) and document.get("kind") in _CLOSING):
            raise RateLimited(wait)

    async def _accept_from_memory(
        self, callback: Callback, caller: Caller, receipt: Receipt, meta: JsonObject
    ) -> Answer | None:
        """Decide on the task as this process last saw it, which saves a round trip.

        The append confirms it: it refuses another version, and it finds the receipt of a replay. Only an acceptance
        counts; a refusal may come of what was not seen, and is decided again on what is stored.
        """
        remembered = self._log.recall(callback.task_id) if caller.claim is not None else None
        if remembered is None or callback.kind == "task_request" or _gap(callback, caller, remembered):
            # Coalesced progress leaves no event: whether something is missing, only the store knows. And only what
            # is no replay may count for a breaker.
            return None
        try:
            return await self._decide(callback, caller, receipt, remembered, meta)
        except (Rejected, ContractViolation):
            return None

    def _without_secrets(self, callback: Callback) -> tuple[Callback, JsonObject]:
        """Take secrets out of the body before anything is decided or kept; what its events say of them comes along."""
        body, findings = redact(callback.body)
        meta = _meta(callback)
        if not findings:
            return callback, meta
        redacted = {
            "redacted": {finding.kind: finding.count for finding in findings},
            "redacted_digest": self._tokens.fingerprint(_joined(findings)).hex(),
        }
        return replace(callback, body=body), {**meta, **redacted}

    async def authenticate(self, bearer: str) -> Caller:
        """Find out whose credential it is. Raises CredentialInvalid for one that we never issued."""
        return await identify(bearer, self._tokens, self._registry)

    async def require_open_attempt(self, bearer: str) -> AttemptClaim:
        """Let an upload in only while its attempt may write, and say whose it is.

        Raises CredentialInvalid or Rejected.
        """
        caller = await self.authenticate(bearer)
        if caller.claim is None:
            raise Rejected("scope_denied", "Uploads take the attempt token.", next_step="Send ack first.")
        task = (await self._log.load(caller.claim.task_id)).task
        attempt = task.attempt if task else None
        if attempt is None or attempt.number != caller.claim.attempt or not attempt.is_open:
            raise Rejected("attempt_superseded", "The attempt of this token is over.", next_step="Stop.")
        if attempt.generation != caller.claim.generation:
            raise CredentialInvalid("token_expired", "A later ack replaced this attempt token.")
        return caller.claim

    async def uploaded(self, claim: AttemptClaim, digest: str) -> None:
        """Note that an attempt uploaded bytes, which are stored."""
        await self._holdings.uploaded(claim.task_id, claim.attempt, digest)

    async def project_of(self, raw: bytes) -> str:
        """Find the project of the task that a callback names."""
        task = (await self._log.load(read_callback(parse_json(raw)).task_id)).task
        return task.project if task else "default"

    def _receipt(self, caller: Caller, document: dict[str, JsonValue], canonical: bytes) -> Receipt:
        return Receipt(
            principal=caller.principal,
            route=ROUTE,
            key=document["callback_id"],
            fingerprint=self._tokens.fingerprint(canonical),
        )

    async def _refuse_reused_key(self, caller: Caller, document: JsonValue, canonical: bytes) -> None:
        """Name the reuse of a key before the fault of the content, as the order of checks asks."""
        if not isinstance(document, dict) or not isinstance(document.get("callback_id"), str):
            return
        receipt = self._receipt(caller, document, canonical)
        loaded = await self._log.load("", receipt)
        if loaded.fingerprint is not None and loaded.fingerprint != receipt.fingerprint:
            raise ReceiptMismatch

    def _replay(self, loaded: Loaded, receipt: Receipt, callback: Callback) -> Answer:
        if loaded.fingerprint != receipt.fingerprint:
            raise ReceiptMismatch
        return Answer(body=self._with_token(loaded.answer or "{}", callback), replayed=True)

    def _with_token(self, stored: str, callback: Callback) -> bytes:
        """Put the attempt token into the answer to an ack; what is stored names only its generation."""
        if callback.kind != "ack":
            return stored.encode()
        answer = orjson.loads(stored)
        answer["attempt_token"] = self._tokens.mint(
            callback.task_id, callback.attempt, answer.pop("generation")
        )
        return orjson.dumps(answer)

    async def _decide(
        self, callback: Callback, caller: Caller, receipt: Receipt, loaded: Loaded, meta: JsonObject
    ) -> Answer:
        at = now()
        if loaded.task is None:
            raise Rejected("unknown_task", "There is no such task.", next_step="Check task_id.")
        artifacts, body = translate.split_artifacts(callback.body)
        if artifacts:
            await self._holdings.require(callback.task_id, artifacts)
            refuse_secrets(artifacts)
        held = await self._holdings.behind(callback, body, artifacts, loaded.task)
        executor = executor_of(caller, loaded.task)
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        policy = self._policy()
        judged = await self._registry.executor(executor) if callback.kind in _JUDGED else None

        def command_for(found: Loaded) -> c.Command:
            if found.fingerprint is not None:
                raise _AcceptedMeanwhile(found)
            sent = translate.command_for(
                callback,
                body,
                artifacts,
                origin=translate.Origin(
                    executor=executor,
                    generation=caller.claim.generation if caller.claim else 0,
                    last_seq=_last_seq(found, caller),
                    at=at,
                    jitter=jitter,
                ),
                expected_skillset=self._expected_skillset(caller, found.task),
                output_schema=found.task.output_schema if found.task else None,
                held=with_facts(held, found.task, callback.attempt),
            )
            if type(sent) is c.Record:
                return governed(sent, found.task, policy, self._organisation())
            return ruled(sent, found.task, judged, policy) if type(sent) in RULED else sent

        async def before_append() -> None:
            await self._count_tasks(callback, executor, policy)
            await self._holdings.keep(callback.task_id, callback.attempt, artifacts)

        meta = {**meta, **_gap(callback, caller, loaded)}
        envelope = Envelope(actor=executor or caller.principal, at=at, cause=callback.callback_id, meta=meta)
        try:
            handled = await handle(
                self._log,
                callback.task_id,
                command_for,
                envelope,
                receipt=receipt,
                answer=lambda task, ids: acceptance(task, ids, callback.kind),
                progress=_progress(callback, caller, at),
                seq_guard=_seq_guard(callback, caller),
                credential=caller.credential,
                loaded=loaded,
                before_append=before_append,
                followers=lambda change: births(change, policy, at),
            )
        except _AcceptedMeanwhile as accepted:
            return self._replay(accepted.found, receipt, callback)
        except Rejected:
            if refs := _requests(callback):
                await self._breakers.give_back("task_request", refs, executor=executor)
            raise
        kinds = set(map(type, handled.events))
        if self._spent is not None and UsageBooked in kinds and kinds <= QUIET:
            await self._spent(callback.task_id)
        return self._accepted(handled, callback)

    async def _count_tasks(self, callback: Callback, executor: str, policy: DecisionPoint) -> None:
        """Let the executor ask for these tasks, if its breaker does. Raises Rejected, or RateLimited.

        Those of a plan are counted when they are created: people may have approved them by then.
        """
        breaker = policy.breakers.task_request
        if breaker is None:
            return
        if callback.kind in ("plan", "task_request"):
            require_few(callback.body.get("tasks", ()), policy)
        until = await self._breakers.task_request(executor, _requests(callback))
        if until is not None:
            raise RateLimited(
                max((until - now()).total_seconds(), 1.0),
                f"{executor} asked for as many tasks lately as policy allows ({breaker.count} within "
                f"{int(breaker.within.total_seconds())} seconds).",
            )

    def _accepted(self, handled: Handled, callback: Callback) -> Answer:
        assert handled.appended is not None
        self._committed(handled.task, quiet=QUIET.issuperset(map(type, handled.events)))
        return Answer(
            body=self._with_token(handled.appended.answer, callback), replayed=handled.appended.replayed
        )

    def _expected_skillset(self, caller: Caller, task: Task | None) -> str:
        if caller.executor is None or caller.executor.skills == "not-required" or task is None:
            return NO_SKILLS
        return self._skills().of(task.project).digest

    async def _note_drift(self, callback: Callback, expected: str, executor: str, meta: JsonObject) -> None:
        """Put on record that the executor's workspace has other skills than those in force."""
        found = callback.body["skillset_digest"]
        command = c.RecordSkillDrift(
            attempt=callback.attempt, executor=executor, expected=expected, found=found
        )
        envelope = Envelope(
            actor=executor,
            at=now(),
            cause=callback.callback_id,
            reason=f"{executor} has the skills {found[:19]}, in force are {expected[:19]}",
            meta=meta,
        )
        handled = await handle(self._log, callback.task_id, lambda _: command, envelope)
        if handled.events:
            self._committed(handled.task)

    async def _charge(
        self, code: str, callback: Callback, executor: str, receipt: Receipt, meta: JsonObject
    ) -> Answer | None:
        """Book what a refused callback had spent; give the answer if the same callback was accepted meanwhile."""
        usage = translate.usage_of(callback)
        if usage is None or code in _UNCHARGED:
            return None

        def command_for(found: Loaded) -> c.Command:
            if found.fingerprint is not None:
                raise _AcceptedMeanwhile(found)
            return c.ChargeRefusal(
                executor=executor,
                attempt=callback.attempt,
                callback_id=callback.callback_id,
                kind=callback.kind,
                code=code,
                usage=usage,
                model=translate.model_of(callback),
            )

        envelope = Envelope(actor=executor, at=now(), cause=callback.callback_id, meta=meta)
        try:
            handled = await handle(self._log, callback.task_id, command_for, envelope, lookup=receipt)
        except _AcceptedMeanwhile as accepted:
            return self._replay(accepted.found, receipt, callback)
        if self._spent is not None and handled.events:
            await self._spent(callback.task_id)
        return None

    async def _keep_aside(
        self, refusal: Rejected, callback: Callback, executor: str, meta: JsonObject
    ) -> None:
        """Close an attempt whose lease is seen to be over, and quarantine the plan or result that came too late."""
        if refusal.code not in ("lease_lost", "attempt_superseded"):
            return
        envelope = Envelope(actor=executor, at=now(), cause=callback.callback_id, meta=meta)
        fire = c.FireDeadline(kind="lease", ref=str(callback.attempt), at=envelope.at)
        policy, judged = self._policy(), await self._registry.executor(executor)
        handled = await handle(
            self._log, callback.task_id, lambda found: ruled(fire, found.task, judged, policy), envelope
        )
        if callback.kind in ("plan", "result"):
            artifacts, body = translate.split_artifacts(callback.body)
            # It may be adopted, and then its bytes must be there.
            await self._holdings.keep(callback.task_id, callback.attempt, artifacts)
            late = c.Quarantine(
                quarantine_id=str(new_id()),
                attempt=callback.attempt,
                callback_id=callback.callback_id,
                kind="plan" if callback.kind == "plan" else "result",
                reason=refusal.code,
                body=body,
                at=envelope.at,
            )
            handled = await handle(self._log, callback.task_id, lambda _: late, envelope)
        self._committed(handled.task)


def _require_same_key(callback: Callback, idempotency_key: str | None) -> None:
    if idempotency_key is not None and idempotency_key != callback.callback_id:
        raise ContractViolation(
            "idempotency_mismatch", "The Idempotency-Key header must equal callback_id.", ("/callback_id",)
        )


def _requests(callback: Callback) -> list[str]:
    """Name the tasks of a request, each once, so that the same callback counts once."""
    if callback.kind != "task_request":
        return []
    return [
        f"{callback.task_id}:{callback.callback_id}:{number}" for number in range(len(callback.body["tasks"]))
    ]


def _last_seq(found: Loaded, caller: Caller) -> int:
    """Find the latest seq of coalesced progress, which the events do not know."""
    claim, progress = caller.claim, found.progress
    if claim is None or progress is None:
        return 0
    return progress.seq if (progress.attempt, progress.generation) == (claim.attempt, claim.generation) else 0


def _gap(callback: Callback, caller: Caller, found: Loaded) -> dict[str, int]:
    """Flag how many callbacks of the attempt are missing before this one: it is accepted all the same."""
    attempt = found.task.attempt if found.task else None
    if caller.claim is None or attempt is None or attempt.number != callback.attempt:
        return {}
    missing = callback.seq - max(attempt.seq, _last_seq(found, caller)) - 1
    return {"seq_gap": missing} if missing > 0 else {}


def _progress(callback: Callback, caller: Caller, at: datetime) -> Progress | None:
    if callback.kind != "progress" or caller.claim is None:
        return None
    return Progress(
        attempt=callback.attempt,
        generation=caller.claim.generation,
        seq=callback.seq,
        message=callback.body["message"],
        at=at,
    )


def _seq_guard(callback: Callback, caller: Caller) -> SeqGuard | None:
    if caller.claim is None:
        return None
    return SeqGuard(
        attempt=callback.attempt,
        generation=caller.claim.generation,
        seq=callback.seq,
    )


def _meta(callback: Callback) -> JsonObject:
    meta: JsonObject = {"occurred_at": callback.occurred_at}
    return {**meta, "traceparent": callback.traceparent} if callback.traceparent else meta


def _joined(findings: Sequence[Finding]) -> bytes:
    """Join secrets for a keyed digest that tells the same ones again, wherever they stood; no receipt begins so."""
    secrets = sorted({secret for finding in findings for secret in finding.secrets})
    return "\0".join(["secrets", *secrets]).encode()

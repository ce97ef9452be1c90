"""The chain: recomputed outside the database, and every kind of tampering found where it was done."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from agentic_os.application.ports import Batch
from agentic_os.contracts.canonical import canonical_json
from agentic_os.domain.governance import BundleApplied
from agentic_os.postgres.audit import AuditReport, BrokenLink, verify
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.pool import Pool

BatchOf = Callable[..., Batch]
AN_ID = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def history(log: PostgresEventLog, batch_of: BatchOf) -> None:
    """Write five events in each of three streams; the data of lab:b imitates other types and ids."""
    await log.append(batch_of(("lab:a", 0), ("lab:b", 0), ("lab:c", 0), facts=2))
    imitation = batch_of(("lab:b", 2))
    nested = BundleApplied(bundle="x", document={"type": "plan.approved", "event_id": AN_ID})
    await log.append(replace(imitation, registry=[replace(imitation.registry[0], events=[nested])]))
    await log.append(batch_of(("lab:a", 2), ("lab:c", 2), facts=3))
    await log.append(batch_of(("lab:b", 3), facts=2))


@pytest.fixture
def tamper(superuser: psycopg.Connection) -> Callable[[str], None]:
    """Change history as nobody may: with every trigger switched off."""

    def run(statements: str) -> None:
        superuser.execute(f"set session_replication_role = replica; {statements}".encode())

    return run


async def test_the_chain_can_be_recomputed_elsewhere(history: None, owner: psycopg.Connection):
    """Every stored hash follows from the payloads alone, by SHA-256 over length-prefixed parts."""
    query = "select stream_id, version, payload, payload_hash, hash from es.event order by stream_id, version"
    heads: dict[str, bytes] = {}
    for stream, version, payload, payload_hash, stored in owner.execute(query):
        digest = hashlib.sha256(payload.encode()).digest()
        parts = [heads.get(stream, b""), stream.encode(), version.to_bytes(4, "big"), digest]
        chained = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
        assert (digest, chained) == (payload_hash, stored)
        heads[stream] = chained

    assert heads == dict(owner.execute("select stream_id, head from es.stream").fetchall())


async def test_a_payload_is_canonical_and_says_who_and_when(history: None, owner: psycopg.Connection):
    """What is hashed is canonical JSON, and holds the event with its actor, reason, cause and time."""
    rows = owner.execute("select payload, event_id::text, type from es.event").fetchall()
    assert 15 == len(rows)
    for payload, event_id, name in rows:
        document = json.loads(payload)
        assert canonical_json(document).decode() == payload
        assert (event_id, name, "tester") == (document["event_id"], document["type"], document["actor"])
        assert {"actor", "at", "cause", "data", "event_id", "meta", "reason", "schema", "type"} == set(
            document
        )


async def test_an_untouched_history_is_whole(history: None, pool: Pool):
    """An audit of what was only appended to counts everything and finds nothing; so does one of nothing."""
    assert AuditReport(streams=3, events=15, broken=None) == await verify(pool)


async def test_an_empty_history_is_whole(pool: Pool):
    """An audit of a new store finds nothing."""
    assert AuditReport(streams=0, events=0, broken=None) == await verify(pool)


@pytest.mark.parametrize(
    ("statements", "version", "reason"),
    [
        ("update es.event set payload = replace(payload, 'tester', 'nobody') where {3}", 3, "payload"),
        ("update es.event set payload = payload || ' ' where {1}", 1, "payload"),
        (
            "update es.event set payload = '{{}}', payload_hash = sha256('{{}}') where {2}",
            2,
            "chain is broken",
        ),
        ("update es.event set payload_hash = hash where {4}", 4, "payload"),
        ("update es.event set hash = payload_hash where {4}", 4, "chain is broken"),
        ("update es.event set hash = payload_hash where {5}", 5, "chain is broken"),
        ("update es.event set type = 'plan.rejected' where {2}", 2, "type column"),
        ("update es.event set type = 'plan.approved' where {3}", 3, "type column"),
        ("update es.event set event_id = gen_random_uuid() where {5}", 5, "id column"),
        (f"update es.event set event_id = '{AN_ID}' where {{3}}", 3, "id column"),
        ("delete from es.event where {1}", 2, "event 1 is missing"),
        ("delete from es.event where {3}", 4, "event 3 is missing"),
        ("delete from es.event where {2} or {3}", 4, "event 2 is missing"),
        ("delete from es.event where {5}", 4, "head does not match"),
        ("delete from es.event where stream_id = 'lab:b'", 0, "no events"),
        ("update es.stream set version = 6 where stream_id = 'lab:b'", 5, "head does not match"),
        ("update es.stream set version = 4 where stream_id = 'lab:b'", 5, "head does not match"),
        ("update es.stream set head = sha256('') where stream_id = 'lab:b'", 5, "head does not match"),
        ("delete from es.stream where stream_id = 'lab:b'", 1, "head is missing"),
        (
            (
                "update es.event set version = 9 where {2}; update es.event set version = 2 where {3}; "
                "update es.event set version = 3 where stream_id = 'lab:b' and version = 9"
            ),
            2,
            "chain is broken",
        ),
        (
            (
                "insert into es.event (stream_id, version, event_id, type, payload, payload_hash, hash) "
                "select stream_id, 6, event_id, type, payload, payload_hash, hash from es.event where {5}"
            ),
            6,
            "chain is broken",
        ),
        (
            (
                "delete from es.event where {5}; update es.event set stream_id = 'lab:b' "
                "where stream_id = 'lab:c' and version = 5"
            ),
            5,
            "chain is broken",
        ),
    ],
)
@pytest.mark.usefixtures("history")
async def test_tampering_is_found_where_it_was_done(
    pool: Pool, tamper: Callable[[str], None], statements: str, version: int, reason: str
):
    """Whatever is changed, dropped, moved or added, the audit names the stream, the version and how it shows."""
    places = [f"stream_id = 'lab:b' and version = {number}" for number in range(6)]
    tamper(statements.format(*places))

    broken = (await verify(pool)).broken

    assert broken is not None
    assert ("lab:b", version) == (broken.stream, broken.version)
    assert re.search(reason, broken.reason)


async def test_an_audit_reads_on_past_the_first_page(
    log: PostgresEventLog, pool: Pool, tamper: Callable[[str], None], batch_of: BatchOf
):
    """A break in the last of many streams is found, and every event before it was checked."""
    names = [f"lab:{number:04}" for number in range(1100)]
    await log.append(batch_of(*((name, 0) for name in names)))
    assert AuditReport(streams=1100, events=1100, broken=None) == await verify(pool)

    tamper("update es.event set payload = '' where stream_id = 'lab:1099'")

    broken = BrokenLink(stream="lab:1099", version=1, reason="the payload was changed")
    assert AuditReport(streams=1100, events=1100, broken=broken) == await verify(pool)


async def test_the_first_of_several_breaks_is_named(history: None, pool: Pool, tamper: Callable[[str], None]):
    """Of several broken links the first stream's first one is named."""
    tamper(
        "delete from es.event where stream_id = 'lab:c'; update es.event set payload = '' where version > 3"
    )

    report: Any = await verify(pool)

    assert ("lab:a", 4) == (report.broken.stream, report.broken.version)

"""The registry: who may act, recorded in the history as well, and never two under one name."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from agentic_os.application.ports import Credential, NameTaken, Principal
from agentic_os.clock import now
from agentic_os.domain.documents import Participant
from agentic_os.domain.organisation import Member, Organisation
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.pool import Pool
from agentic_os.postgres.registry import PostgresRegistry
from agentic_os.postgres.work_queue import PostgresWorkQueue

ADA = Principal(id="ada", name="ada", kind="person", roles=("admin",))
CODER = Principal(
    id="coder",
    name="coder",
    kind="executor",
    roles=("backend", "python"),
    owner="ada",
    skills="not-required",
    capacity=3,
)


@pytest.fixture
def registry(pool: Pool) -> PostgresRegistry:
    """Give the registry as the application has it."""
    return PostgresRegistry(pool)


def hashed(secret: str) -> bytes:
    """Give the hash of a secret."""
    return hashlib.sha256(secret.encode()).digest()


async def test_what_is_added_is_found(registry: PostgresRegistry, log: PostgresEventLog):
    """A principal is found by name and by credential with all that was said of it, and its stream says it too."""
    await registry.add(CODER, hashed("s"), None, actor="ada")

    assert CODER == await registry.by_name("coder")
    assert Credential(principal=CODER, hash=hashed("s"), valid=True) == await registry.credential(hashed("s"))
    (event,) = await log.read_stream("principal:coder")
    assert ("principal.registered", "ada") == (event.type, event.actor)
    assert {"name": "coder", "owner": "ada", "capacity": 3}.items() <= event.data.items()


async def test_what_was_never_issued_is_not_found(registry: PostgresRegistry):
    """An unknown name, credential or account is nobody."""
    assert await registry.by_name("nobody") is None
    assert await registry.credential(hashed("guess")) is None
    assert await registry.by_account("memory", "u1") is None
    assert await registry.account_of("memory", "nobody") is None


async def test_the_secret_is_in_no_event(registry: PostgresRegistry, owner: psycopg.Connection):
    """Neither the credential nor its hash gets into the history, which is for ever."""
    await registry.add(CODER, hashed("s"), None)
    await registry.replace_credentials("coder", hashed("t"))

    payloads = "".join(row[0] for row in owner.execute("select payload from es.event"))
    assert not any(secret.hex() in payloads for secret in (hashed("s"), hashed("t")))


@pytest.mark.parametrize("other_id", ["coder", "another"])
async def test_a_name_is_given_once(
    registry: PostgresRegistry, contents: Callable[..., list[str]], other_id: str
):
    """A second principal of a name is refused, whatever its id, and leaves nothing; nor does a used credential."""
    tables = ("principal", "credential", "event", "stream", "stale")
    await registry.add(CODER, hashed("s"), None)
    before = contents(*tables)

    with pytest.raises(NameTaken):
        await registry.add(replace(CODER, id=other_id, kind="person"), hashed("t"), None)

    assert before == contents(*tables)
    assert CODER == await registry.by_name("coder")


async def test_equal_names_at_once_are_one_principal(
    open_pool: Callable[..., Any], contents: Callable[..., list[str]]
):
    """Of ten who ask for one name at once one gets it."""
    registry = PostgresRegistry(await open_pool(10))

    async def add(number: int) -> bool:
        try:
            await registry.add(CODER, hashed(str(number)), None)
        except NameTaken:
            return False
        return True

    assert 1 == sum(await asyncio.gather(*(add(number) for number in range(10))))
    assert 3 == len(contents("principal", "credential", "event"))


async def test_credentials_are_replaced(registry: PostgresRegistry):
    """A new credential takes the place of all former ones, which are known and count no more."""
    await registry.add(CODER, hashed("s"), None)
    await registry.replace_credentials("coder", hashed("t"))

    former, present = await registry.credential(hashed("s")), await registry.credential(hashed("t"))

    assert former is not None
    assert present is not None
    assert (False, True) == (former.valid, present.valid)


async def test_a_credential_ends(registry: PostgresRegistry, owner: psycopg.Connection):
    """A credential past its time is invalid, and so is each of a principal that was revoked."""
    await registry.add(CODER, hashed("s"), now() - timedelta(seconds=1))
    await registry.add(ADA, hashed("a"), now() + timedelta(hours=1))
    expired, valid = await registry.credential(hashed("s")), await registry.credential(hashed("a"))
    assert expired is not None
    assert valid is not None
    assert (False, True) == (expired.valid, valid.valid)

    owner.execute("update es.principal set revoked_at = now()")

    revoked = await registry.credential(hashed("a"))
    assert revoked is not None
    assert (False, True) == (revoked.valid, revoked.principal.revoked)
    assert [] == list(await registry.executors())
    assert Participant(id="ada", kind="person") == await registry.participant("ada")


async def test_executors_come_with_their_load(registry: PostgresRegistry, owner: psycopg.Connection):
    """Executors are listed by name, each with the number of tasks that it holds; people are not among them."""
    for name in ("b", "a"):
        await registry.add(replace(CODER, id=name, name=name), hashed(name), None)
    await registry.add(ADA, hashed("ada"), None)
    for number in range(2):
        owner.execute(
            "insert into es.task values (%s, 1, 1, 'executing', 'p', 't', 'b', 'low', '{}', now(), now())",
            (str(number),),
        )

    assert [("a", 0), ("b", 2)] == [(found.name, found.load) for found in await registry.executors()]
    assert ["ada"] == [found.name for found in await registry.people()]


async def test_roles_include_lesser_ones(registry: PostgresRegistry):
    """An administrator may do what the others may; owners are known by what they own; strangers have no right."""
    await registry.add(ADA, hashed("a"), None)
    await registry.add(CODER, hashed("s"), None)

    ada = await registry.participant("ada")

    assert {"admin", "operator", "reviewer", "viewer"} == ada.roles
    assert {"coder"} == ada.owns
    assert ("executor", {"backend", "python"}) == (
        (coder := await registry.participant("coder")).kind,
        coder.roles,
    )
    assert Participant(id="stranger", kind="person") == await registry.participant("stranger")


async def test_an_account_is_one_principals(registry: PostgresRegistry, log: PostgresEventLog):
    """An account leads to its principal and back; it can be given to another, and each time is recorded once."""
    await registry.add(ADA, hashed("a"), None)
    await registry.add(CODER, hashed("s"), None)
    for _ in range(2):
        await registry.link("memory", "u1", "ada", actor="ada")
    await registry.link("board", "u1", "coder")

    found = await registry.by_account("memory", "u1")

    assert found is not None
    assert ("ada", "u1", None) == (
        found.name,
        await registry.account_of("memory", "ada"),
        await registry.account_of("memory", "coder"),
    )
    await registry.link("memory", "u1", "coder")
    assert await registry.account_of("memory", "ada") is None
    assert ["principal.registered", "account.linked"] == [
        event.type for event in await log.read_stream("principal:ada")
    ]
    with pytest.raises(LookupError):
        await registry.link("memory", "u2", "stranger")


async def test_links_at_once_all_hold(open_pool: Callable[..., Any], log: PostgresEventLog):
    """Several accounts linked to one principal at once are all linked, and each is recorded once."""
    registry = PostgresRegistry(await open_pool(8))
    await registry.add(ADA, hashed("a"), None)

    await asyncio.gather(*(registry.link("memory", f"u{number % 4}", "ada") for number in range(8)))

    linked = [event.data["account"] for event in await log.read_stream("principal:ada", after=1)]
    assert ["u0", "u1", "u2", "u3"] == sorted(linked)
    for account in linked:
        found = await registry.by_account("memory", account)
        assert found is not None
        assert "ada" == found.name


async def test_a_policy_is_recorded_when_it_changes(registry: PostgresRegistry, log: PostgresEventLog):
    """Coming into force is recorded once for each change of the policy, also for one that comes back."""
    recorded = [await registry.record_bundle(name, {"rules": []}, "system") for name in "aabba"]

    assert [True, False, True, False, True] == recorded
    events = await log.read_stream("governance:policy")
    assert ["a", "b", "a"] == [event.data["bundle"] for event in events]


async def test_a_new_executor_wakes_who_waits_for_one(registry: PostgresRegistry, pool: Pool):
    """Tasks that wait for any executor are marked when somebody joins."""
    work = PostgresWorkQueue(pool)
    await work.wait("t", "executor")

    await registry.add(CODER, hashed("s"), None)

    assert ["t"] == [mark.task_id for mark in await work.claim("w", 5, timedelta(minutes=1))]


async def test_credentials_replaced_at_once_leave_one(
    open_pool: Callable[..., Any], owner: psycopg.Connection
):
    """Of credentials that are replaced several times at once, one is valid in the end."""
    registry = PostgresRegistry(await open_pool(8))
    await registry.add(CODER, hashed("s"), None)

    await asyncio.gather(*(registry.replace_credentials("coder", hashed(str(n))) for n in range(8)))

    valid = "select count(*), count(*) filter (where revoked_at is null) from es.credential"
    assert (9, 1) == owner.execute(valid).fetchone()


async def test_policies_that_start_at_once_are_all_recorded(
    open_pool: Callable[..., Any], log: PostgresEventLog
):
    """Several processes that start with different policies at once each leave theirs in the history."""
    registry = PostgresRegistry(await open_pool(6))

    recorded = await asyncio.gather(
        *(registry.record_bundle(name, {"rules": []}, "system") for name in "abcdef")
    )

    assert [True] * 6 == recorded
    assert list("abcdef") == sorted(e.data["bundle"] for e in await log.read_stream("governance:policy"))


async def test_an_organisation_adds_roles_and_never_rights(pool: Pool):
    """What it says of somebody is joined with the registration, but what a token may do comes from there alone."""
    members = {
        "coder": Member(roles=("qa",), capacity=7, capabilities=("gpu",), tier=2),
        "vera": Member(roles=("tech-lead", "admin", "reviewer")),
        "omar": Member(roles=("designer",)),
    }
    registry = PostgresRegistry(pool, lambda: Organisation(members=members))
    await registry.add(CODER, hashed("s"), None)
    await registry.add(Principal(id="vera", name="vera", kind="person", roles=("viewer",)), hashed("v"), None)

    (coder,) = await registry.executors()
    assert ((*CODER.roles, "qa"), 7) == (coder.roles, coder.capacity)
    assert (("gpu",), 2) == (coder.capabilities, coder.tier)
    assert coder == await registry.executor("coder")
    assert [None, None] == [await registry.executor(name) for name in ("vera", "nobody")]
    vera = await registry.participant("vera")
    assert {"viewer", "tech-lead"} == vera.roles
    assert {"tech-lead", "admin", "reviewer", "designer"} == vera.binding


async def test_the_bundle_that_was_applied_last_is_found(registry: PostgresRegistry):
    """It comes with its author and reason, and only to who does not know it yet."""
    assert await registry.applied_bundle() is None
    for name in "ab":
        await registry.record_bundle(name, {"rules": []}, "ada", f"because of {name}")

    found = await registry.applied_bundle(after=1)
    assert found is not None
    assert (2, "b", "ada", "because of b") == (found.version, found.bundle, found.actor, found.reason)
    assert await registry.applied_bundle(after=2) is None

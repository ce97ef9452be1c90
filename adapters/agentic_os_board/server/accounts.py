"""Accounts, their tokens and their sessions; every secret is kept as a hash."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from agentic_os_board.clock import new_id, now

from .database import Connection, Database, Row
from .problems import Contradiction, Forbidden, Missing, TooMany, Unauthenticated

SYSTEM_NAME = "agentic-os"
SESSION_LIFETIME = timedelta(days=7)
FAILURES_PER_MINUTE = 5
Role: TypeAlias = Literal["viewer", "member", "admin"]
_TOKEN_PREFIX = "aosb_"  # noqa: S105 - what every token starts with, so that scanners find a lost one


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who acts on the board. role: a viewer reads, a member works, an admin looks after accounts too."""

    id: UUID
    kind: Literal["person", "agent", "system"]
    name: str
    role: Role
    active: bool = True

    @property
    def admin(self) -> bool:
        """Whether this is an administrator."""
        return self.role == "admin"

    @property
    def may_work(self) -> bool:
        """Whether this account may do more than read."""
        return self.role != "viewer"

    @property
    def is_system(self) -> bool:
        """Whether this is the backend."""
        return self.kind == "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in person; csrf must come back with every form."""

    account: Account
    csrf: str


def account_of(row: Row) -> Account:
    """Read an account from a row of the table."""
    return Account(
        id=row["id"],
        kind=row["kind"],
        name=row["name"],
        role=row["role"],
        active=row["deactivated_at"] is None,
    )


def require_admin(actor: Account) -> None:
    """Refuse everybody but an administrator."""
    if not actor.admin:
        raise Forbidden("only an administrator of the board may do this")


def require_member(actor: Account) -> None:
    """Refuse those who may only read."""
    if not actor.may_work:
        raise Forbidden(
            "your role is viewer, which may read only; ask an administrator of the board for more"
        )


def require_system(actor: Account) -> None:
    """Refuse everybody but the backend."""
    if not actor.is_system:
        raise Forbidden("only the backend's account may do this")


async def add_account(
    tx: Connection, *, name: str, kind: str, password_hash: str | None = None, role: Role = "member"
) -> Account:
    """Create an account. Raises Contradiction when the name is taken."""
    cursor = await tx.execute(
        "insert into accounts (id, kind, name, password_hash, role) values (%s, %s, %s, %s, %s)"
        " on conflict (name) do nothing returning *",
        (new_id(), kind, name, password_hash, role),
    )
    if (row := await cursor.fetchone()) is None:
        raise Contradiction(f"an account named {name!r} exists")
    return account_of(row)


async def find_account(tx: Connection, name: str) -> Account:
    """Find an account by its login name. Raises Missing."""
    cursor = await tx.execute("select * from accounts where name = %s", (name,))
    if (row := await cursor.fetchone()) is None:
        raise Missing(f"no account is named {name!r}")
    return account_of(row)


async def read_account(tx: Connection, account: UUID) -> Account:
    """Read an account by its id. Raises Missing."""
    cursor = await tx.execute("select * from accounts where id = %s", (account,))
    if (row := await cursor.fetchone()) is None:
        raise Missing("this account does not exist")
    return account_of(row)


async def list_accounts(tx: Connection) -> Sequence[Account]:
    """List the accounts by name."""
    cursor = await tx.execute("select * from accounts order by name")
    return [account_of(row) async for row in cursor]


async def add_token(
    tx: Connection, account: UUID, name: str, *, run: UUID | None = None, lifetime: timedelta | None = None
) -> str:
    """Issue a token; the answer is the only time that it is seen."""
    token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
    await _keep_token(tx, account, name, token, run=run, expires_at=now() + lifetime if lifetime else None)
    return token


async def set_backend_token(tx: Connection, system: Account, token: str) -> None:
    """Make this the one token of the backend."""
    await tx.execute("delete from tokens where account = %s and hash <> %s", (system.id, _digest(token)))
    await _keep_token(tx, system.id, "backend", token)


async def revoke_tokens(tx: Connection, account: Account) -> None:
    """Revoke every token of an account."""
    await tx.execute("delete from tokens where account = %s", (account.id,))


async def set_password(tx: Connection, person: Account, password_hash: str) -> None:
    """Set a person's password and end the sessions that the old one opened. Raises Forbidden."""
    if person.kind != "person":
        raise Forbidden("only people have passwords")
    await tx.execute("update accounts set password_hash = %s where id = %s", (password_hash, person.id))
    await close_sessions(tx, person)


async def set_role(tx: Connection, actor: Account, person: Account, role: Role) -> None:
    """Give a person another role. Raises Forbidden; the last administrator stays one (Contradiction)."""
    require_admin(actor)
    _require_person(person)
    if role != "admin":
        await _keep_an_admin(tx, person)
    await tx.execute("update accounts set role = %s where id = %s", (role, person.id))


async def set_active(tx: Connection, actor: Account, person: Account, *, active: bool) -> None:
    """Let a person in again, or shut them out: sessions and tokens end at once, what they wrote stays."""
    require_admin(actor)
    _require_person(person)
    if active:
        await tx.execute("update accounts set deactivated_at = null where id = %s", (person.id,))
        return
    await _keep_an_admin(tx, person)
    await tx.execute("update accounts set deactivated_at = clock_timestamp() where id = %s", (person.id,))
    await close_sessions(tx, person)
    await revoke_tokens(tx, person)


def _require_person(account: Account) -> None:
    if account.kind != "person":
        raise Forbidden(
            "only people have roles and can be deactivated here; agents work under their own rules"
        )


async def _keep_an_admin(tx: Connection, leaving: Account) -> None:
    # Locked, so that two administrators cannot dismiss each other at once.
    cursor = await tx.execute(
        "select id from accounts where role = 'admin' and deactivated_at is null order by id for update"
    )
    if {row["id"] for row in await cursor.fetchall()} == {leaving.id}:
        raise Contradiction("this is the last administrator; make somebody else one first")


async def account_of_token(tx: Connection, token: str) -> Account:
    """Say whose token it is. Raises Unauthenticated."""
    cursor = await tx.execute(
        "select accounts.* from tokens join accounts on accounts.id = tokens.account"
        " where hash = %s and (expires_at is null or expires_at > now()) and deactivated_at is null",
        (_digest(token),),
    )
    if (row := await cursor.fetchone()) is None:
        raise Unauthenticated("the token is unknown, expired or revoked")
    return account_of(row)


async def open_session(tx: Connection, account: Account) -> str:
    """Start a session and return its cookie; sessions that ended are swept out on the way."""
    cookie = secrets.token_urlsafe(32)
    await tx.execute("delete from sessions where expires_at < now()")
    await tx.execute(
        "insert into sessions (hash, account, csrf, expires_at) values (%s, %s, %s, %s)",
        (_digest(cookie), account.id, secrets.token_urlsafe(24), now() + SESSION_LIFETIME),
    )
    return cookie


async def find_session(tx: Connection, cookie: str) -> Session | None:
    """Find the live session of a cookie."""
    cursor = await tx.execute(
        "select accounts.*, csrf from sessions join accounts on accounts.id = sessions.account"
        " where hash = %s and expires_at > now() and deactivated_at is null",
        (_digest(cookie),),
    )
    row = await cursor.fetchone()
    return Session(account=account_of(row), csrf=row["csrf"]) if row else None


async def close_session(tx: Connection, cookie: str) -> None:
    """End a session."""
    await tx.execute("delete from sessions where hash = %s", (_digest(cookie),))


async def close_sessions(tx: Connection, account: Account) -> None:
    """End every session of an account."""
    await tx.execute("delete from sessions where account = %s", (account.id,))


class Passwords:
    """Check passwords slowly, in equal time for known and unknown names; a few failures a minute."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe())
        self._one_at_a_time = asyncio.Semaphore(1)
        self._minute = 0
        self._attempts: Counter[str] = Counter()

    async def hash(self, password: str) -> str:
        """Hash a password for storage."""
        return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, database: Database, name: str, password: str, *, at: datetime) -> Account:
        """Say whose name and password these are. Raises Unauthenticated, TooMany."""
        self._count(name, at)
        async with database.read() as tx:
            cursor = await tx.execute(
                "select * from accounts where name = %s and kind = 'person' and deactivated_at is null",
                (name,),
            )
            row = await cursor.fetchone()
        known = row["password_hash"] if row else None
        async with self._one_at_a_time:
            right = await asyncio.to_thread(self._verify, known or self._nobody, password)
        if row is None or not right:
            raise Unauthenticated("this name and password do not belong together")
        self._attempts[name] -= 1
        return account_of(row)

    def _count(self, name: str, at: datetime) -> None:
        minute, second = divmod(int(at.timestamp()), 60)
        if minute != self._minute:
            self._minute, self._attempts = minute, Counter()
        self._attempts[name] += 1
        if self._attempts[name] > FAILURES_PER_MINUTE:
            raise TooMany("too many failed attempts to sign in with this name; wait a minute", 60 - second)

    def _verify(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except VerifyMismatchError:
            return False


async def ensure_first_accounts(
    database: Database, passwords: Passwords, *, backend_token: str, operator: str, password: str
) -> None:
    """Create the backend's account and the operator's unless they exist."""
    async with database.read() as tx:
        cursor = await tx.execute(
            "select kind, name from accounts where name in (%s, %s)", (SYSTEM_NAME, operator)
        )
        kinds = {row["name"]: row["kind"] async for row in cursor}
        if SYSTEM_NAME not in kinds:
            await add_account(tx, name=SYSTEM_NAME, kind="system")
        await set_backend_token(tx, await find_account(tx, SYSTEM_NAME), backend_token)
        if operator not in kinds:
            hashed = await passwords.hash(password)
            await add_account(tx, name=operator, kind="person", password_hash=hashed, role="admin")


async def _keep_token(
    tx: Connection,
    account: UUID,
    name: str,
    token: str,
    *,
    run: UUID | None = None,
    expires_at: datetime | None = None,
) -> None:
    await tx.execute(
        "insert into tokens (id, account, name, hash, run, expires_at) values (%s, %s, %s, %s, %s, %s)"
        " on conflict (hash) do nothing",
        (new_id(), account, name, _digest(token), run, expires_at),
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()

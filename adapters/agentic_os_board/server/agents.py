"""Agents: accounts that are woken by a command or by an HTTP hook."""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from .accounts import Account, add_account, find_account, require_admin, revoke_tokens
from .activity import record
from .database import Connection, Row
from .fields import AccountName, Strict, storable
from .problems import Missing, Unacceptable
from .run_queue import stop_runs

CREDENTIAL_VARIABLE = "AGENTIC_OS_CREDENTIAL_FILE"
_SERVERS_OWN = re.compile(r"AGENTIC_OS_|DATABASE_URL\Z|PG[A-Z]+\Z")


def _absolute(text: str) -> str:
    if not Path(text).is_absolute():
        raise ValueError("must be an absolute path")
    return storable(text)


def _command_supported(command: list[str]) -> list[str]:
    if os.name != "posix":
        raise ValueError("agents that are commands need a POSIX system; use a hook here")
    return command


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"must be a network like 10.1.0.0/16: {error}") from None


def _passed_on(environment: dict[str, str | None]) -> dict[str, str | None]:
    """Refuse to pass on what may hold the server's own secrets; a value that is written out is the writer's own."""
    for name, value in environment.items():
        if value is None and _SERVERS_OWN.match(name):
            raise ValueError(f"{name} is the server's own and is not passed on to agents")
    return environment


AbsolutePath = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_absolute)]
Variable = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\z")]
Argument = Annotated[str, StringConstraints(max_length=8192), AfterValidator(storable)]


NetworkText = Annotated[str, StringConstraints(max_length=50), AfterValidator(_network)]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))


class CommandWake(Strict):
    """Wake by running a command.

    environment: variables that the command gets besides the board's own; None passes the server's value on.
    secret_files: variables that hold the path of a secret file. worktree: give each attempt a git worktree.
    keep_worktree: keep it also when all in it was committed. exclusive: nothing else runs in the workspace meanwhile,
    of this agent or of another, for a folder that attempts would share.
    """

    kind: Literal["command"]
    command: Annotated[
        list[Argument], Field(min_length=1, max_length=200), AfterValidator(_command_supported)
    ]
    workspace: AbsolutePath
    environment: Annotated[
        dict[Variable, Argument | None],
        Field(max_length=100, default_factory=dict),
        AfterValidator(_passed_on),
    ]
    secret_files: Annotated[dict[Variable, AbsolutePath], Field(max_length=20, default_factory=dict)]
    worktree: bool = False
    keep_worktree: bool = False
    exclusive: bool = False
    time_limit_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] = 3600

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.worktree and self.exclusive:
            raise ValueError("exclusive is for a folder that attempts share; with worktree each has its own")
        if self.keep_worktree and not self.worktree:
            raise ValueError("keep_worktree is for agents with worktree")
        return self


class HookWake(Strict):
    """Wake by a signed POST.

    allow_loopback: the hook is on this machine, which is refused otherwise. allow_networks: private networks in which
    the hook may be, as "10.1.0.0/16" or a single address. Only to these, http is spoken; elsewhere it is https.
    """

    kind: Literal["hook"]
    url: Annotated[str, StringConstraints(max_length=2048, pattern=r"\Ahttps?://[^\s@]+\z")]
    secret_file: AbsolutePath
    allow_loopback: bool = False
    allow_networks: Annotated[list[NetworkText], Field(max_length=20, default_factory=list)]

    @property
    def networks(self) -> list[Network]:
        """The networks that are allowed besides public addresses."""
        listed = [ipaddress.ip_network(text) for text in self.allow_networks]
        return [*listed, *_LOOPBACK] if self.allow_loopback else listed


Wake = Annotated[CommandWake | HookWake, Field(discriminator="kind")]


class Agent(Strict):
    """A new agent."""

    name: AccountName
    wake: Wake


async def add_agent(tx: Connection, actor: Account, agent: Agent) -> Account:
    """Create the agent's account and its wake. Raises Contradiction when the name is taken."""
    require_admin(actor)
    _require_safe(agent.wake)
    account = await add_account(tx, name=agent.name, kind="agent")
    await tx.execute(
        "insert into agents (account, wake) values (%s, %s)",
        (account.id, Jsonb(agent.wake.model_dump())),
    )
    return account


def _require_safe(wake: CommandWake | HookWake) -> None:
    """Refuse at once what would be refused at the first run. Raises Unacceptable."""
    if isinstance(wake, HookWake) and wake.url.startswith("http:") and not wake.networks:
        raise Unacceptable(
            "wake.url: a hook at a public address needs https; http is for loopback (allow_loopback) and for"
            " networks that are listed (allow_networks)"
        )


async def change_wake(tx: Connection, actor: Account, name: str, wake: CommandWake | HookWake) -> None:
    """Replace how an agent is woken, from its next run on. Raises Missing."""
    require_admin(actor)
    _require_safe(wake)
    cursor = await tx.execute(
        "update agents set wake = %s from accounts"
        " where accounts.id = agents.account and accounts.name = %s returning account",
        (Jsonb(wake.model_dump()), name),
    )
    if await cursor.fetchone() is None:
        raise Missing(f"no agent is named {name!r}")


async def deactivate_agent(tx: Connection, actor: Account, name: str) -> None:
    """Wake an agent no more: its tokens end, what runs is stopped, what it wrote stays. Raises Missing."""
    require_admin(actor)
    account = await find_account(tx, name)
    if account.kind != "agent":
        raise Missing(f"no agent is named {name!r}")
    if account.active:
        await tx.execute(
            "update accounts set deactivated_at = clock_timestamp() where id = %s", (account.id,)
        )
        await record(tx, actor, None, "agent.deactivated", {"account": str(account.id)})
    await revoke_tokens(tx, account)
    cursor = await tx.execute(
        "select distinct issue from runs where agent = %s and state in ('queued', 'running') and issue is not null",
        (account.id,),
    )
    for row in await cursor.fetchall():
        await stop_runs(tx, row["issue"], "its agent was deactivated")


async def list_agents(tx: Connection) -> Sequence[Row]:
    """List the agents by name, each with its newest runs."""
    cursor = await tx.execute(
        "select accounts.id, accounts.name, agents.wake, accounts.deactivated_at is null as active from agents"
        " join accounts on accounts.id = agents.account order by accounts.name"
    )
    agents = await cursor.fetchall()
    runs = await tx.execute(
        "select recent.* from agents cross join lateral"
        " (select * from runs where agent = agents.account order by created_at desc limit 8) as recent"
        " order by recent.created_at desc"
    )
    by_agent: dict[UUID, list[Row]] = {agent["id"]: [] for agent in agents}
    async for run in runs:
        by_agent[run["agent"]].append(run)
    return [{**agent, "runs": by_agent[agent["id"]]} for agent in agents]


def wake_of(stored: Mapping[str, object]) -> CommandWake | HookWake:
    """Read an agent's wake as it was stored."""
    kind = CommandWake if stored["kind"] == "command" else HookWake
    return kind.model_validate(stored)

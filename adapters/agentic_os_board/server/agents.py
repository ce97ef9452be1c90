"""Agents: accounts that are woken by a command or by an HTTP hook."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import AfterValidator, Field, StringConstraints

from .accounts import Account, add_account, require_admin
from .database import Connection, Row
from .fields import AccountName, Strict, storable
from .problems import Missing

CREDENTIAL_VARIABLE = "AGENTIC_OS_CREDENTIAL_FILE"


def _absolute(text: str) -> str:
    if not Path(text).is_absolute():
        raise ValueError("must be an absolute path")
    return storable(text)


def _command_supported(command: list[str]) -> list[str]:
    if os.name != "posix":
        raise ValueError("agents that are commands need a POSIX system; use a hook here")
    return command


AbsolutePath = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_absolute)]
Variable = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\z")]
Argument = Annotated[str, StringConstraints(max_length=8192), AfterValidator(storable)]


class CommandWake(Strict):
    """Wake by running a command.

    environment: variables that the command gets besides the board's own; None passes the server's value on.
    secret_files: variables that hold the path of a secret file. worktree: give each attempt a git worktree.
    """

    kind: Literal["command"]
    command: Annotated[
        list[Argument], Field(min_length=1, max_length=200), AfterValidator(_command_supported)
    ]
    workspace: AbsolutePath
    environment: Annotated[dict[Variable, Argument | None], Field(max_length=100, default_factory=dict)]
    secret_files: Annotated[dict[Variable, AbsolutePath], Field(max_length=20, default_factory=dict)]
    worktree: bool = False
    time_limit_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] = 3600


class HookWake(Strict):
    """Wake by a signed POST. allow_loopback: the hook is on this machine, which is refused otherwise."""

    kind: Literal["hook"]
    url: Annotated[str, StringConstraints(max_length=2048, pattern=r"\Ahttps?://[^\s@]+\z")]
    secret_file: AbsolutePath
    allow_loopback: bool = False


Wake = Annotated[CommandWake | HookWake, Field(discriminator="kind")]


class Agent(Strict):
    """A new agent."""

    name: AccountName
    wake: Wake


async def add_agent(tx: Connection, actor: Account, agent: Agent) -> Account:
    """Create the agent's account and its wake. Raises Contradiction when the name is taken."""
    require_admin(actor)
    account = await add_account(tx, name=agent.name, kind="agent")
    await tx.execute(
        "insert into agents (account, wake) values (%s, %s)",
        (account.id, Jsonb(agent.wake.model_dump())),
    )
    return account


async def change_wake(tx: Connection, actor: Account, name: str, wake: CommandWake | HookWake) -> None:
    """Replace how an agent is woken, from its next run on. Raises Missing."""
    require_admin(actor)
    cursor = await tx.execute(
        "update agents set wake = %s from accounts"
        " where accounts.id = agents.account and accounts.name = %s returning account",
        (Jsonb(wake.model_dump()), name),
    )
    if await cursor.fetchone() is None:
        raise Missing(f"no agent is named {name!r}")


async def list_agents(tx: Connection) -> Sequence[Row]:
    """List the agents by name, each with its newest runs."""
    cursor = await tx.execute(
        "select accounts.id, accounts.name, agents.wake from agents"
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

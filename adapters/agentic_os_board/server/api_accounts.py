"""The board's HTTP API for accounts, tokens and agents."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from agentic_os_board.clock import now

from . import agents
from .accounts import (
    Account,
    add_account,
    add_token,
    find_account,
    list_accounts,
    require_admin,
    revoke_tokens,
    set_password,
)
from .api import Caller, OnBoard
from .api_models import Credentials, NewPerson, PasswordRequest, TokenRequest, WakeRequest
from .database import Row
from .fields import Search
from .problems import Forbidden

router = APIRouter(prefix="/api")
SIGN_IN_LIFETIME = timedelta(minutes=15)
Name = Annotated[str, Path(max_length=64)]


@router.post("/sign-in", status_code=HTTP_201_CREATED)
async def sign_in(board: OnBoard, credentials: Credentials) -> dict[str, str]:
    """Exchange a name and a password for a token of a few minutes."""
    account = await board.passwords.check(board.database, credentials.name, credentials.password, at=now())
    async with board.database.read() as tx:
        return {"token": await add_token(tx, account.id, "sign-in", lifetime=SIGN_IN_LIFETIME)}


@router.get("/me")
async def me(actor: Caller) -> dict[str, Any]:
    """Say whose token this is."""
    return _account(actor)


@router.get("/accounts")
async def get_accounts(board: OnBoard, _: Caller) -> dict[str, Any]:
    """List the accounts."""
    async with board.database.read() as tx:
        return {"items": [_account(each) for each in await list_accounts(tx)]}


@router.get("/accounts/lookup")
async def get_account(board: OnBoard, _: Caller, name: Annotated[Search, Query()]) -> dict[str, Any]:
    """Find an account by its login name."""
    async with board.database.read() as tx:
        return _account(await find_account(tx, name))


@router.post("/accounts", status_code=HTTP_201_CREATED)
async def add_person(board: OnBoard, actor: Caller, person: NewPerson) -> dict[str, Any]:
    """Create a person's account."""
    require_admin(actor)
    hashed = await board.passwords.hash(person.password)
    async with board.database.read() as tx:
        account = await add_account(
            tx, name=person.name, kind="person", password_hash=hashed, role=person.granted
        )
    return _account(account)


@router.put("/accounts/by-name/{name}/password", status_code=HTTP_204_NO_CONTENT)
async def change_password(board: OnBoard, actor: Caller, name: Name, new: PasswordRequest) -> None:
    """Set a password, one's own or as an administrator; every session of the account ends."""
    if actor.name != name:
        require_admin(actor)
    hashed = await board.passwords.hash(new.password)
    async with board.database.read() as tx:
        await set_password(tx, await find_account(tx, name), hashed)


@router.post("/accounts/by-name/{name}/tokens", status_code=HTTP_201_CREATED)
async def issue_token(board: OnBoard, actor: Caller, name: Name, wanted: TokenRequest) -> dict[str, str]:
    """Issue a lasting token, for oneself or as an administrator."""
    async with board.database.read() as tx:
        account = await find_account(tx, name)
        _require_rights_over(actor, account)
        return {"token": await add_token(tx, account.id, wanted.name)}


@router.delete("/accounts/by-name/{name}/tokens", status_code=HTTP_204_NO_CONTENT)
async def revoke(board: OnBoard, actor: Caller, name: Name) -> None:
    """Revoke every token of an account, one's own or as an administrator."""
    async with board.database.read() as tx:
        account = await find_account(tx, name)
        _require_rights_over(actor, account)
        await revoke_tokens(tx, account)


@router.get("/agents")
async def get_agents(board: OnBoard, actor: Caller) -> dict[str, Any]:
    """List the agents, how they are woken, and their newest runs."""
    require_admin(actor)
    async with board.database.read() as tx:
        items = [_agent(row) for row in await agents.list_agents(tx)]
    return {"items": items, "sharing": board.runner.sharing}


@router.post("/agents", status_code=HTTP_201_CREATED)
async def add_agent(board: OnBoard, actor: Caller, agent: agents.Agent) -> dict[str, Any]:
    """Create an agent: an account, and how it is woken."""
    async with board.database.read() as tx:
        return _account(await agents.add_agent(tx, actor, agent))


@router.put("/agents/{name}/wake", status_code=HTTP_204_NO_CONTENT)
async def change_wake(board: OnBoard, actor: Caller, name: Name, new: WakeRequest) -> None:
    """Change how an agent is woken."""
    async with board.database.read() as tx:
        await agents.change_wake(tx, actor, name, new.wake)


@router.delete("/agents/{name}", status_code=HTTP_204_NO_CONTENT)
async def deactivate_agent(board: OnBoard, actor: Caller, name: Name) -> None:
    """Wake an agent no more; its account, and with it its name, stays for what it wrote."""
    async with board.database.write() as tx:
        await agents.deactivate_agent(tx, actor, name)


def _require_rights_over(actor: Account, account: Account) -> None:
    if account.is_system:
        raise Forbidden("the backend's token comes from its own configuration")
    if actor.kind == "agent" or actor.id != account.id:
        require_admin(actor)


def _account(account: Account) -> dict[str, Any]:
    return {
        "id": str(account.id),
        "kind": account.kind,
        "name": account.name,
        "role": account.role,
        "admin": account.admin,
        "active": account.active,
    }


def _agent(row: Row) -> dict[str, Any]:
    return {
        name: str(row[name]) if name == "id" else row[name]
        for name in ("id", "name", "active", "wake", "runs")
    }

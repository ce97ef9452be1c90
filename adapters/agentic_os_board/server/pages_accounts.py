"""The pages about accounts: who may come in and as what, one's own password and sessions, and who reports to whom."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Response
from pydantic import Field

from agentic_os_board.clock import now

from . import accounts, organisation
from .accounts import Role, require_admin
from .activity import newest_activity
from .api import OnBoard
from .fields import AccountId, AccountName, Line
from .problems import Missing, Refusal
from .render import page, see
from .signed_in import PageForm, SignedIn, leave, remember

router = APIRouter()
Password = Annotated[str, Field(min_length=8, max_length=1000)]


class NewPersonForm(PageForm):
    """A new person."""

    name: AccountName
    password: Password
    role: Role


class RoleForm(PageForm):
    """A person's new role."""

    role: Role


class ActiveForm(PageForm):
    """Whether a person may come in."""

    active: Literal["yes", "no"]


class PasswordForm(PageForm):
    """A new password that an administrator sets."""

    password: Password


class OwnPasswordForm(PasswordForm):
    """One's own new password, and the one until now."""

    current: str = Field(max_length=1000)


class PlaceForm(PageForm):
    """What somebody is there for, and to whom they report."""

    duty: Line = ""
    reports_to: AccountId | Literal[""] = ""


@router.get("/people")
async def show_people(board: OnBoard, session: SignedIn) -> Response:
    """Show the people of the board; to an administrator, with what can be changed."""
    return await _people(board, session)


@router.post("/people")
async def add_person(board: OnBoard, session: SignedIn, form: Annotated[NewPersonForm, Form()]) -> Response:
    """Add a person, as an administrator."""
    form.require_own(session)
    require_admin(session.account)
    hashed = await board.passwords.hash(form.password)
    try:
        async with board.database.read() as tx:
            await accounts.add_account(
                tx, name=form.name, kind="person", password_hash=hashed, role=form.role
            )
    except Refusal as refusal:
        return await _people(board, session, refusal)
    return see("/people")


@router.post("/people/{person}/role")
async def change_role(
    board: OnBoard, session: SignedIn, person: UUID, form: Annotated[RoleForm, Form()]
) -> Response:
    """Give a person another role."""
    form.require_own(session)
    async with board.database.read() as tx:
        await accounts.set_role(tx, session.account, await accounts.read_account(tx, person), form.role)
    return see("/people")


@router.post("/people/{person}/active")
async def change_active(
    board: OnBoard, session: SignedIn, person: UUID, form: Annotated[ActiveForm, Form()]
) -> Response:
    """Shut a person out, or let them in again."""
    form.require_own(session)
    async with board.database.read() as tx:
        account = await accounts.read_account(tx, person)
        await accounts.set_active(tx, session.account, account, active=form.active == "yes")
    return see("/people")


@router.post("/people/{person}/password")
async def reset_password(
    board: OnBoard, session: SignedIn, person: UUID, form: Annotated[PasswordForm, Form()]
) -> Response:
    """Set a person's password, which ends their sessions."""
    form.require_own(session)
    require_admin(session.account)
    hashed = await board.passwords.hash(form.password)
    async with board.database.read() as tx:
        await accounts.set_password(tx, await accounts.read_account(tx, person), hashed)
    return see("/people")


@router.get("/me")
async def show_me(session: SignedIn) -> Response:
    """Show one's own account."""
    return page("me.html", session, refusal=None)


@router.post("/me/password")
async def change_own_password(
    board: OnBoard, session: SignedIn, form: Annotated[OwnPasswordForm, Form()]
) -> Response:
    """Change one's own password: every session ends, and this browser gets a new one."""
    form.require_own(session)
    name = session.account.name
    try:
        await board.passwords.check(board.database, name, form.current, at=now())
    except Refusal as refusal:
        return page("me.html", session, refusal.status, refusal=refusal)
    hashed = await board.passwords.hash(form.password)
    async with board.database.read() as tx:
        await accounts.set_password(tx, session.account, hashed)
        cookie = await accounts.open_session(tx, session.account)
    return remember(board, see("/me"), cookie)


@router.post("/me/sign-out-everywhere")
async def sign_out_everywhere(
    board: OnBoard, session: SignedIn, form: Annotated[PageForm, Form()]
) -> Response:
    """End every session of one's account, this one too."""
    form.require_own(session)
    async with board.database.read() as tx:
        await accounts.close_sessions(tx, session.account)
    return leave()


@router.get("/organisation")
async def show_organisation(board: OnBoard, session: SignedIn) -> Response:
    """Show who reports to whom."""
    async with board.database.read() as tx:
        position = await newest_activity(tx)
        places = await organisation.read_places(tx)
    live = f"/live/all?after={position}"
    return page("organisation.html", session, chart=organisation.chart(places), places=places, live=live)


@router.get("/organisation/{account}")
async def show_place(board: OnBoard, session: SignedIn, account: UUID) -> Response:
    """Show the form that changes somebody's place."""
    require_admin(session.account)
    async with board.database.read() as tx:
        places = await organisation.read_places(tx)
    if account not in places:
        raise Missing("nobody of this board has this account")
    return page("place.html", session, place=places[account], places=places)


@router.post("/organisation/{account}")
async def change_place(
    board: OnBoard, session: SignedIn, account: UUID, form: Annotated[PlaceForm, Form()]
) -> Response:
    """Change somebody's place."""
    form.require_own(session)
    async with board.database.read() as tx:
        await organisation.set_place(
            tx,
            session.account,
            await accounts.read_account(tx, account),
            duty=form.duty,
            reports_to=form.reports_to or None,
        )
    return see("/organisation")


async def _people(board: OnBoard, session: SignedIn, refusal: Refusal | None = None) -> Response:
    async with board.database.read() as tx:
        people = [each for each in await accounts.list_accounts(tx) if each.kind == "person"]
    status = refusal.status if refusal else 200
    return page("people.html", session, status, people=people, refusal=refusal)

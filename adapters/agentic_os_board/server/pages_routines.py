"""The pages about routines: the list, one routine, and its form."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Response
from pydantic import Field, ValidationError

from agentic_os_board.clock import now

from . import routines
from .api import OnBoard
from .api_routines import RoutineNumber
from .database import Row
from .problems import Contradiction, Refusal, Unacceptable
from .render import page, see
from .routines import Routine
from .schedule import read_schedule
from .signed_in import PageForm, SignedIn

router = APIRouter()
_EMPTY = {
    "name": "",
    "schedule": "0 7 * * MON-FRI",
    "zone": "UTC",
    "missed": "one",
    "hourly_limit": 10,
    "title": "",
    "body": "",
    "project": "",
    "labels": ["agentic-os"],
    "priority": "",
}


class RoutineForm(PageForm):
    """A routine as a form sends it; what is wrong with a field is said on the form."""

    name: str = Field(default="", max_length=1000)
    schedule: str = Field(default="", max_length=1000)
    zone: str = Field(default="", max_length=1000)
    missed: str = Field(default="", max_length=20)
    hourly_limit: str = Field(default="", max_length=20)
    title: str = Field(default="", max_length=1000)
    body: str = Field(default="", max_length=500_000)
    project: str = Field(default="", max_length=1000)
    labels: str = Field(default="", max_length=6000)
    priority: str = Field(default="", max_length=20)

    def shown(self) -> dict[str, Any]:
        """Return the fields as they are filled in again."""
        given = self.model_dump(exclude={"csrf"})
        labels = [label.strip() for label in self.labels.split(",") if label.strip()]
        return given | {"labels": labels, "body": self.body.replace("\r\n", "\n")}

    def read(self) -> Routine:
        """Read the routine. Raises Unacceptable, naming each field that is wrong."""
        limit = int(self.hourly_limit) if self.hourly_limit.isascii() and self.hourly_limit.isdigit() else 0
        try:
            return Routine.model_validate(self.shown() | {"hourly_limit": limit})
        except ValidationError as error:
            raise Unacceptable("; ".join(_said(each) for each in error.errors())) from None


@router.get("/routines")
async def show_routines(board: OnBoard, session: SignedIn) -> Response:
    """Show the routines."""
    async with board.database.read() as tx:
        listed = await routines.list_routines(tx)
    shown = [row | {"next": _local(row, row["next_due"]) if row["next_due"] else None} for row in listed]
    return page("routines.html", session, routines=shown)


@router.get("/routines/new")
async def show_new_routine(session: SignedIn) -> Response:
    """Show the form for a new routine."""
    return page("routines_edit.html", session, routine=_EMPTY, number=0, refusal=None)


@router.post("/routines")
async def add_routine(board: OnBoard, session: SignedIn, form: Annotated[RoutineForm, Form()]) -> Response:
    """Create a routine."""
    form.require_own(session)
    try:
        routine = form.read()
        async with board.database.write() as tx:
            number = await routines.add_routine(tx, session.account, routine, now())
    except (Unacceptable, Contradiction) as refusal:
        return _form_again(session, form, 0, refusal)
    board.scheduler.wake()
    return see(f"/routines/{number}")


@router.get("/routines/{number}")
async def show_routine(board: OnBoard, session: SignedIn, number: RoutineNumber) -> Response:
    """Show one routine, its next times, and what became of the last ones."""
    async with board.database.read() as tx:
        row = await routines.find_routine(tx, number)
        times = await routines.list_times(tx, number)
    coming = [_local(row, at) for at in routines.upcoming(row, now())]
    may_delete = session.account.admin or session.account.id == row["owner"]
    return page("routines_one.html", session, routine=row, times=times, coming=coming, may_delete=may_delete)


@router.get("/routines/{number}/edit")
async def show_edit(board: OnBoard, session: SignedIn, number: RoutineNumber) -> Response:
    """Show the form that changes a routine."""
    async with board.database.read() as tx:
        row = await routines.find_routine(tx, number)
    return page("routines_edit.html", session, routine=row, number=number, refusal=None)


@router.post("/routines/{number}/edit")
async def edit_routine(
    board: OnBoard, session: SignedIn, number: RoutineNumber, form: Annotated[RoutineForm, Form()]
) -> Response:
    """Change a routine, which is then one's own."""
    form.require_own(session)
    try:
        routine = form.read()
        async with board.database.write() as tx:
            await routines.change_routine(tx, session.account, number, routine, now())
    except (Unacceptable, Contradiction) as refusal:
        return _form_again(session, form, number, refusal)
    board.scheduler.wake()
    return see(f"/routines/{number}")


@router.post("/routines/{number}/pause")
async def pause(
    board: OnBoard, session: SignedIn, number: RoutineNumber, form: Annotated[PageForm, Form()]
) -> Response:
    """Pause a routine."""
    form.require_own(session)
    async with board.database.write() as tx:
        await routines.pause_routine(tx, session.account, number)
    return see(f"/routines/{number}")


@router.post("/routines/{number}/resume")
async def resume(
    board: OnBoard, session: SignedIn, number: RoutineNumber, form: Annotated[PageForm, Form()]
) -> Response:
    """Resume a routine that was paused or held."""
    form.require_own(session)
    async with board.database.write() as tx:
        await routines.resume_routine(tx, session.account, number, now())
    board.scheduler.wake()
    return see(f"/routines/{number}")


@router.post("/routines/{number}/run")
async def run(
    board: OnBoard, session: SignedIn, number: RoutineNumber, form: Annotated[PageForm, Form()]
) -> Response:
    """Open a routine's issue now."""
    form.require_own(session)
    async with board.database.write() as tx:
        issue = await routines.run_now(tx, session.account, number, now())
    return see(f"/issues/{issue}")


@router.post("/routines/{number}/delete")
async def delete(
    board: OnBoard, session: SignedIn, number: RoutineNumber, form: Annotated[PageForm, Form()]
) -> Response:
    """Delete a routine; its issues stay."""
    form.require_own(session)
    async with board.database.write() as tx:
        await routines.remove_routine(tx, session.account, number)
    return see("/routines")


def _form_again(session: SignedIn, form: RoutineForm, number: int, refusal: Refusal) -> Response:
    return page(
        "routines_edit.html", session, refusal.status, routine=form.shown(), number=number, refusal=refusal
    )


def _local(row: Row, at: datetime) -> datetime:
    return read_schedule(row["schedule"], row["zone"]).local(at)


def _said(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "routine"
    return f"{place.replace('_', ' ')}: {str(error['msg']).removeprefix('Value error, ')}"

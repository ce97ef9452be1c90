"""What the operator API takes; strict, and closed to surplus fields."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from starlette.requests import ClientDisconnect

from agentic_os.contracts.output import schema_fault
from agentic_os.contracts.strict_json import parse_json, pointer_to
from agentic_os.domain.documents import Mode, Priority, Rank, Risk
from agentic_os.http.problems import Refused

Model = TypeVar("Model", bound=BaseModel)

MAX_BODY: int = 1024 * 1024
MAX_INTEGER: int = 2**53 - 1
MOST_FILES: int = 64
"""How many files a policy may be in; the loader has the same limit."""

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Role = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\r\n]*\S[^\r\n]*$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Markdown = Annotated[str, StringConstraints(min_length=1, max_length=200_000)]
GovernanceFile = Annotated[
    str,
    StringConstraints(
        pattern=r"^skills\.yaml$|^(shadow/)?(policy\.yaml|organisation\.yaml|policy/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml)$"
    ),
]
Folder = Annotated[str, StringConstraints(pattern=r"^(/|[A-Za-z]:\\)[^\x00-\x1f\x7f]{0,399}$")]
"""An absolute path, on whichever machine."""
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Assignee = Annotated[str, StringConstraints(pattern=r"^(role:)?[a-z0-9][a-z0-9._-]{0,62}$")]


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Marker = Literal[
    "CHECKPOINT_OK", "CAPABILITY_OK", "TRACE_OK", "SYNC_OK", "TEST_OK", "BUILD_OK", "LINT_OK", "REVIEW_OK"
]


class Strict(BaseModel):
    """A body in which every field is meant."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CriterionIn(Strict):
    """One acceptance criterion."""

    id: Id
    text: Text
    rank: Rank = "self_reported"


class BudgetIn(Strict):
    """What the task may cost."""

    cost_microusd: Count | None = None
    tokens: Count | None = None
    wall_seconds: Count | None = None
    attempts: Annotated[int, Field(ge=1, le=1000)] | None = None


class TaskIn(Strict):
    """A task to be done."""

    title: Line
    goal: Markdown
    project: Id = "default"
    acceptance: Annotated[list[CriterionIn], Field(max_length=50)] = []
    mode: Mode = "direct"
    risk: Risk = "low"
    paths: Annotated[list[Annotated[str, Field(min_length=1, max_length=400)]], Field(max_length=200)] = []
    tools: Annotated[list[Annotated[str, Field(min_length=1, max_length=120)]], Field(max_length=50)] = []
    labels: Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(max_length=50)] = []
    assignee: Assignee | None = None
    depends_on: Annotated[list[Id], Field(max_length=50)] = []
    budget: BudgetIn = BudgetIn()
    priority: Priority = "medium"
    due: datetime | None = None
    not_before: datetime | None = None
    output_schema: dict[str, Any] | None = None
    input: Annotated[dict[str, Any], Field(max_length=50)] | None = None

    @field_validator("output_schema")
    @classmethod
    def _readable(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and (fault := schema_fault(value)):
            raise ValueError(f"no usable JSON Schema: {fault}")
        return value

    @field_validator("acceptance")
    @classmethod
    def _distinct(cls, value: list[CriterionIn]) -> list[CriterionIn]:
        if len({c.id for c in value}) != len(value):
            raise ValueError("two criteria have the same id")
        return value

    @field_validator("due", "not_before")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time needs its offset, for instance Z")
        return value


class DirectiveIn(Strict):
    """What an operator writes."""

    text: Annotated[str, Field(min_length=1, max_length=20_000)]


class PlanIn(Strict):
    """What somebody made of the plan under review with the digest `replaces`: marked text, or structured."""

    replaces: Digest
    marked_text: Markdown | None = None
    plan: dict[str, Any] | None = None

    @model_validator(mode="after")
    def one_of_both(self) -> "PlanIn":
        """Ask for exactly one form."""
        if (self.marked_text is None) == (self.plan is None):
            msg = "give either marked_text or plan"
            raise ValueError(msg)
        return self


class ExecutorIn(Strict):
    """An executor to register."""

    name: Name
    role: Role
    owner: Name | None = None
    skills: Literal["required", "not-required"] = "required"
    capacity: Annotated[int, Field(ge=1, le=10_000)] | None = None
    workspace: Folder | None = None


class WorkspaceIn(Strict):
    """What was found in a workspace. digest: of the skills in force that it was held against.

    lacking: which of those are not there as they should be.
    """

    path: Folder
    digest: Digest
    state: Literal["in_step", "drift", "conflict", "failed"]
    problem: Annotated[str, StringConstraints(max_length=1000)] = ""
    lacking: Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=1000)] = []


class TokenIn(Strict):
    """A person to register."""

    name: Name
    role: Literal["viewer", "operator", "reviewer", "admin"]
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None


class AccountIn(Strict):
    """An account of a tracker, to be linked to a principal."""

    control_plane: Role
    account: Annotated[str, Field(min_length=1, max_length=200)]


class SourceIn(Strict):
    """A source of evidence to register; without a project it may attest any."""

    name: Name
    project: Id | None = None


class FileIn(Strict):
    """A file of a governance folder. name: what faults call it."""

    name: Line
    text: str


class SimulationIn(Strict):
    """A policy to be tried on the decisions that were made: the last so many, those since a time, or all.

    policy: its files, which are joined in the order of their names; a single one may stand without the list.
    """

    policy: Annotated[list[FileIn], Field(min_length=1, max_length=MOST_FILES)]
    organisation: FileIn | None = None
    last: Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None = None
    since: datetime | None = None

    @field_validator("policy", mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return [FileIn.model_validate(value)] if isinstance(value, dict) else value

    @field_validator("since")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time needs its offset, for instance Z")
        return value


class AttestationIn(Strict):
    """What a source says of a criterion. subject_digest: the result that it checked."""

    task_id: Id
    criterion_id: Id
    status: Literal["pass", "fail", "inconclusive"]
    subject_digest: Digest | None = None
    command: Text | None = None
    exit_code: Annotated[int, Field(ge=-255, le=255)] | None = None
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]{1,1980}$")] | None = None
    marker: Marker | None = None


class GovernanceIn(Strict):
    """A bundle to put in force: the texts of its files, by their names within the governance folder.

    skills: the lock of its skills.yaml, which `agentic-os apply` resolves where the folders of skills are.
    """

    documents: Annotated[dict[GovernanceFile, str], Field(min_length=1, max_length=2 * MOST_FILES + 3)]
    reason: Line
    skills: dict[str, Any] | None = None


class ReconcileIn(Strict):
    """How a task's issue is to be compared again. redrive: as if it had never failed, with all repairs resumed."""

    redrive: bool = False


async def read_body(request: Request, limit: int = MAX_BODY, declared: bytes | None = None) -> bytes:
    """Read a body of at most `limit` bytes. Raises Refused too_large as soon as it is longer.

    declared: the Content-Length, where it is known already.
    """
    if declared is None:
        declared = request.headers.get("content-length", "0").encode("latin-1")
    if declared.isdigit() and int(declared) > limit:
        raise Refused("too_large", f"A body is at most {limit} bytes.")
    message = await request.receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= limit:  # nearly always all of it came at once
        message = await request.receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    if len(body) > limit:
        raise Refused("too_large", f"A body is at most {limit} bytes.")
    return body


async def read_model(request: Request, model: type[Model]) -> Model:
    """Read a body as a model. Raises ContractViolation for bad JSON, Refused with pointers for wrong fields."""
    return read_from(await read_body(request), model)


def read_from(raw: bytes, model: type[Model]) -> Model:
    """Read bytes as a model. Raises as read_model."""
    parse_json(raw)
    try:
        return model.model_validate_json(raw)
    except ValidationError as faults:
        errors = faults.errors(include_url=False, include_context=False)
        pointers = [pointer_to(*e["loc"]) for e in errors]
        words = "; ".join(f"{p or 'the body'}: {e['msg']}" for p, e in zip(pointers, errors, strict=True))
        raise Refused(
            "schema_invalid",
            words,
            pointers=pointers,
            next_step="Correct the fields that the pointers name; /docs shows the shape.",
        ) from None


def documented(model: type[BaseModel]) -> dict[str, object]:
    """Describe a body in the OpenAPI document; it is read by hand, so FastAPI does not see it."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": model.model_json_schema(ref_template="#/$defs/{model}")}
            },
        }
    }

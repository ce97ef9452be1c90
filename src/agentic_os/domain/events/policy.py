"""Facts about what policy said that change nothing: kept so that each decision can be replayed and compared."""

from dataclasses import dataclass
from typing import Literal

from agentic_os.domain.comparison import Difference
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import Hook, Obligations, Then


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchAllowed:
    """Policy, asked again before the attempt was opened, let it be opened. `facts` is the input that it decided on."""

    attempt: int
    bundle: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    facts: JsonObject
    facts_digest: str
    type: Literal["dispatch.allowed"] = "dispatch.allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecided:
    """What policy said of something that came of the work, or of a directive; what follows of it are other facts.

    obligations: of a plan or result that is let in, besides its task's. then, ask: as on those hooks; None for unsaid.
    """

    hook: Hook
    decision: Literal["allow", "deny"]
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    bundle: str
    facts: JsonObject
    facts_digest: str
    obligations: Obligations | None
    then: Then | None
    ask: str | None
    type: Literal["policy.decided"] = "policy.decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDiffered:
    """The shadow policy would have decided otherwise. bundle, decision, rules and reasons are the shadow's.

    differences: from what holds to what would hold; none where the shadow could not be evaluated.
    """

    hook: Hook
    bundle: str
    decision: Literal["allow", "deny"]
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...]
    loosened: bool
    type: Literal["policy.differed"] = "policy.differed"

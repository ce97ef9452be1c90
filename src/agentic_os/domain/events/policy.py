"""Facts about what policy said that change nothing: kept so that each decision can be replayed and compared."""

from dataclasses import dataclass
from typing import Literal

from agentic_os.domain.comparison import Difference
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import Hook


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

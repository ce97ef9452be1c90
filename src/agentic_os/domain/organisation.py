"""Who is there: roles, what each is told in its briefs, and what may be handed to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentic_os.domain.documents import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """charter: standing instructions. handoff_schema: the JSON Schema of what is handed to it, None for anything."""

    charter: str = ""
    handoff_schema: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """The roles that the governance folder declares; others may exist, and nothing is known of them."""

    roles: Mapping[str, Role] = field(default_factory=dict)

    def charter(self, roles: Iterable[str]) -> str:
        """Join the charters of these roles."""
        found = [self.roles[name].charter for name in roles if name in self.roles]
        return "\n\n".join(charter for charter in found if charter)

    def handoff_schema(self, role: str) -> JsonObject | None:
        """Find what a hand-off to a role must fit."""
        return self.roles[role].handoff_schema if role in self.roles else None

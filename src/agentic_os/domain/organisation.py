"""Who is there: roles, who holds them, who reports to whom, what each is told and what may be handed to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentic_os.domain.documents import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """charter: standing instructions. handoff_schema: the JSON Schema of what is handed to it, None for anything.

    skills: what its work needs, by name. reports_to: the role above it.
    """

    charter: str = ""
    handoff_schema: JsonObject | None = None
    skills: tuple[str, ...] = ()
    reports_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What the organisation says of a principal, beside what it was registered with.

    roles: in addition to the registered ones. capacity: in place of the registered one. reports_to: a member.
    """

    roles: tuple[str, ...] = ()
    team: str | None = None
    capabilities: tuple[str, ...] = ()
    tier: int | None = None
    capacity: int | None = None
    reports_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """What the governance folder declares; others may exist, and nothing is known of them.

    teams: who leads each, by name. projects: whose each is, by name.
    """

    roles: Mapping[str, Role] = field(default_factory=dict)
    members: Mapping[str, Member] = field(default_factory=dict)
    teams: Mapping[str, str | None] = field(default_factory=dict)
    projects: Mapping[str, str | None] = field(default_factory=dict)

    def charter(self, roles: Iterable[str]) -> str:
        """Join the charters of these roles."""
        found = [self.roles[name].charter for name in roles if name in self.roles]
        return "\n\n".join(charter for charter in found if charter)

    def handoff_schema(self, role: str) -> JsonObject | None:
        """Find what a hand-off to a role must fit."""
        return self.roles[role].handoff_schema if role in self.roles else None

    def roles_of(self, principal: str, registered: Iterable[str] = ()) -> tuple[str, ...]:
        """List the roles of a principal: those that it was registered with first, each once."""
        declared = self.members[principal].roles if principal in self.members else ()
        return tuple(dict.fromkeys((*registered, *declared)))

    def holders(self, role: str) -> tuple[str, ...]:
        """List the members who hold a role."""
        return tuple(name for name, member in self.members.items() if role in member.roles)

    @property
    def has_lines(self) -> bool:
        """Tell whether anybody reports to anybody."""
        return any(m.reports_to for m in self.members.values()) or any(
            r.reports_to for r in self.roles.values()
        )

    def superiors(self, principal: str, registered: Iterable[str] = ()) -> frozenset[str]:
        """List who stands above a principal: those it reports to, theirs, and who holds a role above one of its own."""
        found: set[str] = set()
        roles: set[str] = set()
        members, todo = [principal], list(self.roles_of(principal, registered))
        while members:
            member = self.members.get(members.pop())
            if member is not None and member.reports_to and member.reports_to not in found:
                found.add(member.reports_to)
                members.append(member.reports_to)
        while todo:
            role = self.roles.get(todo.pop())
            if role is not None and role.reports_to and role.reports_to not in roles:
                roles.add(role.reports_to)
                todo.append(role.reports_to)
                found.update(self.holders(role.reports_to))
        return frozenset(found - {principal})

    def capacity_of(self, principal: str, registered: int | None) -> int | None:
        """Say how many attempts an executor may hold at once: as the organisation says, else as was registered."""
        member = self.members.get(principal)
        return registered if member is None or member.capacity is None else member.capacity

    def capabilities_of(self, principal: str) -> tuple[str, ...]:
        """List what a principal can do; of who is no member, nothing is known."""
        return self.members[principal].capabilities if principal in self.members else ()

    def tier_of(self, principal: str) -> int | None:
        """Say how strong a principal is, None where nobody said."""
        return self.members[principal].tier if principal in self.members else None


def circle(reports_to: Mapping[str, str | None]) -> tuple[str, ...]:
    """Find names that report to each other in a circle, the first of them last again; empty where it is a forest."""
    clear: set[str] = set()
    for start in reports_to:
        path: list[str] = []
        name: str | None = start
        while name is not None and name not in clear:
            if name in path:
                return (*path[path.index(name) :], name)
            path.append(name)
            name = reports_to.get(name)
        clear.update(path)
    return ()

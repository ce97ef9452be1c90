"""organisation.yaml: roles, members, teams and projects."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from agentic_os.contracts.output import schema_fault
from agentic_os.domain.organisation import Member, Organisation, Role, circle
from agentic_os.domain.policy import SUPERIOR
from agentic_os.governance.nodes import ROLE, GovernanceInvalid, Nodes

_Part = TypeVar("_Part")

SCOPES: Final = ("viewer", "operator", "reviewer", "admin")
"""What a token may do; no role of the organisation gives it to anybody."""

_LONGEST_CHARTER: Final = 20_000
HIGHEST_TIER: Final = 100
_MOST_AT_ONCE: Final = 10_000


class OrganisationFile(Nodes):
    """Builds the organisation. faults: where faults are put, so that one does not hide the next; None to raise them."""

    def __init__(self, path: Path, faults: list[GovernanceInvalid] | None = None) -> None:
        super().__init__(path)
        self._faults = faults

    def organisation(self, node: yaml.Node) -> Organisation:
        """Read the whole file."""
        top = self.mapping(node, ("roles", "members", "teams", "projects"))
        roles, members, teams, projects = (
            self.mapping(top[name], None) if name in top else {}
            for name in ("roles", "members", "teams", "projects")
        )
        for kind, named in (("role", roles), ("team", teams)):
            for name, each in named.items():
                if not ROLE.fullmatch(name):
                    self.fail(each, f"{name!r} is no {kind}: letters, digits, '.', '_' and '-', at most 60")
        if SUPERIOR in roles:
            self.fail(
                roles[SUPERIOR], f"{SUPERIOR!r} is whoever stands above an author: give the role another name"
            )
        found = Organisation(
            roles=self._each(roles, lambda node: self._role(node, roles)),
            members=self._each(members, lambda node: self._member(node, roles, members, teams)),
            teams=self._each(teams, lambda node: self._of(node, "lead", members)),
            projects=self._each(projects, lambda node: self._of(node, "team", teams)),
        )
        self._require_forest({name: role.reports_to for name, role in found.roles.items()}, roles)
        self._require_forest({name: member.reports_to for name, member in found.members.items()}, members)
        return found

    def _each(self, nodes: Mapping[str, yaml.Node], read: Callable[[yaml.Node], _Part]) -> dict[str, _Part]:
        """Read every part, leaving out those with faults where faults are put somewhere."""
        found = {}
        for name, node in nodes.items():
            try:
                found[name] = read(node)
            except GovernanceInvalid as problem:
                self._put(problem)
        return found

    def _put(self, problem: GovernanceInvalid) -> None:
        if self._faults is None:
            raise problem
        self._faults.append(problem)

    def _role(self, node: yaml.Node, roles: Mapping[str, yaml.Node]) -> Role:
        parts = self._parts(node, ("charter", "skills", "handoff_schema", "reports_to"))
        charter = self.scalar(parts["charter"], str) if "charter" in parts else ""
        if len(charter) > _LONGEST_CHARTER:
            self.fail(parts["charter"], f"a charter is at most {_LONGEST_CHARTER} characters")
        return Role(
            charter=charter.strip(),
            handoff_schema=self._schema(parts["handoff_schema"]) if "handoff_schema" in parts else None,
            skills=self._texts(parts, "skills"),
            reports_to=self._named(parts, "reports_to", roles, "role"),
        )

    def _member(
        self,
        node: yaml.Node,
        roles: Mapping[str, yaml.Node],
        members: Mapping[str, yaml.Node],
        teams: Mapping[str, yaml.Node],
    ) -> Member:
        known = ("roles", "team", "capabilities", "tier", "capacity", "reports_to")
        parts = self._parts(node, known)
        for item in self.sequence(parts["roles"]) if "roles" in parts else ():
            role = self.scalar(item, str)
            if role in SCOPES:
                self.fail(item, f"{role!r} is what a token may do: give it with `agentic-os token add`")
            if role not in roles:
                self.fail(item, f"the role {role!r} is not declared under roles")
        return Member(
            roles=self._texts(parts, "roles"),
            team=self._named(parts, "team", teams, "team"),
            capabilities=self._texts(parts, "capabilities"),
            tier=self._count(parts, "tier", 0, HIGHEST_TIER),
            capacity=self._count(parts, "capacity", 1, _MOST_AT_ONCE),
            reports_to=self._named(parts, "reports_to", members, "member"),
        )

    def _of(self, node: yaml.Node, name: str, known: Mapping[str, yaml.Node]) -> str | None:
        """Read the lead of a team, or the team of a project."""
        return self._named(self._parts(node, (name,)), name, known, "member" if name == "lead" else name)

    def _require_forest(
        self, reports_to: Mapping[str, str | None], declared: Mapping[str, yaml.Node]
    ) -> None:
        if found := circle(reports_to):
            parts = self._parts(declared[found[0]], None)
            try:
                self.fail(parts["reports_to"], f"{' reports to '.join(found)}: nobody is above them")
            except GovernanceInvalid as problem:
                self._put(problem)

    def _parts(self, node: yaml.Node, known: tuple[str, ...] | None) -> dict[str, yaml.Node]:
        """Read a mapping, of which nothing may be said."""
        return {} if node.tag == "tag:yaml.org,2002:null" else self.mapping(node, known)

    def _texts(self, parts: Mapping[str, yaml.Node], name: str) -> tuple[str, ...]:
        items = self.sequence(parts[name]) if name in parts else []
        return tuple(dict.fromkeys(self.scalar(item, str) for item in items))

    def _named(
        self, parts: Mapping[str, yaml.Node], name: str, known: Mapping[str, yaml.Node], kind: str
    ) -> str | None:
        if name not in parts:
            return None
        value: str = self.scalar(parts[name], str)
        if value not in known:
            self.fail(parts[name], f"there is no {kind} {value!r} in this file")
        return value

    def _count(self, parts: Mapping[str, yaml.Node], name: str, least: int, most: int) -> int | None:
        if name not in parts:
            return None
        value: int = self.scalar(parts[name], int)
        if not least <= value <= most:
            self.fail(parts[name], f"{name} is between {least} and {most}")
        return value

    def _schema(self, node: yaml.Node) -> Mapping[str, Any]:
        self.mapping(node, None)
        schema: Mapping[str, Any] = self.scalar(node, dict)
        if fault := schema_fault(schema):
            self.fail(node, f"no usable JSON Schema: {fault}")
        return schema

"""organisation.yaml: what is known of roles."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from agentic_os.contracts.output import schema_fault
from agentic_os.domain.organisation import Organisation, Role
from agentic_os.governance.nodes import ROLE, Nodes

_LONGEST_CHARTER: Final = 20_000


class OrganisationFile(Nodes):
    """Builds the organisation."""

    def organisation(self, node: yaml.Node) -> Organisation:
        """Read the whole file."""
        top = self.mapping(node, ("roles",))
        roles = self.mapping(top["roles"], None) if "roles" in top else {}
        for name, role in roles.items():
            if not ROLE.fullmatch(name):
                self.fail(role, f"{name!r} is no role: letters, digits, '.', '_' and '-', at most 60")
        return Organisation(roles={name: self._role(role) for name, role in roles.items()})

    def _role(self, node: yaml.Node) -> Role:
        if node.tag == "tag:yaml.org,2002:null":
            return Role()
        parts = self.mapping(node, ("charter", "handoff_schema"))
        charter = self.scalar(parts["charter"], str) if "charter" in parts else ""
        if len(charter) > _LONGEST_CHARTER:
            self.fail(parts["charter"], f"a charter is at most {_LONGEST_CHARTER} characters")
        return Role(
            charter=charter.strip(),
            handoff_schema=self._schema(parts["handoff_schema"]) if "handoff_schema" in parts else None,
        )

    def _schema(self, node: yaml.Node) -> Mapping[str, Any]:
        self.mapping(node, None)
        schema: Mapping[str, Any] = self.scalar(node, dict)
        if fault := schema_fault(schema):
            self.fail(node, f"no usable JSON Schema: {fault}")
        return schema

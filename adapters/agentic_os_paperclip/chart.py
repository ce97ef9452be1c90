"""Who reports to whom: as Paperclip's chart has it, and as the backend's organisation does."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def organisation_of(agents: Sequence[Mapping[str, Any]]) -> str:
    """Write the members of the organisation as Paperclip's chart has them."""
    above = superiors_of(agents)
    lines = [
        "# From Paperclip's chart. Take over what you want into governance/organisation.yaml.",
        "members:" if agents else "members: {}",
    ]
    for agent in sorted(agents, key=lambda each: str(each["name"])):
        lines += [f"  {json.dumps(agent['name'])}:", f"    roles: [{json.dumps(agent['role'])}]"]
        if above[agent["name"]]:
            lines.append(f"    reports_to: {json.dumps(above[agent['name']])}")
    return "\n".join(lines) + "\n"


def superiors_of(agents: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Say who is above each agent, "" where nobody is."""
    names = {agent["id"]: str(agent["name"]) for agent in agents}
    return {str(agent["name"]): names.get(agent["reportsTo"], "") for agent in agents}


def differences(agents: Sequence[Mapping[str, Any]], organisation: str) -> Sequence[str]:
    """Say where the chart and an organisation.yaml differ, a line each. Raises ValueError for one that is none."""
    try:
        document = yaml.safe_load(organisation) or {}
        members = {
            str(name): str((member or {}).get("reports_to") or "")
            for name, member in (document.get("members") or {}).items()
        }
    except (AttributeError, yaml.YAMLError) as error:
        raise ValueError("organisation.yaml cannot be read") from error
    found = []
    for name, above in sorted(superiors_of(agents).items()):
        if name not in members:
            found.append(f"{name} is no member of the organisation")
        elif members[name] != above:
            chart, file = above or "nobody", members[name] or "nobody"
            found.append(f"{name} reports to {chart} on Paperclip, to {file} in the organisation")
    return found

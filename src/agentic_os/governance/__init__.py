"""Read the governance folder: YAML into policy and organisation, each fault with its file and line."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import RuleSet
from agentic_os.governance.nodes import GovernanceInvalid, node_of, read_file
from agentic_os.governance.organisation_file import OrganisationFile
from agentic_os.governance.policy_file import PolicyFile

__all__ = ["Governance", "GovernanceInvalid", "load_governance", "recorded_policy"]


@dataclass(frozen=True, slots=True)
class Governance:
    """The policy and the organisation in force, and the document that they were read from."""

    policy: RuleSet
    document: Mapping[str, Any]
    organisation: Organisation = field(default_factory=Organisation)


def load_governance(folder: Path | None) -> Governance:
    """Read the folder; without one, the blank preset is in force. Raises GovernanceInvalid."""
    document: dict[str, Any] = {"defaults": {}, "rules": []}
    if folder is None:
        return Governance(RuleSet(bundle=digest_of(document), rules=()), document)
    policy, document = _policy(folder / "policy.yaml")
    path = folder / "organisation.yaml"
    organisation = Organisation()
    if path.is_file():
        organisation, declared = _organisation(path)
        document = {**document, "organisation": declared}
    return Governance(replace(policy, bundle=digest_of(document)), document, organisation)


def recorded_policy(bundle: str, document: Mapping[str, Any]) -> RuleSet:
    """Read again a policy that was in force, from the document that was recorded of it. Raises GovernanceInvalid."""
    rules = {name: part for name, part in document.items() if name != "organisation"}
    found = PolicyFile(Path(bundle)).policy(node_of(rules)) if rules else RuleSet(bundle="", rules=())
    return replace(found, bundle=bundle)


def _policy(path: Path) -> tuple[RuleSet, dict[str, Any]]:
    found = read_file(path, PolicyFile(path).policy, "A governance folder holds policy.yaml.")
    return found or (RuleSet(bundle="", rules=()), {})


def _organisation(path: Path) -> tuple[Organisation, dict[str, Any]]:
    return read_file(path, OrganisationFile(path).organisation, "Make it readable, or remove it.") or (
        Organisation(),
        {},
    )

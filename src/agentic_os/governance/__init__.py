"""Read the governance folder: YAML into policy and organisation, each fault with its file and line."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import RuleSet
from agentic_os.governance.nodes import GovernanceInvalid, read_file, read_text
from agentic_os.governance.organisation_file import OrganisationFile
from agentic_os.governance.policy_file import PolicyFile

__all__ = ["Governance", "GovernanceInvalid", "load_governance", "read_policy"]

SHADOW: Final = "shadow"
"""The folder, within that of the policy in force, with a policy that is tried beside it."""


@dataclass(frozen=True, slots=True)
class Governance:
    """The policy and the organisation in force, the document that they were read from, and a policy on trial."""

    policy: RuleSet
    document: Mapping[str, Any]
    organisation: Organisation = field(default_factory=Organisation)
    shadow: RuleSet | None = None


def load_governance(folder: Path | None) -> Governance:
    """Read the folder; without one, the blank preset is in force. Raises GovernanceInvalid."""
    document: dict[str, Any] = {"defaults": {}, "rules": []}
    if folder is None:
        return Governance(RuleSet(bundle=digest_of(document), rules=()), document)
    found = _folder(folder)
    shadow = folder / SHADOW
    return replace(found, shadow=_folder(shadow).policy) if (shadow / "policy.yaml").is_file() else found


def read_policy(policy: tuple[str, str], organisation: tuple[str, str] | None) -> RuleSet:
    """Read a policy from the names and texts of its files. Raises GovernanceInvalid, which calls them by the names."""
    name, text = policy
    path = Path(name)
    found, document = read_text(path, text, PolicyFile(path).policy) or (RuleSet(bundle="", rules=()), {})
    if organisation is not None:
        name, text = organisation
        path = Path(name)
        declared = read_text(path, text, OrganisationFile(path).organisation)
        document = {**document, "organisation": declared[1] if declared else {}}
    try:
        return replace(found, bundle=digest_of(document))
    except (ValueError, TypeError) as problem:
        raise GovernanceInvalid(f"{policy[0]}: holds what no JSON can hold: {problem}") from problem


def _folder(folder: Path) -> Governance:
    policy, document = _policy(folder / "policy.yaml")
    path = folder / "organisation.yaml"
    organisation = Organisation()
    if path.is_file():
        organisation, declared = _organisation(path)
        document = {**document, "organisation": declared}
    return Governance(replace(policy, bundle=digest_of(document)), document, organisation)


def _policy(path: Path) -> tuple[RuleSet, dict[str, Any]]:
    found = read_file(path, PolicyFile(path).policy, "A governance folder holds policy.yaml.")
    return found or (RuleSet(bundle="", rules=()), {})


def _organisation(path: Path) -> tuple[Organisation, dict[str, Any]]:
    return read_file(path, OrganisationFile(path).organisation, "Make it readable, or remove it.") or (
        Organisation(),
        {},
    )

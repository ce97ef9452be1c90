"""Read the governance folder: YAML into policy and organisation, each fault with its file and line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import RuleSet
from agentic_os.governance.nodes import GovernanceInvalid, node_of, read_file, read_text
from agentic_os.governance.organisation_file import OrganisationFile
from agentic_os.governance.policy_file import PolicyFile

__all__ = [
    "FILES",
    "Governance",
    "GovernanceInvalid",
    "load_documents",
    "load_governance",
    "load_stored",
    "read_policy",
    "recorded_policy",
]

FILES: Final = ("policy.yaml", "organisation.yaml")
"""What a bundle is read from; the first must be there."""

SHADOW: Final = "shadow"
"""The folder, within that of the policy in force, with a policy that is tried beside it."""

_ADVICE: Final = {
    "policy.yaml": "A governance folder holds policy.yaml.",
    "organisation.yaml": "Make it readable, or remove it.",
}
_Meaning = Callable[[yaml.Node], Any]
_Read = Callable[[str, _Meaning], tuple[Any, dict[str, Any]] | None]


@dataclass(frozen=True, slots=True)
class Governance:
    """The policy and the organisation in force, the document that they were read from, and a policy on trial."""

    policy: RuleSet
    document: Mapping[str, Any]
    organisation: Organisation = field(default_factory=Organisation)
    shadow: RuleSet | None = None


def load_governance(folder: Path | None) -> Governance:
    """Read the folder; without one, the blank preset is in force. Raises GovernanceInvalid."""
    if folder is None:
        document: dict[str, Any] = {"defaults": {}, "rules": []}
        return Governance(RuleSet(bundle=digest_of(document), rules=()), document)
    found = _folder(folder)
    shadow = folder / SHADOW
    return replace(found, shadow=_folder(shadow).policy) if (shadow / "policy.yaml").is_file() else found


def _folder(folder: Path) -> Governance:
    def read(name: str, meaning: _Meaning) -> tuple[Any, dict[str, Any]] | None:
        return read_file(folder / name, meaning, _ADVICE[name])

    organisation = folder / "organisation.yaml"
    return _load(read, folder / "policy.yaml", organisation if organisation.is_file() else None)


def read_policy(policy: tuple[str, str], organisation: tuple[str, str] | None) -> RuleSet:
    """Read a policy from the names and texts of its files. Raises GovernanceInvalid, which calls them by the names."""
    texts = {"policy.yaml": policy, "organisation.yaml": organisation}

    def read(name: str, meaning: _Meaning) -> tuple[Any, dict[str, Any]] | None:
        named = texts[name]
        return read_text(named[1], Path(named[0]), meaning) if named is not None else None

    try:
        return _load(read, Path(policy[0]), Path(organisation[0]) if organisation else None).policy
    except (ValueError, TypeError) as problem:
        raise GovernanceInvalid(f"{policy[0]}: holds what no JSON can hold: {problem}") from problem


def load_documents(documents: Mapping[str, str]) -> Governance:
    """Read the texts of a governance folder by their file names. Raises GovernanceInvalid."""
    if surplus := [name for name in documents if name not in FILES]:
        raise GovernanceInvalid(
            f"{surplus[0]}: is no part of a bundle, which is read from {', '.join(FILES)}"
        )

    def read(name: str, meaning: _Meaning) -> tuple[Any, dict[str, Any]] | None:
        if name not in documents:
            raise GovernanceInvalid(f"{name}: is missing. {_ADVICE[name]}")
        return read_text(documents[name], Path(name), meaning)

    organisation = "organisation.yaml"
    return _load(read, Path("policy.yaml"), Path(organisation) if organisation in documents else None)


def load_stored(document: JsonObject) -> Governance:
    """Read a document again that was loaded, and stored, before. Raises GovernanceInvalid."""
    policy = {name: part for name, part in document.items() if name != "organisation"}
    parts: dict[str, Any] = {"policy.yaml": policy, "organisation.yaml": document.get("organisation")}

    def read(name: str, meaning: _Meaning) -> tuple[Any, dict[str, Any]] | None:
        return (meaning(node_of(parts[name])), parts[name]) if parts[name] else None

    organised = "organisation" in document
    return _load(read, Path("policy.yaml"), Path("organisation.yaml") if organised else None)


def _load(read: _Read, path: Path, organised: Path | None) -> Governance:
    """Read a bundle. path, organised: what faults call its two files, of which the second may be missing."""
    organisation = Organisation()
    declared: dict[str, Any] = {}
    if organised is not None:
        file = OrganisationFile(organised)
        organisation, declared = read("organisation.yaml", file.organisation) or (organisation, declared)
    found = read("policy.yaml", PolicyFile(path, organisation).policy)
    policy, document = found or (RuleSet(bundle="", rules=()), {})
    if organised is not None:
        document = {**document, "organisation": declared}
    return Governance(replace(policy, bundle=digest_of(document)), document, organisation)


def recorded_policy(bundle: str, document: JsonObject) -> RuleSet:
    """Read again a policy that was in force, from the document that was recorded of it. Raises GovernanceInvalid."""
    return replace(load_stored(document).policy, bundle=bundle)

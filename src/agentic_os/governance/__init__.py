"""Read the governance folder: YAML into policy and organisation, each fault with its file and line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import RuleSet
from agentic_os.governance.nodes import GovernanceInvalid, node_of, read_text, text_of
from agentic_os.governance.organisation_file import OrganisationFile
from agentic_os.governance.policy_file import PolicyFile
from agentic_os.governance.policy_parts import (
    ADVICE,
    WHOLE,
    Part,
    has_policy,
    is_part,
    ordered,
    policy_texts,
    read_parts,
)

__all__ = [
    "ORGANISATION",
    "Governance",
    "GovernanceInvalid",
    "documents_in",
    "has_policy",
    "load_documents",
    "load_governance",
    "load_stored",
    "read_policy",
    "recorded_policy",
]

ORGANISATION: Final = "organisation.yaml"

SHADOW: Final = "shadow"
"""The folder, within that of the policy in force, with a policy that is tried beside it."""

_ORGANISATION_ADVICE: Final = "Make it readable, or remove it."


@dataclass(frozen=True, slots=True)
class Governance:
    """The policy and the organisation in force, the document that they were read from, and a policy on trial."""

    policy: RuleSet
    document: Mapping[str, Any]
    organisation: Organisation = field(default_factory=Organisation)
    shadow: "Governance | None" = None


def load_governance(folder: Path | None) -> Governance:
    """Read the folder; without one, the blank preset is in force. Raises GovernanceInvalid."""
    if folder is None:
        document: dict[str, Any] = {"defaults": {}, "rules": []}
        return Governance(RuleSet(bundle=digest_of(document), rules=()), document)
    found = _of_texts(*_texts_in(folder))
    shadow = folder / SHADOW
    if not (shadow.is_dir() and has_policy(shadow)):
        return found
    return replace(found, shadow=_of_texts(*_texts_in(shadow)))


def documents_in(folder: Path) -> dict[str, str]:
    """Read the texts that a bundle is made of, by their names within the folder. Raises GovernanceInvalid."""
    shadow = folder / SHADOW
    folders = [folder, shadow] if shadow.is_dir() and has_policy(shadow) else [folder]
    texts: list[Part] = []
    for each in folders:
        policy, organisation = _texts_in(each)
        texts += [*policy, organisation] if organisation is not None else policy
    return {path.relative_to(folder).as_posix(): text for path, text in texts}


def _texts_in(folder: Path) -> tuple[list[Part], Part | None]:
    path = folder / ORGANISATION
    organisation = (path, text_of(path, _ORGANISATION_ADVICE)) if path.is_file() else None
    return policy_texts(folder), organisation


def read_policy(policy: Sequence[tuple[str, str]], organisation: tuple[str, str] | None) -> RuleSet:
    """Read a policy from the names and texts of its files. Raises GovernanceInvalid, which calls them by the names."""
    texts = [(Path(name), text) for name, text in sorted(policy)]
    try:
        return _of_texts(texts, organisation and (Path(organisation[0]), organisation[1])).policy
    except (ValueError, TypeError) as problem:
        named = ", ".join(name for name, _ in policy)
        raise GovernanceInvalid(f"{named}: holds what no JSON can hold: {problem}") from problem


def load_documents(documents: Mapping[str, str]) -> Governance:
    """Read the texts of a governance folder by their file names. Raises GovernanceInvalid."""
    inner = f"{SHADOW}/"
    tried = {name.removeprefix(inner): text for name, text in documents.items() if name.startswith(inner)}
    found = _of_documents({n: text for n, text in documents.items() if not n.startswith(inner)}, Path())
    return replace(found, shadow=_of_documents(tried, Path(SHADOW))) if tried else found


def _of_documents(documents: Mapping[str, str], folder: Path) -> Governance:
    """Read the texts of one folder by their names in it."""
    for name in documents:
        if not (name in (WHOLE, ORGANISATION) or is_part(name)):
            raise GovernanceInvalid(
                f"{folder / name}: is no part of a bundle, which is read from {WHOLE}, or files like "
                f"policy/10-base.yaml, and {ORGANISATION}, and from the same in {SHADOW}/"
            )
    names = ordered([name for name in documents if name != ORGANISATION], folder)
    if names[0] not in documents:
        raise GovernanceInvalid(f"{folder / names[0]}: is missing. {ADVICE}")
    organisation = documents.get(ORGANISATION)
    return _of_texts(
        [(folder / name, documents[name]) for name in names],
        None if organisation is None else (folder / ORGANISATION, organisation),
    )


def load_stored(document: JsonObject) -> Governance:
    """Read a document again that was loaded, and stored, before. Raises GovernanceInvalid."""
    organisation, declared = Organisation(), None
    if "organisation" in document:
        declared = document["organisation"] or {}
        if declared:
            organisation = OrganisationFile(Path(ORGANISATION)).organisation(node_of(declared))
    policy = {name: part for name, part in document.items() if name != "organisation"}
    file = PolicyFile(Path(WHOLE), organisation)
    return _joined((file.policy(node_of(policy)), policy) if policy else None, organisation, declared)


def _of_texts(policy: Sequence[Part], organised: Part | None) -> Governance:
    organisation: Organisation = Organisation()
    declared: dict[str, Any] | None = None
    if organised is not None:
        path, text = organised
        organisation, declared = read_text(text, path, OrganisationFile(path).organisation) or (
            organisation,
            {},
        )
    first = policy[0][0]
    file = PolicyFile(first if len(policy) == 1 else first.parent, organisation)
    return _joined(read_parts(policy, file, file.policy), organisation, declared)


def _joined(
    read: tuple[RuleSet, dict[str, Any]] | None, organisation: Organisation, declared: dict[str, Any] | None
) -> Governance:
    policy, document = read or (RuleSet(bundle="", rules=()), {})
    if declared is not None:
        document = {**document, "organisation": declared}
    return Governance(replace(policy, bundle=digest_of(document)), document, organisation)


def recorded_policy(bundle: str, document: JsonObject) -> RuleSet:
    """Read again a policy that was in force, from the document that was recorded of it. Raises GovernanceInvalid."""
    return replace(load_stored(document).policy, bundle=bundle)

"""A policy in one file, or in several: which files it is read from, and the one document that they are together."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from agentic_os.governance.nodes import GovernanceInvalid, Nodes, composed, text_of, understood
from agentic_os.governance.policy_file import SECTIONS, PolicyFile

WHOLE: Final = "policy.yaml"
PARTS: Final = "policy"
"""The folder that takes the place of the one file."""

MOST_PARTS: Final = 64
_PART: Final = re.compile(r"policy/[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.yaml")
_LISTS: Final = frozenset({"rules", "freezes"})
"""Sections that may stand in several files, and are joined in their order; each other one stands in one file."""

_MAP: Final = "tag:yaml.org,2002:map"
_SEQUENCE: Final = "tag:yaml.org,2002:seq"
ADVICE: Final = "A governance folder holds policy.yaml, or files like policy/10-base.yaml."

Part = tuple[Path, str]
"""What faults call a file, and its text."""


def is_part(name: str) -> bool:
    """Tell whether a file of this name, within a governance folder, is of a policy in several files."""
    return _PART.fullmatch(name) is not None


def has_policy(folder: Path) -> bool:
    """Tell whether there is anything that a policy is to be read from. Raises GovernanceInvalid."""
    return bool(_found(folder))


def policy_names(folder: Path) -> list[str]:
    """List the files of a folder's policy, in the order in which they are joined. Raises GovernanceInvalid."""
    return ordered(_found(folder), folder)


def policy_texts(folder: Path) -> list[Part]:
    """Read those files. Raises GovernanceInvalid."""
    return [(folder / name, text_of(folder / name, ADVICE)) for name in policy_names(folder)]


def ordered(names: Collection[str], folder: Path) -> list[str]:
    """Put the names of a policy's files in their order. Raises GovernanceInvalid for what cannot be one policy."""
    parts = sorted(name for name in names if name != WHOLE)
    if not parts:
        return [WHOLE]
    for name in parts:
        if not is_part(name):
            raise GovernanceInvalid(
                f"{folder / name}: a policy in several files is read from files like policy/10-base.yaml, whose names "
                "are of letters, digits, '.', '_' and '-'. Rename it, or move it away"
            )
    if WHOLE in names:
        raise GovernanceInvalid(
            f"{folder / WHOLE}: is beside {folder / parts[0]}; a policy is in one file or in that folder, never in both"
        )
    if len(parts) > MOST_PARTS:
        raise GovernanceInvalid(
            f"{folder / PARTS}: has {len(parts)} files; a policy is in at most {MOST_PARTS}"
        )
    return parts


def _found(folder: Path) -> list[str]:
    """Name whatever of a folder looks like its policy, so that nothing that was meant to be is passed over."""
    whole = [WHOLE] if os.path.lexists(folder / WHOLE) else []
    inner = folder / PARTS
    if not inner.is_dir():
        return whole
    try:
        entries = [entry for entry in inner.iterdir() if not entry.name.startswith(".")]
        meant = [entry.name for entry in entries if entry.suffix in (".yaml", ".yml") or entry.is_dir()]
    except OSError as problem:
        raise GovernanceInvalid(f"{inner}: cannot be read ({problem}). Make it readable.") from problem
    return [*whole, *(f"{PARTS}/{name}" for name in meant)]


def read_parts(
    parts: Sequence[Part],
    file: PolicyFile,
    meaning: Callable[[yaml.Node], Any],
    put: Callable[[GovernanceInvalid], None] | None = None,
) -> tuple[Any, dict[str, Any]] | None:
    """Read what the files of a policy mean together, and their document; None where none says anything.

    put: takes the faults of the single files, so that one does not hide the next; None to raise them.
    """
    nodes = []
    for path, text in parts:
        try:
            node = composed(text, path)
        except GovernanceInvalid as problem:
            _put(problem, put)
            continue
        if node is not None:
            nodes.append(node)
    if not nodes:
        return None
    return understood(nodes[0] if len(parts) == 1 else _joined(nodes, file, put), file.path, meaning)


def _put(problem: GovernanceInvalid, put: Callable[[GovernanceInvalid], None] | None) -> None:
    if put is None:
        raise problem
    put(problem)


def _joined(
    nodes: Sequence[yaml.Node], file: Nodes, put: Callable[[GovernanceInvalid], None] | None
) -> yaml.MappingNode:
    """Write the files as one mapping, whose parts still know their places."""
    found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for node in nodes:
        try:
            file.mapping(node, None)
        except GovernanceInvalid as problem:
            _put(problem, put)
            continue
        for key, value in node.value:
            try:
                found[key.value] = _taken(file, found.get(key.value), key, value)
            except GovernanceInvalid as problem:
                _put(problem, put)
    return yaml.MappingNode(_MAP, list(found.values()), nodes[0].start_mark, nodes[-1].end_mark)


def _taken(
    file: Nodes, before: tuple[yaml.Node, yaml.Node] | None, key: yaml.Node, value: yaml.Node
) -> tuple[yaml.Node, yaml.Node]:
    """Add a section of one file to what there is of it."""
    if key.value not in SECTIONS:
        file.mapping(yaml.MappingNode(_MAP, [(key, value)], key.start_mark, value.end_mark), SECTIONS)
    if key.value in _LISTS:
        items = [*(before[1].value if before else ()), *file.sequence(value)]
        return (before or (key, value))[0], yaml.SequenceNode(
            _SEQUENCE, items, value.start_mark, value.end_mark
        )
    if before is not None:
        file.fail(
            key,
            f"{key.value!r} is in {file.place(before[0])} already, and stands in one file of the policy only",
        )
    return key, value

"""YAML with its lines: what every file of the governance folder is read through, each fault with its file and line."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import yaml

_Found = TypeVar("_Found")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOL: Final = "tag:yaml.org,2002:bool"
_TEXT: Final = "tag:yaml.org,2002:str"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_NUMBER: Final = re.compile("[1-9][0-9]{0,8}")
_LONGEST: Final = 366 * 86400
ROLE: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


class _Loader(yaml.SafeLoader):
    """YAML with the booleans of its version 1.2: `on`, which every rule has, is a word and not true."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))


class _DocumentLoader(_Loader):
    """The same, with times left as they are written: the document is stored as JSON, and named by its digest."""


_DocumentLoader.add_constructor(_TIMESTAMP, lambda _, node: node.value)


class GovernanceInvalid(Exception):
    """A governance file cannot be read as what it should be: file:line, what is wrong, what would be right."""


def read_file(
    path: Path, meaning: Callable[[yaml.Node], _Found], advice: str
) -> tuple[_Found, dict[str, Any]] | None:
    """Read what a file means, and its document; None for one that says nothing. Raises GovernanceInvalid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise GovernanceInvalid(f"{path}: cannot be read ({problem}). {advice}") from problem
    try:
        loader = _DocumentLoader(text)
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return None
        return meaning(node), loader.construct_document(node)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise GovernanceInvalid(f"{path}{line}: not YAML as it is read here: {problem.problem}") from problem
    except (yaml.YAMLError, RecursionError) as problem:
        raise GovernanceInvalid(f"{path}: not YAML as it is read here: {problem}") from problem


def node_of(value: Any) -> yaml.Node:
    """Make the nodes of a document that was stored as JSON; it has one line, the first."""
    mark = yaml.Mark("", 0, 0, 0, None, 0)
    if isinstance(value, Mapping):
        pairs = [(node_of(name), node_of(part)) for name, part in value.items()]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, mark, mark)
    if isinstance(value, list):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [node_of(part) for part in value], mark, mark)
    if isinstance(value, str):
        return yaml.ScalarNode(_TEXT, value, mark, mark)
    kind = {bool: "bool", int: "int", float: "float", type(None): "null"}[type(value)]
    return yaml.ScalarNode(f"tag:yaml.org,2002:{kind}", str(value).lower(), mark, mark)


class Nodes:
    """Walks a node tree, which knows the lines. path: what faults call the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def instant(self, node: yaml.Node) -> datetime:
        """Read a time with its offset."""
        text = node.value if node.tag == _TIMESTAMP else self.scalar(node, str)
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self.fail(node, f"{text!r} is not a time like 2026-12-24T12:00:00Z")
        if instant.tzinfo is None:
            self.fail(node, f"{text!r} needs its offset, for instance Z")
        return instant

    def duration(self, node: yaml.Node) -> int:
        """Read a number of seconds from a number and a unit."""
        text = self.scalar(node, str)
        number, unit = text[:-1], text[-1:]
        if not _NUMBER.fullmatch(number) or unit not in _UNITS:
            self.fail(node, f"{text!r} is not a duration like 30m, 4h or 2d")
        seconds = int(number) * _UNITS[unit]
        if seconds > _LONGEST:
            self.fail(node, f"{text!r} is longer than a year")
        return seconds

    def mapping(
        self, node: yaml.Node, known: Sequence[str] | None, needed: Sequence[str] = ()
    ) -> dict[str, yaml.Node]:
        """Read a mapping by its names, which are known, each there once."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, "expected a mapping of names to values")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.scalar(key, str)
            if known is not None and name not in known:
                self.fail(key, f"unknown field {name!r}; expected one of: {', '.join(known)}")
            if name in found:
                self.fail(key, f"{name!r} is given twice")
            found[name] = value
        for name in needed:
            if name not in found:
                self.fail(node, f"the field {name!r} is missing")
        return found

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        """Read the nodes of a list."""
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "expected a list")
        return list(node.value)

    def scalar(self, node: yaml.Node, kind: type) -> Any:
        """Read a value of exactly this type."""
        if kind is str and node.tag == _TEXT and isinstance(node, yaml.ScalarNode):
            return node.value  # nearly every one is, and the constructor takes longer than all else
        try:
            value = _Loader("").construct_object(node, deep=True)
        except (ValueError, LookupError, yaml.YAMLError) as problem:
            self.fail(node, f"expected {kind.__name__}, got what is no value: {problem}")
        if type(value) is not kind:
            self.fail(node, f"expected {kind.__name__}, got {value!r}")
        return value

    def one_of(self, node: yaml.Node, values: Sequence[Any], hint: str = "") -> Any:
        """Read one of these texts."""
        value = self.scalar(node, str)
        if value not in values:
            self.fail(node, f"{value!r} is none of: {', '.join(values)}{hint}")
        return value

    def fail(self, node: yaml.Node, message: str) -> NoReturn:
        """Say what is wrong, and where."""
        raise GovernanceInvalid(f"{self.path}:{node.start_mark.line + 1}: {message}")

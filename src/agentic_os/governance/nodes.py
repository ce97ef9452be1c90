"""YAML with its lines: what every file of the governance folder is read through, each fault with its file and line."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.resolver import Resolver

from agentic_os.application.governing import BundleInvalid
from agentic_os.domain.documents import JsonObject

_Found = TypeVar("_Found")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOL: Final = "tag:yaml.org,2002:bool"
_TEXT: Final = "tag:yaml.org,2002:str"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_NUMBER: Final = re.compile("[1-9][0-9]{0,8}")
_ON_ONE_LINE: Final = ("when", "facts")
_APART: Final = re.compile(r"(?<!:)\n(?=\S|  - )")
"""Where a line that ends no key is followed by a section or an item of one."""

_LONGEST: Final = 366 * 86400
_MOST_NODES: Final = 1_000_000
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


class _Composer(Composer, CParser, Resolver):
    """Composes nodes in Python from what libyaml parses: five times as fast, and what nests too deeply still raises.

    libyaml's own composer ends the process there.
    """

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def __init__(self, text: str, name: str) -> None:
        stream = io.StringIO(text)
        stream.name = name
        CParser.__init__(self, stream)
        Composer.__init__(self)
        Resolver.__init__(self)


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads, as people write it: `on` needs no quotes, and a condition stands on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as called
        super().increase_indent(flow, indentless=False)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:  # noqa: FBT001 - as called
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, value in node.value:
            if key.value in _ON_ONE_LINE and isinstance(value, yaml.CollectionNode):
                value.flow_style = True
        return node


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


class GovernanceInvalid(BundleInvalid):
    """A governance file cannot be read as what it should be: file:line, what is wrong, what would be right."""


def text_of(path: Path, advice: str) -> str:
    """Read the text of a file. advice: what to do where it cannot be read. Raises GovernanceInvalid."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise GovernanceInvalid(f"{path}: cannot be read ({problem}). {advice}") from problem


def read_file(
    path: Path, meaning: Callable[[yaml.Node], _Found], advice: str
) -> tuple[_Found, dict[str, Any]] | None:
    """Read what a file means, and its document; None for one that says nothing. Raises GovernanceInvalid."""
    return read_text(text_of(path, advice), path, meaning)


def read_text(
    text: str, path: Path, meaning: Callable[[yaml.Node], _Found]
) -> tuple[_Found, dict[str, Any]] | None:
    """Read the same of the text of a file. path: what faults call it. Raises GovernanceInvalid."""
    node = composed(text, path)
    return None if node is None else understood(node, path, meaning)


def composed(text: str, path: Path) -> yaml.Node | None:
    """Give the node tree of a text; its marks name the file. None where it says nothing. Raises GovernanceInvalid."""
    with _told(path, text.count("\n") + 1):
        node: yaml.Node | None = _Composer(text, str(path)).get_single_node()
    return None if node is None or node.tag == "tag:yaml.org,2002:null" else node


def understood(
    node: yaml.Node, path: Path, meaning: Callable[[yaml.Node], _Found]
) -> tuple[_Found, dict[str, Any]]:
    """Give what a node tree means, and its document. path: what faults without a place call it."""
    with _told(path):
        if _size(node, {}) > _MOST_NODES:
            raise GovernanceInvalid(f"{path}: its aliases stand for more than {_MOST_NODES} values")
        return meaning(node), _DocumentLoader("").construct_document(node)


@contextmanager
def _told(path: Path, lines: int | None = None) -> Iterator[None]:
    """Say of what is no YAML in which file, and where it can be said on which line, it is.

    lines: how many there are, for what is missed behind the last one.
    """
    try:
        yield
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = f"{mark.name}:{min(mark.line + 1, lines or mark.line + 1)}" if mark else str(path)
        raise GovernanceInvalid(f"{place}: not YAML as it is read here: {problem.problem}") from problem
    except (yaml.YAMLError, RecursionError, UnicodeEncodeError) as problem:
        raise GovernanceInvalid(f"{path}: not YAML as it is read here: {problem}") from problem


def place_of(mark: yaml.Mark) -> str:
    """Say in which file and on which line a mark is."""
    return f"{mark.name}:{mark.line + 1}"


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values that a node stands for, those behind its aliases as often as they are named."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = 1  # one that holds itself ends here; what reads it says what is wrong with it
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    known[id(node)] = size = 1 + sum(_size(part, known) for part in parts)
    return size


def plain(text: str) -> Any:
    """Read YAML as a document, without a meaning."""
    return _DocumentLoader(text).get_single_data()


def written(document: JsonObject) -> str:
    """Write a document as YAML that people go on with: a blank line between sections, and between named items."""
    text = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    return _APART.sub("\n\n", text)


def node_of(document: JsonObject) -> yaml.Node:
    """Make the node tree of a document that was read before; it has no lines."""
    return yaml.representer.SafeRepresenter().represent_data(document)


class Nodes:
    """Walks a node tree, which knows its files and lines. path: what faults call a tree that does not."""

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
        raise GovernanceInvalid(f"{self.place(node)}: {message}")

    def place(self, node: yaml.Node) -> str:
        """Say where a node is."""
        return place_of(node.start_mark) if node.start_mark else str(self.path)

    def elsewhere(self, node: yaml.Node, than: yaml.Node) -> str:
        """Say where a node is if that is another file than that of the second one, for the end of a sentence."""
        marks = (node.start_mark, than.start_mark)
        return f", first in {self.place(node)}" if all(marks) and marks[0].name != marks[1].name else ""

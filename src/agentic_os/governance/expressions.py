"""Conditions written as expressions of CEL: compiled when they are read, and held to the declared fields."""

import re
from collections.abc import Iterator
from typing import Any, Final

from agentic_os.domain.conditions import Expression
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.hooks import FIELDS, Hook, known

LONGEST: Final = 500
"""How many characters an expression has at most."""

MOST_LOOPS: Final = 2
"""How many macros that go through a list it has at most: within each other they multiply."""

_LOOPS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_FUNCTIONS: Final = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "min", "max", "int", "double", "string", "bool"}
)
_WORDS: Final = frozenset({"true", "false", "null", "in", "has"})
_ROOTS: Final = frozenset(name.partition(".")[0] for name in FIELDS)
_TOKEN: Final = re.compile(
    r"""
      (?P<text>[rR]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    | (?P<path>[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)
    | (?P<member>\.\s*[A-Za-z_]\w*)
    | (?P<number>\d[\w.]*)
    | (?P<other>[^\s])
    """,
    re.VERBOSE,
)


class ExpressionInvalid(Exception):
    """An expression cannot be a condition: what is wrong with it."""


def expression(text: str, hook: Hook) -> Expression:
    """Compile a condition for a hook. Raises ExpressionInvalid."""
    if len(text) > LONGEST:
        raise ExpressionInvalid(
            f"an expression has at most {LONGEST} characters, and this one has {len(text)}"
        )
    if not text.isprintable():
        raise ExpressionInvalid("an expression is one line of text")
    if "//" in text or '"""' in text or "'''" in text:
        raise ExpressionInvalid("an expression has no comments, and no texts of several lines")
    import cel  # noqa: PLC0415 - it costs a tenth of a second, which only those pay that use it

    try:
        program = cel.compile(text)
    except ValueError as problem:
        raise ExpressionInvalid(f"no expression of CEL: {_first_line(problem)}") from problem
    fields = tuple(dict.fromkeys(_fields(text, hook)))
    foreign = {
        f for f in program.functions() if f.isidentifier() and f.isascii() and f[0].isalpha()
    } - _FUNCTIONS
    if foreign:
        raise ExpressionInvalid(
            f"unknown function {min(foreign)!r}; there are: {', '.join(sorted(_FUNCTIONS | _LOOPS))}"
        )
    roots = _roots(hook)

    def holds(facts: JsonObject) -> object:
        return program.execute(
            {root: {name: facts.get(f"{root}.{name}") for name in names} for root, names in roots.items()}
        )

    return Expression(text=text, fields=fields, constants=tuple(_constants(text)), predicate=holds)


def _constants(text: str) -> Iterator[str | int]:
    """List the texts without escapes, and the whole numbers, that an expression mentions."""
    for found in _TOKEN.finditer(text):
        word = found[0]
        if found.lastgroup == "text" and word[0] in "\"'" and "\\" not in word:
            yield word[1:-1]
        elif found.lastgroup == "number" and word.isdecimal():
            yield int(word)


def _roots(hook: Hook) -> dict[str, list[str]]:
    """List what an expression may name on a hook: a field that is not there is null, and not an error."""
    found: dict[str, list[str]] = {}
    for field in FIELDS:
        root, _, name = field.partition(".")
        if known(field, hook):
            found.setdefault(root, []).append(name)
    return found


def _fields(text: str, hook: Hook) -> Iterator[str]:
    """Find the fields that an expression names, by its words: those that macros bind are its own."""
    tokens = [(m.lastgroup, re.sub(r"\s", "", m[0])) for m in _TOKEN.finditer(text)]
    words = [*tokens, ("other", "")]
    loops = [i for i, (kind, word) in enumerate(tokens) if _is_loop(kind, word, words[i + 1][1])]
    if len(loops) > MOST_LOOPS:
        raise ExpressionInvalid(f"an expression goes through lists at most {MOST_LOOPS} times")
    bound = {tokens[i + 2][1] for i in loops if i + 2 < len(tokens)}
    if taken := bound & _ROOTS:
        raise ExpressionInvalid(f"{min(taken)!r} is what fields begin with; bind another name")
    for (kind, word), (_, following) in zip(tokens, words[1:], strict=True):
        if kind == "path" and (field := _field(word, following, bound)) is not None:
            _require_declared(field, hook)
            yield field


def _is_loop(kind: Any, word: str, following: str) -> bool:
    return kind in ("path", "member") and following == "(" and word.rpartition(".")[2] in _LOOPS


def _field(word: str, following: str, bound: set[str]) -> str | None:
    """Read a dotted name as a field; None for a word of the language, a function, or what a macro binds."""
    parts = word.split(".")
    if following == "(":
        parts = parts[:-1]
    if not parts or parts[0] in bound or (len(parts) == 1 and parts[0] in _WORDS):
        return None
    return ".".join(parts)


def _require_declared(field: str, hook: Hook) -> None:
    if field not in FIELDS:
        raise ExpressionInvalid(f"unknown field {field!r}; declared are: {', '.join(FIELDS)}")
    if not known(field, hook):
        raise ExpressionInvalid(f"{field} is known on {', '.join(FIELDS[field].hooks)} only")


def _first_line(problem: Exception) -> str:
    return str(problem).partition("ERROR: ")[2].partition("\n")[0][:200] or "it cannot be read"

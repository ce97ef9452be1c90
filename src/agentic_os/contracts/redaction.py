"""Secrets in what executors send: known by their shape, and taken out of every text before anything keeps it."""

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

from agentic_os.contracts.strict_json import pointer_to

_SHORTEST: Final = 14
"""Each secret holds so many characters without white space; a text of shorter words is done with."""

_LONG_WORD: Final = re.compile(rf"\S{{{_SHORTEST}}}")

_FEWEST_DIFFERENT: Final = 8
"""What has fewer different characters, like a prefix and forty times x, only shows where a secret would stand."""


_WINDOW: Final = 64 * 1024
_OVERLAP: Final = 8 * 1024
"""How many bytes are looked at in both of two windows: more than any secret has, in UTF-16 too."""

_CONTROLS: Final = bytes(sorted({*range(32), 127} - set(b"\0\t\n\r\f\x1b")))
_MOST_CONTROLS: Final = 0.08
"""Of random bytes a ninth are such control characters, of a text hardly any."""

_FILE: Final = resources.files("agentic_os.contracts").joinpath("secret_rules.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Secrets of one kind: how many, in which texts, and themselves, for a keyed digest and nothing else."""

    kind: str
    count: int
    pointers: tuple[str, ...]
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    group: int

    def found_in(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self.pattern.finditer(text):
            if len(set(match[self.group])) >= _FEWEST_DIFFERENT:
                yield match.span(self.group)


def _read_rules() -> tuple[_Rule, ...]:
    data = _FILE.read_text(encoding="utf-8")
    rules = []
    for rule in tomllib.loads(data)["rules"]:
        pattern = re.compile(rule["regex"], re.ASCII)
        rules.append(_Rule(rule["kind"], tuple(rule["hints"]), pattern, pattern.groups))
    return tuple(rules)


_RULES: Final = _read_rules()
_HINTS: Final = tuple(hint for rule in _RULES for hint in rule.hints)


def redact(body: dict[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Put `[redacted:KIND]` in the place of each secret in the texts of a callback's body; the same body if none is.

    Keys stay as they are, and so do the inline bytes of artifacts: those are for secrets_in.
    """
    texts: list[str] = []
    for name, member in body.items():
        _gather(member, texts, skip="content_base64" if name == "artifacts" else None)
    rules = _candidates("\n".join(texts)) if texts else ()
    if not rules:
        return body, []
    found: dict[str, list[tuple[str, str]]] = {}

    def replace(text: str, path: tuple[str | int, ...]) -> str:
        for rule in rules:
            text = _replace(rule, text, lambda secret, kind=rule.kind: _note(found, kind, secret, path))  # type: ignore[misc]
        return text

    redacted = _rebuild(body, (), replace)
    return (redacted, [_finding(kind, places) for kind, places in found.items()]) if found else (body, [])


def secrets_in(content: bytes) -> list[str]:
    """List the kinds of secrets that an artifact's bytes hold, in UTF-8 or UTF-16."""
    text = content.replace(b"\0", b"").decode("latin-1")
    return [rule.kind for rule in _candidates(text) if any(rule.found_in(text))]


class SecretScan:
    """Look for secrets in bytes that come in chunks, holding a window of them.

    What is not text is passed over: compressed and encrypted bytes, where nothing that looks like a secret is one.
    """

    def __init__(self) -> None:
        self._window = bytearray()
        self._new = 0
        self._first = True

    def add(self, chunk: bytes) -> list[str]:
        """Take in a chunk; list the kinds of secrets found, [] for none so far."""
        self._window += chunk
        self._new += len(chunk)
        return self._look(last=False) if self._new >= _WINDOW else []

    def end(self) -> list[str]:
        """Look at what is left; list the kinds of secrets found."""
        return self._look(last=True)

    def _look(self, *, last: bool) -> list[str]:
        window = bytes(self._window).replace(b"\0", b"")
        found = self._kinds(window.decode("latin-1"), last=last) if _is_text(window) else []
        del self._window[:-_OVERLAP]
        self._new, self._first = 0, False
        return found

    def _kinds(self, text: str, *, last: bool) -> list[str]:
        """List what is found, but for what the next window shows whole, or this one only the end of."""
        again = len(text) - _OVERLAP // 2
        return [
            rule.kind
            for rule in _candidates(text)
            if any(
                (start > 0 or self._first) and (last or stop < len(text) or start < again)
                for start, stop in rule.found_in(text)
            )
        ]


def _is_text(window: bytes) -> bool:
    controls = len(window) - len(window.translate(None, _CONTROLS))
    return controls <= len(window) * _MOST_CONTROLS


def _candidates(text: str) -> Sequence[_Rule]:
    if _LONG_WORD.search(text) is None:
        return ()
    hints = {hint for hint in _HINTS if hint in text}
    return [rule for rule in _RULES if not hints.isdisjoint(rule.hints)] if hints else ()


def _replace(rule: _Rule, text: str, note: Callable[[str], None]) -> str:
    parts, end = [], 0
    for start, stop in rule.found_in(text):
        note(text[start:stop])
        parts += [text[end:start], f"[redacted:{rule.kind}]"]
        end = stop
    return "".join([*parts, text[end:]]) if parts else text


def _note(
    found: dict[str, list[tuple[str, str]]], kind: str, secret: str, path: tuple[str | int, ...]
) -> None:
    found.setdefault(kind, []).append((pointer_to("body", *path), secret))


def _finding(kind: str, places: Sequence[tuple[str, str]]) -> Finding:
    return Finding(
        kind=kind,
        count=len(places),
        pointers=tuple(dict.fromkeys(pointer for pointer, _ in places)),
        secrets=tuple(secret for _, secret in places),
    )


def _is_content(path: tuple[str | int, ...]) -> bool:
    return len(path) == 3 and path[0] == "artifacts" and path[2] == "content_base64"  # noqa: PLR2004 - artifacts, index, name


def _gather(value: Any, texts: list[str], skip: str | None = None) -> None:
    """Collect texts without the names of their places, which are asked for only when something is found."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        for name, member in value.items():
            if name != skip:
                _gather(member, texts)
    elif isinstance(value, list):
        for member in value:
            _gather(member, texts, skip)


def _rebuild(
    value: Any, path: tuple[str | int, ...], replace: Callable[[str, tuple[str | int, ...]], str]
) -> Any:
    if isinstance(value, str):
        return value if _is_content(path) else replace(value, path)
    if isinstance(value, dict):
        return {key: _rebuild(member, (*path, key), replace) for key, member in value.items()}
    if isinstance(value, list):
        return [_rebuild(member, (*path, index), replace) for index, member in enumerate(value)]
    return value

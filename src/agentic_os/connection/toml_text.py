"""Adding lines to a TOML file, and taking them out, with all of a person's text as it was.

There is no writer of TOML in the standard library; the caller compares what came out with what was meant.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[")


def parse(text: str) -> dict[str, Any]:
    """Read a document. Raises ValueError."""
    return tomllib.loads(text.replace("\r\n", "\n"))


def says(text: str, wanted: Any) -> bool:
    """Tell whether a text is the document that is meant; 1, 1.0 and true are not the same."""
    try:
        return _canonical(parse(text)) == _canonical(wanted)
    except ValueError:
        return False


def _canonical(document: Any) -> str:
    return json.dumps(document, sort_keys=True, default=repr)


def insert(text: str, added: dict[str, Any], _: Any) -> str | None:
    """Write what was added into a text; None where it cannot be done by adding lines."""
    sections = list(_sections(added, ()))
    if any(lines is None for _, _, lines in sections):
        return None
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    for path, made, ours in sections:
        new = [line + end for line in ours or ()]
        header = f"[{'.'.join(map(_key, path))}]"
        at = next((n for n, line in enumerate(lines, 1) if line.strip() == header), None)
        if not path:
            lines[0:0] = new
        elif at is not None:
            lines[at:at] = new
        elif new or made:
            lines += [*([end] if lines else []), header + end, *new]
    return "".join(lines)


def remove(text: str, added: dict[str, Any], wanted: Any) -> str | None:
    """Take out of a text what was added; None where the lines are not there any more as they were."""
    sections = list(_sections(added, ()))
    values = [line for _, _, ours in sections for line in ours or ()]
    headers = [f"[{'.'.join(map(_key, path))}]" for path, made, _ in sections if path and made]
    for unwanted in ([*values, *headers], values):
        lines = text.splitlines(keepends=True)
        for line in unwanted:
            at = next((n for n, found in enumerate(lines) if found.strip() == line), None)
            if at is None:
                continue
            del lines[at]
            if line in headers and at and not lines[at - 1].strip():
                del lines[at - 1]
        candidate = "".join(lines)
        if says(candidate, wanted):
            return candidate
    return None


def _sections(
    added: dict[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], bool, list[str] | None]]:
    """List the tables with the lines that each gets; None for a list that would have to be changed."""
    lines: list[str] | None = []
    inner: list[tuple[str, dict[str, Any]]] = []
    for name, part in added["members"].items():
        if "members" in part:
            inner.append((name, part))
        elif "items" in part and not part["made"]:
            lines = None
        elif lines is not None:
            lines.append(f"{_key(name)} = {_value(part['items'] if 'items' in part else part['value'])}")
    if lines is None or lines or (added["made"] and not inner):
        yield path, added["made"], lines
    for name, part in inner:
        yield from _sections(part, (*path, name))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
        case _:
            return repr(value)

"""Merging what a client needs into a settings file of a person's, and taking it out again.

Objects are merged, lists united, an equal value stays; a value that a person set otherwise is a conflict.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from agentic_os.connection import toml_text

Format = Literal["json", "toml"]
Added = dict[str, Any]
"""What was added, as a tree: {made, members}, {made, items} or {value}; `made` tells that the holder is ours, too."""

_ABSENT: Final = object()


class SettingsUnreadable(ValueError):
    """A file does not hold settings of its format; the message says where and why."""


class SettingsConflict(ValueError):
    """A person has settings that speak against those of the profile. conflicts: each of them."""

    def __init__(self, conflicts: "Sequence[Conflict]") -> None:
        super().__init__("; ".join(map(str, conflicts)))
        self.conflicts = tuple(conflicts)


class ByHandOnly(ValueError):
    """The text cannot be changed without touching what is a person's; the message says what to write by hand."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One setting with two values."""

    pointer: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.pointer} is {json.dumps(self.theirs)}, and would have to be {json.dumps(self.ours)}"


@dataclass(frozen=True, slots=True)
class Merged:
    """The content of a file with the settings in it, and what of it is ours; None: all were there."""

    content: bytes
    added: Added | None


def merge(content: bytes | None, kind: Format, wanted: dict[str, Any]) -> Merged:
    """Merge settings into a file. Raises SettingsUnreadable, SettingsConflict, ByHandOnly."""
    document = _parse(content or b"", kind)
    conflicts: list[Conflict] = []
    united, added = _union(document, wanted, "", conflicts)
    if conflicts:
        raise SettingsConflict(conflicts)
    if added is None:
        return Merged(content if content is not None else b"", None)
    text = (content or b"").decode()
    if kind == "json":
        return Merged(_json_like(text, united), added)
    return Merged(_by_hand_if_not(toml_text.insert, text, added, united), added)


def take_out(content: bytes, kind: Format, added: Added) -> bytes | None:
    """Take what was added out of a file; None: nothing of a person's is left in it.

    What a person changed since stays. Raises SettingsUnreadable, ByHandOnly.
    """
    document = _parse(content, kind)
    left = _without(document, added)
    if left in ({}, _ABSENT) and document:
        return None
    if _same(left, document):
        return content
    text = content.decode()
    return _json_like(text, left) if kind == "json" else _by_hand_if_not(toml_text.remove, text, added, left)


def added_in_all(before: Added | None, since: Added | None) -> Added | None:
    """Put together what was added to a file at two times."""
    if before is None or since is None:
        return before or since
    if "members" in before and "members" in since:
        names = {**before["members"], **since["members"]}
        both = {n: added_in_all(before["members"].get(n), since["members"].get(n)) for n in names}
        return {"made": before["made"], "members": both}
    if "items" in before and "items" in since:
        return {"made": before["made"], "items": _new_items([], [*before["items"], *since["items"]])}
    return since


def same_settings(one: bytes, other: bytes, kind: Format) -> bool:
    """Tell whether two files say the same, however they are written. Raises SettingsUnreadable."""
    return _same(_parse(one, kind), _parse(other, kind))


def missing(content: bytes | None, kind: Format, wanted: dict[str, Any]) -> list[str]:
    """Name the settings that a file lacks, or has otherwise, as pointers. Raises SettingsUnreadable."""
    conflicts: list[Conflict] = []
    _, added = _union(_parse(content or b"", kind), wanted, "", conflicts)
    return [*(conflict.pointer for conflict in conflicts), *_pointers(added, "")]


def _by_hand_if_not(
    change: Callable[[str, Added, Any], str | None], text: str, added: Added, wanted: Any
) -> bytes:
    changed = change(text, added, wanted)
    if changed is None or not toml_text.says(changed, wanted):
        listed = ", ".join(_pointers(added, ""))
        raise ByHandOnly(f"the text around them cannot be kept as it is; write or remove by hand: {listed}")
    return changed.encode()


def _union(theirs: Any, ours: Any, pointer: str, conflicts: list[Conflict]) -> tuple[Any, Added | None]:
    """Unite two values; also give what of it is ours."""
    if theirs is _ABSENT:
        return _plain(ours), _whole(ours)
    if isinstance(theirs, dict) and isinstance(ours, dict):
        united, members = dict(theirs), {}
        for name, value in ours.items():
            united[name], added = _union(
                theirs.get(name, _ABSENT), value, f"{pointer}/{_escaped(name)}", conflicts
            )
            if added is not None:
                members[name] = added
        return united, {"made": False, "members": members} if members else None
    if isinstance(theirs, list) and isinstance(ours, list):
        items = _new_items(theirs, ours)
        return [*theirs, *items], {"made": False, "items": items} if items else None
    if not _same(theirs, ours):
        conflicts.append(Conflict(pointer or "/", theirs, ours))
    return theirs, None


def _whole(ours: Any) -> Added:
    if isinstance(ours, dict):
        return {"made": True, "members": {name: _whole(value) for name, value in ours.items()}}
    if isinstance(ours, list):
        return {"made": True, "items": _new_items([], ours)}
    return {"value": ours}


def _plain(ours: Any) -> Any:
    if isinstance(ours, dict):
        return {name: _plain(value) for name, value in ours.items()}
    return _new_items([], ours) if isinstance(ours, list) else ours


def _new_items(theirs: list[Any], ours: list[Any]) -> list[Any]:
    seen, items = {_canonical(item) for item in theirs}, []
    for item in ours:
        if (known := _canonical(item)) not in seen:
            seen.add(known)
            items.append(item)
    return items


def _without(current: Any, added: Added) -> Any:
    """Take the tree out of a value; _ABSENT where nothing is left that was there before."""
    if "members" in added:
        if not isinstance(current, dict):
            return current
        parts = added["members"]
        kept = {n: _without(value, parts[n]) if n in parts else value for n, value in current.items()}
        left: Any = {name: value for name, value in kept.items() if value is not _ABSENT}
    elif "items" in added:
        if not isinstance(current, list):
            return current
        ours = [_canonical(item) for item in added["items"]]
        left = []
        for item in reversed(current):  # ours were put last
            if (known := _canonical(item)) in ours:
                ours.remove(known)
            else:
                left.insert(0, item)
    else:
        return _ABSENT if _same(current, added["value"]) else current
    return _ABSENT if added["made"] and not left else left


def _pointers(added: Added | None, pointer: str) -> list[str]:
    if added is None:
        return []
    if members := added.get("members"):
        return [p for name, part in members.items() for p in _pointers(part, f"{pointer}/{_escaped(name)}")]
    if items := added.get("items"):
        return [f"{pointer}: {json.dumps(item, ensure_ascii=False)}" for item in items]
    return [pointer]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _same(one: Any, other: Any) -> bool:
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    # Python holds 1, 1.0 and True for equal, which no client does.
    return "" if value is _ABSENT else json.dumps(value, sort_keys=True, default=repr)


def _parse(content: bytes, kind: Format) -> Any:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise SettingsUnreadable(f"is not UTF-8 at byte {error.start}") from None
    if kind == "toml":
        try:
            return toml_text.parse(text)
        except ValueError as error:
            raise SettingsUnreadable(f"is not TOML: {error}") from None
    if not text.strip("\ufeff \t\r\n"):
        return {}
    try:
        document = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_once, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise SettingsUnreadable(
            f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise SettingsUnreadable("is not JSON: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise SettingsUnreadable("holds no object, which settings are")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsUnreadable(f"holds the key {twice!r} twice, so one of them would be lost")
    return found


def _constant(name: str) -> NoReturn:
    raise SettingsUnreadable(f"is not JSON: {name} is no value of it")


def _json_like(text: str, document: Any) -> bytes:
    """Write a document in the manner of a text: its indentation, its line ends, its last line."""
    found = re.search(r"[{\[]\r?\n([ \t]+)[^\s]", text)
    indent: str | int | None = (
        found.group(1) if found else (2 if "\n" in text.strip() or not text.strip() else None)
    )
    dumped = json.dumps(document, indent=indent, ensure_ascii=False)
    try:
        dumped.encode()
    except UnicodeEncodeError:  # half a pair of surrogates, which JSON can write only escaped
        dumped = json.dumps(document, indent=indent)
    if not text or text.endswith("\n"):
        dumped += "\n"
    if "\r\n" in text:
        dumped = dumped.replace("\n", "\r\n")
    return (("\ufeff" if text.startswith("\ufeff") else "") + dumped).encode()

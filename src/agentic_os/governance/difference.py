"""What changes from one bundle to another: rules, freezes, roles and members by name, with the parts that differ."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from agentic_os.domain.documents import JsonObject

_LISTS: Final = {"rules": "rule", "freezes": "freeze"}
_PARTS: Final = {"defaults": "default", "breakers": "breaker"}
_BUDGETS_BY_NAME: Final = ("project", "executor")
_NAMED: Final = {"roles": "role", "members": "member", "teams": "team", "projects": "project"}
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that differs, by the way to it. before, after: None where it is absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one named thing. parts: what differs in it, of changed ones only."""

    kind: str
    name: str
    change: Literal["added", "removed", "changed"]
    parts: tuple[Part, ...] = ()

    def as_json(self) -> JsonObject:
        """Write it for programs."""
        return {**asdict(self), "parts": [asdict(part) for part in self.parts]}


def differences(before: JsonObject, after: JsonObject) -> list[Change]:
    """Compare two documents as they are written; rules and freezes have no order, so none is compared."""
    old, new = dict(_things(before)), dict(_things(after))
    return [
        _change(key, old.get(key, _ABSENT), new.get(key, _ABSENT))
        for key in dict.fromkeys((*new, *old))
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]


def shadow_differences(before: JsonObject | None, after: JsonObject | None) -> list[Change]:
    """Compare what is on trial; None where nothing is."""
    if before is None or after is None:
        change: Literal["added", "removed"] = "added" if before is None else "removed"
        return [] if before is after else [Change(kind="shadow", name="policy", change=change)]
    return [replace(change, kind=f"shadow {change.kind}") for change in differences(before, after)]


def skill_differences(before: JsonObject | None, after: JsonObject) -> list[Change]:
    """Compare two locks of skills, project by project; None where skills were no part of the bundle yet."""
    if before is None:
        return [Change(kind="skills", name="of every project", change="added")]
    old, new = dict(_skills(before)), dict(_skills(after))
    return [
        _change(key, old.get(key, _ABSENT), new.get(key, _ABSENT))
        for key in dict.fromkeys((*new, *old))
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]


def _skills(lock: JsonObject) -> Iterator[tuple[tuple[str, str], Any]]:
    if lock["text"] is not None:
        yield ("file", "skills.yaml"), {"text": lock["text"]}
    sets = {"any other project": lock["others"], **lock["projects"]}
    for project, each in sets.items():
        yield ("skills of", project), {"workspace": each["workspace"]}
        for skill in each["skills"]:
            told = {"root": skill["root"], "digest": skill["digest"]}
            yield ("skill", f"{project}/{skill['name']}"), told


def described(changes: list[Change]) -> str:
    """Write changes for people: one line for each, and one for each part that differs."""
    signs = {"added": "+", "removed": "-", "changed": "~"}
    lines = []
    for change in changes:
        lines.append(f"{signs[change.change]} {change.kind} {change.name}")
        lines += [f"    {p.path}: {_shown(p.before)} -> {_shown(p.after)}" for p in change.parts]
    return "\n".join(lines)


def _things(document: JsonObject) -> Iterator[tuple[tuple[str, str], Any]]:
    for section, kind in _LISTS.items():
        for item in document.get(section) or ():
            yield (kind, item["id"]), item
    for section, kind in _PARTS.items():
        for name, part in (document.get(section) or {}).items():
            yield (kind, name), part
    for scope, amounts in (document.get("budgets") or {}).items():
        by_name = scope in _BUDGETS_BY_NAME
        for name, part in (amounts or {}).items() if by_name else ((scope, amounts),):
            yield ("budget", f"{scope} {name}" if by_name else name), part
    for section in document.keys() - {*_LISTS, *_PARTS, "budgets", "organisation"}:
        yield ("section", section), document[section]
    organisation = document.get("organisation") or {}
    for section, kind in _NAMED.items():
        for name, part in (organisation.get(section) or {}).items():
            yield (kind, name), part or {}


def _change(key: tuple[str, str], before: Any, after: Any) -> Change:
    kind, name = key
    if before is _ABSENT:
        return Change(kind=kind, name=name, change="added")
    if after is _ABSENT:
        return Change(kind=kind, name=name, change="removed")
    return Change(kind=kind, name=name, change="changed", parts=tuple(_parts("", before, after)))


def _parts(path: str, before: Any, after: Any) -> Iterator[Part]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            yield from _parts(f"{path}.{name}".lstrip("."), before.get(name), after.get(name))
        return
    yield Part(path=path or "value", before=before, after=after)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value).strip()
    first, _, rest = text.partition("\n")
    return f"{first} ..." if rest else first

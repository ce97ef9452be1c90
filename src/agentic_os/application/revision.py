"""What changed from one version of a plan or result to the next, made by machine: reviewers need not compare."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agentic_os.domain.documents import ReviewItem

LINES_SHOWN: Final = 60
VALUE_SHOWN: Final = 200
"""How many lines, and how many characters of a value, a difference has: it stands in a note that people read."""

_NAMED_BY: Final = {
    "steps": "id",
    "tasks": "ref",
    "risks": "description",
    "acceptance": "criterion_id",
    "evidence": "criterion_id",
    "artifacts": "name",
    "deviations": "step_id",
}
"""Lists of a document whose members have a name, and what that is."""

_FIRST: Final = ("summary", "outcome", "steps", "tasks", "risks", "acceptance")
_UNTOLD: Final = frozenset({"responds_to"})
"""What is told as answers, and is no part of what a digest names."""


def changes_markdown(version: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Write what became of the version before; bounded in size."""
    lines = [*_changes(before, after)] or ["- Nothing that its digest names."]
    if len(lines) > LINES_SHOWN:
        lines = [*lines[:LINES_SHOWN], f"- ... and {len(lines) - LINES_SHOWN} more changes."]
    return "\n".join([f"**What changed since version {version}**", "", *lines])


def answers_markdown(after: Mapping[str, Any], items: Sequence[ReviewItem]) -> str:
    """Write how each review item was answered, and what else is said in answer; bounded in size, "" for nothing."""
    answers = {a["item_id"]: a["how"] for a in after.get("responds_to", ())}
    answered = [f"- {_shown(i.text)} → {_shown(answers.pop(i.id, 'no answer'))}" for i in items]
    answered += [f"- `{_shown(item_id)}` → {_shown(how)}" for item_id, how in answers.items()]
    if not answered:
        return ""
    if len(answered) > LINES_SHOWN:
        answered[LINES_SHOWN:] = [f"- ... and {len(answered) - LINES_SHOWN} more answers."]
    return "\n".join(["**How each review item was answered**", "", *answered])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    names = sorted(
        {*before, *after} - _UNTOLD, key=lambda n: (_FIRST.index(n) if n in _FIRST else len(_FIRST), n)
    )
    for name in names:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name in _NAMED_BY:
            yield from _members(name, old or (), new or ())
        else:
            yield f"- {name}: {_transition(old, new)}"


def _members(name: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    """Compare two lists whose members have names."""
    key = _NAMED_BY[name]
    before, after = _named(old, key), _named(new, key)
    for member, content in after.items():
        if member not in before:
            yield f"- {name}: added `{_shown(member)}`{_title(content)}{_scope(content)}"
        elif before[member] != content:
            parts = "; ".join(_parts(before[member], content))
            yield f"- {name}: changed `{_shown(member)}`: {parts}"
    for member, content in before.items():
        if member not in after:
            yield f"- {name}: removed `{_shown(member)}`{_title(content)}"
    kept = [member for member in before if member in after]
    if kept != [member for member in after if member in before]:
        yield f"- {name}: in another order"


def _named(members: Sequence[Any], key: str) -> dict[str, Mapping[str, Any]]:
    return {str(member.get(key, place)): member for place, member in enumerate(members, 1)}


def _title(content: Mapping[str, Any]) -> str:
    return f" {_shown(content['title'])}" if content.get("title") else ""


def _scope(content: Mapping[str, Any]) -> str:
    """Say what an added member would touch, which is what an approval is about."""
    found = {n: content[n] for n in ("paths", "tools") if content.get(n) and _is_words(content[n])}
    lists = [f"{n}: {_shown(', '.join(names))}" for n, names in found.items()]
    words = [f"{n}: {_shown(content[n])}" for n in ("risk", "level", "role", "mode") if content.get(n)]
    return f" ({'; '.join([*lists, *words])})" if lists or words else ""


def _parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name} {_transition(before.get(name), after.get(name))}"


def _transition(old: Any, new: Any) -> str:
    if _is_words(old) and _is_words(new):
        added = [f"+ {_shown(v)}" for v in new or () if v not in (old or ())]
        removed = [f"- {_shown(v)}" for v in old or () if v not in (new or ())]
        return ", ".join([*added, *removed]) or "in another order"
    if _is_plain(old) and _is_plain(new):
        return f"{_shown(old)} → {_shown(new)}"
    return "changed"


def _is_words(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _shown(value: Any) -> str:
    words = "none" if value is None else " ".join(str(value).split()).replace("`", "'")
    return words if len(words) <= VALUE_SHOWN else words[:VALUE_SHOWN] + "..."

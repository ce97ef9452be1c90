"""What a task may touch: whether a plan's paths and tools, and the tools that were used, lie within the task's."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from agentic_os.domain import events as e
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

_WILD: Final = frozenset("*?[")
_TREE: Final = "**"
_CLIMBS: Final = re.compile(r"(?:^|[/{},])\.\.(?:$|[/{},])")
"""A segment `..`, also as one of the alternatives that some shells know."""

_NAMED: Final = 5


def require_within(plan: JsonObject, task: Task) -> None:
    """Refuse a plan with a step that names a tool or a path outside of the task's; a task with none has no bounds."""
    if pointers := _outside(plan, "tools", task.tools, within_tools):
        raise Rejected(
            "tool_denied",
            f"The plan names tools that this task does not allow: {', '.join(task.tools)} are allowed.",
            next_step="Keep to the brief's tools, or escalate and say which one is missing.",
            pointers=pointers,
        )
    if pointers := _outside(plan, "paths", task.paths, within_paths):
        raise Rejected(
            "scope_denied",
            f"The plan names paths outside of this task's: {', '.join(task.paths)}.",
            next_step="Keep to the brief's paths, or escalate and say which one is missing.",
            pointers=pointers,
        )


def held_for_tools(body: JsonObject, attempt: int, task: Task) -> list[e.Event]:
    """Hold a task in which a tool was used that it does not allow; one such hold of an attempt is enough."""
    if not task.tools:
        return []
    used = {event["tool"] for event in body.get("events", ()) if event["outcome"] == "ok"}
    outside = sorted(tool for tool in used if not within_tools(tool, task.tools))
    if not outside:
        return []
    what = f"Attempt {attempt} used what the task's tools do not allow"
    if any(hold.reason.startswith(what) for hold in task.holds):
        return []
    more = f" and {len(outside) - _NAMED} more" if len(outside) > _NAMED else ""
    reason = f"{what}: {', '.join(outside[:_NAMED])}{more}."
    return [e.TaskHeld(reason=reason, by="system", cause="tool")]


def within_tools(tool: str, allowed: Sequence[str]) -> bool:
    """Tell whether a tool, or all that a pattern of tools stands for, is among the allowed patterns."""
    return any(_covers_name(pattern, tool) for pattern in allowed)


def within_paths(path: str, allowed: Sequence[str]) -> bool:
    """Tell whether a path, or all that a pattern of paths stands for, lies within one of the allowed patterns.

    `*` and `?` stay within a segment, a segment `**` is any number of segments, a `/` at the end means all beneath.
    What is absolute or has a segment `..` lies within nothing, and nothing lies within it. What is not sure is no.
    """
    wanted = _segments(path)
    if wanted is None:
        return False
    patterns = (_segments(pattern) for pattern in allowed)
    return any(_covers_path(pattern, wanted) for pattern in patterns if pattern is not None)


def outside(paths: Sequence[str], allowed: Sequence[str]) -> list[int]:
    """List the indexes of the paths that lie within none of those allowed, and are not one of them word for word."""
    return [
        index for index, path in enumerate(paths) if path not in allowed and not within_paths(path, allowed)
    ]


def _outside(
    plan: JsonObject, name: str, allowed: Sequence[str], within: Any, longest: int = 50
) -> tuple[str, ...]:
    if not allowed:
        return ()
    known: dict[str, bool] = {}
    found = []
    for number, step in enumerate(plan.get("steps", ())):
        for index, value in enumerate(step.get(name, ())):
            if value not in known:
                known[value] = within(value, allowed)
            if not known[value]:
                found.append(f"/body/steps/{number}/{name}/{index}")
    return tuple(found[:longest])


def _segments(path: str) -> list[str] | None:
    """Split a path into its segments; None for one that must never count."""
    if (
        path.startswith(("/", "~"))
        or "\\" in path
        or path[1:2] == ":"
        or "\0" in path
        or _CLIMBS.search(path)
    ):
        return None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.endswith("/"):
        parts.append(_TREE)
    return parts or None


def _covers_path(pattern: Sequence[str], wanted: Sequence[str]) -> bool:
    """Walk both from the left: at `reached` are the places in the pattern that what was seen may have led to."""
    reached = _skipping({0}, pattern)
    for segment in wanted:
        following = set()
        for place in reached:
            if place == len(pattern):
                continue
            if pattern[place] == _TREE:
                following.add(place)
            elif segment != _TREE and _covers_name(pattern[place], segment):
                following.add(place + 1)
        reached = _skipping(following, pattern)
        if not reached:
            return False
    return len(pattern) in reached


def _covers_name(pattern: str, wanted: str) -> bool:
    """Tell whether all that a name stands for, wildcards included, fits the pattern; not sure is no."""
    if pattern == wanted:
        return True
    if _WILD.isdisjoint(wanted):
        return fnmatchcase(wanted, pattern)
    if "[" in pattern or "[" in wanted:
        return False
    reached = _skipping({0}, pattern, "*")
    for character in wanted:
        following = set()
        for place in reached:
            if place == len(pattern):
                continue
            if pattern[place] == "*":
                following.add(place)
            elif character == pattern[place] or (pattern[place] == "?" and character != "*"):
                following.add(place + 1)
        reached = _skipping(following, pattern, "*")
        if not reached:
            return False
    return len(pattern) in reached


def _skipping(places: Iterable[int], pattern: Sequence[str], star: str = _TREE) -> set[int]:
    """Add the places behind what may stand for nothing."""
    found = set(places)
    for place in places:
        at = place
        while at < len(pattern) and pattern[at] == star:
            at += 1
            found.add(at)
    return found

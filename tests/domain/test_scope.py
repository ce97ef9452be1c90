"""What a task may touch: a plan's paths and tools lie within the task's, and tools outside hold the task."""

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from tests.domain.kit import ack, admit, create, given, offer, sender, submit_plan

from agentic_os.domain import commands as c
from agentic_os.domain.scope import outside, within_paths, within_tools

WITHIN = [
    ("src/**", "src/a.py"),
    ("src/**", "src/x/*"),
    ("src/**", "src/x/**"),
    ("src/**", "./src/a.py"),
    ("src/**", "src/**"),
    ("src/", "src/a/b.py"),
    ("src/", "src/"),
    ("src/*", "src/a.py"),
    ("src/*", "src/*.py"),
    ("src/*.py", "src/test_*.py"),
    ("src/?.py", "src/?.py"),
    ("src/[ab].py", "src/a.py"),
    ("**/docs/*", "a/b/docs/x"),
    ("**", "anything/at/all"),
    ("src/a.py", "src/a.py"),
]
OUTSIDE = [
    ("src/**", "docs/a.md"),
    ("src/**", "srcs/a.py"),
    ("src/**", "src/../secrets"),
    ("**", "../secrets"),
    ("**", "/etc/passwd"),
    ("/etc/**", "/etc/passwd"),
    ("**", "~/.ssh/id"),
    ("**", "C:/windows"),
    ("**", "src\\..\\x"),
    ("**", ""),
    ("src/*", "src/a/b.py"),
    ("src/*", "src/**"),
    ("src/*.py", "src/*"),
    ("src/a*", "src/*"),
    ("src/?.py", "src/*.py"),
    ("src/[ab].py", "src/?.py"),
    ("src/a.py", "src/"),
    ("src", "src/a.py"),
]


@pytest.mark.parametrize(("allowed", "path"), WITHIN)
def test_a_path_within_is_within(allowed: str, path: str):
    """All that the path stands for fits what is allowed."""
    assert within_paths(path, ["other", allowed])


@pytest.mark.parametrize(("allowed", "path"), OUTSIDE)
def test_a_path_outside_is_outside(allowed: str, path: str):
    """Something that the path stands for does not fit, or it is one that never counts."""
    assert not within_paths(path, [allowed])


NAMES = st.text("ab", min_size=1, max_size=4)
GLOBS = st.text("ab*?", min_size=1, max_size=5)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(GLOBS | st.just("**"), min_size=1, max_size=4).map("/".join)


def fits(path: str, pattern: str) -> bool:
    """Tell by other means whether one concrete path fits a pattern."""
    parts = pattern.split("/")
    regex = "".join(
        "(?:[^/]+/)*"
        if part == "**"
        else part.replace("*", "\0").replace("?", "[^/]").replace("\0", "[^/]*") + "/"
        for part in parts
    )
    return re.fullmatch(regex, path + "/") is not None


@for_all(PATTERNS, PATTERNS, st.lists(PATHS, max_size=20))
def test_nothing_that_fits_a_pattern_within_is_outside(allowed: str, wanted: str, paths: list[str]):
    """Where a pattern counts as within another, each path that fits the first fits the second."""
    if within_paths(wanted, [allowed]):
        assert [] == [path for path in paths if fits(path, wanted) and not fits(path, allowed)]


@for_all(PATTERNS, PATHS)
def test_a_path_without_wildcards_is_within_exactly_what_it_fits(allowed: str, path: str):
    """For one concrete path there is no doubt either way."""
    assert fits(path, allowed) == within_paths(path, [allowed])


@for_all(GLOBS, NAMES)
def test_a_tool_is_matched_as_a_shell_would(allowed: str, tool: str):
    """A tool is within the patterns that match its name."""
    assert fnmatchcase(tool, allowed) == within_tools(tool, [allowed])


def planning(**limits: Any) -> Any:
    """Have an executor at work on a plan for a task with these limits."""
    return given(create(**limits), admit(mode="plan_first"), offer(), ack())


def plan(*steps: dict[str, Any]) -> c.SubmitPlan:
    """Hand in a plan of these steps."""
    return c.SubmitPlan(**sender(), digest=submit_plan().digest, plan={"summary": "s", "steps": list(steps)})


def test_a_plan_with_other_tools_is_denied():
    """A step that names a tool outside of the task's is refused with the place of each such tool."""
    steps = ({"tools": ["pytest"]}, {"tools": ["pytest", "curl"]}, {"tools": ["py*", "*"]})
    refusal = planning(tools=("py*",)).when(plan(*steps)).refused("tool_denied")
    assert ("/body/steps/1/tools/1", "/body/steps/2/tools/1") == refusal.pointers


def test_a_plan_with_other_paths_is_denied():
    """A step that names a path outside of the task's is refused with the place of each such path."""
    steps = ({"paths": ["src/a.py"]}, {"paths": ["src/**", "../x"]})
    refusal = planning(paths=("src/**",)).when(plan(*steps)).refused("scope_denied")
    assert ("/body/steps/1/paths/1",) == refusal.pointers


def test_a_task_without_limits_takes_any_plan():
    """Where a task names no paths and tools, none is outside."""
    task = planning().and_then(plan({"paths": ["anything"], "tools": ["curl"]})).task
    assert "plan_review" == task.phase


def test_only_what_went_well_outside_of_the_tools_holds_a_task():
    """A tool outside that failed, or was denied, did nothing; what follows holds it no further."""
    working = given(create(tools=("py*",)), admit(), offer(), ack())

    def used(*events: tuple[str, str], seq: int) -> c.Record:
        body = {"events": [{"tool": tool, "outcome": outcome} for tool, outcome in events]}
        return c.Record(**sender(seq=seq), kind="tool_event", body=body)

    fine = working.and_then(used(("pytest", "ok"), ("curl", "denied"), ("curl", "error"), seq=2))
    assert () == fine.task.holds
    held = fine.and_then(
        used(("wget", "ok"), ("curl", "ok"), seq=3), used(("curl", "ok"), ("nc", "ok"), seq=4)
    )
    assert ["Attempt 1 used what the task's tools do not allow: curl, wget."] == [
        h.reason for h in held.task.holds
    ]


def test_a_hold_names_no_more_tools_than_can_be_read():
    """Of many tools outside the hold names the first, and counts the rest."""
    body = {"events": [{"tool": f"tool-{n}", "outcome": "ok"} for n in range(9)]}
    record = c.Record(**sender(), kind="tool_event", body=body)
    (hold,) = given(create(tools=("py*",)), admit(), offer(), ack(), record).task.holds
    assert hold.reason.endswith(": tool-0, tool-1, tool-2, tool-3, tool-4 and 4 more.")


def test_what_a_child_may_have_is_what_its_parent_has():
    """A path is passed on when it lies within the parent's, or is one of them word for word; the others are named."""
    assert [] == outside(["src/a.py", "src/deep/**", "src/**", "/srv/data"], ["src/**", "/srv/data"])
    assert [1, 3] == outside(["src/a", "x", "src/b", "y"], ["src/**"])
    assert [0] == outside(["src/x"], [])


@pytest.mark.parametrize(
    "path", ["src/{a,..}/x", "src/..", "src/../x", "src\\..\\x", ".", "Src/x", "**", "*"]
)
def test_what_climbs_out_or_cannot_be_told_lies_within_nothing(path: str):
    """Whatever a shell might make of it, it is not passed on."""
    assert not within_paths(path, ["src/**"])

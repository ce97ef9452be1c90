"""What changed between two versions of a document, as a reviewer is shown it."""

from hypothesis import given
from hypothesis import strategies as st

from agentic_os_board.server.differences import MOST_LINES, Line, difference

PLAN = "Count.\n\n**Steps**\n\n1. `a` Open the box\n1. `b` Count by hand\n\n**Risks**\n\n- (low) Beans roll away\n"


def told(before: str, after: str) -> list[tuple[str, str, str]]:
    found = difference(before, after)
    assert found is not None
    return [
        (section.heading, line.kind, "".join(text for text, _ in line.parts))
        for section in found.sections
        for line in section.lines
    ]


def test_a_changed_step_is_told_under_its_heading() -> None:
    """What went must stand above what came, under the heading of both, and the rest be left out."""
    after = PLAN.replace("by hand", "by scale").replace("1. `b`", "1. `z` Weigh the box\n1. `b`")
    assert told(PLAN, after) == [
        ("Steps", "added", "z Weigh the box"),
        ("Steps", "removed", "b Count by hand"),
        ("Steps", "added", "b Count by scale"),
    ]


def test_only_the_words_that_changed_are_marked() -> None:
    """In a line that was reworded, what stayed must not be marked."""
    found = difference("Count the beans by hand", "Count the beans by scale")
    assert found is not None
    assert found.sections[0].lines == [
        Line(kind="removed", parts=[("Count the beans by ", False), ("hand", True)]),
        Line(kind="added", parts=[("Count the beans by ", False), ("scale", True)]),
    ]


def test_the_same_document_has_no_changes() -> None:
    """Numbers, signs of lists and empty lines must not count as changes."""
    assert told(PLAN, PLAN.replace("1. `b`", "2. b").replace("\n\n", "\n\n\n")) == []


def test_a_heading_that_went_is_told() -> None:
    """A heading itself must be among the changes when it came or went."""
    assert ("Steps", "removed", "**Risks**") in told(PLAN, PLAN.partition("**Risks**")[0])


def test_documents_that_are_too_long_are_not_compared() -> None:
    """A comparison must stay cheap, whatever an agent sends."""
    long = "\n".join(f"line {number}" for number in range(MOST_LINES + 1))
    assert difference(PLAN, long) is None


_LINES = st.lists(st.sampled_from(["a b c", "a b d", "- x", "**H**", "# G", "", "1. y"]), max_size=12)


@given(_LINES, _LINES)
def test_both_versions_can_be_read_from_the_difference(old: list[str], new: list[str]) -> None:
    """As many lines must come and go as the versions differ in."""
    found = difference("\n".join(old), "\n".join(new))
    assert found is not None
    assert found.added - found.removed == sum(map(bool, new)) - sum(map(bool, old))

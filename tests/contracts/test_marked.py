"""Plans and results as marked text."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agentic_os.contracts.callback import check_plan
from agentic_os.contracts.edited_plan import editable_text, read_edited
from agentic_os.contracts.marked import NotExpressible, parse_marked, render_marked
from agentic_os.contracts.violation import ContractViolation

PLAN = """I thought about it.

AOS:PLAN v1 task=t-1 attempt=2
## Summary
Two lines
### of it

## Steps
- [s1] Add (a) setting (paths: src/a.py, b; tools: x; risk: low)
  Its detail,

  in paragraphs.
* [s2] Use it
## Acceptance
- [tests] they
  pass
## Risks
- (high) It breaks. Mitigation: a test
- (low) None that I see
## Responses
none
AOS:END

That was the plan.
"""
RESULT = """AOS:RESULT v1 task=t-1 attempt=2\r
## Outcome\r
partial\r
## Summary\r
Half.\r
## Changes\r
None.\r
## Evidence\r
- [a] pass\r
- [b] fail (rank: observed; command: x; echo (y); exit: -1)\r
## Deviations\r
- [s1] it was late\r
## Follow-ups\r
- none\r
AOS:END\r
"""


def refusal(text: str, kind: str = "plan"):
    """Parse marked text that must be refused."""
    with pytest.raises(ContractViolation) as caught:
        parse_marked(text, kind=kind, task_id="t-1", attempt=2)
    return caught.value


def test_a_plan_is_read_with_prose_around_it():
    """Every part of the grammar of plans reads into the structured form."""
    expected = {
        "summary": "Two lines\n### of it",
        "steps": [
            {
                "id": "s1",
                "title": "Add (a) setting",
                "paths": ["src/a.py", "b"],
                "tools": ["x"],
                "risk": "low",
                "detail": "Its detail,\n\nin paragraphs.",
            },
            {"id": "s2", "title": "Use it"},
        ],
        "acceptance": [{"criterion_id": "tests", "how": "they\npass"}],
        "risks": [
            {"level": "high", "description": "It breaks", "mitigation": "a test"},
            {"level": "low", "description": "None that I see"},
        ],
        "responds_to": [],
    }
    assert expected == parse_marked(PLAN, kind="plan", task_id="t-1", attempt=2)


def test_a_result_is_read_in_any_order_and_with_either_line_ending():
    """Every part of the grammar of results reads into the structured form."""
    expected = {
        "outcome": "partial",
        "summary": "Half.",
        "changes": [],
        "evidence": [
            {"criterion_id": "a", "status": "pass", "rank": "self_reported"},
            {
                "criterion_id": "b",
                "status": "fail",
                "rank": "observed",
                "command": "x; echo (y)",
                "exit_code": -1,
            },
        ],
        "deviations": [{"step_id": "s1", "why": "it was late"}],
        "follow_ups": [],
    }
    assert expected == parse_marked(RESULT, kind="result", task_id="t-1", attempt=2)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("AOS:PLAN v1 task=t-1 attempt=2", "", "is missing; it stands alone"),
        ("AOS:PLAN v1 task=t-1 attempt=2", "**AOS:PLAN v1 task=t-1 attempt=2**", "line 3 is not exact"),
        ("AOS:PLAN v1", "AOS:RESULT v1", "line 3: the marker is 'AOS:RESULT"),
        ("AOS:PLAN v1", "AOS:PLAN v2", "line 3: the marker is"),
        ("task=t-1", "task=t-2", "line 3: the marker is"),
        ("attempt=2", "attempt=3", "line 3: the marker is"),
        ("AOS:END", "the end", "'AOS:END' is missing after line 3"),
        ("That was", "AOS:PLAN v1 task=t-1 attempt=2\nThat was", "a second marker"),
    ],
)
def test_a_marker_that_lacks_or_is_not_ours_is_missing(old: str, new: str, words: str):
    """Markers are exact: of this kind, task and attempt, and one pair."""
    violation = refusal(PLAN.replace(old, new))
    assert (violation.code, violation.pointers) == ("marker_missing", ("/body/marked_text",))
    assert words in violation.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("## Risks", "## Dangers", "line 17: unknown section '## Dangers' (known: Summary, Steps"),
        (
            "## Risks\n- (high) It breaks. Mitigation: a test\n- (low) None that I see\n",
            "",
            "'## Risks' is missing",
        ),
        ("## Risks", "## Steps", "comes twice"),
        ("## Summary", "Hello\n## Summary", "line 4: text before the first section"),
        ("Two lines\n### of it\n", "", "line 4: the section '## Summary' is empty"),
        ("- [tests] they", "they", "line 15: start an item with '- '"),
        ("- [tests] they", "- tests: they", "line 15: write the item as '- [id] how'"),
        ("(high)", "(huge)", "line 18: write the item as '- (low | medium"),
        ("paths: src", "path: src", "line 9: unknown attribute 'path'"),
        ("; risk: low", "; risk: low; risk: low", "line 9: in 'risk: low', write each"),
        ("; tools: x", "; tool: x", "line 9: separate the names"),
        ("src/a.py, b;", "src/a.py,, b;", "line 9: separate the names"),
    ],
)
def test_a_section_that_cannot_be_read_is_refused_with_its_line(old: str, new: str, words: str):
    """Nothing within the markers is dropped in silence."""
    violation = refusal(PLAN.replace(old, new, 1))
    assert (violation.code, violation.pointers) == ("section_missing", ("/body/marked_text",))
    assert words in violation.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("partial", "done", "the outcome is one of success, partial, no_change"),
        ("[a] pass", "[a] passed", "write the item as '- [criterion] pass"),
        ("exit: -1", "exit: one", "exit is a number"),
        ("rank: observed", "level: observed", "write each of rank, command, exit once"),
    ],
)
def test_a_result_that_cannot_be_read_is_refused_too(old: str, new: str, words: str):
    """Outcome and evidence have their own forms."""
    violation = refusal(RESULT.replace(old, new), "result")
    assert violation.code == "section_missing"
    assert words in violation.message


ID = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,9}\Z")
WORDS = st.lists(st.text("abXY 09.,;:()[]*-_/#\u00e9\u4e2d", min_size=1, max_size=12), min_size=1, max_size=4)
LINE = WORDS.map(" ".join).map(str.strip).filter(bool)
TEXT = st.lists(LINE.filter(lambda line: not line.startswith("## ")), min_size=1, max_size=3).map("\n".join)
NAME = st.from_regex(r"\A[a-z][a-z/.*-]{0,9}\Z").filter(lambda name: name != "none")
RISK = st.sampled_from(["low", "medium", "high", "critical"])
RESPONSES = st.lists(st.fixed_dictionaries({"item_id": ID, "how": TEXT}), max_size=2)
STEP = st.fixed_dictionaries(
    {"id": ID, "title": LINE.filter(lambda line: not line.endswith(")"))},
    optional={
        "detail": TEXT,
        "paths": st.lists(NAME, max_size=3),
        "tools": st.lists(NAME, max_size=3),
        "risk": RISK,
    },
)
PLANS = st.fixed_dictionaries(
    {
        "summary": TEXT,
        "steps": st.lists(STEP, min_size=1, max_size=3),
        "acceptance": st.lists(st.fixed_dictionaries({"criterion_id": ID, "how": TEXT}), max_size=3),
        "risks": st.lists(
            st.fixed_dictionaries({"description": TEXT, "level": RISK}, optional={"mitigation": TEXT}),
            max_size=3,
        ),
    },
    optional={"responds_to": RESPONSES},
)
EVIDENCE = st.fixed_dictionaries(
    {
        "criterion_id": ID,
        "rank": st.sampled_from(["self_reported", "observed", "independent"]),
        "status": st.sampled_from(["pass", "fail", "inconclusive"]),
    },
    optional={"command": LINE, "exit_code": st.integers(-255, 255)},
)
RESULTS = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(["success", "partial", "no_change"]),
        "summary": TEXT,
        "changes": st.lists(TEXT, max_size=3).filter(lambda texts: texts not in (["none"], ["none."])),
        "evidence": st.lists(EVIDENCE, max_size=3),
        "deviations": st.lists(st.fixed_dictionaries({"step_id": ID, "why": TEXT}), max_size=2),
        "follow_ups": st.lists(TEXT, max_size=2),
    },
    optional={"responds_to": RESPONSES},
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(st.just("plan"), PLANS) | st.tuples(st.just("result"), RESULTS))
def test_structured_to_marked_and_back_is_the_identity(document: tuple[str, dict[str, Any]]):
    """What marked text can express, it expresses exactly."""
    kind, body = document
    text = render_marked(kind, "t-1", 2, body)
    assert body == parse_marked(text, kind=kind, task_id="t-1", attempt=2)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(PLANS, st.text(max_size=20), st.sampled_from(["summary", "title", "detail", "how", "description"]))
def test_what_cannot_be_expressed_is_never_changed_in_silence(body: dict[str, Any], text: str, member: Any):
    """Any text at all is either given back exactly, or refused when it is written."""
    assume(body["acceptance"] and body["risks"])
    places = {"summary": body, "how": body["acceptance"][0], "description": body["risks"][0]}
    places.get(member, body["steps"][0])[member] = text
    try:
        written = render_marked("plan", "t-1", 2, body)
    except NotExpressible:
        return
    assert body == parse_marked(written, kind="plan", task_id="t-1", attempt=2)


@pytest.mark.parametrize(
    "member",
    [
        {"summary": "a\n## Steps"},
        {"summary": "a\nAOS:END"},
        {"estimate": {"wall_seconds": 1}},
        {"steps": [{"id": "s", "title": "t", "rollback": "r"}]},
        {"steps": [{"id": "s", "title": "t", "paths": ["a, b"]}]},
        {"steps": [{"title": "t"}]},
    ],
)
def test_a_document_beyond_marked_text_is_refused_when_written(member: Any):
    """A marker within the text, or a member without a place in it, cannot be written."""
    with pytest.raises(NotExpressible):
        render_marked("plan", "t-1", 2, {"summary": "s", "steps": [], "acceptance": [], "risks": []} | member)


def test_a_list_that_lacks_is_written_as_none():
    """A body without the optional lists can be written; they read back as empty."""
    text = render_marked(
        "plan", "t-1", 2, {"summary": "s", "steps": [{"id": "a", "title": "b"}], "acceptance": []}
    )
    assert parse_marked(text, kind="plan", task_id="t-1", attempt=2)["risks"] == []


@given(
    PLANS.flatmap(
        lambda plan: st.sampled_from([plan, {n: v for n, v in plan.items() if n != "risks"}]),
    ),
    RESPONSES,
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_a_plan_comes_back_from_the_text_that_people_edit(plan: dict[str, Any], answers: list[Any]):
    """Left alone, the text is the same plan, answers included, whatever a form did to its line ends."""
    plan = plan | ({"responds_to": answers} if answers else {})
    try:
        text = editable_text(plan, task_id="t-1", attempt=2)
    except NotExpressible:
        assume(False)  # noqa: FBT003 - hypothesis wants it so
    try:
        check_plan(plan, at="")
    except ContractViolation:
        assume(False)  # noqa: FBT003 - as above
    assert "## Responses" not in text
    back = text.replace("\n", "\r\n")
    assert plan == read_edited(back, plan, task_id="t-1", attempt=2)
    edited = text.replace("## Summary\n", "## Summary\nFirst, ")
    assert {**plan, "summary": "First, " + plan["summary"]} == read_edited(
        edited, plan, task_id="t-1", attempt=2
    )


@pytest.mark.parametrize(
    "more", [{"estimate": {"wall_seconds": 1}}, {"markdown": "# A plan"}, {"summary": "a\n## Steps"}]
)
def test_a_plan_that_would_lose_something_is_not_edited_as_text(more: dict[str, Any]):
    """What the text cannot say is neither shown for editing nor dropped from what was there."""
    plan = {"summary": "s", "steps": [{"id": "s1", "title": "t"}], "acceptance": []}
    text = editable_text(plan, task_id="t-1", attempt=2)
    with pytest.raises(NotExpressible):
        editable_text(plan | more, task_id="t-1", attempt=2)
    with pytest.raises(ContractViolation) as caught:
        read_edited(text, plan | more, task_id="t-1", attempt=2)
    assert ("schema_invalid", ("/marked_text",)) == (caught.value.code, caught.value.pointers)


def test_a_text_that_is_too_long_is_refused():
    """The limit is that of marked text in callbacks."""
    plan = {"summary": "s" * 200_001, "steps": [], "acceptance": []}
    with pytest.raises(NotExpressible):
        editable_text(plan, task_id="t-1", attempt=2)
    with pytest.raises(ContractViolation) as caught:
        read_edited("x" * 200_001, plan, task_id="t-1", attempt=2)
    assert "too_large" == caught.value.code

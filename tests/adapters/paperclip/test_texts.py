"""Texts through Paperclip, and what stands beside an issue's text: pure, held to what its server does to texts."""

import json
import re
from datetime import UTC, datetime

import pytest

from agentic_os.control_plane import IssueChanges
from agentic_os_paperclip.documents import edited_version
from agentic_os_paperclip.mapping import body_of, changes_to, description_to, is_replaced, status_of
from agentic_os_paperclip.text import kept, told

US, ADA = "us", "ada"
DIGEST = "sha256:" + "0" * 64


def through_paperclip(text: str) -> str:
    """Do what its validators do to each text of several lines."""
    return re.sub(r"\\r\\n|\\n|\\r", "\n", text)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        'print("a\\nb")',
        "C:\\new\\run and \\\\n and \\r\\n",
        '{"goal":"a\\nb","path":"C:\\\\new\\\\n","n":1}',
        'before\n{"a":{"b":["\\r\\n","\\u0001","\\\\"]}}\nafter \\n',
    ],
)
def test_a_text_comes_back_as_it_was_written(text: str):
    """Whatever escapes are in it, a text must read as it was written, and be left alone when it is written again."""
    stored = through_paperclip(kept(text))
    assert text == told(stored)
    assert stored == through_paperclip(kept(told(stored)))


def test_a_sealed_line_reads_as_it_was_sealed():
    """Who reads a brief on Paperclip itself must get the values that were sealed."""
    sealed = {"goal": 'a\nb "c" \\n', "path": "C:\\new", "n": 12}
    line = json.dumps(sealed, separators=(",", ":"))
    assert sealed == json.loads(through_paperclip(kept(line)))


@pytest.mark.parametrize(
    "body", ["", "All.", "A\n\nB <!-- a comment -->", "\\n\n<!-- agentic-os:status end -->"]
)
@pytest.mark.parametrize("status", ["", "**done**", "x\n<!-- agentic-os:status end -->\n`\\n`"])
def test_status_and_text_are_told_apart(body: str, status: str):
    """Whatever is in either, each must come back as it was written."""
    stored = through_paperclip(description_to(body, status))
    assert (body, status) == (body_of(stored), status_of(stored))


def test_a_changed_status_leaves_the_text_alone():
    """A change of one must be written with the other as it is, and the same again not at all."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    issue = {
        "description": description_to("All.", "old"),
        "assigneeAgentId": None,
        "status": "todo",
        "labels": [],
    }
    assert {"description": description_to("All.", "new")} == changes_to(IssueChanges(status="new"), issue, at)
    assert {"description": description_to("None.", "old")} == changes_to(
        IssueChanges(body="None."), issue, at
    )
    assert {} == changes_to(IssueChanges(status="old", body="All."), issue, at)


def revision(number: int, author: str, said: str | None = f"agentic-os {DIGEST}") -> dict[str, object]:
    return {"revisionNumber": number, "createdByUserId": author, "changeSummary": said, "body": str(number)}


@pytest.mark.parametrize(
    ("revisions", "number", "digest"),
    [
        ([revision(2, ADA), revision(1, US)], 2, DIGEST),
        ([revision(1, US), revision(2, ADA), revision(3, ADA)], 3, DIGEST),
        ([revision(1, ADA)], 1, None),
        ([revision(1, US, None), revision(2, ADA)], 2, None),
        ([revision(1, ADA), revision(2, US)], 1, None),
        ([revision(1, US)], 2, None),
    ],
)
def test_an_edited_plan_is_made_from_our_version_before(
    revisions: list[dict[str, object]], number: int, digest: str | None
):
    """A revision is an edit of the version that we wrote last before it, whatever its title says; else of none."""
    found = edited_version(revisions, number, user=US)
    assert digest == (found[1] if found else None)


def test_a_replaced_issue_is_known_by_its_record():
    """An issue that another took the place of must not be taken for the task's again."""
    assert is_replaced({"billingCode": "agentic-os-replaced:task"})
    assert not is_replaced({"billingCode": "agentic-os:task:1:"})
    assert not is_replaced({"billingCode": None})

"""The issue book: what came in is kept once, in order, together with how far the feed was read."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentic_os.application.ports import DirectiveReceipt, IssueLink
from agentic_os.control_plane import (
    CommentSeen,
    FieldChanged,
    IssueDeleted,
    IssueOpened,
    ReviewDecided,
    RunSeen,
)
from agentic_os.postgres.issue_book import PostgresIssueBook
from agentic_os.postgres.pool import Pool

AT = datetime(2027, 1, 5, 12, 30, 0, 123456, tzinfo=UTC)
COMMENT = CommentSeen(
    delivery="d1", key="K-1", comment_id="c1", author="u1", body="/approve", action="created", at=AT
)
EVERY_KIND = [
    COMMENT,
    ReviewDecided(
        delivery="d2", key="K-1", digest="sha256:aa", author="u1", verdict="revise", body="- more", at=AT
    ),
    FieldChanged(delivery="d3", key="K-1", field="labels", author="u2", value="a, b", at=AT),
    IssueOpened(
        delivery="d4",
        key="K-2",
        author="u1",
        title="ß",
        body="two\nlines",
        project="lab",
        labels=("a", "b"),
        at=AT,
    ),
    IssueDeleted(delivery="d5", key="K-2", author="u1", at=AT),
    RunSeen(delivery="d6", key="K-1", task_id="t", attempt=2, state="ended", detail="exit 1", at=AT),
]


@pytest.fixture
def issues(pool: Pool) -> PostgresIssueBook:
    """Give the issue book as the application has it."""
    return PostgresIssueBook(pool)


def receipt(number: int, task_id: str = "t", **more: Any) -> DirectiveReceipt:
    """Make the receipt of a directive, each a second after the one before."""
    at = AT + timedelta(seconds=number)
    return DirectiveReceipt(
        id=f"r{number}",
        task_id=task_id,
        verb="approve",
        text="/approve",
        outcome="done",
        message=f"{number}",
        at=at,
        **more,
    )


async def test_every_kind_comes_back_as_it_came(issues: PostgresIssueBook):
    """Observations are kept whole, and listed in the order of arrival until they are finished."""
    assert 6 == await issues.take_in("memory", EVERY_KIND, "after-6")

    items = await issues.open_items(10)

    assert EVERY_KIND == [item.observation for item in items]
    assert {"memory"} == {item.control_plane for item in items}
    assert EVERY_KIND[:2] == [item.observation for item in await issues.open_items(2)]
    await issues.finish(items[0], "done", "x" * 5000)
    await issues.finish(items[2], "ignored", "")
    assert [items[1], *items[3:]] == list(await issues.open_items(10))


async def test_a_delivery_is_kept_once(issues: PostgresIssueBook):
    """What a tracker delivers again is nothing new, even after it was finished; another tracker has its own."""
    assert 1 == await issues.take_in("memory", [COMMENT, COMMENT], "1")
    (item,) = await issues.open_items(10)
    await issues.finish(item, "done", "")

    assert 0 == await issues.take_in("memory", [COMMENT], "2")
    assert 1 == await issues.take_in("board", [COMMENT], "1")

    assert ["board"] == [found.control_plane for found in await issues.open_items(10)]


async def test_a_comment_is_kept_once_for_each_text(issues: PostgresIssueBook):
    """One comment told twice under two deliveries is one; an edit is another, also one back to the first text."""
    told_again = replace(COMMENT, delivery="d2")
    edited = replace(COMMENT, delivery="d3", action="edited", body="/reject")
    edited_back = replace(COMMENT, delivery="d4", action="edited")
    elsewhere = replace(COMMENT, delivery="d5", comment_id="c2")

    assert 4 == await issues.take_in("memory", [COMMENT, told_again, edited, edited_back, elsewhere], None)

    kept = [item.observation.delivery for item in await issues.open_items(10)]
    assert ["d1", "d3", "d4", "d5"] == kept


async def test_two_readers_of_a_feed_keep_each_thing_once(
    open_pool: Callable[..., Any], issues: PostgresIssueBook
):
    """What several processes read from one feed at the same time is kept once."""
    books = [PostgresIssueBook(await open_pool(1)) for _ in range(5)]

    new = await asyncio.gather(*(book.take_in("memory", EVERY_KIND, "after-6") for book in books))

    assert 6 == sum(new)
    assert EVERY_KIND == [item.observation for item in await issues.open_items(20)]


async def test_the_cursor_moves_with_what_was_read(issues: PostgresIssueBook):
    """The cursor is stored with the observations or not at all, so that none is skipped after a failure."""
    assert "" == await issues.cursor("memory")
    await issues.take_in("memory", [COMMENT], "1")
    broken: Any = replace(COMMENT, delivery=None)

    with pytest.raises(Exception, match=r"null value|None"):
        await issues.take_in("memory", [replace(COMMENT, delivery="d9", body="new"), broken], "2")

    assert "1" == await issues.cursor("memory")
    assert 1 == len(await issues.open_items(10))
    await issues.take_in("memory", [], None)
    assert ("1", "") == (await issues.cursor("memory"), await issues.cursor("board"))


@pytest.mark.parametrize("body", ["nul \x00", "surrogate \ud800", "emoji \U0001f600", "\\u0000 quoted"])
async def test_no_text_stops_the_feed(issues: PostgresIssueBook, body: str):
    """Whatever people write in a comment is taken in, what cannot be stored replaced, or nothing would follow it."""
    following = replace(COMMENT, delivery="d2", comment_id="c2")

    assert 2 == await issues.take_in("memory", [replace(COMMENT, body=body), following], "1")

    (first, _) = await issues.open_items(10)
    readable = body.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace(
        "\ud800", "\N{REPLACEMENT CHARACTER}"
    )
    assert readable == first.observation.body


async def test_a_task_has_one_issue(issues: PostgresIssueBook):
    """An issue leads to its task and back; a task may get another issue, and none."""
    first = IssueLink(task_id="t", control_plane="memory", key="K-1", url="http://127.0.0.1/K-1")
    await issues.remember(first)
    assert first == await issues.link_of("t")
    assert ("t", None) == (await issues.task_of("memory", "K-1"), await issues.task_of("board", "K-1"))

    second = replace(first, key="K-2")
    await issues.remember(second)

    assert second == await issues.link_of("t")
    assert (None, "t") == (await issues.task_of("memory", "K-1"), await issues.task_of("memory", "K-2"))
    await issues.forget("t")
    assert await issues.link_of("t") is None


async def test_receipts_come_newest_first(issues: PostgresIssueBook):
    """The receipts of a task are listed as they were stored, the newest first, and no other task's."""
    whole = receipt(2, rule="self_review", paste="/approve v1@00000000", principal="ada", comment_id="c1")
    for stored in (receipt(1), whole, receipt(0), receipt(3, task_id="u")):
        await issues.receipt(stored)

    assert [whole, receipt(1), receipt(0)] == list(await issues.receipts("t", 10))
    assert [whole] == list(await issues.receipts("t", 1))

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

LEASE = timedelta(minutes=1)
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


def comment(number: int, key: str) -> CommentSeen:
    """Make a comment on an issue."""
    return replace(COMMENT, delivery=f"c-{number}", comment_id=f"c-{number}", key=key, body=f"/note {number}")


async def test_two_workers_share_the_inbox_by_issue(issues: PostgresIssueBook) -> None:
    """Of an issue only one worker has observations at a time, in their order; of different ones, both have some."""
    await issues.take_in("board", [comment(1, "A"), comment(2, "A"), comment(3, "B"), comment(4, "A")], "1")
    first = await issues.claim("one", 1, LEASE)
    second = await issues.claim("two", 10, LEASE)
    assert (["A"], ["B"]) == ([i.observation.key for i in first], [i.observation.key for i in second])
    assert [] == await issues.claim("two", 10, LEASE)
    await issues.finish(first[0], "done", "")
    assert ["/note 2", "/note 4"] == [i.observation.body for i in await issues.claim("two", 10, LEASE)]


async def test_claims_at_the_same_time_give_nothing_twice(issues: PostgresIssueBook) -> None:
    """However many claim at once, no item and no issue is given to two of them."""
    await issues.take_in("board", [comment(n, f"K-{n % 7}") for n in range(70)], "1")
    claims = await asyncio.gather(*(issues.claim(f"w{n}", 20, LEASE) for n in range(8)))
    given = [(item.id, item.observation.key, n) for n, items in enumerate(claims) for item in items]
    assert len(given) == len({item for item, _, _ in given})
    holders: dict[str, set[int]] = {}
    for _, key, holder in given:
        holders.setdefault(key, set()).add(holder)
    assert all(len(who) == 1 for who in holders.values()), holders


async def test_a_claim_that_lapsed_is_somebody_elses(issues: PostgresIssueBook) -> None:
    """A worker that was away too long may not act on what another took meanwhile."""
    await issues.take_in("board", [COMMENT], "1")
    (item,) = await issues.claim("one", 10, timedelta(0))
    assert [item] == list(await issues.claim("two", 10, LEASE))
    assert not await issues.keep("one", item, LEASE)
    assert await issues.keep("two", item, LEASE)
    await issues.finish(item, "done", "")
    assert not await issues.keep("two", item, LEASE)


async def test_what_is_put_off_waits_with_its_issue(issues: PostgresIssueBook) -> None:
    """While one observation of an issue waits, none behind it is taken; without a pause it is there at once."""
    await issues.take_in("board", [comment(1, "A"), comment(2, "A")], "1")
    items = await issues.claim("one", 1, LEASE)
    await issues.put_off("one", items, LEASE)
    assert [] == await issues.claim("two", 10, LEASE)
    await issues.put_off("one", items, timedelta(0))
    assert 2 == len(await issues.claim("two", 10, LEASE))


async def test_a_later_change_overtakes(issues: PostgresIssueBook) -> None:
    """Of changes of one field of one issue it is known which is the later, in whatever order they came."""
    changed = FieldChanged(delivery="f1", key="A", field="title", author="u", value="x", at=AT)
    await issues.take_in("board", [changed, comment(1, "A")], "1")
    assert await issues.overtaken("board", "A", "title", AT - timedelta(microseconds=1))
    assert not await issues.overtaken("board", "A", "title", AT)
    assert not await issues.overtaken("board", "A", "body", AT - timedelta(days=1))
    assert not await issues.overtaken("board", "B", "title", AT - timedelta(days=1))


async def test_what_a_webhook_brought_waits_for_the_feed(issues: PostgresIssueBook) -> None:
    """Webhooks may come in any order: nothing is acted on before the feed has said what came before it."""
    await issues.take_in("board", [replace(comment(2, "A"), at=AT + timedelta(seconds=1))], None)
    assert await issues.unconfirmed("board")
    assert [] == await issues.claim("one", 10, LEASE)
    both = [comment(1, "A"), replace(comment(2, "A"), at=AT + timedelta(seconds=1))]
    assert 2 == await issues.take_in("board", both, "2")
    assert not await issues.unconfirmed("board")
    assert ["/note 1", "/note 2"] == [i.observation.body for i in await issues.claim("one", 10, LEASE)]

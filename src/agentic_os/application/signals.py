"""Wake those who have work: events set after a commit, which coalesce."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from agentic_os.domain.task import Task
from agentic_os.domain.waiting import deadlines


class Committed(Protocol):
    """What hears of each change of a task."""

    def __call__(self, task: Task, *, quiet: bool = False) -> None:
        """Hear that a task changed; quiet: by facts that give nobody work, and put deadlines off at the most."""
        ...


class Signals:
    """Three events of one process, and an announcement to the others."""

    def __init__(self) -> None:
        self.work = asyncio.Event()
        self.inbox = asyncio.Event()
        self.deadline = asyncio.Event()
        self._earliest: datetime | None = None
        self.announce: Callable[[], None] = lambda: None

    def committed(self, task: Task, *, quiet: bool = False) -> None:
        """Hear that a task changed; quiet: by facts that give nobody work, and put deadlines off at the most."""
        if quiet:
            return
        for deadline in deadlines(task):
            self.expect(deadline.at)
        self.work.set()
        self.announce()

    def expect(self, at: datetime) -> None:
        """Hear of a deadline; only an earlier one than any known wakes the one who sleeps until it."""
        if self._earliest is None or at < self._earliest:
            self._earliest = at
            self.deadline.set()

    def look(self) -> None:
        """Forget what was known of deadlines: somebody looks, and whatever is committed from here on is heard."""
        self.deadline.clear()
        self._earliest = None

    def found(self, at: datetime | None) -> datetime | None:
        """Take in what the look found, and say until when to sleep; what was heard meanwhile stays."""
        if at is not None and (self._earliest is None or at < self._earliest):
            self._earliest = at
        return self._earliest

    def governed(self) -> None:
        """Hear that another bundle is in force: whatever waited for one may go on, here and in other processes."""
        self.work.set()
        self.inbox.set()
        self.announce()

    def marked(self) -> None:
        """Hear that somebody marked tasks stale by hand."""
        self.work.set()
        self.announce()

    def received(self) -> None:
        """Hear that something was put into the inbox."""
        self.inbox.set()
        self.announce()

    def wake_all(self) -> None:
        """Hear from another process that there may be work of any kind."""
        self.work.set()
        self.inbox.set()
        self.deadline.set()

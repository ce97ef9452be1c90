"""Executors that are paused on the tracker, where nobody wakes them: by whom and why, and which tasks wait for it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WAIT: Final = "paused:"
"""What a task waits for begins with it where executors that may have it are paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorPause:
    """An executor whose account is paused on a tracker.

    author: the principal who did it, `TRACKER:ACCOUNT` for an account that is nobody's, "" where the tracker did it by
    itself or does not say. detail: why, in the tracker's word, "" where it gives none.
    """

    executor: str
    control_plane: str
    author: str
    detail: str
    at: datetime

    def __str__(self) -> str:
        """Say it in a sentence: `coder is paused on paperclip by ada (budget)`."""
        by = f" by {self.author}" if self.author else ""
        why = f" ({self.detail})" if self.detail else ""
        return f"{self.executor} is paused on {self.control_plane}{by}{why}"

    def as_wait(self) -> str:
        """Write it as something that a task waits for."""
        parts = [self.executor, self.control_plane, self.author, self.detail, self.at.isoformat()]
        return WAIT + json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def waits_for(executor: str) -> str:
    """Write how everything begins that a task waits for while this executor is paused."""
    return WAIT + json.dumps([executor], ensure_ascii=False)[:-1] + ","


def pauses_in(waits: Iterable[str]) -> list[ExecutorPause]:
    """Read from what a task waits for who is paused that might have it."""
    found = []
    for wait in waits:
        if wait.startswith(WAIT):
            executor, control_plane, author, detail, at = json.loads(wait.removeprefix(WAIT))
            found.append(
                ExecutorPause(
                    executor=executor,
                    control_plane=control_plane,
                    author=author,
                    detail=detail,
                    at=datetime.fromisoformat(at),
                )
            )
    return found

"""What is on an issue: read when it is asked for, and not again for a moment after all of it was observed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agentic_os.control_plane import NotFound, Unavailable

from .clock import elapsed
from .documents import Json
from .transport import Transport

_FRESH_SECONDS: Final = 2.0
"""As long as a pass over an issue takes. Whoever changes it meanwhile is heard by the feed, and it is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """An issue, all that hangs on it, and when it was read."""

    issue: Json
    comments: Sequence[Json]
    documents: Sequence[Json]
    interactions: Sequence[Json]
    at: float = field(default_factory=elapsed)


class Sights:
    """Reads issues. What we write ourselves is seen without reading it."""

    def __init__(self, transport: Transport, *, comments_page: int) -> None:
        self._paperclip = transport
        self._page = comments_page
        self._fresh: dict[str, Sight] = {}

    async def look(self, key: str) -> Sight:
        """Read an issue whole. Raises NotFound."""
        self._fresh.pop(key, None)
        await self._paperclip.backend()  # once, and not for each of the four
        read = (
            self._read_issue(key),
            self._read_comments(key),
            self._documents(key),
            self._interactions(key),
        )
        issue, *others = await asyncio.gather(*read, return_exceptions=True)
        for each in (issue, *others):
            if isinstance(each, BaseException):
                raise each
        comments, documents, interactions = others
        sight = Sight(issue=issue, comments=comments, documents=documents, interactions=interactions)  # type: ignore[arg-type]  # none is an exception
        self._fresh = {name: known for name, known in self._fresh.items() if _is_fresh(known)} | {key: sight}
        return sight

    async def issue(self, key: str, *, anew: bool = False) -> Json:
        """Say how the issue stands. anew: not as it was a moment ago. Raises NotFound."""
        known = self._known(key)
        if known is None or anew:
            issue = await self._read_issue(key)
            if known is not None:
                self._fresh[key] = replace(known, issue=issue)
            return issue
        return known.issue

    async def comments(self, key: str) -> Sequence[Json]:
        """List the comments, the oldest first."""
        known = self._known(key)
        return known.comments if known else await self._read_comments(key)

    async def documents(self, key: str) -> Sequence[Json]:
        """List the documents, with their texts."""
        known = self._known(key)
        return known.documents if known else await self._documents(key)

    async def interactions(self, key: str) -> Sequence[Json]:
        """List the interactions."""
        known = self._known(key)
        return known.interactions if known else await self._interactions(key)

    async def change(self, key: str, document: Json) -> Json:
        """Change the issue; return it as it is now."""
        answer: Json = await self._write("PATCH", key, "", document)
        if known := self._known(key):
            self._fresh[key] = replace(known, issue={**known.issue, **answer})
        return answer

    async def put_document(self, key: str, name: str, document: Json) -> Json:
        """Write a document; return it as it is now."""
        written: Json = {
            **await self._write("PUT", key, f"/documents/{name}", document),
            "body": document["body"],
        }
        if known := self._known(key):
            others = [each for each in known.documents if each["key"] != name]
            self._fresh[key] = replace(known, documents=[*others, written])
        return written

    async def add_comment(self, key: str, body: str) -> None:
        """Comment."""
        comment = await self._write("POST", key, "/comments", {"body": body})
        if known := self._known(key):
            self._fresh[key] = replace(known, comments=[*known.comments, comment])

    async def write(self, method: str, key: str, path: str, document: Json | None = None) -> None:
        """Do anything else to an issue, which is read anew then."""
        await self._write(method, key, path, document)
        self.forget(key)

    def forget(self, key: str) -> None:
        """Read the issue anew when it is next asked for."""
        self._fresh.pop(key, None)

    async def ask(self, key: str, path: str) -> Any:
        """Read what else there is of an issue."""
        return await self._paperclip.ask("GET", f"{_path(key)}{path}")

    def _known(self, key: str) -> Sight | None:
        known = self._fresh.get(key)
        return known if known is not None and _is_fresh(known) else None

    async def _write(self, method: str, key: str, path: str, document: Json | None) -> Any:
        try:
            return await self._paperclip.ask(method, f"{_path(key)}{path}", document)
        except Exception:
            self.forget(key)  # it may have happened all the same
            raise

    async def _read_issue(self, key: str) -> Json:
        issue: Json = await self.ask(key, "")
        if not isinstance(issue, dict) or issue.get("companyId") != self._paperclip.company:
            raise NotFound(f"the company has no issue {key}")
        return issue

    async def _read_comments(self, key: str) -> Sequence[Json]:
        """Read all comments, page by page; the comment that a page begins after is on it again."""
        found: dict[str, Json] = {}
        parameters: dict[str, Any] = {"order": "asc", "limit": self._page}
        while True:
            page = await self._paperclip.ask("GET", f"{_path(key)}/comments", parameters=parameters)
            new = {comment["id"]: comment for comment in items(page, "comments")}
            more = len(new) >= self._page and new.keys() - found.keys()
            found |= new
            if not more:
                return list(found.values())
            parameters["after"] = list(new)[-1]

    async def _documents(self, key: str) -> Sequence[Json]:
        return items(await self.ask(key, "/documents"), "documents")

    async def _interactions(self, key: str) -> Sequence[Json]:
        return items(await self.ask(key, "/interactions"), "interactions")


def items(answer: Any, what: str) -> Sequence[Json]:
    """Read a list."""
    if not isinstance(answer, list):
        raise Unavailable(f"Paperclip's {what} cannot be read: no list")
    return answer


def _is_fresh(sight: Sight) -> bool:
    return elapsed() - sight.at < _FRESH_SECONDS


def _path(key: str) -> str:
    if not (key.isascii() and key.replace("-", "").isalnum()):
        raise NotFound(f"{key!r} cannot be the id of an issue")
    return f"/issues/{key}"

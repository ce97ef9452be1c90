"""New credentials for old ones, taking them away for good, and the sources of independent evidence."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from agentic_os.application.handle import handle
from agentic_os.application.ports import Envelope, EventLog, Registry, TaskList
from agentic_os.clock import now
from agentic_os.domain import commands as c
from agentic_os.domain.task import Task

PREFIX: Final = {"executor": "aosx_", "person": "aoso_"}
"""What the credentials of each kind begin with."""


class LastAdministrator(Exception):
    """Nobody else could administer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who attests evidence over a channel of its own, such as CI. `project`: the only one that it may attest."""

    name: str
    project: str | None
    owner: str
    generation: int = 1
    revoked: bool = False


class CredentialBook(Protocol):
    """What is kept of credentials beside the registry."""

    async def revoke(self, name: str, actor: str) -> bool:
        """Take everything from a principal; False when it had nothing any more. Raises LastAdministrator."""
        ...

    async def people(self) -> Sequence[dict[str, Any]]:
        """List the people, those who were revoked too."""
        ...

    async def add_source(self, source: Source, actor: str) -> None:
        """Register a source. Raises NameTaken."""
        ...

    async def rotate_source(self, name: str, actor: str) -> Source:
        """Raise a source's generation. Raises LookupError for one that there is not, or no more."""
        ...

    async def sources(self) -> Sequence[Source]:
        """List the sources, those that were revoked too."""
        ...

    async def source(self, name: str) -> Source | None:
        """Find a source, also one that was revoked."""
        ...


class SourceSecrets:
    """Computes the secrets of sources from the server key: nothing of them is stored."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"evidence source", hashlib.sha256)

    def secret(self, source: Source) -> str:
        """Give the secret of a source's generation, in the form of Standard Webhooks."""
        mac = hmac.digest(self._key, f"{source.generation}.{source.name}".encode(), hashlib.sha256)
        return "whsec_" + base64.b64encode(mac).decode()


class Credentials:
    """Rotates and revokes."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        tasks: TaskList,
        book: CredentialBook,
        source_secrets: SourceSecrets,
        committed: Callable[[Task], None],
    ) -> None:
        self._log = log
        self._registry = registry
        self._tasks = tasks
        self._secrets = source_secrets
        self._committed = committed
        self.book = book

    async def rotate(self, name: str, kind: Literal["executor", "person"], actor: str) -> str:
        """Give a principal a new credential; the old ones end at once. Raises LookupError."""
        principal = await self._registry.by_name(name)
        if principal is None or principal.kind != kind or principal.revoked:
            raise LookupError(name)
        credential = PREFIX[kind] + secrets.token_urlsafe(32)
        await self._registry.replace_credentials(
            name, hashlib.sha256(credential.encode()).digest(), actor=actor
        )
        return credential

    async def revoke(
        self, name: str, kind: Literal["executor", "person", "system"], actor: str
    ) -> Sequence[str]:
        """Take everything from a principal, and its open attempts; list the tasks that go to another.

        Doing it again finishes what broke off. Raises LookupError or LastAdministrator.
        """
        principal = await self._registry.by_name(name)
        if principal is None or principal.kind != kind:
            raise LookupError(name)
        await self.book.revoke(name, actor)
        fenced = []
        for task_id in await self._tasks.held_by(name):
            command = c.FenceOff(executor=name, reason=f"{name} was revoked.")
            envelope = Envelope(actor=actor, at=now(), reason=f"revoked {name}")
            handled = await handle(self._log, task_id, lambda _, command=command: command, envelope)  # type: ignore[misc]
            if handled.events:
                self._committed(handled.task)
                fenced.append(task_id)
        return fenced

    async def add_source(self, source: Source, actor: str) -> str:
        """Register a source; return its secret. Raises NameTaken."""
        await self.book.add_source(source, actor)
        return self._secrets.secret(source)

    async def rotate_source(self, name: str, actor: str) -> str:
        """Give a source a new secret; the old one ends at once. Raises LookupError."""
        return self._secrets.secret(await self.book.rotate_source(name, actor))

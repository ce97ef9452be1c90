"""Labels and projects of the company, by name: read when a name is new, made when it is missing."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from agentic_os.control_plane import Conflict, Unavailable

from .transport import Transport

_COLOUR: Final = "#64748b"


class Labels:
    """What names stand for."""

    def __init__(self, transport: Transport) -> None:
        self._paperclip = transport
        self._labels: dict[str, str] = {}
        self._projects: dict[str, str] = {}

    async def ids(self, names: Iterable[str]) -> list[str]:
        """Find the labels of these names, and make those that are missing."""
        wanted = list(dict.fromkeys(names))
        if set(wanted) - self._labels.keys():
            self._labels = await self._by_name("/labels")
        for name in wanted:
            if name not in self._labels:
                self._labels[name] = await self._make(name)
        return [self._labels[name] for name in wanted]

    async def names(self, ids: Sequence[str]) -> list[str]:
        """Name labels by their ids; one that is gone has no name and is left out."""
        if set(ids) - set(self._labels.values()):
            self._labels = await self._by_name("/labels")
        named = {of: name for name, of in self._labels.items()}
        return [named[each] for each in ids if each in named]

    async def project(self, name: str) -> str:
        """Find the project of this name, and make it when it is missing."""
        if name not in self._projects:
            self._projects = await self._by_name("/projects")
        if name not in self._projects:
            document = {"name": name, "idempotencyKey": f"agentic-os:{name}"}
            made = await self._paperclip.of_company("POST", "/projects", document)
            self._projects[name] = made["id"]
        return self._projects[name]

    async def _make(self, name: str) -> str:
        try:
            made = await self._paperclip.of_company("POST", "/labels", {"name": name, "color": _COLOUR})
        except Conflict:  # somebody made it meanwhile
            self._labels = await self._by_name("/labels")
            return self._labels[name]
        return str(made["id"])

    async def _by_name(self, path: str) -> dict[str, str]:
        answer: Any = await self._paperclip.of_company("GET", path)
        try:
            return {each["name"]: each["id"] for each in answer}
        except (KeyError, TypeError) as error:
            raise Unavailable(f"Paperclip's {path} cannot be read: {error!r}") from error

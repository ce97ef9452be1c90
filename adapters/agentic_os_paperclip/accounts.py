"""Who is who on the server: agents and people of the company."""

from typing import Any, Final

from agentic_os.control_plane import Invalid, NotFound, Unavailable

from .clock import elapsed
from .transport import Transport

_HOOKS: Final = frozenset({"http"})
"""Agents whose run ends when their hook has answered, and who work on after that."""
_UNMEASURED: Final = frozenset({"http", "process"})
"""Agents of whose runs Paperclip learns neither tokens nor costs. Those of all others it writes into its ledger."""
_FRESH_SECONDS: Final = 60.0


class Accounts:
    """What the company's directory says. Ids of agents are UUIDs, and no person has one."""

    def __init__(self, transport: Transport) -> None:
        self._paperclip = transport
        self._kinds: dict[str, str] = {}
        self._read_at = 0.0

    async def identify(self, name: str) -> str:
        """Find the id of an agent by its name, or of a person by name or mail address. Raises NotFound, Invalid."""
        if not name:
            raise NotFound("nobody has no name")
        agents = await self._paperclip.of_company("GET", "/agents")
        directory = await self._paperclip.of_company("GET", "/user-directory")
        try:
            found = {
                a["id"] for a in agents if name in {a["name"], a["urlKey"]} and a["status"] != "terminated"
            }
            people = [u["user"] for u in directory["users"] if u["user"] and u["status"] == "active"]
            found |= {user["id"] for user in people if name in {user["name"], user["email"]}}
        except (KeyError, TypeError) as error:
            raise Unavailable(f"Paperclip's directory cannot be read: {error!r}") from error
        if len(found) > 1:
            raise Invalid(
                f"{len(found)} accounts are called {name!r}; use a mail address or an agent's url key"
            )
        if not found:
            raise NotFound(f"nobody on Paperclip is called {name!r}")
        return str(found.pop())

    async def works_in_its_run(self, agent: str) -> bool:
        """Tell whether the end of an agent's run is the end of its work."""
        return await self._kind(agent) not in _HOOKS

    async def is_measured(self, agent: str) -> bool:
        """Tell whether Paperclip itself finds out what an agent spends."""
        kind = await self._kind(agent)
        return kind is not None and kind not in _UNMEASURED

    async def _kind(self, agent: str) -> str | None:
        """Say by which adapter of Paperclip an agent runs, None for one that it does not have."""
        if agent not in self._kinds or elapsed() - self._read_at > _FRESH_SECONDS:
            answer: Any = await self._paperclip.of_company("GET", "/agents")
            try:
                self._kinds = {each["id"]: each["adapterType"] for each in answer}
            except (KeyError, TypeError) as error:
                raise Unavailable(f"Paperclip's agents cannot be read: {error!r}") from error
            self._read_at = elapsed()
        return self._kinds.get(agent)

"""The built-in board, as its administrator: agents, how they are woken, and what their runs wrote."""

import time
from typing import Any, Final

from agentic_os.cli.client import Client, ServerRefused
from agentic_os.clock import elapsed
from agentic_os.home import Home

OPERATOR: Final = "admin"
_PATIENCE: Final = 20.0
_LOOK: Final = 0.1


class NoAdministrator(Exception):
    """Nobody can be signed in who may add agents; the message says what to give."""


class Board:
    """A connection to the board."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    def of(cls, home: Home, url: str, token: str | None) -> "Board":
        """Connect with a token of an administrator's, else with the first one's password of the home."""
        if token is not None:
            return cls(Client(url, token))
        if not home.has("board.password"):
            raise NoAdministrator(
                f"{home.path} has no board.password; give a token of an administrator of the board: --board-token-file"
            )
        try:
            signed = Client(url, "none").post(
                "/api/sign-in", {"name": OPERATOR, "password": home.secret("board.password")}
            )
        except ServerRefused as refusal:
            raise NoAdministrator(
                f"{OPERATOR} cannot sign in to the board with {home.path / 'board.password'}: {refusal}\n"
                "  next: issue a token (agentic-os-board account token admin), and give it with --board-token-file."
            ) from refusal
        return cls(Client(url, signed["token"]))

    def names(self) -> set[str]:
        """List the names of all accounts, those that were deactivated too: none is given twice."""
        return {account["name"] for account in self._client.get("/api/accounts")["items"]}

    def agent(self, name: str) -> dict[str, Any] | None:
        """Find an agent with its newest runs."""
        items = self._client.get("/api/agents")["items"]
        return next((agent for agent in items if agent["name"] == name), None)

    def sharing(self) -> str:
        """Read what the board says of agents that have the rights of its server."""
        return str(self._client.get("/api/agents")["sharing"] or "")

    def add(self, name: str, wake: dict[str, Any]) -> str:
        """Add an agent; return its account. Raises ServerRefused."""
        return str(self._client.post("/api/agents", {"name": name, "wake": wake})["id"])

    def change(self, name: str, wake: dict[str, Any]) -> None:
        """Have an agent woken otherwise."""
        self._client.put(f"/api/agents/{name}/wake", {"wake": wake})

    def deactivate(self, name: str) -> None:
        """Wake an agent no more, and wait for the end of what it runs."""
        # Its worktrees go first: what keeps our files out of their status is about to be taken away.
        self._client.delete(f"/api/agents/{name}")
        until = elapsed() + _PATIENCE
        while elapsed() < until and (agent := self.agent(name)) is not None:
            if not any(run["state"] in {"queued", "running"} for run in agent["runs"]):
                return
            time.sleep(_LOOK)

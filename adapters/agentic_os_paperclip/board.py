"""What the administrator of a company does on Paperclip: sign in, make the company, ask the backend in, make agents."""

import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from agentic_os.control_plane import ControlPlaneError, Denied, RateLimited, Unavailable

from .clock import now
from .transport import error_from

_TIMEOUT_SECONDS: Final = 30.0
_TRIES: Final = 3
_LONGEST_WAIT_SECONDS: Final = 15.0
AUDIT: Final = "audit:view_agent_actions"
"""The permission to read who did what, without which the feed says too little."""
LISTENER: Final = "agentic-os-listener"
"""The agent whose key hears events. It is never woken."""
_GRANTS: Final = ("tasks:assign", AUDIT)


class Board:
    """One person on a Paperclip, by a session or by a key."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {key}"} if key else {"origin": self.url}
        self._http = httpx.Client(
            base_url=f"{self.url}/api", headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False
        )

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """Make one request. Raises what it means to the caller."""
        try:
            answer = self._http.request(method, path, json=document)
        except httpx.HTTPError as error:
            raise Unavailable(f"Paperclip did not answer {method} {path}: {error!r}") from error
        if not answer.is_success:
            raise error_from(answer)
        return answer.json()

    @property
    def mode(self) -> str:
        """Say in which mode the server runs: only "authenticated" tells people from agents."""
        return str(self.ask("GET", "/health")["deploymentMode"])

    def whoami(self) -> str:
        """Name our own account."""
        return str(self.ask("GET", "/cli-auth/me")["userId"])

    def sign_up(self, name: str, mail: str, password: str) -> str:
        """Make an account and be it; return its id. One that exists is signed in to."""
        document = {"email": mail, "password": password}
        try:
            made = self._patiently("/auth/sign-up/email", {"name": name, **document})
        except ControlPlaneError:
            made = self._patiently("/auth/sign-in/email", document)
        return str(made["user"]["id"])

    def _patiently(self, path: str, document: Mapping[str, Any]) -> Any:
        """Post what Paperclip takes only some times in ten seconds."""
        for _ in range(_TRIES):
            try:
                return self.ask("POST", path, document)
            except RateLimited as limit:
                time.sleep(min(max((limit.retry_at - now()).total_seconds(), 1.0), _LONGEST_WAIT_SECONDS))
        return self.ask("POST", path, document)

    def claim(self) -> None:
        """Become the administrator of a new server. Raises Conflict where somebody is that."""
        self.ask("POST", "/bootstrap/claim", {})

    def key(self, name: str) -> str:
        """Make a key of our account that does not expire."""
        return str(self.ask("POST", "/board-api-keys", {"name": name, "expiresAt": None})["token"])

    def company(self, name: str) -> str:
        """Find the company of this name or id, or make it; return its id."""
        for company in self.ask("GET", "/companies"):
            if name in {company["id"], company["name"]}:
                return str(company["id"])
        return str(self.ask("POST", "/companies", {"name": name})["id"])

    def invite(self, company: str, guest: "Board", *, role: str = "operator") -> None:
        """Ask another account into the company."""
        document = {"allowedJoinTypes": "human", "humanRole": role}
        token = self.ask("POST", f"/companies/{company}/invites", document)["token"]
        guest.ask("POST", f"/invites/{token}/accept", {"requestType": "human"})

    def people(self, company: str) -> dict[str, str]:
        """List who works here: the id of each account -> its name and mail address."""
        members = self.ask("GET", f"/companies/{company}/members")["members"]
        users = {m["principalId"]: m["user"] for m in members if m["status"] == "active" and m["user"]}
        return {account: f"{user['name']} <{user['email']}>" for account, user in users.items()}

    def grant(self, company: str, account: str) -> None:
        """Let an account assign issues and read who did what: the least that the backend needs."""
        members = self.ask("GET", f"/companies/{company}/members")["members"]
        member = next((m for m in members if m["principalId"] == account), None)
        if member is None:
            raise Denied(f"the account {account} is no member of the company {company}")
        grants = [{"permissionKey": each} for each in _GRANTS]
        self.ask("PATCH", f"/companies/{company}/members/{member['id']}/permissions", {"grants": grants})

    def agents(self, company: str) -> list[dict[str, Any]]:
        """List the agents that work here."""
        found = self.ask("GET", f"/companies/{company}/agents")
        return [agent for agent in found if agent["status"] != "terminated"]

    def agent(
        self, company: str, name: str, adapter: str, configuration: Mapping[str, Any], **more: Any
    ) -> str:
        """Find the agent of this name, or make it; return its id. It is woken for assignments and by no clock."""
        for agent in self.agents(company):
            if agent["name"] == name:
                return str(agent["id"])
        document = {
            "name": name,
            "role": "engineer",
            "adapterType": adapter,
            "adapterConfig": dict(configuration),
            "runtimeConfig": {"heartbeat": {"enabled": False, "wakeOnDemand": True}},
            **more,
        }
        return str(self.ask("POST", f"/companies/{company}/agents", document)["id"])

    def listener(self, company: str) -> str:
        """Make the key by which events are heard: of an agent that is never woken and may be given nothing to do."""
        never = {"heartbeat": {"enabled": False, "wakeOnDemand": False}}
        agent = self.agent(
            company,
            LISTENER,
            "process",
            {"command": "/bin/true"},
            role="general",
            runtimeConfig=never,
        )
        return str(self.ask("POST", f"/agents/{agent}/keys", {"name": "agentic-os"})["token"])

    def wake_for_assignments_only(self, agent: Mapping[str, Any]) -> None:
        """Let an agent be woken by assignments, and by no clock."""
        configuration = dict(agent["runtimeConfig"] or {})
        heartbeat = dict(configuration.get("heartbeat") or {})
        wanted = heartbeat | {"enabled": False, "wakeOnDemand": True}
        if wanted != heartbeat:
            document = {"runtimeConfig": {**configuration, "heartbeat": wanted}}
            self.ask("PATCH", f"/agents/{agent['id']}", document)

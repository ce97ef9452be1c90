"""Talk to a running server: found by URL and token, or by the home folder."""

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from agentic_os.clock import new_id
from agentic_os.home import Home
from agentic_os.settings import Settings


class ServerUnavailable(Exception):
    """No server answers where one was looked for."""


class ServerRefused(Exception):
    """The server answered with a problem."""

    def __init__(self, problem: dict[str, Any]) -> None:
        lines = [f"{problem.get('code', problem.get('status'))}: {problem.get('detail', '')}"]
        lines += [f"  at {pointer or '(the body)'}" for pointer in problem.get("pointer", ())]
        lines += [f"  next: {problem['next']}"] if problem.get("next") else []
        super().__init__("\n".join(lines))
        self.problem = problem


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the server is."""
    parser.add_argument(
        "--home", type=Path, help="home of a local stack (default: AGENTIC_OS_HOME, ~/.agentic-os)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


class Client:
    """A connection to the API as one principal."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Client":
        """Connect as the settings and the home folder say. Raises ServerUnavailable."""
        settings = Settings()
        home = Home(args.home or settings.home)
        endpoint = home.endpoint()
        url = settings.url or (endpoint.url if endpoint else None)
        if url is None:
            raise ServerUnavailable(
                f"No server is known: {home.path} has no endpoint.json.\n"
                "  next: start one with `agentic-os up`, or set AGENTIC_OS_URL and AGENTIC_OS_TOKEN."
            )
        if settings.token is not None:
            return cls(url, settings.token.get_secret_value())
        try:
            token = home.secret("admin.token") if home.has("admin.token") else None
        except OSError as problem:
            raise ServerUnavailable(
                f"The token in {home.path} cannot be read ({problem.strerror}).\n  next: set AGENTIC_OS_TOKEN."
            ) from problem
        if token is None:
            raise ServerUnavailable(
                f"No token is known: {home.path} has no admin.token.\n  next: set AGENTIC_OS_TOKEN."
            )
        return cls(url, token)

    def get(self, path: str, **query: Any) -> Any:
        """GET a document."""
        return self._send("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(
        self, path: str, body: Any = None, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """POST a document under an idempotency key."""
        all_headers = {"Idempotency-Key": key or str(new_id()), **(headers or {})}
        return self._send("POST", path, json={} if body is None else body, headers=all_headers)

    def stream(self, path: str, body: Any) -> Iterator[tuple[str, Any]]:
        """POST a document, and yield the server-sent events that answer it, each with its data."""
        with self._open("POST", path, json=body) as response:
            if response.is_error:
                response.read()
                raise _refusal(response)
            kind = ""
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)

    def put(self, path: str, body: Any) -> Any:
        """PUT a document."""
        return self._send("PUT", path, json=body)

    def upload(self, path: str, content: bytes, media_type: str) -> Any:
        """PUT bytes."""
        return self._send("PUT", path, content=content, headers={"Content-Type": media_type})

    def delete(self, path: str) -> Any:
        """DELETE what is there."""
        return self._send("DELETE", path)

    def _send(self, method: str, path: str, **options: Any) -> Any:
        with self._open(method, path, **options) as response:
            response.read()
        if response.is_error:
            raise _refusal(response)
        return response.json() if response.content else None

    @contextmanager
    def _open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        try:
            with (
                httpx.Client(
                    base_url=self.url, headers=self._headers, timeout=60.0, trust_env=False
                ) as connection,
                connection.stream(method, path, **options) as response,
            ):
                yield response
        except httpx.HTTPError as problem:
            raise ServerUnavailable(
                f"{self.url} does not answer ({problem}).\n  next: start it with `agentic-os up`."
            ) from problem


def _refusal(response: httpx.Response) -> ServerRefused:
    try:
        return ServerRefused(response.json())
    except ValueError:
        return ServerRefused({"status": response.status_code, "detail": response.text[:500]})

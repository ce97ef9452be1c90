"""The network between servers and a board, which loses, doubles and reorders, and answers 5xx whenever it likes."""

import random
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

_HOP = {"connection", "host", "content-length", "transfer-encoding", "keep-alive", "accept-encoding"}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Take no notice of who was killed in the middle of a request."""


@dataclass
class Network:
    """A proxy for both directions. servers: where webhooks go, one after the other. stormy: whether it has faults."""

    board: str
    seed: int
    servers: list[str] = field(default_factory=list)
    stormy: bool = True
    counted: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._dice = random.Random(self.seed)
        self._lock = threading.Lock()
        self._held: tuple[str, bytes, dict[str, str]] | None = None
        self._client = httpx.Client(timeout=10, trust_env=False)
        network = self

        class Handler(BaseHTTPRequestHandler):
            """Pass on what comes."""

            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
                if self.path.startswith("/api/webhooks/"):
                    status, more, answer = network.webhook(self.path, body, headers)
                else:
                    status, more, answer = network.request(self.command, self.path, body, headers)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the library's names

        self._server = _Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()

    @property
    def url(self) -> str:
        """Say where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def request(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Pass a request on to the board; or fail before it, or after what it did took effect."""
        fate = self._roll({"before": 0.06, "after": 0.12, "limited": 0.02})
        if fate == "before":
            return 503, {}, b"before"
        if fate == "limited":
            return 429, {"retry-after": "1"}, b""
        answer = self._client.request(method, self.board + path, content=body, headers=headers)
        if fate == "after":
            return 503, {}, b"after"
        more = {k: v for k, v in answer.headers.items() if k.lower() == "content-type"}
        return answer.status_code, more, answer.content

    def webhook(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Pass a webhook on to a server; or lose it, send it twice, or after the next one."""
        fate = self._roll({"lost": 0.25, "doubled": 0.25, "held": 0.25})
        with self._lock:
            late, self._held = self._held, (path, body, headers) if fate == "held" else None
        sent = [(path, body, headers)] if fate in ("", "doubled") else []
        sent += sent if fate == "doubled" else []
        for each in (*sent, *([late] if late else ())):
            with self._lock:
                self.servers.append(self.servers.pop(0))
                server = self.servers[0]
            try:
                self._client.post(server + each[0], content=each[1], headers=each[2])
            except httpx.HTTPError:
                self._count("unheard")  # the server was just killed
        return 202, {}, b"{}"

    def _roll(self, fates: dict[str, float]) -> str:
        with self._lock:
            thrown = self._dice.random() if self.stormy else 1.0
        for name, chance in fates.items():
            if thrown < chance:
                self._count(name)
                return name
            thrown -= chance
        return ""

    def _count(self, name: str) -> None:
        with self._lock:
            self.counted[name] = self.counted.get(name, 0) + 1

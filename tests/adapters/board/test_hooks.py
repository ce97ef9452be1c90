"""Hooks: woken once for each attempt, by way of no address that an administrator did not allow."""

import asyncio
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentic_os_board.clock import new_id, now
from agentic_os_board.server import hook as hook_module
from agentic_os_board.server.agents import HookWake
from agentic_os_board.server.hook import HookRefused, call_hook, resolve_permitted
from agentic_os_board.signatures import verify
from agentic_os_board.testing import BoardProcess

DRAFT = {"title": "Count the beans", "body": "The brief.", "project": "", "state": "ready", "labels": []}
SETTLED = {"ended", "killed", "lost"}
SECRET = "the hook's secret"


class Hook:
    """An agent elsewhere that is woken by HTTP; refuses as often as it is told to."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self._came = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with hook._came:
                    hook.requests.append(
                        ({name.lower(): value for name, value in self.headers.items()}, body)
                    )
                    refused = len(hook.requests) <= hook.refusals
                    hook._came.notify_all()
                self.send_response(500 if refused else 202)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/wake"

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= count, 30)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file


async def add_hook(board: BoardProcess, name: str, url: str, secret: Path) -> str:
    wake = {"kind": "hook", "url": url, "secret_file": str(secret), "allow_loopback": True}
    async with await board.operator() as admin:
        added = await admin.post("/api/agents", json={"name": name, "wake": wake})
    return str(added.json()["id"])


async def assign(board: BoardProcess, account: str, task: str) -> str:
    async with board.backend() as backend:
        key = (await backend.put(f"/api/tasks/{task}/issue", json=DRAFT)).json()["key"]
        document = {"account": account, "task_id": task, "attempt": 1}
        answer = await backend.put(f"/api/issues/{key}/assignment", json=document)
        assert answer.status_code == 204, answer.text
        return str(key)


async def settled(board: BoardProcess, task: str) -> dict[str, Any]:
    runs = await board.until_runs(
        lambda runs: any(run["task_id"] == task and run["state"] in SETTLED for run in runs)
    )
    return next(run for run in runs if run["task_id"] == task)


async def test_a_hook_is_woken_with_a_signature_and_one_key(
    board: BoardProcess, secret: Path, hook: Hook
) -> None:
    """A wake that was refused must be repeated under the same key, signed each time."""
    hook.refusals = 1
    agent = await add_hook(board, "elsewhere", hook.url, secret)
    await assign(board, agent, "hook-1")
    run = await settled(board, "hook-1")
    assert (run["state"], run["detail"]) == ("ended", "the hook took the run")
    assert len(hook.requests) == 2
    keys = {(headers["webhook-id"], headers["idempotency-key"]) for headers, _ in hook.requests}
    assert keys == {(run["id"], run["id"])}
    for headers, body in hook.requests:
        verify([SECRET], headers, body, now())
        wanted = {"task_id": "hook-1", "attempt": 1, "brief": "The brief."}
        assert wanted.items() <= json.loads(body).items()


async def test_an_attempt_calls_its_hook_once(board: BoardProcess, secret: Path, hook: Hook) -> None:
    """Assigning the same attempt again must call nobody."""
    agent = await add_hook(board, "once", hook.url, secret)
    for _ in range(3):
        await assign(board, agent, "once-1")
        await settled(board, "once-1")
    assert len(hook.requests) == 1


async def test_a_hook_that_never_takes_its_run_is_given_up(
    new_board: Callable[..., BoardProcess], secret: Path, hook: Hook
) -> None:
    """Retrying must end with its time, and the run be reported as ended with the last answer."""
    hook.refusals = 1000
    board = new_board(hook_seconds=2)
    await assign(board, await add_hook(board, "never", hook.url, secret), "never-1")
    run = await settled(board, "never-1")
    assert (run["state"], run["detail"]) == ("ended", "the hook did not take the run: it answered 500")
    async with board.backend() as backend:
        kinds = [item["kind"] for item in (await backend.get("/api/feed")).json()["items"]]
    assert kinds.count("run.ended") == 1


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_a_crash_in_the_middle_calls_again_under_the_same_key(
    new_board: Callable[..., BoardProcess], secret: Path, hook: Hook, ending: str
) -> None:
    """A board that went away while a hook was refusing must go on with it, and not begin another run."""
    hook.refusals = 1000
    board = new_board()
    await assign(board, await add_hook(board, "patient", hook.url, secret), "crash-1")
    await asyncio.to_thread(hook.wait_for, 2)
    await asyncio.to_thread(getattr(board, ending))
    hook.refusals = 0
    await asyncio.to_thread(board.start)
    run = await settled(board, "crash-1")
    assert (run["state"], run["detail"]) == ("ended", "the hook took the run")
    assert {headers["webhook-id"] for headers, _ in hook.requests} == {run["id"]}


async def test_a_hook_whose_work_was_taken_away_is_left_alone(
    board: BoardProcess, secret: Path, hook: Hook
) -> None:
    """Nobody must be woken for an attempt that is over."""
    hook.refusals = 1000
    key = await assign(board, await add_hook(board, "robbed", hook.url, secret), "robbed-1")
    await asyncio.to_thread(hook.wait_for, 1)
    async with board.backend() as backend:
        await backend.delete(f"/api/issues/{key}/assignment")
    run = await settled(board, "robbed-1")
    assert (run["state"], run["detail"]) == ("killed", "the issue was taken away")


def wake(url: str = "https://example.org/", **allowed: Any) -> HookWake:
    return HookWake(kind="hook", url=url, secret_file="/secret", **allowed)


PRIVATE_HOSTS = [
    *("127.0.0.1", "localhost", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
    *("0.0.0.0", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "2130706433", "0x7f.1"),
    *("64:ff9b::a00:1", "2002:a00:1::", "::", "ff02::1", "255.255.255.255"),
]


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
async def test_hooks_reach_no_private_address(host: str) -> None:
    """An administrator's hook must not become a way into the network, however its host is written."""
    with pytest.raises(HookRefused):
        await resolve_permitted(host, 443, wake())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "224.0.0.1", "ff02::1"])
async def test_what_is_no_host_is_never_reached(host: str) -> None:
    """Multicast and unspecified addresses must be refused also where everything is listed."""
    with pytest.raises(HookRefused):
        await resolve_permitted(host, 443, wake(allow_networks=["0.0.0.0/0", "::/0"]))


async def test_loopback_hooks_need_leave() -> None:
    """A hook on this machine must be reached only by an agent that is allowed to, and nothing else opened."""
    near = wake("http://127.0.0.1/", allow_loopback=True)
    assert await resolve_permitted("127.0.0.1", 80, near) == "127.0.0.1"
    for host in ("10.1.2.3", "8.8.8.8"):
        with pytest.raises(HookRefused):
            await resolve_permitted(host, 80, near)
    assert await resolve_permitted("8.8.8.8", 443, wake()) == "8.8.8.8"


async def test_a_listed_network_is_reached_and_no_other() -> None:
    """A private network must be reached only where it is listed; http is spoken only there."""
    listed = wake("http://10.1.2.3/", allow_networks=["10.1.0.0/16", "fd00:1::/32"])
    for host in ("10.1.2.3", "fd00:1::7", "::ffff:10.1.2.3"):
        assert await resolve_permitted(host, 80, listed)
    for host in ("10.2.0.1", "fd00:2::7", "8.8.8.8"):
        with pytest.raises(HookRefused):
            await resolve_permitted(host, 80, listed)


async def test_http_to_a_public_address_is_refused_at_once(board: BoardProcess, secret: Path) -> None:
    """A wake that would send briefs in clear text over the internet must not be stored."""
    for url, allowed in (
        ("http://example.org/wake", {}),
        ("https://example.org/", {"allow_networks": ["10.0.0.1/8"]}),
    ):
        document = {"kind": "hook", "url": url, "secret_file": str(secret)} | allowed
        async with await board.operator() as admin:
            answer = await admin.post("/api/agents", json={"name": "open", "wake": document})
        assert answer.status_code == 422, answer.text


@asynccontextmanager
async def answering(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> AsyncIterator[int]:
    """Answer on a port of this machine."""
    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*handlers)


async def call(url: str, secret: Path, *, patience: float = 0) -> str:
    run = {"id": new_id(), "task_id": "task-1", "attempt": 1, "issue": 1, "title": "Count", "body": "All."}
    near = HookWake(kind="hook", url=url, secret_file=str(secret), allow_loopback=True)
    return await call_hook(near, run, "http://127.0.0.1:1", now() + timedelta(seconds=patience))


async def test_a_redirect_is_not_followed(secret: Path, hook: Hook) -> None:
    """A hook must not be able to send the board on to another address."""

    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 307 Go\r\nlocation: {hook.url}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    async with answering(redirect) as port:
        with pytest.raises(HookRefused, match="307, and redirects are not followed"):
            await call(f"http://127.0.0.1:{port}/", secret)
    assert hook.requests == []


async def test_an_endless_answer_is_not_read(secret: Path) -> None:
    """A hook that answers without end must cost neither memory nor time."""
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with answering(flood) as port:
        assert await call(f"http://127.0.0.1:{port}/", secret) == "the hook took the run"
    assert sent < 64 * 1024 * 1024


async def test_a_silent_hook_is_given_up(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that drips a byte now and then must not hold the call beyond its time, though each read succeeds."""
    monkeypatch.setattr(hook_module, "_TIMEOUT_SECONDS", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-a: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with answering(drip) as port:
        with pytest.raises(HookRefused, match="did not answer within"):
            await call(f"http://127.0.0.1:{port}/", secret)


class Resolver:
    """Answers questions for names as it is told, each time with the next answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: list[list[str]]) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._known = loop.getaddrinfo

    async def __call__(self, host: Any, port: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name.endswith(".example"):
            return await self._known(host, port, **options)
        self.asked.append(name)
        found = self._answers[min(len(self.asked), len(self._answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


async def test_the_checked_address_is_the_one_connected_to(
    secret: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers with another address the second time must not be asked a second time."""
    loop = asyncio.get_running_loop()
    resolver = Resolver(loop, [["127.0.0.1"], ["10.1.2.3"]])
    monkeypatch.setattr(loop, "getaddrinfo", resolver, raising=False)
    port = hook.server.server_port
    assert await call(f"http://hook.example:{port}/wake", secret) == "the hook took the run"
    assert resolver.asked == ["hook.example"]
    assert hook.requests[0][0]["host"] == f"hook.example:{port}"


async def test_one_private_address_among_public_ones_is_enough_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name must not pass by its first address when another could be the one that is used."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", Resolver(loop, [["8.8.8.8", "10.1.2.3"]]), raising=False)
    with pytest.raises(HookRefused, match=r"10\.1\.2\.3"):
        await resolve_permitted("hook.example", 443, wake())


@pytest.fixture
def stranger(tmp_path: Path) -> ssl.SSLContext:
    """Make a server's side of TLS with a certificate that nobody vouches for."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    named = ["-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", certificate]
    subprocess.run([*make, *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_hook_s_certificate_is_checked_for_its_name(secret: Path, stranger: ssl.SSLContext) -> None:
    """Over https the name must be sent to the server, though the address is dialled, and a stranger be refused."""
    names: list[str | None] = []
    stranger.sni_callback = lambda _socket, name, _context: names.append(name)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with answering(answer, ssl=stranger) as port:
        with pytest.raises(HookRefused, match="CERTIFICATE_VERIFY_FAILED"):
            await call(f"https://localhost:{port}/", secret)
    assert names == ["localhost"]

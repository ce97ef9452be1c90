"""One attempt at a task, from an agent's side: its state on disk, and what it sends to the backend.

Python's standard library only, from 3.9 on; shared by the scripts of all skills here.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import re
import secrets
import stat
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from agentic_os_contract import (
    BRIEF,
    CONTRACT,
    CREDENTIAL,
    DOCUMENT,
    DRIFT,
    MANIFEST,
    NETWORK,
    NOT_STARTED,
    OVER,
    REFUSED,
    USAGE,
    Stop,
)

CLOSING = ("plan", "result", "review", "decline", "failure")
KEPT = ("progress", "checkpoint", "evidence", "handoff", "task_request")
"""Kinds that are kept while the backend is away, and sent in order before the next message."""

_LONGEST_QUEUE = 100
_locked: dict[Path, int] = {}
TRIES = 5
_STATE = ".agentic-os/attempt.json"
_TIMEOUT_SECONDS = 30
_LONGEST_WAIT_SECONDS = 60
_LARGEST_ANSWER_BYTES = 8 * 1024 * 1024
_LARGEST_CALLBACK_BYTES = 1024 * 1024
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EXIT_CODES = {
    DRIFT: ("skill_drift",),
    BRIEF: ("brief_mismatch",),
    OVER: ("attempt_superseded", "lease_lost", "wrong_phase", "token_expired"),
    CREDENTIAL: ("credential_invalid", "scope_denied"),
    DOCUMENT: (
        "malformed",
        "schema_invalid",
        "marker_missing",
        "section_missing",
        "review_items_unanswered",
        "output_invalid",
        "secret_in_artifact",
        "plan_unchanged",
        "too_large",
    ),
}
_ADVICE = {
    DRIFT: "Ask for this workspace to be hydrated (bin/hydrate-runtime-skills), then start again.",
    BRIEF: "The brief changed. Read the issue again, or start with --from-backend.",
    OVER: "Stop working on this task: this attempt is over. What you sent, if late, was kept aside.",
    CREDENTIAL: "Stop. Ask the operator for a credential; do not try others.",
    DOCUMENT: "Correct the document at the places named, and send it again.",
    REFUSED: "Do not repeat it as it is.",
    NETWORK: "Run the same command again later: it sends the same message, which counts once.",
}


ANSWERS: list[dict[str, Any]] = []
"""What the backend answered in this run, without the attempt's token."""


class Problem(Exception):
    """The backend refused, for good: its status, and its problem document."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or f"status {status}"))
        self.status = status
        self.document = document
        self.code = str(document.get("code") or "")


class Backend:
    """The one backend that gets our credential; sends again on network errors, 5xx and 429, and only then."""

    def __init__(self, url: str, *, configured: str | None, retry_delay: float) -> None:
        parts = urlsplit(url)
        loopback = is_loopback(parts.hostname)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Stop(BRIEF, f"'{printable(url)}' is no address of a backend.")
        if configured and _origin(configured) != _origin(url):
            raise Stop(
                BRIEF, f"The brief names {_origin(url)}, but the backend is {_origin(configured)}. Stop."
            )
        if not configured and not loopback:
            raise Stop(
                USAGE,
                f"Set AGENTIC_OS_URL: a credential goes to {_origin(url)} only if the operator says so.",
            )
        handlers = [urllib.request.ProxyHandler({})] if loopback else []
        self._opener = urllib.request.build_opener(NoRedirect, *handlers)
        self._retry_delay = retry_delay

    def get(self, url: str, token: str) -> dict[str, Any]:
        """GET a JSON document."""
        return self._call(urllib.request.Request(url, headers=_headers(token)))

    def post(self, url: str, token: str, document: dict[str, Any]) -> dict[str, Any]:
        """POST a JSON document, the same bytes each time."""
        content = json.dumps(document).encode()
        if len(content) > _LARGEST_CALLBACK_BYTES:
            raise Stop(
                DOCUMENT,
                f"The message has {len(content)} bytes, more than 1 MiB: send fewer artifacts inline.",
            )
        headers = {"Content-Type": "application/json", "Idempotency-Key": document["callback_id"]}
        return self._call(urllib.request.Request(url, data=content, headers=_headers(token) | headers))

    def put(self, url: str, token: str, content: bytes, media_type: str) -> dict[str, Any]:
        """PUT bytes."""
        headers = _headers(token) | {"Content-Type": media_type}
        return self._call(urllib.request.Request(url, data=content, headers=headers, method="PUT"))

    def _call(self, request: urllib.request.Request) -> dict[str, Any]:
        reason = ""
        for number in range(TRIES):
            if number:
                print(f"{reason}; trying again ({number} of {TRIES - 1})", file=sys.stderr)
            wait = self._retry_delay * 2**number
            try:
                with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                    return _parse(answer.read(_LARGEST_ANSWER_BYTES))
            except urllib.error.HTTPError as error:
                with error:
                    document = _parse(error.read(_LARGEST_ANSWER_BYTES))
                if (
                    error.code < HTTPStatus.INTERNAL_SERVER_ERROR
                    and error.code != HTTPStatus.TOO_MANY_REQUESTS
                ) or document.get("retryable") is False:
                    raise Problem(error.code, document) from error
                reason = f"The backend answered {error.code} {printable(document.get('detail', ''))}".strip()
                wait = max(wait, _seconds(error.headers.get("Retry-After")))
            except (OSError, http.client.HTTPException) as error:
                reason = f"The backend cannot be reached: {getattr(error, 'reason', error)}"
            if number < TRIES - 1:
                time.sleep(min(wait, _LONGEST_WAIT_SECONDS))
        raise Stop(NETWORK, f"{reason}.\n{_ADVICE[NETWORK]}")


class Attempt:
    """The state of the attempt of one workspace, in a file that only its owner can read."""

    def __init__(self, workspace: Path, state: dict[str, Any]) -> None:
        self.workspace = workspace
        self.state = state

    @classmethod
    def load(cls, workspace: Path) -> Attempt:
        """Read the state of the attempt that was started here; stops if there is none.

        Another script that uses it is waited for, and waits until this one ends: numbers and kept messages are one's.
        """
        _lock((workspace / _STATE).parent)
        try:
            state = json.loads((workspace / _STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Stop(
                NOT_STARTED, f"No work was started in {workspace}. Use the skill start-work first."
            ) from None
        except (OSError, ValueError) as error:
            raise Stop(NOT_STARTED, f"{workspace / _STATE} cannot be read ({error}). Start again.") from error
        return cls(workspace, state)

    @classmethod
    def open(cls, workspace: Path) -> Attempt:
        """Load the open attempt that was started here; stops if it was closed, or never acknowledged."""
        attempt = cls.load(workspace)
        if attempt.state.get("closed"):
            raise Stop(
                NOT_STARTED, "This attempt is closed: it was submitted. Wait until you are woken again."
            )
        if not attempt.state.get("token"):
            raise Stop(NOT_STARTED, "The work was not acknowledged. Use the skill start-work first.")
        return attempt

    def save(self) -> None:
        """Write the state, whole or not at all, mode 0600."""
        write_private(self.workspace, Path(_STATE).name, json.dumps(self.state))

    def send(
        self, backend: Backend, kind: str, body: dict[str, Any], *, credential: str | None = None
    ) -> dict[str, Any]:
        """Send one callback; a message that may or may not have arrived is sent again as it was.

        Stops with the problem in plain words when it is refused.
        """
        token = credential or self.state["token"]
        pending = self.state.get("pending") or {}
        if (pending.get("kind"), pending.get("body"), pending.get("attempt")) != (
            kind,
            body,
            self.state["attempt"],
        ):
            pending = self._new_callback(kind, body)
        try:
            if credential is None:  # what was kept goes with the token of its attempt
                self._send_kept(backend, token)
            answer = self._post(backend, token, pending)
        except Stop as stop:
            if stop.exit_code == NETWORK and kind in KEPT:
                raise self._keep(pending, stop) from stop
            raise
        if kind in CLOSING or (kind == "escalation" and body["blocking"]):
            self.state.update(closed=True, token=None)
        self.save()
        return answer

    def _post(self, backend: Backend, token: str, pending: dict[str, Any]) -> dict[str, Any]:
        self.state["pending"] = pending
        self.save()
        try:
            answer = backend.post(self.state["callback_url"], token, pending)
        except Problem as problem:
            del self.state["pending"]
            self.save()
            raise explain(problem) from problem
        del self.state["pending"]
        self.state["next_seq"] = max(self.state["next_seq"], pending["seq"] + 1)
        ANSWERS.append({name: value for name, value in answer.items() if name != "attempt_token"})
        return answer

    def _send_kept(self, backend: Backend, token: str) -> None:
        """Send what an earlier run could not, each under its own callback id; one that is refused is told and left."""
        while queue := self.state.get("queue"):
            try:
                self._post(backend, token, queue[0])
            except Stop as stop:
                if stop.exit_code in (NETWORK, OVER, CREDENTIAL):
                    self.state.pop("pending", None)
                    self.save()
                    raise
                print(f"A message that was kept ({queue[0]['kind']}) was refused.\n{stop}", file=sys.stderr)
            del queue[0]
            self.save()

    def _keep(self, pending: dict[str, Any], stop: Stop) -> Stop:
        queue = self.state.setdefault("queue", [])
        if len(queue) >= _LONGEST_QUEUE:
            return stop
        self.state.pop("pending", None)
        queue.append(pending)
        self.state["next_seq"] = pending["seq"] + 1
        self.save()
        kept = "The message is kept, and goes out first when you use the next skill. Go on with your work."
        return Stop(NETWORK, f"{str(stop).partition(chr(10))[0]}\n{kept}")

    def _new_callback(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "contract": CONTRACT,
            "callback_id": str(uuid.uuid4()),  # noqa: TID251 - a script of its own, without our clock
            "task_id": self.state["task_id"],
            "attempt": self.state["attempt"],
            "seq": self.state["next_seq"],
            "kind": kind,
            "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "body": body,
        }


def write_private(workspace: Path, name: str, text: str) -> Path:
    """Write a file that only its owner can read, beside the attempt's state, whole or not at all."""
    folder = (workspace / _STATE).parent
    if folder.is_symlink():
        raise Stop(USAGE, f"{folder} is a link; the attempt's token would leave the workspace. Remove it.")
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    new = folder / f"{name}.{secrets.token_hex(8)}.tmp"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(new, folder / name)  # noqa: PTH105 - the atomic one, by its known name
    # Within our folder, as a client's sandbox may keep the repository's own from being written.
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return folder / name


def environment(name: str) -> str | None:
    """Read one setting of ours."""
    return os.environ.get(name) or None  # noqa: TID251 - a script of its own, without our settings


def find_workspace(given: Path | None) -> Path:
    """Find the workspace: the folder given, else the nearest one around us that was hydrated, else ours."""
    here = (given or Path()).resolve()
    if given:
        return here
    around = (here, *here.parents)
    return next(
        (folder for folder in around if (folder / MANIFEST).is_file() or (folder / _STATE).is_file()), here
    )


def read_credential(file: str | None) -> str:
    """Read the executor's credential from a file, or from standard input if it is `-`."""
    file = file or environment("AGENTIC_OS_CREDENTIAL_FILE")
    if not file:
        raise Stop(
            CREDENTIAL, "No credential: name its file with --credential-file or AGENTIC_OS_CREDENTIAL_FILE."
        )
    try:
        if file != "-" and Path(file).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            print(f"Warning: others can read {file}; make it mode 0600.", file=sys.stderr)
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Stop(CREDENTIAL, f"The credential in {file} cannot be read: {error}") from error
    if not re.fullmatch(r"[!-~]{1,8192}", text.strip()):
        raise Stop(CREDENTIAL, f"{file} holds no credential: one line without spaces.")
    return text.strip()


def explain(problem: Problem) -> Stop:
    """Put a refusal into plain words."""
    exit_code = next((code for code, names in _EXIT_CODES.items() if problem.code in names), REFUSED)
    if exit_code == REFUSED and problem.status == HTTPStatus.UNAUTHORIZED:
        exit_code = CREDENTIAL
    document = problem.document
    lines = [f"Refused: {printable(problem)} ({problem.code or 'no code'}, status {problem.status})"]
    lines += [f"  at {printable(pointer)}" for pointer in document.get("pointer") or ()]
    lines.append(f"What to do next: {printable(document.get('next') or _ADVICE[exit_code])}")
    return Stop(exit_code, "\n".join(lines))


def tell_directive(answer: dict[str, Any], *, expected: str) -> None:
    """Print what the backend wants to happen now, if it is not what was expected."""
    directive = answer.get("directive", expected)
    if directive not in (expected, "continue"):
        print(f"The backend says: {printable(directive)}. Obey this before anything else.")


def is_loopback(host: str | None) -> bool:
    """Tell whether a host is this machine, which nothing on the way can listen to."""
    return host in _LOOPBACK


def printable(text: Any) -> str:
    """Take out of a text from elsewhere what could steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in str(text))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Document the option that run_script takes off the command line."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document: exit_code, text, answers, problem"
    )


def run_script(main: Callable[[], int]) -> None:
    """Run a script's main, and turn a stop into its words and exit code; with --json into a document."""
    if "--json" not in sys.argv[1:]:
        try:
            sys.exit(main())
        except Stop as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
    printed = io.StringIO()
    document: dict[str, Any] = {"problem": None}
    try:
        with contextlib.redirect_stdout(printed):
            code = main()
        text = printed.getvalue()
    except Stop as stop:
        code, text = stop.exit_code, str(stop)
        if isinstance(stop.__cause__, Problem):
            document["problem"] = stop.__cause__.document
    print(json.dumps({"exit_code": code, "text": text, "answers": ANSWERS, **document}))
    sys.exit(code)


def _lock(folder: Path) -> None:
    """Keep other scripts out of a workspace's state until this one ends."""
    if fcntl is None or not folder.is_dir() or folder in _locked:
        return
    _locked[folder] = os.open(folder, os.O_RDONLY)
    fcntl.flock(_locked[folder], fcntl.LOCK_EX)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the credential to another address."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept": "application/json"}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _parse(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"detail": content[:200].decode(errors="replace")}


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0

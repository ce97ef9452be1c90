"""Reading a brief from the issue of a tracker, for agents that a tracker woke.

Python's standard library only, from 3.9 on; shared by the scripts of all skills here.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shlex
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentic_os_attempt import TRIES, NoRedirect, find_workspace, is_loopback, printable, write_private
from agentic_os_contract import BRIEF, CREDENTIAL, NETWORK, REFUSED, USAGE, Stop, read_brief
from start_work import add_backend, add_runtime, start

EXIT_CODES = """exit codes: 0 started (with --only-save: saved); 2 usage; 3 refused; 4 credential; 5 skills drifted;
6 tracker or backend unreachable; 8 this attempt is over; 9 message refused; 10 brief missing, changed or for another
attempt"""
_TIMEOUT_SECONDS = 30
_LARGEST_ANSWER_BYTES = 8 * 1024 * 1024


class Tracker:
    """The one tracker that gets its own key; it is read, and asked again on network errors and 5xx.

    `name` is what people call it. Refuses an address to which a key would go in the clear, unless `plain` allows it.
    """

    def __init__(self, name: str, url: str, key: str, *, plain: bool, retry_delay: float) -> None:
        parts = urlsplit(url)
        loopback = is_loopback(parts.hostname)
        if not parts.hostname or parts.scheme not in (("http", "https") if plain or loopback else ("https",)):
            raise Stop(USAGE, f"'{printable(url)}' is no address of {name} that its key may be sent to.")
        handlers = [urllib.request.ProxyHandler({})] if loopback else []
        self._opener = urllib.request.build_opener(NoRedirect, *handlers)
        self._name = name
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        self._retry_delay = retry_delay

    def get(self, path: str) -> Any:
        """GET a JSON document; returns nothing where there is none (404)."""
        request = urllib.request.Request(
            self._url + path, headers={**self._headers, "User-Agent": "agentic-os"}
        )
        reason = ""
        for number in range(TRIES):
            if number:
                print(f"{reason}; trying again ({number} of {TRIES - 1})", file=sys.stderr)
                time.sleep(self._retry_delay * 2 ** (number - 1))
            try:
                with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                    return json.loads(answer.read(_LARGEST_ANSWER_BYTES))
            except urllib.error.HTTPError as error:
                with error:
                    told = _words(error.read(_LARGEST_ANSWER_BYTES))
                if error.code == HTTPStatus.NOT_FOUND:
                    return None
                reason = f"{self._name} answered {error.code} {told}".strip()
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise Stop(_exit_code(error), f"{reason}.") from error
            except ValueError as error:
                raise Stop(REFUSED, f"{self._name} answered with something else than JSON.") from error
            except (OSError, http.client.HTTPException) as error:
                reason = f"{self._name} cannot be reached: {getattr(error, 'reason', error)}"
        raise Stop(NETWORK, f"{reason}.\nRun the same command again later.")

    def tell(self, path: str, document: dict[str, str], headers: dict[str, str]) -> None:
        """POST a JSON document, once: what nobody waits for. A refusal is printed, and no error."""
        request = urllib.request.Request(
            self._url + path,
            data=json.dumps(document).encode(),
            headers={
                **self._headers,
                "User-Agent": "agentic-os",
                "Content-Type": "application/json",
                **headers,
            },
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS):
                return
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            print(f"{self._name} did not take a comment: {printable(str(error))}", file=sys.stderr)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make the command line that all bridges share; a key or credential is never on it."""
    parser = argparse.ArgumentParser(
        description=description, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only-save", action="store_true", help="save the brief, and print the command that starts work"
    )
    add_backend(parser)
    add_runtime(parser)
    return parser


def holds_brief(text: Any) -> bool:
    """Tell whether an issue's text has a brief, or begins one."""
    return isinstance(text, str) and "<!-- agentic-os:brief v1 " in text


def begin(args: argparse.Namespace, issue: str, text: str) -> int:
    """Save the text of an issue where only its owner can read it, and start work on its brief."""
    file = write_private(find_workspace(args.workspace), "brief.md", text)
    if not args.only_save:
        return start(args, *read_brief(text))
    script = Path(sys.argv[0]).absolute().parents[2] / "start-work" / "scripts" / "start_work.py"
    options = ["--runtime", args.runtime]
    for name in ("runtime_version", "session", "credential_file", "url", "workspace"):
        if getattr(args, name):
            options += ["--" + name.replace("_", "-"), str(getattr(args, name))]
    command = ["python3", str(script), "--brief", str(file), *options]
    print(f"The brief of {printable(issue)} is saved, and work is not yet started.")
    print(f"What to do next: {printable(' '.join(map(shlex.quote, command)))}")
    return 0


def no_brief(issue: str) -> Stop:
    """Refuse an issue without a brief."""
    return Stop(
        BRIEF,
        f"{printable(issue)} holds no brief: agentic-os has not offered it. Stop; you are woken when it does.",
    )


def _exit_code(error: urllib.error.HTTPError) -> int:
    limited = error.headers.get("Retry-After") or error.headers.get("X-RateLimit-Remaining") == "0"
    if error.code == HTTPStatus.TOO_MANY_REQUESTS or limited:
        return NETWORK
    return CREDENTIAL if error.code == HTTPStatus.UNAUTHORIZED else REFUSED


def _words(content: bytes) -> str:
    try:
        document = json.loads(content)
    except ValueError:
        return ""
    told = document.get("error") or document.get("message") if isinstance(document, dict) else ""
    return printable(told or "")[:500].rstrip(".")

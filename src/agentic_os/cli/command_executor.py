"""`agentic-os executor run`: an executor without a model, which runs one declared command and says how it ended.

As a reviewer its evidence is that of another lineage; as an executor it does the work that the command does.
"""

import argparse
import base64
import contextlib
import hashlib
import mimetypes
import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

from agentic_os.cli.client import Client, ServerRefused, ServerUnavailable
from agentic_os.clock import new_id, now
from agentic_os.home import Home
from agentic_os.settings import Settings

_NO_SKILLS: Final = "sha256:" + hashlib.sha256(b"").hexdigest()
_SHOWN_BYTES: Final = 3000
_KEPT_BYTES: Final = 200 * 1024
_SEND_TRIES: Final = 5
_STOPPING: Final = ("stop", "cancel")
_TIME_LIMIT: Final = 900.0
_NOT_THE_COMMANDS: Final = (
    "AGENTIC_OS_CREDENTIAL_FILE",
    "AGENTIC_OS_CONNECTION_FILE",
    "AGENTIC_OS_BOARD_TOKEN_FILE",
    "AGENTIC_OS_TOKEN",
)


def add_run(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = verbs.add_parser(
        "run",
        help="do one attempt by running a command: as a check of others' work, or as the work itself",
        description=__doc__,
        epilog="The task comes from AGENTIC_OS_TASK or --task, the credential from AGENTIC_OS_CREDENTIAL_FILE or "
        "--credential-file, the server from AGENTIC_OS_URL or the home folder. Exit: 0 reported, 3 refused, 4 no "
        "server or no credential.",
    )
    parser.add_argument("--task", help="the task whose attempt is on offer")
    parser.add_argument("--credential-file", type=Path, help="the executor's own credential")
    parser.add_argument("--home", type=Path, help="home of a local stack")
    parser.add_argument(
        "--criterion",
        action="append",
        metavar="ID",
        help="which criterion the command proves (again for more; default: every one of the task)",
    )
    parser.add_argument(
        "--time-limit", type=float, default=_TIME_LIMIT, metavar="SECONDS", help="default: 900"
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="a file that the command makes here, and that is delivered (again for more); a missing one is a failure",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="FILE",
        help="a file that the command needs here (again for more); a missing one is a failure",
    )
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="after --: the command, run as it stands"
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: None when it was stopped. digest: of all that it wrote, whose end is kept."""

    code: int | None
    why: str
    digest: str
    tail: bytes
    started: datetime
    ended: datetime
    well: bool = True

    @property
    def passed(self) -> bool:
        """Tell whether it ended well, and made what it was to make."""
        return self.code == 0 and self.well


@dataclass(frozen=True, kw_only=True)
class Job:
    """What was declared: the command, and the files that it needs and makes in its folder."""

    command: tuple[str, ...]
    criteria: tuple[str, ...] = ()
    time_limit: float = _TIME_LIMIT
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


@dataclass
class Attempt:
    """The attempt that is being worked on, and how it is spoken of to the server."""

    client: Client
    task_id: str
    number: int
    seq: int = 0
    headers: dict[str, Any] = field(default_factory=dict)

    def send(self, kind: str, body: dict[str, Any]) -> Any:
        """Send one callback; a server that does not answer is asked again under the same id."""
        self.seq += 1
        callback_id = str(new_id())
        document = {
            "contract": "aos.execution/1",
            "callback_id": callback_id,
            "task_id": self.task_id,
            "attempt": self.number,
            "seq": self.seq,
            "kind": kind,
            "occurred_at": _instant(now()),
            "body": body,
        }
        for left in reversed(range(_SEND_TRIES)):
            try:
                return self.client.post("/api/executions/callback", document, key=callback_id)
            except ServerUnavailable:
                if left == 0:
                    raise
                time.sleep(2 ** (_SEND_TRIES - left) / 4)
            except ServerRefused:
                self.seq -= 1  # what is refused uses up no place in the order
                raise
        raise AssertionError


def run(args: argparse.Namespace) -> int:
    """Do one attempt."""
    url, task_id, credential = _settings(args)
    job = Job(
        command=tuple(args.command),
        criteria=tuple(args.criterion or ()),
        time_limit=args.time_limit,
        outputs=tuple(args.output),
        inputs=tuple(args.input),
    )
    return do_attempt(url, task_id, credential, job)


def do_attempt(url: str, task_id: str, credential: str, job: Job) -> int:
    """Do one attempt by running the command; returns the exit code. Raises ServerRefused, ServerUnavailable."""
    attempt, brief = _offered(url, task_id, credential)
    if brief["brief"]["step"] == "plan":
        attempt.send("decline", {"reason": "missing_capability", "detail": "A command makes no plan."})
        print("The attempt is for planning; it was declined.")
        return 0
    _acknowledge(attempt, brief)
    content = brief["brief"]
    if absent := [name for name in job.inputs if not Path(name).exists()]:
        message = (
            f"The command was not run: its declared input {', '.join(absent)} is missing in {Path.cwd()}."
        )
        attempt.send("failure", {"class": "environment", "message": message, "retryable": True})
        print(message)
        return 1
    ended = _execute(job.command, attempt, content["lease_seconds"], job.time_limit)
    if ended is None:
        print("The server said stop; the command was stopped, and nothing is reported.")
        return 0
    ended = _with_outputs(ended, job.outputs)
    criteria = job.criteria or tuple(criterion["id"] for criterion in content["acceptance"])
    answer = _report(attempt, content, job, ended, criteria)
    print(f"{' '.join(job.command)}: {ended.why}. The task is {answer['phase']}.")
    return 0


def acknowledge_only(url: str, task_id: str, credential: str) -> int:
    """Acknowledge the attempt on offer, and run nothing; returns the exit code. Raises ServerRefused."""
    attempt, brief = _offered(url, task_id, credential)
    _acknowledge(attempt, brief)
    print("The brief was acknowledged; the command was not run.")
    return 0


def _offered(url: str, task_id: str, credential: str) -> tuple[Attempt, dict[str, Any]]:
    own = Client(url, credential)
    offer: dict[str, Any] = own.get(f"/api/tasks/{task_id}/brief")
    return Attempt(own, task_id, offer["attempt"]), offer


def _acknowledge(attempt: Attempt, offer: dict[str, Any]) -> None:
    runtime = {"name": "command", "version": version("agentic-os")}
    body = {"brief_digest": offer["digest"], "skillset_digest": _NO_SKILLS, "runtime": runtime}
    attempt.client = Client(attempt.client.url, attempt.send("ack", body)["attempt_token"])


def _with_outputs(ended: Ended, outputs: Sequence[str]) -> Ended:
    """Hold what the command made against what was declared."""
    missing = [name for name in outputs if not _is_output(Path(name))]
    if not missing or not ended.passed:
        return ended
    why = f"{ended.why}, but its declared output {', '.join(missing)} is not there"
    return replace(ended, well=False, why=why)


def _is_output(file: Path) -> bool:
    """Tell whether this is a file in our folder; one that a link takes out of it is none."""
    return file.is_file() and file.resolve().is_relative_to(Path.cwd().resolve())


def _settings(args: argparse.Namespace) -> tuple[str, str, str]:
    """Find the server, the task and the credential. What an issue says of the server is not believed."""
    settings = Settings()
    endpoint = Home(args.home or settings.home).endpoint()
    url = settings.url or (endpoint.url if endpoint else None)
    if url is None:
        raise ServerUnavailable("No server is known.\n  next: set AGENTIC_OS_URL, or name its --home.")
    task_id = args.task or settings.task
    if not task_id:
        raise SystemExit("agentic-os executor run: no task: give --task, or set AGENTIC_OS_TASK")
    file = args.credential_file or settings.credential_file
    try:
        credential = file.read_text(encoding="utf-8").strip() if file else ""
    except OSError as problem:
        raise ServerUnavailable(f"The credential in {file} cannot be read: {problem.strerror}.") from problem
    if not credential:
        raise ServerUnavailable("No credential: give --credential-file, or set AGENTIC_OS_CREDENTIAL_FILE.")
    return url, task_id, credential


def _execute(command: Sequence[str], attempt: Attempt, lease_seconds: int, limit: float) -> Ended | None:
    """Run the command to its end or its limit, showing life meanwhile; None when the server said stop."""
    started = now()
    deadline = time.monotonic() + limit
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )
        except OSError as problem:
            text = f"{command[0]}: {problem.strerror}".encode()
            return Ended(127, "it could not be started", _digest(text), text, started, now())
        try:
            while (code := _wait(process, min(deadline - time.monotonic(), lease_seconds / 3))) is None:
                if time.monotonic() >= deadline:
                    return _ended(output, None, f"it did not end within {limit:g} s", started)
                if attempt.send("heartbeat", {})["directive"] in _STOPPING:
                    return None
        finally:
            _end(process)
        return _ended(output, code, f"it ended with {code}", started)


def _environment() -> dict[str, str]:
    present = os.environ  # noqa: TID251 - the command gets all of it but the secrets of its executor
    return {name: value for name, value in present.items() if name not in _NOT_THE_COMMANDS}


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    try:
        return process.wait(max(seconds, 0.01))
    except subprocess.TimeoutExpired:
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the command with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(output: IO[bytes], code: int | None, why: str, started: datetime) -> Ended:
    output.seek(0)
    digest = hashlib.sha256()
    kept: deque[bytes] = deque(maxlen=1 + _KEPT_BYTES // 65_536)
    while chunk := output.read(65_536):
        digest.update(chunk)
        kept.append(chunk)
    return Ended(code, why, "sha256:" + digest.hexdigest(), b"".join(kept)[-_KEPT_BYTES:], started, now())


def _report(attempt: Attempt, brief: dict[str, Any], job: Job, ended: Ended, criteria: Sequence[str]) -> Any:
    """Say how it ended, in the form that the step asks for."""
    line = " ".join(job.command)[:4000]
    shown = ended.tail[-_SHOWN_BYTES:].decode(errors="replace").replace("\0", " ").strip()
    summary = f"`{line[:500]}`: {ended.why}." + (f"\n\n{shown}" if shown else "")
    evidence = [_evidence(criterion, line, ended) for criterion in criteria]
    if brief["step"] == "review":
        review = {"subject": brief["review"]["subject"], "digest": brief["review"]["digest"]}
        verdict = (
            {"verdict": "approve"} if ended.passed else {"verdict": "revise", "items": [{"text": summary}]}
        )
        ranked = [item | {"rank": "independent"} for item in evidence]
        return attempt.send("review", review | verdict | {"summary": summary, "evidence": ranked})
    if not ended.passed:
        failure = "timeout" if ended.code is None else "tool"
        return attempt.send("failure", {"class": failure, "message": summary, "retryable": True})
    result: dict[str, Any] = {"outcome": "success", "summary": summary, "evidence": evidence}
    if items := brief["review_items"]:  # the rework that was asked for is that the command was run again
        result["responds_to"] = [{"item_id": item["id"], "how": summary} for item in items]
    try:
        made = [_deliver(attempt, Path(name)) for name in job.outputs]
    except ServerRefused as refused:
        message = f"{summary}\n\nWhat it made was refused: {refused}"
        return attempt.send("failure", {"class": "tool", "message": message, "retryable": False})
    if made:
        result["artifacts"] = made
        result["evidence"] = [item | {"rank": "observed", "artifact": made[0]["digest"]} for item in evidence]
    return _hand_in(attempt, result, ended.tail)


def _deliver(attempt: Attempt, file: Path) -> dict[str, Any]:
    """Upload a file, and describe it as the contract wants it."""
    content = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    artifact = {
        "name": str(file)[-200:],
        "media_type": kind,
        "digest": _digest(content),
        "size": len(content),
    }
    attempt.client.upload(f"/api/artifacts/{artifact['digest']}", content, kind)
    return artifact


def _hand_in(attempt: Attempt, result: dict[str, Any], output: bytes) -> Any:
    """Hand in the result with what the command wrote; without it where it holds a secret."""
    if not output:
        return attempt.send("result", result)
    artifact = {
        "name": "output.txt",
        "media_type": "text/plain",
        "digest": _digest(output),
        "size": len(output),
        "content_base64": base64.b64encode(output).decode(),
    }
    whole: dict[str, Any] = {
        "artifacts": [*result.get("artifacts", ()), artifact],
        "evidence": [
            {"artifact": artifact["digest"]} | item | {"rank": "observed"} for item in result["evidence"]
        ],
    }
    try:
        return attempt.send("result", result | whole)
    except ServerRefused as refused:
        if refused.problem.get("code") != "secret_in_artifact":
            raise
        return attempt.send("result", result)


def _evidence(criterion: str, line: str, ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = {
        "criterion_id": criterion,
        "rank": "self_reported",
        "status": "pass" if ended.passed else "inconclusive" if ended.code is None else "fail",
        "command": line,
        "output_digest": ended.digest,
        "started_at": _instant(ended.started),
        "ended_at": _instant(ended.ended),
    }
    return found if ended.code is None else found | {"exit_code": ended.code}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The scripts that are used while work goes on: what they send, what they keep, and what they print."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agentic_os_attempt import KEPT

from agentic_os.contracts.callback import parse_callback
from agentic_os.contracts.canonical import canonical_json, digest_of
from agentic_os.hydration import packaged_skills

Run = Callable[..., Any]
TASK = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"
NOTHING = "sha256:" + hashlib.sha256(b"").hexdigest()
TASKS = {
    "reason": "Flaky.",
    "tasks": [
        {"ref": "f", "title": "Fix", "goal": "It fails.", "acceptance": [{"id": "s", "text": "100 pass"}]}
    ],
}
SENT: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "report-progress": (
        ["Half is done.", "--step", "s1", "--fraction", "0.5"],
        "progress",
        {"message": "Half is done.", "step_id": "s1", "fraction": 0.5},
    ),
    "save-checkpoint": (
        ["s1 is done.", "--state", "document"],
        "checkpoint",
        {"note": "s1 is done.", "state": {"x": 1}},
    ),
    "record-evidence": (
        ["tests", "fail", "--command", "pytest -q", "--exit-code", "1", "--artifact", NOTHING],
        "evidence",
        {
            "criterion_id": "tests",
            "rank": "self_reported",
            "status": "fail",
            "command": "pytest -q",
            "exit_code": 1,
            "artifact": NOTHING,
        },
    ),
    "escalate": (
        ["May it?", "--option", "no=Keep it", "--default", "no", "--go-on"],
        "escalation",
        {
            "question": "May it?",
            "blocking": False,
            "options": [{"id": "no", "label": "Keep it"}],
            "default_option": "no",
        },
    ),
    "hand-off": (
        ["document", "--to", "qa", "--reason", "Ready."],
        "handoff",
        {"to_role": "qa", "reason": "Ready.", "payload": {"x": 1}},
    ),
    "create-remediation": (["tasks.json"], "task_request", TASKS),
}


def script_of(skill: str) -> Path:
    """Find the script of a skill."""
    return packaged_skills() / skill / "scripts" / f"{skill.replace('-', '_')}.py"


@pytest.fixture
def credential(tmp_path: Path, workspace: Path, backend: Any) -> Path:
    """Write a credential, a brief and some documents."""
    file = tmp_path / "credential"
    file.write_text("executor-secret\n")
    file.chmod(0o600)
    brief = {
        "contract": "aos.execution/1",
        "task_id": TASK,
        "attempt": 2,
        "step": "execute",
        "callback_url": f"{backend.url}/api/executions/callback",
    }
    heading = f"task={TASK} attempt=2 digest={digest_of(brief)}"
    text = (
        f"<!-- agentic-os:brief v1 {heading} -->\n{canonical_json(brief).decode()}\n<!-- agentic-os:end -->"
    )
    (workspace / "brief.md").write_text(text)
    (workspace / "document").write_text('{"x": 1}')
    (workspace / "tasks.json").write_text(json.dumps(TASKS))
    return file


@pytest.fixture
def use(run_script: Run, backend: Any, credential: Path) -> Run:
    """Use a skill in the workspace, in which work was started."""
    backend.accept(attempt_token="attempt-secret")
    common = ("--brief", "brief.md", "--credential-file", str(credential))
    assert run_script(script_of("start-work"), *common).returncode == 0
    backend.requests.clear()

    def run(skill: str, *arguments: str) -> Any:
        return run_script(script_of(skill), *arguments, "--retry-delay", "0.001")

    return run


def state_of(workspace: Path) -> dict[str, Any]:
    """Read the attempt's state."""
    state: dict[str, Any] = json.loads((workspace / ".agentic-os/attempt.json").read_text())
    return state


@pytest.mark.parametrize("skill", SENT)
def test_each_report_is_sent_as_the_contract_has_it(use: Run, backend: Any, workspace: Path, skill: str):
    """The callback has the attempt's token and next number, and the attempt stays open."""
    arguments, kind, body = SENT[skill]
    done = use(skill, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (request,) = backend.requests
    callback = parse_callback(json.dumps(request["body"]).encode())
    assert (callback.kind, callback.seq, callback.body) == (kind, 2, body)
    assert request["headers"]["Authorization"] == "Bearer attempt-secret"
    assert (state_of(workspace)["closed"], state_of(workspace)["next_seq"]) == (False, 3)


@pytest.mark.parametrize("skill", SENT)
def test_a_report_that_breaks_the_contract_is_not_sent(use: Run, backend: Any, workspace: Path, skill: str):
    """What the schema would refuse is told with its place, exit code 9, and nothing is sent."""
    (workspace / "document").write_text("[]")
    (workspace / "tasks.json").write_text("{}")
    wrong = {
        "report-progress": ["", "--fraction", "2"],
        "record-evidence": ["not an id!", "pass"],
        "escalate": [""],
    }
    done = use(skill, *wrong.get(skill, SENT[skill][0]))
    assert done.returncode == 9, done.stderr
    assert backend.requests == []


def test_a_question_that_blocks_closes_the_attempt(use: Run, backend: Any, workspace: Path):
    """After it nothing more can be sent, and the token is gone."""
    done = use("escalate", "May it?")
    assert (done.returncode, "Stop now" in done.stdout) == (0, True)
    assert backend.requests[0]["body"]["body"] == {"question": "May it?", "blocking": True}
    assert (state_of(workspace)["closed"], state_of(workspace)["token"]) == (True, None)
    assert use("report-progress", "More.").returncode == 7


def test_while_the_backend_is_away_messages_are_kept_and_go_out_in_order(
    use: Run, backend: Any, workspace: Path
):
    """Each goes out once more under its first callback id and number, before the next message, and then is gone."""
    accepted = backend.answers.pop()
    backend.answer(503, detail="away")
    for message in ("one", "two"):
        done = use("report-progress", message)
        assert (done.returncode, "is kept" in done.stderr) == (6, True)
    tried = {(r["body"]["seq"], r["body"]["callback_id"]) for r in backend.requests}
    assert [seq for seq, _ in sorted(tried)] == [2]
    assert [kept["body"]["message"] for kept in state_of(workspace)["queue"]] == ["one", "two"]
    ids = [kept["callback_id"] for kept in state_of(workspace)["queue"]]
    backend.requests.clear()
    backend.answers[:] = [accepted]
    assert use("save-checkpoint", "three").returncode == 0
    sent = [request["body"] for request in backend.requests]
    assert [(body["kind"], body["seq"]) for body in sent] == [
        ("progress", 2),
        ("progress", 3),
        ("checkpoint", 4),
    ]
    assert ids == [body["callback_id"] for body in sent[:2]]
    assert ids[0] == next(iter(tried))[1]
    assert state_of(workspace)["queue"] == []
    assert "pending" not in state_of(workspace)


def test_scripts_at_once_in_one_workspace_each_have_a_number(use: Run, backend: Any, workspace: Path):
    """An agent that runs several at the same time loses none of them, and none has the number of another."""
    with ThreadPoolExecutor(6) as several:
        ended = list(several.map(lambda number: use("report-progress", f"Part {number}."), range(6)))
    assert [done.returncode for done in ended] == [0] * 6
    assert [request["body"]["seq"] for request in backend.requests] == [2, 3, 4, 5, 6, 7]
    assert state_of(workspace)["next_seq"] == 8


def test_a_kept_message_that_is_refused_holds_up_nothing(use: Run, backend: Any, workspace: Path):
    """It is told and left, and the new message is sent."""
    accepted = backend.answers.pop()
    backend.answer(503)
    use("report-progress", "one")
    backend.answers[:] = [(422, {"code": "schema_invalid", "detail": "Wrong."}), accepted]
    done = use("report-progress", "two")
    assert (done.returncode, "was refused" in done.stderr) == (0, True)
    assert state_of(workspace)["queue"] == []


def test_what_ends_an_attempt_is_not_kept():
    """A plan, result, review, failure or question is sent again by its own command, never behind an agent's back."""
    assert not {"ack", "plan", "result", "review", "failure", "decline", "escalation"} & set(KEPT)


def test_an_artifact_is_uploaded_and_named(use: Run, backend: Any, workspace: Path):
    """The bytes go under their digest, with the token, and the line for the result is printed."""
    (workspace / "report.txt").write_bytes(b"\x00" * 300_000)
    done = use("attach-artifact", "report.txt", "--criterion", "tests")
    assert (done.returncode, done.stderr) == (0, "")
    digest = "sha256:" + hashlib.sha256(b"\x00" * 300_000).hexdigest()
    (request,) = backend.requests
    assert (request["path"], request["body"]) == (f"/api/artifacts/{digest}", 300_000)
    assert request["headers"]["Authorization"] == "Bearer attempt-secret"
    assert json.loads(done.stdout.splitlines()[1]) == {
        "name": "report.txt",
        "media_type": "text/plain",
        "digest": digest,
        "size": 300_000,
        "criterion_id": "tests",
    }
    backend.answers[:] = [(413, {"code": "too_large", "detail": "Too large.", "next": "Send less."})]
    refused = use("attach-artifact", "report.txt")
    assert (refused.returncode, "Send less." in refused.stderr) == (9, True)


def test_a_task_is_declined_before_it_is_acknowledged(
    run_script: Run, backend: Any, credential: Path, workspace: Path
):
    """The executor's own credential is used, and the attempt closes."""
    backend.accept()
    common = ("--brief", "brief.md", "--credential-file", str(credential))
    done = run_script(script_of("decline"), *common, "--reason", "busy", "--detail", "Full.")
    assert (done.returncode, done.stderr) == (0, "")
    (request,) = backend.requests
    assert request["headers"]["Authorization"] == "Bearer executor-secret"
    assert (request["body"]["kind"], request["body"]["body"]) == (
        "decline",
        {"reason": "busy", "detail": "Full."},
    )
    assert state_of(workspace)["closed"]


def test_with_json_each_outcome_is_one_document(use: Run, backend: Any):
    """Accepted or refused, the document has exit code, words, answers and problem, and never the token."""
    done = use("report-progress", "One.", "--json")
    document = json.loads(done.stdout)
    assert (document["exit_code"], document["problem"]) == (0, None)
    assert document["answers"][0]["directive"] == "continue"
    assert "attempt-secret" not in done.stdout
    backend.answers[:] = [(409, {"code": "lease_lost", "detail": "Over.", "next": "Stop."})]
    done = use("report-progress", "Two.", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"], document["problem"]["code"]) == (8, 8, "lease_lost")
    assert "Stop." in document["text"]


@pytest.mark.parametrize("skill", [*SENT, "attach-artifact", "decline"])
def test_each_skill_tells_its_command_and_its_exit_codes(run_script: Run, skill: str):
    """Its SKILL.md names its script and the codes, and so does the script's help; no credential is an argument."""
    text = (packaged_skills() / skill / "SKILL.md").read_text()
    assert f".agents/skills/{skill}/scripts/{skill.replace('-', '_')}.py" in text
    assert "## When it refuses" in text
    assert "**Permission needed:**" in text
    done = run_script(script_of(skill), "--help")
    assert (done.returncode, "exit codes: 0" in done.stdout, "--json" in done.stdout) == (0, True, True)
    assert "--credential " not in done.stdout

"""The scripts of the skills, run as an agent runs them, against a real server on loopback."""

import ast
import base64
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentic_os.contracts.callback import parse_callback
from agentic_os.contracts.canonical import canonical_json, digest_of
from agentic_os.contracts.schema import callback_examples
from agentic_os.hydration import hydrate, load_definition, packaged_skills, resolve

SCRIPTS = sorted(packaged_skills().glob("*/scripts/*.py"))
START, PLAN, RESULT, REVIEW = (
    packaged_skills() / f"{verb}/scripts/{verb.replace('-', '_')}.py"
    for verb in ("start-work", "submit-plan", "submit-result", "submit-review")
)
NOTHING = "sha256:" + hashlib.sha256(b"").hexdigest()
TASK = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"
PLAN_BODY = json.loads(callback_examples()["plan"])["body"]
REVIEW_BODY = {"subject": "plan", "digest": NOTHING, "verdict": "approve", "summary": "Sound."}
RESULT_BODY = {"outcome": "success", "summary": "Done."}
PLAN_TEXT = """## Summary
Move it.

## Steps
- [s1] Do it (paths: a.py)

## Acceptance
- [tests] pytest

## Risks
none
"""
Run = Callable[..., Any]


def make_brief(url: str, **members: Any) -> dict[str, Any]:
    """Make a brief as the backend does."""
    brief = {
        "contract": "aos.execution/1",
        "task_id": TASK,
        "attempt": 2,
        "step": "plan",
        "mode": "plan_first",
        "title": "Retry limit \u00e9",
        "goal": "Move the limit.\x1b[2J",
        "charter": "Be careful.",
        "acceptance": [{"id": "tests", "text": "They pass.", "rank": "observed"}],
        "constraints": ["No new packages"],
        "paths": ["src/**"],
        "tools": [],
        "plan": None,
        "review_items": [],
        "budget": {"cost_microusd": 5},
        "callback_url": f"{url}/api/executions/callback",
        "next": "Submit a plan.",
    }
    return brief | members


def as_issue(brief: dict[str, Any]) -> str:
    """Write a brief into an issue's text."""
    heading = f"task={brief['task_id']} attempt={brief['attempt']} digest={digest_of(brief)}"
    line = canonical_json(brief).decode()
    fenced = f"# Readable\n```json\n{line}\n```"
    return f"Hello.\n<!-- agentic-os:brief v1 {heading} -->\n{fenced}\n<!-- agentic-os:end -->\nBye."


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    """Write an executor's credential into a file of its own."""
    file = tmp_path / "credential"
    file.write_text("executor-secret\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def start(run_script: Run, workspace: Path, backend: Any, credential: Path) -> Run:
    """Start work on a brief, which the backend accepts unless it was given answers."""

    def run(*arguments: str, **members: Any) -> Any:
        (workspace.parent / "brief.md").write_text(as_issue(make_brief(backend.url, **members)))
        if not backend.answers:
            backend.accept(attempt_token="attempt-secret")
        common = ("--brief", str(workspace.parent / "brief.md"), "--credential-file", str(credential))
        return run_script(START, *common, "--retry-delay", "0.01", *arguments)

    return run


@pytest.fixture
def submit(run_script: Run, workspace: Path) -> Run:
    """Submit a document, a body or a text, with one of the scripts."""

    def run(script: Path, document: Any, *arguments: str) -> Any:
        file = workspace / "document"
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return run_script(script, "document", "--retry-delay", "0.01", *arguments)

    return run


def state_of(workspace: Path) -> dict[str, Any]:
    """Read the attempt's state."""
    state: dict[str, Any] = json.loads((workspace / ".agentic-os/attempt.json").read_text())
    return state


def mode_of(path: Path) -> int:
    """Tell the permission bits of a path."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_launcher_says_which_runtime_it_is(
    run_script: Run, workspace: Path, backend: Any, credential: Path
):
    """What whoever launched the client says of it goes before what a model gives."""
    backend.accept(attempt_token="attempt-secret")
    (workspace.parent / "brief.md").write_text(as_issue(make_brief(backend.url)))
    done = run_script(
        *(START, "--runtime", "guessed", "--retry-delay", "0.01"),
        AGENTIC_OS_BRIEF=str(workspace.parent / "brief.md"),
        AGENTIC_OS_CREDENTIAL_FILE=str(credential),
        AGENTIC_OS_RUNTIME="codex",
        AGENTIC_OS_RUNTIME_VERSION="0.169.0",
        AGENTIC_OS_SESSION="s-2",
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"name": "codex", "version": "0.169.0", "session": "s-2"}
    assert expected == backend.requests[0]["body"]["body"]["runtime"]


def test_start_work_acknowledges_the_brief_and_prints_it(start: Run, workspace: Path, backend: Any):
    """The ack keeps to the contract and carries both digests; the brief and what comes next are printed."""
    done = start("--runtime", "claude-code", "--runtime-version", "2.1", "--session", "s-1")
    assert (done.returncode, done.stderr) == (0, "")
    (request,) = backend.requests
    assert request["headers"]["Authorization"] == "Bearer executor-secret"
    assert request["headers"]["Idempotency-Key"] == request["body"]["callback_id"]
    callback = parse_callback(json.dumps(request["body"]).encode())
    assert (callback.kind, callback.seq, callback.task_id, callback.attempt) == ("ack", 1, TASK, 2)
    assert callback.body == {
        "brief_digest": digest_of(make_brief(backend.url)),
        "skillset_digest": NOTHING,
        "runtime": {"name": "claude-code", "version": "2.1", "session": "s-1"},
        "workspace": "workspace",
    }
    for text in (
        "Retry limit \u00e9",
        "[tests] (observed) They pass.",
        "- src/**",
        "submit-plan",
        "Be careful.",
    ):
        assert text in done.stdout
    assert "\x1b" not in done.stdout
    assert "secret" not in done.stdout


def test_the_token_is_kept_where_only_its_owner_reads(start: Run, workspace: Path):
    """The state file has mode 0600 in a folder of mode 0700, whatever the umask, and nothing else is left."""
    before = os.umask(0)
    try:
        start()
    finally:
        os.umask(before)
    folder = workspace / ".agentic-os"
    assert (mode_of(folder), mode_of(folder / "attempt.json")) == (0o700, 0o600)
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "attempt.json"]
    state = state_of(workspace)
    assert (state["token"], state["next_seq"], state["criteria"]) == ("attempt-secret", 2, ["tests"])
    assert "pending" not in state


def test_the_state_is_kept_out_of_git(start: Run, workspace: Path):
    """Git's status shows nothing of the folder, and nothing is written into .git, which a sandbox may forbid."""
    git = ["git", "-C", str(workspace)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    before = {path: path.stat().st_mtime_ns for path in (workspace / ".git").rglob("*")}
    start()
    assert before == {path: path.stat().st_mtime_ns for path in (workspace / ".git").rglob("*")}
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert (workspace / ".agentic-os/attempt.json").exists()
    assert ".agentic-os" not in status.stdout


def test_a_linked_state_folder_is_refused(start: Run, workspace: Path, tmp_path: Path, backend: Any):
    """The token never leaves the workspace through a link."""
    (workspace / ".agentic-os").symlink_to(tmp_path)
    done = start()
    assert done.returncode == 2
    assert "is a link" in done.stderr
    assert backend.requests == []


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_the_whole_main_path_from_a_hydrated_workspace(
    run_script: Run, workspace: Path, backend: Any, credential: Path, mode: Any
):
    """From the projected skills, linked or copied: ack with the set's digest, plan, second attempt, result."""
    skill_set = resolve(load_definition(None), "default")
    hydrate(workspace, skill_set, mode=mode)
    skills = workspace / ".claude/skills"
    backend.accept(attempt_token="t")
    for attempt, step, script, document in (
        (1, "plan", "submit-plan/scripts/submit_plan.py", PLAN_BODY),
        (2, "execute", "submit-result/scripts/submit_result.py", RESULT_BODY),
        (3, "review", "submit-review/scripts/submit_review.py", REVIEW_BODY),
    ):
        brief = make_brief(backend.url, attempt=attempt, step=step)
        (workspace / "brief.md").write_text(as_issue(brief))
        done = run_script(
            skills / "start-work/scripts/start_work.py",
            AGENTIC_OS_BRIEF="brief.md",
            AGENTIC_OS_CREDENTIAL_FILE=str(credential),
        )
        assert (done.returncode, done.stderr) == (0, "")
        done = run_script(skills / script, "-", stdin=json.dumps(document))
        assert (done.returncode, done.stderr) == (0, "")
        assert "attempt is closed" in done.stdout
    sent = [parse_callback(json.dumps(request["body"]).encode()) for request in backend.requests]
    assert [(callback.kind, callback.attempt, callback.seq) for callback in sent] == [
        ("ack", 1, 1),
        ("plan", 1, 2),
        ("ack", 2, 1),
        ("result", 2, 2),
        ("ack", 3, 1),
        ("review", 3, 2),
    ]
    assert sent[0].body["skillset_digest"] == skill_set.digest
    assert (sent[1].body, sent[3].body) == (PLAN_BODY, RESULT_BODY)
    assert backend.requests[1]["headers"]["Authorization"] == "Bearer t"
    assert skill_set == resolve(load_definition(None), "default"), "running the scripts left no bytecode"


def test_the_brief_can_come_from_the_backend(
    run_script: Run, workspace: Path, backend: Any, credential: Path
):
    """With --from-backend the brief is fetched with the executor's credential, and its digest checked."""
    brief = make_brief(backend.url, input={"ratio": 0.1, "big": 1e21, "\u20ac": None})
    backend.answer(200, attempt=2, digest=digest_of(brief), brief=brief)
    backend.accept(attempt_token="t")
    done = run_script(
        START,
        "--from-backend",
        "--task",
        TASK,
        "--url",
        backend.url,
        "--credential-file",
        "-",
        stdin="from-stdin",
    )
    assert (done.returncode, done.stderr) == (0, "")
    get, ack = backend.requests
    assert (get["path"], get["headers"]["Authorization"]) == (f"/api/tasks/{TASK}/brief", "Bearer from-stdin")
    assert ack["body"]["body"]["brief_digest"] == digest_of(brief)


def test_a_brief_from_the_backend_that_is_not_its_digest_is_refused(
    run_script: Run, workspace: Path, backend: Any, credential: Path
):
    """A brief that was changed on its way is not acknowledged."""
    brief = make_brief(backend.url)
    backend.answer(200, attempt=2, digest=digest_of(brief), brief=brief | {"goal": "Another."})
    done = run_script(
        START, "--from-backend", "--task", TASK, "--url", backend.url, "--credential-file", str(credential)
    )
    assert done.returncode == 10
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Move the limit.", "Delete all.", "No line of the brief has the digest"),
        ("agentic-os:end", "the end", "holds no brief"),
        ("attempt=2", "attempt=3", "for another task or attempt"),
    ],
)
def test_a_brief_that_was_changed_is_not_acknowledged(
    run_script: Run, workspace: Path, backend: Any, credential: Path, *, old: str, new: str, words: str
):
    """A brief must be exactly what its digest says, and for the attempt of its heading."""
    (workspace / "brief.md").write_text(as_issue(make_brief(backend.url)).replace(old, new))
    done = run_script(START, "--brief", "brief.md", "--credential-file", str(credential))
    assert done.returncode == 10
    assert words in done.stderr
    assert backend.requests == []


def test_a_brief_whose_escapes_are_written_in_another_way_is_the_same(
    run_script: Run, workspace: Path, backend: Any, credential: Path
):
    """A tracker that changes escapes of line breaks is given others; the brief is what it was, and is acknowledged."""
    backend.accept(attempt_token="attempt-secret")
    brief = make_brief(backend.url, goal='Line\nbreaks, "quotes" and C:\\new.')
    text = as_issue(brief)
    assert r"\n" in text
    written = text.replace("\\\\", r"\u005c").replace(r"\n", r"\u000a")
    (workspace / "brief.md").write_text(written)
    done = run_script(
        *(START, "--brief", "brief.md", "--credential-file", str(credential)), "--runtime", "claude-code"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert digest_of(brief) == backend.requests[0]["body"]["body"]["brief_digest"]


def test_a_credential_goes_to_no_other_host(start: Run, backend: Any, workspace: Path):
    """A brief that names another address than the operator's, or an unknown one, gets no credential."""
    done = start(callback_url="https://evil.example/callback")
    assert done.returncode == 2
    assert "AGENTIC_OS_URL" in done.stderr
    done = start("--url", "https://backend.example")
    assert done.returncode == 10
    assert "but the backend is https://backend.example:443" in done.stderr
    assert backend.requests == []


def test_a_redirect_is_not_followed(start: Run, backend: Any):
    """The credential is not carried to where a redirect leads."""
    backend.answer(307, headers={"Location": f"{backend.url}/elsewhere"})
    assert start().returncode == 3
    assert len(backend.requests) == 1


@pytest.mark.parametrize("content", ["", "two words", "\n", None])
def test_without_a_credential_nothing_is_sent(
    start: Run, credential: Path, backend: Any, content: str | None
):
    """A missing, empty or unfit credential file ends with the exit code for credentials."""
    if content is None:
        credential.unlink()
    else:
        credential.write_text(content)
    assert start().returncode == 4
    assert backend.requests == []


def test_a_credential_that_others_can_read_is_warned_of(start: Run, credential: Path):
    """Work starts, but the agent's log tells the operator."""
    credential.chmod(0o644)
    done = start()
    assert done.returncode == 0
    assert "make it mode 0600" in done.stderr


def test_drift_names_the_skills_that_differ(
    start: Run, workspace: Path, backend: Any, make_skill: Run, make_definition: Run
):
    """A refusal for drift prints, for each skill, what differs from what the backend expects."""
    make_skill("a")
    make_skill("b")
    skill_set = resolve(load_definition(make_definition("a", "b")), "default")
    hydrate(workspace, skill_set)
    expected = [{"name": "a", "digest": skill_set.skills[0].digest}, {"name": "c", "digest": NOTHING}]
    backend.answer(
        409, code="skill_drift", detail="The skills differ.", expected={"digest": NOTHING, "skills": expected}
    )
    done = start()
    assert done.returncode == 5
    assert "The skills differ." in done.stderr
    assert "b: not expected" in done.stderr
    assert "c: missing here" in done.stderr
    assert "  a:" not in done.stderr


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "credential_invalid", 4),
        (401, "token_expired", 8),
        (403, "scope_denied", 4),
        (404, "unknown_task", 3),
        (409, "attempt_superseded", 8),
        (409, "brief_mismatch", 10),
        (402, "budget_exceeded", 3),
        (422, "schema_invalid", 9),
    ],
)
def test_each_class_of_refusal_has_its_exit_code(
    start: Run, workspace: Path, backend: Any, *, status: int, code: str, exit_code: int
):
    """The words of the problem, its places and what to do next are printed; no token is kept."""
    backend.answer(
        status, code=code, detail="Since it is so.", pointer=["/body/x"], next="Do that.", retryable=False
    )
    done = start()
    assert exit_code == done.returncode
    assert f"Since it is so. ({code}, status {status})" in done.stderr
    assert "  at /body/x" in done.stderr
    assert "What to do next: Do that." in done.stderr
    assert len(backend.requests) == 1
    state = state_of(workspace)
    assert (state["token"], "pending" in state) == (None, False)


def test_server_errors_are_tried_again_with_the_same_callback_id(start: Run, backend: Any):
    """5xx and 429 are sent again, byte for byte the same, until one is accepted."""
    for status in (503, 500, 429):
        backend.answer(status, code="gate_error", detail="Busy.", retryable=True)
    backend.accept(attempt_token="t")
    done = start()
    assert done.returncode == 0
    assert len(backend.requests) == 4
    assert len({json.dumps(request["body"]) for request in backend.requests}) == 1
    assert done.stderr.count("trying again") == 3


def test_tries_are_bounded_and_the_next_run_sends_the_same_message(
    start: Run, submit: Run, workspace: Path, backend: Any
):
    """A message that may have arrived is sent again by the next run, and so counts once."""
    start()
    backend.answers.clear()
    backend.answer(500)
    assert submit(PLAN, PLAN_BODY).returncode == 6
    assert len(backend.requests) == 6
    assert state_of(workspace)["next_seq"] == 2
    backend.answers.clear()
    backend.accept()
    assert submit(PLAN, PLAN_BODY).returncode == 0
    assert len({request["body"]["callback_id"] for request in backend.requests[1:]}) == 1
    assert state_of(workspace)["next_seq"] == 3


def test_another_document_after_an_unknown_outcome_is_another_message(
    start: Run, submit: Run, workspace: Path, backend: Any
):
    """A changed plan never goes out under the id of the one before."""
    start()
    backend.answers.clear()
    backend.answer(500)
    submit(PLAN, PLAN_BODY)
    backend.answers.clear()
    backend.accept()
    assert submit(PLAN, PLAN_BODY | {"summary": "Other."}).returncode == 0
    assert backend.requests[-1]["body"]["callback_id"] != backend.requests[-2]["body"]["callback_id"]


def test_a_backend_that_is_down_is_a_network_error(start: Run, submit: Run, workspace: Path, backend: Any):
    """A refused connection is tried again, and ends with the exit code for the network."""
    start()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    state = state_of(workspace) | {"callback_url": f"http://127.0.0.1:{port}/api/executions/callback"}
    (workspace / ".agentic-os/attempt.json").write_text(json.dumps(state))
    done = submit(PLAN, PLAN_BODY)
    assert done.returncode == 6
    assert "cannot be reached" in done.stderr
    assert "Run the same command again" in done.stderr


def test_a_refusal_uses_up_no_number_and_the_corrected_plan_is_accepted(
    start: Run, submit: Run, workspace: Path, backend: Any
):
    """After a refusal the same seq is sent with a new id, and the attempt stays open."""
    start()
    backend.answers.clear()
    backend.answer(422, code="plan_unchanged", detail="The same plan.")
    backend.accept()
    assert submit(PLAN, PLAN_BODY).returncode == 9
    assert not state_of(workspace)["closed"]
    assert submit(PLAN, PLAN_BODY).returncode == 0
    first, second = (request["body"] for request in backend.requests[1:])
    assert (first["seq"], second["seq"]) == (2, 2)
    assert first["callback_id"] != second["callback_id"]


def test_after_submission_the_attempt_is_closed(start: Run, submit: Run, workspace: Path, backend: Any):
    """The token is gone, and a second submission is not even sent."""
    start()
    assert submit(PLAN, PLAN_BODY).returncode == 0
    assert (state_of(workspace)["closed"], state_of(workspace)["token"]) == (True, None)
    done = submit(PLAN, PLAN_BODY)
    assert done.returncode == 7
    assert "Wait until you are woken" in done.stderr
    assert len(backend.requests) == 2


@pytest.mark.parametrize("script", [PLAN, RESULT])
def test_without_start_work_nothing_can_be_submitted(submit: Run, script: Path):
    """A workspace where no work was started is told what to use first."""
    done = submit(script, {})
    assert done.returncode == 7
    assert "start-work" in done.stderr


def test_starting_again_goes_on_counting(start: Run, workspace: Path, backend: Any):
    """A second ack of the same attempt has the next seq, and a new attempt begins at 1."""
    start()
    start()
    start(attempt=3)
    assert [request["body"]["seq"] for request in backend.requests] == [1, 2, 1]


@pytest.mark.parametrize("wrapped", ["", f"Prose.\nAOS:PLAN v1 task={TASK} attempt=2\n"])
def test_a_plan_as_text_is_sent_between_markers(start: Run, submit: Run, backend: Any, wrapped: str):
    """Text with or without markers arrives as marked text that the backend reads."""
    start()
    done = submit(PLAN, wrapped + PLAN_TEXT + ("AOS:END\n" if wrapped else ""))
    assert (done.returncode, done.stderr) == (0, "")
    body = parse_callback(json.dumps(backend.requests[-1]["body"]).encode()).body
    assert body["steps"] == [{"id": "s1", "title": "Do it", "paths": ["a.py"]}]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"summary": "s"}, "lacks 'steps'"),
        (PLAN_BODY | {"extra": 1}, "surplus 'extra'"),
        ("{", "is not JSON"),
        (PLAN_TEXT.replace("## Risks\nnone\n", ""), "lacks the section: ## Risks"),
        (f"AOS:PLAN v1 task={TASK} attempt=1\n{PLAN_TEXT}AOS:END\n", "The markers must be"),
        (f"AOS:PLAN v1 task={TASK} attempt=2\n{PLAN_TEXT}", "The markers must be"),
    ],
)
def test_a_plan_that_breaks_the_contract_is_not_sent(
    start: Run, submit: Run, backend: Any, document: Any, words: str
):
    """The scripts find the fault first, and say where it is."""
    start()
    done = submit(PLAN, document)
    assert done.returncode == 9
    assert words in done.stderr
    assert len(backend.requests) == 1


def test_each_review_item_must_be_answered(start: Run, submit: Run, backend: Any):
    """A plan that leaves a review item unanswered is not sent."""
    start(review_items=[{"id": "r1", "text": "Why?"}, {"id": "r2", "text": "How?"}])
    done = submit(PLAN, PLAN_BODY | {"responds_to": [{"item_id": "r1", "how": "So."}]})
    assert done.returncode == 9
    assert "review item 'r2'" in done.stderr
    answers = [{"item_id": item, "how": "So."} for item in ("r1", "r2")]
    assert submit(PLAN, PLAN_BODY | {"responds_to": answers}).returncode == 0


def test_a_review_is_checked_before_it_is_sent(start: Run, submit: Run, backend: Any):
    """A review as text, or without what the contract asks for, is sent nowhere."""
    start()
    backend.accept()
    before = len(backend.requests)
    done = submit(REVIEW, "It is sound.")
    assert (done.returncode, "A review is JSON" in done.stderr) == (9, True)
    done = submit(REVIEW, {"verdict": "approve", "summary": "Sound."})
    assert (done.returncode, "digest" in done.stderr) == (9, True)
    assert before == len(backend.requests)


def test_a_result_carries_files_and_evidence(start: Run, submit: Run, workspace: Path, backend: Any):
    """Artifacts are sent inline with their digest and criterion, evidence at its true rank."""
    start(step="execute")
    (workspace / "report.txt").write_bytes(b"passed\n")
    (workspace / "odd:name").write_bytes(b"\x00")
    evidence = ("--evidence", "tests:pass:pytest -q a::b")
    done = submit(RESULT, RESULT_BODY, "--artifact", "report.txt:tests", "--artifact", "odd:name", *evidence)
    assert (done.returncode, done.stderr) == (0, "")
    body = parse_callback(json.dumps(backend.requests[-1]["body"]).encode()).body
    assert body["evidence"] == [
        {"criterion_id": "tests", "rank": "self_reported", "status": "pass", "command": "pytest -q a::b"}
    ]
    report, odd = body["artifacts"]
    assert (report["name"], report["media_type"], report["criterion_id"]) == (
        "report.txt",
        "text/plain",
        "tests",
    )
    assert base64.b64decode(report["content_base64"]) == b"passed\n"
    assert (odd["name"], odd["media_type"]) == ("odd:name", "application/octet-stream")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("--artifact", "none.txt:tests"), 2, "none.txt cannot be read"),
        (("--artifact", "large"), 9, "262145 bytes"),
        (("--evidence", "tests:good"), 2, "pass, fail or inconclusive"),
    ],
)
def test_an_artifact_or_claim_that_cannot_be_sent_is_refused(
    start: Run, submit: Run, workspace: Path, *, arguments: tuple[str, ...], exit_code: int, words: str
):
    """Missing or oversized files and unknown claims are told before anything is sent."""
    start(step="execute")
    (workspace / "large").write_bytes(bytes(256 * 1024 + 1))
    done = submit(RESULT, RESULT_BODY, *arguments)
    assert exit_code == done.returncode
    assert words in done.stderr
    assert not state_of(workspace)["closed"]


def test_a_directive_to_stop_is_told(start: Run, backend: Any):
    """What the backend wants to happen now stands in the output."""
    backend.answer(202, accepted=True, directive="hold", attempt_token="t")
    assert "The backend says: hold." in start().stdout


@pytest.mark.parametrize("script", [START, PLAN, RESULT])
def test_help_documents_the_exit_codes(run_script: Run, script: Path):
    """Each script explains itself, and never asks for a credential on its command line."""
    done = run_script(script, "--help")
    assert done.returncode == 0
    assert "exit codes: 0" in done.stdout
    assert "--credential " not in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_keep_to_the_oldest_python_promised(script: Path):
    """Every script parses as Python 3.9, and imports the standard library and its siblings only."""
    tree = ast.parse(script.read_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - {path.stem for path in SCRIPTS} <= set(sys.stdlib_module_names)


def test_a_skill_without_start_work_beside_it_says_so(run_script: Run, tmp_path: Path):
    """A workspace that lacks the shared library is told to hydrate."""
    lonely = tmp_path / "lonely/scripts/submit_plan.py"
    lonely.parent.mkdir(parents=True)
    lonely.write_text(PLAN.read_text())
    done = run_script(lonely, "-")
    assert done.returncode == 5
    assert "hydrated" in done.stderr

"""How an attempt ends that the client does not bring to its end: exit 0 is no evidence, and silence has its words."""

import os
import signal
import threading
from pathlib import Path

import pytest
from tests.agents.model import Act, Say, Shell, Turn
from tests.agents.product import Connect, Product
from tests.agents.scripted import Brief, after, diligent, skill, start, working

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]


def test_a_tool_that_was_denied_is_a_failure_with_its_words(product: Product, connected: Connect) -> None:
    """The client ends with exit 0 and reported nothing: the attempt failed, and its log's end says why."""
    connected("claude-code", "denied")
    product.model.script = after(Shell("curl http://127.0.0.1/"))
    task = product.ask("Fetch the beans", "denied")
    failed = product.until_event(task, "attempt.failed")
    product.comment(task, "/cancel")
    assert "environment" == failed["failure"]
    assert failed["message"].startswith("Claude Code ended with exit 0 and reported nothing.")
    assert "permission_denials" in failed["message"]
    assert "curl" in failed["message"]


def test_who_declines_is_asked_no_more(product: Product, connected: Connect) -> None:
    """A client that declines gives its reason, and the task goes to nobody else than it may."""
    connected("codex", "unable")

    def declining(turn: Turn) -> Act:
        if turn.results:
            return Say("I declined.")
        brief = ".agentic-os/brief.md"
        return skill(
            turn, "decline", f'--brief {brief} --reason missing_capability --detail "I cannot count."'
        )

    product.model.script = declining
    task = product.ask("Count the beans", "unable")
    declined = product.until_event(task, "attempt.declined")
    assert ("missing_capability", "I cannot count.") == (declined["reason"], declined["detail"])
    assert [] == product.of_type(task, "attempt.acked")
    product.until(task, "input_required")


def test_who_starts_twice_works_once(product: Product, connected: Connect) -> None:
    """A second start of the same attempt gets a new token, and the work goes on with it."""
    connected("claude-code", "twice")

    def forgetful(turn: Turn) -> Act:
        if len(turn.results) < 2:
            return start(turn)
        acts = working(turn, Brief.read(turn.results[1]))
        done = len(turn.results) - 2
        return acts[done] if done < len(acts) else Say("That is all.")

    product.model.script = forgetful
    task = product.ask("Count the beans", "twice")
    product.until(task, "completed")
    assert [1, 2] == [ack["generation"] for ack in product.of_type(task, "attempt.acked")]
    assert 1 == len(product.of_type(task, "attempt.offered"))


def test_a_client_that_is_killed_is_followed_by_another_attempt(product: Product, connected: Connect) -> None:
    """The launcher outlives its client and reports it; the next attempt does the work."""
    connected("claude-code", "killed")
    go_on = threading.Event()

    def waiting(turn: Turn) -> Act:
        if turn.results and not go_on.is_set():
            go_on.wait(60)
            return Say("Too late.")
        return diligent(turn)

    product.model.script = waiting
    task = product.ask("Count the beans", "killed")
    product.until_event(task, "attempt.acked")
    os.kill(client_of(task, "claude"), signal.SIGKILL)
    go_on.set()
    failed = product.until_event(task, "attempt.failed")
    assert failed["message"].startswith("Claude Code ended with signal 9 and reported nothing.")
    product.until(task, "retry_wait")
    product.comment(task, "/retry")
    done = product.until(task, "completed")
    assert 2 == done["attempt"]["number"]


def test_silence_is_told_within_a_minute_of_its_end(product: Product, connected: Connect) -> None:
    """A client that never begins, one whose model is away, one killed with its launcher: each ends with its words."""
    for client, name in (("claude-code", "silent"), ("codex", "waiting"), ("gemini", "gone")):
        connected(client, name)
    product.model.script = lambda _: Say("All done!")
    silent = product.ask("Say nothing", "silent")
    product.until_event(silent, "run.ended")

    held = threading.Event()

    def waiting_until_then(_: Turn) -> Act:
        held.wait(60)
        return Say("Too late.")

    product.model.script = waiting_until_then
    gone = product.ask("Be killed", "gone")
    while not (runs := runs_of(gone)):
        held.wait(0.1)
    group = os.getpgid(runs[0])
    assert group != os.getpgid(0)
    os.killpg(group, signal.SIGKILL)
    held.set()

    product.model.away = True
    waiting = product.ask("Find no model", "waiting")
    product.until_event(waiting, "run.ended")
    product.model.away = False
    product.model.script = diligent

    ended = {task: product.until_event(task, "attempt.expired") for task in (silent, waiting, gone)}
    assert ["unreported"] * 3 == [expired["what"] for expired in ended.values()]
    assert "did not even acknowledge" in ended[silent]["detail"]
    assert "did not even acknowledge" in ended[waiting]["detail"]
    assert "turn.failed" in ended[waiting]["detail"]
    for task in ended:  # the next attempt has a model, and is let live
        if "retry_wait" == product.show(task)["phase"]:
            product.comment(task, "/retry")
        assert 2 == product.until(task, "completed")["attempt"]["number"]


def client_of(task: str, command: str) -> int:
    """Find the process of the client that works on the task."""
    return next(pid for pid in runs_of(task) if command in Path(f"/proc/{pid}/cmdline").read_text())


def runs_of(task: str) -> list[int]:
    """Find the processes that were started for the task's attempt."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if f"AGENTIC_OS_TASK={task}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found

"""Agents' runs: woken once for each attempt, seen to their end, and ended with all they started."""

import asyncio
import fcntl
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentic_os.control_plane import AgentSeen, RunSeen
from agentic_os.control_plane.conformance.harness import read_feed
from agentic_os_board.client import BoardClient
from agentic_os_board.testing import BACKEND_TOKEN, WEBHOOK_SECRET, BoardProcess

DRAFT = {"title": "Count the beans", "body": "The brief.", "project": "", "state": "ready", "labels": []}
SETTLED = {"ended", "killed", "lost"}
_ENOUGH = 3
"""The start of a run, and twice since."""
GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]


async def assign(board: BoardProcess, account: str, task: str, attempt: int = 1) -> str:
    async with board.backend() as backend:
        key = (await backend.put(f"/api/tasks/{task}/issue", json=DRAFT)).json()["key"]
        document = {"account": account, "task_id": task, "attempt": attempt}
        answer = await backend.put(f"/api/issues/{key}/assignment", json=document)
        assert answer.status_code == 204, answer.text
        return str(key)


async def run_of(board: BoardProcess, task: str, states: set[str]) -> dict[str, Any]:
    """Wait until the task's newest run is in one of the states."""

    def reached(runs: list[dict[str, Any]]) -> bool:
        return any(run["task_id"] == task and run["state"] in states for run in runs)

    runs = await board.until_runs(reached)
    return next(run for run in reversed(runs) if run["task_id"] == task)


async def read_line(pipe: Path) -> str:
    """Wait for the line that an agent writes into a pipe."""
    return (await asyncio.to_thread(pipe.read_text)).strip()


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


async def until_gone(pid: int) -> None:
    """Wait until a process has ended, or is a zombie that nobody has collected yet."""
    async with asyncio.timeout(20):
        while _alive(pid):  # noqa: ASYNC110 - the process is nobody's child here
            await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True)
class Log:
    """A file of captured output."""

    text: str
    mode: int


def logs_of(board: BoardProcess, run: dict[str, Any]) -> list[Log]:
    """Read what was captured, the newest part first."""
    found = sorted(Path(board.configuration["home"], "logs").glob(f"{run['id']}.log*"))
    return [Log(file.read_text(), file.stat().st_mode & 0o777) for file in found]


def exists(*parts: str) -> bool:
    return Path(*parts).exists()


def private_folders(board: BoardProcess) -> list[Path]:
    """List the folders with the tokens and briefs of runs."""
    return list(Path(board.configuration["home"], "runs").iterdir())


def git(folder: Path, *arguments: str) -> list[str]:
    """Run git, and return what it said in words."""
    answer = subprocess.run([*GIT, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return answer.stdout.split()


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def test_an_agent_gets_its_brief_and_nothing_of_the_server(board: BoardProcess, tmp_path: Path) -> None:
    """The command must find brief, task, credential and token, and no other variable of the server."""
    credential = tmp_path / "credential"
    credential.write_text("the executor's credential")
    script = (
        'env | cut -d= -f1 | sort > names; cat "$AGENTIC_OS_BRIEF" > brief; cat "$AGENTIC_OS_CREDENTIAL_FILE" > cred;'
        ' stat -c %a "$AGENTIC_OS_BOARD_TOKEN_FILE" > mode; cp "$AGENTIC_OS_BOARD_TOKEN_FILE" token;'
        ' echo "$AGENTIC_OS_TASK $AGENTIC_OS_ATTEMPT $AGENTIC_OS_BOARD_ISSUE $AGENTIC_OS_BOARD_URL $COLOUR" > facts'
    )
    agent = await board.add_agent(
        "reader",
        shell(script),
        tmp_path,
        environment={"COLOUR": "blue", "NOT_SET": None},
        secret_files={"AGENTIC_OS_CREDENTIAL_FILE": str(credential)},
    )
    key = await assign(board, agent, "brief-1")
    run = await run_of(board, "brief-1", SETTLED)
    assert (run["state"], run["exit_code"]) == ("ended", 0)
    assert (tmp_path / "facts").read_text() == f"brief-1 1 {key} {board.url} blue\n"
    assert (tmp_path / "brief").read_text() == "The brief."
    assert (tmp_path / "cred").read_text() == "the executor's credential"
    assert (tmp_path / "mode").read_text() == "600\n"
    given = set((tmp_path / "names").read_text().split())
    known = {"PATH", "HOME", "LANG", "TMPDIR", "COLOUR", "PWD", "OLDPWD", "SHLVL", "_"}
    assert {name for name in given if not name.startswith("AGENTIC_OS_")} <= known
    async with board.client((tmp_path / "token").read_text()) as after:
        assert (await after.get("/api/me")).status_code == 401


async def test_a_run_s_token_is_the_agent_s(board: BoardProcess, tmp_path: Path, pipe: Path) -> None:
    """While it runs, an agent must be able to comment as itself."""
    agent = await board.add_agent(
        "talker", shell(f'cat "$AGENTIC_OS_BOARD_TOKEN_FILE" > {pipe}; cat {pipe}'), tmp_path
    )
    key = await assign(board, agent, "token-1")
    async with board.client(await read_line(pipe)) as robot:
        assert (await robot.get("/api/me")).json()["name"] == "talker"
        answer = await robot.post(f"/api/issues/{key}/comments", json={"body": "On it."})
        assert answer.status_code == 201
    await asyncio.to_thread(pipe.write_text, "go on\n")
    assert (await run_of(board, "token-1", SETTLED))["exit_code"] == 0


async def test_the_exit_code_and_the_output_are_kept(board: BoardProcess, tmp_path: Path) -> None:
    """A failure must be seen as one, with what the command said before."""
    agent = await board.add_agent("failing", shell("echo out; echo err >&2; exit 7"), tmp_path)
    await assign(board, agent, "exit-1")
    run = await run_of(board, "exit-1", SETTLED)
    assert (run["state"], run["exit_code"]) == ("ended", 7)
    (log,) = logs_of(board, run)
    assert ("out\nerr\n", 0o600) == (log.text, log.mode)


async def test_endless_output_is_bounded(board: BoardProcess, tmp_path: Path) -> None:
    """A run that talks without end must keep its last words, and not fill the disk."""
    agent = await board.add_agent("noisy", shell("yes | head -c 3000000; echo the end"), tmp_path)
    await assign(board, agent, "noise-1")
    run = await run_of(board, "noise-1", SETTLED)
    parts = logs_of(board, run)
    assert sum(len(part.text) for part in parts) <= 1024 * 1024
    assert parts[0].text.endswith("the end\n")


@pytest.mark.parametrize(
    ("program", "workspace", "said"),
    [("/no/such/program", "", "exit code 127"), ("true", "nowhere", "not a folder")],
)
async def test_what_cannot_start_says_why(
    board: BoardProcess, tmp_path: Path, program: str, workspace: str, said: str
) -> None:
    """A run that could not start must end with its reason, and not take the server with it."""
    task = f"broken{workspace}"
    agent = await board.add_agent(task, [program], tmp_path / workspace)
    await assign(board, agent, task)
    run = await run_of(board, task, SETTLED)
    assert run["state"] == "ended"
    assert said in run["detail"]


@pytest.mark.parametrize("by", ["unassign", "reassign", "close", "person", "delete"])
async def test_taking_the_work_away_kills_the_whole_group(
    board: BoardProcess, tmp_path: Path, pipe: Path, by: str
) -> None:
    """Whoever takes the issue away must end the agent and its children, those that ignore TERM included."""
    script = f"trap '' TERM; sleep 1000 & setsid sleep 1000 & echo $$ $! > {pipe}; wait"
    agent = await board.add_agent(f"stubborn-{by}", shell(script), tmp_path)
    key = await assign(board, agent, f"kill-{by}")
    leader, child = (int(pid) for pid in (await read_line(pipe)).split())
    async with board.backend() as backend, await board.operator() as admin:
        if by == "unassign":
            await backend.delete(f"/api/issues/{key}/assignment")
        elif by == "reassign":
            other = await board.add_agent("idle", ["true"], tmp_path)
            await assign(board, other, f"kill-{by}", attempt=2)
        elif by == "close":
            await backend.patch(f"/api/issues/{key}", json={"closed": "not_planned"})
        elif by == "person":
            await admin.patch(f"/api/issues/{key}", json={"assignee": None})
        else:
            await admin.delete(f"/api/issues/{key}")
    await until_gone(leader)
    await until_gone(child)

    def first(runs: list[dict[str, Any]]) -> list[str]:
        return [run["state"] for run in runs if run["task_id"] == f"kill-{by}" and run["attempt"] == 1]

    runs = await board.until_runs(lambda runs: bool(SETTLED & set(first(runs))))
    assert first(runs) == ["killed"]


async def test_an_agent_that_is_about_to_end_is_left_to_it(
    new_board: Callable[..., BoardProcess], tmp_path: Path, pipe: Path
) -> None:
    """A run whose work was handed in and taken away must end by itself when it does so soon."""
    board = new_board(linger_seconds=30)
    agent = await board.add_agent("polite", shell(f"echo there > {pipe}; cat {pipe}; exit 0"), tmp_path)
    key = await assign(board, agent, "linger-1")
    await read_line(pipe)
    async with board.backend() as backend:
        await backend.patch(f"/api/issues/{key}", json={"closed": "completed"})
    await asyncio.to_thread(pipe.write_text, "go on\n")
    run = await run_of(board, "linger-1", SETTLED)
    assert (run["state"], run["exit_code"]) == ("ended", 0)


async def test_a_time_limit_ends_a_run(board: BoardProcess, tmp_path: Path) -> None:
    """A run beyond its time limit must be killed, saying so."""
    agent = await board.add_agent("slow", ["sleep", "1000"], tmp_path, time_limit_seconds=1)
    await assign(board, agent, "slow-1")
    run = await run_of(board, "slow-1", SETTLED)
    assert (run["state"], run["exit_code"]) == ("killed", -signal.SIGTERM)
    assert "time limit of 1 seconds" in run["detail"]


async def test_a_deactivated_agent_is_woken_no_more(board: BoardProcess, tmp_path: Path) -> None:
    """What it runs must be stopped, no attempt must reach it, and its name must stay with what it did."""
    agent = await board.add_agent("leaving", ["sleep", "1000"], tmp_path)
    await assign(board, agent, "leaving-1")
    await run_of(board, "leaving-1", {"running"})
    async with await board.operator() as operator:
        assert 204 == (await operator.delete("/api/agents/leaving")).status_code
        assert 204 == (await operator.delete("/api/agents/leaving")).status_code
        assert 404 == (await operator.delete("/api/agents/nobody")).status_code
        assert 404 == (await operator.delete("/api/agents/admin")).status_code
        listed = (await operator.get("/api/agents")).json()["items"]
        again = {"name": "leaving", "wake": {"kind": "command", "command": ["true"], "workspace": "/"}}
        assert 409 == (await operator.post("/api/agents", json=again)).status_code
    assert [False] == [one["active"] for one in listed if one["name"] == "leaving"]
    run = await run_of(board, "leaving-1", SETTLED)
    assert ("killed", "its agent was deactivated") == (run["state"], run["detail"])
    async with board.backend() as backend:
        assert 403 == (await backend.delete("/api/agents/leaving")).status_code
        key = (await backend.put("/api/tasks/leaving-2/issue", json=DRAFT)).json()["key"]
        document = {"account": agent, "task_id": "leaving-2", "attempt": 1}
        refused = await backend.put(f"/api/issues/{key}/assignment", json=document)
    assert (422, True) == (refused.status_code, "deactivated" in refused.text)
    plane = BoardClient(board.url, BACKEND_TOKEN, [WEBHOOK_SECRET])
    found, _ = await read_feed(plane)
    await plane.aclose()
    told = [seen for seen in found if isinstance(seen, AgentSeen) and seen.account == agent]
    assert [("paused", "deactivated")] == [(seen.state, seen.detail) for seen in told]


async def test_a_run_is_reported_alive_until_it_ends(
    new_board: Callable[..., BoardProcess], tmp_path: Path, pipe: Path
) -> None:
    """While a run lives the backend must hear so again and again, and at last, once, that it has ended."""
    board = new_board(alive_seconds=0.05)
    agent = await board.add_agent("living", shell(f"cat {pipe}"), tmp_path)
    plane = BoardClient(board.url, BACKEND_TOKEN, [WEBHOOK_SECRET])
    await assign(board, agent, "alive-1", attempt=3)
    seen: list[RunSeen] = []
    cursor, told = "", 0
    async with asyncio.timeout(30):
        while not seen or seen[-1].state != "ended":
            observations, cursor = await plane.observations(cursor)
            seen += [one for one in observations if isinstance(one, RunSeen)]
            if len(seen) >= _ENOUGH and not told:
                told = await asyncio.to_thread(pipe.write_text, "enough")
    await plane.aclose()
    assert {("alive-1", 3)} == {(run.task_id, run.attempt) for run in seen}
    assert ["alive"] * (len(seen) - 1) + ["ended"] == [run.state for run in seen]
    assert [run.at for run in seen] == sorted(run.at for run in seen)


async def test_the_backend_is_told_the_end_of_the_log(
    new_board: Callable[..., BoardProcess], tmp_path: Path
) -> None:
    """Whoever wonders why nothing came of a run must read its last words, in whole lines that a terminal can show."""
    board = new_board()
    script = "yes a long line | head -n 1000; printf 'last\\033[31m words\\n'; exit 0"
    agent = await board.add_agent("talking", shell(script), tmp_path)
    plane = BoardClient(board.url, BACKEND_TOKEN, [WEBHOOK_SECRET])
    await assign(board, agent, "told-1")
    await run_of(board, "told-1", SETTLED)
    observations, _ = await plane.observations("")
    await plane.aclose()
    (ended,) = [one for one in observations if isinstance(one, RunSeen) and one.state == "ended"]
    first, *lines = ended.detail.splitlines()
    assert "exit code 0. Its log ends:" == first
    assert "last[31m words" == lines.pop()
    assert {"a long line"} == set(lines)
    assert len(ended.detail) < 2000


async def test_a_crash_of_the_board_loses_the_run_and_never_repeats_it(
    new_board: Callable[..., BoardProcess], tmp_path: Path, pipe: Path
) -> None:
    """After kill -9, the run that was alive must be ended, be lost, and not be started again."""
    board = new_board()
    script = f"echo x >> count; setsid sleep 1000 & echo $$ $! > {pipe}; exec sleep 1000"
    agent = await board.add_agent("crashing", shell(script), tmp_path)
    await assign(board, agent, "crash-1")
    leader, escaped = (int(pid) for pid in (await read_line(pipe)).split())
    board.kill()
    assert _alive(leader)
    board.start()
    await until_gone(leader)
    await until_gone(escaped)
    await assign(board, agent, "crash-1")
    await assign(board, agent, "crash-2")
    await read_line(pipe)
    runs = {run["task_id"]: run for run in await board.runs()}
    assert runs["crash-1"]["state"] == "lost"
    assert (tmp_path / "count").read_text() == "x\nx\n"
    assert len(private_folders(board)) == 1


async def test_a_pid_that_is_somebody_else_s_is_left_alone(
    new_board: Callable[..., BoardProcess], tmp_path: Path, pipe: Path
) -> None:
    """A process that merely has the pid of a lost run must survive the board's return."""
    board = new_board()
    agent = await board.add_agent("gone", shell(f"echo $$ > {pipe}; exec sleep 1000"), tmp_path)
    await assign(board, agent, "pid-1")
    leader = int(await read_line(pipe))
    board.kill()
    os.killpg(leader, signal.SIGKILL)
    bystander = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
    try:
        _rewrite_pid(board, bystander.pid)
        board.start()
        assert (await run_of(board, "pid-1", SETTLED))["state"] == "lost"
        assert _alive(bystander.pid)
    finally:
        bystander.kill()
        await bystander.wait()


def _rewrite_pid(board: BoardProcess, pid: int) -> None:
    with psycopg.connect(board.configuration["database_url"]) as connection:
        connection.execute("update board.runs set pid = %s", (pid,))


async def test_stopping_the_board_ends_its_runs(
    new_board: Callable[..., BoardProcess], tmp_path: Path, pipe: Path
) -> None:
    """A board that stops must leave no agent behind, and record what it did."""
    board = new_board()
    script = f"trap '' TERM; echo $$ > {pipe}; while true; do sleep 1000; done"
    agent = await board.add_agent("left", shell(script), tmp_path)
    await assign(board, agent, "stop-1")
    leader = int(await read_line(pipe))
    assert await asyncio.to_thread(board.stop) == 0
    assert not _alive(leader)
    board.start()
    run = await run_of(board, "stop-1", SETTLED)
    assert (run["state"], run["detail"]) == ("killed", "the board was stopped")


async def test_each_attempt_has_a_worktree_of_its_own(board: BoardProcess, tmp_path: Path) -> None:
    """Two attempts must share no file, and what one commits must be left on its branch."""
    repository = tmp_path / "repository"
    git(tmp_path, "init", "-q", "repository")
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    script = f"pwd >> {tmp_path}/folders; echo x > file; git add file; {shlex.join(GIT)} commit -q -m done"
    agent = await board.add_agent("gardener", shell(script), repository, worktree=True)
    for attempt in (1, 2):
        await assign(board, agent, "tree-1", attempt)
        await board.until_runs(
            lambda runs, attempt=attempt: any(
                run["attempt"] == attempt and run["task_id"] == "tree-1" and run["state"] in SETTLED
                for run in runs
            )
        )
    assert [run["exit_code"] for run in await board.runs() if run["task_id"] == "tree-1"] == [0, 0]
    before, after = (tmp_path / "folders").read_text().split()
    assert before == after, "a session is found again by the folder that it was in"
    assert len(git(repository, "worktree", "list", "--porcelain")) == len(
        ["worktree", "P", "HEAD", "H", "branch", "B"]
    )
    left = [run["left_behind"] for run in await board.runs() if run["task_id"] == "tree-1"]
    assert left == [f"the branch agentic-os/tree-1/{attempt} has what was committed" for attempt in (1, 2)]
    branches = git(repository, "branch", "--format=%(refname:short)")
    assert {"agentic-os/tree-1/1", "agentic-os/tree-1/2"} <= set(branches)
    assert not (repository / "file").exists()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with one commit."""
    git(tmp_path, "init", "-q", "repository")
    (tmp_path / "repository" / "tracked").write_text("one\n")
    git(tmp_path / "repository", "add", "tracked")
    git(tmp_path / "repository", "commit", "-q", "-m", "first")
    return tmp_path / "repository"


async def test_a_worktree_begins_at_a_recorded_commit_and_leaves_nothing(
    board: BoardProcess, repository: Path
) -> None:
    """What an attempt began from must be on record; one that changed nothing must leave no folder and no branch."""
    script = "git rev-parse HEAD; echo $AGENTIC_OS_BASE_COMMIT; cat tracked"
    agent = await board.add_agent("reading", shell(script), repository, worktree=True)
    (repository / "tracked").write_text("being edited by a person\n")
    await assign(board, agent, "base-1")
    run = await run_of(board, "base-1", SETTLED)
    (commit,) = git(repository, "rev-parse", "HEAD")
    (log,) = logs_of(board, run)
    assert log.text.split() == [commit, commit, "one"]
    assert (run["base_commit"], run["left_behind"]) == (commit, "")
    assert not exists(run["worktree"])
    assert len(git(repository, "branch", "--format=%(refname:short)")) == 1
    assert (repository / "tracked").read_text() == "being edited by a person\n"


async def test_what_was_not_committed_is_kept_and_said(board: BoardProcess, repository: Path) -> None:
    """A worktree with work in it must stay, with its place on record; the main checkout must stay clean."""
    agent = await board.add_agent(
        "messy", shell("echo more >> tracked; echo x > new"), repository, worktree=True
    )
    await assign(board, agent, "messy-1")
    run = await run_of(board, "messy-1", SETTLED)
    assert run["left_behind"] == f"the worktree {run['worktree']} is kept: something in it was not committed"
    assert exists(run["worktree"], "new")
    assert git(repository, "status", "--porcelain") == []


async def test_a_worktree_is_kept_where_its_agent_asks(board: BoardProcess, repository: Path) -> None:
    """Whoever wants to look at what an attempt saw must find its folder, clean as it is, and be told where."""
    agent = await board.add_agent("keeper", ["true"], repository, worktree=True, keep_worktree=True)
    await assign(board, agent, "keep-1")
    run = await run_of(board, "keep-1", SETTLED)
    assert run["left_behind"] == f"the worktree {run['worktree']} is kept, as its agent asks"
    assert exists(run["worktree"], "tracked")
    await assign(board, agent, "keep-1", 2)
    await board.until_runs(lambda runs: runs[-1]["attempt"] == 2 and runs[-1]["state"] in SETTLED)
    again = (await board.runs())[-1]
    assert again["exit_code"] == 0
    assert again["worktree"] != run["worktree"]


async def test_twenty_attempts_at_once_share_no_file(
    board: BoardProcess, repository: Path, tmp_path: Path
) -> None:
    """One repository must bear as many attempts as there are, each in a folder and on a branch of its own."""
    gate = tmp_path / "gate"
    commit = f"git add tracked; {shlex.join(GIT)} commit -q -m done"
    script = f"flock -s {gate} true; echo $AGENTIC_OS_TASK >> tracked; {commit}"
    agents = [
        await board.add_agent(f"many-{each}", shell(script), repository, worktree=True) for each in range(4)
    ]
    tasks = {f"many-{number}": agents[number % 4] for number in range(20)}
    with gate.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await asyncio.gather(*(assign(board, agent, task) for task, agent in tasks.items()))
        runs = await board.until_runs(
            lambda runs: sum(_begun(run) for run in runs if run["task_id"] in tasks) == 20
        )
        assert 20 == len({run["worktree"] for run in runs if run["task_id"] in tasks})
    await board.until_runs(
        lambda runs: all(run["state"] in SETTLED for run in runs if run["task_id"] in tasks)
    )
    for task in tasks:
        assert git(repository, "show", f"agentic-os/{task}/1:tracked") == ["one", task]
    assert git(repository, "status", "--porcelain") == []


def _begun(run: dict[str, Any]) -> bool:
    return run["state"] == "running" and exists(run["worktree"] or "nowhere")


async def test_a_shared_folder_is_used_by_one_at_a_time(
    board: BoardProcess, tmp_path: Path, pipe: Path
) -> None:
    """Attempts that share a folder must not see each other's half-done work, also those of different agents."""
    script = f"test ! -e busy && touch busy; echo $? >> codes; cat {pipe}; rm busy"
    alone = await board.add_agent("alone", shell(script), tmp_path, exclusive=True)
    other = await board.add_agent("other", shell(script), tmp_path)
    await assign(board, alone, "alone-1")
    await run_of(board, "alone-1", {"running"})
    await assign(board, other, "alone-2")
    await assign(board, alone, "alone-3")
    states = {run["task_id"]: run["state"] for run in await board.runs()}
    assert ("queued", "queued") == (states["alone-2"], states["alone-3"])
    for task in ("alone-1", "alone-2", "alone-3"):
        await run_of(board, task, {"running"})
        await asyncio.to_thread(pipe.write_text, "go on")
        await run_of(board, task, SETTLED)
    assert (tmp_path / "codes").read_text().split() == ["0", "0", "0"]


async def test_a_repository_without_a_commit_is_said(board: BoardProcess, tmp_path: Path) -> None:
    """Where there is nothing to begin from, the run must end with that reason."""
    git(tmp_path, "init", "-q", "empty")
    agent = await board.add_agent("early", ["true"], tmp_path / "empty", worktree=True)
    await assign(board, agent, "early-1")
    run = await run_of(board, "early-1", SETTLED)
    assert (run["state"], "no commit to begin from" in run["detail"]) == ("ended", True)


async def test_a_crash_leaves_no_worktree_unsaid(
    new_board: Callable[..., BoardProcess], repository: Path, pipe: Path
) -> None:
    """After kill -9, a lost run's worktree must be gone, or be named with the run because work is in it."""
    board = new_board()
    idle = await board.add_agent("idle", shell(f"echo there > {pipe}; sleep 1000"), repository, worktree=True)
    script = f"echo x > new; echo there > {pipe}; sleep 1000"
    busy = await board.add_agent("busy", shell(script), repository, worktree=True)
    await assign(board, idle, "idle-1")
    await read_line(pipe)
    await assign(board, busy, "busy-1")
    await read_line(pipe)
    board.kill()
    board.start()
    gone, kept = await run_of(board, "idle-1", SETTLED), await run_of(board, "busy-1", SETTLED)
    assert (gone["state"], gone["left_behind"]) == ("lost", "")
    assert not exists(gone["worktree"])
    assert (kept["state"], kept["worktree"] in kept["left_behind"]) == ("lost", True)
    assert exists(kept["worktree"], "new")


async def test_no_secret_is_in_the_environment_or_the_arguments(
    new_board: Callable[..., BoardProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server was started with, its agents must see none of it, and secrets only as private files."""
    for name in ("DATABASE_URL", "AGENTIC_OS_TOKEN", "PGPASSWORD", "SOME_API_KEY"):
        monkeypatch.setenv(name, "swordfish")
    credential = tmp_path / "credential"
    credential.write_text("the executor's credential")
    credential.chmod(0o644)
    script = (
        "cat /proc/$$/environ /proc/$$/cmdline > seen; ls -l /proc/$$/fd | wc -l > open;"
        " stat -c %a $AGENTIC_OS_CREDENTIAL_FILE > mode; cat $AGENTIC_OS_CREDENTIAL_FILE > read"
    )
    board = new_board()
    secrets = {"AGENTIC_OS_CREDENTIAL_FILE": str(credential)}
    agent = await board.add_agent("curious", shell(script), tmp_path, secret_files=secrets)
    await assign(board, agent, "secret-1")
    assert (await run_of(board, "secret-1", SETTLED))["exit_code"] == 0
    seen = (tmp_path / "seen").read_text()
    for secret in (
        "swordfish",
        "the executor's credential",
        BACKEND_TOKEN,
        "aosb_",
        board.configuration["database_url"],
    ):
        assert secret not in seen
    assert ((tmp_path / "mode").read_text(), (tmp_path / "read").read_text()) == (
        "600\n",
        credential.read_text(),
    )
    assert private_folders(board) == []


@pytest.mark.parametrize("name", ["DATABASE_URL", "AGENTIC_OS_TOKEN", "PGPASSWORD"])
async def test_the_server_s_own_variables_cannot_be_passed_on(
    board: BoardProcess, tmp_path: Path, name: str
) -> None:
    """An agent that is to get a variable which holds the server's secrets must be refused."""
    wake = {"kind": "command", "command": ["true"], "workspace": str(tmp_path), "environment": {name: None}}
    async with await board.operator() as admin:
        answer = await admin.post("/api/agents", json={"name": "greedy", "wake": wake})
    assert answer.status_code == 422
    assert "environment" in answer.json()["detail"]


async def test_no_zombie_is_left(board: BoardProcess, tmp_path: Path) -> None:
    """A server that has run agents, ended and killed, must have collected every child."""
    quick = await board.add_agent("quick", shell("sleep 0 & exit 3"), tmp_path)
    late = await board.add_agent("late", shell("trap '' TERM; sleep 1000"), tmp_path, time_limit_seconds=1)
    for number in range(5):
        await assign(board, quick, f"zombie-{number}")
    await assign(board, late, "zombie-late")
    for number in range(5):
        await run_of(board, f"zombie-{number}", SETTLED)
    assert (await run_of(board, "zombie-late", SETTLED))["exit_code"] == -signal.SIGKILL
    assert _children(board.process.pid) == []


def _children(parent: int) -> list[str]:
    """List the states and names of a process's children, the dead ones included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = stat.read_text().rpartition(")")
            if int(rest.split()[1]) == parent:
                found.append(f"{rest.split()[0]} {name}")
    return found


async def test_kills_at_any_moment_start_no_attempt_twice(
    new_board: Callable[..., BoardProcess], tmp_path: Path
) -> None:
    """However often the board is killed under load, each (task, attempt) must start at most once, and be ended."""
    board = new_board()
    script = 'echo "$AGENTIC_OS_TASK $AGENTIC_OS_ATTEMPT" >> started; sleep 0.2; echo "$AGENTIC_OS_TASK" >> finished'
    agent = await board.add_agent("often", shell(script), tmp_path)
    tasks = [f"storm-{number}" for number in range(12)]
    for wave in range(3):
        await asyncio.gather(*(assign(board, agent, task) for task in tasks[wave * 4 : wave * 4 + 4]))
        board.kill()
        board.start()
        await asyncio.gather(*(assign(board, agent, task) for task in tasks[: wave * 4 + 4]))
    with psycopg.connect(board.configuration["database_url"]) as connection:
        async with asyncio.timeout(60):
            while connection.execute(
                "select 1 from board.runs where state in ('queued', 'running')"
            ).fetchone():
                connection.rollback()
                await asyncio.sleep(0.05)
        rows = connection.execute("select task_id, state from board.runs").fetchall()
        told = "select data ->> 'task_id' from board.activities where kind = 'run.ended'"
        ended = connection.execute(told).fetchall()
    assert sorted(task for task, _ in rows) == sorted(tasks)
    assert sorted(task for (task,) in ended) == sorted(tasks)
    started = (tmp_path / "started").read_text().splitlines()
    assert len(started) == len(set(started))
    finished = (tmp_path / "finished").read_text().splitlines() if (tmp_path / "finished").exists() else []
    assert {task for task, state in rows if state == "ended"} <= set(finished)


async def test_sharing_an_account_is_said_plainly(
    board: BoardProcess, new_board: Callable[..., BoardProcess]
) -> None:
    """Where agents have the server's rights, its log and its API must say so; with a user of their own, not."""
    async with await board.operator() as admin:
        said = (await admin.get("/api/agents")).json()["sharing"]
    assert "gates are cooperative" in said
    assert said in board.log.read_text()
    if os.geteuid() == 0:
        apart = new_board(run_as="nobody")
        async with await apart.operator() as admin:
            assert (await admin.get("/api/agents")).json()["sharing"] == ""
        assert "cooperative" not in apart.log.read_text()


@pytest.fixture
def open_workspace() -> Iterator[Path]:
    """Make a folder that every user can write."""
    with tempfile.TemporaryDirectory(prefix="aosb-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run agents as somebody else")
async def test_agents_run_as_another_user(
    new_board: Callable[..., BoardProcess], open_workspace: Path
) -> None:
    """With run_as, an agent must be that user, read its own brief and secrets, and not the server's home."""
    board = new_board(run_as="nobody")
    credential = open_workspace / "credential"
    credential.write_text("the executor's credential")
    credential.chmod(0o600)
    script = (
        "id -un > who; id -Gn > groups; cat $AGENTIC_OS_CREDENTIAL_FILE $AGENTIC_OS_BRIEF > read;"
        f" cat $AGENTIC_OS_BOARD_TOKEN_FILE > token; ls {board.configuration['home']} && exit 9; exit 0"
    )
    secrets = {"AGENTIC_OS_CREDENTIAL_FILE": str(credential)}
    agent = await board.add_agent("lowly", shell(script), open_workspace, secret_files=secrets)
    await assign(board, agent, "user-1")
    assert (await run_of(board, "user-1", SETTLED))["exit_code"] == 0
    assert "nobody" == (open_workspace / "who").read_text().strip()
    assert "root" not in (open_workspace / "groups").read_text().split()
    assert (open_workspace / "read").read_text() == "the executor's credentialThe brief."
    assert (open_workspace / "token").read_text().startswith("aosb_")

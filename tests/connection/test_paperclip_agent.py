"""What `connect` prints where Paperclip wakes the agents."""

import json
from pathlib import Path

from agentic_os.cli.agents.connect import woken_by_hand
from agentic_os.cli.agents.steps import Connecting
from agentic_os.cli.client import Client
from agentic_os.connection.profile import find_profile
from agentic_os.connection.record import Connection
from agentic_os.home import Home


def test_the_whole_configuration_of_the_agent_is_printed(tmp_path: Path) -> None:
    """Command, arguments, folder and environment are those that the launcher needs, and the link is said."""
    profile = find_profile("codex")
    connection = Connection(
        name="coder",
        kind="client",
        workspace="/srv/shop",
        role="worker",
        project="default",
        plane="paperclip",
        worktree=False,
        profile=profile.model_dump(mode="json"),
    )
    connecting = Connecting(
        home=Home(tmp_path),
        client=Client("http://127.0.0.1:8700", "token"),
        connection=connection,
        profile=profile,
        planned=None,
        repository=None,
        board=None,
        url="http://127.0.0.1:8700",
    )
    told = woken_by_hand(connecting)
    agent = json.loads(told[told.index("{") : told.rindex("}") + 1])
    settings = agent["adapterConfig"]
    assert ("process", "/srv/shop") == (agent["adapterType"], settings["cwd"])
    expected = ["-m", "agentic_os.cli", "executor", "launch", "coder", "--home", str(tmp_path)]
    assert expected == settings["args"]
    assert {
        "AGENTIC_OS_URL": "http://127.0.0.1:8700",
        "AGENTIC_OS_CREDENTIAL_FILE": str(tmp_path / "connections/coder/credential"),
    } == settings["env"]
    heartbeat = agent["runtimeConfig"]["heartbeat"]
    assert (False, True, 1) == tuple(heartbeat[k] for k in ("enabled", "wakeOnDemand", "maxConcurrentRuns"))
    assert "agentic-os account link coder paperclip AGENT_ID" in told
    assert "token" not in told

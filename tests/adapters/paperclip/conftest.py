"""One real Paperclip for all of these tests, installed once into an ignored folder; each test makes its company."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.adapters.paperclip.paperclip_company import Company, Hooks, People
from tests.adapters.paperclip.paperclip_stage import Stage, own, staged
from tests.agents.network import Network

from agentic_os_paperclip.server import PaperclipServer, install

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install_folder() -> Path:
    """Choose the checkout's own folder, or one that the user can reach as whom root runs the server."""
    if os.geteuid() == 0:
        entered = subprocess.run(["/bin/ls", "/"], cwd=ROOT, user="nobody", capture_output=True, check=False)
        if entered.returncode:
            return Path("/var/tmp/agentic-os-paperclip")
    return ROOT / ".paperclip"


def choose_database_port(data: Path) -> None:
    """Choose where the server's database listens: its sockets are in /tmp, also those of servers in other networks."""
    place = data / "instances" / "default"
    place.mkdir(parents=True)
    document = {
        "$meta": {"version": 1, "updatedAt": "2026-01-01T00:00:00.000Z", "source": "onboard"},
        "database": {"mode": "embedded-postgres", "embeddedPostgresDataDir": str(place / "db")}
        | {"embeddedPostgresPort": free_port()},
        "logging": {"mode": "file", "logDir": str(place / "logs")},
        "server": {},
    }
    (place / "config.json").write_text(json.dumps(document))
    for path in (data, *data.rglob("*")):
        own(path)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Make the network of the server and of all that it starts; where root runs the tests, it ends at loopback."""
    found = Network()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def loopback_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """Be in the server's network during each test with one."""
    if request.node.get_closest_marker("paperclip") is None:
        yield
        return
    with request.getfixturevalue("network").entered():
        yield


@pytest.fixture(scope="session")
def hooks(network: Network) -> Iterator[Hooks]:
    with ExitStack() as stack:
        with network.entered():
            hooks = stack.enter_context(Hooks())
        yield hooks


@pytest.fixture(scope="session")
def paperclip(hooks: Hooks, network: Network) -> Iterator[PaperclipServer]:
    installed = install(install_folder(), print)
    data = Path(tempfile.mkdtemp(prefix="aos-paperclip-"))
    data.chmod(0o755)
    try:
        with ExitStack() as stack:
            with network.entered():
                choose_database_port(data)
                server = PaperclipServer(installed, data, free_port(), hooks=[hooks.origin])
                stack.enter_context(server)
            yield server
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def people(paperclip: PaperclipServer, network: Network) -> Iterator[People]:
    with network.entered():
        people = People(paperclip.url)
    yield people
    people.close()


@pytest.fixture
def stage(paperclip: PaperclipServer, people: People, hooks: Hooks) -> Iterator[Stage]:
    with staged(Company(paperclip, people, hooks)) as stage:
        yield stage


if __name__ == "__main__":  # bin/test asks where to install
    print(install_folder())  # noqa: T201

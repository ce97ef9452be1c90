"""One real Paperclip for all of these tests, installed once into an ignored folder; each test makes its company."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.paperclip.paperclip_company import Company, Hooks, People
from tests.adapters.paperclip.paperclip_stage import Stage, staged

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


@pytest.fixture(scope="session")
def hooks() -> Iterator[Hooks]:
    with Hooks() as hooks:
        yield hooks


@pytest.fixture(scope="session")
def paperclip(hooks: Hooks) -> Iterator[PaperclipServer]:
    installed = install(install_folder(), print)
    data = Path(tempfile.mkdtemp(prefix="aos-paperclip-"))
    data.chmod(0o755)
    try:
        with PaperclipServer(installed, data, free_port(), hooks=[hooks.origin]) as server:
            yield server
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def people(paperclip: PaperclipServer) -> Iterator[People]:
    people = People(paperclip.url)
    yield people
    people.close()


@pytest.fixture
def stage(paperclip: PaperclipServer, people: People, hooks: Hooks) -> Iterator[Stage]:
    with staged(Company(paperclip, people, hooks)) as stage:
        yield stage


if __name__ == "__main__":  # bin/test asks where to install
    print(install_folder())  # noqa: T201

"""What the tests with real clients share: a network that ends at this machine, and the whole product in it."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.clients import CLIENTS, Client, repository
from tests.agents.model import running_model
from tests.agents.product import Connect, Product, running_product

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


def may_isolate() -> bool:
    """Say whether this user may make a network namespace."""
    probe = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    try:
        return 0 == subprocess.run(probe, capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how far a client can reach, where clients are tested."""
    if "not agents" in str(config.getoption("markexpr")):
        return None
    if may_isolate():
        return "agents' clients: in a network of their own, that ends at loopback"
    return (
        "agents' clients: NOT isolated, as this user may not make a network namespace; they could reach out"
    )


@pytest.fixture(scope="session")
def loopback_only() -> Iterator[None]:
    """Put this process into a network namespace that has nothing but loopback, and all that it starts."""
    if not may_isolate():
        yield
        return
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert 0 == _libc.unshare(_NEW_NETWORK), os.strerror(ctypes.get_errno())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    assert Path("/proc/self/ns/net").exists()
    yield
    assert 0 == _libc.setns(before, _NEW_NETWORK), os.strerror(ctypes.get_errno())
    os.close(before)


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that is not in /tmp, where sandboxes let everybody write."""
    found = Path(tempfile.mkdtemp(prefix="agentic-os-agents-", dir="/var/tmp"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="session")
def product(loopback_only: None) -> Iterator[Product]:
    """Run one stack for all tests of this worker, with all clients on its path and one model."""
    found = Path(tempfile.mkdtemp(prefix="agentic-os-agents-", dir="/var/tmp"))
    with running_model() as model, running_product(found, model) as running:
        yield running
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(params=CLIENTS, ids=str)
def client(request: pytest.FixtureRequest) -> Client:
    """Choose a client."""
    found: Client = request.param
    return found


@pytest.fixture
def connected(product: Product) -> Connect:
    """Connect a client to a repository of its own, without the test wake, which takes its time."""

    def connect(client: str, name: str, *options: object) -> Path:
        workspace = repository(product.place / "workspaces" / name)
        product.connect(client, workspace, name, "--no-test", *options)
        return workspace

    return connect

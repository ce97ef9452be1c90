"""What the tests with real clients share: a network that ends at this machine, and the whole product in it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.agents.clients import CLIENTS, Client, repository
from tests.agents.model import running_model
from tests.agents.network import Network, may_isolate
from tests.agents.product import Connect, Product, running_product


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
def network() -> Iterator[Network]:
    """Make one network for all tests of this worker."""
    found = Network()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def loopback_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """Be in the network that ends at loopback during each test with a client, and out of it between tests."""
    if request.node.get_closest_marker("agents") is None:
        yield
        return
    with request.getfixturevalue("network").entered():
        yield


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that is not in /tmp, where sandboxes let everybody write."""
    found = Path(tempfile.mkdtemp(prefix="agentic-os-agents-", dir="/var/tmp"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="session")
def product(network: Network) -> Iterator[Product]:
    """Run one stack for all tests of this worker, with all clients on its path and one model."""
    found = Path(tempfile.mkdtemp(prefix="agentic-os-agents-", dir="/var/tmp"))
    with ExitStack() as stack:
        with network.entered():
            model = stack.enter_context(running_model())
            running = stack.enter_context(running_product(found, model))
        yield running
        with network.entered():
            stack.close()
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

"""Control planes are found by what is installed, and a broken one says whose it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentic_os.control_plane import discovery
from agentic_os.control_plane.discovery import PluginError

Install = Callable[..., None]

PLUGIN = """
class Plugin:
    def open(self, settings): return settings.url
    def companion(self, settings): return None

PLUGIN = Plugin()
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with one module and one control plane, into a folder on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(distribution: str, *, name: str, module: str, source: str = PLUGIN) -> None:
        metadata = tmp_path / f"{distribution}-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (metadata / "entry_points.txt").write_text(f"[agentic_os.control_planes]\n{name} = {module}:PLUGIN\n")
        (tmp_path / f"{module}.py").write_text(source)

    return write


def test_an_installed_plugin_is_found_and_opened(install: Install):
    """A control plane of another distribution must be found by its name, beside our own."""
    install("bean-tracker", name="beans", module="bean_tracker_found")
    assert {"beans", "board"} <= set(discovery.installed())
    assert discovery.open_plugin("beans").companion is not None


def test_listing_imports_nothing(install: Install):
    """A broken plugin that nobody uses must not be in the way."""
    install("bean-tracker", name="beans", module="bean_tracker_listed", source="raise SystemExit")
    assert "beans" in discovery.installed()


def test_an_unknown_name_lists_what_is_installed(install: Install):
    """A mistyped name must be answered with the names that would do."""
    install("bean-tracker", name="beans", module="bean_tracker_known")
    with pytest.raises(PluginError, match=r"'bean'; installed: .*beans, board"):
        discovery.open_plugin("bean")


def test_a_plugin_that_does_not_import_names_its_distribution(install: Install):
    """Whoever reads the error must learn which distribution is broken, and how."""
    install("bean-tracker", name="beans", module="bean_tracker_broken", source="import no_such_module")
    with pytest.raises(PluginError, match=r"bean-tracker 1\.2.* ModuleNotFoundError: .*no_such_module"):
        discovery.open_plugin("beans")


def test_an_entry_point_to_nothing_names_its_distribution(install: Install):
    """A module without the object that its entry point names must be told the same way."""
    install("bean-tracker", name="beans", module="bean_tracker_empty", source="")
    with pytest.raises(PluginError, match=r"bean-tracker 1\.2.* AttributeError"):
        discovery.open_plugin("beans")


def test_a_plugin_of_another_shape_names_what_it_lacks(install: Install):
    """What is no Plugin must be refused when it is opened, not when it is first used."""
    install("bean-tracker", name="beans", module="bean_tracker_odd", source="PLUGIN = object()")
    with pytest.raises(PluginError, match="no method open and no method companion"):
        discovery.open_plugin("beans")


def test_two_plugins_of_one_name_are_refused(install: Install):
    """Which of two rivals gets our credentials must never depend on the order of a path."""
    install("bean-tracker", name="beans", module="bean_tracker_one")
    install("pea-tracker", name="beans", module="pea_tracker_one")
    with pytest.raises(PluginError, match=r"bean-tracker 1\.2 and pea-tracker 1\.2 both"):
        discovery.open_plugin("beans")

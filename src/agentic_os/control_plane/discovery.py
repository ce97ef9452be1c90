"""Find installed control planes by the entry points of their distributions."""

from importlib.metadata import EntryPoint, entry_points

from agentic_os.control_plane import Plugin

__all__ = ["GROUP", "PluginError", "installed", "open_plugin"]

GROUP = "agentic_os.control_planes"


class PluginError(Exception):
    """A control plane cannot be used as it is installed; the message says what to do."""


def installed() -> list[str]:
    """List the names of the installed control planes, sorted, without importing any."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def open_plugin(name: str) -> Plugin:
    """Import the control plane of this name.

    Raises PluginError when no distribution or more than one offers it, when it does not import, and when what
    it names is no Plugin.
    """
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        known = ", ".join(installed()) or "none"
        raise PluginError(
            f"no control plane is named {name!r}; installed: {known}. Install its distribution."
        )
    if len(points) > 1:
        rivals = " and ".join(sorted(_distribution(point) for point in points))
        raise PluginError(f"{rivals} both offer a control plane named {name!r}; uninstall one.")
    return _load(points[0])


def _load(point: EntryPoint) -> Plugin:
    origin = f"control plane {point.name!r} ({point.value}, of {_distribution(point)})"
    try:
        plugin = point.load()
    except Exception as error:
        raise PluginError(f"{origin} does not import: {type(error).__name__}: {error}") from error
    missing = [method for method in ("open", "companion") if not callable(getattr(plugin, method, None))]
    if missing:
        raise PluginError(f"{origin} is no plugin: it has no method {' and no method '.join(missing)}")
    checked: Plugin = plugin
    return checked


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"

"""A network namespace that ends at this machine, for what must not be able to call home."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


def may_isolate() -> bool:
    """Say whether this user may make a network namespace."""
    probe = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    try:
        return 0 == subprocess.run(probe, capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


class Network:
    """A network namespace that has nothing but loopback; or, where none may be made, the machine's own."""

    def __init__(self) -> None:
        self._inside: int | None = None
        if may_isolate():
            before = _namespace()
            _checked(_libc.unshare(_NEW_NETWORK))
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            self._inside = _namespace()
            _leave_for(before)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it, with all that is started meanwhile."""
        if self._inside is None:
            yield
            return
        before = _namespace()
        _checked(_libc.setns(self._inside, _NEW_NETWORK))
        try:
            yield
        finally:
            _leave_for(before)

    def close(self) -> None:
        """Let go of it; it ends with the last process in it."""
        if self._inside is not None:
            os.close(self._inside)


def _namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _leave_for(namespace: int) -> None:
    _checked(_libc.setns(namespace, _NEW_NETWORK))
    os.close(namespace)


def _checked(result: int) -> None:
    assert 0 == result, os.strerror(ctypes.get_errno())

"""Runs the server: configuration in on standard input, out when it ends or a signal comes."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

import uvicorn

from .app import create_app
from .board import Board, open_board
from .configuration import BadConfiguration, Configuration, read_configuration
from .database import AlreadyServed, DatabaseError, EditedMigration
from .live import Live
from .workspace import NotPrepared

_MAX_CONFIGURATION = 64 * 1024
_logger = logging.getLogger(__name__)


class CannotServe(Exception):
    """The server cannot start as it was told; the message says what to change."""


class _Server(uvicorn.Server):
    """A server that leaves signals to us, and ends the streams of open pages before it waits for requests."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._live.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def main(standard_input: BinaryIO) -> int:
    """Serve until told to stop; the exit code is 0, 1 for a failure, or 2 for settings that cannot work."""
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        configuration = read_configuration(standard_input.readline(_MAX_CONFIGURATION))
        asyncio.run(_serve(configuration, standard_input.fileno()))
    except (BadConfiguration, CannotServe, AlreadyServed, EditedMigration, NotPrepared, LookupError) as error:
        print(f"agentic-os-board: {error}", file=sys.stderr)  # noqa: T201 - the last word goes to the terminal
        return 2
    except (DatabaseError, OSError) as error:
        print(f"agentic-os-board: {error}", file=sys.stderr)  # noqa: T201 - the last word goes to the terminal
        return 1
    return 0


async def _serve(configuration: Configuration, input_descriptor: int) -> None:
    with _listen(configuration.host, configuration.port) as listener:
        port: int = listener.getsockname()[1]
        configuration = configuration.model_copy(update={"port": port})
        async with open_board(configuration) as board:
            server = _Server(
                uvicorn.Config(
                    create_app(board),
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=1,
                ),
                board.live,
            )
            _stop_when_told(server, input_descriptor)
            if board.runner.sharing:
                _logger.warning("%s", board.runner.sharing)
            # Whoever started us with port 0 learns the port, and that requests are accepted from now on.
            print(f"agentic-os-board: serving {configuration.local_url}", flush=True)  # noqa: T201 - as it says
            await _until_stopped(server, listener, board)


async def _until_stopped(server: uvicorn.Server, listener: socket.socket, board: Board) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.wait({serving, board.background}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    if board.background.done():
        board.background.result()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, because asyncio sends small answers at once only on sockets that say so.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Two servers may bind with SO_REUSEADDR; only one may listen.
        listener.listen(256)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = (
                f"port {port} of {host} is taken; stop what uses it, or choose another port for the board"
            )
            raise CannotServe(message) from None
        raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _stop_when_told(server: uvicorn.Server, input_descriptor: int) -> None:
    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: stop())

    def wait_for_end_of_input() -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while os.read(input_descriptor, 4096):
                pass
            loop.call_soon_threadsafe(stop)

    # A thread, because standard input may be anything; a daemon, because it may never end.
    threading.Thread(target=wait_for_end_of_input, daemon=True).start()

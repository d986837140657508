"""Listen to HTTP by uvicorn, with a limit on how long a sender may take, and end when asked to.

uvicorn waits for ever for a request that never comes whole, so anybody could hold connections
until no file descriptor is left for the portal's deliveries. And once asked to end it sends
itself the signal again, which does nothing to the first process of a container, while Python
joins every thread before it ends: one call to an engine that does not answer would hold the
process for minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http import h11_impl

from provisioner import errors, telemetry

_log = telemetry.Log(__name__)


class Connection(h11_impl.H11Protocol):
    """Close a connection on which an exchange, from its first byte to its last, takes too long."""

    exchange_seconds: ClassVar[float] = 30.0
    """A delivery waits for the store alone, which gives up after a few seconds."""
    last_seconds: ClassVar[float] = 1.0
    """What a request that is still arriving gets when the service stops."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a sender may also be slow with its first byte."""
        super().connection_made(transport)
        self._limit_to(self.exchange_seconds)

    def on_response_complete(self) -> None:
        """Start the clock of the next exchange; an idle connection is closed before by uvicorn."""
        self._limit_to(self.exchange_seconds)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._unlimit()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close when the answer is out; hurry those who have not asked yet."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self._limit_to(self.last_seconds)

    def _limit_to(self, seconds: float) -> None:
        self._unlimit()
        self._limit = self.loop.call_later(seconds, self.transport.abort)

    def _unlimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def take(host: str, port: int) -> socket.socket:
    """Take the port before any work begins; uvicorn would start the workers first.

    Callers wait from here on. The protocol must be named: asyncio sets TCP_NODELAY on what names
    it, and without it every answer waits 40 ms for an acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        try:
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            stack.callback(listening.close)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(2048)
        except OSError as exc:
            raise errors.ConfigurationError(
                (f"PROV_PORT: expects a port to listen on at PROV_HOST: {exc.strerror}",)
            ) from exc
        stack.pop_all()
    return listening


def listen(app: Any, listening: socket.socket, *, drain_seconds: int) -> None:
    """Answer requests until SIGTERM or SIGINT; those under way get `drain_seconds` to end."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=drain_seconds,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn puts these back before it sends itself the signal again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[listening])


def leave(code: int) -> None:
    """End the process now if a thread is still in a call that would hold it."""
    held = [each for each in threading.enumerate() if _holds(each)]
    if held:
        _log.warning("ended in the middle of calls", threads=len(held))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)


def _holds(thread: threading.Thread) -> bool:
    return thread.is_alive() and not thread.daemon and thread is not threading.main_thread()

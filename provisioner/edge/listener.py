"""Listen to HTTP by uvicorn, within limits on what senders may take, and end when asked to.

uvicorn waits for ever for a request that never comes whole, so anybody could hold connections
until no file descriptor is left for the portal's deliveries; its own limit on connections would
refuse everybody, the portal too, as long as somebody holds them (`crowd`). And once asked to end
it sends itself the signal again, which does nothing to the first process of a container, while
Python joins every thread before it ends: one call to an engine that does not answer would hold
the process for minutes.
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

import h11
import uvicorn
from uvicorn.protocols.http import h11_impl

from provisioner import errors, telemetry
from provisioner.edge import crowd

_log = telemetry.Log(__name__)


_LARGEST_HEAD_BYTES = 16 * 1024
_MOST_HEADERS = 128
_MOST_PARTS = 2048
"""Of a body: 1 MiB in pieces of a byte would keep the server busy for many seconds."""
_BACKLOG = 2048
_ACCEPTED_AT_ONCE = 64
"""Connections taken in before those that are there get their turn."""


class Connection(h11_impl.H11Protocol):
    """Close a connection on which an exchange, from its first byte to its last, takes too long."""

    exchange_seconds: ClassVar[float] = 30.0
    """A delivery waits for the store alone, which gives up after a few seconds."""
    last_seconds: ClassVar[float] = 1.0
    """What a request that is still arriving gets when the service stops."""
    crowd: ClassVar[crowd.Crowd] = crowd.Crowd(2**20)

    _limit: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Parser(h11.SERVER, _LARGEST_HEAD_BYTES)

    @property
    def is_awaited(self) -> bool:
        """Tell whether it is the sender's turn: nothing whole is being answered."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a sender may also be slow with its first byte."""
        super().connection_made(transport)
        self.transport = _Corked(transport, self.loop)  # type: ignore[assignment]
        self._limit_to(self.exchange_seconds)
        self.crowd.join(self, self.client[0] if self.client else "")

    def on_response_complete(self) -> None:
        """Start the clock of the next exchange; an idle connection is closed before by uvicorn."""
        self._limit_to(self.exchange_seconds)
        self.crowd.renew(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._unlimit()
        self.crowd.leave(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; where an answer has begun, there is none to give but the end."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # what reads the body learns that it ends here
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        """Close when the answer is out; hurry those who have not asked yet."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self._limit_to(self.last_seconds)

    def abort(self) -> None:
        """Hang up at once, in favour of others."""
        self.transport.abort()

    def _limit_to(self, seconds: float) -> None:
        self._unlimit()
        self._limit = self.loop.call_later(seconds, self.transport.abort)

    def _unlimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class _Parser(h11.Connection):
    """Refuse what is cheap to send and dear to read: many headers, a body in crumbs."""

    _parts = 0

    def next_event(self) -> Any:
        """Return the next event, as h11 does."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._parts += 1
            if self._parts > _MOST_PARTS:
                raise h11.RemoteProtocolError("the body comes in too many parts")
        elif isinstance(event, h11.Request):
            self._parts = 0
            if len(event.headers) > _MOST_HEADERS:
                raise h11.RemoteProtocolError("too many headers")
        return event


class _Corked:
    """Send in one packet what uvicorn writes in three: each costs a system call and a wake-up."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send before anything else happens on the loop."""
        if not data:
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """Send what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held:
            self._transport.write(b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


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
            listening.listen(_BACKLOG)
        except OSError as exc:
            raise errors.ConfigurationError(
                (f"PROV_PORT: expects a port to listen on at PROV_HOST: {exc.strerror}",)
            ) from exc
        stack.pop_all()
    return listening


def listen(app: Any, listening: socket.socket, *, drain_seconds: int) -> None:
    """Answer requests until SIGTERM or SIGINT; those under way get `drain_seconds` to end."""

    class Crowded(Connection):
        crowd = crowd.Crowd(crowd.most_connections())

    server = _Server(
        uvicorn.Config(
            app,
            http=Crowded,
            backlog=_ACCEPTED_AT_ONCE,
            ws="none",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=drain_seconds,
        )
    )

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn puts these back before it sends itself the signal again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Take connections in by small groups from a long queue; asyncio has one number for both."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, which makes the queue short."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)


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

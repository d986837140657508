"""Serve the application by uvicorn, and end within the grace period on SIGTERM."""

from __future__ import annotations

import contextlib
import socket

from provisioner import app, errors, telemetry
from provisioner.settings import Settings

_log = telemetry.Log(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raise `ConfigurationError` before anything listens."""
    import uvicorn

    parts = app.assemble(settings)
    try:
        app.prepare(parts)
        listening = _listen(settings.host, settings.port)
    except BaseException:
        parts.close()
        raise
    _log.info(
        "serving",
        host=settings.host,
        port=settings.port,
        mode=settings.mode.value,
        workspaces=str(settings.template_output_path),
        portal=settings.dpp_api_url,
    )
    config = uvicorn.Config(
        app.create_app(parts),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        h11_max_incomplete_event_size=64 * 1024,
    )
    with contextlib.closing(listening):
        uvicorn.Server(config).run(sockets=[listening])
    _log.info("ended")


def _listen(host: str, port: int) -> socket.socket:
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

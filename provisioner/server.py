"""Serve the application by uvicorn, and end within the grace period on SIGTERM."""

from __future__ import annotations

from provisioner import app, telemetry
from provisioner.settings import Settings

_log = telemetry.Log(__name__)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raise `ConfigurationError` before anything listens."""
    import uvicorn

    parts = app.assemble(settings)
    try:
        app.prepare(parts)
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
    uvicorn.Server(config).run()
    _log.info("ended")

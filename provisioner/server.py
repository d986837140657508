"""Serve the application, and end within the grace period on SIGTERM."""

from __future__ import annotations

import contextlib
import sys

from provisioner import app, assembly, sealing, telemetry
from provisioner.settings import Settings

_SWITCH_SECONDS = 0.0005
"""How long a thread may compute while another waits: an acknowledgement changes threads twice, and
at Python's own 5 ms it would wait that long for every worker that is busy."""
_log = telemetry.Log(__name__)
_DRAIN_SECONDS = 2
"""What senders get at a stop: the grace period is for the workers, who stop after them."""


def serve(settings: Settings, *, lost_sealing_key: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; raise `ConfigurationError` before anything listens.

    With `lost_sealing_key` forget before that what no key opens.
    """
    from provisioner.edge import listener

    parts = _recovered(settings) if lost_sealing_key else assembly.assemble(settings)
    try:
        assembly.prepare(parts)
        application = app.create_app(parts)
        listening = listener.take(settings.host, settings.port)
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
    sys.setswitchinterval(_SWITCH_SECONDS)
    with contextlib.closing(listening):
        listener.listen(
            application,
            listening,
            drain_seconds=min(settings.shutdown_seconds, _DRAIN_SECONDS),
        )
    _log.info("ended")
    listener.leave(0)


def _recovered(settings: Settings) -> assembly.Parts:
    """Build every part on a store from which the secrets that no key opens are gone."""
    kept = sealing.recover(settings, clock=assembly.utc_now)
    try:
        return assembly.assemble(settings, kept=kept)
    except BaseException:
        kept.close()
        raise

"""Show how the service is: probes and metrics, for anybody who can reach the port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import exposition
from starlette import requests, responses, routing

from provisioner import errors, telemetry
from provisioner.edge import answers

Health = Callable[[], tuple[bool, Mapping[str, object]]]
"""Tell whether all is well, and the facts behind it."""
_Answer = Callable[[requests.Request], Awaitable[responses.Response]]


def routes(*, health: Health, ready: Health, metrics: telemetry.Metrics) -> list[routing.Route]:
    """Return the routes of probes and metrics."""
    return [
        routing.Route("/health", _probe(health)),
        routing.Route("/healthz", _probe(health)),
        routing.Route("/readyz", _probe(ready, in_thread=True)),
        routing.Route("/metrics", _exposition(metrics)),
    ]


def _probe(check: Health, *, in_thread: bool = False) -> _Answer:
    async def answer(_request: requests.Request) -> responses.Response:
        try:
            well, facts = await asyncio.to_thread(check) if in_thread else check()
        except errors.StoreUnavailable as exc:
            well, facts = False, {"error": exc.message}
        return answers.as_json(
            {"status": "ok" if well else "failing", **facts}, 200 if well else 503
        )

    return answer


def _exposition(metrics: telemetry.Metrics) -> _Answer:
    async def answer(_request: requests.Request) -> responses.Response:
        text = exposition.generate_latest(metrics.registry)
        return responses.Response(text, media_type=exposition.CONTENT_TYPE_LATEST)

    return answer

"""Write answers of our own HTTP interface as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from starlette import responses


def as_json(
    answer: Mapping[str, object], status_code: int = 200, headers: Mapping[str, str] | None = None
) -> responses.Response:
    """Answer with JSON that nobody keeps: dates as ISO 8601."""
    return responses.Response(
        json.dumps(answer, default=_plain),
        status_code,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def _plain(value: object) -> str:
    """Write dates as ISO 8601; whatever else JSON does not know, as text."""
    iso: Callable[[], str] | None = getattr(value, "isoformat", None)
    return iso() if iso else str(value)

"""Turn calls to a small portal into answers: bodies in, JSON or a refusal out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from provisioner.demo.portal.entities import Refused, Style
from provisioner.demo.portal.records import PortalRecords, new_id

PRODUCTS = "/api/v2/data_products"
PRODUCT = f"{PRODUCTS}/{{product}}"
PORT = f"{PRODUCT}/output_ports/{{port}}"

Handler = Callable[..., Any]
"""Take `body` and the ids in the path; return JSON, or a status and JSON."""

Listed = tuple[str, str, Handler]
"""Method, path and handler of a route."""


def refusal(status: int, detail: object) -> JSONResponse:
    """Refuse in the portal's words."""
    return JSONResponse({"correlation_id": new_id(), "detail": detail}, status)


def demand(body: Any, *names: str) -> None:
    """Refuse a body that lacks a field, with 422."""
    if not isinstance(body, dict):
        raise Refused(422, [{"type": "model_attributes_type", "loc": ["body"]}])
    missing = [name for name in names if name not in body]
    if missing:
        raise Refused(
            422,
            [
                {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": body}
                for name in missing
            ],
        )


def wanted_port(wanted: Any, style: Style) -> str:
    """Take a port's id from a request for access; on the newest portal an object names it."""
    if style.access_modes:
        if not isinstance(wanted, dict):
            raise Refused(422, [{"type": "model_attributes_type", "loc": ["body"]}])
        wanted = wanted.get("output_port_id")
    return str(wanted)


def routes(records: PortalRecords, listed: Iterable[Listed]) -> list[Route]:
    """Make routes that note which events a call made happen in the scope's `happened`."""

    def endpoint(handler: Handler) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            raw = await request.body()
            try:
                body = json.loads(raw) if raw else {}
            except ValueError:
                return refusal(422, [{"type": "json_invalid", "loc": ["body"]}])
            records.events.clear()
            try:
                said = handler(body=body, **request.path_params)
            except Refused as exc:
                return refusal(exc.status, exc.detail)
            request.scope["happened"] = tuple(records.events)
            status, content = said if isinstance(said, tuple) else (200, said)
            return JSONResponse(content, status)

        return answer

    return [Route(path, endpoint(handler), methods=[method]) for method, path, handler in listed]

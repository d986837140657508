"""Show how the service is, and let an operator ask for work: probes, metrics, admin API.

Nothing is done here: what is asked for goes into the queue or becomes a flag, and the workers
take it from there. Without any token the admin API does not exist.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import exposition
from starlette import requests, responses, routing

from provisioner import errors, model, names, ports, shown, signature, telemetry

Health = Callable[[], tuple[bool, Mapping[str, object]]]
"""Tell whether all is well, and the facts behind it."""
_Answer = Callable[[requests.Request], Awaitable[responses.Response]]
_LATER = ("rotate", "adopt", "purge")
_LONGEST_PAGE = 500
_OUTCOMES_SHOWN = 50


class ProductRecords(Protocol):
    """Find records for a person who looks."""

    def load(self, key: model.Key) -> model.Record | None:
        """Return the record of a key."""

    def by_namespace(self, namespace: str) -> model.Record | None:
        """Return the record of a namespace; the living before the released."""

    def page(self, *, limit: int, after: model.Key | None = None) -> tuple[model.Record, ...]:
        """Return records by key, those behind `after`."""


class _Refusal(Exception):
    """Answer a request with an error."""

    def __init__(self, status_code: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message
        self.headers = headers


def routes(
    *,
    health: Health,
    ready: Health,
    metrics: telemetry.Metrics,
    records: ProductRecords,
    history: ports.History,
    queue: ports.Workqueue,
    flags: ports.Flags,
    clock: ports.Clock,
    admin_tokens: tuple[str, ...] = (),
    read_tokens: tuple[str, ...] = (),
    wake: Callable[[], None] = lambda: None,
) -> list[routing.Route]:
    """Return the routes of probes, metrics and admin API; `wake` is called after each request.

    `clock` dates the ages of keys.
    """
    tokens = _Tokens(admin_tokens, read_tokens)
    api = _Api(records, history, queue, flags, clock, wake)

    def route(method: str, path: str, answer: _Answer) -> routing.Route:
        return routing.Route(f"/api/v1/{path}", _guarded(answer, tokens), methods=[method])

    return [
        routing.Route("/health", _probe(health)),
        routing.Route("/healthz", _probe(health)),
        routing.Route("/readyz", _probe(ready, in_thread=True)),
        routing.Route("/metrics", _exposition(metrics)),
        route("GET", "products", api.products),
        route("GET", "products/{id}", api.product),
        route("POST", "products/{id}/reconcile", api.reconcile),
        *(route("POST", f"products/{{id}}/{verb}", api.later) for verb in _LATER),
        route("GET", "deliveries", api.deliveries),
        route("POST", "resync", api.resync),
    ]


def _probe(check: Health, *, in_thread: bool = False) -> _Answer:
    async def answer(_request: requests.Request) -> responses.Response:
        try:
            well, facts = await asyncio.to_thread(check) if in_thread else check()
        except errors.StoreUnavailable as exc:
            well, facts = False, {"error": exc.message}
        return _json({"status": "ok" if well else "failing", **facts}, 200 if well else 503)

    return answer


def _exposition(metrics: telemetry.Metrics) -> _Answer:
    async def answer(_request: requests.Request) -> responses.Response:
        text = exposition.generate_latest(metrics.registry)
        return responses.Response(text, media_type=exposition.CONTENT_TYPE_LATEST)

    return answer


class _Tokens:
    """Decide who may do what."""

    def __init__(self, admin: Iterable[str], read: Iterable[str]) -> None:
        self._admin = [token.encode() for token in admin if token]
        self._read = [token.encode() for token in read if token]

    def check(self, request: requests.Request) -> None:
        """Raise `_Refusal` unless the request may be answered."""
        if not (self._admin or self._read):
            raise _Refusal(404, "not found")
        given = [value for name, value in request.scope["headers"] if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        may_write = signature.is_one_of(token.strip(), self._admin)
        may_read = signature.is_one_of(token.strip(), self._read) or may_write
        if scheme.lower() != b"bearer" or not may_read:
            raise _Refusal(401, "a bearer token is needed", **{"www-authenticate": "Bearer"})
        if request.method not in ("GET", "HEAD") and not may_write:
            raise _Refusal(403, "this token may only read")


def _guarded(answer: _Answer, tokens: _Tokens) -> _Answer:
    """Let only bearers of a token in, and turn failures into JSON."""

    @functools.wraps(answer)
    async def guarded(request: requests.Request) -> responses.Response:
        try:
            tokens.check(request)
            return await answer(request)
        except _Refusal as exc:
            return _json({"error": exc.message}, exc.status_code, exc.headers)
        except errors.StoreUnavailable as exc:
            return _json({"error": exc.message}, 503)

    return guarded


class _Api:
    """Answer the admin API; the store is asked in threads."""

    def __init__(
        self,
        records: ProductRecords,
        history: ports.History,
        queue: ports.Workqueue,
        flags: ports.Flags,
        clock: ports.Clock,
        wake: Callable[[], None],
    ) -> None:
        self._records = records
        self._history = history
        self._queue = queue
        self._flags = flags
        self._clock = clock
        self._wake = wake

    async def products(self, request: requests.Request) -> responses.Response:
        """List what is known, by key; `next` is the `after` of the next page."""
        limit = _limit(request)
        after = request.query_params.get("after")
        found = await asyncio.to_thread(
            self._records.page, limit=limit + 1, after=None if after is None else _cursor(after)
        )
        page = found[:limit]
        more = str(page[-1].key) if len(found) > limit else None
        return _json({"products": [shown.summary(record) for record in page], "next": more})

    async def product(self, request: requests.Request) -> responses.Response:
        """Show one product by id or namespace."""
        record = await asyncio.to_thread(self._find, request.path_params["id"])
        if record is None:
            raise _Refusal(404, "no product has this id or namespace")
        outcomes = await asyncio.to_thread(
            self._history.outcomes, record.key, limit=_OUTCOMES_SHOWN
        )
        history = [dict(outcome) for outcome in outcomes]
        return _json(shown.whole(record, self._clock()) | {"history": history})

    async def reconcile(self, request: requests.Request) -> responses.Response:
        """Queue one product; an id need not be known yet, the portal may know it."""
        name = request.path_params["id"]
        record = await asyncio.to_thread(self._find, name)
        key = record.key if record else next(iter(_keys_named(name)), None)
        if key is None:
            raise _Refusal(404, "no product has this id or namespace")
        await asyncio.to_thread(self._queue.touch, [key], model.Priority.EVENT)
        self._wake()
        return _json({"status": "queued", "key": str(key)}, 202)

    async def later(self, _request: requests.Request) -> responses.Response:
        """Say that rotation, adoption and purging are not in this release."""
        raise _Refusal(501, "this release cannot do that yet; nothing was changed")

    async def deliveries(self, request: requests.Request) -> responses.Response:
        """List what arrived, newest first; `next` is the `before` of the next page."""
        limit = _limit(request)
        before = request.query_params.get("before")
        found = await asyncio.to_thread(
            self._history.deliveries,
            limit=limit + 1,
            before=None if before is None else _number(before, 2**63 - 1),
        )
        page = [dict(delivery) for delivery in found[:limit]]
        more = page[-1]["row_id"] if len(found) > limit else None
        return _json({"deliveries": page, "next": more})

    async def resync(self, request: requests.Request) -> responses.Response:
        """Ask for a resync, and lift the guard against mass deletion where that is confirmed."""
        confirmed = request.query_params.get("confirm_deletions", "false")
        if confirmed not in ("true", "false"):
            raise _Refusal(400, "confirm_deletions is true or false")
        await asyncio.to_thread(self._ask_for_resync, confirmed == "true")
        self._wake()
        return _json({"status": "queued", "deletions_confirmed": confirmed == "true"}, 202)

    def _ask_for_resync(self, deletions_confirmed: bool) -> None:
        if deletions_confirmed:  # first: the resync that is asked for next must see it
            self._flags.put("deletions_confirmed", "yes")
        self._flags.put("resync_wanted", "yes")

    def _find(self, name: str) -> model.Record | None:
        found = (self._records.load(key) for key in _keys_named(name))
        record = next((record for record in found if record is not None), None)
        if record is None and names.is_namespace(name):
            return self._records.by_namespace(name)
        return record


def _keys_named(name: str) -> list[model.Key]:
    """Return the keys that an id may stand for: a product first."""
    try:
        return [model.Key(kind, name.lower()) for kind in model.Kind]
    except ValueError:
        return []


def _cursor(text: str) -> model.Key:
    try:
        return model.Key.parse(text)
    except ValueError as exc:
        raise _Refusal(400, "after is the next of an earlier page") from exc


def _limit(request: requests.Request) -> int:
    return _number(request.query_params.get("limit", "100"), _LONGEST_PAGE)


def _number(text: str, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else 0
    if not 1 <= number <= most:
        raise _Refusal(400, f"a number from 1 to {most} is expected")
    return number


def _json(
    answer: Mapping[str, object], status_code: int = 200, headers: Mapping[str, str] | None = None
) -> responses.Response:
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

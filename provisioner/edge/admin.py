"""Let an operator look at products and ask for work, with a bearer token.

Nothing is done here: what is asked for goes into the queue or becomes a wish or a flag, and the
workers take it from there. Without any token the admin API does not exist.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from starlette import requests, responses, routing

from provisioner import errors, model, names, ports, portviews
from provisioner.domain import obstacles, shown, signature
from provisioner.edge import answers
from provisioner.loop import resync

_Answer = Callable[[requests.Request], Awaitable[responses.Response]]
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
    records: ProductRecords,
    history: ports.History,
    queue: ports.Workqueue,
    asks: ports.Asks,
    flags: ports.Flags,
    views: portviews.PortViews,
    clock: ports.Clock,
    admin_tokens: tuple[str, ...] = (),
    read_tokens: tuple[str, ...] = (),
    wake: Callable[[], None] = lambda: None,
    observes: bool = False,
) -> list[routing.Route]:
    """Return the routes of the admin API; `wake` is called after each request.

    `clock` dates the ages of keys. Where the service only `observes`, nothing can be asked for.
    """
    tokens = _Tokens(admin_tokens, read_tokens)
    api = _Api(records, history, queue, asks, flags, views, clock, wake, observes)

    def route(method: str, path: str, answer: _Answer) -> routing.Route:
        return routing.Route(f"/api/v1/{path}", _guarded(answer, tokens), methods=[method])

    return [
        route("GET", "products", api.products),
        route("GET", "products/{id}", api.product),
        route("GET", "products/{id}/ports/{port}/contract", api.contract),
        route("POST", "products/{id}/reconcile", api.reconcile),
        route("POST", "products/{id}/rotate", api.rotate),
        route("POST", "products/{id}/upgrade", api.upgrade),
        route("POST", "products/{id}/adopt", api.adopt),
        route("POST", "products/{id}/purge", api.purge),
        route("GET", "deliveries", api.deliveries),
        route("POST", "resync", api.resync),
    ]


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
            return answers.as_json({"error": exc.message}, exc.status_code, exc.headers)
        except errors.StoreUnavailable as exc:
            return answers.as_json({"error": exc.message}, 503)

    return guarded


class _Api:
    """Answer the admin API; the store is asked in threads."""

    def __init__(
        self,
        records: ProductRecords,
        history: ports.History,
        queue: ports.Workqueue,
        asks: ports.Asks,
        flags: ports.Flags,
        views: portviews.PortViews,
        clock: ports.Clock,
        wake: Callable[[], None],
        observes: bool,
    ) -> None:
        self._records = records
        self._history = history
        self._queue = queue
        self._asks = asks
        self._flags = flags
        self._views = views
        self._clock = clock
        self._wake = wake
        self._observes = observes

    async def products(self, request: requests.Request) -> responses.Response:
        """List what is known, by key; `next` is the `after` of the next page."""
        limit = _limit(request)
        after = request.query_params.get("after")
        found = await asyncio.to_thread(
            self._records.page, limit=limit + 1, after=None if after is None else _cursor(after)
        )
        page = found[:limit]
        more = str(page[-1].key) if len(found) > limit else None
        return answers.as_json(
            {"products": [shown.summary(record) for record in page], "next": more}
        )

    async def product(self, request: requests.Request) -> responses.Response:
        """Show one product by id or namespace."""
        record = await asyncio.to_thread(self._find, request.path_params["id"])
        if record is None:
            raise _Refusal(404, "no product has this id or namespace")
        outcomes = await asyncio.to_thread(
            self._history.outcomes, record.key, limit=_OUTCOMES_SHOWN
        )
        history = [dict(outcome) for outcome in outcomes]
        seen = portviews.as_json(await asyncio.to_thread(self._views.of, record))
        return answers.as_json(
            shown.whole(record, self._clock()) | {"ports": seen, "history": history}
        )

    async def contract(self, request: requests.Request) -> responses.Response:
        """Show the data contract of one output port, by namespace or id."""
        record = await asyncio.to_thread(self._find, request.path_params["id"])
        if record is None:
            raise _Refusal(404, "no product has this id or namespace")
        try:
            port = request.path_params["port"]
            (document,) = await asyncio.to_thread(self._views.contracts, record, port)
        except errors.PermanentError as exc:
            raise _Refusal(404, exc.message) from exc
        return answers.as_json(document)

    async def reconcile(self, request: requests.Request) -> responses.Response:
        """Queue one product; an id need not be known yet, the portal may know it."""
        name = request.path_params["id"]
        record = await asyncio.to_thread(self._find, name)
        key = record.key if record else next(iter(_keys_named(name)), None)
        if key is None:
            raise _Refusal(404, "no product has this id or namespace")
        verify = _flag(request, "verify")
        if verify and self._observes:
            raise _Refusal(409, "PROV_MODE=observe: nothing is touched")
        await asyncio.to_thread(self._queue_one, key, verify=verify)
        self._wake()
        return answers.as_json({"status": "queued", "key": str(key), "verify": verify}, 202)

    def _queue_one(self, key: model.Key, *, verify: bool) -> None:
        if verify:
            self._asks.ask([key], model.Ask.VERIFY)
        else:
            self._queue.touch([key], model.Priority.EVENT)

    async def rotate(self, request: requests.Request) -> responses.Response:
        """Ask for a new key; where the old ones leaked they die before there is one."""
        compromised = _flag(request, "compromised")
        what = model.Ask.COMPROMISED if compromised else model.Ask.ROTATE
        return await self._ask(request, what, _has_keys, "this product has no keys")

    async def upgrade(self, request: requests.Request) -> responses.Response:
        """Ask to bring a workspace to the template as it is now."""
        return await self._ask(request, model.Ask.UPGRADE, _has_workspace, "it has no workspace")

    async def adopt(self, request: requests.Request) -> responses.Response:
        """Ask to take over what is in a product's way."""
        refusal = "nothing of somebody else's is in this product's way"
        return await self._ask(request, model.Ask.ADOPT, obstacles.is_in_the_way, refusal)

    async def purge(self, request: requests.Request) -> responses.Response:
        """Ask to delete what a released product left; by id where its namespace is used again."""
        refusal = "this product is not released, or was purged"
        return await self._ask(request, model.Ask.PURGE, obstacles.has_remains, refusal)

    async def _ask(
        self,
        request: requests.Request,
        what: model.Ask,
        fits: Callable[[model.Record], bool],
        refusal: str,
    ) -> responses.Response:
        """Note a wish for a known product that it fits."""
        record = await asyncio.to_thread(self._find, request.path_params["id"])
        if record is None:
            raise _Refusal(404, "no product has this id or namespace")
        if self._observes:
            raise _Refusal(409, "PROV_MODE=observe: nothing is touched")
        if not fits(record):
            raise _Refusal(409, refusal)
        await asyncio.to_thread(self._asks.ask, [record.key], what)
        self._wake()
        return answers.as_json({"status": "queued", "key": str(record.key)}, 202)

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
        return answers.as_json({"deliveries": page, "next": more})

    async def resync(self, request: requests.Request) -> responses.Response:
        """Ask for a resync, and lift the guard against mass deletion where that is confirmed."""
        confirmed = _flag(request, "confirm_deletions")
        await asyncio.to_thread(resync.request, self._flags, confirm_deletions=confirmed)
        self._wake()
        return answers.as_json({"status": "queued", "deletions_confirmed": confirmed}, 202)

    def _find(self, name: str) -> model.Record | None:
        found = (self._records.load(key) for key in _keys_named(name))
        record = next((record for record in found if record is not None), None)
        if record is None and names.is_namespace(name):
            return self._records.by_namespace(name)
        return record


def _has_keys(record: model.Record) -> bool:
    return record.phase is model.Phase.ACTIVE and record.released_at is None


def _has_workspace(record: model.Record) -> bool:
    return _has_keys(record) and record.workspace.rendered


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


def _flag(request: requests.Request, name: str) -> bool:
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise _Refusal(400, f"{name} is true or false")
    return text == "true"


def _limit(request: requests.Request) -> int:
    return _number(request.query_params.get("limit", "100"), _LONGEST_PAGE)


def _number(text: str, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else 0
    if not 1 <= number <= most:
        raise _Refusal(400, f"a number from 1 to {most} is expected")
    return number

"""Be a small Data Product Portal, for tests and for the demo.

It answers like one of five versions of the real one, sends that version's webhooks for every
change that it serves over HTTP (our own included), and on demand fails in the ways that portals
and what lies before them fail. `FakePortal.state` is a direct hand on its data, without webhooks.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from provisioner.demo.portal import (
    access_routes,
    call,
    exploration_routes,
    legacy_routes,
    product_routes,
)
from provisioner.demo.portal.entities import STYLES
from provisioner.demo.portal.state import PortalState
from provisioner.demo.portal.webhooks import Webhooks

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHANGES = frozenset({"POST", "PUT", "DELETE"})
_LIST = "data_products"
_OPEN = frozenset({"/api/version", "/api/v2/version"})


@dataclass(kw_only=True)
class Fault:
    """Answer `times` matching calls (for ever where None) wrongly.

    `kind` is `html`, `half` (of the JSON), `hangup` (in the middle of the answer), `empty` or
    `partial` (the list of products), or `status` (with `status`, and `retry_after` if given).
    `method` and `path` (a template such as `/api/v2/data_products/{id}`) match all where None.
    """

    kind: str
    method: str | None = None
    path: str | None = None
    status: int = 500
    retry_after: int | None = None
    times: int | None = None

    def strikes(self, method: str, path: str) -> bool:
        """Tell whether this call is to fail, and count it."""
        if self.times == 0 or self.method not in (None, method) or self.path not in (None, path):
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FakePortal:
    """Serve one version of the portal as an ASGI app; `style` names a key of `STYLES`.

    Who calls is an `admin` of the portal, and, if told so, the `owner` of its explorations.
    """

    def __init__(
        self,
        *,
        style: str = "0.7.0",
        api_key: str | None = None,
        token: str | None = None,
        admin: bool = True,
        owner: bool = False,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        webhook_v2_url: str | None = None,
    ) -> None:
        kind = STYLES[style]
        self.state = PortalState(kind)
        self.requests: Counter[tuple[str, str]] = Counter()
        """Calls by method and path with `{id}` for every id."""
        self.faults: list[Fault] = []
        self.webhooks = Webhooks(
            v1_url=webhook_url if kind.v1 else None,
            v1_secret=webhook_secret,
            v2_url=webhook_v2_url if kind.v2 else None,
        )
        self._proofs = {}
        if api_key is not None:
            self._proofs["x-key"] = api_key
        if token is not None:
            self._proofs["authorization"] = f"Bearer {token}"
        newer = [
            *product_routes.ProductRoutes(self.state, admin=admin).listed(),
            *access_routes.AccessRoutes(self.state).listed(),
            *access_routes.AssetRoutes(self.state, admin=admin).listed(),
            *exploration_routes.ExplorationRoutes(self.state, owner=owner).listed(),
        ]
        listed = legacy_routes.LegacyRoutes(self.state).listed() if kind.legacy else newer
        self._app = Starlette(
            routes=call.routes(self.state, listed),
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _refuse},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.webhooks.running():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call: count it, answer it or fail, and tell the webhooks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = str(scope["method"]), _UUID.sub("{id}", str(scope["path"]))
        self.requests[method, path] += 1
        fault = next((one for one in self.faults if one.strikes(method, path)), None)
        answer = _Answer()
        if fault is not None and (early := _instead(fault)) is not None:
            await early(scope, receive, answer)
        elif not self._allowed(Request(scope)):
            await call.refusal(403, "Unauthenticated")(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)
        if fault is not None:
            answer.spoil(fault)
        await answer.pass_on(send)
        self._announce(scope, answer)

    def _allowed(self, request: Request) -> bool:
        """Tell whether the key or the token is right, where there is one to check."""
        if not self._proofs or request.url.path in _OPEN:
            return True
        return any(
            hmac.compare_digest(request.headers.get(name, "").encode(), proof.encode())
            for name, proof in self._proofs.items()
        )

    def _announce(self, scope: Scope, answer: _Answer) -> None:
        if scope["method"] not in _CHANGES or scope["path"].startswith("/api/auth/"):
            return
        posted = scope["method"] == "POST"
        self.webhooks.changed(
            {
                "method": scope["method"],
                "url": scope["path"],
                "query": scope["query_string"].decode("latin-1"),
                "response": answer.body.decode("utf-8", "replace") if posted else "",
                "status_code": answer.status,
            }
        )
        if answer.status < 400:
            self.webhooks.happened(scope.get("happened", ()))


class _Answer:
    """Keep an answer until it is whole, spoil it if asked to, and pass it on."""

    def __init__(self) -> None:
        self.status = 500
        self.body = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._promised: int | None = None

    async def __call__(self, message: Message) -> None:
        """Take what the app sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = [
                (name, value)
                for name, value in message["headers"]
                if name.lower() != b"content-length"
            ]
        else:
            self.body += message.get("body", b"")

    def spoil(self, fault: Fault) -> None:
        """Make a good answer a bad one."""
        if fault.kind == "half":
            self.body = self.body[: len(self.body) // 2]
        elif fault.kind == "hangup":
            self._promised = len(self.body) + 1
        elif fault.kind in ("empty", "partial"):
            self._thin_out(half=fault.kind == "partial")

    def _thin_out(self, *, half: bool) -> None:
        content = json.loads(self.body)
        found = content if isinstance(content, list) else content.get(_LIST, [])
        del found[len(found) // 2 if half else 0 :]
        self.body = json.dumps(content).encode()

    async def pass_on(self, send: Send) -> None:
        """Send the answer; a promise of more than there is makes the server hang up."""
        length = len(self.body) if self._promised is None else self._promised
        headers = [*self._headers, (b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        more = self._promised is not None
        await send({"type": "http.response.body", "body": self.body, "more_body": more})


def _instead(fault: Fault) -> Response | None:
    """Make the answer that takes the place of the portal's own, if the fault has one."""
    if fault.kind == "html":
        return HTMLResponse("<!doctype html><title>Sign in</title>")
    if fault.kind == "status":
        response = call.refusal(fault.status, "Something went wrong")
        if fault.retry_after is not None:
            response.headers["retry-after"] = str(fault.retry_after)
        return response
    return None


async def _refuse(request: Request, exc: Exception) -> JSONResponse:
    """Say 404 and 405 in the portal's shape."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - it is registered for nothing else
    return call.refusal(exc.status_code, exc.detail)


class RunningPortal:
    """Serve a portal from a thread, by default on a free port of the loopback address.

    `portal` may be exchanged for another while it runs; only the first one sends webhooks.
    """

    def __init__(self, portal: FakePortal, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.portal = portal
        self._address = (host, port)
        self.url = ""

    def __enter__(self) -> RunningPortal:
        """Start; calls are taken from here on, even while the server still gets up."""
        # The protocol must be named: asyncio sets TCP_NODELAY on what names it, and without it
        # every answer waits 40 ms for an acknowledgement.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(self._address)
        self._socket.listen(128)
        host, port = self._socket.getsockname()
        self.url = f"http://{host}:{port}"
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",  # a bound method does not look like one
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="portal",
            daemon=True,
        )
        self._thread.start()
        return self

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.portal(scope, receive, send)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server and wait for its thread."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

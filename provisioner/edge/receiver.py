"""Take in the portal's webhooks: check, store durably, answer; the work is done afterwards.

The order of the checks is fixed: size, JSON, proof, shape, store; a source that was refused too
often is answered before all of them. The portal never retries and waits five seconds at most, so
the answer depends on nothing but our own store; `worker` takes it from there. Bodies are never
logged: some portals put tokens in them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Sequence

from starlette import routing, types

from provisioner import errors, model, ports, telemetry
from provisioner.domain import events, signature
from provisioner.edge import batch, intake, sources

_log = telemetry.Log(__name__)
_PATHS = ("/", "/webhook")
_UNREAD = (errors.PayloadTooLarge, errors.SourceLimited, errors.Overfull)
"""Errors after which a body is left unread."""


class Receiver:
    """Answer `POST /` and `POST /webhook`, an ASGI application; `run` needs a parent.

    Deliveries are refused with 503 while `run` is not under way.
    """

    def __init__(
        self,
        inbox: ports.Inbox,
        proofs: signature.Proofs,
        *,
        clock: ports.Clock,
        new_id: Callable[[], str],
        metrics: telemetry.Metrics,
        on_changed: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proofs = proofs
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics
        self._batch = batch.Batch(inbox, metrics, on_changed)
        self._sources = sources.Sources(monotonic=monotonic, on_limited=_say_limited)
        self._intake = intake.Intake()

    @property
    def running(self) -> bool:
        """Tell whether deliveries are being stored."""
        return self._batch.running

    async def run(self) -> None:
        """Store deliveries until cancelled."""
        await self._batch.run()

    def routes(self) -> list[routing.Route]:
        """Return the routes that deliveries arrive on."""
        return [routing.Route(path, self, methods=["POST"]) for path in _PATHS]

    def before(self, application: types.ASGIApp) -> types.ASGIApp:
        """Return an application that answers deliveries at once and leaves all else to another."""

        async def answer(scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
            delivered = scope["type"] == "http" and scope["method"] == "POST"
            chosen = self if delivered and scope["path"] in _PATHS else application
            await chosen(scope, receive, send)

        return answer

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Answer one delivery."""
        started = time.perf_counter()
        answer = _Answer(send, self._metrics)
        try:
            event = await self._take(scope, receive)
            if event is None:
                answer.count("disconnected")
                return
            answer.wire = event.wire.value
            await self._store(event)
        except errors.DeliveryError as exc:
            await answer.refuse(exc)
        except errors.StoreUnavailable as exc:
            await answer.give(503, {"error": exc.message})
        except asyncio.CancelledError:
            await answer.give(503, {"error": "the service is stopping"})
            raise
        else:
            self._metrics.acknowledge_seconds.observe(time.perf_counter() - started)
            await answer.accept()

    async def _take(self, scope: types.Scope, receive: types.Receive) -> events.Event | None:
        """Read a delivery and check it; None where the sender hung up.

        Whether a source must wait is asked twice: before its body costs memory, and when it is
        whole, for it may have come with many others.
        """
        source, size = sources.name(scope.get("client")), 0
        try:
            self._let_in(source, intake.announced(scope["headers"]))
            body = await self._intake.read(receive)
            if body is None:
                return None
            self._let_in(source, len(body))
            size = len(body)
            event = self._check(scope["headers"], body)
        except errors.SourceLimited:
            raise
        except errors.DeliveryError as exc:
            _log.warning("delivery refused", status=exc.status_code, reason=exc.message)
            self._sources.refused(source, size)
            raise
        self._sources.accepted(source)
        return event

    def _let_in(self, source: str, size: int) -> None:
        wait_seconds = self._sources.wait_seconds(source, size)
        if wait_seconds:
            raise errors.SourceLimited(
                "too much from this address was refused", wait_seconds=wait_seconds
            )

    def _check(self, headers: signature.Headers, body: bytes) -> events.Event:
        """Parse and verify; what was parsed may be large and is gone when this returns.

        No garbage is collected meanwhile: among a million new lists it takes five times as long,
        and there is none to find, for what JSON makes holds no cycles.
        """
        collects = gc.isenabled()
        gc.disable()
        try:
            message = _decode(body)
            arrived = signature.Arrived(
                message=message, headers=headers, body=body, at=self._clock()
            )
            signature.verify(arrived, self._proofs)
            return _understand(message)
        finally:
            if collects:
                gc.enable()

    async def _store(self, event: events.Event) -> None:
        await self._batch.put(
            model.Delivery(
                id=self._new_id(),
                received_at=self._clock(),
                wire=event.wire,
                subject=event.subject,
                status_code=event.status_code,
                touched=events.touched(event),
            )
        )


class _Answer:
    """Answer one delivery, and count what it got."""

    def __init__(self, send: types.Send, metrics: telemetry.Metrics) -> None:
        self._send = send
        self._metrics = metrics
        self.wire = "unknown"

    def count(self, status: str) -> None:
        """Count an answer."""
        self._metrics.deliveries.labels(self.wire, status).inc()

    async def refuse(self, error: errors.DeliveryError) -> None:
        """Answer with an error; where the rest of the body is never read, hang up."""
        headers = []
        if isinstance(error, errors.SignatureError):
            headers.append((b"www-authenticate", b'Basic realm="webhook"'))
        if isinstance(error, errors.SourceLimited):
            headers.append((b"retry-after", str(error.wait_seconds).encode()))
        if isinstance(error, _UNREAD):
            headers.append((b"connection", b"close"))
        await self.give(error.status_code, {"error": error.message}, headers)

    async def accept(self) -> None:
        """Answer as nearly every delivery is answered."""
        self.count("200")
        await self._send(_ACCEPTED_HEAD)
        await self._send(_ACCEPTED_BODY)

    async def give(
        self, status_code: int, answer: dict[str, str], more: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with a status and a JSON object."""
        self.count(str(status_code))
        head, body = _answer(status_code, answer, more)
        await self._send(head)
        await self._send(body)


def _answer(
    status_code: int, answer: dict[str, str], more: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[types.Message, types.Message]:
    """Return the two messages of an answer."""
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *more,
    ]
    head = {"type": "http.response.start", "status": status_code, "headers": headers}
    return head, {"type": "http.response.body", "body": body}


_ACCEPTED_HEAD, _ACCEPTED_BODY = _answer(200, {"status": "accepted"})


def _say_limited(source: str) -> None:
    _log.warning("too much from a source was refused: it has to wait", source=source)


def _decode(body: bytes) -> object:
    """Parse JSON as Python does: of equal names the last counts, NaN is a number.

    What is verified is the parsed message, so both are safe; `decode` comes first because
    `json.loads` would guess UTF-16 and drop a byte order mark.
    """
    try:
        return json.loads(body.decode("utf-8"))
    except Exception as exc:
        # Not JSON, not UTF-8, too deep, a number of 5,000 digits.
        raise errors.PayloadError("the body is not JSON") from exc


def _understand(message: object) -> events.Event:
    try:
        return events.parse(message)
    except errors.DeliveryError:
        raise
    except Exception as exc:  # pragma: no cover - no bytes are known to come here
        raise errors.PayloadError("a delivery has the shape of neither wire") from exc

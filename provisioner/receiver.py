"""Take in the portal's webhooks: check, store durably, answer; the work is done afterwards.

The order of the checks is fixed: size, JSON, proof, shape, store. The portal never retries and
waits five seconds at most, so the answer depends on nothing but our own store; `worker` takes it
from there. Bodies are never logged: some portals put tokens in them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

from starlette import routing, types

from provisioner import batch, errors, events, model, ports, signature, telemetry

_log = telemetry.Log(__name__)
_LARGEST_BODY_BYTES = 1024 * 1024


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
        on_accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self._proofs = proofs
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics
        self._batch = batch.Batch(inbox, metrics, on_accepted)

    @property
    def running(self) -> bool:
        """Tell whether deliveries are being stored."""
        return self._batch.running

    async def run(self) -> None:
        """Store deliveries until cancelled."""
        await self._batch.run()

    def routes(self) -> list[routing.Route]:
        """Return the routes that deliveries arrive on."""
        return [routing.Route(path, self, methods=["POST"]) for path in ("/", "/webhook")]

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Answer one delivery."""
        started = time.perf_counter()
        wire = "unknown"
        try:
            body = await _read(scope, receive)
            if body is None:
                self._metrics.deliveries.labels(wire, "disconnected").inc()
                return
            message = _decode(body)
            arrived = signature.Arrived(
                message=message, headers=scope["headers"], body=body, at=self._clock()
            )
            signature.verify(arrived, self._proofs)
            event = _understand(message)
            wire = event.wire.value
            await self._store(event)
        except errors.DeliveryError as exc:
            _log.warning("delivery refused", status=exc.status_code, reason=exc.message)
            await self._answer(send, wire, exc.status_code, {"error": exc.message})
        except errors.StoreUnavailable as exc:
            await self._answer(send, wire, 503, {"error": exc.message})
        except asyncio.CancelledError:
            await self._answer(send, wire, 503, {"error": "the service is stopping"})
            raise
        else:
            self._metrics.acknowledge_seconds.observe(time.perf_counter() - started)
            await self._answer(send, wire, 200, {"status": "accepted"})

    async def _store(self, event: events.Event) -> None:
        delivery = model.Delivery(
            id=self._new_id(),
            received_at=self._clock(),
            wire=event.wire,
            subject=event.subject,
            status_code=event.status_code,
            touched=events.touched(event),
        )
        await self._batch.put(delivery)
        _log.info(
            "delivery accepted",
            delivery_id=delivery.id,
            wire=event.wire,
            subject=event.subject,
            status=event.status_code,
            keys=len(delivery.touched.keys),
        )

    async def _answer(
        self, send: types.Send, wire: str, status_code: int, answer: dict[str, str]
    ) -> None:
        self._metrics.deliveries.labels(wire, str(status_code)).inc()
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if status_code == errors.SignatureError.status_code:
            headers.append((b"www-authenticate", b'Basic realm="webhook"'))
        if status_code == errors.PayloadTooLarge.status_code:
            headers.append((b"connection", b"close"))  # the rest of the body is never read
        await send({"type": "http.response.start", "status": status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _read(scope: types.Scope, receive: types.Receive) -> bytes | None:
    """Read a body up to the limit, not a byte beyond; None where the sender hung up."""
    for name, value in scope["headers"]:
        # isdigit of bytes knows ASCII alone; more than 9 digits are over the limit anyway.
        if name == b"content-length" and value.isdigit() and int(value[:9]) > _LARGEST_BODY_BYTES:
            raise errors.PayloadTooLarge("a delivery is 1 MiB at most")
    body = bytearray()
    while True:
        part = await receive()
        if part["type"] == "http.disconnect":
            return None
        body += part.get("body", b"")
        if len(body) > _LARGEST_BODY_BYTES:
            raise errors.PayloadTooLarge("a delivery is 1 MiB at most")
        if not part.get("more_body", False):
            return bytes(body)


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

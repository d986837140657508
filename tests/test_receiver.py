from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from provisioner import errors, model, telemetry
from provisioner.domain import signature
from provisioner.edge import receiver
from tests import recorded

_NOW = datetime(2026, 11, 21, tzinfo=UTC)
_SECRET = recorded.SECRET
_SIGNED = signature.Proofs(sign_secrets=(_SECRET,))
_OPEN = signature.Proofs(allow_unsigned=True)
_MIB = 1024 * 1024
_A = "aaaaaaaa-0000-4000-8000-00000000000a"
_CALL = {
    "method": "PUT",
    "url": f"/api/v2/data_products/{_A}",
    "query": "",
    "response": "",
    "status_code": 200,
}
_EVENT = {"specversion": "1.0", "id": "1", "type": "data_product.event", "data": {"id": _A}}


class RecordingInbox:
    """Remember every transaction; fail, or wait for `gate`, where told to."""

    def __init__(self) -> None:
        self.transactions: list[tuple[model.Delivery, ...]] = []
        self.failure: Exception | None = None
        self.changes = True
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def accept(self, deliveries: Sequence[model.Delivery]) -> bool:
        self.entered.set()
        assert self.gate.wait(timeout=10)
        if self.failure is not None:
            raise self.failure
        self.transactions.append(tuple(deliveries))
        return self.changes

    @property
    def stored(self) -> list[model.Delivery]:
        return [delivery for transaction in self.transactions for delivery in transaction]


class Edge:
    """A receiver under way, and a client that talks to it."""

    def __init__(self, proofs: signature.Proofs) -> None:
        self.inbox = RecordingInbox()
        self.metrics = telemetry.Metrics()
        self.woken = 0
        ids = itertools.count()
        self.receiver = receiver.Receiver(
            self.inbox,
            proofs,
            clock=lambda: _NOW,
            new_id=lambda: f"delivery-{next(ids)}",
            metrics=self.metrics,
            on_changed=self._wake,
        )
        app = Starlette(routes=self.receiver.routes())
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://edge"
        )

    def _wake(self) -> None:
        self.woken += 1

    def count(self, wire: str, status: str) -> float:
        labels = {"wire": wire, "status": status}
        return self.metrics.registry.get_sample_value("provisioner_deliveries_total", labels) or 0.0

    @contextlib.asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.receiver.run())
        await asyncio.sleep(0)
        try:
            async with self.client:
                yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def talk(
    proofs: signature.Proofs,
    conversation: Callable[[Edge], Awaitable[None]],
) -> Edge:
    async def run() -> Edge:
        edge = Edge(proofs)
        async with edge.under_way():
            await conversation(edge)
        return edge

    return asyncio.run(run())


def deliver(
    body: bytes, proofs: signature.Proofs = _OPEN, **headers: str
) -> tuple[httpx.Response, Edge]:
    answers: list[httpx.Response] = []

    async def conversation(edge: Edge) -> None:
        answers.append(await edge.client.post("/webhook", content=body, headers=headers))

    edge = talk(proofs, conversation)
    return answers[0], edge


def encode(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("path", ["/", "/webhook"])
def test_every_recorded_delivery_is_accepted_and_stored_in_order(path: str) -> None:
    basic = signature.Proofs(sign_secrets=(_SECRET,), basic_auth=("portal:secret",))

    async def conversation(edge: Edge) -> None:
        for one in recorded.everything():
            headers = [(k, v) for k, v in one.headers if k.lower() != b"host"]
            if one.wire == "v2":
                headers.append((b"Authorization", b"Basic cG9ydGFsOnNlY3JldA=="))
            answer = await edge.client.post(path, content=one.body, headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})

    edge = talk(basic, conversation)

    assert len(edge.inbox.stored) == 421
    assert [d.wire for d in edge.inbox.stored] == [one.wire for one in recorded.everything()]
    assert (edge.count("v1", "200"), edge.count("v2", "200")) == (173, 248)


def test_a_delivery_is_stored_with_ids_and_our_own_words_only() -> None:
    _, edge = deliver(encode(_CALL | {"query": "token=private", "response": "private"}))

    key = model.Key.product(_A)
    assert edge.inbox.stored == [
        model.Delivery(
            id="delivery-0",
            received_at=_NOW,
            wire=model.Wire.V1,
            subject="PUT /api/v2/data_products/{id}",
            status_code=200,
            touched=model.Touched(keys=frozenset({key}), ports=frozenset({(key, "*")})),
        )
    ]


@pytest.mark.parametrize("message", [_CALL | {"status_code": 404}, _CALL | {"url": "/api/v2/nope"}])
def test_what_touches_nothing_is_accepted_and_stored_too(message: object) -> None:
    answer, edge = deliver(encode(message))

    assert answer.status_code == 200
    assert [delivery.touched.nothing for delivery in edge.inbox.stored] == [True]


_NO_JSON = {
    "empty": b"",
    "text": b"hello",
    "half": encode(_CALL)[:-1],
    "more": encode(_CALL) + b"x",
    "single quotes": b"{'a': 1}",
    "byte order mark": b"\xef\xbb\xbf" + encode(_EVENT),
    "utf-16": json.dumps(_EVENT).encode("utf-16"),
    "utf-32": json.dumps(_EVENT).encode("utf-32-le"),
    "latin-1": '{"a": "é"}'.encode("latin-1"),
    "surrogate": b'{"a": "\xed\xa0\x80"}',
    "overlong": b'{"a": "\xc0\xaf"}',
    "nul": b"\x00",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "5,000 digits": b'{"status_code": 1' + b"0" * 5000 + b"}",
    "control character": b'{"a": "\n"}',
}


@pytest.mark.parametrize("body", _NO_JSON.values(), ids=_NO_JSON)
@pytest.mark.parametrize("proofs", [_OPEN, _SIGNED], ids=["open", "signed"])
def test_a_body_that_is_not_json_is_refused_before_any_proof(
    body: bytes, proofs: signature.Proofs
) -> None:
    answer, edge = deliver(body, proofs)

    assert (answer.status_code, answer.json()) == (400, {"error": "the body is not JSON"})
    assert edge.inbox.stored == []
    assert edge.count("unknown", "400") == 1


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'""', b"NaN", b"{}", b'{"method": 1}'])
def test_a_proof_is_asked_for_before_the_shape(body: bytes) -> None:
    unproven, _ = deliver(body, _SIGNED)
    proven, _ = deliver(body, _SIGNED, sign=signature.sign(json.loads(body), _SECRET))

    assert (unproven.status_code, proven.status_code) == (401, 400)
    assert unproven.headers["www-authenticate"].startswith("Basic")


def test_equal_names_and_nan_are_read_as_they_are_verified() -> None:
    twice = b'{"status_code": 404,' + encode(_CALL | {"x": 1})[1:-1] + b',"y":NaN}'
    sign = signature.sign(json.loads(twice), _SECRET)

    answer, edge = deliver(twice, _SIGNED, sign=sign)

    assert answer.status_code == 200
    assert [delivery.status_code for delivery in edge.inbox.stored] == [200]


def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = encode(_CALL)

    answer, _ = deliver(body + b" " * (_MIB - len(body)))

    assert answer.status_code == 200


class Sender:
    """Send a body in parts, and remember how many were asked for."""

    def __init__(self, parts: Iterator[dict[str, Any]], headers: dict[bytes, bytes]) -> None:
        self.parts = parts
        self.asked = 0
        self.sent: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/webhook",
            "headers": list(headers.items()),
        }

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return next(self.parts)

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))

    async def speak(self, edge: Edge) -> None:
        await edge.receiver(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_announced_as_too_large_is_not_read() -> None:
    sender = Sender(itertools.repeat(part(b"x")), {b"content-length": str(_MIB + 1).encode()})

    edge = talk(_OPEN, sender.speak)

    assert (sender.status, sender.asked) == (413, 0)
    assert edge.count("unknown", "413") == 1


def test_a_body_without_an_end_is_read_up_to_the_limit() -> None:
    sender = Sender(itertools.repeat(part(b"x" * 65_536)), {})

    talk(_OPEN, sender.speak)

    assert (sender.status, sender.asked) == (413, 17)


def test_a_body_larger_than_announced_is_read_up_to_the_limit() -> None:
    sender = Sender(itertools.repeat(part(b"x" * 65_536)), {b"content-length": b"10"})

    talk(_OPEN, sender.speak)

    assert (sender.status, sender.asked) == (413, 17)


@pytest.mark.parametrize("length", [b"", b"-1", b"1e9", b"\xb2", b"9" * 5000, b"0" * 99 + b"1"])
def test_an_odd_announcement_is_no_failure(length: bytes) -> None:
    sender = Sender(iter([part(encode(_CALL), more=False)]), {b"content-length": length})

    talk(_OPEN, sender.speak)

    assert sender.status in {200, 413}


def test_a_body_in_many_parts_is_one_delivery() -> None:
    parts = [part(bytes([byte])) for byte in encode(_CALL)]
    sender = Sender(iter([*parts, part(b"", more=False)]), {})

    edge = talk(_OPEN, sender.speak)

    assert sender.status == 200
    assert len(edge.inbox.stored) == 1


def test_a_sender_that_hangs_up_in_the_middle_gets_no_answer() -> None:
    parts = [part(encode(_CALL)), {"type": "http.disconnect"}]
    sender = Sender(iter(parts), {})

    edge = talk(_OPEN, sender.speak)

    assert sender.sent == []
    assert edge.inbox.stored == []
    assert edge.count("unknown", "disconnected") == 1


@pytest.mark.parametrize(
    ("failure", "bugs"),
    [(errors.StoreUnavailable("the disk is full"), 0), (RuntimeError("nobody foresaw it"), 1)],
)
def test_what_cannot_be_stored_is_not_acknowledged(failure: Exception, bugs: int) -> None:
    answers: list[int] = []

    async def conversation(edge: Edge) -> None:
        edge.inbox.failure = failure
        answers.append((await edge.client.post("/", json=_CALL)).status_code)
        edge.inbox.failure = None
        answers.append((await edge.client.post("/", json=_CALL)).status_code)

    edge = talk(_OPEN, conversation)

    assert answers == [503, 200]
    assert (len(edge.inbox.stored), edge.woken) == (1, 1)
    assert edge.metrics.registry.get_sample_value("provisioner_unexpected_errors_total") == bugs


def test_a_delivery_is_refused_while_nothing_stores_it() -> None:
    edge = Edge(_OPEN)

    async def run() -> httpx.Response:
        async with edge.client as client:
            return await client.post("/", json=_CALL)

    answer = asyncio.run(run())

    assert answer.status_code == 503
    assert not edge.receiver.running


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def settle() -> None:
    """Let every task go on until it waits for something outside."""
    for _ in range(200):
        await asyncio.sleep(0)


def test_deliveries_at_the_same_time_share_a_commit_and_wait_for_it() -> None:
    async def conversation(edge: Edge) -> None:
        edge.inbox.gate.clear()
        senders = [asyncio.create_task(edge.client.post("/", json=_CALL)) for _ in range(50)]
        await wait_for(edge.inbox.entered)
        await settle()
        assert not any(sender.done() for sender in senders)
        edge.inbox.gate.set()
        answers = await asyncio.gather(*senders)
        assert {answer.status_code for answer in answers} == {200}

    edge = talk(_OPEN, conversation)

    assert len(edge.inbox.stored) == len({delivery.id for delivery in edge.inbox.stored}) == 50
    assert len(edge.inbox.transactions) == edge.woken
    assert edge.woken <= 2


def test_nobody_is_answered_before_the_commit_of_the_own_delivery() -> None:
    async def conversation(edge: Edge) -> None:
        edge.inbox.gate.clear()
        first = asyncio.create_task(edge.client.post("/", json=_CALL))
        await wait_for(edge.inbox.entered)
        second = asyncio.create_task(edge.client.post("/", json=_EVENT))
        await settle()
        edge.inbox.entered.clear()
        edge.inbox.gate.set()
        await first
        assert len(edge.inbox.transactions[0]) == 1
        await second
        assert len(edge.inbox.transactions) == 2

    edge = talk(_OPEN, conversation)

    assert [delivery.wire for delivery in edge.inbox.stored] == ["v1", "v2"]


def test_a_sender_that_gives_up_leaves_the_others_of_its_commit_alone() -> None:
    async def conversation(edge: Edge) -> None:
        edge.inbox.gate.clear()
        first, second = (asyncio.create_task(edge.client.post("/", json=_CALL)) for _ in range(2))
        await wait_for(edge.inbox.entered)
        first.cancel()
        await settle()
        edge.inbox.gate.set()
        assert (await second).status_code == 200
        assert first.cancelled()

    edge = talk(_OPEN, conversation)

    assert len(edge.inbox.stored) == 2


def test_an_acknowledgement_does_not_wait_for_threads_that_others_block() -> None:
    answers: list[int] = []

    async def conversation(edge: Edge) -> None:
        release = threading.Event()
        blocked = [asyncio.create_task(asyncio.to_thread(release.wait, 10)) for _ in range(100)]
        await settle()
        answers.append((await edge.client.post("/", json=_CALL)).status_code)
        assert not any(task.done() for task in blocked)
        release.set()
        await asyncio.gather(*blocked)

    talk(_OPEN, conversation)

    assert answers == [200]


def test_a_commit_that_fails_is_nobodys_acknowledgement() -> None:
    async def conversation(edge: Edge) -> None:
        edge.inbox.gate.clear()
        edge.inbox.failure = errors.StoreUnavailable("the disk is full")
        senders = [asyncio.create_task(edge.client.post("/", json=_CALL)) for _ in range(10)]
        await wait_for(edge.inbox.entered)
        await settle()
        edge.inbox.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*senders)} == {503}

    edge = talk(_OPEN, conversation)

    assert (edge.inbox.stored, edge.woken) == ([], 0)


def test_stopping_answers_what_is_being_stored_and_refuses_what_waits() -> None:
    answers: list[int] = []

    async def run() -> Edge:
        edge = Edge(_OPEN)
        edge.inbox.gate.clear()
        storing = asyncio.create_task(edge.receiver.run())
        first = asyncio.create_task(edge.client.post("/", json=_CALL))
        await wait_for(edge.inbox.entered)
        second = asyncio.create_task(edge.client.post("/", json=_CALL))
        await settle()
        storing.cancel()
        await settle()
        edge.inbox.gate.set()
        answers.extend([(await first).status_code, (await second).status_code])
        with pytest.raises(asyncio.CancelledError):
            await storing
        await edge.client.aclose()
        return edge

    edge = asyncio.run(run())

    assert answers == [200, 503]
    assert len(edge.inbox.stored) == 1


def test_a_burst_larger_than_a_transaction_is_stored_whole() -> None:
    async def conversation(edge: Edge) -> None:
        edge.inbox.gate.clear()
        senders = [asyncio.create_task(edge.client.post("/", json=_CALL)) for _ in range(600)]
        await wait_for(edge.inbox.entered)
        await settle()
        edge.inbox.gate.set()
        await asyncio.gather(*senders)

    edge = talk(_OPEN, conversation)

    assert len(edge.inbox.stored) == 600
    assert max(len(transaction) for transaction in edge.inbox.transactions) == 256


def test_an_acknowledgement_is_timed() -> None:
    _, edge = deliver(encode(_CALL))

    name = "provisioner_acknowledge_seconds_count"
    assert edge.metrics.registry.get_sample_value(name) == 1


def test_no_body_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    private = {"response": "private-text", "query": "private-text", "url": "/private-text"}
    with caplog.at_level("DEBUG"):
        deliver(encode(_CALL | private))
        deliver(encode(_CALL | private), _SIGNED, sign="private-text")
        deliver(encode({"private-text": "private-text"}))
        deliver(b"private-text")

    ours = [record for record in caplog.records if record.name.startswith("provisioner")]
    assert len(ours) == 4
    assert "private-text" not in str([record.__dict__ for record in ours])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_post_delivers(method: str) -> None:
    answers: list[int] = []

    async def conversation(edge: Edge) -> None:
        answers.append((await edge.client.request(method, "/webhook")).status_code)

    talk(_OPEN, conversation)

    assert answers == [405]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_almost = st.builds(
    lambda whole, some: {**whole, **some},
    st.sampled_from([_CALL, _EVENT]),
    st.dictionaries(st.sampled_from([*_CALL, *_EVENT]), _json),
)
_bodies = st.binary() | (_json | _almost).map(lambda value: json.dumps(value).encode())


@given(st.lists(_bodies, max_size=5), st.sampled_from([_OPEN, _SIGNED]), st.binary(max_size=4))
def test_whatever_the_bytes_the_answer_is_one_of_four(
    bodies: list[bytes], proofs: signature.Proofs, sign: bytes
) -> None:
    async def conversation(edge: Edge) -> None:
        for body in bodies:
            sender = Sender(iter([part(body, more=False)]), {b"sign": sign})
            await sender.speak(edge)
            assert sender.status in {200, 400, 401, 413}

    edge = talk(proofs, conversation)

    assert proofs is _OPEN or edge.inbox.stored == []


def test_a_sender_that_the_stop_interrupts_is_told_to_come_back() -> None:
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        scope: Any = {"type": "http", "method": "POST", "path": "/", "headers": []}
        task = asyncio.create_task(Edge(_OPEN).receiver(scope, never, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert sent[0]["status"] == 503


def test_a_source_that_sends_wrong_proofs_is_told_to_wait_before_it_is_read() -> None:
    large = Sender(iter([part(b"[]" + b" " * (_MIB - 2), more=False)]), {b"sign": b"wrong"})
    refused = Sender(itertools.repeat(part(b"x")), {b"content-length": str(_MIB).encode()})
    honest = Sender(
        iter([part(encode(_CALL), more=False)]),
        {b"sign": signature.sign(_CALL, _SECRET).encode()},
    )
    honest.scope["client"] = ("192.0.2.1", 1)

    async def conversation(edge: Edge) -> None:
        for _ in range(2):
            large.parts = iter([part(b"[]" + b" " * (_MIB - 2), more=False)])
            await large.speak(edge)
        for sender in (refused, honest):
            await sender.speak(edge)
        assert edge.count("unknown", "429") == 1

    talk(_SIGNED, conversation)

    assert [each["status"] for each in large.sent if "status" in each] == [401, 401]
    headers = dict(refused.sent[0]["headers"])
    assert (refused.status, refused.asked) == (429, 0)
    assert int(headers[b"retry-after"]) >= 1
    assert headers[b"connection"] == b"close"
    assert honest.status == 200


def test_a_source_may_not_pass_its_limit_with_many_bodies_at_once() -> None:
    gate = asyncio.Event()

    async def late(sender: Sender, edge: Edge) -> None:
        async def receive() -> dict[str, Any]:
            await gate.wait()
            return await sender.receive()

        await edge.receiver(sender.scope, receive, sender.send)

    senders = [
        Sender(iter([part(b"[]" + b" " * (_MIB - 2), more=False)]), {b"sign": b"wrong"})
        for _ in range(5)
    ]

    async def conversation(edge: Edge) -> None:
        under_way = [asyncio.create_task(late(sender, edge)) for sender in senders]
        await settle()
        gate.set()
        await asyncio.gather(*under_way)

    talk(_SIGNED, conversation)

    assert [sender.status for sender in senders] == [401, 401, 429, 429, 429]


def test_deliveries_are_answered_before_another_application() -> None:
    seen: list[str] = []

    async def other(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(f"{scope['method']} {scope['path']}")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def conversation(edge: Edge) -> None:
        transport = httpx.ASGITransport(app=edge.receiver.before(other))
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            for method, path in (("POST", "/"), ("POST", "/webhook"), ("GET", "/"), ("POST", "/x")):
                await client.request(method, path, json=_CALL)

    edge = talk(_OPEN, conversation)

    assert len(edge.inbox.stored) == 2
    assert seen == ["GET /", "POST /x"]


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_afterwards_as_before(collects: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        deliver(b"{")
        assert gc.isenabled() is collects
    finally:
        (gc.enable if was else gc.disable)()

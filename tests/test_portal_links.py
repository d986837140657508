"""Links of every status reach the store, from every version of the portal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from provisioner import model, reading, store, telemetry, workqueue
from provisioner.demo.portal import FakePortal, RunningPortal
from provisioner.demo.portal.entities import STYLES
from provisioner.domain import plan
from provisioner.loop import ledger, reconciler, reviving
from provisioner.portal import HttpPortal
from tests import memory_s3, memory_workspaces, opened_store, recorded_portal
from tests.recorded_portal import RecordedPortal

OLD = ("pending", "approved", "denied")
NEW = (*OLD, "expired", "revoked", "cancelled")
WORDS = {style: NEW if STYLES[style].modern else OLD for style in STYLES}
VERSIONS = (recorded_portal.LEGACY, *recorded_portal.VERSIONS)


class Desk:
    """Reconcile without steps, on a real store: read, remember the links, judge."""

    def __init__(self, held: store.Store, queue: workqueue.SqlWorkqueue) -> None:
        self._held = held
        self._queue = queue
        self.written: dict[model.Key, tuple[model.Link, ...]] = {}

    def replace(self, consumer: model.Key, links: Iterable[model.Link], lease: model.Lease) -> None:
        """Stand before the real links to see what they are given."""
        self.written[consumer] = tuple(links)
        self._held.links.replace(consumer, self.written[consumer], lease)

    def consumers(self, port_id: str) -> frozenset[model.Key]:
        return self._held.links.consumers(port_id)

    def reconcile(self, portal: HttpPortal, key: model.Key) -> None:
        readings = reading.Readings(
            portal=portal,
            records=self._held.records,
            asks=self._held.asks,
            contracts=self._held.contracts,
            rules=plan.Rules(bucket="lake"),
            clock=opened_store.now,
        )
        works = reconciler.Reconciler(
            readings=readings,
            records=self._held.records,
            links=self,
            asks=self._held.asks,
            flags=self._held.flags,
            queue=self._queue,
            ledger=ledger.Ledger(
                records=self._held.records,
                contracts=self._held.contracts,
                clock=opened_store.now,
                ports_seconds=300,
            ),
            steps=(),
            clock=opened_store.now,
            metrics=telemetry.Metrics(),
            reviving=reviving.Reviving(
                objects=memory_s3.MemoryObjectStore(),
                folders=memory_workspaces.MemoryWorkspaces(),
                issuer=memory_s3.MemoryIssuer(),
                clock=opened_store.now,
                grace_seconds=0,
            ),
        )
        self._queue.touch([key], model.Priority.EVENT)
        while lease := self._queue.lease("test"):
            self._queue.done(lease, works.reconcile(lease))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened_store.serving(f"sqlite:///{tmp_path}/store.db") as (held, queue):
        yield Desk(held, queue)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningPortal]:
    with RunningPortal(FakePortal()) as running:
        yield running


@pytest.fixture
def client_of() -> Iterator[Callable[[str, httpx.BaseTransport | None], HttpPortal]]:
    opened: list[HttpPortal] = []

    def make(url: str, transport: httpx.BaseTransport | None) -> HttpPortal:
        opened.append(HttpPortal(base_url=url, transport=transport, sleep=lambda seconds: None))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


Client = Callable[[str, httpx.BaseTransport | None], HttpPortal]


@pytest.mark.parametrize(
    ("style", "word"), [(style, word) for style, words in WORDS.items() for word in words]
)
def test_a_link_is_remembered_whatever_its_status(
    style: str, word: str, desk: Desk, client_of: Client, server: RunningPortal
) -> None:
    server.portal = FakePortal(style=style)
    state = server.portal.state
    consumer = model.Key.product(state.create_product("marketing"))
    port = state.create_port(state.create_product("sales"), "orders")
    link = state.request_access(consumer.id, port)
    state.links[link].status = word
    desk.reconcile(client_of(server.url, None), consumer)
    (written,) = desk.written[consumer]
    assert (written.id, written.port_id, written.status) == (link, port, word)
    assert desk.consumers(port) == {consumer}


@pytest.mark.parametrize("style", [style for style in STYLES if STYLES[style].modern])
def test_a_link_of_an_exploration_is_remembered_as_its_own(
    style: str, desk: Desk, client_of: Client, server: RunningPortal
) -> None:
    server.portal = FakePortal(style=style)
    state = server.portal.state
    key = model.Key(model.Kind.EXPLORATION, state.create_exploration("why"))
    port = state.create_port(state.create_product("sales"), "orders")
    state.request_access(key.id, port)
    desk.reconcile(client_of(server.url, None), key)
    assert [link.status for link in desk.written[key]] == ["pending"]
    assert desk.consumers(port) == {key}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_link_is_remembered(version: str, desk: Desk, client_of: Client) -> None:
    recorded = RecordedPortal(version)
    portal = client_of("http://portal.test", httpx.MockTransport(recorded))
    expected: dict[str, str] = {}
    for consumer, links in recorded_links(recorded):
        key = model.Key.product(consumer)
        desk.reconcile(portal, key)
        expected |= links
    written = {link.id: str(link.status) for links in desk.written.values() for link in links}
    assert written == expected
    assert "approved" in written.values()


def recorded_links(recorded: RecordedPortal) -> Iterator[tuple[str, dict[str, str]]]:
    """Give each listed product that was recorded with links, and their statuses."""
    listed = {
        product["id"]
        for one in recorded_portal.rows(recorded.version)
        for product in listing(one["response_json"])
    }
    for identity in sorted(listed):
        if recorded.version == recorded_portal.LEGACY:
            path, name = f"/api/data_products/{identity}", "dataset_links"
        else:
            path, name = f"/api/v2/data_products/{identity}/input_ports", "input_ports"
        answer = recorded(httpx.Request("GET", f"http://portal.test{path}")).json()
        if answer.get(name):
            yield identity, {link["id"]: link["status"] for link in answer[name]}


def listing(body: object) -> list[dict[str, str]]:
    """Return the products in an answer that lists them."""
    if isinstance(body, dict):
        body = body.get("data_products")
    return body if isinstance(body, list) else []

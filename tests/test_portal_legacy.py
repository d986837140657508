"""Release 0.4.2 of the portal: its own API, and how it is told from the newer one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from provisioner import errors, model
from provisioner.demo.portal import FakePortal, RunningPortal
from provisioner.portal import HttpPortal
from tests import recorded_portal
from tests.recorded_portal import LEGACY, RecordedPortal, row

Handler = Callable[[httpx.Request], httpx.Response]

A_PRODUCT = "0a0a0a0a-0000-4000-8000-000000000001"
PRODUCER = "0b0b0b0b-0000-4000-8000-000000000002"
A_PORT = "0c0c0c0c-0000-4000-8000-000000000003"
KEY = model.Key.product(A_PRODUCT)
OLD, NEW = "/api/data_products", "/api/v2/data_products"
NOT_FOUND = {"correlation_id": "", "detail": "Not Found"}
GONE = {"correlation_id": "", "detail": "Data Product not found"}
LOCATION = model.Location(bucket="lake", prefix="sales/")


class SettableClock:
    """Count seconds only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_portal(handler: Handler, *, clock: Callable[[], float] | None = None) -> HttpPortal:
    return HttpPortal(
        base_url="http://portal.test",
        transport=httpx.MockTransport(handler),
        sleep=lambda seconds: None,
        clock=clock or SettableClock(),
    )


def pages() -> Iterable[dict[str, Any]]:
    """Give every recorded page of a product."""
    for one in recorded_portal.rows(LEGACY):
        page = one["response_json"]
        if one["method"] == "GET" and isinstance(page, dict) and "dataset_links" in page:
            yield page


def key_of(scenario: str) -> model.Key:
    return model.Key.product(row(LEGACY, scenario)["path"].split("/")[3])


# what the real one answered


def test_its_products_are_listed_by_namespace() -> None:
    listed = row(LEGACY, "list")["response_json"]
    found = a_portal(RecordedPortal(LEGACY)).products()
    assert [one.namespace for one in found] == sorted(one["namespace"] for one in listed)
    assert {one.finalizers for one in found} == {None}
    assert "Données é 数据 renamed 34153" in {one.name for one in found}
    assert {one.status for one in found} == {"active", "pending"}


def test_it_lists_no_explorations() -> None:
    assert a_portal(RecordedPortal(LEGACY)).explorations() == ()


def test_every_link_of_every_status_is_on_its_consumers_view() -> None:
    portal = a_portal(RecordedPortal(LEGACY))
    found = set()
    for page in pages():
        view = portal.view(model.Key.product(page["id"]))
        assert view is not None
        assert {link.consumer.id for link in view.links} <= {page["id"]}
        found |= {(link.id, str(link.status), link.port_id) for link in view.links}
    expected = {
        (link["id"], link["status"], link["dataset_id"])
        for page in pages()
        for link in page["dataset_links"]
    }
    # One product was recorded twice, its request removed and made again in between.
    first = row(LEGACY, "request")["response_json"]["dataset_links"]
    again = row(LEGACY, "request2")["response_json"]["dataset_links"]
    assert {link for link in expected if link[0] not in again} == found
    assert {link for link, _, _ in found} >= set(first)
    assert {status for _, status, _ in found} == {"approved", "pending"}


def test_a_view_follows_approved_links_alone() -> None:
    portal = a_portal(RecordedPortal(LEGACY))
    for page in pages():
        view = portal.view(model.Key.product(page["id"]))
        assert view is not None
        approved = {link.port_id for link in view.links if link.status == "approved"}
        producers = {link.producer_id for link in view.links if link.status == "approved"}
        assert {port.id for port in view.granted_ports} == approved
        assert {one.id for one in view.producers} == producers


def test_a_view_holds_ports_and_the_assets_linked_to_them() -> None:
    page = row(LEGACY, "grants", ending="625b65b6-13d9-4c8c-a669-865e36fc3dfc")
    key = model.Key.product(page["path"].split("/")[3])
    view = a_portal(RecordedPortal(LEGACY)).view(key)
    assert view is not None
    assert view.product.namespace == "drug-supply-chain-optimization"
    (port,) = view.ports
    assert port.namespace == "drug-supply-data"
    paths = {"shipment-logs", "site-inventory", "manufactoring"}
    assert {asset.path for asset in port.assets} == paths
    assert {(one.configuration_type, one.bucket, one.suffix) for one in view.assets} == {
        ("S3TechnicalAssetConfiguration", "datalake", "drug-supply-chain-optimization")
    }


def test_assets_that_are_not_in_s3_are_not_taken_for_it() -> None:
    kinds = set()
    for page in pages():
        view = a_portal(RecordedPortal(LEGACY)).view(model.Key.product(page["id"]))
        assert view is not None
        by_id = {one["id"]: one["configuration"] for one in page["data_outputs"]}
        for asset in view.assets:
            own = by_id[asset.id]["configuration_type"]
            kinds.add(own)
            is_s3 = asset.configuration_type == "S3TechnicalAssetConfiguration"
            assert is_s3 is (own == "S3DataOutput")
    assert len(kinds) > 1


def test_a_granted_port_has_its_producers_assets() -> None:
    portal = a_portal(RecordedPortal(LEGACY))
    by_id = {page["id"]: page for page in pages()}
    checked = 0
    for identity in by_id:
        view = portal.view(model.Key.product(identity))
        assert view is not None
        for port in view.granted_ports:
            linked = {
                output["id"]
                for output in by_id[port.producer_id]["data_outputs"]
                if port.id in {link["dataset_id"] for link in output["dataset_links"]}
            }
            assert {asset.id for asset in port.assets} == linked
            checked += bool(linked)
    assert checked > 0


def test_the_consumers_of_a_port_are_read() -> None:
    page = row(LEGACY, "snapshot_consumers")["response_json"]
    producer = model.Key.product(page["data_product_id"])
    (link,) = a_portal(RecordedPortal(LEGACY)).consumers(producer, page["id"])
    assert (link.consumer, link.status) == (key_of("get_consumer"), "approved")
    assert (link.producer_id, link.port_id) == (producer.id, page["id"])


def test_what_it_does_not_have_is_gone() -> None:
    recorded = RecordedPortal(LEGACY, row(LEGACY, "get_gone"))
    portal = a_portal(recorded)
    key = key_of("get_gone")
    assert portal.view(key) is None
    assert portal.consumers(key, A_PORT) == ()


# links, assets and ports of every status


def a_page(identity: str = A_PRODUCT, **changes: object) -> dict[str, Any]:
    page: dict[str, Any] = {
        "id": identity,
        "name": "Sales",
        "description": "d",
        "namespace": "sales",
        "status": "active",
        "tags": [],
        "domain": {"id": PRODUCER, "name": "Commercial"},
        "type": {"id": PRODUCER, "name": "Analytics"},
        "lifecycle": {"id": PRODUCER, "name": "Draft"},
        "about": None,
        "dataset_links": [],
        "data_outputs": [],
        "datasets": [],
    }
    return {**page, **changes}


def a_dataset(producer: str = PRODUCER) -> dict[str, object]:
    return {
        "id": A_PORT,
        "name": "Orders",
        "namespace": "orders",
        "status": "active",
        "access_type": "restricted",
        "data_product_id": producer,
    }


def a_link(status: object = "approved", **changes: object) -> dict[str, object]:
    link = {
        "id": "0d0d0d0d-0000-4000-8000-000000000004",
        "data_product_id": A_PRODUCT,
        "dataset_id": A_PORT,
        "status": status,
        "dataset": a_dataset(),
    }
    return {**link, **changes}


def an_output(status: str, link: str) -> dict[str, object]:
    return {
        "id": "0e0e0e0e-0000-4000-8000-000000000005",
        "name": "Raw",
        "namespace": "raw",
        "status": status,
        "configuration": {"configuration_type": "S3DataOutput", "bucket": "lake", "path": "raw"},
        "dataset_links": [{"dataset_id": A_PORT, "status": link}],
    }


class OldPortal:
    """Serve the older API from pages, and nothing of the newer one."""

    def __init__(self, *found: dict[str, Any], **others: object) -> None:
        self.pages: dict[str, object] = {f"{OLD}/{page['id']}": page for page in found}
        self.pages |= {OLD: list(found)} | {f"/api/{name}": page for name, page in others.items()}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.method != "GET":
            return httpx.Response(200, json={"id": A_PORT})
        if request.url.path in self.pages:
            return httpx.Response(200, json=self.pages[request.url.path])
        known = request.url.path.startswith((f"{OLD}/", "/api/datasets/"))
        return httpx.Response(404, json=GONE if known else NOT_FOUND)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]


@pytest.mark.parametrize("status", ["pending", "active", "archived", "melted"])
@pytest.mark.parametrize("link", ["pending", "approved", "denied", "mused"])
def test_assets_keep_their_status_and_reach_a_port_by_an_approved_link(
    status: str, link: str
) -> None:
    output = an_output(status, link)
    producer = a_page(PRODUCER, data_outputs=[output], datasets=[a_dataset()])
    consumer = a_page(dataset_links=[a_link()])
    portal = a_portal(OldPortal(producer, consumer))
    own = portal.view(model.Key.product(PRODUCER))
    granted = portal.view(KEY)
    assert own is not None
    assert granted is not None
    assert [(asset.id, asset.status) for asset in own.assets] == [(output["id"], status)]
    expected = [status] if link == "approved" else []
    assert [asset.status for asset in own.ports[0].assets] == expected
    assert [asset.status for asset in granted.granted_ports[0].assets] == expected


@pytest.mark.parametrize(
    ("said", "status"),
    [("pending", "pending"), ("approved", "approved"), ("denied", "denied"), ("?", "pending")],
)
def test_only_an_approved_link_grants(said: str, status: str) -> None:
    consumer = a_page(dataset_links=[a_link(said)])
    view = a_portal(OldPortal(a_page(PRODUCER), consumer)).view(KEY)
    assert view is not None
    assert [link.status for link in view.links] == [status]
    assert [port.id for port in view.granted_ports] == ([A_PORT] if said == "approved" else [])


def test_a_producer_that_is_gone_grants_nothing() -> None:
    view = a_portal(OldPortal(a_page(dataset_links=[a_link()]))).view(KEY)
    assert view is not None
    assert [link.status for link in view.links] == ["approved"]
    assert (view.producers, view.granted_ports) == ((), ())


@pytest.mark.parametrize(
    "page",
    [
        a_page(PRODUCER),
        a_page(namespace=None),
        a_page(dataset_links=None),
        a_page(data_outputs={}),
        a_page(datasets=[a_dataset()]),
        a_page(dataset_links=[a_link(data_product_id=PRODUCER)]),
        a_page(dataset_links=[a_link(dataset_id=PRODUCER)]),
        a_page(dataset_links=[a_link(dataset=None)]),
        a_page(dataset_links=[a_link(None)]),
        a_page(data_outputs=[{**an_output("active", "approved"), "configuration": None}]),
        a_page(data_outputs=[{**an_output("active", "approved"), "dataset_links": None}]),
        [a_page()],
        None,
    ],
)
def test_a_page_that_makes_no_sense_is_refused(page: object) -> None:
    portal = OldPortal()
    portal.pages[f"{OLD}/{A_PRODUCT}"] = page
    with pytest.raises(errors.PortalUnavailable, match="not what its API promises"):
        a_portal(portal).view(KEY)


@pytest.mark.parametrize(
    "change", [{"id": PRODUCER}, {"data_product_id": A_PRODUCT}, {"data_product_links": None}]
)
def test_a_port_that_is_not_the_producers_is_refused(change: dict[str, object]) -> None:
    page = {**a_dataset(), "data_product_links": [], **change}
    portal = OldPortal()
    portal.pages[f"/api/datasets/{A_PORT}"] = page
    with pytest.raises(errors.PortalUnavailable, match="not what its API promises"):
        a_portal(portal).consumers(model.Key.product(PRODUCER), A_PORT)


@pytest.mark.parametrize("listing", [{"data_products": []}, None, [1], [a_page(), a_page()]])
def test_a_listing_that_makes_no_sense_is_refused(listing: object) -> None:
    portal = OldPortal()
    portal.pages[OLD] = listing
    with pytest.raises(errors.PortalUnavailable, match="not what its API promises"):
        a_portal(portal).products()


# what is written


def test_the_lifecycle_is_set_and_all_else_repeated() -> None:
    lifecycles = [{"id": PRODUCER, "name": "Ready"}]
    portal = OldPortal(a_page(about="<p>"), data_product_lifecycles=lifecycles)
    client = a_portal(portal)
    assert client.set_lifecycle(KEY, "Draft") is True
    assert client.set_lifecycle(KEY, "Nowhere") is False
    assert client.set_lifecycle(KEY, "Ready") is True
    (put,) = (one for one in portal.requests if one.method == "PUT")
    assert put.url.path == f"{OLD}/{A_PRODUCT}"
    assert json.loads(put.content) == {
        "name": "Sales",
        "namespace": "sales",
        "description": "d",
        "type_id": PRODUCER,
        "domain_id": PRODUCER,
        "tag_ids": [],
        "lifecycle_id": PRODUCER,
        "about": "<p>",
    }


def test_an_asset_is_registered_in_its_own_words() -> None:
    platforms = [
        {"platform": {"id": PRODUCER}, "service": {"id": A_PORT, "name": "S3"}},
    ]
    portal = OldPortal(a_page(), **{"platforms/configs": platforms})
    assert a_portal(portal).register_asset(KEY, LOCATION) == A_PORT
    (post,) = (one for one in portal.requests if one.method == "POST")
    assert post.url.path == f"{OLD}/{A_PRODUCT}/data_output"
    body = json.loads(post.content)
    assert body["configuration"] == {
        "configuration_type": "S3DataOutput",
        "bucket": "lake",
        "suffix": "",
        "path": "sales",
    }
    assert (body["status"], body["sourceAligned"]) == ("pending", False)
    assert "technical_mapping" not in body


def test_an_asset_that_is_there_is_not_made_again() -> None:
    output = {**an_output("archived", "denied")}
    output["configuration"] = {
        "configuration_type": "S3DataOutput",
        "bucket": "lake",
        "suffix": "sales",
        "path": "",
    }
    portal = OldPortal(a_page(data_outputs=[output]))
    assert a_portal(portal).register_asset(KEY, LOCATION) == output["id"]
    assert {one.method for one in portal.requests} == {"GET"}


def test_without_an_s3_service_no_asset_is_registered() -> None:
    portal = OldPortal(a_page(), **{"platforms/configs": []})
    assert a_portal(portal).register_asset(KEY, LOCATION) is None


@pytest.mark.parametrize("what", ["lifecycle", "asset"])
def test_writing_to_a_product_that_is_gone_is_a_conflict(what: str) -> None:
    client = a_portal(OldPortal())
    with pytest.raises(errors.Conflict):
        _ = (
            client.set_lifecycle(KEY, "Ready")
            if what == "lifecycle"
            else client.register_asset(KEY, LOCATION)
        )


# which API a portal has


def test_it_is_found_out_once_and_remembered() -> None:
    portal = OldPortal(a_page())
    client = a_portal(portal)
    client.products()
    assert portal.paths[0] == NEW
    assert portal.paths[-1] == OLD
    portal.requests.clear()
    client.products()
    client.view(KEY)
    assert portal.paths == [OLD, f"{OLD}/{A_PRODUCT}"]


def test_a_newer_portal_is_asked_nothing_twice() -> None:
    recorded = RecordedPortal("main")
    a_portal(recorded).products()
    assert [request.url.path for request in recorded.requests] == [NEW]


@pytest.mark.parametrize("question", ["products", "view", "consumers", "lifecycle", "asset"])
def test_any_question_finds_it_out(question: str) -> None:
    dataset = {**a_dataset(), "data_product_links": [a_link()]}
    portal = OldPortal(a_page(), a_page(PRODUCER), **{f"datasets/{A_PORT}": dataset})
    portal.pages |= {"/api/data_product_lifecycles": [], "/api/platforms/configs": []}
    client = a_portal(portal)
    answers: dict[str, Callable[[], object]] = {
        "products": lambda: len(client.products()) == 2,
        "view": lambda: client.view(KEY) is not None,
        "consumers": lambda: len(client.consumers(model.Key.product(PRODUCER), A_PORT)) == 1,
        "lifecycle": lambda: client.set_lifecycle(KEY, "Ready") is False,
        "asset": lambda: client.register_asset(KEY, LOCATION) is None,
    }
    assert answers[question]() is True


def test_a_portal_upgraded_to_one_with_both_is_noticed_after_a_while() -> None:
    clock = SettableClock()
    both: list[Handler] = [OldPortal(a_page())]
    client = a_portal(lambda request: both[0](request), clock=clock)
    client.products()
    newer = RecordedPortal("0.4.2")
    both[0] = Both(newer, OldPortal(a_page()))
    assert len(client.products()) == 1
    clock.now += 601
    assert len(client.products()) > 1
    newer.requests.clear()
    client.products()
    assert [request.url.path for request in newer.requests] == [NEW]


def test_one_that_stays_as_it_is_is_asked_again_only_after_a_while() -> None:
    clock = SettableClock()
    portal = OldPortal(a_page())
    client = a_portal(portal, clock=clock)
    client.products()
    clock.now += 601
    portal.requests.clear()
    client.products()
    client.products()
    assert sum(path.startswith("/api/v2/") for path in portal.paths) == 1
    assert portal.paths[-2:] == [OLD, OLD]


class Both:
    """Serve both families of routes."""

    def __init__(self, newer: Handler, older: Handler) -> None:
        self._newer, self._older = newer, older

    def __call__(self, request: httpx.Request) -> httpx.Response:
        serves = self._newer if request.url.path.startswith("/api/v2/") else self._older
        return serves(request)


def test_a_portal_upgraded_to_one_without_the_older_api_is_noticed_at_once() -> None:
    now: list[Handler] = [OldPortal(a_page())]
    client = a_portal(lambda request: now[0](request))
    client.products()
    now[0] = RecordedPortal("main")
    assert len(client.products()) > 1


def test_a_portal_put_back_to_the_older_release_is_noticed_at_once() -> None:
    now: list[Handler] = [RecordedPortal("main")]
    client = a_portal(lambda request: now[0](request))
    client.products()
    now[0] = OldPortal(a_page())
    assert [one.id for one in client.products()] == [A_PRODUCT]


def test_a_failure_has_it_found_out_anew() -> None:
    now: list[Handler] = [OldPortal(a_page())]
    client = a_portal(lambda request: now[0](request))
    client.products()
    now[0] = lambda request: httpx.Response(503)
    with pytest.raises(errors.PortalUnavailable):
        client.products()
    newer = RecordedPortal("0.4.2")
    now[0] = Both(newer, OldPortal(a_page()))
    assert len(client.products()) > 1


@pytest.mark.parametrize(
    ("newer", "older", "error"),
    [
        ((404, NOT_FOUND), (404, NOT_FOUND), errors.PortalUnavailable),
        ((404, NOT_FOUND), (404, None), errors.PortalUnavailable),
        ((404, NOT_FOUND), (500, GONE), errors.PortalUnavailable),
        ((404, NOT_FOUND), (502, None), errors.PortalUnavailable),
        ((404, NOT_FOUND), (200, None), errors.PortalUnavailable),
        ((404, NOT_FOUND), (403, GONE), errors.PortalRejected),
        ((404, None), (404, GONE), errors.PortalUnavailable),
        ((403, GONE), (200, []), errors.PortalRejected),
        ((500, GONE), (200, []), errors.PortalUnavailable),
        ((503, None), (200, []), errors.PortalUnavailable),
    ],
)
def test_a_portal_in_trouble_is_not_taken_for_the_older_release(
    newer: tuple[int, object], older: tuple[int, object], error: type[Exception]
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        status, content = newer if request.url.path.startswith("/api/v2/") else older
        body = b"<html>" if content is None else json.dumps(content).encode()
        return httpx.Response(status, content=body)

    client = a_portal(handler)
    with pytest.raises(error):
        client.products()
    with pytest.raises(error):
        client.view(KEY)


def test_a_portal_whose_newer_api_only_stumbles_stays_a_newer_one() -> None:
    """One route answers like a stranger's; the others are there."""
    listing = {"method": "GET", "path": NEW, "status": 404, "response_json": NOT_FOUND}
    stumbling = RecordedPortal("0.4.2", listing)
    nobody = "/api/v2/data_products/00000000-0000-0000-0000-000000000000/output_ports"

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == nobody:
            return httpx.Response(404, json=GONE)
        return stumbling(request)

    with pytest.raises(errors.PortalUnavailable, match="serves no such API"):
        a_portal(handler).products()
    assert not any(one.url.path.startswith(OLD) for one in stumbling.requests)


def test_a_running_portal_may_be_upgraded() -> None:
    portal = FakePortal(style=LEGACY)
    portal.state.create_product("sales")
    with RunningPortal(portal) as running:
        client = HttpPortal(base_url=running.url, sleep=lambda seconds: None)
        assert [one.namespace for one in client.products()] == ["sales"]
        running.portal = FakePortal(style="main")
        running.portal.state.create_product("marketing")
        assert [one.namespace for one in client.products()] == ["marketing"]
        client.close()

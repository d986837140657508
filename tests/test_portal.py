from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import date
from typing import Any

import httpx
import pytest

from provisioner import errors, model, ports
from provisioner.demo.portal import FakePortal, RunningPortal
from provisioner.portal import HttpPortal, client
from tests import recorded_portal
from tests.recorded_portal import RecordedPortal, row

A_PRODUCT = "0a0a0a0a-0000-4000-8000-000000000001"
KEY = model.Key.product(A_PRODUCT)
FOREIGN = "0b0b0b0b-0000-4000-8000-000000000002"
API_KEY = "a-key-that-nobody-may-see"
LIST = "/api/v2/data_products"

Handler = Callable[[httpx.Request], httpx.Response]


class Meeting(httpx.HTTPTransport):
    """Let calls about a product's parts go on only when so many are under way."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(calls, timeout=20)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.count("/") > 4:
            self._barrier.wait()
        return super().handle_request(request)


def test_the_parts_of_a_product_are_read_side_by_side() -> None:
    with RunningPortal(FakePortal()) as running:
        key = model.Key.product(running.portal.state.create_product("sales"))
        portal = HttpPortal(base_url=running.url, transport=Meeting(3))
        view = portal.view(key)
        portal.close()
    assert view is not None
    assert view.product.namespace == "sales"


class Sleeps(list[float]):
    """Remember pauses instead of taking them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


def a_portal(handler: Handler, *, sleep: Callable[[float], None] = lambda s: None) -> HttpPortal:
    return HttpPortal(
        base_url="http://portal.test",
        api_key=API_KEY,
        transport=httpx.MockTransport(handler),
        sleep=sleep,
    )


class Scripted:
    """Answer by script, the last line for ever, and remember what was asked."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        line = self.script[min(len(self.requests), len(self.script)) - 1]
        if isinstance(line, Exception):
            raise line
        status, content, *headers = line
        return httpx.Response(status, content=content, headers=headers[0] if headers else None)


EMPTY = (200, b'{"data_products": []}')


def refusal(detail: str = "Something went wrong") -> bytes:
    return json.dumps({"correlation_id": "c", "detail": detail}).encode()


def a_product_page(**changes: object) -> dict[str, object]:
    page: dict[str, object] = {
        "id": A_PRODUCT,
        "name": "Sales",
        "description": "d",
        "namespace": "sales",
        "status": "active",
        "finalizers": [],
        "tags": [],
        "domain": {"id": FOREIGN, "name": "Commercial"},
        "type": {"id": FOREIGN, "name": "Analytics"},
        "lifecycle": {"id": FOREIGN, "name": "Draft"},
        "about": "",
    }
    return {**page, **changes}


def an_input_port(**changes: object) -> dict[str, object]:
    port = {
        "id": "0c0c0c0c-0000-4000-8000-000000000003",
        "name": "Orders",
        "namespace": "orders",
        "status": "active",
        "access_type": "restricted",
        "data_product_id": FOREIGN,
    }
    link = {
        "id": "0d0d0d0d-0000-4000-8000-000000000004",
        "status": "approved",
        "current_request": None,
        "output_port_id": port["id"],
        "output_port": port,
    }
    return {**link, **changes}


class Pages:
    """Serve the pages of one product, some of them changed."""

    def __init__(self, **pages: object) -> None:
        self.pages: dict[str, object] = {
            "": a_product_page(),
            "/output_ports": {"output_ports": []},
            "/technical_assets": {"technical_assets": []},
            "/input_ports": {"input_ports": []},
        }
        self.pages |= {name.replace("product", "", 1): value for name, value in pages.items()}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        tail = request.url.path.removeprefix(f"{LIST}/{A_PRODUCT}")
        if tail in self.pages:
            page = self.pages[tail]
            return page if isinstance(page, httpx.Response) else httpx.Response(200, json=page)
        return httpx.Response(404, content=refusal("gone"))


# what real portals answered


@pytest.mark.parametrize("version", recorded_portal.VERSIONS)
def test_every_version_lists_its_products_by_namespace(version: str) -> None:
    recorded = RecordedPortal(version)
    found = a_portal(recorded).products()
    scenario = "list" if version in ("0.5.1", "0.7.0") else "snapshot_list_products"
    listed = row(version, scenario)["response_json"]["data_products"]
    assert [one.namespace for one in found] == sorted(one["namespace"] for one in listed)
    assert {one.lifecycle for one in found} <= {"Draft", "Ready"}


@pytest.mark.parametrize(
    ("version", "known"), [("0.4.2", False), ("0.5.1", False), ("0.7.0", True), ("main", True)]
)
def test_finalizers_are_known_where_the_product_has_them(version: str, known: bool) -> None:
    found = a_portal(RecordedPortal(version)).products()
    assert all((one.finalizers is not None) is known for one in found)


@pytest.mark.parametrize("version", ["0.4.2", "main"])
def test_a_list_says_of_a_product_what_its_page_says(version: str) -> None:
    portal = a_portal(RecordedPortal(version))
    key = _key_of(version, "snapshot_get_product")
    view = portal.view(key)
    assert view is not None
    (listed,) = (each for each in portal.products() if each.id == key.id)
    assert listed == view.product


@pytest.mark.parametrize("version", ["0.4.2", "main"])
def test_a_view_holds_ports_and_the_assets_linked_to_them(version: str) -> None:
    key = _key_of(version, "snapshot_get_product")
    view = a_portal(RecordedPortal(version)).view(key)
    assert view is not None
    assert view.product.namespace == "sales-orders-32673"
    assert view.product.lifecycle == "Ready"
    orders = next(port for port in view.ports if port.namespace == "orders-port-32673")
    assert [asset.path for asset in orders.assets] == ["raw-files-32673"]
    assert {asset.path: asset.status for asset in view.assets} == {
        "raw-files-32673": "active",
        "default-mapped-32673": "active" if version == "main" else "pending",
    }


@pytest.mark.parametrize("version", ["0.4.2", "main"])
def test_a_view_follows_approved_links_to_producers_ports_and_assets(version: str) -> None:
    key = _key_of(version, "snapshot_input_ports_C")
    view = a_portal(RecordedPortal(version)).view(key)
    assert view is not None
    producer = _key_of(version, "snapshot_get_product")
    assert [one.id for one in view.producers] == [producer.id]
    orders = next(one for one in view.granted_ports if one.namespace == "orders-port-32673")
    assert orders.producer_id == producer.id
    assert [(asset.bucket, asset.path) for asset in orders.assets] == [
        ("datalake", "raw-files-32673")
    ]


def test_a_view_keeps_links_of_every_status() -> None:
    view = a_portal(RecordedPortal("0.4.2")).view(_key_of("0.4.2", "snapshot_input_ports"))
    assert view is not None
    statuses = sorted(link.status for link in view.links)
    assert statuses == ["approved", "approved", "denied"]
    assert len(view.granted_ports) == 2


def test_a_view_tells_the_days_of_a_grant() -> None:
    view = a_portal(RecordedPortal("main")).view(_key_of("main", "snapshot_input_ports"))
    assert view is not None
    days = {(link.valid_from, link.valid_until, link.mode) for link in view.links}
    assert days == {
        (date(2026, 11, 21), None, "read"),
        (date(2026, 11, 21), date(2026, 11, 28), "read"),
    }


@pytest.mark.parametrize("version", ["0.5.1", "0.7.0"])
def test_grants_of_a_whole_portal_can_be_read(version: str) -> None:
    portal = a_portal(RecordedPortal(version))
    scenario = "/api/v2/data_products/"
    consumers = {
        one["path"].split("/")[4]
        for one in recorded_portal.rows(version)
        if one["scenario"] == "grants" and one["path"].startswith(scenario)
    }
    views = [portal.view(model.Key.product(identity)) for identity in sorted(consumers)]
    granted = [port for view in views if view is not None for port in view.granted_ports]
    assert len(views) == len(consumers)
    assert len(granted) >= len(consumers) / 2


def test_two_links_to_one_port_are_both_there() -> None:
    """As after a denial and a second request at a portal before 0.6."""
    listing = row("0.4.2", "dup_links")
    identity = listing["path"].split("/")[4]
    page = {**a_product_page(id=identity), "data_product_settings": []}
    page.pop("finalizers")
    recorded = {"method": "GET", "path": f"{LIST}/{identity}", "status": 200, "response_json": page}
    listed = RecordedPortal("0.4.2", listing, recorded)
    view = a_portal(listed).view(model.Key.product(identity))
    assert view is not None
    assert sorted(link.status for link in view.links) == ["denied", "pending"]
    assert len({link.port_id for link in view.links}) == 1


@pytest.mark.parametrize("version", ["0.4.2", "main"])
def test_a_deleted_product_is_gone(version: str) -> None:
    recorded = RecordedPortal(version)
    assert a_portal(recorded).view(_key_of(version, "gone")) is None


def test_a_deleting_product_says_so() -> None:
    recorded = RecordedPortal("main", row("main", "get_A_deleting"))
    view = a_portal(recorded).view(_key_of("main", "get_A_deleting"))
    assert view is not None
    assert view.product.status is model.ProductStatus.DELETING
    assert view.product.finalizers == frozenset({"peer-provisioner", "other.example:second"})


def test_the_consumers_of_a_port_are_products_and_explorations() -> None:
    found = row("main", "snapshot_exploration_approved", ending="/input_ports", last=True)
    _, _, _, _, product, _, port, *_ = found["path"].split("/")
    links = a_portal(RecordedPortal("main", found)).consumers(model.Key.product(product), port)
    assert {link.consumer.kind for link in links} == set(model.Kind)
    assert {link.producer_id for link in links} == {product}


@pytest.mark.parametrize(
    ("version", "scenario"),
    [
        ("0.4.2", "snapshot_output_port_input_ports"),
        ("0.5.1", "snapshot_consumers"),
        ("0.7.0", "snapshot_consumers"),
        ("main", "snapshot_output_port_input_ports"),
    ],
)
def test_the_consumers_of_a_port_are_read_at_every_version(version: str, scenario: str) -> None:
    found = row(version, scenario)
    _, _, _, _, product, _, port, *_ = found["path"].split("/")
    recorded = RecordedPortal(version, found)
    links = a_portal(recorded).consumers(model.Key.product(product), port)
    assert {link.status for link in links} >= {model.LinkStatus.APPROVED}
    assert {link.port_id for link in links} == {port}


@pytest.mark.parametrize("version", ["0.4.2", "main"])
def test_a_port_that_is_gone_has_no_consumers(version: str) -> None:
    (found,) = (
        one["path"]
        for one in recorded_portal.rows(version)
        if one["scenario"] == "gone" and re.search(r"/output_ports/[^/]+/input_ports", one["path"])
    )
    _, _, _, _, product, _, port, *_ = found.split("/")
    links = a_portal(RecordedPortal(version)).consumers(model.Key.product(product), port)
    assert links == ()


WHY = model.Key(model.Kind.EXPLORATION, "459a0fbe-62af-420c-96b4-b6ff3f313599")


@pytest.mark.parametrize(
    ("version", "scenario"), [("0.7.0", "grants"), ("main", "snapshot_explorations")]
)
def test_explorations_are_listed_by_namespace(version: str, scenario: str) -> None:
    listed = row(version, scenario, ending="/explorations")
    found = a_portal(RecordedPortal(version, listed)).explorations()
    assert [(one.namespace, one.status, one.finalizers) for one in found] == [
        ("ceo_question_exploration", "active", frozenset()),
        ("coo_question_exploration", "active", frozenset()),
    ]
    assert {one.domain for one in found} == {"Customer Insights"}


def test_a_portal_that_has_no_explorations_lists_none() -> None:
    recorded = RecordedPortal("0.4.2", row("0.4.2", "snapshot_explorations"))
    assert a_portal(recorded).explorations() == ()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((404, b"<html>"), errors.PortalUnavailable),
        ((404, refusal("nothing here")), errors.PortalRejected),
        ((500, refusal()), errors.PortalUnavailable),
        ((403, refusal("Unauthenticated")), errors.PortalRejected),
        ((200, b"[]"), errors.PortalUnavailable),
        ((200, b'{"explorations": null}'), errors.PortalUnavailable),
    ],
)
def test_a_portal_that_does_not_list_its_explorations_is_not_taken_for_one_without(
    answer: tuple[int, bytes], error: type[Exception]
) -> None:
    with pytest.raises(error):
        a_portal(Scripted(answer)).explorations()


def test_an_exploration_is_a_product_that_only_reads() -> None:
    link = row("main", "snapshot_exploration_approved", ending="/input_ports")
    view = a_portal(RecordedPortal("main", link)).view(WHY)
    assert view is not None
    assert (view.product.id, view.product.namespace) == (WHY.id, "why-32673")
    assert view.product.domain.startswith("Commercial")
    assert (view.product.lifecycle, view.ports, view.assets) == ("", (), ())
    (granted,) = view.links
    assert (granted.consumer, granted.status) == (WHY, "approved")
    assert granted.valid_until == date(2026, 12, 21)
    assert [one.id for one in view.producers] == [granted.producer_id]
    assert [one.id for one in view.granted_ports] == [granted.port_id]
    assert [asset.path for asset in view.granted_ports[0].assets] == ["raw-files-32673"]


def test_a_request_of_an_exploration_opens_nothing_yet() -> None:
    recorded = RecordedPortal("main", row("main", "snapshot_exploration_pending"))
    view = a_portal(recorded).view(WHY)
    assert view is not None
    assert [link.status for link in view.links] == ["pending"]
    assert (view.producers, view.granted_ports) == ((), ())


def test_a_deleting_exploration_says_so_and_a_deleted_one_is_gone() -> None:
    deleting = row("main", "exploration2_get_deleting")
    key = model.Key(model.Kind.EXPLORATION, deleting["path"].split("/")[-1])
    links = {
        "method": "GET",
        "path": f"{deleting['path']}/input_ports",
        "status": 200,
        "response_json": {"input_ports": []},
    }
    view = a_portal(RecordedPortal("main", deleting, links)).view(key)
    assert view is not None
    assert (view.product.status, view.product.finalizers) == ("deleting", frozenset({"prov-ex"}))
    after = row("main", "exploration2_get_after")
    assert a_portal(RecordedPortal("main", after)).view(key) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((404, refusal("Not Found")), errors.PortalUnavailable),
        ((404, b"<html>"), errors.PortalUnavailable),
        ((500, refusal()), errors.PortalUnavailable),
        ((403, refusal("Unauthenticated")), errors.PortalRejected),
        ((401, refusal()), errors.PortalRejected),
        ((200, b"null"), errors.PortalUnavailable),
    ],
)
def test_only_the_portals_own_404_means_that_an_exploration_is_gone(
    answer: tuple[int, bytes], error: type[Exception]
) -> None:
    with pytest.raises(error):
        a_portal(Scripted(answer)).view(WHY)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((401, refusal()), True),
        ((403, refusal("Unauthenticated")), True),
        ((403, refusal("You need other rights")), False),
    ],
    ids=["401", "unauthenticated", "rights"],
)
def test_a_wrong_key_is_told_from_missing_rights(answer: tuple[int, bytes], hint: bool) -> None:
    with pytest.raises(errors.PortalRejected) as caught:
        a_portal(Scripted(answer)).products()
    assert ("see PROV_DPP_API_KEY" in str(caught.value)) is hint
    assert f"status={answer[0]}" in str(caught.value)


def test_the_page_of_another_exploration_is_refused() -> None:
    page = a_product_page(id=FOREIGN)
    with pytest.raises(errors.PortalUnavailable, match="not what its API promises"):
        a_portal(Scripted((200, json.dumps(page).encode()))).view(WHY)


def test_an_exploration_without_a_status_is_active() -> None:
    listed = {"explorations": [{"id": WHY.id, "namespace": "why", "name": "Why"}]}
    (found,) = a_portal(Scripted((200, json.dumps(listed).encode()))).explorations()
    assert (found.status, found.finalizers) == (model.ProductStatus.ACTIVE, None)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_finalizer_of_an_exploration_may_be_refused(method: str) -> None:
    recorded = next(
        one
        for one in recorded_portal.rows("main")
        if one["scenario"] == "auth_xkey_admin" and one["method"] == method
    )
    key = model.Key(model.Kind.EXPLORATION, recorded["path"].split("/")[4])
    portal = a_portal(RecordedPortal("main"))
    write = portal.add_finalizer if method == "POST" else portal.remove_finalizer
    with pytest.raises(errors.PortalRejected) as rejected:
        write(key, "x")
    assert rejected.value.attributes["status"] == 403


# technical assets and links of every status


def an_asset_entry(number: int, status: str, link: str) -> dict[str, object]:
    """Write an asset as the newer API does, linked to one port of its product."""
    return {
        "id": f"0e0e0e0e-0000-4000-8000-{number:012}",
        "name": f"asset {number}",
        "namespace": f"asset-{number}",
        "status": status,
        "configuration": {
            "configuration_type": "S3TechnicalAssetConfiguration",
            "bucket": "lake",
            "suffix": "",
            "path": f"{status}-{link}",
        },
        "output_port_links": [{"output_port_id": AN_OUTPUT_PORT["id"], "status": link}],
    }


AN_OUTPUT_PORT = {
    "id": "0f0f0f0f-0000-4000-8000-000000000005",
    "name": "Orders",
    "namespace": "orders",
    "status": "active",
    "data_product_id": A_PRODUCT,
}


@pytest.mark.parametrize("status", ["pending", "active", "archived", "melted"])
@pytest.mark.parametrize("link", ["pending", "approved", "denied", "mused"])
def test_assets_keep_their_status_and_reach_a_port_by_an_approved_link(
    status: str, link: str
) -> None:
    entry = an_asset_entry(1, status, link)
    pages = Pages(
        **{
            "product/output_ports": {"output_ports": [AN_OUTPUT_PORT]},
            "product/technical_assets": {"technical_assets": [entry]},
        }
    )
    view = a_portal(pages).view(KEY)
    assert view is not None
    assert [(asset.id, asset.status) for asset in view.assets] == [(entry["id"], status)]
    expected = [status] if link == "approved" else []
    assert [asset.status for asset in view.ports[0].assets] == expected


@pytest.mark.parametrize("status", ["pending", "active", "archived", "melted"])
@pytest.mark.parametrize("link", ["pending", "approved", "denied", "mused"])
def test_a_granted_port_has_the_assets_of_its_approved_links_in_every_status(
    status: str, link: str
) -> None:
    entry = an_input_port()
    asset = {**an_asset_entry(1, status, link)}
    page = {
        **entry["output_port"],  # type: ignore[dict-item]
        "technical_asset_links": [{"status": link, "technical_asset": asset}],
    }

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"{LIST}/{FOREIGN}":
            return httpx.Response(200, json=a_product_page(id=FOREIGN))
        if "/output_ports/" in request.url.path:
            return httpx.Response(200, json=page)
        return Pages(**{"product/input_ports": {"input_ports": [entry]}})(request)

    view = a_portal(handler).view(KEY)
    assert view is not None
    expected = [status] if link == "approved" else []
    assert [one.status for one in view.granted_ports[0].assets] == expected


def _key_of(version: str, scenario: str) -> model.Key:
    return model.Key.product(row(version, scenario)["path"].split("/")[4])


# how it calls


def test_the_reader_and_the_writer_are_what_the_application_asks_for() -> None:
    reader: ports.PortalReader = a_portal(Scripted(EMPTY))
    writer: ports.PortalWriter = a_portal(Scripted(EMPTY))
    assert reader.products() == ()
    assert isinstance(writer, HttpPortal)


def test_every_call_bears_the_key() -> None:
    script = Scripted(EMPTY)
    a_portal(script).products()
    assert [one.headers["x-key"] for one in script.requests] == [API_KEY]


def test_without_a_key_none_is_sent() -> None:
    script = Scripted(EMPTY)
    HttpPortal(base_url="http://p.test", transport=httpx.MockTransport(script)).products()
    assert "x-key" not in script.requests[0].headers


@pytest.mark.parametrize("key", ["two\nlines", "schl\u00fcssel", "a\x00b"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(errors.ConfigurationError) as refused:
        HttpPortal(base_url="http://p.test", api_key=key)
    assert key not in str(refused.value)


def test_a_slash_is_asked_for_once_and_then_remembered() -> None:
    recorded = RecordedPortal("main")
    portal = a_portal(recorded)
    key = _key_of("main", "snapshot_get_product")
    portal.view(key)
    portal.view(key)
    route = "/api/v2/data_products/{id}/technical_assets"
    assert recorded.calls["GET", route] == 1
    assert recorded.calls["GET", f"{route}/"] == 2


@pytest.mark.parametrize(
    "location",
    [
        "http://elsewhere.test/api/v2/data_products/",
        "http://portal.test/login",
        "http://portal.test/",
        "//elsewhere.test/api/v2/data_products/",
        "http://[broken",
        "",
    ],
)
def test_no_other_redirect_is_followed(location: str) -> None:
    script = Scripted((307, b"", {"location": location}))
    with pytest.raises(errors.PortalUnavailable):
        a_portal(script).products()
    assert {one.url.host for one in script.requests} == {"portal.test"}
    assert len(script.requests) == 1


def test_the_slash_is_changed_at_our_own_address_behind_a_proxy_that_ends_tls() -> None:
    location = {"location": "http://portal.test:8080/api/v2/data_products/"}
    script = Scripted((307, b"", location), EMPTY)
    portal = HttpPortal(base_url="https://portal.test", transport=httpx.MockTransport(script))
    assert portal.products() == ()
    assert [str(one.url) for one in script.requests] == [
        "https://portal.test/api/v2/data_products",
        "https://portal.test/api/v2/data_products/",
    ]


def test_a_portal_that_redirects_in_a_circle_is_unavailable() -> None:
    def circle(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        other = path.rstrip("/") if path.endswith("/") else f"{path}/"
        return httpx.Response(307, headers={"location": other})

    with pytest.raises(errors.PortalUnavailable):
        a_portal(circle).products()


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        (502, b"<html>"),
        (503, refusal()),
        (504, b""),
        (429, refusal()),
        (500, refusal()),
    ],
)
def test_what_is_temporary_is_tried_again(trouble: object, sleeps: Sleeps) -> None:
    script = Scripted(trouble, EMPTY)
    assert a_portal(script, sleep=sleeps).products() == ()
    assert len(script.requests) == 2
    assert len(sleeps) == 1


@pytest.mark.parametrize(
    ("trouble", "calls"),
    [
        (httpx.ConnectError("refused"), 3),
        ((503, refusal()), 3),
        ((500, refusal()), 2),
        ((501, refusal()), 1),
        ((403, refusal("Unauthenticated")), 1),
        ((200, b"<!doctype html>"), 1),
        ((200, b'{"data_products": [{"id": "0a'), 1),
    ],
)
def test_it_gives_up_in_the_end(trouble: object, calls: int, sleeps: Sleeps) -> None:
    script = Scripted(trouble)
    with pytest.raises(errors.ReconcileError):
        a_portal(script, sleep=sleeps).products()
    assert len(script.requests) == calls


def test_the_wait_that_the_portal_asks_for_is_kept(sleeps: Sleeps) -> None:
    script = Scripted((429, refusal(), {"retry-after": "3"}), EMPTY)
    a_portal(script, sleep=sleeps).products()
    assert sleeps == [3.0]


@pytest.mark.parametrize(("asked", "delay"), [("120", 120.0), ("999999", 3600.0)])
def test_a_long_wait_is_left_to_the_queue(asked: str, delay: float, sleeps: Sleeps) -> None:
    script = Scripted((429, refusal(), {"retry-after": asked}))
    with pytest.raises(errors.RateLimited) as limited:
        a_portal(script, sleep=sleeps).products()
    assert limited.value.delay_seconds == delay
    assert sleeps == []


def test_after_a_429_no_call_of_any_kind_asks_before_its_time(sleeps: Sleeps) -> None:
    script = Scripted((429, refusal(), {"retry-after": "120"}), EMPTY)
    now = [0.0]
    portal = HttpPortal(
        base_url="http://portal.test",
        transport=httpx.MockTransport(script),
        sleep=sleeps,
        clock=lambda: now[0],
    )
    with pytest.raises(errors.RateLimited):
        portal.products()
    for call in (portal.products, lambda: portal.view(KEY), lambda: portal.consumers(KEY, FOREIGN)):
        now[0] += 20.0
        with pytest.raises(errors.RateLimited) as limited:
            call()
        assert limited.value.delay_seconds == 120.0 - now[0]
    assert len(script.requests) == 1
    now[0] = 117.0
    assert portal.products() == ()
    assert sleeps == [3.0]
    portal.close()


@pytest.mark.parametrize("asked", ["soon", "-3", "Fri, 31 Dec 1999 23:59:59 GMT", "\u0663"])
def test_a_wait_that_is_no_number_is_our_own(asked: str, sleeps: Sleeps) -> None:
    headers = {b"retry-after": asked.encode()}
    script = Scripted((503, refusal(), headers), EMPTY)
    a_portal(script, sleep=sleeps).products()
    assert all(0 <= pause <= 2 for pause in sleeps)


def test_what_is_not_repeatable_is_not_repeated(sleeps: Sleeps) -> None:
    location = model.Location(bucket="b", prefix="sales/")
    posts = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            posts.append(request)
            return httpx.Response(503, content=refusal())
        if "platforms" in request.url.path:
            return RecordedPortal("main")(request)
        return Pages()(request)

    with pytest.raises(errors.PortalUnavailable):
        a_portal(handler, sleep=sleeps).register_asset(KEY, location)
    assert len(posts) == 1


# what it does not believe


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("path", ["", "/output_ports", "/technical_assets", "/input_ports"])
def test_a_refusal_never_means_gone(status: int, path: str) -> None:
    denied = httpx.Response(status, content=refusal("Unauthenticated"))
    with pytest.raises(errors.PortalRejected) as rejected:
        a_portal(Pages(**{f"product{path}": denied})).view(KEY)
    assert rejected.value.attributes["status"] == status


@pytest.mark.parametrize(
    ("page", "ports_page"),
    [
        ((500, refusal()), (500, refusal())),
        ((500, refusal()), (403, refusal("Unauthenticated"))),
        ((500, refusal()), (404, b"<html>not here</html>")),
        ((500, refusal()), (404, refusal("Not Found"))),
        ((500, refusal()), (200, b"null")),
        ((404, refusal("Not Found")), (404, refusal("Not Found"))),
        ((404, b"<html>nginx</html>"), (404, b"<html>nginx</html>")),
        ((404, b"{}"), (404, b"{}")),
        ((200, b"null"), (404, refusal("gone"))),
    ],
)
def test_only_the_portals_own_404_means_gone(
    page: tuple[int, bytes], ports_page: tuple[int, bytes]
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        status, content = ports_page if request.url.path.endswith("/output_ports") else page
        return httpx.Response(status, content=content)

    with pytest.raises(errors.ReconcileError):
        a_portal(handler).view(KEY)


def test_a_portal_with_neither_api_says_that_it_serves_none() -> None:
    script = Scripted((404, refusal("Not Found")))
    with pytest.raises(errors.PortalUnavailable, match="serves no such API") as failed:
        a_portal(script).products()
    assert failed.value.condition == "PortalUnavailable"


def test_a_product_that_goes_while_it_is_read_is_read_again_later() -> None:
    gone = httpx.Response(404, content=refusal("gone"))
    with pytest.raises(errors.Conflict):
        a_portal(Pages(**{"product/input_ports": gone})).view(KEY)


def test_who_reads_a_product_while_the_service_ends_is_told_that_the_portal_is_away() -> None:
    portal = a_portal(Pages())
    portal.close()
    with pytest.raises(errors.PortalUnavailable):
        portal.view(KEY)


def test_a_list_of_thousands_keeps_what_is_read_of_it_alone() -> None:
    entry = a_product_page(usage="long", tags=[{"id": A_PRODUCT, "value": "long"}])
    script = Scripted((200, json.dumps({"data_products": [entry], "more": "long"}).encode()))
    kept = frozenset({"data_products", "id", "domain", "name"})
    caller = client.PortalClient(
        base_url="http://portal.test",
        access=client.Access(),
        transport=httpx.MockTransport(script),
        timeout_seconds=1,
        attempts=1,
        sleep=lambda seconds: None,
        clock=lambda: 0.0,
    )
    body = caller.call(client.Call(method="GET", route="/products", keep=kept)).body
    domain = {"id": FOREIGN, "name": "Commercial"}
    read = {"id": A_PRODUCT, "name": "Sales", "domain": domain}
    assert body == {"data_products": [read]}


def test_an_endless_answer_is_cut_off() -> None:
    script = Scripted((200, b"[" * (65 * 1024 * 1024)))
    with pytest.raises(errors.PortalUnavailable, match="does not end"):
        a_portal(script).products()


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 5_000, b"\xff\xfe", b"[]", b"{}"])
def test_whatever_the_bytes_the_portal_is_merely_unavailable(body: bytes) -> None:
    with pytest.raises(errors.PortalUnavailable):
        a_portal(Scripted((200, body))).products()


def test_a_status_that_nobody_knows_is_left_to_be_judged() -> None:
    view = a_portal(Pages(product=a_product_page(status="asleep"))).view(KEY)
    assert view is not None
    assert view.product.status is model.ProductStatus.UNKNOWN


@pytest.mark.parametrize(
    "page",
    [
        a_product_page(id=A_PRODUCT.upper()),
        a_product_page(id="../../etc"),
        a_product_page(id=FOREIGN),
        a_product_page(namespace=None),
        a_product_page(name=["a"]),
        a_product_page(status=7),
        a_product_page(finalizers="all"),
        a_product_page(finalizers=[1]),
        a_product_page(lifecycle="Ready"),
        [a_product_page()],
        None,
    ],
)
def test_a_page_that_is_not_the_products_is_refused(page: object) -> None:
    with pytest.raises(errors.PortalUnavailable):
        a_portal(Pages(product=page)).view(KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"data_product_id": FOREIGN},
        {"output_port": None},
        {"output_port_id": FOREIGN},
        {"status": None},
        {"current_request": "yes"},
        {"current_request": {"valid_until": "soon"}},
        {"current_request": {"access_mode": "write"}},
    ],
)
def test_a_link_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    listing = {"input_ports": [an_input_port(**change)]}
    with pytest.raises(errors.PortalUnavailable):
        a_portal(Pages(**{"product/input_ports": listing})).view(KEY)


def test_a_link_status_that_nobody_knows_opens_nothing() -> None:
    listing = {"input_ports": [an_input_port(status="granted_by_magic")]}
    view = a_portal(Pages(**{"product/input_ports": listing})).view(KEY)
    assert view is not None
    assert [link.status for link in view.links] == [model.LinkStatus.PENDING]
    assert view.granted_ports == ()


def test_an_access_mode_is_told_by_its_name() -> None:
    request = {"valid_from": None, "valid_until": None, "access_mode": {"name": "write"}}
    listing = {"input_ports": [an_input_port(status="denied", current_request=request)]}
    view = a_portal(Pages(**{"product/input_ports": listing})).view(KEY)
    assert view is not None
    assert [link.mode for link in view.links] == ["write"]


def test_a_producer_that_is_gone_grants_nothing() -> None:
    listing = {"input_ports": [an_input_port()]}
    view = a_portal(Pages(**{"product/input_ports": listing})).view(KEY)
    assert view is not None
    assert [link.status for link in view.links] == [model.LinkStatus.APPROVED]
    assert (view.producers, view.granted_ports) == ((), ())


@pytest.mark.parametrize("private", [True, False])
def test_a_closed_page_of_a_private_port_hides_its_assets_only(private: bool) -> None:
    entry = an_input_port()
    port = {**entry["output_port"], "access_type": "private" if private else "restricted"}  # type: ignore[dict-item]
    listing = {"input_ports": [{**entry, "output_port": port}]}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"{LIST}/{FOREIGN}":
            return httpx.Response(200, json=a_product_page(id=FOREIGN))
        if "/output_ports/" in request.url.path:
            return httpx.Response(403, content=refusal("You do not have access"))
        return Pages(**{"product/input_ports": listing})(request)

    portal = a_portal(handler)
    if not private:
        with pytest.raises(errors.PortalRejected):
            portal.view(KEY)
        return
    view = portal.view(KEY)
    assert view is not None
    assert [(one.namespace, one.assets) for one in view.granted_ports] == [("orders", ())]


@pytest.mark.parametrize(
    "answer", [(403, refusal("secret-detail")), (200, b"secret-detail"), (500, b"secret-detail")]
)
def test_a_failure_tells_the_route_and_neither_key_nor_body(answer: tuple[int, bytes]) -> None:
    with pytest.raises(errors.ReconcileError) as failed:
        a_portal(Scripted(answer)).products()
    assert failed.value.attributes["method"] == "GET"
    assert failed.value.attributes["path"] == "/api/v2/data_products"
    assert failed.value.attributes["status"] == answer[0]
    told = repr(failed.value) + str(failed.value)
    assert API_KEY not in told
    assert "secret-detail" not in told


# what it writes


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "\u00e9"])
def test_a_finalizer_that_the_portal_could_not_remove_is_never_added(name: str) -> None:
    script = Scripted((200, b"null"))
    with pytest.raises(errors.NameRejected):
        a_portal(script).add_finalizer(KEY, name)
    assert script.requests == []


@pytest.mark.parametrize(
    ("status", "detail"),
    [(200, None), (404, "Finalizer 'x' not found"), (404, "Required item does not exist")],
)
def test_removing_a_finalizer_succeeds_where_there_is_none(status: int, detail: str | None) -> None:
    script = Scripted((status, b"null" if detail is None else refusal(detail)))
    a_portal(script).remove_finalizer(KEY, "sqlmesh-provisioner")
    assert [(one.method, one.url.path) for one in script.requests] == [
        ("DELETE", f"{LIST}/{A_PRODUCT}/finalizers/sqlmesh-provisioner")
    ]


def test_a_product_that_is_deleting_takes_no_finalizer() -> None:
    script = Scripted((409, refusal("is already pending deletion")))
    with pytest.raises(errors.Conflict):
        a_portal(script).add_finalizer(KEY, "sqlmesh-provisioner")


def test_text_that_is_no_unicode_can_be_written_back() -> None:
    written = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            written.append(json.loads(request.content))
            return httpx.Response(200, content=b"null")
        if "lifecycles" in request.url.path:
            content = {"data_product_life_cycles": [{"id": FOREIGN, "name": "Ready"}]}
            return httpx.Response(200, json=content)
        page = json.dumps(a_product_page(description="half a pair: \ud83d"))
        return httpx.Response(200, content=page.encode())

    assert a_portal(handler).set_lifecycle(KEY, "Ready") is True
    assert [one["description"] for one in written] == ["half a pair: \ud83d"]
    assert [one["lifecycle_id"] for one in written] == [FOREIGN]


def test_a_portal_without_an_s3_service_registers_no_asset() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if "platforms" in request.url.path:
            return httpx.Response(200, json={"platform_service_configurations": []})
        return Pages()(request)

    location = model.Location(bucket="b", prefix="sales/")
    assert a_portal(handler).register_asset(KEY, location) is None

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from provisioner import errors, model
from provisioner.demo.portal import FakePortal, Fault, RunningPortal, entities
from provisioner.demo.portal.entities import STYLES, Refused
from provisioner.domain import plan
from provisioner.portal import HttpPortal, OAuthClient
from tests import canned_server, recorded, recorded_portal
from tests.webhook_sink import WebhookSink

LIST = "/api/v2/data_products"
OLD_LIST = "/api/data_products"
LEGACY = "tag-0.4.2"
NEWER = [style for style in STYLES if not STYLES[style].legacy]
EXPLORING = [style for style in STYLES if STYLES[style].modern]
SECRET = "demo-secret-key"
LOCATION = model.Location(bucket="data-products", prefix="sales/")
S3 = {"configuration_type": "S3TechnicalAssetConfiguration", "bucket": "lake", "path": "raw"}

Opened = Callable[..., tuple[FakePortal, HttpPortal]]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningPortal]:
    with RunningPortal(FakePortal()) as running:
        yield running


@pytest.fixture
def opened(server: RunningPortal) -> Iterator[Opened]:
    """Put a portal in the server's place and open a client to it."""
    clients: list[HttpPortal] = []

    def start(style: str, **settings: Any) -> tuple[FakePortal, HttpPortal]:
        server.portal = FakePortal(style=style, **settings)
        key = settings.get("api_key")
        client = HttpPortal(base_url=server.url, api_key=key, sleep=lambda seconds: None)
        clients.append(client)
        return server.portal, client

    yield start
    for client in clients:
        client.close()


def populate(portal: FakePortal) -> tuple[str, str, str]:
    """Make a producer with a port and an asset in it, and a consumer with an approved link."""
    state = portal.state
    producer = state.create_product("sales", name="Sales é {{ x }}", description="orders")
    consumer = state.create_product("marketing")
    port = state.create_port(producer, "orders", name="Orders")
    asset = state.create_asset(producer, "raw", configuration=S3)
    state.set_asset_status(asset, "active")
    state.link_asset(port, asset)
    state.decide_asset_link(port, asset, "approved")
    state.request_access(consumer, port)
    state.approve(port, consumer)
    return producer, consumer, port


@pytest.mark.parametrize("style", STYLES)
def test_every_version_gives_the_same_view(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    producer, consumer, port = populate(portal)
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert [one.namespace for one in client.products()] == ["marketing", "sales"]
    assert [(one.id, one.name) for one in view.producers] == [(producer, "Sales é {{ x }}")]
    assert [(one.id, one.namespace) for one in view.granted_ports] == [(port, "orders")]
    assert [(one.path, one.status) for one in view.granted_ports[0].assets] == [("raw", "active")]
    assert [(one.port_id, one.status) for one in view.links] == [(port, "approved")]
    own = client.view(model.Key.product(producer))
    assert own is not None
    assert [(one.namespace, len(one.assets)) for one in own.ports] == [("orders", 1)]
    links = client.consumers(model.Key.product(producer), port)
    assert [(one.consumer.id, one.status) for one in links] == [(consumer, "approved")]


@pytest.mark.parametrize("style", NEWER)
def test_a_producer_and_a_port_are_read_once_a_view(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    producer, consumer, _ = populate(portal)
    second = portal.state.create_port(producer, "refunds", access_type="public")
    portal.state.request_access(consumer, second)
    client.view(model.Key.product(consumer))
    portal.requests.clear()
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert len(view.granted_ports) == 2
    assert portal.requests["GET", f"{LIST}/{{id}}"] == 2
    assert portal.requests["GET", f"{LIST}/{{id}}/output_ports/{{id}}"] == 2
    assert portal.requests.total() == 7


@pytest.mark.parametrize("style", STYLES)
def test_what_was_listed_is_not_asked_for_again_and_says_the_same(
    style: str, opened: Opened
) -> None:
    portal, client = opened(style)
    producer, consumer, _ = populate(portal)
    listed = {product.id: product for product in client.products()}
    for key in map(model.Key.product, (producer, consumer)):
        before = client.view(key)
        portal.requests.clear()
        after = client.view(key, listed=listed)
        assert after is not None
        assert before is not None
        wanted = [_desired(key, view).digest for view in (before, after)]
        assert wanted[0] == wanted[1]
        if style in NEWER:
            assert ("GET", f"{LIST}/{{id}}") not in portal.requests
            assert portal.requests.total() == (3 if key.id == producer else 4)


def _desired(key: model.Key, view: model.PortalView) -> model.Desired:
    rules = plan.Rules(bucket="lake")
    return plan.desired(key, view, rules=rules, namespaces={}, now=datetime.now(UTC))


def test_release_0_4_2_tells_all_on_one_page_a_product(opened: Opened) -> None:
    portal, client = opened(LEGACY)
    producer, consumer, _ = populate(portal)
    second = portal.state.create_port(producer, "refunds", access_type="public")
    portal.state.request_access(consumer, second)
    client.products()
    portal.requests.clear()
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert [len(one.assets) for one in view.granted_ports] == [
        int(one.namespace == "orders") for one in view.granted_ports
    ]
    assert portal.requests == {("GET", f"{OLD_LIST}/{{id}}"): 2}


@pytest.mark.parametrize("style", STYLES)
def test_every_version_forgets_a_deleted_product(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    producer, consumer, port = populate(portal)
    assert portal.state.delete_product(producer) is True
    assert client.view(model.Key.product(producer)) is None
    assert client.consumers(model.Key.product(producer), port) == ()
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert view.links == ()


@pytest.mark.parametrize("style", ["0.7.0", "main"])
def test_a_finalizer_holds_the_deletion_back(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    key = model.Key.product(portal.state.create_product("sales"))
    client.add_finalizer(key, "sqlmesh-provisioner")
    client.add_finalizer(key, "sqlmesh-provisioner")
    assert portal.state.delete_product(key.id) is False
    view = client.view(key)
    assert view is not None
    assert view.product.status is model.ProductStatus.DELETING
    assert view.product.finalizers == frozenset({"sqlmesh-provisioner"})
    client.remove_finalizer(key, "sqlmesh-provisioner")
    assert client.view(key) is None
    client.remove_finalizer(key, "sqlmesh-provisioner")


@pytest.mark.parametrize("style", ["tag-0.4.2", "0.4.2", "0.5.1"])
def test_a_portal_that_knows_no_finalizers_says_so(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    key = model.Key.product(portal.state.create_product("sales"))
    view = client.view(key)
    assert view is not None
    assert view.product.finalizers is None
    with pytest.raises(errors.PortalUnavailable):
        client.add_finalizer(key, "sqlmesh-provisioner")


@pytest.mark.parametrize("style", STYLES)
def test_the_lifecycle_is_set_once_and_nothing_else_changes(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    key = model.Key.product(portal.state.create_product("sales", name="é", description="orders"))
    portal.state.update_product(key.id, about="<p>mine</p>")
    assert client.set_lifecycle(key, "Ready") is False
    portal.state.create_lifecycle("Ready")
    assert client.set_lifecycle(key, "Ready") is True
    assert client.set_lifecycle(key, "Ready") is True
    root = OLD_LIST if style == LEGACY else LIST
    assert portal.requests["PUT", f"{root}/{{id}}"] == 1
    view = client.view(key)
    assert view is not None
    assert (view.product.lifecycle, view.product.name, view.product.description) == (
        "Ready",
        "é",
        "orders",
    )
    assert portal.state.product(key.id).about == "<p>mine</p>"


@pytest.mark.parametrize("admin", [True, False])
@pytest.mark.parametrize("style", STYLES)
def test_the_asset_of_a_prefix_is_registered_once(style: str, admin: bool, opened: Opened) -> None:
    portal, client = opened(style, admin=admin)
    key = model.Key.product(portal.state.create_product("sales"))
    made = client.register_asset(key, LOCATION)
    assert client.register_asset(key, LOCATION) == made
    (asset,) = portal.state.assets.values()
    assert asset.id == made
    assert (asset.configuration["bucket"], asset.configuration["path"]) == (
        "data-products",
        "sales",
    )
    assert asset.status == ("active" if STYLES[style].modern else "pending")
    legacy = portal.requests["POST", "/api/data_products/{id}/data_output"]
    assert legacy == (style == LEGACY or not (admin or STYLES[style].modern))


@pytest.mark.parametrize("style", STYLES)
def test_another_asset_is_not_the_one_of_the_prefix(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    key = model.Key.product(portal.state.create_product("sales"))
    for change in ({"bucket": "other"}, {"path": "sales/x"}, {"suffix": "x"}):
        configuration = {**S3, "bucket": "data-products", "path": "sales", **change}
        portal.state.create_asset(key.id, "a", configuration=configuration)
    client.register_asset(key, LOCATION)
    assert len(portal.state.assets) == 4


@pytest.mark.parametrize("style", NEWER)
def test_a_private_port_without_a_role_grants_its_prefix_only(style: str, opened: Opened) -> None:
    portal, client = opened(style, admin=False)
    _, consumer, port = populate(portal)
    portal.state.ports[port].access_type = "private"
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert [(one.namespace, one.assets) for one in view.granted_ports] == [("orders", ())]


@pytest.mark.parametrize("style", ["tag-0.4.2", "0.4.2", "0.5.1"])
def test_a_denial_and_a_second_request_leave_two_links_before_0_6(
    style: str, opened: Opened
) -> None:
    portal, client = opened(style)
    _, consumer, port = populate(portal)
    portal.state.deny(port, consumer)
    portal.state.request_access(consumer, port)
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert sorted(link.status for link in view.links) == ["denied", "pending"]
    with pytest.raises(Refused) as refused:
        portal.state.approve(port, consumer)
    assert refused.value.status == 400


@pytest.mark.parametrize("style", ["0.7.0", "main"])
def test_days_of_a_grant_move_and_run_out(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    _, consumer, _ = populate(portal)
    (link,) = portal.state.links
    portal.state.set_validity(link, valid_from=date(2026, 1, 1), valid_until=date(2026, 2, 1))
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert (view.links[0].valid_from, view.links[0].valid_until) == (
        date(2026, 1, 1),
        date(2026, 2, 1),
    )
    assert view.links[0].status is model.LinkStatus.APPROVED
    portal.state.expire(date(2026, 2, 2))
    view = client.view(model.Key.product(consumer))
    assert view is not None
    assert view.links[0].status is model.LinkStatus.EXPIRED


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_wrong_key_is_refused_as_the_real_portal_does(
    key: str | None, server: RunningPortal
) -> None:
    server.portal = FakePortal(api_key="right")
    client = HttpPortal(base_url=server.url, api_key=key)
    with pytest.raises(errors.PortalRejected) as rejected:
        client.products()
    client.close()
    assert rejected.value.attributes["status"] == 403


def test_the_right_key_is_let_in(opened: Opened) -> None:
    _, client = opened("main", api_key="right")
    assert client.products() == ()


def test_a_token_of_an_oauth_server_is_let_in(server: RunningPortal) -> None:
    server.portal = FakePortal(style="main", token="good")
    answer = {"access_token": "good", "token_type": "Bearer", "expires_in": 60}
    with canned_server.canned(200, json.dumps(answer).encode(), "application/json") as url:
        who = OAuthClient(client_id="a", client_secret="b", token_url=f"{url}/token")
        client = HttpPortal(base_url=server.url, oauth_client=who)
        assert client.products() == ()
        client.close()
    assert httpx.get(f"{server.url}{LIST}").status_code == 403


# explorations


@pytest.mark.parametrize("style", EXPLORING)
def test_an_exploration_reads_and_has_nothing_of_its_own(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    key = model.Key(model.Kind.EXPLORATION, explore(portal))
    view = client.view(key)
    assert view is not None
    assert (view.product.namespace, view.product.description) == ("why", "to know")
    assert (view.product.status, view.product.finalizers) == ("active", frozenset())
    assert (view.ports, view.assets) == ((), ())
    assert [link.consumer for link in view.links] == [key]
    assert [(one.namespace, len(one.assets)) for one in view.granted_ports] == [("orders", 1)]
    assert [one.namespace for one in view.producers] == ["sales"]
    assert view.links[0].valid_until is not None
    assert client.explorations() == (view.product,)
    (producer,) = view.producers
    port = view.granted_ports[0].id
    consumers = client.consumers(model.Key.product(producer.id), port)
    assert {link.consumer.kind for link in consumers} == set(model.Kind)


@pytest.mark.parametrize("style", ["tag-0.4.2", "0.4.2", "0.5.1"])
def test_a_portal_before_0_6_lists_no_explorations_and_never_says_one_is_gone(
    style: str, opened: Opened
) -> None:
    _, client = opened(style)
    assert client.explorations() == ()
    with pytest.raises(errors.PortalUnavailable):
        client.view(model.Key(model.Kind.EXPLORATION, entities.OWNER_ID))


@pytest.mark.parametrize("style", EXPLORING)
def test_the_end_of_a_grant_and_of_an_exploration_is_seen(style: str, opened: Opened) -> None:
    portal, client = opened(style)
    key = model.Key(model.Kind.EXPLORATION, explore(portal))
    (link,) = (one for one in portal.state.links.values() if one.consumer_id == key.id)
    portal.state.revoke(link.port_id, key.id)
    view = client.view(key)
    assert view is not None
    assert ([one.status for one in view.links], view.granted_ports) == (["revoked"], ())
    assert portal.state.delete_exploration(key.id) is True
    assert client.view(key) is None
    assert client.explorations() == ()


@pytest.mark.parametrize("style", EXPLORING)
def test_finalizers_of_an_exploration_are_for_its_owner(style: str, opened: Opened) -> None:
    portal, client = opened(style, admin=True)
    key = model.Key(model.Kind.EXPLORATION, portal.state.create_exploration("why"))
    with pytest.raises(errors.PortalRejected) as refused:
        client.add_finalizer(key, "sqlmesh-provisioner")
    assert refused.value.attributes["status"] == 403
    with pytest.raises(errors.PortalRejected):
        client.remove_finalizer(key, "sqlmesh-provisioner")


@pytest.mark.parametrize("style", EXPLORING)
def test_an_owners_finalizer_holds_an_exploration_back(style: str, opened: Opened) -> None:
    portal, client = opened(style, owner=True)
    key = model.Key(model.Kind.EXPLORATION, portal.state.create_exploration("why"))
    client.add_finalizer(key, "sqlmesh-provisioner")
    assert portal.state.delete_exploration(key.id) is False
    view = client.view(key)
    assert view is not None
    assert view.product.status is model.ProductStatus.DELETING
    with pytest.raises(errors.Conflict):
        client.add_finalizer(key, "another")
    client.remove_finalizer(key, "sqlmesh-provisioner")
    assert client.view(key) is None
    client.remove_finalizer(key, "sqlmesh-provisioner")


def test_events_of_explorations_are_those_that_were_recorded(server: RunningPortal) -> None:
    server.portal = FakePortal(style="main", owner=True)
    state = server.portal.state
    producer, _, port = populate(server.portal)
    with httpx.Client(base_url=f"{server.url}/api/v2") as http:

        def happened(scenario: str, method: str, path: str, body: object = None) -> Any:
            state.events.clear()
            answer = http.request(method, path, json=body)
            assert answer.is_success, answer.text
            assert [(kind, set(data)) for kind, data in state.events] == [
                (one.message["type"], set(one.message["data"]))
                for one in recorded.webhooks("main-2026-08")
                if one.scenario == scenario
            ]
            return answer

        about = {"name": "Why", "description": "d", "domain_id": entities.DOMAIN_ID}
        made = happened(
            "exploration_create", "POST", "/explorations", {"namespace": "why", **about}
        )
        own = f"/explorations/{made.json()['id']}"
        wanted = {"output_ports": [{"output_port_id": port}], "justification": "x"}
        happened("exploration_request_restricted", "POST", f"{own}/input_ports", wanted)
        approval = {"consuming_data_product_id": made.json()["id"]}
        approve = f"/data_products/{producer}/output_ports/{port}/input_ports/approve"
        happened("exploration_approve", "POST", approve, approval)
        revoke = f"{own}/input_ports/{port}/revoke"
        happened("exploration_revoke_consumer_side", "POST", revoke)
        happened("exploration_unlink", "DELETE", f"{own}/input_ports/{port}")
        happened("exploration_delete_plain", "DELETE", own)
        second = {"namespace": "why2", "input_ports": wanted, **about}
        made = happened("exploration_create_with_input_ports", "POST", "/explorations", second)
        own = f"/explorations/{made.json()['id']}"
        finalizer = {"finalizer": "prov-ex"}
        happened("exploration2_add_finalizer", "POST", f"{own}/finalizers", finalizer)
        deleted = happened("exploration2_delete_202", "DELETE", own)
        assert deleted.status_code == 202
        happened("exploration2_remove_finalizer", "DELETE", f"{own}/finalizers/prov-ex")
        assert http.get(own).status_code == 404


# faults


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="html"), errors.PortalUnavailable),
        (Fault(kind="half"), errors.PortalUnavailable),
        (Fault(kind="hangup"), errors.PortalUnavailable),
        (Fault(kind="status", status=500), errors.PortalUnavailable),
        (Fault(kind="status", status=502), errors.PortalUnavailable),
        (Fault(kind="status", status=401), errors.PortalRejected),
        (Fault(kind="status", status=403), errors.PortalRejected),
        (Fault(kind="status", status=429, retry_after=30), errors.RateLimited),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
@pytest.mark.parametrize("style", [LEGACY, "0.7.0"])
def test_a_portal_in_trouble_is_never_taken_for_the_truth(
    style: str, fault: Fault, error: type[Exception], opened: Opened
) -> None:
    portal, client = opened(style)
    key = model.Key.product(populate(portal)[1])
    client.products()
    portal.faults.append(fault)
    with pytest.raises(error):
        client.products()
    with pytest.raises(error):
        client.view(key)
    portal.faults.clear()
    if fault.retry_after:  # it is left alone for as long as it asked
        with pytest.raises(error):
            client.products()
    else:
        assert len(client.products()) == 2


@pytest.mark.parametrize("kind", ["hangup", "status"])
def test_a_passing_trouble_is_not_noticed(kind: str, opened: Opened) -> None:
    portal, client = opened("0.7.0")
    populate(portal)
    portal.faults.append(Fault(kind=kind, status=503, times=2))
    assert len(client.products()) == 2


def test_a_fault_strikes_where_it_is_told_to(opened: Opened) -> None:
    portal, client = opened("0.7.0")
    populate(portal)
    portal.faults.append(Fault(kind="status", path="/api/v2/version"))
    assert len(client.products()) == 2


@pytest.mark.parametrize(("style", "path"), [(LEGACY, OLD_LIST), ("0.7.0", LIST)])
@pytest.mark.parametrize(("kind", "left"), [("empty", 0), ("partial", 1)])
def test_a_listing_can_lack_products(
    kind: str, left: int, style: str, path: str, opened: Opened
) -> None:
    portal, client = opened(style)
    populate(portal)
    portal.faults.append(Fault(kind=kind, path=path))
    assert len(client.products()) == left


# as the real ones answer


def keys(value: object, path: str = "") -> set[str]:
    """List every key of an answer with the way to it."""
    if isinstance(value, dict):
        found = {f"{path}.{name}" for name in value}
        return found.union(*(keys(one, f"{path}.{name}") for name, one in value.items()))
    if isinstance(value, list):
        return set().union(*(keys(one, f"{path}[]") for one in value))
    return set()


UNLIKE = re.compile(
    r"tags\[\]\.|data_product_settings\[\]\.|configuration\.(?!(bucket|suffix|path)$)"
)
"""What the small portal leaves empty; configurations of services other than S3."""

SHAPES = [
    *[
        (style, scenario, path)
        for style in ("0.4.2", "main")
        for scenario, path in [
            ("snapshot_list_products", LIST),
            ("snapshot_get_product", f"{LIST}/{{producer}}"),
            ("snapshot_output_ports", f"{LIST}/{{producer}}/output_ports"),
            ("snapshot_output_port", f"{LIST}/{{producer}}/output_ports/{{port}}"),
            (
                "snapshot_output_port_input_ports",
                f"{LIST}/{{producer}}/output_ports/{{port}}/input_ports",
            ),
            ("snapshot_input_ports_C", f"{LIST}/{{consumer}}/input_ports"),
            ("snapshot_technical_assets", f"{LIST}/{{producer}}/technical_assets"),
            ("snapshot_lifecycles", "/api/v2/configuration/data_product_lifecycles"),
            ("snapshot_platform_configs", "/api/v2/configuration/platforms/configs"),
            ("snapshot_version", "/api/v2/version"),
        ]
    ],
    *[
        (style, scenario, path)
        for style in ("0.5.1", "0.7.0")
        for scenario, path in [
            ("list", LIST),
            ("get", f"{LIST}/{{producer}}"),
            ("snapshot_consumers", f"{LIST}/{{producer}}/output_ports/{{port}}/input_ports"),
            ("grants", f"{LIST}/{{consumer}}/input_ports"),
        ]
    ],
]


@pytest.mark.parametrize(("style", "scenario", "path"), SHAPES)
def test_answers_have_the_keys_of_the_real_ones(
    style: str, scenario: str, path: str, server: RunningPortal
) -> None:
    server.portal = FakePortal(style=style)
    producer, consumer, port = populate(server.portal)
    filled = path.format(producer=producer, consumer=consumer, port=port)
    answer = httpx.get(f"{server.url}{filled}", follow_redirects=True)
    ending = path.rpartition("/")[2] if scenario == "grants" else ""
    real = recorded_portal.row(style, scenario, ending=ending)["response_json"]
    ours = {one for one in keys(answer.json()) if not UNLIKE.search(one)}
    theirs = {one for one in keys(real) if not UNLIKE.search(one)}
    assert ours - theirs - OPTIONAL == set()
    assert theirs - ours - OPTIONAL == set()


def test_pages_of_release_0_4_2_have_the_keys_of_the_real_ones(server: RunningPortal) -> None:
    server.portal = FakePortal(style=LEGACY)
    producer, consumer, port = populate(server.portal)
    real = [
        one["response_json"]
        for one in recorded_portal.rows(LEGACY)
        if one["method"] == "GET" and one["status"] == 200
    ]
    products = [one for one in real if "dataset_links" in one]
    ours = [httpx.get(f"{server.url}{OLD_LIST}/{one}").json() for one in (producer, consumer)]
    assert keys_of(*ours) == keys_of(*products)
    (listed,) = [one for one in real if isinstance(one, list)]
    assert keys_of(httpx.get(f"{server.url}{OLD_LIST}").json()) == keys_of(listed)
    (page,) = [one for one in real if "data_product_links" in one]
    found = keys_of(httpx.get(f"{server.url}/api/datasets/{port}").json())
    assert {one for one in found if not one.startswith(".data_output_links[]")} == keys_of(page)


def keys_of(*pages: object) -> set[str]:
    """Gather the keys of several pages, without what is known to differ."""
    found = set().union(*(keys(page) for page in pages))
    return {one for one in found if not UNLIKE.search(one) and not DECIDED.search(one)}


DECIDED = re.compile(r"(approved|denied)_by\.")
"""Somebody decided in one of them and nobody yet in the other."""


@pytest.mark.parametrize(
    ("style", "scenario", "ending", "path"),
    [
        ("0.7.0", "grants", "/explorations", ""),
        ("main", "snapshot_explorations", "", ""),
        ("main", "exploration_get", "", "/{id}"),
        ("main", "snapshot_exploration_approved", "/input_ports", "/{id}/input_ports"),
    ],
)
def test_explorations_have_the_keys_of_the_real_ones(
    style: str, scenario: str, ending: str, path: str, server: RunningPortal
) -> None:
    server.portal = FakePortal(style=style)
    exploration = explore(server.portal)
    answer = httpx.get(f"{server.url}/api/v2/explorations{path.format(id=exploration)}")
    real = recorded_portal.row(style, scenario, ending=ending)["response_json"]
    assert keys_of(answer.json()) == keys_of(real)


def explore(portal: FakePortal) -> str:
    """Make an exploration with an approved link and return its id."""
    _, _, port = populate(portal)
    exploration = portal.state.create_exploration("why", description="to know")
    portal.state.request_access(exploration, port)
    portal.state.approve(port, exploration)
    return exploration


OPTIONAL = {
    f".input_ports[].current_request.{who}.{field}"
    for who in ("requested_by", "decided_by")
    for field in (
        "id",
        "email",
        "external_id",
        "first_name",
        "last_name",
        "has_seen_tour",
        "can_become_admin",
        "admin_expiry",
    )
}
"""Somebody decided in one of them and nobody yet in the other."""


@pytest.mark.parametrize("style", NEWER)
def test_a_wrong_slash_is_answered_with_a_redirect(style: str, server: RunningPortal) -> None:
    server.portal = FakePortal(style=style)
    product = server.portal.state.create_product("sales")
    right = "/technical_assets/" if style == "main" else "/technical_assets"
    wrong = "/technical_assets" if style == "main" else "/technical_assets/"
    path = f"{server.url}{LIST}/{product}"
    assert httpx.post(path + wrong, json={}).status_code == 307
    assert httpx.post(path + right, json={}).status_code == 422


@pytest.mark.parametrize(
    ("style", "method", "path", "status", "detail"),
    [
        ("0.4.2", "GET", f"{LIST}/{entities.OWNER_ID}", 500, "Something went wrong"),
        ("main", "GET", f"{LIST}/{entities.OWNER_ID}", 404, "Data Product not found"),
        ("0.4.2", "GET", "/api/v2/nope", 404, "Not Found"),
        ("main", "POST", f"{LIST}/{entities.OWNER_ID}", 405, "Method Not Allowed"),
        ("0.4.2", "GET", "/api/v2/explorations", 404, "Not Found"),
        (LEGACY, "GET", LIST, 404, "Not Found"),
        (LEGACY, "GET", f"{OLD_LIST}/{entities.OWNER_ID}", 404, "Data Product not found"),
        (LEGACY, "GET", f"/api/datasets/{entities.OWNER_ID}", 404, "Dataset not found"),
        (
            "main",
            "GET",
            f"/api/v2/explorations/{entities.OWNER_ID}",
            404,
            f"Required item {entities.OWNER_ID} does not exist",
        ),
    ],
)
def test_refusals_are_those_of_the_real_ones(
    style: str, method: str, path: str, status: int, detail: str, server: RunningPortal
) -> None:
    server.portal = FakePortal(style=style)
    answer = httpx.request(method, f"{server.url}{path}")
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


@pytest.mark.parametrize(
    ("style", "expected"), [("0.4.2", True), ("0.5.1", False), ("0.7.0", False), ("main", False)]
)
def test_only_one_version_names_the_consumer_that_was_approved(
    style: str, expected: bool, server: RunningPortal
) -> None:
    server.portal = FakePortal(style=style)
    state = server.portal.state
    producer, consumer = state.create_product("sales"), state.create_product("marketing")
    port = state.create_port(producer, "orders")
    state.request_access(consumer, port)
    answer = httpx.post(
        f"{server.url}{LIST}/{producer}/output_ports/{port}/input_ports/approve",
        json={"consuming_data_product_id": consumer},
    )
    assert answer.json() == ({"consuming_data_product_id": consumer} if expected else None)


# webhooks


def drive(url: str, style: str) -> tuple[str, str]:
    """Do by HTTP what people do: two products, a port, a request, an approval, its end."""
    with httpx.Client(base_url=f"{url}/api/v2", follow_redirects=True) as http:

        def post(path: str, body: dict[str, Any]) -> Any:
            answer = http.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        about = {"description": "é", "name": "Données 数据 😀"}
        producer = post("/data_products", {"namespace": "sales", **about})["id"]
        consumer = post("/data_products", {"namespace": "marketing", **about})["id"]
        port_body = {"namespace": "orders", "name": "Orders"}
        port = post(f"/data_products/{producer}/output_ports", port_body)["id"]
        ports: list[Any] = [{"output_port_id": port}] if style == "main" else [port]
        if STYLES[style].modern:
            request = {"output_ports": ports, "justification": "x"}
            post(f"/data_products/{consumer}/input_ports", request)
        else:
            request = {"input_ports": ports, "justification": "x"}
            post(f"/data_products/{consumer}/link_input_ports", request)
        decision = {"consuming_data_product_id": consumer, "decision_note": "x"}
        links = f"/data_products/{producer}/output_ports/{port}/input_ports"
        post(f"{links}/approve", decision)
        post(f"{links}/remove", decision)
        assert http.delete(f"/data_products/{consumer}").status_code == 200
    return producer, consumer


@pytest.mark.parametrize("style", ["0.4.2", "0.5.1", "0.7.0"])
def test_v1_webhooks_are_signed_over_what_does_not_travel(style: str) -> None:
    with WebhookSink() as sink:
        portal = FakePortal(style=style, webhook_url=f"{sink.url}/hook?a=1", webhook_secret=SECRET)
        with RunningPortal(portal) as running:
            drive(running.url, style)
            assert portal.webhooks.wait_quiet()
    assert len(sink.received) == 7
    assert {one.path for one in sink.received} == {"/hook?a=1"}
    for one in sink.received:
        message = json.loads(one.body)
        text = json.dumps(message).encode()
        assert one.header("Sign") == hmac.new(SECRET.encode(), text, hashlib.sha512).hexdigest()
        assert text != one.body
        assert list(message) == ["method", "url", "query", "response", "status_code"]
        assert message["method"] == "POST" or message["response"] == ""


def test_webhooks_of_release_0_4_2_name_what_the_recorded_ones_name() -> None:
    with WebhookSink() as sink:
        portal = FakePortal(style=LEGACY, webhook_url=sink.url, webhook_secret=SECRET)
        with RunningPortal(portal) as running, httpx.Client(base_url=running.url) as http:
            for method, url, body in legacy_calls(http):
                assert http.request(method, url, json=body).status_code == 200
            assert portal.webhooks.wait_quiet()
    ours = Counter(shape(json.loads(one.body)) for one in sink.received)
    real = [one.message for one in recorded.webhooks(LEGACY)]
    theirs = {shape(one) for one in real if one["status_code"] == 200}
    assert set(ours) == {one for one in theirs if "/settings/" not in one[1]}
    assert ours.total() == 12


def legacy_calls(http: httpx.Client) -> Iterator[tuple[str, str, object]]:
    """Give the calls that were recorded, one after the other."""

    def made(method: str, url: str, body: object) -> Any:
        return http.request(method, url, json=body).json()

    about: dict[str, object] = {"name": "Données", "description": "d"}
    producer = made("POST", OLD_LIST, {"namespace": "a", **about})["id"]
    consumer = made("POST", OLD_LIST, {"namespace": "b", **about})["id"]
    ids = {"type_id": entities.TYPE_ID, "domain_id": entities.DOMAIN_ID, "tag_ids": []}
    renamed = {"namespace": "a", "lifecycle_id": entities.DRAFT_ID, **about, **ids}
    yield "PUT", f"{OLD_LIST}/{producer}", renamed
    port_body = {"namespace": "p", "name": "P", "data_product_id": producer}
    port = made("POST", "/api/datasets", port_body)["id"]
    wanted = {"dataset_ids": [port], "justification": "because"}
    for decisions in (("approve", "deny", "remove"), ("approve",)):
        asked = made("POST", f"{OLD_LIST}/{consumer}/link_datasets", wanted)
        (link,) = asked["dataset_links"]
        for decision in decisions:
            yield "POST", f"/api/data_product_dataset_links/{decision}/{link}", None
    yield "DELETE", f"{OLD_LIST}/{producer}", None
    yield "DELETE", f"{OLD_LIST}/{consumer}", None


def shape(message: dict[str, Any]) -> tuple[str, str, str]:
    """Describe a v1 message without its ids."""
    ids = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    return message["method"], ids.sub("{id}", message["url"]), ids.sub("{id}", message["response"])


def test_v1_webhooks_look_like_the_recorded_ones() -> None:
    real = next(one for one in recorded.webhooks("tag-0.7.0") if one.wire == "v1")
    with WebhookSink() as sink:
        portal = FakePortal(style="0.7.0", webhook_url=sink.url, webhook_secret=SECRET)
        with RunningPortal(portal) as running:
            httpx.post(f"{running.url}{LIST}", json={})
            assert portal.webhooks.wait_quiet()
    (ours,) = sink.received
    names = [name.decode() for name, _ in real.headers]
    assert sorted(name for name, _ in ours.headers) == sorted(names)
    assert ours.body.startswith(b'{"method":"POST","url":"/api/v2/data_products","query":"",')
    assert json.loads(ours.body)["status_code"] == 422


def test_no_secret_means_no_signature() -> None:
    with WebhookSink() as sink:
        portal = FakePortal(style="0.4.2", webhook_url=sink.url)
        with RunningPortal(portal) as running:
            httpx.put(f"{running.url}/api/v2/nope?x=%C3%A9")
            assert portal.webhooks.wait_quiet()
    (ours,) = sink.received
    assert ours.header("Sign") is None
    message = json.loads(ours.body)
    assert (message["query"], message["status_code"]) == ("x=%C3%A9", 404)


def test_our_own_writes_come_back_as_webhooks() -> None:
    with WebhookSink() as sink:
        portal = FakePortal(style="0.7.0", webhook_url=sink.url, webhook_v2_url=f"{sink.url}/v2")
        key = model.Key.product(portal.state.create_product("sales"))
        with RunningPortal(portal) as running:
            client = HttpPortal(base_url=running.url)
            client.add_finalizer(key, "sqlmesh-provisioner")
            client.close()
            assert portal.webhooks.wait_quiet()
    bodies = [json.loads(one.body) for one in sink.received]
    assert {one.get("url") or one["type"] for one in bodies} == {
        f"{LIST}/{key.id}/finalizers",
        "data_product.event",
    }


def test_a_receiver_that_refuses_is_asked_once() -> None:
    with WebhookSink(status=500) as sink:
        portal = FakePortal(style="0.7.0", webhook_url=sink.url, webhook_v2_url=sink.url)
        with RunningPortal(portal) as running:
            httpx.post(
                f"{running.url}{LIST}", json={"namespace": "a", "name": "", "description": ""}
            )
            assert portal.webhooks.wait_quiet()
    assert Counter(one.wire for one in portal.webhooks.attempts) == {"v1": 1, "v2": 3}
    assert {one.status for one in portal.webhooks.attempts} == {500}
    assert len(sink.received) == 4


@pytest.mark.parametrize(
    ("scenario", "act"),
    [
        ("create_product_A", lambda state, ids: state.create_product("other")),
        ("update_rename_A", lambda state, ids: state.rename(ids[0], "renamed")),
        ("create_port_restricted", lambda state, ids: state.create_port(ids[0], "more")),
        (
            "create_technical_asset",
            lambda state, ids: state.create_asset(ids[0], "x", configuration=S3),
        ),
        ("approve_B_A", lambda state, ids: state.approve(ids[2], ids[1])),
        ("remove_producer_side", lambda state, ids: state.remove(ids[2], ids[1])),
        ("delete_B", lambda state, ids: state.delete_product(state.create_product("empty"))),
    ],
)
def test_v2_events_are_those_that_were_recorded(
    scenario: str, act: Callable[[Any, tuple[str, str, str]], object]
) -> None:
    portal = FakePortal(style="main")
    state = portal.state
    ids = populate(portal)
    if scenario == "approve_B_A":
        state.remove(ids[2], ids[1])
        state.request_access(ids[1], ids[2])
    state.events.clear()
    act(state, ids)
    real = [one.message for one in recorded.webhooks("main-2026-08") if one.scenario == scenario]
    skipped = 3 if scenario == "delete_B" else 0
    assert [kind for kind, _ in state.events][skipped:] == [one["type"] for one in real]
    assert [set(data) for _, data in state.events][skipped:] == [set(one["data"]) for one in real]


def test_v2_webhooks_are_unsigned_cloud_events() -> None:
    with WebhookSink() as sink:
        url = sink.url.replace("http://", "http://user:p%40ss@")
        portal = FakePortal(style="main", webhook_v2_url=url, webhook_secret=SECRET)
        with RunningPortal(portal) as running:
            producer, _ = drive(running.url, "main")
            assert portal.webhooks.wait_quiet()
    first = sink.received[0]
    event = json.loads(first.body)
    assert first.header("Sign") is None
    assert first.header("Authorization") == f"Basic {base64.b64encode(b'user:p@ss').decode()}"
    assert list(event) == ["specversion", "id", "source", "type", "time", "data"]
    assert (event["type"], event["data"]) == ("data_product.event", {"id": producer})

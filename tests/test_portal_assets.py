"""Technical assets at every version of the portal: made, linked and changed over HTTP as people do.

What the adapter reads back is held against what was done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from provisioner import model
from provisioner.demo.portal import FakePortal, RunningPortal, entities
from provisioner.demo.portal.entities import STYLES
from provisioner.portal import HttpPortal

LEGACY = "tag-0.4.2"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningPortal]:
    with RunningPortal(FakePortal()) as running:
        yield running


class Hands:
    """A product with a port and a consumer of it, and a person's hands on its assets."""

    def __init__(self, style: str, server: RunningPortal) -> None:
        server.portal = FakePortal(style=style)
        self._state = server.portal.state
        self.style = style
        self.product = self._state.create_product("sales")
        self.consumer = self._state.create_product("marketing")
        self.port = self._state.create_port(self.product, "orders", access_type="public")
        self._state.request_access(self.consumer, self.port)
        self._http = httpx.Client(base_url=server.url, follow_redirects=True)
        self._portal = HttpPortal(base_url=server.url, sleep=lambda seconds: None)

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()
        self._portal.close()

    @property
    def legacy(self) -> bool:
        return self.style == LEGACY

    def call(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        root = "/api" if self.legacy else f"/api/v2/data_products/{self.product}"
        answer = self._http.request(method, f"{root}/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def create(self, namespace: str) -> str:
        kind = "S3DataOutput" if self.legacy else "S3TechnicalAssetConfiguration"
        body = {
            "name": namespace,
            "description": "d",
            "namespace": namespace,
            "platform_id": entities.TYPE_ID,
            "service_id": entities.TYPE_ID,
            "configuration": {"configuration_type": kind, "bucket": "lake", "path": namespace},
            "technical_mapping": "custom",
            "tag_ids": [],
            "status": "pending",
            "sourceAligned": True,
        }
        own = f"data_products/{self.product}/data_output" if self.legacy else "technical_assets"
        return str(self.call("POST", own, body)["id"])

    def set_status(self, asset: str, status: str) -> None:
        root = "data_outputs" if self.legacy else "technical_assets"
        self.call("PUT", f"{root}/{asset}/status", {"status": status})

    def delete(self, asset: str) -> None:
        root = "data_outputs" if self.legacy else "technical_assets"
        self.call("DELETE", f"{root}/{asset}")

    def link(self, asset: str, *, status: int = 200) -> str:
        if self.legacy:
            made = self.call("POST", f"data_outputs/{asset}/dataset/{self.port}", status=status)
            return str(made["id"])
        path = f"output_ports/{self.port}/technical_assets/add"
        made = self.call("POST", path, {"technical_asset_id": asset}, status=status)
        return str(made.get("link_id"))

    def decide(self, asset: str, link: str, word: str) -> None:
        """Approve or deny a link: by its own id in release 0.4.2, later by the asset's."""
        if self.legacy:
            self.call("POST", f"data_output_dataset_links/{word}/{link}")
            return
        path = f"output_ports/{self.port}/technical_assets/{word}_link_request"
        self.call("POST", path, {"technical_asset_id": asset})

    def unlink(self, asset: str) -> None:
        if self.legacy:
            self.call("DELETE", f"data_outputs/{asset}/dataset/{self.port}")
            return
        path = f"output_ports/{self.port}/technical_assets/remove"
        self.call("DELETE", path, {"technical_asset_id": asset})

    def seen(self) -> tuple[dict[str, str], set[str], set[str]]:
        """Return assets with their status, and which are in the port: as own and as granted."""
        own = self._portal.view(model.Key.product(self.product))
        granted = self._portal.view(model.Key.product(self.consumer))
        assert own is not None
        assert granted is not None
        return (
            {asset.namespace: asset.status for asset in own.assets},
            {asset.namespace for asset in own.ports[0].assets},
            {asset.namespace for asset in granted.granted_ports[0].assets},
        )


@pytest.mark.parametrize("style", STYLES)
def test_an_asset_is_seen_through_its_whole_life(style: str, server: RunningPortal) -> None:
    with Hands(style, server) as hands:
        asset = hands.create("raw")
        assert hands.seen() == ({"raw": "pending"}, set(), set())
        hands.set_status(asset, "active")
        assert hands.seen() == ({"raw": "active"}, set(), set())
        link = hands.link(asset)
        assert hands.seen() == ({"raw": "active"}, set(), set())
        hands.decide(asset, link, "approve")
        assert hands.seen() == ({"raw": "active"}, {"raw"}, {"raw"})
        for status in ("archived", "pending", "active"):
            hands.set_status(asset, status)
            assert hands.seen() == ({"raw": status}, {"raw"}, {"raw"})
        hands.decide(asset, link, "deny")
        assert hands.seen() == ({"raw": "active"}, set(), set())
        hands.unlink(asset)
        hands.decide(asset, hands.link(asset), "approve")
        assert hands.seen() == ({"raw": "active"}, {"raw"}, {"raw"})
        hands.delete(asset)
        assert hands.seen() == ({}, set(), set())


@pytest.mark.parametrize("style", STYLES)
def test_assets_do_not_stand_for_each_other(style: str, server: RunningPortal) -> None:
    with Hands(style, server) as hands:
        links = {}
        for name in ("approved", "asked", "denied"):
            asset = hands.create(name)
            hands.set_status(asset, "active")
            links[name] = (asset, hands.link(asset))
        hands.create("alone")
        hands.decide(*links["approved"], "approve")
        hands.decide(*links["denied"], "deny")
        statuses, own, granted = hands.seen()
    assert statuses == {"approved": "active", "asked": "active", "denied": "active"} | {
        "alone": "pending"
    }
    assert (own, granted) == ({"approved"}, {"approved"})


@pytest.mark.parametrize("style", [style for style in STYLES if STYLES[style].modern])
def test_an_asset_that_is_not_active_cannot_be_linked_since_0_6(
    style: str, server: RunningPortal
) -> None:
    with Hands(style, server) as hands:
        hands.link(hands.create("raw"), status=400)
        assert hands.seen() == ({"raw": "pending"}, set(), set())


@pytest.mark.parametrize("path", ["approve", "deny"])
def test_the_link_of_an_asset_that_is_unknown_cannot_be_decided(
    path: str, server: RunningPortal
) -> None:
    with Hands(LEGACY, server) as hands:
        hands.call("POST", f"data_output_dataset_links/{path}/{entities.OWNER_ID}", status=404)


def test_release_0_4_2_takes_no_configuration_of_a_later_one(server: RunningPortal) -> None:
    with Hands(LEGACY, server) as hands:
        body = {
            **dict.fromkeys(("name", "description", "namespace", "platform_id"), "x"),
            "service_id": "x",
            "tag_ids": [],
            "status": "pending",
            "sourceAligned": False,
            "configuration": {"configuration_type": "S3TechnicalAssetConfiguration"},
        }
        hands.call("POST", f"data_products/{hands.product}/data_output", body, status=422)


def test_release_0_4_2_lists_a_products_assets_apart_too(server: RunningPortal) -> None:
    with Hands(LEGACY, server) as hands:
        asset = hands.create("raw")
        listed = hands.call("GET", f"data_products/{hands.product}/data_outputs")
    assert [(one["id"], one["configuration"]["configuration_type"]) for one in listed] == [
        (asset, "S3DataOutput")
    ]


def test_release_0_4_2_takes_single_requests_and_status_changes(server: RunningPortal) -> None:
    with Hands(LEGACY, server) as hands:
        other = hands.call(
            "POST", "data_products", {"name": "x", "namespace": "x", "description": ""}
        )["id"]
        own = f"data_products/{other}"
        link = hands.call("POST", f"{own}/dataset/{hands.port}")["id"]
        page = hands.call("GET", own)
        assert [(one["id"], one["status"]) for one in page["dataset_links"]] == [(link, "approved")]
        hands.call("DELETE", f"{own}/dataset/{hands.port}")
        hands.call("PUT", f"{own}/status", {"status": "archived"})
        page = hands.call("GET", own)
        assert (page["dataset_links"], page["status"]) == ([], "archived")
        hands.call("DELETE", f"datasets/{hands.port}")
        hands.call("GET", f"datasets/{hands.port}", status=404)
        assert hands.call("GET", "version") == {"version": "0.4.2"}

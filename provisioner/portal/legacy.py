"""Speak the API that release 0.4.2 of the portal has: products and datasets below `/api`.

One page tells all about a product: its links (`dataset_links`), its assets (`data_outputs`) and
its own ports (`datasets`). Each is put into the words of the API that came after it, so that
`wire` and `assets` read both alike. There are no finalizers, no explorations, no expiry, and
approved, pending and denied are all that a link can be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from provisioner import model
from provisioner.portal import assets, client, fields, wire
from provisioner.portal.questions import NOBODY, Questions, gone, parsed

_PRODUCTS = "/api/data_products"
_PRODUCT = f"{_PRODUCTS}/{{product}}"
_ASSETS = f"{_PRODUCT}/data_output"
_PORT = "/api/datasets/{port}"
_LIFECYCLES = "/api/data_product_lifecycles"
_PLATFORMS = "/api/platforms/configs"

_NONE: Mapping[str, model.Product] = MappingProxyType({})
_S3_CONFIGURATION = "S3DataOutput"


@dataclass(frozen=True, kw_only=True)
class _Page:
    """A product's page, read."""

    product: model.Product
    ports: tuple[model.OutputPort, ...]
    assets: tuple[assets.LinkedAsset, ...]
    links: tuple[wire.LinkedPort, ...]
    body: Mapping[str, Any]
    """As it came, for the update that must repeat it."""


class LegacyApi:
    """Read and write below `/api`."""

    def __init__(self, caller: client.PortalClient) -> None:
        self._questions = Questions(caller)

    def serves(self) -> bool:
        """Tell whether the portal has this API."""
        return self._questions.knows(_PRODUCT, product=NOBODY)

    def products(self) -> tuple[model.Product, ...]:
        """List every data product, by namespace."""
        return self._questions.listed(
            _PRODUCTS,
            lambda body: wire.products(fields.bare_list(body, wire.PRODUCTS)),
            wire.LISTED,
        )

    def view(
        self, key: model.Key, listed: Mapping[str, model.Product] = _NONE
    ) -> model.PortalView | None:
        """Read all about one product: its page, and one for each producer it reads from.

        Each of them tells more than what was `listed`.
        """
        page = self._page(key.id)
        if page is None:
            return None
        approved = [one for one in page.links if one.link.status is model.LinkStatus.APPROVED]
        producers = self._producers(page, {one.link.producer_id for one in approved})
        granted = {
            one.port.id: _with_assets(one.port, producers[one.port.producer_id].assets)
            for one in approved
            if one.port.producer_id in producers
        }
        return model.PortalView(
            product=page.product,
            ports=page.ports,
            assets=tuple(one.asset for one in page.assets),
            links=tuple(one.link for one in page.links),
            producers=tuple(producers[identity].product for identity in sorted(producers)),
            granted_ports=tuple(granted[identity] for identity in sorted(granted)),
        )

    def consumers(self, producer: model.Key, port_id: str) -> tuple[model.Link, ...]:
        """List the links of every status on one output port; empty where the port is gone."""
        links = self._questions.find(
            _PORT, lambda body: _port_links(body, producer.id, port_id), port=port_id
        )
        return links or ()

    def set_lifecycle(self, key: model.Key, name: str) -> bool:
        """Set the lifecycle by name, leaving all else; False where the portal has no such name."""
        page = self._existing(key)
        if page.product.lifecycle == name:
            return True
        lifecycle = self._questions.get(
            _LIFECYCLES,
            lambda body: wire.lifecycle_id(
                fields.bare_list(body, "data_product_life_cycles"), name
            ),
        )
        if lifecycle is None:
            return False
        update = parsed(_PRODUCT, lambda body: wire.update_body(body, lifecycle), page.body)
        self._questions.update(_PRODUCT, update, key.id)
        return True

    def register_asset(self, key: model.Key, location: model.Location) -> str | None:
        """Return the id of the S3 technical asset for a prefix, made if it is not there."""
        for linked in self._existing(key).assets:
            if assets.is_at(linked.asset, location):
                return linked.asset.id
        service = self._questions.get(
            _PLATFORMS,
            lambda body: assets.s3_service(
                fields.bare_list(body, "platform_service_configurations")
            ),
        )
        if service is None:
            return None
        return self._questions.create(_ASSETS, _asset_body(location, service), key.id)

    def _page(self, identity: str) -> _Page | None:
        return self._questions.find(
            _PRODUCT, lambda body: _read_page(body, identity), product=identity
        )

    def _existing(self, key: model.Key) -> _Page:
        page = self._page(key.id)
        if page is None:
            raise gone()
        return page

    def _producers(self, own: _Page, identities: Iterable[str]) -> dict[str, _Page]:
        found = {}
        for identity in sorted(identities):
            page = own if identity == own.product.id else self._page(identity)
            if page is not None:
                found[identity] = page
        return found


def _read_page(body: object, identity: str) -> _Page:
    page = fields.mapping(body)
    product = wire.product(page)
    if product.id != identity:
        raise fields.Malformed("the answer is about another product")
    found = assets.technical_assets(
        {"technical_assets": [_newer_asset(one) for one in fields.entries(page, "data_outputs")]}
    )
    links = [_newer_link(one) for one in fields.entries(page, "dataset_links")]
    return _Page(
        product=product,
        ports=wire.output_ports(
            {"output_ports": fields.entries(page, "datasets")}, identity, found
        ),
        assets=found,
        links=wire.consumer_links({"input_ports": links}, model.Key.product(identity)),
        body=page,
    )


def _newer_link(link: Mapping[str, Any]) -> dict[str, Any]:
    """Call a dataset the input port that it became."""
    return {
        **link,
        "output_port_id": link.get("dataset_id"),
        "input_port": fields.mapping(link.get("dataset")),
    }


def _newer_asset(asset: Mapping[str, Any]) -> dict[str, Any]:
    """Call a data output the technical asset that it became."""
    configuration = dict(fields.mapping(asset.get("configuration")))
    if configuration.get("configuration_type") == _S3_CONFIGURATION:
        configuration["configuration_type"] = assets.S3_CONFIGURATION
    return {
        **asset,
        "configuration": configuration,
        "output_port_links": [
            {**link, "output_port_id": link.get("dataset_id")}
            for link in fields.entries(asset, "dataset_links")
        ],
    }


def _with_assets(port: model.OutputPort, linked: Iterable[assets.LinkedAsset]) -> model.OutputPort:
    return dataclasses.replace(
        port, assets=tuple(one.asset for one in linked if port.id in one.port_ids)
    )


def _port_links(body: object, producer_id: str, port_id: str) -> tuple[model.Link, ...]:
    page = fields.mapping(body)
    about = (fields.uuid(page, "id"), fields.uuid(page, "data_product_id"))
    if about != (port_id, producer_id):
        raise fields.Malformed("the answer is about another port")
    found = fields.entries(page, "data_product_links")
    return wire.port_links({"input_ports": found}, producer_id, port_id)


def _asset_body(location: model.Location, service: assets.Service) -> dict[str, object]:
    body = assets.asset_body(location, service, knows_finalizers=False)
    configuration = dict(fields.mapping(body["configuration"]))
    configuration["configuration_type"] = _S3_CONFIGURATION
    del body["technical_mapping"]  # what came after `sourceAligned`
    return {**body, "configuration": configuration}

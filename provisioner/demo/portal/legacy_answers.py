"""Write answers as release 0.4.2 of the portal does; tests hold them against recordings."""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import catalog, entities
from provisioner.demo.portal.entities import Asset, Link, Port, Product
from provisioner.demo.portal.state import PortalState

_NEWER, _OLDER = "S3TechnicalAssetConfiguration", "S3DataOutput"


def product_list(state: PortalState) -> list[dict[str, Any]]:
    """Write the list of all products."""
    return [
        {
            **_product(state, product),
            "user_count": 1,
            "dataset_count": len(_ports_of(state, product)),
            "data_outputs_count": len(_assets_of(state, product)),
        }
        for product in tuple(state.products.values())
    ]


def product_page(state: PortalState, product: Product) -> dict[str, Any]:
    """Write a product's own page: its links, assets and ports are all on it."""
    links = [link for link in tuple(state.links.values()) if link.consumer_id == product.id]
    return {
        **_product(state, product),
        "about": product.about,
        "dataset_links": [
            {**_link(link), "dataset": _dataset(state.port(link.port_id))} for link in links
        ],
        "data_outputs": [asset_entry(state, asset) for asset in _assets_of(state, product)],
        "datasets": [_dataset(port) for port in _ports_of(state, product)],
        "rolled_up_tags": [],
    }


def asset_entry(state: PortalState, asset: Asset) -> dict[str, Any]:
    """Write an asset as it appears on its product's page."""
    place = "/".join(
        part
        for part in (asset.configuration.get(name, "") for name in ("bucket", "suffix", "path"))
        if part
    )
    return {
        **_asset(state, asset),
        "dataset_links": [_asset_link(state, asset, port_id) for port_id in asset.links],
        "result_string": place,
        "technical_info": [
            {
                "environment_id": entities.DRAFT_ID,
                "environment": "production",
                "info": f"{place}/*",
            }
        ],
    }


def port_page(state: PortalState, port: Port) -> dict[str, Any]:
    """Write a port's own page, with everyone's links to it."""
    links = [link for link in tuple(state.links.values()) if link.port_id == port.id]
    return {
        **_dataset(port),
        "usage": None,
        "tags": [],
        "domain": catalog.DOMAIN,
        "lifecycle": catalog.lifecycle(state, entities.DRAFT_ID),
        "data_product_settings": [],
        "data_output_links": [
            {
                "id": asset.links[port.id][0],
                "dataset_id": port.id,
                "data_output_id": asset.id,
                "status": asset.links[port.id][1],
                "data_output": {**_asset(state, asset), **_alignment(asset)},
            }
            for asset in tuple(state.assets.values())
            if port.id in asset.links
        ],
        "about": "",
        "data_product_links": [
            {**_link(link), "data_product": _owner(state.product(link.consumer_id))}
            for link in links
        ],
        "rolled_up_tags": [],
    }


def stored_configuration(configuration: dict[str, Any]) -> dict[str, Any]:
    """Turn a configuration as this release names it into one as it is kept."""
    if configuration.get("configuration_type") == _OLDER:
        return {**configuration, "configuration_type": _NEWER}
    return configuration


def _product(state: PortalState, product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "name": product.name,
        "description": product.description,
        "namespace": product.namespace,
        "status": product.status,
        "tags": [],
        "usage": None,
        "domain": catalog.DOMAIN,
        "type": catalog.TYPE,
        "lifecycle": catalog.lifecycle(state, product.lifecycle_id),
        "data_product_settings": [],
    }


def _dataset(port: Port) -> dict[str, Any]:
    return {
        "id": port.id,
        "name": port.name,
        "namespace": port.namespace,
        "description": f"port {port.name}",
        "status": port.status,
        "access_type": port.access_type,
        "data_product_id": port.product_id,
    }


def _owner(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "name": product.name,
        "namespace": product.namespace,
        "description": product.description,
        "status": product.status,
        "type": catalog.TYPE,
    }


def _asset(state: PortalState, asset: Asset) -> dict[str, Any]:
    configuration = dict(asset.configuration)
    if configuration.get("configuration_type") == _NEWER:
        configuration["configuration_type"] = _OLDER
    return {
        "id": asset.id,
        "name": asset.name,
        "namespace": asset.namespace,
        "description": asset.description,
        "owner_id": asset.product_id,
        "platform_id": catalog.PLATFORM["id"],
        "service_id": catalog.S3_SERVICE_ID,
        "status": asset.status,
        "configuration": configuration,
        "owner": _owner(state.product(asset.product_id)),
    }


def _alignment(asset: Asset) -> dict[str, Any]:
    return {"sourceAligned": asset.technical_mapping == "custom"}


def _asset_link(state: PortalState, asset: Asset, port_id: str) -> dict[str, Any]:
    link_id, status = asset.links[port_id]
    return {
        "id": link_id,
        "dataset_id": port_id,
        "data_output_id": asset.id,
        "status": status,
        "requested_on": state.now(),
        "denied_on": None,
        "approved_on": state.now() if status == "approved" else None,
        "dataset": _dataset(state.port(port_id)),
        "data_output": {**_asset(state, asset), **_alignment(asset)},
        "requested_by": catalog.USER,
        "denied_by": None,
        "approved_by": catalog.USER if status == "approved" else None,
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "id": link.id,
        "justification": link.justification,
        "data_product_id": link.consumer_id,
        "dataset_id": link.port_id,
        "status": link.status,
    }


def _ports_of(state: PortalState, product: Product) -> list[Port]:
    return [port for port in tuple(state.ports.values()) if port.product_id == product.id]


def _assets_of(state: PortalState, product: Product) -> list[Asset]:
    return [asset for asset in tuple(state.assets.values()) if asset.product_id == product.id]

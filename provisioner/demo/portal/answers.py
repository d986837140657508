"""Write answers as the versions of the portal do; tests hold them against recordings."""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import catalog, entities
from provisioner.demo.portal.entities import Asset, Exploration, Link, Port, Product
from provisioner.demo.portal.state import PortalState


def product_page(state: PortalState, product: Product) -> dict[str, Any]:
    """Write a product's own page."""
    return {**_product(state, product), "about": product.about}


def product_list(state: PortalState) -> dict[str, Any]:
    """Write the list of all products."""
    return {
        "data_products": [
            {**_product(state, product), **_counts(state, product)}
            for product in tuple(state.products.values())
        ]
    }


def exploration_entry(exploration: Exploration) -> dict[str, Any]:
    """Write an exploration as it appears in the list."""
    return {
        "id": exploration.id,
        "name": exploration.name,
        "namespace": exploration.namespace,
        "description": exploration.description,
        "domain": catalog.DOMAIN,
        "status": exploration.status,
        "finalizers": list(exploration.finalizers),
    }


def exploration_page(exploration: Exploration) -> dict[str, Any]:
    """Write an exploration's own page."""
    return {**exploration_entry(exploration), "owner": catalog.USER}


def port_list(state: PortalState, product_id: str, *, admin: bool) -> dict[str, Any]:
    """Write a product's ports; newer portals hide private ones from who has no role."""
    return {
        "output_ports": [
            port_entry(state, port)
            for port in state.ports.of(product_id=product_id)
            if admin or not state.style.modern or port.access_type != "private"
        ]
    }


def port_entry(state: PortalState, port: Port) -> dict[str, Any]:
    """Write a port as it appears in lists and links."""
    entry: dict[str, Any] = {
        "id": port.id,
        "name": port.name,
        "namespace": port.namespace,
        "description": f"port {port.name}",
        "status": port.status,
        "access_type": port.access_type,
        "data_product_id": port.product_id,
        "tags": [],
    }
    if state.style.access_modes:
        entry["access_modes"] = []
    return entry


def port_page(state: PortalState, port: Port) -> dict[str, Any]:
    """Write a port's own page, with the assets linked to it."""
    page = {
        **port_entry(state, port),
        "usage": None,
        "domain": catalog.DOMAIN,
        "lifecycle": catalog.lifecycle(state, entities.DRAFT_ID),
        "data_product_settings": [],
        "technical_asset_links": [
            {
                **_asset_link(port.id, asset),
                "technical_asset": {
                    name: value
                    for name, value in _asset(state, asset).items()
                    if name != "access_modes"
                },
            }
            for asset in tuple(state.assets.values())
            if port.id in asset.links
        ],
        "about": "",
        "rolled_up_tags": [],
    }
    if state.style.modern:
        page["data_product_access_duration_type"] = "permanent"
        page["exploration_access_duration_type"] = "time_bound"
    return page


def asset_list(state: PortalState, product_id: str) -> dict[str, Any]:
    """Write a product's assets; of an unknown product too, and then none."""
    return {
        "technical_assets": [
            asset_page(state, asset) for asset in state.assets.of(product_id=product_id)
        ]
    }


def asset_page(state: PortalState, asset: Asset) -> dict[str, Any]:
    """Write an asset's own page."""
    owner = state.product(asset.product_id)
    port_name = "output_port" if state.style.modern else "output"
    place = "/".join(
        part
        for part in (asset.configuration.get(name, "") for name in ("bucket", "suffix", "path"))
        if part
    )
    return {
        **_asset(state, asset),
        "owner": {
            "id": owner.id,
            "name": owner.name,
            "namespace": owner.namespace,
            "description": owner.description,
            "status": owner.status,
            "type": catalog.TYPE,
        },
        "output_port_links": [
            {**_asset_link(port_id, asset), port_name: port_entry(state, state.port(port_id))}
            for port_id in asset.links
        ],
        "tags": [],
        "sourceAligned": asset.technical_mapping == "custom",
        "result_string": place,
        "technical_info": [
            {
                "environment_id": entities.DRAFT_ID,
                "environment": "production",
                "info": f"{place}/*",
            }
        ],
    }


def consumer_links(state: PortalState, consumer_id: str) -> dict[str, Any]:
    """Write a consumer's links."""
    links = state.links.of(consumer_id=consumer_id)
    if not state.style.modern:
        return {"input_ports": [_old_link(state, link) for link in links]}
    return {
        "input_ports": [
            {
                **_link(state, link),
                "output_port_id": link.port_id,
                "output_port": port_entry(state, state.port(link.port_id)),
            }
            for link in links
        ]
    }


def port_links(state: PortalState, port_id: str) -> dict[str, Any]:
    """Write everyone's links to a port."""
    links = state.links.of(port_id=port_id)
    if not state.style.modern:
        return {"input_ports": [_old_link(state, link) for link in links]}
    return {
        "input_ports": [
            {
                **_link(state, link),
                "consuming_abstract_data_product_id": link.consumer_id,
                "consuming_abstract_data_product": {
                    "name": state.consumer(link.consumer_id).name,
                    "namespace": state.consumer(link.consumer_id).namespace,
                    "abstract_data_product_type": (
                        "explorations"
                        if link.consumer_id in state.explorations
                        else "data_products"
                    ),
                },
            }
            for link in links
        ]
    }


def _product(state: PortalState, product: Product) -> dict[str, Any]:
    entry: dict[str, Any] = {
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
    }
    if state.style.modern:
        return {**entry, "finalizers": list(product.finalizers)}
    return {**entry, "data_product_settings": []}


def _counts(state: PortalState, product: Product) -> dict[str, int]:
    ports = state.ports.of(product_id=product.id)
    links = state.links.of(consumer_id=product.id)
    assets = state.assets.of(product_id=product.id)
    if state.style.modern:
        ports_counted = {"input_port_count": len(links)}
    else:
        ports_counted = {"output_port_count": len(ports)}
    return {"user_count": 1, **ports_counted, "technical_asset_count": len(assets)}


def _asset(state: PortalState, asset: Asset) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": asset.id,
        "name": asset.name,
        "description": asset.description,
        "namespace": asset.namespace,
        "owner_id": asset.product_id,
        "platform_id": catalog.PLATFORM["id"],
        "service_id": catalog.S3_SERVICE_ID,
        "status": asset.status,
        "technical_mapping": asset.technical_mapping,
        "configuration": asset.configuration,
    }
    return {**entry, "access_modes": []} if state.style.access_modes else entry


def _asset_link(port_id: str, asset: Asset) -> dict[str, Any]:
    link_id, status = asset.links[port_id]
    return {
        "id": link_id,
        "output_port_id": port_id,
        "technical_asset_id": asset.id,
        "status": status,
    }


def _old_link(state: PortalState, link: Link) -> dict[str, Any]:
    return {
        "id": link.id,
        "justification": link.justification,
        "data_product_id": link.consumer_id,
        "data_product": {"name": state.product(link.consumer_id).name, "type": catalog.TYPE},
        "output_port_id": link.port_id,
        "status": link.status,
        "input_port": port_entry(state, state.port(link.port_id)),
    }


def _link(state: PortalState, link: Link) -> dict[str, Any]:
    decided = link.status != "pending"
    explores = link.consumer_id in state.explorations
    request: dict[str, Any] = {
        "id": link.request_id,
        "justification": link.justification,
        "decision_note": "noted" if decided else None,
        "valid_from": link.valid_from.isoformat() if link.valid_from else None,
        "valid_until": link.valid_until.isoformat() if link.valid_until else None,
        "access_duration_type": "time_bound" if explores or link.valid_until else "permanent",
        "requested_duration_days": entities.EXPLORATION_DAYS if explores else None,
        "requested_by": catalog.USER,
        "decided_by": catalog.USER if decided else None,
        "decision": {"pending": "pending", "denied": "denied"}.get(link.status, "approved"),
        "revoked_at": link.revoked_at,
        "revoked_by": catalog.USER if link.revoked_at else None,
        "created_on": link.requested_at,
        "requested_on": link.requested_at,
    }
    if state.style.access_modes:
        request["access_mode"] = (
            None
            if link.mode is None
            else {"id": link.request_id, "name": link.mode, "description": link.mode}
        )
    return {
        "id": link.id,
        "status": link.status,
        "current_request": request,
        "renewal_status": None,
    }

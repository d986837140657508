"""Route the API of release 0.4.2: products, datasets and data outputs below `/api`.

The newer API is not there at all, and answers as any unknown route does.
"""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import catalog, entities, legacy_answers
from provisioner.demo.portal.access_routes import LinkRoutes
from provisioner.demo.portal.call import Listed, demand
from provisioner.demo.portal.entities import Port, Refused
from provisioner.demo.portal.state import PortalState

_PRODUCTS = "/api/data_products"
_PRODUCT = f"{_PRODUCTS}/{{product}}"
_PORT = "/api/datasets/{port}"
_ASSET = "/api/data_outputs/{asset}"
_ASSET_LINK = "/api/data_output_dataset_links"


class LegacyRoutes:
    """Answer the calls that this release knows."""

    def __init__(self, state: PortalState) -> None:
        self._state = state

    def listed(self) -> list[Listed]:
        """List the routes."""
        version = {"version": self._state.style.version}
        return [
            ("GET", "/api/version", lambda body: version),
            ("GET", _PRODUCTS, lambda body: legacy_answers.product_list(self._state)),
            ("POST", _PRODUCTS, self._create_product),
            ("GET", _PRODUCT, self._get_product),
            ("PUT", _PRODUCT, self._update_product),
            ("PUT", f"{_PRODUCT}/status", self._set_status),
            ("DELETE", _PRODUCT, self._delete_product),
            ("POST", "/api/datasets", self._create_port),
            ("GET", _PORT, self._get_port),
            ("DELETE", _PORT, self._delete_port),
            *self._assets(),
            *LinkRoutes(self._state).listed(),
            *self._configuration(),
        ]

    def _assets(self) -> list[Listed]:
        return [
            ("POST", f"{_PRODUCT}/data_output", self._create_asset),
            ("GET", f"{_PRODUCT}/data_outputs", self._get_assets),
            ("DELETE", _ASSET, self._delete_asset),
            ("PUT", f"{_ASSET}/status", self._set_asset_status),
            ("POST", f"{_ASSET}/dataset/{{port}}", self._link_asset),
            ("DELETE", f"{_ASSET}/dataset/{{port}}", self._unlink_asset),
            ("POST", f"{_ASSET_LINK}/approve/{{link}}", self._approve_asset),
            ("POST", f"{_ASSET_LINK}/deny/{{link}}", self._deny_asset),
        ]

    def _configuration(self) -> list[Listed]:
        platforms = catalog.platform_configurations()["platform_service_configurations"]
        return [
            ("GET", "/api/data_product_lifecycles", self._get_lifecycles),
            ("POST", "/api/data_product_lifecycles", self._create_lifecycle),
            ("GET", "/api/platforms/configs", lambda body: platforms),
        ]

    def _create_product(self, *, body: Any) -> Any:
        demand(body, "name", "namespace", "description")
        product_id = self._state.create_product(
            body["namespace"],
            name=body["name"],
            description=body["description"],
            lifecycle_id=body.get("lifecycle_id", entities.DRAFT_ID),
        )
        return {"id": product_id}

    def _get_product(self, *, body: Any, product: str) -> Any:
        if product not in self._state.products:
            raise Refused(404, "Data Product not found")
        return legacy_answers.product_page(self._state, self._state.product(product))

    def _update_product(self, *, body: Any, product: str) -> Any:
        needed = ["name", "namespace", "description", "type_id", "domain_id"]
        demand(body, *needed, "lifecycle_id", "tag_ids")
        names = ("name", "namespace", "description", "lifecycle_id", "about")
        changes = {name: body[name] for name in names if name in body}
        self._state.update_product(product, **changes)
        return {"id": product}

    def _set_status(self, *, body: Any, product: str) -> None:
        demand(body, "status")
        self._state.set_status(product, body["status"])

    def _delete_product(self, *, body: Any, product: str) -> None:
        self._state.delete_product(product)

    def _create_port(self, *, body: Any) -> Any:
        demand(body, "name", "namespace", "data_product_id")
        port_id = self._state.create_port(
            body["data_product_id"],
            body["namespace"],
            name=body["name"],
            access_type=body.get("access_type", "restricted"),
        )
        return {"id": port_id}

    def _get_port(self, *, body: Any, port: str) -> Any:
        return legacy_answers.port_page(self._state, self._port(port))

    def _delete_port(self, *, body: Any, port: str) -> None:
        self._state.delete_port(self._port(port).id)

    def _port(self, port_id: str) -> Port:
        if port_id not in self._state.ports:
            raise Refused(404, "Dataset not found")
        return self._state.port(port_id)

    def _create_asset(self, *, body: Any, product: str) -> Any:
        names = ["name", "description", "namespace", "platform_id", "service_id", "tag_ids"]
        demand(body, *names, "configuration", "status", "sourceAligned")
        demand(body["configuration"], "configuration_type")
        if not str(body["configuration"]["configuration_type"]).endswith("DataOutput"):
            raise Refused(422, [{"type": "union_tag_invalid", "loc": ["body", "configuration"]}])
        asset_id = self._state.create_asset(
            product,
            body["namespace"],
            name=body["name"],
            description=body["description"],
            technical_mapping="custom" if body["sourceAligned"] else "default",
            configuration=legacy_answers.stored_configuration(body["configuration"]),
        )
        return {"id": asset_id}

    def _get_assets(self, *, body: Any, product: str) -> Any:
        return [
            legacy_answers.asset_entry(self._state, asset)
            for asset in tuple(self._state.assets.values())
            if asset.product_id == product
        ]

    def _delete_asset(self, *, body: Any, asset: str) -> None:
        self._state.delete_asset(asset)

    def _set_asset_status(self, *, body: Any, asset: str) -> None:
        demand(body, "status")
        self._state.set_asset_status(asset, body["status"])

    def _link_asset(self, *, body: Any, asset: str, port: str) -> Any:
        return {"id": self._state.link_asset(port, asset)}

    def _unlink_asset(self, *, body: Any, asset: str, port: str) -> None:
        self._state.unlink_asset(port, asset)

    def _approve_asset(self, *, body: Any, link: str) -> None:
        self._decide_asset(link, "approved")

    def _deny_asset(self, *, body: Any, link: str) -> None:
        self._decide_asset(link, "denied")

    def _decide_asset(self, link_id: str, status: str) -> None:
        for asset in tuple(self._state.assets.values()):
            for port_id, (known, _) in tuple(asset.links.items()):
                if known == link_id:
                    self._state.decide_asset_link(port_id, asset.id, status)
                    return
        raise Refused(404, f"Required item {link_id} does not exist")

    def _get_lifecycles(self, *, body: Any) -> Any:
        return [
            catalog.lifecycle(self._state, one) for one in tuple(self._state.lifecycles.values())
        ]

    def _create_lifecycle(self, *, body: Any) -> Any:
        demand(body, "name")
        return {"id": self._state.create_lifecycle(body["name"])}

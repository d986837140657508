"""Route products, ports and configuration of a small portal.

What the provisioner sends is checked as strictly as by the real portals; of what people send
(new products, ports, requests) only names are demanded.
"""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import answers, catalog, entities
from provisioner.demo.portal.call import PORT, PRODUCT, PRODUCTS, Listed, demand
from provisioner.demo.portal.entities import Refused
from provisioner.demo.portal.state import PortalState


class ProductRoutes:
    """Answer calls about products."""

    def __init__(self, state: PortalState, *, admin: bool) -> None:
        self._state = state
        self._admin = admin

    def listed(self) -> list[Listed]:
        """List the routes of this version."""
        found: list[Listed] = [
            ("GET", PRODUCTS, lambda body: answers.product_list(self._state)),
            ("POST", PRODUCTS, self._create_product),
            ("GET", PRODUCT, self._get_product),
            ("PUT", PRODUCT, self._update_product),
            ("PUT", f"{PRODUCT}/status", self._set_status),
            ("DELETE", PRODUCT, self._delete_product),
            ("GET", f"{PRODUCT}/output_ports", self._get_ports),
            ("POST", f"{PRODUCT}/output_ports", self._create_port),
            ("GET", PORT, self._get_port),
            ("DELETE", PORT, self._delete_port),
            *self._configuration(),
        ]
        if self._state.style.modern:
            return [
                *found,
                ("POST", f"{PRODUCT}/finalizers", self._add_finalizer),
                ("DELETE", f"{PRODUCT}/finalizers/{{name}}", self._remove_finalizer),
            ]
        return [
            *found,
            ("POST", "/api/data_products", self._create_product),
            ("DELETE", "/api/data_products/{product}", self._delete_product),
        ]

    def _configuration(self) -> list[Listed]:
        root = "/api/v2/configuration"
        version = {"version": self._state.style.version}
        return [
            ("GET", "/api/v2/version", lambda body: version),
            ("GET", f"{root}/data_product_lifecycles", self._get_lifecycles),
            ("POST", f"{root}/data_product_lifecycles", self._create_lifecycle),
            (
                "GET",
                f"{root}/platforms/configs",
                lambda body: catalog.platform_configurations(),
            ),
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
        if product not in self._state.products and not self._state.style.modern:
            raise Refused(500, "Something went wrong")
        if product not in self._state.products:
            raise Refused(404, "Data Product not found")
        return answers.product_page(self._state, self._state.product(product))

    def _update_product(self, *, body: Any, product: str) -> Any:
        needed = ["name", "namespace", "description", "type_id", "domain_id", "lifecycle_id"]
        if not self._state.style.modern:
            needed.append("tag_ids")
        demand(body, *needed)
        names = ("name", "namespace", "description", "lifecycle_id", "about")
        changes = {name: body[name] for name in names if name in body}
        self._state.update_product(product, **changes)
        return {"id": product}

    def _set_status(self, *, body: Any, product: str) -> None:
        demand(body, "status")
        self._state.set_status(product, body["status"])

    def _delete_product(self, *, body: Any, product: str) -> Any:
        return (200 if self._state.delete_product(product) else 202, None)

    def _add_finalizer(self, *, body: Any, product: str) -> None:
        demand(body, "finalizer")
        self._state.add_finalizer(product, body["finalizer"])

    def _remove_finalizer(self, *, body: Any, product: str, name: str) -> None:
        self._state.remove_finalizer(product, name)

    def _get_ports(self, *, body: Any, product: str) -> Any:
        self._state.product(product)
        return answers.port_list(self._state, product, admin=self._admin)

    def _create_port(self, *, body: Any, product: str) -> Any:
        demand(body, "name", "namespace")
        port_id = self._state.create_port(
            product,
            body["namespace"],
            name=body["name"],
            access_type=body.get("access_type", "restricted"),
        )
        return {"id": port_id}

    def _get_port(self, *, body: Any, product: str, port: str) -> Any:
        found = self._state.port(port, product)
        if found.access_type == "private" and not self._admin:
            raise Refused(403, "You do not have access to this private dataset")
        return answers.port_page(self._state, found)

    def _delete_port(self, *, body: Any, product: str, port: str) -> None:
        self._state.port(port, product)
        self._state.delete_port(port)

    def _get_lifecycles(self, *, body: Any) -> Any:
        found = (catalog.lifecycle(self._state, one) for one in self._state.lifecycles.values())
        return {"data_product_life_cycles": list(found)}

    def _create_lifecycle(self, *, body: Any) -> Any:
        demand(body, "name")
        return {"id": self._state.create_lifecycle(body["name"])}

"""Route requests for access, and technical assets, of a small portal."""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import answers
from provisioner.demo.portal.call import PORT, PRODUCT, Listed, demand, wanted_port
from provisioner.demo.portal.entities import Refused
from provisioner.demo.portal.state import PortalState


class AccessRoutes:
    """Answer calls about who may read what."""

    def __init__(self, state: PortalState) -> None:
        self._state = state

    def listed(self) -> list[Listed]:
        """List the routes of this version."""
        modern = self._state.style.modern
        consumer = f"{PRODUCT}/input_ports"
        found: list[Listed] = [
            ("GET", consumer, self._get_links),
            ("DELETE", f"{consumer}/{{port}}", self._remove_own),
            ("GET", f"{PORT}/input_ports{'/' if modern else ''}", self._get_consumers),
            ("POST", f"{PORT}/input_ports/approve", self._approve),
            ("POST", f"{PORT}/input_ports/deny", self._deny),
            ("POST", f"{PORT}/input_ports/remove", self._remove),
        ]
        if not self._state.style.access_modes:
            found.append(("POST", f"{PRODUCT}/link_input_ports", self._request_old))
        return [*found, *(self._modern(consumer) if modern else LinkRoutes(self._state).listed())]

    def _modern(self, consumer: str) -> list[Listed]:
        return [
            ("POST", consumer, self._request),
            ("POST", f"{consumer}/{{port}}/revoke", self._revoke_own),
            ("POST", f"{PORT}/input_ports/revoke", self._revoke),
        ]

    def _get_links(self, *, body: Any, product: str) -> Any:
        self._state.product(product)
        return answers.consumer_links(self._state, product)

    def _get_consumers(self, *, body: Any, product: str, port: str) -> Any:
        self._state.port(port, product)
        return answers.port_links(self._state, port)

    def _request(self, *, body: Any, product: str) -> Any:
        demand(body, "output_ports", "justification")
        return {"input_port_links": [self._ask(product, one, body) for one in body["output_ports"]]}

    def _request_old(self, *, body: Any, product: str) -> Any:
        demand(body, "input_ports", "justification")
        return {"input_port_links": [self._ask(product, one, body) for one in body["input_ports"]]}

    def _ask(self, consumer: str, wanted: Any, body: Any) -> str:
        self._state.product(consumer)
        return self._state.request_access(
            consumer,
            wanted_port(wanted, self._state.style),
            justification=str(body["justification"]),
        )

    def _approve(self, *, body: Any, product: str, port: str) -> Any:
        consumer = self._consumer(body, product, port)
        self._state.approve(port, consumer)
        named = self._state.style.approval_names_consumer
        return {"consuming_data_product_id": consumer} if named else None

    def _deny(self, *, body: Any, product: str, port: str) -> None:
        if self._state.style.modern:
            demand(body, "decision_note")
        self._state.deny(port, self._consumer(body, product, port))

    def _remove(self, *, body: Any, product: str, port: str) -> None:
        self._state.remove(port, self._consumer(body, product, port))

    def _revoke(self, *, body: Any, product: str, port: str) -> None:
        self._state.revoke(port, self._consumer(body, product, port))

    def _revoke_own(self, *, body: Any, product: str, port: str) -> Any:
        self._state.revoke(port, product)
        return {"input_port_link": self._state.first_link(port, product).id}

    def _remove_own(self, *, body: Any, product: str, port: str) -> None:
        self._state.remove(port, product)

    def _consumer(self, body: Any, product: str, port: str) -> str:
        demand(body, "consuming_data_product_id")
        self._state.port(port, product)
        return str(body["consuming_data_product_id"])


class LinkRoutes:
    """Answer the older calls about access, which name a link, or a port as a dataset."""

    def __init__(self, state: PortalState) -> None:
        self._state = state

    def listed(self) -> list[Listed]:
        """List the routes."""
        link = "/api/data_product_dataset_links"
        own = "/api/data_products/{product}"
        return [
            ("POST", f"{own}/link_datasets", self._request_all),
            ("POST", f"{own}/dataset/{{port}}", self._request_one),
            ("DELETE", f"{own}/dataset/{{port}}", self._remove_one),
            ("POST", f"{link}/approve/{{link}}", self._approve_link),
            ("POST", f"{link}/deny/{{link}}", self._deny_link),
            ("POST", f"{link}/remove/{{link}}", self._remove_link),
        ]

    def _request_all(self, *, body: Any, product: str) -> Any:
        demand(body, "dataset_ids", "justification")
        asked = [
            self._state.request_access(product, str(one), justification=str(body["justification"]))
            for one in body["dataset_ids"]
        ]
        return {"dataset_links": asked}

    def _request_one(self, *, body: Any, product: str, port: str) -> Any:
        return {"id": self._state.request_access(product, port)}

    def _remove_one(self, *, body: Any, product: str, port: str) -> None:
        self._state.remove(port, product)

    def _approve_link(self, *, body: Any, link: str) -> None:
        self._state.approve(*self._ends(link))

    def _deny_link(self, *, body: Any, link: str) -> None:
        self._state.deny(*self._ends(link))

    def _remove_link(self, *, body: Any, link: str) -> None:
        self._state.remove(*self._ends(link))

    def _ends(self, link_id: str) -> tuple[str, str]:
        if link_id not in self._state.links:
            raise Refused(404, f"Required item {link_id} does not exist")
        link = self._state.links[link_id]
        return link.port_id, link.consumer_id


class AssetRoutes:
    """Answer calls about technical assets."""

    def __init__(self, state: PortalState, *, admin: bool) -> None:
        self._state = state
        self._admin = admin

    def listed(self) -> list[Listed]:
        """List the routes of this version."""
        own = f"{PRODUCT}/technical_assets"
        slash = "/" if self._state.style.asset_slash else ""
        linked = f"{PORT}/technical_assets"
        found: list[Listed] = [
            ("GET", own + slash, self._get_assets),
            ("POST", own + slash, self._create),
            ("DELETE", f"{own}/{{asset}}", self._delete),
            ("PUT", f"{own}/{{asset}}/status", self._set_status),
            ("POST", f"{linked}/add", self._link),
            ("POST", f"{linked}/approve_link_request", self._approve),
            ("POST", f"{linked}/deny_link_request", self._deny),
            ("DELETE", f"{linked}/remove", self._unlink),
        ]
        if not self._state.style.modern:
            found.append(("POST", "/api/data_products/{product}/data_output", self._create_any))
        return found

    def _get_assets(self, *, body: Any, product: str) -> Any:
        return answers.asset_list(self._state, product)

    def _create(self, *, body: Any, product: str) -> Any:
        """Make an asset; the older portals refuse owners here by mistake."""
        if not (self._admin or self._state.style.modern):
            raise Refused(403, "You don't have permission to perform this action")
        return self._create_any(body=body, product=product)

    def _create_any(self, *, body: Any, product: str) -> Any:
        names = ["name", "description", "namespace", "platform_id", "service_id"]
        names += ["configuration", "tag_ids"]
        if not self._state.style.modern:
            names += ["status", "sourceAligned"]
        demand(body, *names)
        asset_id = self._state.create_asset(
            product,
            body["namespace"],
            name=body["name"],
            description=body["description"],
            technical_mapping=body.get("technical_mapping", "default"),
            configuration=body["configuration"],
        )
        return {"id": asset_id}

    def _delete(self, *, body: Any, product: str, asset: str) -> None:
        self._state.delete_asset(asset)

    def _set_status(self, *, body: Any, product: str, asset: str) -> None:
        demand(body, "status")
        self._state.set_asset_status(asset, body["status"])

    def _link(self, *, body: Any, product: str, port: str) -> Any:
        return {"link_id": self._state.link_asset(port, _asset(body))}

    def _approve(self, *, body: Any, product: str, port: str) -> None:
        self._state.decide_asset_link(port, _asset(body), "approved")

    def _deny(self, *, body: Any, product: str, port: str) -> None:
        self._state.decide_asset_link(port, _asset(body), "denied")

    def _unlink(self, *, body: Any, product: str, port: str) -> None:
        self._state.unlink_asset(port, _asset(body))


def _asset(body: Any) -> str:
    demand(body, "technical_asset_id")
    return str(body["technical_asset_id"])

"""Hold what a small portal knows, look it up, and note the v2 events that changes emit."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from provisioner.demo.portal.entities import (
    DRAFT_ID,
    OWNER_ID,
    Asset,
    Exploration,
    Link,
    Port,
    Product,
    Refused,
    Style,
)
from provisioner.demo.portal.filed import Filed

_NAMESPACE = re.compile(r"[a-z0-9+=,.@_-]{1,64}")


class PortalRecords:
    """Hold everything, and the v2 events since they were last taken."""

    def __init__(self, style: Style, *, clock: Callable[[], datetime] | None = None) -> None:
        self.style = style
        self.clock = clock or (lambda: datetime.now(UTC))
        self.products: dict[str, Product] = {}
        self.explorations: dict[str, Exploration] = {}
        self.ports: Filed[Port] = Filed("product_id")
        self.links: Filed[Link] = Filed("consumer_id", "port_id")
        self.assets: Filed[Asset] = Filed("product_id")
        self.lifecycles: dict[str, str] = {"Draft": DRAFT_ID}
        self.events: list[tuple[str, dict[str, str]]] = []

    def product(self, product_id: str) -> Product:
        """Return a product, or refuse with 404."""
        if product_id not in self.products:
            raise Refused(404, f"Required item {product_id} does not exist")
        return self.products[product_id]

    def exploration(self, exploration_id: str) -> Exploration:
        """Return an exploration, or refuse with 404."""
        if exploration_id not in self.explorations:
            raise Refused(404, f"Required item {exploration_id} does not exist")
        return self.explorations[exploration_id]

    def consumer(self, consumer_id: str) -> Product | Exploration:
        """Return who may have links to ports, or refuse with 404."""
        return self.explorations.get(consumer_id) or self.product(consumer_id)

    def port(self, port_id: str, product_id: str | None = None) -> Port:
        """Return a port (of a product), or refuse with 404."""
        port = self.ports.get(port_id)
        if port is None or product_id not in (None, port.product_id):
            raise Refused(404, f"Output port {port_id} not found")
        return port

    def asset(self, asset_id: str) -> Asset:
        """Return an asset, or refuse with 404."""
        if asset_id not in self.assets:
            raise Refused(404, f"Technical asset {asset_id} not found")
        return self.assets[asset_id]

    def links_of(self, consumer_id: str, port_id: str) -> list[Link]:
        """Return a consumer's links to a port, the oldest first."""
        return [link for link in self.links.of(consumer_id=consumer_id) if link.port_id == port_id]

    def first_link(self, port_id: str, consumer_id: str) -> Link:
        """Return a consumer's oldest link to a port, or refuse with 404."""
        found = self.links_of(consumer_id, port_id)
        if not found:
            raise Refused(404, "Data product input port not found")
        return found[0]

    def changeable(self, product_id: str) -> Product:
        """Return a product that is not deleting, or refuse with 409."""
        product = self.product(product_id)
        if product.status == "deleting":
            raise Refused(409, f"data_products '{product.name}' is pending deletion")
        return product

    def check_namespace(self, namespace: str) -> None:
        """Refuse a namespace that is not allowed or taken."""
        if not _NAMESPACE.fullmatch(namespace):
            raise Refused(400, "Invalid namespace: INVALID_CHARACTERS")
        if any(product.namespace == namespace for product in tuple(self.products.values())):
            raise Refused(400, "Invalid namespace: DUPLICATE")

    def now(self) -> str:
        """Return the time as the portal writes it."""
        return self.clock().replace(tzinfo=None).isoformat()

    def note(self, kind: str, **data: str) -> None:
        """Note a v2 event."""
        self.events.append((f"{kind}.event", data))

    def note_role(self, product_id: str) -> None:
        """Note that somebody's role on a product changed."""
        self.note(
            "data_product_role_assignment",
            id=new_id(),
            data_product_id=product_id,
            user_id=OWNER_ID,
        )

    def note_port_role(self, port_id: str, product_id: str) -> None:
        """Note that somebody's role on a port changed."""
        self.note(
            "output_port_role_assignment",
            id=new_id(),
            output_port_id=port_id,
            data_product_id=product_id,
            user_id=OWNER_ID,
        )

    def note_consumer(self, consumer_id: str) -> None:
        """Note that a product or exploration changed."""
        explores = consumer_id in self.explorations
        self.note("exploration" if explores else "data_product", id=consumer_id)

    def note_link(self, link: Link) -> None:
        """Note that a consumer's link changed."""
        explores = link.consumer_id in self.explorations
        self.note(
            "input_port",
            id=link.id,
            consuming_abstract_data_product_id=link.consumer_id,
            consuming_abstract_data_product_type="explorations" if explores else "data_products",
        )

    def drop_link(self, link: Link) -> None:
        """Forget a link without a trace."""
        del self.links[link.id]
        self.note_link(link)

    def note_asset(self, asset: Asset) -> None:
        """Note that an asset changed."""
        self.note("technical_asset", id=asset.id, data_product_id=asset.product_id)

    def note_asset_link(self, asset: Asset, port_id: str) -> None:
        """Note that an asset's link to a port changed."""
        self.note(
            "output_port_technical_asset_link",
            id=asset.links[port_id][0],
            data_product_id=asset.product_id,
            output_port_id=port_id,
            technical_asset_id=asset.id,
        )


def new_id() -> str:
    """Make an id as the portal does."""
    return str(uuid.uuid4())

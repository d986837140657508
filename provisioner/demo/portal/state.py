"""Keep a small portal's products, ports, links and assets in memory, by each version's rules.

The rules are those of the real portals as far as a provisioner can see them: what is refused with
which status, what cascades, which v2 events a change emits and how often. The methods may be
called directly, as a test's own hand on the portal; the routes call them for HTTP.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from provisioner.demo.portal.assets import AssetRules
from provisioner.demo.portal.entities import (
    DRAFT_ID,
    EXPLORATION_DAYS,
    Link,
    Port,
    Product,
    Refused,
)
from provisioner.demo.portal.explorations import ExplorationRules
from provisioner.demo.portal.records import new_id

_OWN_PORT = {
    False: (400, "Cannot link own dataset to data product"),
    True: (500, "Something went wrong"),
}
"""What asking for one's own port gets: the newer portals stumble over it."""


class PortalState(ExplorationRules, AssetRules):
    """Change things as the real portals do."""

    def create_product(
        self,
        namespace: str,
        *,
        name: str | None = None,
        description: str = "",
        lifecycle_id: str = DRAFT_ID,
    ) -> str:
        """Make a product and return its id."""
        self.check_namespace(namespace)
        product_id = new_id()
        self.products[product_id] = Product(
            id=product_id,
            namespace=namespace,
            name=namespace if name is None else name,
            description=description,
            lifecycle_id=lifecycle_id,
        )
        self.note("data_product", id=product_id)
        for _ in range(2):
            self.note_role(product_id)
        return product_id

    def update_product(self, product_id: str, **fields: Any) -> None:
        """Change fields of a product; a changed namespace keeps the id."""
        product = self.changeable(product_id)
        if fields.get("namespace", product.namespace) != product.namespace:
            self.check_namespace(fields["namespace"])
        if fields.get("lifecycle_id", DRAFT_ID) not in self.lifecycles.values():
            raise Refused(404, "Required item does not exist")
        for name, value in fields.items():
            setattr(product, name, value)
        self.note("data_product", id=product_id)

    def rename(self, product_id: str, namespace: str) -> None:
        """Change the namespace."""
        self.update_product(product_id, namespace=namespace)

    def set_status(self, product_id: str, status: str) -> None:
        """Archive a product, or make it active again."""
        self.update_product(product_id, status=status)

    def create_lifecycle(self, name: str) -> str:
        """Add a lifecycle and return its id; no v2 event tells of it."""
        return self.lifecycles.setdefault(name, new_id())

    def delete_product(self, product_id: str) -> bool:
        """Delete a product; False where finalizers hold it back and it is only `deleting`."""
        product = self.product(product_id)
        if product.finalizers:
            product.status = "deleting"
            self.note("data_product", id=product_id)
            return False
        self.note_role(product_id)
        for asset in tuple(self.assets.values()):
            if asset.product_id == product_id:
                self.note_asset(asset)
                del self.assets[asset.id]
        for port in tuple(self.ports.values()):
            if port.product_id == product_id:
                self.delete_port(port.id)
        for link in tuple(self.links.values()):
            if link.consumer_id == product_id:
                self.drop_link(link)
        del self.products[product_id]
        self.note("data_product", id=product_id)
        return True

    def add_finalizer(self, product_id: str, name: str) -> None:
        """Hold the deletion back."""
        product = self.changeable(product_id)
        if name not in product.finalizers:
            product.finalizers.append(name)
            self.note("data_product", id=product_id)

    def remove_finalizer(self, product_id: str, name: str) -> None:
        """Let go; removing the last one from a product that is deleting is its deletion."""
        product = self.product(product_id)
        if name not in product.finalizers:
            raise Refused(404, f"Finalizer '{name}' not found")
        product.finalizers.remove(name)
        self.note("data_product", id=product_id)
        if product.status == "deleting" and not product.finalizers:
            self.delete_product(product_id)

    def create_port(
        self,
        product_id: str,
        namespace: str,
        *,
        name: str | None = None,
        access_type: str = "restricted",
    ) -> str:
        """Make an output port and return its id; `public` and `unrestricted` ask nobody."""
        self.changeable(product_id)
        if self.style.modern and access_type == "public":
            access_type = "unrestricted"
        port_id = new_id()
        self.ports[port_id] = Port(
            id=port_id,
            product_id=product_id,
            namespace=namespace,
            name=namespace if name is None else name,
            access_type=access_type,
        )
        ids = {"data_product_id": product_id}
        for _ in range(2):
            self.note("output_port", id=port_id, **ids)
        for _ in range(2):
            self.note_port_role(port_id, product_id)
        return port_id

    def delete_port(self, port_id: str) -> None:
        """Delete a port; its links vanish without a trace."""
        port = self.port(port_id)
        for link in tuple(self.links.values()):
            if link.port_id == port_id:
                self.drop_link(link)
        for asset in tuple(self.assets.values()):
            asset.links.pop(port_id, None)
        del self.ports[port_id]
        self.note_port_role(port_id, port.product_id)
        self.note("output_port", id=port_id, data_product_id=port.product_id)

    def request_access(
        self,
        consumer_id: str,
        port_id: str,
        *,
        justification: str = "needed",
        mode: str | None = None,
    ) -> str:
        """Ask for a port and return the link's id; an open port approves at once."""
        self.consumer(consumer_id)
        port = self.port(port_id)
        self.changeable(port.product_id)
        if port.product_id == consumer_id:
            raise Refused(*_OWN_PORT[self.style.modern])
        for link in self.links_of(consumer_id, port_id):
            if self.style.modern or link.status != "denied":
                raise Refused(
                    400, f"Input port connection to Output Port ({port_id}) already exists"
                )
        link = Link(
            id=new_id(),
            consumer_id=consumer_id,
            port_id=port_id,
            justification=justification,
            requested_at=self.now(),
            request_id=new_id(),
            mode=mode,
        )
        self.links[link.id] = link
        for _ in range(2):
            self.note_consumer(consumer_id)
            self.note_link(link)
        if port.access_type in ("public", "unrestricted"):
            self._open(link)
        return link.id

    def approve(self, port_id: str, consumer_id: str, *, days: int | None = None) -> None:
        """Approve a pending request, for ever or for some days; an exploration's is for a month."""
        link = self._decided(port_id, consumer_id, ("pending",), "There is no pending request")
        self._open(link, days=days)
        self.note_link(link)

    def deny(self, port_id: str, consumer_id: str) -> None:
        """Deny a request; before 0.6 an approved one too, which is a revocation."""
        allowed = ("pending",) if self.style.modern else ("pending", "approved")
        link = self._decided(port_id, consumer_id, allowed, "There is no pending request to deny")
        link.status = "denied"
        self.note_link(link)

    def revoke(self, port_id: str, consumer_id: str) -> None:
        """Take an approved access back, leaving the link."""
        problem = "There is no active access to revoke"
        link = self._decided(port_id, consumer_id, ("approved",), problem)
        link.status = "revoked"
        link.revoked_at = self.now()
        self.note_link(link)

    def remove(self, port_id: str, consumer_id: str) -> None:
        """Remove the (first) link of a consumer to a port, whatever its status."""
        self.drop_link(self.first_link(port_id, consumer_id))

    def set_validity(
        self, link_id: str, *, valid_from: date | None = None, valid_until: date | None = None
    ) -> None:
        """Move the days of a link in silence, as the approval of a renewal does."""
        self.links[link_id].valid_from = valid_from
        self.links[link_id].valid_until = valid_until

    def expire(self, today: date) -> None:
        """Do the portal's daily job: approved links past their last day become expired."""
        for link in tuple(self.links.values()):
            if link.status == "approved" and link.valid_until and link.valid_until < today:
                link.status = "expired"
                self.note_link(link)

    def _decided(
        self, port_id: str, consumer_id: str, allowed: tuple[str, ...], problem: str
    ) -> Link:
        link = self.first_link(port_id, consumer_id)
        if link.status not in allowed:
            raise Refused(400, problem if self.style.modern else "Approval request already decided")
        return link

    def _open(self, link: Link, *, days: int | None = None) -> None:
        link.status = "approved"
        if self.style.modern:
            if days is None and link.consumer_id in self.explorations:
                days = EXPLORATION_DAYS
            link.valid_from = self.clock().date()
            link.valid_until = None if days is None else link.valid_from + timedelta(days=days)

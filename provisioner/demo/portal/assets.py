"""Keep technical assets and their links to ports, by each version's rules."""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal.entities import Asset, Refused
from provisioner.demo.portal.records import PortalRecords, new_id


class AssetRules(PortalRecords):
    """Change assets as the real portals do."""

    def create_asset(
        self,
        product_id: str,
        namespace: str,
        *,
        configuration: dict[str, Any],
        name: str | None = None,
        description: str = "",
        technical_mapping: str = "custom",
    ) -> str:
        """Make a technical asset and return its id; only a `default` one of 0.6+ starts active."""
        self.changeable(product_id)
        active = self.style.modern and technical_mapping == "default"
        asset = Asset(
            id=new_id(),
            product_id=product_id,
            namespace=namespace,
            name=namespace if name is None else name,
            description=description,
            status="active" if active else "pending",
            technical_mapping=technical_mapping,
            configuration={"suffix": "", **configuration},
        )
        self.assets[asset.id] = asset
        self.note_asset(asset)
        return asset.id

    def set_asset_status(self, asset_id: str, status: str) -> None:
        """Activate or archive an asset."""
        asset = self.asset(asset_id)
        asset.status = status
        self.note_asset(asset)

    def delete_asset(self, asset_id: str) -> None:
        """Delete an asset and its links."""
        asset = self.asset(asset_id)
        for port_id in tuple(asset.links):
            self.note_asset_link(asset, port_id)
        del self.assets[asset_id]
        self.note_asset(asset)

    def link_asset(self, port_id: str, asset_id: str) -> str:
        """Ask for an asset to be part of a port and return the link's id."""
        asset, port = self.asset(asset_id), self.port(port_id)
        if self.style.modern and asset.status != "active":
            raise Refused(400, "Cannot link technical asset that is not active")
        link_id = new_id()
        asset.links[port_id] = (link_id, "pending")
        self.note_asset(asset)
        self.note_asset_link(asset, port_id)
        self.note("output_port", id=port_id, data_product_id=port.product_id)
        return link_id

    def decide_asset_link(self, port_id: str, asset_id: str, status: str) -> None:
        """Approve or deny an asset's link to a port."""
        asset = self.asset(asset_id)
        if port_id not in asset.links:
            raise Refused(404, "Technical asset link not found")
        asset.links[port_id] = (asset.links[port_id][0], status)
        self.note_asset_link(asset, port_id)

    def unlink_asset(self, port_id: str, asset_id: str) -> None:
        """Take an asset out of a port."""
        asset = self.asset(asset_id)
        self.note_asset(asset)
        self.note_asset_link(asset, port_id)
        del asset.links[port_id]
        self.note("output_port", id=port_id, data_product_id=asset.product_id)

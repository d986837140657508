"""Read technical assets from the portal's JSON, and describe the one that we make.

Pure, and as distrustful as `wire`. An asset keeps the status word that the portal gives it:
`grants` alone decides which of them opens anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provisioner import model
from provisioner.portal import fields as portal_fields

S3_CONFIGURATION = "S3TechnicalAssetConfiguration"

_APPROVED = model.LinkStatus.APPROVED.value


@dataclass(frozen=True, kw_only=True)
class LinkedAsset:
    """An asset and the ports to which its link is approved."""

    asset: model.Asset
    port_ids: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Service:
    """Where the portal files S3 assets; the ids differ from portal to portal."""

    platform_id: str
    service_id: str


def technical_assets(body: object) -> tuple[LinkedAsset, ...]:
    """Read a product's own assets with the ports to which they are linked."""
    found = [
        LinkedAsset(
            asset=read_asset(entry),
            port_ids=frozenset(
                portal_fields.uuid(link, "output_port_id")
                for link in portal_fields.entries(entry, "output_port_links")
                if link.get("status") == _APPROVED
            ),
        )
        for entry in portal_fields.entries(body, "technical_assets")
    ]
    return tuple(sorted(found, key=lambda linked: linked.asset.id))


def s3_service(body: object) -> Service | None:
    """Find the S3 service among the portal's platforms, by its name."""
    for entry in portal_fields.entries(body, "platform_service_configurations"):
        service = portal_fields.mapping(entry.get("service"))
        if service.get("name") == "S3":
            platform = portal_fields.mapping(entry.get("platform"))
            return Service(
                platform_id=portal_fields.uuid(platform, "id"),
                service_id=portal_fields.uuid(service, "id"),
            )
    return None


def is_at(asset: model.Asset, location: model.Location) -> bool:
    """Tell whether an asset is the S3 one for exactly this place."""
    path = "/".join(part.strip("/") for part in (asset.suffix, asset.path) if part.strip("/"))
    return (
        asset.configuration_type == S3_CONFIGURATION
        and asset.bucket == location.bucket
        and f"{path}/" == location.prefix
    )


def asset_body(
    location: model.Location, service: Service, *, knows_finalizers: bool
) -> dict[str, object]:
    """Describe a new asset for a prefix; portals without finalizers demand two fields more."""
    path = location.prefix.rstrip("/")
    body: dict[str, object] = {
        "name": f"S3 prefix {location.prefix}",
        "description": "Where the workspace of this data product keeps its files.",
        "namespace": path.replace("/", "-")[:64],
        "platform_id": service.platform_id,
        "service_id": service.service_id,
        "configuration": {
            "configuration_type": S3_CONFIGURATION,
            "bucket": location.bucket,
            "suffix": "",
            "path": path,
        },
        "technical_mapping": "default",
        "tag_ids": [],
    }
    if not knows_finalizers:
        body |= {"status": "pending", "sourceAligned": False}
    return body


def created_id(body: object) -> str:
    """Read the id of what was just made."""
    return portal_fields.uuid(portal_fields.mapping(body), "id")


def read_asset(fields: Mapping[str, Any]) -> model.Asset:
    """Read one asset, whatever its status."""
    configuration = portal_fields.mapping(fields.get("configuration"))
    return model.Asset(
        id=portal_fields.uuid(fields, "id"),
        name=portal_fields.text(fields, "name"),
        namespace=portal_fields.text(fields, "namespace"),
        status=portal_fields.text(fields, "status"),
        configuration_type=portal_fields.text(configuration, "configuration_type"),
        bucket=portal_fields.optional_text(configuration, "bucket"),
        suffix=portal_fields.optional_text(configuration, "suffix"),
        path=portal_fields.optional_text(configuration, "path"),
    )

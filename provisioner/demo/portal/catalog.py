"""Hold what a small portal is configured with: a user, a domain, a type, an S3 service."""

from __future__ import annotations

from typing import Any

from provisioner.demo.portal import entities
from provisioner.demo.portal.records import PortalRecords

PLATFORM = {"id": "8c016bd8-fcf9-4f36-92d9-6185884892ef", "name": "AWS"}
S3_SERVICE_ID = "bc905c29-23ef-4576-8ef6-901776fff2c7"
DOMAIN = {
    "id": entities.DOMAIN_ID,
    "name": "Commercial",
    "description": "Everything around customers",
}
TYPE = {
    "id": entities.TYPE_ID,
    "name": "Analytics",
    "description": "Analysis, metrics and insights",
    "icon_key": "analytics",
}
USER = {
    "id": entities.OWNER_ID,
    "email": "owner@example.org",
    "external_id": "owner@example.org",
    "first_name": "Product",
    "last_name": "Owner",
    "has_seen_tour": False,
    "can_become_admin": True,
    "admin_expiry": None,
}


def lifecycle(state: PortalRecords, lifecycle_id: str) -> dict[str, Any]:
    """Write a lifecycle."""
    names = {identity: name for name, identity in state.lifecycles.items()}
    draft = lifecycle_id == entities.DRAFT_ID
    return {
        "id": lifecycle_id,
        "name": names[lifecycle_id],
        "value": 0 if draft else 1,
        "color": "grey" if draft else "green",
        "is_default": draft,
    }


def platform_configurations() -> dict[str, Any]:
    """Write the platforms with their services."""
    service = {
        "id": S3_SERVICE_ID,
        "name": "S3",
        "platform": PLATFORM,
        "result_string_template": "{bucket}/{suffix}/{path}",
        "technical_info_template": "{bucket_arn}/{suffix}/{path}/*",
    }
    return {
        "platform_service_configurations": [
            {
                "id": "6bd82fd6-9a23-4517-a07c-9110d83ab38f",
                "platform": PLATFORM,
                "service": service,
                "config": ["data-products"],
            }
        ]
    }

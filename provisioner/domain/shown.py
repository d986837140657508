"""Show a record to a person: built field by field, so that no secret of it can slip in."""

from __future__ import annotations

from datetime import datetime

from provisioner import model


def summary(record: model.Record) -> dict[str, object]:
    """Show what a list says about a product."""
    return {
        "id": record.key.id,
        "kind": record.key.kind,
        "namespace": record.namespace,
        "name": record.name,
        "phase": record.phase,
        "conditions": [
            {"type": each.type, "message": each.message, "since": each.since}
            for each in record.conditions
        ],
        "next_at": record.next_at,
        "verified_at": record.verified_at,
        "released_at": record.released_at,
        "purged_at": record.purged_at,
    }


def whole(record: model.Record, now: datetime) -> dict[str, object]:
    """Show all about a product that may be seen."""
    return {
        **summary(record),
        "keys": _keys(record.credentials, now),
        "finalizer": record.finalizer,
        "prefix": record.prefix,
        "former": [
            {
                "namespace": each.namespace,
                "open": not each.closed,
                "kept_until": each.kept_until,
            }
            for each in record.former
        ],
        "workspace": {
            "rendered": record.workspace.rendered,
            "template_digest": record.workspace.template_digest,
            "template_name": record.workspace.template_name,
            "conflicts": list(record.workspace.conflicts),
            "upgrades": [
                {
                    "at": upgrade.at,
                    "before": upgrade.before,
                    "after": upgrade.after,
                    "changed": upgrade.changed,
                    "files": dict(upgrade.files),
                }
                for upgrade in record.workspace.upgrades
            ],
            "published_key_id": record.workspace.published_key_id,
        },
        "portal": {
            "lifecycle": record.writeback.lifecycle,
            "asset_id": record.writeback.asset_id,
        },
        "grants": [
            {
                "producer_id": grant.producer_id,
                "producer_namespace": grant.producer_namespace,
                "port_id": grant.port_id,
                "port_namespace": grant.port_namespace,
                "access": grant.access,
                "locations": [f"s3://{place.bucket}/{place.prefix}" for place in grant.locations],
                "valid_until": grant.valid_until,
            }
            for grant in record.grants
        ],
    }


def _keys(held: model.Credentials, now: datetime) -> dict[str, object]:
    """Show key ids, ages and dates; secrets stay where they are."""
    current = held.current and {
        "id": held.current.id,
        "issued_at": held.issued_at,
        "age_seconds": held.issued_at and int((now - held.issued_at).total_seconds()),
    }
    pending = held.pending and {
        "id": held.pending.key and held.pending.key.id,
        "intent_at": held.pending.intent_at,
    }
    return {
        "principal": held.principal,
        "generation": held.generation,
        "current": current,
        "pending": pending,
        "retiring": [{"id": key.key_id, "delete_after": key.delete_after} for key in held.retiring],
    }

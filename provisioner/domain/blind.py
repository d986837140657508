"""Say what is done for a product while the portal cannot be read. Pure.

Nothing is released and nothing new is opened; what the clock has ended is closed. A record that
came out of a backup and was not compared with the world yet says nothing of what is open: its
grants may have been revoked since, so no policy is written from it. Where its keys have leaked
they die all the same, and then the policy that is left opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from provisioner import errors, model
from provisioner.domain import grants, obstacles


def wanted(
    record: model.Record, asks: Mapping[model.Ask, datetime], now: datetime
) -> model.Desired:
    """Return what is still wanted, as far as that is known without the portal."""
    open_still = grants.not_ended(record.grants, now)
    return model.Desired(
        key=record.key,
        phase=record.phase,
        product=None,
        grants=() if record.restored else open_still,
        refusals=dict.fromkeys((grant.port_id for grant in record.grants), model.EndReason.EXPIRED),
        asks=asks,
    )


def must_act(record: model.Record, desired: model.Desired) -> bool:
    """Tell whether something has to be closed at once."""
    if model.Ask.COMPROMISED in desired.asks:
        return True
    if record.restored:
        return False
    # Without a digest the last run stopped in between: what is open is not known.
    unsure = not record.credentials.policy_digest
    unsure = unsure or bool(record.role.name and not record.role.policy_digest)
    return unsure or desired.grants != record.grants


def noted(
    error: errors.PermanentError, record: model.Record, desired: model.Desired, now: datetime
) -> dict[str, Any]:
    """Return what the record says of a portal that refuses: a condition, and when to look again."""
    found = [obstacles.condition(error.condition, str(error), now), *record.conditions]
    return {
        "conditions": obstacles.since(found, record.conditions),
        "settled_digest": "",
        "failed": True,
        "next_at": grants.next_end(desired.grants, now),
    }

"""Say what stands in the way of a product, and since when. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from provisioner import model


def condition(kind: str, message: str, now: datetime) -> model.Condition:
    """Make a condition that begins now."""
    return model.Condition(type=kind, message=message, since=now)


def renamed(product: model.Product, record: model.Record, now: datetime) -> model.Condition:
    """Say that folder and prefix keep the old name until what is in the way has gone."""
    message = f"the portal says {product.namespace!a}; provisioned as {record.namespace}"
    return condition("RenamePending", message, now)


def is_in_the_way(record: model.Record) -> bool:
    """Tell whether something of somebody else's keeps a living product from its place."""
    lives = record.phase is model.Phase.ACTIVE and record.released_at is None
    return lives and any(each.type in ("NotOurs", "AdoptRefused") for each in record.conditions)


def has_remains(record: model.Record) -> bool:
    """Tell whether a product is released and what it left was not purged."""
    return record.released_at is not None and record.purged_at is None


def drifted(drift: Sequence[model.Finding]) -> tuple[model.Condition, ...]:
    """Say what a deep look found and whether it is repaired; nothing where nothing was found."""
    if not drift:
        return ()
    groups = {"found": [], "found and repaired": []}  # type: dict[str, list[str]]
    for each in drift:
        said = f"{each.what} ({each.subject})"
        groups["found and repaired" if each.repaired else "found"].append(said)
    message = "; ".join(f"{head}: {', '.join(said)}" for head, said in groups.items() if said)
    return (condition("Drifted", message, min(each.at for each in drift)),)


def since(
    found: Sequence[model.Condition], before: Sequence[model.Condition]
) -> tuple[model.Condition, ...]:
    """Keep the date of what was already so; one condition of each type."""
    old = {(each.type, each.message): each for each in before}
    new: dict[str, model.Condition] = {}
    for each in found:
        new.setdefault(each.type, old.get((each.type, each.message), each))
    return tuple(dataclasses.replace(new[kind]) for kind in sorted(new))

"""Compute what a product should have, and whether that is what it has. Pure.

`desired` turns one reading of the portal into a `model.Desired`; its digest is what resync
compares with the stored one, so everything that a step acts on must be in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner import errors, model, names
from provisioner.domain import access_log, freshness, grants


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings that decide what is desired; part of every digest."""

    bucket: str
    scope: grants.Scope = grants.Scope.OUTPUT_PORT
    allowed_locations: tuple[str, ...] = ()
    finalizer: str = "sqlmesh-provisioner"
    ready_lifecycle: str = "Ready"
    fingerprint: str = ""
    """Digest of every other setting that reaches a workspace or says when to look again."""


def desired(
    key: model.Key,
    view: model.PortalView | None,
    *,
    rules: Rules,
    namespaces: Mapping[str, tuple[str, ...]],
    taken: Collection[str] = (),
    template: str = "",
    seen: Mapping[str, model.SeenPort] | None = None,
    now: datetime,
) -> model.Desired:
    """Turn a reading of the portal into what the product should have.

    `view` is None where the portal is sure that there is no such product. `namespaces` maps the
    producers that own their prefix to the namespaces they have it under, the newest first; `taken`
    are namespaces of products among the `grants.first_folders` of the view; `template` digests the
    one that workspaces follow by themselves; `seen` is what was last seen of any ports, by id.
    Raise `PortalRejected` for a status that we do not know: whatever it means, nothing is made and
    nothing is released.
    """
    if view is None:
        return _sealed(model.Desired(key=key, phase=model.Phase.GONE, product=None), rules)
    if view.product.status is model.ProductStatus.UNKNOWN:
        raise errors.PortalRejected("the portal gives the product a status that we do not know")
    phase = _phase(view.product.status)
    if phase is not model.Phase.ACTIVE:
        return _sealed(model.Desired(key=key, phase=phase, product=view.product), rules)
    ports = view.ports if key.produces else ()
    judgement = grants.judge(
        view,
        bucket=rules.bucket,
        scope=rules.scope,
        allowed_locations=rules.allowed_locations,
        namespaces=namespaces,
        taken=taken,
        now=now,
    )
    own = tuple(port for port in ports if names.is_namespace(port.namespace))
    shown = {port.id for port in own} | {grant.port_id for grant in judgement.grants}
    its_seen = {port_id: each for port_id, each in (seen or {}).items() if port_id in shown}
    found = freshness.conditions(its_seen, key, now)
    return _sealed(
        model.Desired(
            key=key,
            phase=phase,
            product=view.product,
            ports=own,
            assets=view.assets if key.produces else (),
            grants=judgement.grants,
            refusals=access_log.refusals(view, now),
            seen=its_seen,
            conditions=(*_conditions(view, judgement, now), *found),
            next_change_at=judgement.next_change_at,
            template=template,
        ),
        rules,
    )


def _phase(status: model.ProductStatus) -> model.Phase:
    """Read the portal's status: `pending` is like active, `deleting` is as good as gone."""
    return {
        model.ProductStatus.ARCHIVED: model.Phase.ARCHIVED,
        model.ProductStatus.DELETING: model.Phase.GONE,
    }.get(status, model.Phase.ACTIVE)


def _conditions(
    view: model.PortalView, judgement: grants.Judgement, now: datetime
) -> tuple[model.Condition, ...]:
    """Say what the portal describes but we do not open or make."""
    found: dict[str, list[str]] = {}
    for kind, message in judgement.refused:
        found.setdefault(kind, []).append(message)
    for port in view.ports:
        if not names.is_namespace(port.namespace):
            found.setdefault("PortNameRejected", []).append(f"port {port.id} is left out")
    return tuple(
        model.Condition(type=kind, message="; ".join(messages), since=now)
        for kind, messages in sorted(found.items())
    )


def _sealed(wanted: model.Desired, rules: Rules) -> model.Desired:
    """Add the digest of all that steps act on."""
    product = wanted.product
    facts: dict[str, Any] = {
        "phase": wanted.phase,
        "template": wanted.template,
        "rules": dataclasses.asdict(rules),
        "product": product and [product.namespace, product.name],
        "finalizer": product and _finalizer(product, rules),
        "ports": [[port.id, port.namespace] for port in wanted.ports],
        "assets": [asset.id for asset in wanted.assets],
        "grants": [dataclasses.asdict(grant) for grant in wanted.grants],
        "seen": _told(wanted.seen),
        "conditions": [[each.type, each.message] for each in wanted.conditions],
    }
    return dataclasses.replace(wanted, digest=digest(facts))


def _told(seen: Mapping[str, model.SeenPort]) -> list[list[object]]:
    """List what is told of ports, where there is anything to tell."""
    told = ((port_id, freshness.told(each)) for port_id, each in sorted(seen.items()))
    return [[port_id, *facts] for port_id, facts in told if facts]


def _finalizer(product: model.Product, rules: Rules) -> bool | None:
    """Tell whether our finalizer is on the product; None where the portal knows none."""
    return None if product.finalizers is None else rules.finalizer in product.finalizers


def digest(facts: object) -> str:
    """Digest anything that JSON can hold, the same in every process."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class AccessChange:
    """One line of who would gain or lose which access."""

    gains: bool
    location: model.Location
    access: model.Access
    grant: model.Grant


def access_changes(
    before: Sequence[model.Grant], after: Sequence[model.Grant]
) -> tuple[AccessChange, ...]:
    """Compare two sets of grants, place by place."""
    old, new = _places(before), _places(after)
    lost = [place for place in old if place not in new]
    won = [place for place in new if place not in old]
    return tuple(
        AccessChange(gains=gains, location=place[0], access=place[1], grant=source[place])
        for gains, source, places in ((False, old, lost), (True, new, won))
        for place in sorted(places)
    )


def common(before: Sequence[model.Grant], after: Sequence[model.Grant]) -> tuple[model.Grant, ...]:
    """Return the later grants that open nothing but what was open before.

    One that opens a single new place is left out whole: it fails closed.
    """
    old = _places(before)
    return tuple(
        grant for grant in after if all((place, grant.access) in old for place in grant.locations)
    )


def _places(
    held: Sequence[model.Grant],
) -> dict[tuple[model.Location, model.Access], model.Grant]:
    """List every place that grants open, with the grant that opens it."""
    return {(place, grant.access): grant for grant in held for place in grant.locations}

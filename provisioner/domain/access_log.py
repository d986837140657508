"""Remember since when access is there, and when and why it ended. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime

from provisioner import model

MOST_ENDED = 50
"""How many ends are remembered of one consumer."""
_WHY = {
    model.LinkStatus.REVOKED: model.EndReason.REVOKED,
    model.LinkStatus.DENIED: model.EndReason.DENIED,
    model.LinkStatus.EXPIRED: model.EndReason.EXPIRED,
    model.LinkStatus.CANCELLED: model.EndReason.WITHDRAWN,
    model.LinkStatus.PENDING: model.EndReason.WITHDRAWN,
}


def refusals(view: model.PortalView, now: datetime) -> dict[str, model.EndReason]:
    """Say by port id why a request opens nothing, for every port with a request.

    Of several requests for one port the last by id speaks; a port that is granted all the same is
    among them, too.
    """
    today = now.astimezone(UTC).date()
    producers = {product.id: product for product in view.producers}
    ports = {port.id for port in view.granted_ports}
    return {
        link.port_id: _why(link, today, producers.get(link.producer_id), ports)
        for link in sorted(view.links, key=lambda each: each.id)
    }


def _why(
    link: model.Link, today: date, producer: model.Product | None, ports: Collection[str]
) -> model.EndReason:
    if link.status is not model.LinkStatus.APPROVED:
        return _WHY[link.status]
    if link.valid_until is not None and link.valid_until < today:
        return model.EndReason.EXPIRED
    going = producer is None or producer.status is model.ProductStatus.DELETING
    if going or link.port_id not in ports:
        return model.EndReason.DELETED
    return model.EndReason.UNKNOWN


def followed(
    log: model.AccessLog,
    *,
    before: Sequence[model.Grant],
    after: Sequence[model.Grant],
    why: Mapping[str, model.EndReason],
    names: Mapping[str, str],
    now: datetime,
) -> model.AccessLog:
    """Return the log once the grants are others; the same where they are not.

    `before` are the grants that the record holds: one that the log does not know is older than
    the log. A run that stopped may have noted the end of one already. A port that is granted again
    is no longer among those that ended.
    """
    since = {grant.port_id: None for grant in before} | {
        held.port_id: held.since for held in log.held
    }
    granted = {grant.port_id for grant in after}
    held = tuple(
        model.HeldAccess(port_id=port_id, since=since.get(port_id, now))
        for port_id in sorted(granted)
    )
    noted = {each.port_id for each in log.ended}
    ended = [
        model.EndedAccess(
            port_id=grant.port_id,
            name=names.get(grant.port_id, ""),
            producer_namespace=grant.producer_namespace,
            port_namespace=grant.port_namespace,
            since=since[grant.port_id],
            ended_at=now,
            why=why.get(grant.port_id, model.EndReason.UNKNOWN),
        )
        for grant in before
        if grant.port_id not in granted | noted
    ]
    still = [each for each in log.ended if each.port_id not in granted]
    return model.AccessLog(held=held, ended=tuple([*ended, *still][:MOST_ENDED]))

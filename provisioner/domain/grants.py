"""Decide which places an approved link opens, on which day.

Pure: the portal says "approved" long after a grant has ended and knows assets that lie anywhere,
so both are judged here, by our own clock and our own bucket. In doubt nothing is opened, and a
condition says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from provisioner import model, names
from provisioner.domain import policy

S3_ASSET = "S3TechnicalAssetConfiguration"


class Scope(StrEnum):
    """What an approved link opens: the port it names, or all of the producer."""

    OUTPUT_PORT = "output_port"
    PRODUCT = "product"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The grants of one consumer and why others are missing."""

    grants: tuple[model.Grant, ...]
    refused: tuple[tuple[str, str], ...]
    """(condition type, message) of what opens nothing although the portal approved it."""
    next_change_at: datetime | None
    """When the clock alone will change this: the next first or last day of a link."""


def judge(
    view: model.PortalView,
    *,
    bucket: str,
    scope: Scope,
    allowed_locations: Sequence[str],
    namespaces: Mapping[str, tuple[str, ...]],
    taken: Collection[str] = (),
    now: datetime,
) -> Judgement:
    """Judge every approved link of a consumer.

    `namespaces` maps the producers that own their prefix to the namespaces they have it under,
    after a rename the earlier ones behind: of any other the prefix may be a dead product's or a
    stranger's, and opens nothing.
    `allowed_locations` are `bucket/prefix/` patterns for assets elsewhere; in our bucket they open
    nothing below a namespace that is `taken` by a product (see `first_folders`).
    """
    today = now.astimezone(UTC).date()
    reach = _Reach(bucket=bucket, scope=scope, patterns=allowed_locations, taken=taken)
    producers = {product.id: product for product in view.producers}
    ports = {port.id: port for port in view.granted_ports}
    grants: dict[str, model.Grant] = {}
    refused: list[tuple[str, str]] = []
    approved = [link for link in view.links if link.status is model.LinkStatus.APPROVED]
    for link in sorted(approved, key=lambda each: each.id):
        producer, port = producers.get(link.producer_id), ports.get(link.port_id)
        if not _open_on(link, today) or producer is None or port is None:
            continue
        if producer.status is model.ProductStatus.DELETING:
            continue
        held = namespaces.get(producer.id)
        if not held:
            refused.append(("ProducerNotReady", f"port {port.id}: its producer has no prefix yet"))
            continue
        if not all(map(names.is_namespace, (*held, port.namespace))):
            refused.append(("GrantNameRejected", f"port {port.id} has a name that is not safe"))
            continue
        locations, outside = _locations(port, held, reach)
        refused.extend(("AssetOutside", f"asset {asset} opens nothing here") for asset in outside)
        grant = model.Grant(
            producer_id=producer.id,
            producer_namespace=held[0],
            port_id=port.id,
            port_namespace=port.namespace,
            access=model.Access.WRITE if link.mode == "write" else model.Access.READ,
            locations=locations,
            valid_until=link.valid_until,
        )
        grants[port.id] = _wider(grants.get(port.id), grant)
    return Judgement(
        grants=tuple(sorted(grants.values(), key=_order)),
        refused=tuple(sorted(set(refused))),
        next_change_at=_next_change(approved, today),
    )


def _open_on(link: model.Link, today: date) -> bool:
    """Tell whether a day lies within a link's first and last day, both included."""
    started = link.valid_from is None or link.valid_from <= today
    return started and (link.valid_until is None or today <= link.valid_until)


def _next_change(links: Iterable[model.Link], today: date) -> datetime | None:
    """Return the next midnight (UTC) at which a link starts or has ended."""
    days = [link.valid_from for link in links if link.valid_from and link.valid_from > today]
    days += [
        link.valid_until + timedelta(days=1)
        for link in links
        if link.valid_until and link.valid_until >= today and link.valid_until < date.max
    ]
    return datetime.combine(min(days), time.min, UTC) if days else None


def not_ended(held: Iterable[model.Grant], now: datetime) -> tuple[model.Grant, ...]:
    """Return the grants whose last day has not passed, by the clock alone."""
    today = now.astimezone(UTC).date()
    return tuple(grant for grant in held if grant.valid_until is None or today <= grant.valid_until)


def next_end(held: Iterable[model.Grant], now: datetime) -> datetime | None:
    """Return the next midnight (UTC) at which one of the grants has ended."""
    days = [
        grant.valid_until
        for grant in not_ended(held, now)
        if grant.valid_until and grant.valid_until < date.max
    ]
    return datetime.combine(min(days) + timedelta(days=1), time.min, UTC) if days else None


def _wider(one: model.Grant | None, other: model.Grant) -> model.Grant:
    """Return what two links on the same port open together: old portals allow several.

    Of two accesses the wider holds until its own last day; on the next it is judged again.
    """
    if one is None:
        return other
    if one.access is not other.access:
        return one if one.access is model.Access.WRITE else other
    last_days = (one.valid_until, other.valid_until)
    longest = None if None in last_days else max(day for day in last_days if day)
    return dataclasses.replace(one, valid_until=longest)


@dataclass(frozen=True, kw_only=True)
class _Reach:
    """How far the settings let an approved link reach."""

    bucket: str
    scope: Scope
    patterns: Sequence[str]
    taken: Collection[str]

    def opens(self, location: model.Location, owns: Sequence[model.Location]) -> bool:
        """Tell whether an asset lies strictly below its producer's prefix, or where allowed.

        The asset that we register for the whole prefix opens nothing.
        """
        for own in owns:
            if location.bucket == own.bucket and location.prefix.startswith(own.prefix):
                return location != own
        if location.bucket == self.bucket and _first_folder(location) in self.taken:
            return False
        full = f"{location.bucket}/{location.prefix}"
        return any(_below(full, pattern) for pattern in self.patterns)


def _locations(
    port: model.OutputPort, namespaces: Sequence[str], reach: _Reach
) -> tuple[tuple[model.Location, ...], tuple[str, ...]]:
    """Return the places a port opens, its own first, and the ids of assets that open nothing."""
    bucket = reach.bucket
    owns = [model.Location(bucket=bucket, prefix=names.prefix(each)) for each in namespaces]
    first = owns
    if reach.scope is Scope.OUTPUT_PORT:
        prefixes = [names.port_prefix(each, port.namespace) for each in namespaces]
        first = [model.Location(bucket=bucket, prefix=prefix) for prefix in prefixes]
    found: set[model.Location] = set()
    outside: list[str] = []
    for asset in _active(port):
        location = asset_location(asset)
        if location is None or not reach.opens(location, owns):
            outside += [] if location in owns else [asset.id]
            continue
        found.add(location)
    return (*first, *sorted(found - {*first})), tuple(sorted(outside))


def _active(port: model.OutputPort) -> Iterator[model.Asset]:
    """Yield the assets that may open anything; a status nobody knows is as good as pending."""
    for asset in port.assets:
        if asset.status == "active" and asset.configuration_type == S3_ASSET:
            yield asset


def first_folders(view: model.PortalView, bucket: str) -> frozenset[str]:
    """Return the first folders in our bucket that assets of granted ports name.

    One that is a product's namespace is to be `taken` when the same view is judged.
    """
    places = [asset_location(asset) for port in view.granted_ports for asset in _active(port)]
    return frozenset(
        _first_folder(place) for place in places if place is not None and place.bucket == bucket
    )


def _first_folder(location: model.Location) -> str:
    return location.prefix.split("/", 1)[0]


def asset_location(asset: model.Asset) -> model.Location | None:
    """Return the prefix an S3 asset names, or None where bucket or path are not plain.

    What a policy would refuse is refused here, so that it costs one asset and not all grants.
    """
    parts = [part for part in (asset.suffix, asset.path) if part]
    path = "/".join(part.removesuffix("/") for part in parts)
    location = model.Location(bucket=asset.bucket, prefix=f"{path}/")
    return location if names.is_asset_path(path) and policy.is_safe(location) else None


def _below(full: str, pattern: str) -> bool:
    """Tell whether a place lies at or below a pattern, in which no wildcard stands for a `/`."""
    place, wanted = full.rstrip("/").split("/"), pattern.rstrip("/").split("/")
    return len(place) >= len(wanted) and all(map(fnmatchcase, place, wanted))


def _order(grant: model.Grant) -> tuple[str, str, str]:
    """Order grants as people read them."""
    return grant.producer_namespace, grant.port_namespace, grant.port_id

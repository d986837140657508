"""Build values of the domain with everything beside the point filled in."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, date, datetime

from provisioner import model

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TODAY = NOW.date()


def an_id(number: int) -> str:
    """Return a UUID that is the same in every run."""
    return str(uuid.UUID(int=number))


SALES, MARKETING, FINANCE = an_id(1), an_id(2), an_id(3)
ORDERS, REFUNDS = an_id(11), an_id(12)


def a_product(identity: str = SALES, namespace: str = "sales", **changes: object) -> model.Product:
    """Describe an active product of a portal that knows finalizers."""
    product = model.Product(
        id=identity,
        namespace=namespace,
        name=namespace.title(),
        status=model.ProductStatus.ACTIVE,
        lifecycle="Draft",
        finalizers=frozenset(),
    )
    return dataclasses.replace(product, **changes)  # type: ignore[arg-type]


def a_port(
    identity: str = ORDERS,
    namespace: str = "orders",
    producer: str = SALES,
    assets: tuple[model.Asset, ...] = (),
) -> model.OutputPort:
    """Describe an output port."""
    return model.OutputPort(
        id=identity, namespace=namespace, name=namespace, producer_id=producer, assets=assets
    )


def an_asset(
    path: str, *, bucket: str = "lake", status: str = "active", **changes: object
) -> model.Asset:
    """Describe an S3 technical asset."""
    asset = model.Asset(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{bucket}/{path}")),
        name=path,
        namespace="asset",
        status=status,
        configuration_type="S3TechnicalAssetConfiguration",
        bucket=bucket,
        path=path,
    )
    return dataclasses.replace(asset, **changes)  # type: ignore[arg-type]


def a_link(
    status: model.LinkStatus = model.LinkStatus.APPROVED,
    *,
    number: int = 101,
    consumer: str = MARKETING,
    producer: str = SALES,
    port: str = ORDERS,
    valid_from: date | None = None,
    valid_until: date | None = None,
    mode: str = "read",
) -> model.Link:
    """Describe a request for access."""
    return model.Link(
        id=an_id(number),
        consumer=model.Key.product(consumer),
        producer_id=producer,
        port_id=port,
        status=status,
        valid_from=valid_from,
        valid_until=valid_until,
        mode=mode,
    )


def a_consumer_view(*links: model.Link, port: model.OutputPort | None = None) -> model.PortalView:
    """Describe marketing, which consumes a port of sales."""
    return model.PortalView(
        product=a_product(MARKETING, "marketing"),
        links=links,
        producers=(a_product(),),
        granted_ports=(port or a_port(),),
    )
